"""Bad input over HTTP: each kind gets its status, and a problem that says what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rag import adding, parsing
from tests.served import ARTICLES, JSON, QUESTION, filled, problem, server, text_of


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One server for all: nothing here may change the archive."""
    with filled(tmp_path_factory.mktemp("served")) as client:
        yield client


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    with server(tmp_path / "index") as client:
        yield client


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"question": ""}, "question"),
        ({"question": " \t\n\u00a0"}, "question"),
        ({"question": " \u200b\n"}, "question"),
        ({"question": "\u2028\ufeff\u202e\0"}, "question"),
        ({"question": "x" * 8001}, "question"),
        ({"question": None}, "question"),
        ({"question": "half \ud800"}, "question"),
        ({"asked_at": "yesterday"}, "asked_at"),
        ({"asked_at": ""}, "asked_at"),
        ({"asked_at": 2025}, "asked_at"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 101}, "top_k"),
        ({"top_k": 1_000_000}, "top_k"),
        ({"top_k": 10**30}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"top_k": "5"}, "top_k"),
        ({"topk": 5}, "topk"),
        ({"filters": {"published_from": "soon"}}, "published_from"),
        ({"filters": {"published_to": "2025-02-30"}}, "published_to"),
        ({"filters": {"published_to": ""}}, "published_to"),
        ({"filters": {"published_from": "2025-02-02", "published_to": "2025-02-01"}}, "published"),
        ({"filters": {"form": "2025-02-02"}}, "filters.form"),
        ({"filters": {"source": "one"}}, "filters.source"),
        ({"filters": {"source": ["\udc00"]}}, "filters.source.0"),
    ],
)
@pytest.mark.parametrize("address", ["/ask", "/search"])
def test_a_bad_question_gets_422(
    address: str, change: dict[str, Any], field: str, client: TestClient
) -> None:
    body = json.dumps({"question": QUESTION} | change)  # in ASCII, as a lone surrogate must be
    found = problem(client.post(address, content=body, headers=JSON), 422)
    assert found["errors"][0]["field"].startswith(field)
    assert found["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({}, "q"),
        ({"q": ""}, "question"),
        ({"q": " "}, "question"),
        ({"q": "x" * 8001}, "question"),
        ({"q": QUESTION, "top_k": 0}, "top_k"),
        ({"q": QUESTION, "top_k": 101}, "top_k"),
        ({"q": QUESTION, "top_k": "many"}, "top_k"),
        ({"q": QUESTION, "top_k": [1, 2]}, "top_k"),
        ({"q": QUESTION, "from": "yesterday"}, "published_from"),
        ({"q": QUESTION, "to": ""}, "published_to"),
        ({"q": QUESTION, "published_from": "2025-01-01"}, "published_from"),
        ({"q": QUESTION, "token_budget": 0}, "token_budget"),
        ({"q": QUESTION, "asked_at": "today"}, "asked_at"),
        ({"q": QUESTION, "asked_at": ["2025-01-01", "2025-01-02"]}, "asked_at"),
    ],
)
def test_a_bad_question_by_address_gets_422(
    parameters: dict[str, Any], field: str, client: TestClient
) -> None:
    found = problem(client.get("/ask", params=parameters), 422)
    assert found["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("address", "field", "told"),
    [
        ("/ask?q=x&q=y", "q", "more than once"),
        ("/ask?q=x&%71=y", "q", "more than once"),
        ("/?q=x&q=y", "q", "more than once"),
        ("/health/live?a&a", "a", "more than once"),
        (f"/health/live?{'a' * 1000}&{'a' * 1000}", "a" * 100, "more than once"),
        ("/nothing?" + "&".join(map(str, range(1001))), "query", "1,001 parameters"),
        ("/health/live?" + "&" * 1000, "query", "the limit is 1,000"),
        ("/ask?q=x" + "&source=a" * 1000, "query", "1,001 parameters"),
    ],
)
def test_a_parameter_given_twice_and_parameters_without_end(
    address: str, field: str, told: str, client: TestClient
) -> None:
    (error,) = problem(client.get(address), 422)["errors"]
    assert error["field"] == field
    assert told in error["detail"]


def test_a_link_to_the_page_may_have_parameters_of_others(client: TestClient) -> None:
    assert client.get("/?q=harbour&utm_source=x").status_code == 200
    problem(client.get("/ask?q=harbour&utm_source=x"), 422)


def test_a_thousand_parameters_are_taken(client: TestClient) -> None:
    sources = ["Coast Wire", *map(str, range(998))]
    answer = client.get("/ask", params={"q": "harbour", "source": sources}).json()
    assert {each["article"]["id"] for each in answer["citations"]} == {"harbour"}


@pytest.mark.parametrize("question", ["nul \0 in it", "x" * 8000, "🦠" * 100, "\u202e'; --", "?!"])
def test_any_text_is_a_question(question: str, client: TestClient) -> None:
    answer = client.post("/ask", json={"question": question})
    assert answer.status_code == 200
    assert answer.json()["question"] == question


def test_a_long_question_says_how_much_of_it_the_vectors_saw(client: TestClient) -> None:
    question = "spillover " * 200  # 2,000 characters, 200 tokens
    answer = client.post("/ask", json={"question": question}).json()
    assert answer["question_tokens"] == {"tokens": 200, "seen": 200, "encoding": "fake"}
    question = "why " * 400 + "spillover"
    answer = client.post("/ask", json={"question": question}).json()
    assert answer["question_tokens"] == {"tokens": 401, "seen": 256, "encoding": "fake"}
    words = {each["article"]["id"]: each["scores"]["lexical"] for each in answer["citations"]}
    assert words.pop("spillover") > 0  # its last word was looked for all the same
    assert set(words.values()) == {0}


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"nonsense", b'{"question": "x",}', b"[" * 100_000, b"\xff\xfe\x00", b'"\xe9"'],
)
@pytest.mark.parametrize("address", ["/ask", "/articles", "/verify"])
def test_a_body_that_is_no_json_is_refused(address: str, body: bytes, client: TestClient) -> None:
    response = client.post(address, content=body, headers=JSON)
    problem(response, 422 if body == b"" else 400)
    assert len(response.content) < 500


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"a":' * 100_000, 400, "nested too deeply"),
        (b'{"top_k":' + b"9" * 5000 + b"}", 400, "too many digits"),
        ('{"top_k": 1٣}'.encode(), 400, "some that are not 0 to 9"),
        ('{"top_k": 1.٣}'.encode(), 400, "some that are not 0 to 9"),
        (b'{"question": "\xe9"}', 400, "the byte at 14 is not UTF-8"),
        ('{"question": "x"}'.encode("utf-16"), 400, "not UTF-8"),
        (b'{"question": "x",}', 400, "(character 17)"),
        (b'{"question": "x", "question": "y"}', 422, "question: it is given more than once"),
        (b'[{"text": {"a": 1, "a": 1}}]', 422, "a: it is given more than once"),
        (b"[" + b"[]," * 250_000 + b"[]]", 422, "more than 250,000 values"),
        (b"[" + b"{}," * 250_000 + b"{}]", 422, "more than 250,000 values"),
        (json.dumps(dict.fromkeys(range(250_001), 1)).encode(), 422, "more than 250,000 values"),
        (b'{"a":[' + b"1," * 250_000 + b"1]}", 422, "more than 250,000 values"),
        (b"[" + b"null," * 250_000 + b"1]", 422, "more than 250,000 values"),
        (b'[["' + b'a","' * 250_000 + b'"]]', 422, "more than 250,000 values"),
    ],
)
@pytest.mark.parametrize("address", ["/search", "/articles", "/verify"])
def test_what_is_wrong_with_a_body_is_told(
    address: str, body: bytes, status: int, told: str, client: TestClient
) -> None:
    found = problem(client.post(address, content=body, headers=JSON), status)
    assert told in found["detail"]


def test_a_byte_order_mark_is_no_fault(client: TestClient) -> None:
    body = json.dumps({"question": QUESTION}).encode("utf-8-sig")
    assert client.post("/ask", content=body, headers=JSON).status_code == 200


@pytest.mark.parametrize("address", ["/ask", "/search", "/verify", "/articles"])
def test_a_body_is_parsed_in_its_turn_beside_the_loop(
    address: str, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what waits would be parsed already, and nobody be answered while it is."""
    service, places = client.app.state.service, []  # type: ignore[attr-defined]
    read_json = parsing.read_json

    def noted(*given: Any, **named: Any) -> Any:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        limiter = service._changing if address == "/articles" else service._answering
        places.append(limiter.borrowed_tokens)
        return read_json(*given, **named)

    for module in (parsing, adding):
        monkeypatch.setattr(module, "read_json", noted)
    problem(client.post(address, content=b"{", headers=JSON), 400)
    assert places == [1]


def test_a_question_takes_less_than_articles(client: TestClient) -> None:
    for address in ("/ask", "/search"):
        problem(client.post(address, content=b" " * 4_300_000, headers=JSON), 413)
    ids = [f"{number:0128}" for number in range(10_000)]
    filters = dict.fromkeys(("source", "article_id", "exclude_article_id"), ids)
    asked = {"question": "🦠" * 8000, "filters": filters}
    assert client.post("/ask", json=asked).status_code == 200
    for address in ("/articles", "/verify"):
        problem(client.post(address, content=b" " * 4_300_000, headers=JSON), 400)


@pytest.mark.parametrize(
    "body", ["null", "5", '"text"', "[5]", '{"question": []}', '{"question": "x", "filters": 5}']
)
def test_a_body_of_another_shape_is_refused(body: str, client: TestClient) -> None:
    for address in ("/ask", "/articles", "/verify", "/search"):
        found = problem(client.post(address, content=body, headers=JSON), 422)
        assert "Request" not in found["detail"]  # no class of ours


def test_a_stranger_cannot_have_a_long_error(client: TestClient) -> None:
    fields = {f"{number}{'x' * 5_000}": number for number in range(500)}
    response = client.post("/ask", json=fields)
    problem(response, 422)
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({str(n): n for n in range(100_000)}, "body", "100,001 fields, over the limit of 100"),
        ({"filters": {str(n): n for n in range(100_000)}}, "filters", "100,000 fields"),
        ({"filters": {"source": [5] * 100_000}}, "filters.source.0", "valid string"),
        ({"filters": {"source": ["a"] * 10_001}}, "filters.source", "at most 10000 items"),
        ({"filters": {"article_id": ["a"] * 10_001}}, "filters.article_id", "at most 10000"),
        ({"filters": {"exclude_article_id": ["a"] * 10_001}}, "filters.exclude", "at most 10000"),
    ],
)
def test_a_hundred_thousand_mistakes_are_one(
    change: dict[str, Any], field: str, told: str, client: TestClient
) -> None:
    found = problem(client.post("/ask", json={"question": QUESTION} | change), 422)
    (error,) = found["errors"]
    assert error["field"].startswith(field)
    assert told in error["detail"]


def test_a_filter_of_many_values_is_taken(client: TestClient) -> None:
    filters = {"source": ["Coast Wire", *map(str, range(9_999))]}
    answer = client.post("/ask", json={"question": "harbour", "filters": filters}).json()
    assert {each["article"]["id"] for each in answer["citations"]} == {"harbour"}


@pytest.mark.parametrize(
    ("article", "reason"),
    [
        ({"text": "x", "published_at": "32 December"}, "32 December"),
        ({"text": "x", "published_at": 20250101}, "must be a date"),
        ({"text": 5}, "must be text"),
        ({"title": " ", "text": "\n"}, "neither"),
        ({"text": "x" * 1001}, "RAG_MAX_TEXT_BYTES"),
        ({"text": "é" * 501}, "RAG_MAX_TEXT_BYTES"),
        (None, "not an object"),
        ([], "not an object"),
    ],
)
def test_an_article_that_is_none(article: Any, reason: str, tmp_path: Path) -> None:
    with server(tmp_path / "index", max_text_bytes=1000) as client:
        found = problem(client.post("/articles", json=[article]), 422)
    assert reason in found["failed"][0]["reason"]


def test_half_a_surrogate_pair_in_an_article_is_replaced(empty: TestClient) -> None:
    body = json.dumps({"id": "a", "text": "half \ud800 a pair"})
    assert empty.post("/articles", content=body, headers=JSON).status_code == 200
    assert text_of(empty, "a") == "half \ufffd a pair"


def test_too_many_articles(tmp_path: Path) -> None:
    with server(tmp_path / "index", max_articles_per_call=2) as client:
        found = problem(client.post("/articles", json=ARTICLES), 422)
        assert "RAG_MAX_ARTICLES_PER_CALL" in found["detail"]
        assert client.get("/articles").json()["articles"] == []


@pytest.mark.parametrize(
    "parameters",
    [{"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"offset": 5}, {"limit": [1, 2]}],
)
def test_a_bad_page_of_articles(parameters: dict[str, Any], client: TestClient) -> None:
    problem(client.get("/articles", params=parameters), 422)


@pytest.mark.parametrize("article_id", ["nobody", "%00", "a b", "x" * 500, "%ED%A0%80", "..%5c"])
def test_an_unknown_article_gets_404(article_id: str, client: TestClient) -> None:
    for method, address in [
        ("GET", f"/articles/{article_id}"),
        ("GET", f"/articles/{article_id}/text"),
        ("DELETE", f"/articles/{article_id}"),
    ]:
        problem(client.request(method, address), 404)
    claim = {"article_id": "nobody", "start": 0, "end": 1, "quote": "x"}
    problem(client.post("/verify", json=claim), 404)


@pytest.mark.parametrize("revision", ["0", "-1", "x", "9" * 30])
def test_a_revision_that_is_none(revision: str, client: TestClient) -> None:
    problem(client.get("/articles/harbour", params={"revision": revision}), 422)
    claim = {"article_id": "harbour", "revision": 10**30, "start": 0, "end": 1, "quote": "x"}
    problem(client.post("/verify", json=claim), 422)


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("PUT", "/articles", "GET, HEAD, POST"),
        ("PATCH", "/articles/harbour", "DELETE, GET, HEAD"),
        ("DELETE", "/ask", "GET, HEAD, POST"),
        ("OPTIONS", "/ask", "GET, HEAD, POST"),
        ("GET", "/verify", "POST"),
        ("TRACE", "/", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there(
    method: str, address: str, allowed: str, client: TestClient
) -> None:
    response = client.request(method, address)
    problem(response, 405)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("address", ["/nothing", "/ask/", "/articles/", "/../etc/passwd", "//"])
def test_an_address_that_is_not_there(address: str, client: TestClient) -> None:
    problem(client.get(f"http://127.0.0.1:8000{address}"), 404)


@pytest.mark.parametrize("address", ["/", "/articles", "/articles/harbour/text", "/health/live"])
def test_head_is_get_without_the_body(address: str, client: TestClient) -> None:
    head, got = client.head(address), client.get(address)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


def test_an_error_nobody_expected_tells_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_searcher: Any, question: str, **_: Any) -> None:
        raise RuntimeError(question)

    monkeypatch.setattr("rag.searcher.Searcher.ask", fail)
    response = client.post("/ask", json={"question": "the secret question"})
    assert problem(response, 500)["type"] == "about:blank"
    assert "secret" not in response.text
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
