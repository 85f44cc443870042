"""What comes over a connection and is no request gets what every request gets: an answer that says
what is wrong, with an id, counted, and no more than its line in the log."""

from __future__ import annotations

import http.client
import io
import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.served import JSON, PROBLEM, running

WAIT_S = 30
HOST = b"Host: localhost\r\n"
GET = b"GET /health/live HTTP/1.1\r\n"
POST = b"POST /ask HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BROKEN = [
    (GET + b"\r\n", 400, "Host"),
    (GET + HOST + b"Host: evil.example\r\n\r\n", 400, "Host"),
    (GET + HOST + b"A: a\0b\r\n\r\n", 400, "header"),
    (GET + HOST + b"A : b\r\n\r\n", 400, "header"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, "control"),
    (b"nothing\r\n\r\n", 400, "request line"),
    (POST + b"Content-Length: -4\r\n\r\n", 400, "Content-Length"),
    (POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n", 400, "Content-Length"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", 400, "chunk"),
    (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "Transfer-Encoding"),
    (GET + b"A: " + b"a" * 163_000, 431, "too long"),
    (GET + HOST + b"\r\n" + GET + b"\r\n", 400, "Host"),
    (GET + HOST + b"a:" + b" " * 150_000 + b"\0\r\n\r\n", 400, "control"),
    (GET + HOST + b"a:" + b"\r\n " * 50_000 + b"\0\r\n\r\n", 431, "headers"),
    (GET + HOST + b"a: b\r\n" * 100 + b"\r\n", 431, "headers"),
    (CHUNKED + b"1\r\n \r\n" * 1010, 400, "chunks"),
    (CHUNKED + b"1;" + b" " * 150_000 + b"\n\r\n", 400, "chunk header"),
    (CHUNKED + b"0\r\na:" + b" " * 150_000 + b"\v\r\n\r\n", 400, "control"),
    (CHUNKED + b"0\r\n" + b"a: b\r\n" * 102 + b"\r\n", 431, "headers"),
]
UPGRADES = [b"websocket", b"h2c", b"anything"]


def test_what_is_no_request_is_answered_counted_and_logged_as_one(tmp_path: Path) -> None:
    with running(tmp_path / "index", log="json") as (process, port):
        ids = [told(port, data, status, word) for data, status, word in BROKEN]
        for upgrade in UPGRADES:
            asked = GET + HOST + b"Connection: close, upgrade\r\nUpgrade: " + upgrade
            assert answered(port, asked + b"\r\n\r\n").status == 200
        asked = b"GET /metrics HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
        counted = answered(port, asked).read().decode()
        process.terminate()
        lines = [json.loads(line) for line in process.communicate(timeout=WAIT_S)[1].splitlines()]
    refused = sum(status == 400 for _, status, _ in BROKEN)
    name = 'rag_requests_total{method="other",route="other",status="400"}'
    assert f"{name} {refused}.0" in counted
    assert {line["message"] for line in lines} == {"request"}
    bad = [line for line in lines if line["status"] in (400, 431, 501)]
    assert [line["request_id"] for line in bad] == ids
    assert len({line["request_id"] for line in lines}) == len(lines)


def test_a_body_in_chunks_is_taken_if_they_are_of_some_size(tmp_path: Path) -> None:
    body = b'{"question": "harbour"}'.ljust(200_000)
    parts = [body[at : at + 512] for at in range(0, len(body), 256)]
    parts[:1] = [parts[0][at : at + 1] for at in range(0, 256, 1)]  # as some encoders begin
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    with running(tmp_path / "index", max_question_characters=20_000) as (_, port):
        assert answered(port, CHUNKED + chunks + b"0\r\nA: b\r\n\r\n").status == 200
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection:
            for _ in range(2):  # each body has its own
                connection.request("POST", "/ask", iter(parts), JSON, encode_chunked=True)
                assert connection.getresponse().read().startswith(b'{"question":"harbour"')


def test_a_refused_body_in_chunks_ends_its_connection_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "index") as (_, port):
        refused = CHUNKED.replace(b"/ask", b"/nothing") + b"5\r\nhello\r\n"
        answer = answered(port, refused)  # which waits for the connection's end
        assert (answer.status, answer.headers["connection"]) == (404, "close")


def told(port: int, data: bytes, status: int, word: str) -> str:
    """Send what is no request; the id of the answer, which says so."""
    answer = answered(port, data)
    assert answer.status == status
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in str(answer.headers["content-security-policy"])
    assert word in json.loads(answer.read())["detail"]
    return str(answer.headers["x-request-id"])


class _Came(io.BytesIO):
    """What came over a connection, as http.client takes it."""

    def makefile(self, *_: Any) -> io.BytesIO:
        return self


def answered(port: int, data: bytes) -> http.client.HTTPResponse:
    """The last response to what is sent over one connection, which the server then ends."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)) as connection:
        connection.sendall(data)
        with connection.makefile("rb") as stream:
            came = stream.read()
    response = http.client.HTTPResponse(_Came(came[came.rindex(b"HTTP/1.1 ") :]))  # type: ignore[arg-type]
    response.begin()
    return response
