"""Who may ask: names of this server, pages of its own origin, bodies that no form can send."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag.guard import Crowd, Ending, own_names
from tests.served import ARTICLES, HOST, JSON, filled, problem, server

GET: dict[str, Any] = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
WRITES = [("POST", "/articles"), ("POST", "/ask"), ("DELETE", "/articles/harbour")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One server for all: nothing here may change the archive."""
    with filled(tmp_path_factory.mktemp("served")) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "127.0.0.1",
        "localhost",
        "LOCALHOST:8000",
        "localhost.:1",
        "[::1]:8000",
        "127.1.2.3",
        "archive.example",
        "Archive.Example:443",
        "[fd00::7]:80",
    ],
)
def test_names_of_our_own(host: str, tmp_path: Path) -> None:
    with server(tmp_path, allowed_hosts=("archive.example", "[fd00::7]")) as client:
        assert client.get("/health/live", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example#localhost",
        "0.0.0.0:8000",
        "10.0.0.7",
        "[::2]",
        "[::1",
        "localhost:port",
        "localhost:8000:8000",
        "",
        " ",
    ],
)
@pytest.mark.parametrize("address", ["/", "/ask?q=x", "/articles", "/health/live", "/metrics"])
def test_a_name_that_was_pointed_here_by_someone_else(
    address: str, host: str, client: TestClient
) -> None:
    assert "Host" in problem(client.get(address, headers={"host": host}), 403)["detail"]


def test_two_hosts_are_none(client: TestClient) -> None:
    headers = [("host", HOST), ("host", "evil.example")]
    problem(client.get("/articles", headers=headers), 403)


def test_the_address_listened_at_is_ours_unless_it_stands_for_all() -> None:
    assert own_names("10.0.0.7", ["archive.example"]) == {"10.0.0.7", "archive.example"}
    assert own_names("0.0.0.0", ["A.example"]) == {"a.example"}
    assert own_names("::", []) == own_names("", []) == set()
    assert own_names("fd00::7", ["[fd00::8]"]) == {"fd00::7", "fd00::8"}


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1.evil.example",
        "http://127.0.0.1:3000",
        "http://localhost:8000",
        "http://127.0.0.1",
        "https://127.0.0.1",
        "null",
        "",
        "file://",
        "chrome-extension://abcdef",
        "http://evil.example, http://127.0.0.1:8000",
        "http://evil@127.0.0.1:8000",
    ],
)
@pytest.mark.parametrize(("method", "address"), [*WRITES, ("GET", "/articles"), ("HEAD", "/")])
def test_a_page_of_another_origin(
    method: str, address: str, origin: str, client: TestClient
) -> None:
    headers = {"origin": origin}
    if method == "POST":
        response = client.request(method, address, json=ARTICLES[0], headers=headers)
    else:
        response = client.request(method, address, headers=headers)
    assert response.status_code == 403
    assert client.get("/articles/harbour").status_code == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (HOST, f"http://{HOST}"),
        (HOST, f"HTTP://{HOST}"),
        ("localhost:8000", "http://localhost:8000"),
        ("localhost", "http://localhost:80"),
        ("localhost:80", "http://localhost"),
        ("localhost", "https://localhost"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_page_of_our_own(host: str, origin: str, client: TestClient) -> None:
    headers = {"host": host, "origin": origin, "sec-fetch-site": "same-origin"}
    response = client.post("/ask", json={"question": "harbour"}, headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "site", "mode", "status"),
    [
        ("GET", "cross-site", "no-cors", 403),
        ("GET", "same-site", "cors", 403),
        ("GET", "cross-site", "navigate", 200),
        ("GET", "same-origin", "cors", 200),
        ("GET", "none", "navigate", 200),
        ("POST", "cross-site", "navigate", 403),
    ],
)
def test_what_the_browser_says_of_where_it_comes_from(
    method: str, site: str, mode: str, status: int, client: TestClient
) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
    response = client.request(method, "/", headers=JSON | headers)
    assert response.status_code == status


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/json+x",
        "application/jsonp",
        "",
    ],
)
@pytest.mark.parametrize(("method", "address"), [*WRITES, ("POST", "/verify")])
def test_a_body_that_a_form_could_send(
    method: str, address: str, kind: str, client: TestClient
) -> None:
    body = b'{"id": "planted", "text": "planted"}'
    problem(client.request(method, address, content=body, headers={"content-type": kind}), 415)
    assert client.get("/articles/planted").status_code == 404
    assert client.get("/articles/harbour").status_code == 200


def test_a_body_without_a_type(client: TestClient) -> None:
    problem(client.post("/articles", content=b"{}"), 415)
    problem(client.post("/articles"), 415)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_by_any_spelling(kind: str, client: TestClient) -> None:
    response = client.post(
        "/ask", content=b'{"question": "harbour"}', headers={"content-type": kind}
    )
    assert response.status_code == 200


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("address", ["/ask", "/search", "/verify", "/articles"])
def test_a_body_over_the_limit(address: str, announced: bool, tmp_path: Path) -> None:
    body: Any = b"[" + b" " * 1000 + b"]"
    with server(tmp_path, max_body_bytes=1000) as client:
        sent = body if announced else iter([body[:600], body[600:]])
        found = problem(client.post(address, content=sent, headers=JSON), 413)
        assert "RAG_MAX_BODY_BYTES" in found["detail"]
        at_the_limit = client.post(address, content=body[:1000], headers=JSON)
        assert at_the_limit.status_code == 400


@pytest.mark.parametrize("length", [b"-1", b"x", b"\xb2", b"1e3"])
def test_a_length_that_is_none(length: bytes, client: TestClient) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    response = client.post("/ask", content=b'{"question": "harbour"}', headers=headers)
    assert response.status_code == 200  # the server in front refuses it; what counts is what comes


@pytest.mark.parametrize("address", ["/", "/ask?q=harbour", "/articles/harbour/text", "/nothing"])
def test_the_headers_of_every_response(address: str, client: TestClient) -> None:
    headers = client.get(address).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"http://{HOST}"])
def test_no_page_elsewhere_is_ever_allowed_anything(origin: str, client: TestClient) -> None:
    """Neither when it asks first, as a browser does before it sends JSON or a key, nor after."""
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    responses = [
        client.options("/ask", headers={"origin": origin, **asks}),
        client.options("/articles", headers={"origin": origin, **asks}),
        client.post("/ask", json={"question": "harbour"}, headers={"origin": origin}),
        client.get("/ask?q=harbour", headers={"origin": origin}),
        client.get("/", headers={"origin": origin}),
        client.get("/health/live", headers={"origin": origin}),
        client.get("/nothing", headers={"origin": origin}),
    ]
    for response in responses:
        allowed = [name for name in response.headers if name.startswith("access-control")]
        assert allowed == []
    statuses = [response.status_code for response in responses]
    ours = origin == f"http://{HOST}"
    assert statuses == ([405, 405, 200, 200, 200, 200, 404] if ours else [403] * 7)


async def answered(app: ASGIApp, path: str, statuses: dict[str, int]) -> None:
    """Ask `app` for `path` and put the status of its response into `statuses`, behind those that
    came before."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses[path] = message["status"]

    await app({**GET, "path": path}, receive, send)


async def work(scope: Scope, receive: Receive, send: Send) -> None:
    """A call: one under /slow waits until it is cut off, one under /begun after it has begun.
    One under /free takes a thousand turns of the loop."""
    for _ in range(1000 if scope["path"] == "/free" else 0):
        await asyncio.sleep(0)
    if scope["path"] != "/slow":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] in ("/slow", "/begun"):
        await asyncio.Event().wait()


def test_who_is_turned_away_is_told_so_after_those_who_are_answered() -> None:
    crowd = Crowd(work, at_once=1, counts=lambda scope: scope["path"] != "/free")

    async def ask() -> dict[str, int]:
        statuses: dict[str, int] = {}
        slow = asyncio.create_task(answered(crowd, "/slow", statuses))
        await asyncio.gather(
            *(answered(crowd, path, statuses) for path in ("/one too many", "/free"))
        )
        slow.cancel()
        return statuses

    assert list(asyncio.run(ask()).items()) == [("/free", 200), ("/one too many", 429)]


def test_what_is_cut_off_is_told_so_once() -> None:
    async def ask() -> dict[str, int]:
        statuses: dict[str, int] = {}
        calls = [
            asyncio.create_task(answered(Ending(work), path, statuses))
            for path in ("/slow", "/begun")
        ]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls)
        return statuses

    assert asyncio.run(ask()) == {"/begun": 200, "/slow": 503}
