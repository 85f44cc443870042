"""Who may come in: where there is a key nobody without one, beyond loopback nobody by mistake."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rag.access import ADDRESSES, MINUTE_S, WrongKeys, needed_right
from rag.errors import KeysDamaged, Unguarded
from rag.keys import KeyFile, Right
from tests.served import ARTICLES, JSON, add, problem, running, server

ROOT = Path(__file__).parents[1]
EVERYWHERE = "0.0.0.0"
OPEN = {"/health/live", "/health/ready"}


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def basic(secret: str, user: str = "anna") -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{secret}".encode()).decode()}


class Keys:
    """The archive's keys and what they are."""

    def __init__(self, index: Path) -> None:
        self.file = KeyFile(index)
        self.reader = self.file.add("reader")[1]
        self.writer = self.file.add("writer", write=True)[1]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A server that was started with articles and without keys."""
    with server(tmp_path / "index") as client:
        add(client, *ARTICLES)
        yield client


@pytest.fixture
def keys(client: TestClient, tmp_path: Path) -> Keys:
    """Keys made while it runs."""
    return Keys(tmp_path / "index")


def operations(client: TestClient) -> list[tuple[str, str]]:
    paths = client.app.openapi()["paths"]  # type: ignore[attr-defined]
    described = [(method.upper(), path) for path, each in paths.items() for method in each]
    pages = [("GET", "/"), ("GET", "/read/{article_id}"), ("GET", "/openapi.json")]
    return [*described, *pages, ("GET", "/nothing"), ("OPTIONS", "/ask"), ("HEAD", "/articles")]


BODIES: dict[str, Any] = {
    "/ask": {"question": "harbour"},
    "/search": {"question": "harbour"},
    "/verify": {"article_id": "harbour", "start": 0, "end": 5, "quote": "Ships"},
    "/articles": {"id": "planted", "text": "planted"},
}


def call(client: TestClient, method: str, path: str, headers: dict[str, str]) -> Any:
    address = path.replace("{article_id}", "harbour") + ("?q=x" if path == "/ask" else "")
    if method == "POST":
        return client.post(path, json=BODIES[path], headers=headers)
    return client.request(method, address, headers=headers)


def test_without_keys_loopback_is_open(client: TestClient) -> None:
    assert client.get("/articles").status_code == 200
    assert client.get("/articles", headers=bearer("rag_whatever")).status_code == 200
    assert client.get("/articles", headers={"authorization": "nonsense"}).status_code == 200


def test_as_soon_as_there_is_a_key_nothing_but_health_is_open(
    client: TestClient, keys: Keys
) -> None:
    known = operations(client)
    assert len(known) > 15
    for method, path in known:
        response = call(client, method, path, {})
        if path in OPEN:
            assert response.status_code == 200
            continue
        if method != "HEAD":
            assert problem(response, 401)["type"] == "urn:rag:error:KeyNeeded"
        assert response.status_code == 401
        challenges = response.headers.get_list("www-authenticate")
        assert [each.split()[0] for each in challenges] == ["Bearer", "Basic"]
        assert "harbour" not in response.text
    assert client.get("/articles/planted", headers=bearer(keys.reader)).status_code == 404
    assert client.get("/articles/harbour", headers=bearer(keys.reader)).status_code == 200


@pytest.mark.parametrize("credentials", [bearer, basic])
def test_a_key_to_ask_with_reads_all_and_changes_nothing(
    credentials: Any, client: TestClient, keys: Keys
) -> None:
    headers = credentials(keys.reader)
    for method, path in operations(client):
        response = call(client, method, path, headers)
        if method in ("POST", "DELETE") and path.startswith("/articles"):
            found = problem(response, 403)
            assert found["type"] == "urn:rag:error:RightMissing"
            assert "write" in found["detail"]
        else:
            assert response.status_code in (200, 404, 405), (method, path)
    assert client.get("/articles/planted", headers=headers).status_code == 404
    assert client.get("/articles/harbour", headers=headers).status_code == 200


@pytest.mark.parametrize("credentials", [bearer, basic])
def test_a_key_to_write_with_does_both(credentials: Any, client: TestClient, keys: Keys) -> None:
    headers = credentials(keys.writer)
    assert call(client, "POST", "/articles", headers).status_code == 200
    assert client.get("/articles/planted", headers=headers).status_code == 200
    assert client.delete("/articles/planted", headers=headers).status_code == 200
    assert client.get("/articles/planted", headers=headers).status_code == 404


def test_what_is_not_known_to_read_needs_the_right_to_write() -> None:
    for method, path in [("PUT", "/ask"), ("POST", "/mcp"), ("PATCH", "/"), ("POST", "/ask/")]:
        assert needed_right(method, path) is Right.WRITE
    assert needed_right("POST", "/ask") is needed_right("GET", "/anything") is Right.ASK


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "{reader}",
        "Token {reader}",
        "Digest {reader}",
        "Basic {reader}",
        "Basic !!!",
        "Basic \xff",
        "Basic " + b64encode(b"no colon").decode(),
        "Basic " + b64encode(b"anna:").decode(),
    ],
)
def test_what_is_no_key_is_asked_for_one(value: str, client: TestClient, keys: Keys) -> None:
    headers = [(b"authorization", value.format(reader=keys.reader).encode("latin-1"))]
    for _ in range(12):  # nor is it counted as a wrong one
        assert client.get("/articles", headers=headers).status_code == 401


def test_two_keys_are_none(client: TestClient, keys: Keys) -> None:
    headers = [("authorization", f"Bearer {each}") for each in (keys.reader, keys.writer)]
    problem(client.get("/articles", headers=headers), 401)


@pytest.mark.parametrize("change", [str.upper, lambda key: key[:-1], lambda key: key + "x"])
def test_a_key_with_one_letter_changed(change: Any, client: TestClient, keys: Keys) -> None:
    problem(client.get("/articles", headers=bearer(change(keys.reader))), 401)
    (digest, _) = [key.sha256 for key in keys.file.keys() or ()]
    problem(client.get("/articles", headers=bearer(digest)), 401)
    spelled = {"authorization": f"bearer  {keys.reader} "}
    assert client.get("/articles", headers=spelled).status_code == 200


def test_a_page_elsewhere_cannot_use_what_the_browser_sends_along(
    client: TestClient, keys: Keys
) -> None:
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
        response = client.delete("/articles/harbour", headers=basic(keys.writer) | headers)
        assert problem(response, 403)["type"] == "urn:rag:error:Forbidden"
    assert client.get("/articles/harbour", headers=bearer(keys.reader)).status_code == 200


def test_a_server_heeds_keys_as_they_are_now(client: TestClient, keys: Keys) -> None:
    def status(secret: str) -> int:
        return int(client.get("/articles", headers=bearer(secret)).status_code)

    assert status(keys.reader) == 200
    keys.file.revoke("reader")
    assert (status(keys.reader), status(keys.writer)) == (401, 200)
    again = keys.file.add("reader")[1]
    assert (status(keys.reader), status(again)) == (401, 200)


def test_revoking_the_last_key_or_losing_the_file_opens_nothing(
    client: TestClient, keys: Keys, tmp_path: Path
) -> None:
    assert client.get("/articles").status_code == 401
    for name in ("reader", "writer"):
        keys.file.revoke(name)
    problem(client.get("/articles"), 401)
    with server(tmp_path / "index") as anew:
        problem(anew.get("/articles"), 401)
    (tmp_path / "index" / "keys.json").unlink()
    problem(client.get("/articles"), 401)
    with server(tmp_path / "index") as anew:
        assert anew.get("/articles").status_code == 200


def test_a_damaged_file_lets_nobody_in(
    client: TestClient, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "index" / "keys.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    for headers in ({}, bearer(keys.reader), basic(keys.writer)):
        found = problem(client.get("/articles", headers=headers), 503)
        assert "its log says why" in found["detail"]
        assert str(tmp_path) not in json.dumps(found)
    assert client.get("/health/live").status_code == 200
    (record,) = caplog.records  # said once, not at every request
    assert record.levelno == logging.ERROR
    assert str(file) in record.message
    with pytest.raises(KeysDamaged):
        server(tmp_path / "index")
    file.write_bytes(whole)
    assert client.get("/articles", headers=bearer(keys.reader)).status_code == 200


def test_wrong_keys_are_limited_and_good_ones_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(tmp_path / "index")
    with server(tmp_path / "index", max_wrong_keys_per_minute=3) as client:
        for number in range(3):
            problem(client.get("/articles", headers=bearer(f"rag_wrong{number}")), 401)
        for credentials in (bearer, basic, bearer):
            refused = client.get("/articles", headers=credentials("rag_wrong"))
            problem(refused, 429)
            assert 1 <= int(refused.headers["retry-after"]) <= MINUTE_S
        # Whoever shares the address, as behind a proxy, is not locked out by a stranger.
        assert client.get("/articles", headers=bearer(keys.reader)).status_code == 200
        problem(client.get("/articles"), 401)
    assert [record.message for record in caplog.records] == [
        "more than 3 wrong keys in a minute from testclient"
    ]


def test_wrong_keys_are_counted_by_address_for_a_minute() -> None:
    now = 1000.0
    wrong = WrongKeys(2, clock=lambda: now)
    assert [wrong.wait_s("10.0.0.1") for _ in range(4)] == [0, 0, 60, 60]
    assert wrong.wait_s("10.0.0.2") == 0
    now += 59.5
    assert wrong.wait_s("10.0.0.1") == 1
    now += 0.5
    assert [wrong.wait_s("10.0.0.1") for _ in range(3)] == [0, 0, 60]


def test_an_ipv6_client_is_its_network() -> None:
    wrong = WrongKeys(1)
    assert wrong.wait_s("2001:db8:0:1::1") == 0
    assert wrong.wait_s("2001:db8:0:1:ffff::2") > 0
    assert wrong.wait_s("2001:db8:0:2::1") == 0
    assert wrong.wait_s("::ffff:10.0.0.1") == 0
    assert wrong.wait_s("10.0.0.1") > 0
    assert wrong.wait_s("::ffff:10.0.0.2") == 0


def test_the_table_of_addresses_is_bounded_and_keeps_the_latest() -> None:
    wrong = WrongKeys(1)
    for number in range(ADDRESSES + 10):
        wrong.wait_s(str(number))
        wrong.wait_s("stays")
    assert len(wrong._counts) == ADDRESSES
    assert wrong.wait_s("stays") > 0
    assert wrong.wait_s("0") == 0


def test_openapi_says_how_a_key_is_sent(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    schemes = schema["components"]["securitySchemes"]
    assert {name: (each["type"], each["scheme"]) for name, each in schemes.items()} == {
        "bearer": ("http", "bearer"),
        "basic": ("http", "basic"),
    }
    assert schema["security"] == [{"bearer": []}, {"basic": []}, {}]
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert ("401" in operation["responses"]) == (path not in OPEN)
            assert operation.get("security") == ([] if path in OPEN else None)


# Listening beyond loopback.


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "", "10.0.0.7", "archive.example", "[::1]"])
def test_beyond_loopback_nobody_listens_without_a_key(host: str, tmp_path: Path) -> None:
    with pytest.raises(Unguarded, match="rag key add"):
        server(tmp_path, host=host)
    file = KeyFile(tmp_path)
    file.add("one")
    server(tmp_path, host=host)
    file.revoke("one")
    with pytest.raises(Unguarded):
        server(tmp_path, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "::1", "127.8.8.8"])
def test_loopback_needs_none(host: str, tmp_path: Path) -> None:
    server(tmp_path, host=host)


def test_beyond_loopback_a_file_that_was_never_seen_opens_nothing(tmp_path: Path) -> None:
    Keys(tmp_path)
    with server(tmp_path, host=EVERYWHERE) as client:
        (tmp_path / "keys.json").unlink()
        problem(client.get("/articles"), 401)


def own_address() -> str | None:
    """An address of this machine that is not loopback's."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        found = str(probe.getsockname()[0])
        return None if found.startswith("127.") else found


def told(port: int, address: str, **request: Any) -> tuple[int, Any, http.client.HTTPMessage]:
    with closing(http.client.HTTPConnection(address, port, timeout=30)) as connection:
        given = {"method": "GET", "url": "/articles"} | request
        connection.request(**given)
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers


@pytest.mark.parametrize("host", sorted({EVERYWHERE, own_address() or EVERYWHERE}))
def test_a_real_server_beyond_loopback_does_not_start_without_a_key(
    host: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "rag.cli", "serve", "--host", host, "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name[:4] != "RAG_"}
    done = subprocess.run(
        [*command, "--index", str(tmp_path / "index")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "listening on http" not in done.stderr
    assert f"listening on {host} without a key" in done.stderr
    assert "rag key add" in done.stderr
    assert "RAG_ALLOW_ANYONE=yes" in done.stderr
    assert not (tmp_path / "index").exists()


def test_a_real_server_beyond_loopback_lets_anyone_in_where_that_is_said(tmp_path: Path) -> None:
    address = own_address() or "127.0.0.1"
    with running(tmp_path, host=EVERYWHERE, allow_anyone="yes", allowed_hosts=address) as (_, port):
        assert told(port, address)[0] == 200
        # A key that is made is asked for all the same.
        Keys(tmp_path)
        assert told(port, address)[0] == 401


def test_a_key_is_used_revoked_and_used_again_at_a_real_server(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    address = own_address() or "127.0.0.1"
    settings: dict[str, Any] = {"host": EVERYWHERE, "allowed_hosts": address}
    settings |= {"max_wrong_keys_per_minute": 2}
    with running(tmp_path, **settings) as (process, port):
        status, found, headers = told(port, address)
        assert (status, found["title"]) == (401, "A key is needed")
        assert len(headers.get_all("www-authenticate") or []) == 2
        body = {"method": "POST", "body": json.dumps(ARTICLES)}
        refused = told(port, address, headers=JSON | bearer(keys.reader), **body)
        assert refused[0] == 403
        assert told(port, address, headers=JSON | basic(keys.writer), **body)[1]["added"] == 3
        assert len(told(port, address, headers=basic(keys.reader))[1]["articles"]) == 3
        assert told(port, address, url="/metrics")[0] == 401
        assert told(port, address, url="/health/live")[0] == 200

        revoking = [sys.executable, "-m", "rag.cli", "key", "revoke", "reader"]
        revoking += ["--index", str(tmp_path)]
        subprocess.run(revoking, cwd=ROOT, check=True, capture_output=True, timeout=60)
        statuses = [told(port, address, headers=bearer(keys.reader))[0] for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert told(port, address, headers=bearer(keys.writer))[0] == 200

        keys.file.revoke("writer")
        assert told(port, address, headers=bearer(keys.writer))[0] == 429
        assert told(port, address)[0] == 401
        process.terminate()
        out, err = process.communicate(timeout=30)
        assert "rag_" not in out + err  # no key is written to a log
        assert "wrong keys" in err
