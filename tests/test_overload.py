"""More than a server can do, clients that are slow or go away, and its end: a real process each.

Its encoder takes a while for each question, so that a few clients are already too many.
"""

from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import struct
import subprocess
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rag.archive import Archive
from rag.connection import SPARED_S
from rag.errors import EXIT_FAILED
from rag.keys import KeyFile
from rag.problems import STOPPING
from tests.served import JSON, QUESTION, running, until_ready

ASK = json.dumps({"question": QUESTION}).encode()
WAIT_S = 30

Response = tuple[int, dict[str, str], Any]


def call(port: int, method: str, address: str, body: bytes | None = None) -> Response:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection:
        connection.request(method, address, body, JSON if body else {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()


def ask(port: int) -> Response:
    return call(port, "POST", "/ask", ASK)


def metric(port: int, name: str) -> float:
    """The value of a metric, named with its labels; 0 if it has none yet."""
    lines = call(port, "GET", "/metrics")[2].decode().splitlines()
    return next((float(x.rpartition(" ")[2]) for x in lines if x.startswith(name + " ")), 0.0)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sent(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    connection.sendall(data)
    return connection


def request(length: int = len(ASK)) -> bytes:
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}"
    return f"POST /ask HTTP/1.1\r\n{head}\r\n\r\n".encode()


@contextmanager
def ready(tmp_path: Path, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with running(tmp_path / "index", **settings) as (process, port):
        until_ready(port)
        yield process, port


def test_a_crowd_is_shed_and_then_it_answers_again(tmp_path: Path) -> None:
    with (
        ready(tmp_path, takes_s=0.1, max_requests_at_once=8) as (_, port),
        ThreadPoolExecutor(32) as threads,
    ):
        responses = list(threads.map(lambda _: ask(port), range(96)))
        statuses = Counter(status for status, _, _ in responses)
        assert set(statuses) == {200, 429}
        assert all(headers["retry-after"] for status, headers, _ in responses if status == 429)
        assert metric(port, 'rag_requests_shed_total{reason="crowd"}') == statuses[429]
        assert metric(port, 'rag_errors_total{type="Crowded"}') == statuses[429]
        assert ask(port)[0] == 200
        assert metric(port, "rag_questions_answering") == 0


def test_a_question_waits_for_its_turn_no_longer_than_it_may(tmp_path: Path) -> None:
    with (
        ready(tmp_path, takes_s=0.5, queue_timeout_s=0.6) as (_, port),
        ThreadPoolExecutor(24) as threads,
    ):
        asked = [threads.submit(ask, port) for _ in range(24)]
        until(lambda: metric(port, "rag_questions_waiting") > 0)
        responses = [each.result() for each in asked]
        statuses = Counter(status for status, _, _ in responses)
        assert set(statuses) == {200, 503}
        for status, headers, body in responses:
            if status == 503:
                assert headers["retry-after"]
                assert json.loads(body)["type"].endswith("NoTurn")
        assert metric(port, 'rag_requests_shed_total{reason="queue"}') == statuses[503]
        assert metric(port, "rag_questions_waiting") == 0
        computed = metric(port, 'rag_question_stage_seconds_count{stage="encode"}')
        assert computed == statuses[200]
        assert ask(port)[0] == 200


def test_the_page_says_too_when_to_come_again(tmp_path: Path) -> None:
    settings = {"takes_s": 0.5, "queue_timeout_s": 0}
    with ready(tmp_path, **settings) as (_, port), ThreadPoolExecutor(12) as threads:
        pages = list(threads.map(lambda _: call(port, "GET", "/?q=harbour"), range(12)))
        busy = [(headers, body) for status, headers, body in pages if status == 503]
        assert busy
        assert len(busy) < len(pages)
        assert all(headers["retry-after"] and b"no turn" in body for headers, body in busy)


def test_slow_clients_keep_nobody_from_being_answered(tmp_path: Path) -> None:
    with ready(tmp_path, max_requests_at_once=4) as (_, port), ExitStack() as stack:
        heads = [stack.enter_context(sent(port, b"POST /ask HTT")) for _ in range(30)]
        bodies = [stack.enter_context(sent(port, request() + ASK[:5])) for _ in range(30)]
        for at in range(5, 10):
            for each in heads:
                each.sendall(b"P")
            for each in bodies:
                each.sendall(ASK[at : at + 1])
            assert ask(port)[0] == 200
        bodies[0].sendall(ASK[10:])
        assert bodies[0].recv(100).startswith(b"HTTP/1.1 200")


def test_who_takes_too_long_is_cut_off(tmp_path: Path) -> None:
    with ready(tmp_path, body_timeout_s=1) as (_, port):
        with closing(sent(port, b"POST /ask HTT")) as head, suppress(ConnectionError):
            assert head.recv(100) == b""
        with closing(sent(port, request() + ASK[:5])) as body:
            response = http.client.HTTPResponse(body)
            response.begin()
            assert response.status == 408
            assert json.loads(response.read())["type"].endswith("TooSlow")
            assert body.recv(100) == b""
        with closing(sent(port, b"")) as silent:
            assert silent.recv(100) == b""
        with closing(
            sent(port, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET")
        ) as next_:
            assert next_.recv(1000).startswith(b"HTTP/1.1 200")
            while next_.recv(1000):
                pass  # the rest of the second request never comes
        assert metric(port, 'rag_requests_shed_total{reason="slow_body"}') == 1


def test_who_does_not_take_the_response_is_cut_off(tmp_path: Path) -> None:
    with ready(tmp_path, body_timeout_s=1) as (_, port), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(WAIT_S)
        files = metric(port, "process_open_fds")
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        until(lambda: metric(port, "process_open_fds") == files + 1)
        until(lambda: metric(port, "process_open_fds") == files)
        taken = b""
        with suppress(ConnectionError):
            while part := connection.recv(1_000_000):
                taken += part
        assert 0 < taken.count(b"HTTP/1.1 200") < 500


def test_a_long_text_that_nobody_takes_is_being_worked_on_until_it_is_cut_off(
    tmp_path: Path,
) -> None:
    """Else its connection would keep all of it, and any number of clients could ask for more."""
    settings = {"max_requests_at_once": 3, "body_timeout_s": 3}
    with ready(tmp_path, **settings) as (_, port), ExitStack() as stack:
        text = "A long day was long. " * 250_000
        body = json.dumps({"id": "long", "text": text}).encode()
        assert call(port, "POST", "/articles", body)[0] == 200
        for _ in range(3):
            connection = stack.enter_context(closing(socket.socket()))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET /articles/long/text HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: ask(port)[0] == 429)
        texts = 'rag_request_seconds_count{method="GET",route="/articles/{article_id}/text"}'
        assert metric(port, texts) == 0  # none is done, though all there is to send is there
        until(lambda: ask(port)[0] == 200)
        until(lambda: metric(port, texts) == 3)


def test_of_too_many_connections_the_slowest_goes(tmp_path: Path) -> None:
    with ready(tmp_path, max_connections=10) as (_, port), ExitStack() as stack:
        upload = stack.enter_context(sent(port, article(1_000_000, 500_000)))
        silent = [stack.enter_context(sent(port, b"GET")) for _ in range(12)]
        until(lambda: ask(port)[0] == 200)
        with suppress(ConnectionResetError):
            assert next_of(silent) == b""
        upload.sendall(article(1_000_000, 1_000_000)[-500_000:])
        assert upload.recv(1000).startswith(b"HTTP/1.1 200")
        silent[-1].sendall(b" /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert silent[-1].recv(100).startswith(b"HTTP/1.1 200")


def test_who_comes_while_all_connections_are_at_work_is_told_so(tmp_path: Path) -> None:
    with ready(tmp_path, takes_s=0.5, max_connections=4) as (_, port), ExitStack() as stack:
        asked = [stack.enter_context(sent(port, request() + ASK)) for _ in range(4)]
        until(lambda: metric(port, "rag_questions_answering") == 3)
        assert call(port, "GET", "/health/live")[0] == 200
        status, headers, body = ask(port)
        assert (status, bool(headers["retry-after"])) == (429, True)
        assert "connections" in json.loads(body)["detail"]
        for each in asked:
            assert each.recv(100).startswith(b"HTTP/1.1 200")


def test_who_came_while_all_were_at_work_is_answered_when_they_are_done(tmp_path: Path) -> None:
    with ready(tmp_path, takes_s=0.5, max_connections=4) as (_, port), ExitStack() as stack:
        asked = [stack.enter_context(sent(port, request() + ASK)) for _ in range(4)]
        until(lambda: metric(port, "rag_questions_answering") == 3)
        late = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        late.connect()
        for each in asked:
            assert each.recv(100).startswith(b"HTTP/1.1 200")
            each.close()
        stack.enter_context(closing(late))
        late.request("POST", "/ask", ASK, JSON)  # by now there is room
        assert late.getresponse().status == 200


def test_half_as_many_connections_again_are_closed_at_once(tmp_path: Path) -> None:
    with ready(tmp_path, takes_s=WAIT_S, max_connections=4) as (_, port), ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(sent(port, request() + ASK))
        until(lambda: metric(port, "rag_questions_answering") == 3)
        more = [stack.enter_context(sent(port, b"")) for _ in range(3)]
        closed, _, _ = select.select(more, [], [], WAIT_S / 3)
        assert len(closed) == 1


def test_many_that_connect_at_once_are_no_more_than_may(tmp_path: Path) -> None:
    with ready(tmp_path, max_connections=10) as (process, port), ExitStack() as stack:
        files = metric(port, "process_open_fds")
        for _ in range(10):
            stack.enter_context(sent(port, b""))
        time.sleep(SPARED_S)
        process.send_signal(signal.SIGSTOP)  # so that it finds them all at once
        for _ in range(200):
            connection = stack.enter_context(closing(socket.socket()))
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
        process.send_signal(signal.SIGCONT)
        for _ in range(20):  # each look is a connection more, for which one of them may go
            time.sleep(0.5)
            with suppress(OSError):
                if metric(port, "process_open_fds") <= files + 15:
                    break
        else:
            raise AssertionError("they are all there")


@pytest.mark.parametrize("answered", [False, True])
def test_what_is_never_a_whole_request_gives_way_however_fast_it_comes(
    answered: bool, tmp_path: Path
) -> None:
    head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: "
    if answered:
        head = request(30_000_000).replace(b"/ask", b"/nothing")
    with ready(tmp_path, max_connections=4) as (_, port), ExitStack() as stack:
        slow = [stack.enter_context(sent(port, head)) for _ in range(4)]
        began = time.monotonic()
        while time.monotonic() < began + SPARED_S + 0.5:
            for each in slow:
                each.sendall(b"y" * 500)
            time.sleep(0.1)
        assert ask(port)[0] == 200


def test_a_body_that_hardly_comes_gives_way_whatever_came_before(tmp_path: Path) -> None:
    with ready(tmp_path, max_connections=2) as (_, port), ExitStack() as stack:
        slow = stack.enter_context(sent(port, article(500_000, 500_000)))
        assert b'"failed":[]' in whole_response(slow)
        slow.sendall(request())
        upload = stack.enter_context(sent(port, article(1_000_000, 500_000)))
        rest = article(1_000_000, 1_000_000)[-500_000:]
        began = time.monotonic()
        while time.monotonic() < began + SPARED_S + 0.5:
            slow.sendall(b" ")
            upload.sendall(rest[:5000])
            rest = rest[5000:]
            time.sleep(0.1)
        assert ask(port)[0] == 200
        upload.sendall(rest)
        assert upload.recv(1000).startswith(b"HTTP/1.1 200")
        with suppress(ConnectionResetError):
            assert slow.recv(100) == b""


def whole_response(connection: socket.socket) -> bytes:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.read()


def article(length: int, given: int) -> bytes:
    """A request to add an article, padded to `length` bytes, of which it has the first `given`."""
    body = json.dumps({"id": "a", "text": "A ship came."}).encode().ljust(length)
    return request(length).replace(b"/ask", b"/articles") + body[:given]


def next_of(connections: list[socket.socket]) -> bytes:
    """What comes on the first of them on which something does, which is then no more of them."""
    first = select.select(connections, [], [], WAIT_S)[0][0]
    connections.remove(first)
    return bytes(first.recv(1000))


def test_large_bodies_that_stall_give_way_and_keep_no_small_one_out(tmp_path: Path) -> None:
    with ready(tmp_path, max_body_bytes=1_000_000) as (_, port), ExitStack() as stack:
        small = stack.enter_context(sent(port, request() + ASK[:5]))
        stalled = [stack.enter_context(sent(port, article(1_000_000, 999_999))) for _ in range(9)]
        assert next_of(stalled).startswith(b"HTTP/1.1 429")  # nine are more than have room
        assert ask(port)[0] == 200
        coming = stack.enter_context(sent(port, article(1_000_000, 500_000)))
        coming.sendall(article(1_000_000, 1_000_000)[-500_000:])
        assert coming.recv(1000).startswith(b"HTTP/1.1 200")
        assert next_of(stalled).startswith(b"HTTP/1.1 429")
        stalled[0].sendall(b" ")
        assert stalled[0].recv(1000).startswith(b"HTTP/1.1 200")
        small.sendall(ASK[5:])
        assert small.recv(1000).startswith(b"HTTP/1.1 200")


def test_large_bodies_that_are_whole_do_not_give_way(tmp_path: Path) -> None:
    with (
        ready(tmp_path, takes_s=WAIT_S, max_body_bytes=1_000_000) as (_, port),
        ExitStack() as stack,
    ):
        for _ in range(8):
            stack.enter_context(sent(port, article(1_000_000, 1_000_000)))
        with closing(sent(port, article(1_000_000, 999_999))) as one_more:
            assert one_more.recv(1000).startswith(b"HTTP/1.1 429")


@pytest.mark.parametrize(
    ("address", "status"), [("/health/live", 405), ("/nothing", 404), ("/ask", 401)]
)
def test_a_body_that_nobody_reads_is_not_waited_for(
    address: str, status: int, tmp_path: Path
) -> None:
    KeyFile(tmp_path / "index").add("reader")
    head = request(10**12).replace(b"/ask", address.encode())
    if status == 404:
        secret = KeyFile(tmp_path / "index").add("writer", write=True)[1]
        head = head[:-2] + f"Authorization: Bearer {secret}\r\n\r\n".encode()
    with ready(tmp_path) as (_, port), closing(sent(port, head + b" " * 500_000)) as unfinished:
        assert unfinished.recv(1000).startswith(f"HTTP/1.1 {status}".encode())
        until(lambda: is_closed_to(unfinished, b" " * 500_000))


def is_closed_to(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except ConnectionError:
        return True
    return False


def test_after_a_body_that_nobody_read_the_connection_can_be_used(tmp_path: Path) -> None:
    with ready(tmp_path) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        with closing(connection):
            for length in (50_000, 1_000_000, 20_000_000):
                connection.request("POST", "/nothing", b" " * length, JSON)
                assert connection.getresponse().read().startswith(b'{"type"')
                connection.request("POST", "/ask", ASK, JSON)
                assert connection.getresponse().read().startswith(b'{"question"')


@pytest.mark.parametrize("chunked", [False, True])
def test_the_answer_to_a_body_that_is_too_long_is_not_lost(chunked: bool, tmp_path: Path) -> None:
    """Closed at once, a connection takes along what its client has not read yet."""
    with ready(tmp_path, max_body_bytes=1_000_000) as (_, port):
        parts = [b" " * 10_000] * 500
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        with closing(connection):
            for _ in range(2):  # the first says that its connection ends
                body = iter(parts) if chunked else b"".join(parts)
                connection.request("POST", "/articles", body, JSON, encode_chunked=chunked)
                response = connection.getresponse()
                assert (response.status, response.headers["connection"]) == (413, "close")
                assert b"1000000 bytes" in response.read()


def test_who_goes_while_a_long_text_is_sent_fills_no_log(tmp_path: Path) -> None:
    with ready(tmp_path) as (process, port):
        body = json.dumps({"id": "long", "text": "A long day was long. " * 250_000}).encode()
        assert call(port, "POST", "/articles", body)[0] == 200
        for _ in range(5):
            connection = sent(port, b"GET /articles/long/text HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            no_linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            connection.close()
        assert ask(port)[0] == 200
        process.terminate()
        assert process.communicate(timeout=WAIT_S) == ("", "")


def test_a_question_whose_client_has_gone_is_not_computed(tmp_path: Path) -> None:
    with ready(tmp_path, takes_s=0.5) as (_, port):
        gone = [sent(port, request() + ASK) for _ in range(30)]
        until(lambda: metric(port, "rag_questions_waiting") == 27)
        for each in gone:
            each.close()
        assert ask(port)[0] == 200
        assert metric(port, 'rag_requests_shed_total{reason="client_gone"}') == 27
        assert metric(port, 'rag_question_stage_seconds_count{stage="encode"}') == 4


def test_what_was_asked_before_the_end_is_answered(tmp_path: Path) -> None:
    with ready(tmp_path, takes_s=0.5) as (process, port), ThreadPoolExecutor(9) as threads:
        asked = [threads.submit(ask, port) for _ in range(9)]
        until(lambda: metric(port, "rag_questions_waiting") == 6)
        process.terminate()
        until(lambda: refused(port))
        assert process.poll() is None
        assert [each.result()[0] for each in asked] == [200] * 9
        out, err = process.communicate(timeout=WAIT_S)
        assert out + err == ""


def refused(port: int) -> bool:
    try:
        sent(port, b"").close()
    except ConnectionRefusedError:
        return True
    return False


def test_adding_ends_with_what_was_published(tmp_path: Path) -> None:
    articles = [{"id": f"a{n}", "text": f"Ship {n} came."} for n in range(1000)]
    with ready(tmp_path, takes_s=0.4) as (process, port), ThreadPoolExecutor() as threads:
        adding = threads.submit(call, port, "POST", "/articles", json.dumps(articles).encode())
        until(lambda: b'"a0"' in call(port, "GET", "/articles")[2])
        process.terminate()
        status, headers, body = adding.result()
        process.communicate(timeout=WAIT_S)
    assert (status, bool(headers["retry-after"])) == (503, True)
    with closing(Archive(tmp_path / "index")) as archive:
        with archive.reading() as reading:
            assert reading is not None
            held = [head.id for head in reading.heads(limit=1001, after="")]
        assert archive.check() == []
    assert sorted(json.loads(body)["stored"]) == held
    assert 0 < len(held) < len(articles)


@pytest.mark.parametrize(
    ("signal_", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, EXIT_FAILED)]
)
def test_what_takes_too_long_is_cut_off_at_the_end(
    signal_: signal.Signals, code: int, tmp_path: Path
) -> None:
    article = json.dumps({"id": "a", "text": "A ship came."}).encode()
    with (
        ready(tmp_path, takes_s=10 * WAIT_S, shutdown_timeout_s=1) as (process, port),
        closing(sent(port, request() + ASK[:5])) as slow,
        ThreadPoolExecutor() as threads,
    ):
        adding = threads.submit(call, port, "POST", "/articles", article)
        asked = threads.submit(ask, port)
        until(lambda: metric(port, "rag_questions_answering") == 1)
        process.send_signal(signal_)
        _, err = process.communicate(timeout=WAIT_S)
        for status, headers, body in (adding.result(), asked.result()):
            assert (status, bool(headers["retry-after"])) == (503, True)
            assert json.loads(body)["detail"] == STOPPING
        assert slow.recv(100).startswith(b"HTTP/1.1 503")
    assert process.returncode == code
    assert "Traceback" not in err
    with closing(Archive(tmp_path / "index")) as archive:
        assert archive.check() == []
        assert archive.manifest() == {}


def test_a_long_question_may_stand_in_the_address(tmp_path: Path) -> None:
    address = f"/ask?q={urllib.parse.quote('🦠' * 8000)}"
    head = f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ready(tmp_path) as (_, port), closing(sent(port, head[:-10])) as connection:
        for _ in range(3):
            assert call(port, "GET", "/health/live")[0] == 200  # so that the end comes apart
        connection.sendall(head[-10:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_a_connection_is_kept_for_as_long_as_it_may(tmp_path: Path) -> None:
    live = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    settings = {"keep_alive_s": 1, "body_timeout_s": 4}
    with (
        ready(tmp_path, **settings) as (_, port),
        closing(sent(port, b"")) as silent,
        closing(sent(port, live)) as kept,
    ):
        response = http.client.HTTPResponse(kept)
        response.begin()
        assert response.read() == b'{"status":"live"}'
        first, _, _ = select.select([silent, kept], [], [], WAIT_S)
        assert first == [kept]
        assert kept.recv(1000) == b""


def test_a_connection_may_be_kept_for_longer_than_a_request_may_take(tmp_path: Path) -> None:
    live = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        ready(tmp_path, keep_alive_s=20, body_timeout_s=0.5) as (_, port),
        closing(sent(port, live)) as kept,
    ):
        assert whole_response(kept)
        time.sleep(1)
        kept.sendall(live)
        assert whole_response(kept)
        kept.sendall(live[:5])
        assert kept.recv(1000) == b""  # a head, once it begins, has its own time


def test_it_ends_though_a_client_keeps_its_connection(tmp_path: Path) -> None:
    with ready(tmp_path) as (process, port), closing(sent(port, b"GET")):
        process.terminate()
        process.communicate(timeout=WAIT_S)
