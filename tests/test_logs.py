"""What the log says: a line a request with its id, and what was asked only where it is wanted."""

from __future__ import annotations

import http.client
import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rag import logs
from rag.service import Service
from tests.served import ARTICLES, JSON, QUESTION, filled, running


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with filled(tmp_path) as client:
        yield client


@pytest.mark.parametrize("address", ["/ask?q=harbour", "/nothing", "/ask?q=", "/articles/none"])
def test_a_request_has_an_id_that_is_sent_back(address: str, client: TestClient) -> None:
    made = {client.get(address).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    given = client.get(address, headers={"x-request-id": "Job_7.a-1"})
    assert given.headers["x-request-id"] == "Job_7.a-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "<script>", "é"])
def test_an_id_of_other_characters_is_not_taken(given: str, client: TestClient) -> None:
    headers = [(b"x-request-id", given.encode("latin-1"))]
    made = client.get("/health/live", headers=headers).headers["x-request-id"]
    assert made != given
    assert made.isalnum()


def test_who_is_refused_gets_an_id_too(client: TestClient) -> None:
    refused = client.get("/", headers={"host": "elsewhere.example", "x-request-id": "r1"})
    assert (refused.status_code, refused.headers["x-request-id"]) == (403, "r1")


@pytest.mark.parametrize("formatter", [logs.JsonLines(), logs.Lines()])
def test_an_error_nobody_expected_is_logged_with_the_id(
    formatter: logging.Formatter, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError(QUESTION)

    monkeypatch.setattr(Service, "ask", fail)
    handler = logging.StreamHandler(written := io.StringIO())
    handler.setFormatter(formatter)
    logging.getLogger("rag").addHandler(handler)
    try:
        response = client.get("/ask", params={"q": QUESTION}, headers={"x-request-id": "r2"})
    finally:
        logging.getLogger("rag").removeHandler(handler)
    assert (response.status_code, response.headers["x-request-id"]) == (500, "r2")
    assert "r2" in written.getvalue()
    assert "ZeroDivisionError" in written.getvalue()
    assert QUESTION not in written.getvalue()
    errors = client.get("/metrics").text
    assert 'rag_errors_total{type="ZeroDivisionError"} 1.0' in errors


def test_a_traceback_is_a_part_of_its_line() -> None:
    try:
        raise ValueError("torn")
    except ValueError as error:
        about = (type(error), error, error.__traceback__)
    record = logging.LogRecord("rag.x", logging.ERROR, "x.py", 1, "%s broke", ("it",), about)
    line = json.loads(logs.JsonLines().format(record))
    assert (line["message"], line["level"], line["logger"]) == ("it broke", "error", "rag.x")
    assert "ValueError: torn" in line["traceback"]
    assert logs.Lines().format(record).endswith("ValueError: torn")


def logged(tmp_path: Path, **settings: Any) -> str:
    """What a server of its own writes while it is asked this and that."""
    with running(tmp_path / "index", **settings) as (process, port):
        for method, address, body in [
            ("POST", "/articles", json.dumps(ARTICLES)),
            ("POST", "/ask", json.dumps({"question": QUESTION})),
            ("GET", "/ask?q=who+warned+of+spillover&nothing=1", None),
            ("GET", "/articles/harbour", None),
            ("HEAD", "/who+warned+of+spillover", None),
        ]:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                headers = (JSON if body else {}) | {"X-Request-ID": "mine"}
                connection.request(method, address, body, headers)
                connection.getresponse().read()
        process.terminate()
        out, err = process.communicate(timeout=30)
        assert out == ""
        return str(err)


def test_json_lines_name_the_route_and_no_question(tmp_path: Path) -> None:
    written = logged(tmp_path, log="json")
    lines = [json.loads(line) for line in written.splitlines()]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/articles", 200),
        ("POST", "/ask", 200),
        ("GET", "/ask", 422),
        ("GET", "/articles/{article_id}", 200),
        ("GET", "other", 404),
    ]
    assert {line["request_id"] for line in lines} == {"mine"}
    assert all(line["time"] and line["level"] == "info" and line["ms"] > 0 for line in lines)
    assert lines[2]["error"] == "InvalidRequest"
    assert "spillover" not in written


def test_questions_are_logged_where_that_is_asked_for(tmp_path: Path) -> None:
    lines = logged(tmp_path, log="json", log_questions=True).splitlines()
    assert [json.loads(line).get("question") for line in lines] == [None, QUESTION, *[None] * 3]


def test_lines_for_people(tmp_path: Path) -> None:
    lines = logged(tmp_path, log="text").splitlines()
    assert len(lines) == 5
    assert " request_id=mine method=POST route=/ask status=200 ms=" in lines[1]


def test_nothing_is_logged_of_a_request_by_default(tmp_path: Path) -> None:
    assert logged(tmp_path) == ""


FORGED = "2026-01-01T00:00:00.000+00:00 error rag.archive lost"
SAID = [
    "a ship\n{}",
    "a ship\r{}",
    "a ship\x85{}",
    "a ship\u2028{}",
    "a ship\u2029{}",
    "a ship\x1b[2K\x1b[1G{}",
    "a \u202eship\u202c {}",
    "a \u2066ship\u2069 {}",
    'a ship" status=500 request_id="x {}',
]


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("where", ["question", "message", "more", "traceback"])
def test_no_text_of_others_is_more_than_its_value_in_a_line(where: str, said: str) -> None:
    text = said.format(FORGED)
    record = logging.makeLogRecord({"msg": "request", "name": "rag.logs", "levelname": "INFO"})
    if where == "question":
        record.fields = {"question": text, "status": 200}
    elif where == "traceback":
        record.exc_info = (ValueError, ValueError(text), None)
    else:
        record.msg = text if where == "message" else f"two lines\n{text}"
    first, *rest = logs.Lines().format(record).split("\n")
    assert all(line.startswith("  ") for line in rest)
    assert all(line.isprintable() for line in (first, *rest))
    assert not any(line.startswith(FORGED[:10]) for line in rest)
    if where in ("more", "traceback"):
        assert rest
    if where == "question":
        assert rest == []
        assert first.endswith(" status=200")
        assert FORGED in first
        value = first.partition(" question=")[2].rpartition(" ")[0]
        assert value.startswith('"')
        assert not re.search(r'[^\\]"', value[1:-1])  # its quotes are escaped: it is one value


def test_a_question_on_several_lines_is_one_line(tmp_path: Path) -> None:
    said = f"harbour\n{FORGED}"
    with running(tmp_path / "index", log="text", log_questions=True) as (process, port):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", "/ask", json.dumps({"question": said}), JSON)
            assert connection.getresponse().status == 200
        process.terminate()
        (line,) = process.communicate(timeout=30)[1].splitlines()
    assert f'question="harbour\\n{FORGED}"' in line
