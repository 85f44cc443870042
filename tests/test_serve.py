"""The server: starting, waiting, being busy or full, and running as a process of its own."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from starlette.testclient import TestClient

from rag import checked
from rag import serve as serve_module
from rag.archive import Archive, Outcome
from rag.config import Settings
from rag.errors import IndexMismatch, InvalidRequest, ModelNotFound, NotReady, StorageFailed
from rag.serve import create_app, serve
from rag.service import FIRST_CHECK_S, Service
from rag.types import Article, EncodedQuestion, Encoding
from tests import fakes
from tests.fakes import FakeEncoder
from tests.served import (
    ARTICLES,
    JSON,
    PROBLEM,
    QUESTION,
    add,
    filled,
    problem,
    running,
    server,
    until_ready,
)

PATIENCE_S = 60.0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with filled(tmp_path) as client:
        yield client


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    with server(tmp_path / "index") as client:
        yield client


class _Slow(FakeEncoder):
    """An encoder whose questions wait until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def encode_question(self, text: str) -> EncodedQuestion:
        assert self.go.wait(30)
        return super().encode_question(text)


def test_a_question_that_comes_early_waits_for_the_model(tmp_path: Path) -> None:
    encoder = _Slow()
    with server(tmp_path / "index", encoder=encoder) as client, ThreadPoolExecutor() as threads:
        asked = threads.submit(client.post, "/ask", json={"question": QUESTION})
        page = threads.submit(client.get, "/", params={"q": QUESTION})
        early = client.get("/health/ready")
        assert "loading" in problem(early, 503)["detail"]
        assert early.headers["retry-after"]
        assert client.get("/health/live").json() == {"status": "live"}
        assert client.get("/").status_code == 200
        assert client.get("/articles").status_code == 200
        assert not asked.done()
        encoder.go.set()
        assert asked.result(30).status_code == 200
        assert page.result(30).status_code == 200
        assert client.get("/health/ready").status_code == 200


def test_many_early_questions_leave_room_for_other_calls(tmp_path: Path) -> None:
    encoder = _Slow()
    with server(tmp_path / "index", encoder=encoder) as client, ThreadPoolExecutor(80) as threads:
        early = [threads.submit(client.get, "/ask", params={"q": QUESTION}) for _ in range(80)]
        assert client.get("/articles").status_code == 200
        assert not any(question.done() for question in early)
        encoder.go.set()
        assert {question.result(30).status_code for question in early} == {200}


def test_a_model_that_loads_for_too_long_is_not_waited_for(tmp_path: Path) -> None:
    encoder = _Slow()
    with server(tmp_path / "index", encoder=encoder, load_timeout_s=0.05) as client:
        asked = {"question": QUESTION}
        for address, body in (("/ask", asked), ("/search", asked), ("/articles", ARTICLES)):
            response = client.post(address, json=body)
            found = problem(response, 503)
            assert found["type"].endswith(NotReady.__name__)
            assert "RAG_LOAD_TIMEOUT_S" in found["detail"]
            assert response.headers["retry-after"]
        page = client.get("/", params={"q": QUESTION})
        assert (page.status_code, bool(page.headers["retry-after"])) == (503, True)
        encoder.go.set()
        until = time.monotonic() + PATIENCE_S
        while client.get("/health/ready").status_code != 200:
            assert time.monotonic() < until
        assert client.post("/ask", json=asked).status_code == 200


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    class Broken(FakeEncoder):
        def encode_question(self, text: str) -> EncodedQuestion:
            raise MemoryError("no room")

    with server(tmp_path / "index", encoder=Broken()) as client:
        found = problem(client.post("/ask", json={"question": QUESTION}), 503)
        assert "no room" in found["detail"]
        problem(client.get("/health/ready"), 503)
        assert client.get("/health/live").status_code == 200
        assert client.get("/", params={"q": QUESTION}).status_code == 503


def test_a_server_that_does_not_fit_its_archive_does_not_start(tmp_path: Path) -> None:
    with server(tmp_path / "index") as client:
        add(client, *ARTICLES)
    settings = Settings(index=tmp_path / "index")
    with pytest.raises(IndexMismatch, match="encoder"):
        create_app(settings, encoder=FakeEncoder(name="another"))
    with pytest.raises(IndexMismatch, match="passage_tokens"):
        create_app(settings.model_copy(update={"passage_tokens": 7}), encoder=FakeEncoder())
    with pytest.raises(ModelNotFound):
        create_app(settings.model_copy(update={"model": "./no-such-model"}))


def test_an_archive_that_is_swapped_for_another_is_not_ready(tmp_path: Path) -> None:
    with server(tmp_path / "index", encoder=FakeEncoder()) as client:
        with server(tmp_path / "index", encoder=FakeEncoder(name="another")) as other:
            add(other, *ARTICLES)
        assert problem(client.get("/health/ready"), 503)["type"].endswith("IndexMismatch")
        problem(client.post("/ask", json={"question": QUESTION}), 503)


def test_a_change_that_is_not_published_is_told_of(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(*_: Any) -> None:
        raise StorageFailed("index", "No space left on device")

    assert client.get("/health/ready").json()["generation"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "_finish", fill_the_disk)
        problem(client.delete("/articles/harbour"), 503)
    ready = client.get("/health/ready").json()
    assert (ready["status"], ready["generation"]) == ("ready", 1)
    assert "change" in ready["behind"]


def test_a_vector_file_that_is_due_is_told_of(
    empty: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archive, "renew_base", lambda _: None)
    add(empty, *ARTICLES)
    ready = empty.get("/health/ready")
    assert (ready.status_code, ready.json()["behind"]) == (200, ["dense"])


def test_an_archive_that_is_being_written_gets_503_and_a_time(tmp_path: Path) -> None:
    with server(tmp_path / "index", lock_timeout_s=0.05) as client:
        add(client, ARTICLES[0])
        with FileLock(tmp_path / "index" / "write.lock"):
            response = client.post("/articles", json=ARTICLES)
            found = problem(response, 503)
            assert response.headers["retry-after"]
            assert found["stored"] == ["spillover"]
            problem(client.delete("/articles/spillover"), 503)
            assert client.post("/ask", json={"question": QUESTION}).json()["answered"]
        assert client.post("/articles", json=ARTICLES).json()["added"] == 2


def test_a_call_that_breaks_off_says_which_articles_went_in(
    empty: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, calls = Archive.publish, 0

    def fill_the_disk(*args: Any, **kwargs: Any) -> Outcome:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise StorageFailed("index", "No space left on device")
        return publish(*args, **kwargs)

    # by name, since the package has a function of that name too
    monkeypatch.setattr(import_module("rag.ingest"), "BATCH_ARTICLES", 1)
    monkeypatch.setattr(Archive, "publish", fill_the_disk)
    found = problem(empty.post("/articles", json=ARTICLES), 503)
    assert "No space left" in found["detail"]
    assert found["stored"] == ["spillover", "harbour"]
    listed = empty.get("/articles").json()["articles"]
    assert [each["id"] for each in listed] == ["harbour", "spillover"]


def test_too_many_at_once_get_429(tmp_path: Path) -> None:
    encoder = _Slow()
    client = server(tmp_path / "index", encoder=encoder, max_requests_at_once=2)
    with client, ThreadPoolExecutor() as threads:
        waiting = [threads.submit(client.get, "/ask", params={"q": QUESTION}) for _ in range(3)]
        refused = next(as_completed(waiting, timeout=30)).result()
        problem(refused, 429)
        assert refused.headers["retry-after"]
        assert client.get("/health/live").status_code == 200
        assert client.get("/metrics").status_code == 200
        encoder.go.set()
        assert sorted(each.result(30).status_code for each in waiting) == [200, 200, 429]


def test_questions_while_articles_are_added(client: TestClient) -> None:
    def write() -> None:
        for number in range(12):
            text = f"Spillover number {number} was seen. " + "🦠 " * number + "It was warned of."
            add(client, {"id": f"n{number % 5}", "text": text})

    def ask() -> int:
        answer = client.post("/ask", json={"question": QUESTION, "top_k": 10}).json()
        for each in answer["citations"]:
            article = each["article"]
            address = f"/articles/{article['id']}/text"
            text = client.get(address, params={"revision": article["revision"]}).text
            assert text[each["start"] : each["end"]] == each["quote"]
        return int(answer["generation"])

    with ThreadPoolExecutor(6) as threads:
        writing = threads.submit(write)
        asked = [threads.submit(ask) for _ in range(40)]
        writing.result(60)
        generations = [each.result(60) for each in asked]
    assert min(generations) >= 1
    assert ask() == 13


class Waiting(FakeEncoder):
    """Encodes the passages of new articles when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        assert self.go.wait(60)
        return super().encode_passages(texts)


def test_however_many_add_others_are_answered(tmp_path: Path) -> None:
    encoder = Waiting()
    with (
        server(tmp_path / "index", encoder=encoder) as client,
        ThreadPoolExecutor(160) as threads,
    ):
        adding = [
            threads.submit(client.post, "/articles", json={"id": f"n{n}", "text": f"Storm {n}."})
            for n in range(150)
        ]
        until = time.monotonic() + 30
        try:
            while sum(each.done() for each in adding) < 150 - 64:  # of 128 requests at once half
                assert time.monotonic() < until
                time.sleep(0.01)
            service: Service = client.app.state.service  # type: ignore[attr-defined]
            assert service._changing.borrowed_tokens == 2  # the others are not even parsed
            for address in ("/health/ready", "/articles", "/metrics", "/ask?q=storm", "/"):
                asked = threads.submit(client.get, address)
                assert asked.result(60).status_code == 200, address
        finally:
            encoder.go.set()
        statuses = Counter(each.result(60).status_code for each in adding)
        assert statuses == {200: 64, 429: 150 - 64}


def test_nothing_is_encoded_for_articles_whose_turn_comes_at_the_end(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    with server(tmp_path / "index", encoder=encoder) as client:
        client.app.state.service.begin_to_end()  # type: ignore[attr-defined]
        found = problem(client.post("/articles", json=ARTICLES), 503)
        assert found["stored"] == []
        assert encoder.passages_encoded == 0


def test_a_budgets_encoding_must_be_at_hand(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="token_encoding"):
        server(tmp_path, token_encoding="nonsense")


def test_filters_are_checked_in_an_empty_archive_too(empty: TestClient) -> None:
    body = {"question": QUESTION, "filters": {"published_from": "soon"}}
    assert problem(empty.post("/ask", json=body), 422)["type"].endswith(InvalidRequest.__name__)


# A process of its own.


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with running(tmp_path / "index", max_body_bytes=100_000) as running_server:
        yield running_server


def test_a_server_of_its_own(process: tuple[subprocess.Popen[str], int]) -> None:
    server, port = process

    def call(method: str, address: str, body: Any = None) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, address, body and json.dumps(body), JSON if body else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    assert call("POST", "/articles", ARTICLES)[1]["added"] == 3
    status, answer = call("GET", "/ask?q=who+warned+of+spillover&secret=1")
    assert status == 422
    status, answer = call("GET", "/ask?q=who+warned+of+spillover")
    assert (status, answer["citations"][0]["article"]["id"]) == (200, "spillover")
    assert call("GET", "/nothing?q=who+warned+of+spillover")[0] == 404
    server.terminate()
    out, err = server.communicate(timeout=30)
    assert "spillover" not in out + err  # no question is written to a log


def test_a_body_over_the_limit_is_refused_while_it_comes(
    process: tuple[subprocess.Popen[str], int],
) -> None:
    _, port = process
    half = b'{"question": "' + b"x" * 60_000
    for headers, chunked in ((JSON, True), (JSON | {"Content-Length": "1000000000"}, False)):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            body = iter([half, b"x" * 60_000]) if chunked else half
            connection.request("POST", "/ask", body, headers, encode_chunked=chunked)
            response = connection.getresponse()
            assert response.status == 413
            assert response.headers["content-type"] == PROBLEM
            assert "100000 bytes" in json.loads(response.read())["detail"]


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with running(tmp_path / "index", body_timeout_s=0.2) as (_, port):
        for announced in ({"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}):
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                connection.request("POST", "/ask", headers=JSON | announced)
                response = connection.getresponse()
                assert response.status == 408
                assert "RAG_BODY_TIMEOUT_S" in json.loads(response.read())["detail"]
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", "/ask", b'{"question": "x"}', JSON)
            assert connection.getresponse().status == 200


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotReady, match=f"port {port}.*--port"):
            serve(Settings(index=tmp_path, port=port), encoder=FakeEncoder())


LIMITED = """
import resource, sys
from pathlib import Path
from rag.serve import Settings, serve
from tests.fakes import FakeEncoder
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
def announce(_):
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
    raise SystemExit
serve(Settings(index=Path("nowhere"), port=0), encoder=FakeEncoder(), announce=announce)
"""


def limited(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    """What a server says that the system allows so many open files."""
    command = [sys.executable, "-c", LIMITED, str(soft), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_server_may_open_as_many_files_as_its_connections_need() -> None:
    assert limited(256, 4000).stdout == "1408 4000\n"
    assert limited(3000, 4000).stdout == "3000 4000\n"
    fewer = limited(256, 1000)
    assert fewer.stdout == "1000 1000\n"
    assert "1408 open files, of which the system allows 1000" in fewer.stderr
    assert "no more than 240 connections" in fewer.stderr
    assert "NotReady: 512 connections (RAG_MAX_CONNECTIONS)" in limited(256, 600).stderr


def test_an_answer_is_sent_at_once() -> None:
    # asyncio turns delays off for connections of a listener that names its protocol.
    with serve_module._listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockname()[0] == "127.0.0.1"


def checked_by(port: int) -> dict[str, Any]:
    """What `ready` says once the server has been checked since now."""
    began = checked.now()
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = until_ready(port)
        if found["checked_at"] and found["checked_at"] > began:
            return found
        time.sleep(0.05)
    raise AssertionError("no check was made")


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_a_server_checks_its_archive_now_and_then_and_says_what_was_found(tmp_path: Path) -> None:
    index = tmp_path / "index"
    with closing(Archive(index)) as archive:
        fakes.add(archive, FakeEncoder(), Article(id="a", title="A", text="A storm came."))
    with running(index, check_hours=1 / 3600) as (process, port):
        assert checked_by(port)["sound"] is True
        assert metric(port, "rag_sound") == 1
        assert abs(metric(port, "rag_checked_timestamp_seconds") - time.time()) < PATIENCE_S
        with closing(sqlite3.connect(index / "library.db")) as connection, connection:
            connection.execute("UPDATE article SET title = 'x'")
        assert checked_by(port)["sound"] is False
        assert metric(port, "rag_sound") == 0
        checked_by(port)  # by then it has said what it found before
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert "the archive is not sound: library.db: the record of article a" in said


def test_a_server_that_is_not_to_check_does_not(tmp_path: Path) -> None:
    with server(tmp_path / "index", check_hours=0) as client:
        add(client, *ARTICLES)
        assert not [each for each in threading.enumerate() if each.name == "check"]
        ready = client.get("/health/ready").json()
        assert (ready["sound"], ready["checked_at"]) == (None, None)
        metrics = client.get("/metrics").text.splitlines()
        assert {"rag_sound NaN", "rag_checked_timestamp_seconds NaN"} <= set(metrics)


def test_a_server_waits_until_the_next_check_is_due(tmp_path: Path) -> None:
    index = tmp_path / "index"
    with server(index, check_hours=2) as client:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        assert service.until_check_s() == FIRST_CHECK_S
        add(client, *ARTICLES)
        assert service.archive.check() == []
        assert 7100 < service.until_check_s() <= 7200


def test_damage_that_a_question_meets_is_told_by_readiness_and_metrics(
    tmp_path: Path, client: TestClient
) -> None:
    with closing(Archive(tmp_path / "index")) as archive:
        assert archive.check() == []
    assert client.get("/health/ready").json()["sound"] is True
    with closing(sqlite3.connect(tmp_path / "index" / "library.db")) as connection, connection:
        connection.execute("UPDATE article SET text = 'x' WHERE id = 'harbour'")
    problem(client.get("/articles/harbour/text"), 503)
    assert client.get("/health/ready").json()["sound"] is False
    assert "rag_sound 0.0" in client.get("/metrics").text
