"""The load generator, against a server that answers what it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rag.load import ask, connected, load


class Server(ThreadingHTTPServer):
    """Answers after a while; notes what was asked, and how many asked at once."""

    def __init__(self, status: int = 200, takes_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.takes_s = status, takes_s
        self.asked: list[str] = []
        self.inside = self.most = self.connections = 0
        self.changing = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.server.changing:  # type: ignore[attr-defined]
            self.server.connections += 1  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["question"]
        with server.changing:
            server.asked.append(question)
            server.inside += 1
            server.most = max(server.most, server.inside)
        time.sleep(server.takes_s)
        with server.changing:
            server.inside -= 1
        body = json.dumps({"took_ms": {"total": 1.5}, "detail": "no"}).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_question_is_asked_in_turn_over_one_connection_a_client() -> None:
    with running(Server(takes_s=0.02)) as server:
        found = load(server.url, 3, 7, ["a", "b"])
    assert sorted(server.asked) == ["a"] * 4 + ["b"] * 3
    assert server.most == server.connections == 3
    assert found["failed"] == []
    assert found["took_ms"] == [{"total": 1.5}] * 7
    assert len(found["latency_ms"]) == 7
    assert all(took >= 20 for took in found["latency_ms"])
    assert found["seconds"] >= 3 * 0.02


def test_anything_but_an_answer_is_a_failure() -> None:
    with running(Server(status=503)) as server:
        found = load(server.url, 2, 10, ["a"])
        with closing(connected(server.url)) as connection, pytest.raises(ConnectionError) as told:
            ask(connection, "a")
    assert str(told.value) == "status 503: no"
    assert found["failed"] == ["ConnectionError: status 503: no"] * 2
    assert found["latency_ms"] == []


def test_a_server_that_is_not_there_is_a_failure() -> None:
    with running(Server()) as server:
        url = server.url
    assert len(load(url, 2, 4, ["a"])["failed"]) == 2


def test_it_runs_as_a_process_of_its_own() -> None:
    with running(Server()) as server:
        done = subprocess.run(
            [sys.executable, "-m", "rag.load", server.url, "2", "5"],
            input=json.dumps(["à propos", "مرحبا"]),
            capture_output=True,
            text=True,
            check=True,
        )
    assert len(json.loads(done.stdout)["latency_ms"]) == 5
    assert set(server.asked) == {"à propos", "مرحبا"}
