"""The calls over HTTP, one by one: what each gives."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rag.archive import Archive
from rag.errors import ArchiveDamaged
from tests.served import ARTICLES, PROBLEM, QUESTION, add, filled, problem, server, text_of


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with filled(tmp_path) as client:
        yield client


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    with server(tmp_path / "index") as client:
        yield client


def test_a_question_gets_an_answer_with_a_quote_that_stands_there(client: TestClient) -> None:
    answer = client.post("/ask", json={"question": QUESTION}).json()
    assert (answer["question"], answer["answered"], answer["confidence"]) == (QUESTION, True, None)
    assert answer["filtered"] == {"undated": 0}
    assert answer["took_ms"]["total"] > 0
    best = answer["citations"][0]
    assert best["quote"] == "Vera Okafor warned of spillover on May 4."
    assert best["article"]["id"] == "spillover"
    assert best["link"].startswith("https://news.example/spillover#:~:text=Vera%20Okafor")
    assert best["passage"]["encoding"] == "fake"
    text = text_of(client, "spillover")
    assert text[best["start"] : best["end"]] == best["quote"]
    assert [text[start:end] for start, end in best["highlights"]] == ["warned", "spillover"]


@pytest.mark.parametrize("address", ["/ask", "/search"])
def test_how_the_question_was_read_is_in_the_answer(address: str, client: TestClient) -> None:
    question = "🦠 who warned last week, according to Coast Wire?"
    asked = {"question": question, "asked_at": "2025-11-23"}
    read = client.post(address, json=asked).json()["interpreted"]
    assert read == {
        "asked_at": "2025-11-23",
        "periods": [
            {
                "text": "last week",
                "start": 13,
                "end": 22,
                "published_from": "2025-11-10",
                "published_to": "2025-11-16",
            }
        ],
        "sources": [{"text": "Coast Wire", "start": 37, "end": 47, "source": "Coast Wire"}],
        "recent": False,
    }
    filters = {"source": ["Coast Wire"], "published_from": "2024-01-01"}
    filtered = client.post(address, json=asked | {"filters": filters}).json()["interpreted"]
    assert (filtered["periods"], filtered["sources"]) == ([], [])


def test_the_day_of_asking_by_address(client: TestClient) -> None:
    parameters = {"q": "who warned yesterday", "asked_at": "2025-11-23"}
    (period,) = client.get("/ask", params=parameters).json()["interpreted"]["periods"]
    assert period["published_from"] == period["published_to"] == "2025-11-22"


def test_the_offsets_hold_after_an_emoji(client: TestClient) -> None:
    best = client.post("/ask", json={"question": QUESTION}).json()["citations"][0]
    assert text_of(client, "spillover").startswith("🦠")
    assert best["start"] == len("🦠 First an emoji. ")


def test_the_same_by_address(client: TestClient) -> None:
    posted = client.post("/ask", json={"question": QUESTION, "top_k": 1}).json()
    got = client.get("/ask", params={"q": QUESTION, "top_k": 1}).json()
    assert got.pop("took_ms")
    assert posted.pop("took_ms")
    assert got == posted
    assert len(got["citations"]) == 1


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"source": "Coast Wire"}, {"harbour"}),
        ({"source": ["Coast Wire", "The Daily Test"]}, {"harbour", "spillover"}),
        ({"from": "2024-02-29", "to": "2024-02-29"}, {"harbour"}),
        ({"from": "2024-03-01"}, {"spillover"}),
        ({"to": "2020-01-01"}, set()),
    ],
)
def test_filters_by_address(
    parameters: dict[str, Any], found: set[str], client: TestClient
) -> None:
    answer = client.get("/ask", params={"q": "harbour", **parameters}).json()
    assert {each["article"]["id"] for each in answer["citations"]} == found
    assert answer["answered"] == bool(found)
    assert answer["filtered"]["undated"] == (0 if "source" in parameters else 1)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"article_id": ["harbour", "undated"]}, {"harbour", "undated"}),
        ({"exclude_article_id": ["harbour"]}, {"spillover", "undated"}),
        ({"source": []}, set()),
        ({"published_from": "2025-11-23", "published_to": "2025-11-23"}, {"spillover"}),
        (None, {"spillover", "harbour", "undated"}),
    ],
)
@pytest.mark.parametrize(("address", "found_in"), [("/ask", "citations"), ("/search", "hits")])
def test_filters_in_a_body(
    address: str, found_in: str, filters: Any, found: set[str], client: TestClient
) -> None:
    answer = client.post(address, json={"question": "harbour", "filters": filters}).json()
    assert {each["article"]["id"] for each in answer[found_in]} == found


@pytest.mark.parametrize("address", ["/ask", "/search"])
def test_a_budget_is_kept_and_names_its_encoding(address: str, client: TestClient) -> None:
    body = {"question": QUESTION, "token_budget": 40}
    answer = client.post(address, json=body).json()
    budget = answer["budget"]
    assert budget["limit"] == 40
    assert 0 < budget["used"] <= 40
    assert budget["encoding"] == "rag_news_v1"
    assert "budget" not in client.post(address, json={"question": QUESTION}).json()


def test_a_search_gives_hits(client: TestClient) -> None:
    found = client.post("/search", json={"question": QUESTION, "top_k": 2}).json()
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    best = found["hits"][0]
    assert not {"quote", "highlights"} & set(best)
    text = text_of(client, best["article"]["id"])
    assert text[best["start"] : best["end"]] == best["passage"]["text"]


def test_articles_go_in_once(empty: TestClient) -> None:
    assert add(empty, *ARTICLES)["added"] == 3
    again = add(empty, *ARTICLES)
    assert (again["added"], again["unchanged"], again["generation"]) == (0, 3, 1)
    revised = add(empty, ARTICLES[1] | {"text": "No ship came."})
    assert (revised["updated"], revised["generation"], revised["ids"]) == (1, 2, ["harbour"])


def test_one_article_needs_no_list(empty: TestClient) -> None:
    response = empty.post("/articles", json=ARTICLES[0])
    assert response.status_code == 200
    assert response.json()["ids"] == ["spillover"]


def test_no_article_changes_nothing(client: TestClient) -> None:
    report = client.post("/articles", json=[]).json()
    assert (report["added"], report["generation"], report["ids"]) == (0, 1, [])


def test_an_article_without_an_id_can_be_found_by_the_one_it_got(empty: TestClient) -> None:
    ids = add(empty, {"text": "One two."}, {"url": "https://news.example/x", "text": "Three."})
    for article_id in ids["ids"]:
        assert empty.get(f"/articles/{article_id}").status_code == 200
    same = add(empty, {"text": "Four."}, {"text": "Four."})
    assert same["ids"][0] == same["ids"][1]


def test_an_equal_text_has_the_id_that_it_had(client: TestClient) -> None:
    text = {"title": "A note on the harbour", "text": "The harbour has two piers."}
    report = add(client, text)
    assert (report["unchanged"], report["ids"]) == (1, ["undated"])


def test_what_cannot_be_taken_is_named_and_the_rest_goes_in(empty: TestClient) -> None:
    sent = [
        {"id": "a", "text": "Good."},
        {"id": "b"},
        "no object",
        {"id": "c", "text": "Bad date.", "published_at": "yesterday"},
        {"id": "a", "text": "Another text under the first one's id."},
        {"id": "d", "text": "Good too."},
    ]
    response = empty.post("/articles", json=sent)
    assert response.status_code == 200
    report = response.json()
    assert report["added"] == 2
    assert report["ids"] == ["a", None, None, None, None, "d"]
    assert [each["position"] for each in report["failed"]] == [1, 2, 3, 4]
    assert all(each["item"] and each["reason"] for each in report["failed"])
    assert text_of(empty, "a") == "Good."


def test_where_nothing_can_be_taken_nothing_changes(empty: TestClient) -> None:
    found = problem(empty.post("/articles", json=[{"id": "a"}, 5]), 422)
    assert [each["position"] for each in found["failed"]] == [0, 1]
    assert empty.get("/articles").json()["articles"] == []


def test_the_articles_page_by_page(client: TestClient) -> None:
    first = client.get("/articles", params={"limit": 2}).json()
    assert [each["id"] for each in first["articles"]] == ["harbour", "spillover"]
    rest = client.get("/articles", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [each["id"] for each in rest["articles"]] == ["undated"]
    assert rest["next_cursor"] is None
    whole = client.get("/articles", params={"limit": 3}).json()
    assert (len(whole["articles"]), whole["next_cursor"]) == (3, None)


def test_an_article_and_its_text(client: TestClient) -> None:
    article = client.get("/articles/spillover").json()
    assert article["author"] == "Ann Other, B. Writer"
    assert (article["published_at"], article["revision"]) == ("2025-11-23", 1)
    response = client.get("/articles/spillover/text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == ARTICLES[0]["text"]
    assert article["characters"] == len(response.text)


def test_an_earlier_revision_can_be_had(client: TestClient) -> None:
    add(client, ARTICLES[1] | {"text": "No ship came."})
    assert text_of(client, "harbour") == "No ship came."
    assert client.get("/articles/harbour").json()["revision"] == 2
    earlier = client.get("/articles/harbour/text", params={"revision": 1})
    assert earlier.text == ARTICLES[1]["text"]
    assert client.get("/articles/harbour", params={"revision": 1}).json()["revision"] == 1
    problem(client.get("/articles/harbour/text", params={"revision": 3}), 404)


def test_an_article_is_removed_once(client: TestClient) -> None:
    removed = client.delete("/articles/harbour")
    assert (removed.status_code, removed.json()) == (200, {"removed": "harbour", "generation": 2})
    problem(client.delete("/articles/harbour"), 404)
    problem(client.get("/articles/harbour"), 404)
    answer = client.post("/ask", json={"question": "ships in the harbour"}).json()
    assert "harbour" not in {each["article"]["id"] for each in answer["citations"]}


def renewed() -> None:
    """Wait for the base to be written in the background."""
    for thread in threading.enumerate():
        if thread.name == "renew base":
            thread.join(60)


def bases(tmp_path: Path) -> list[str]:
    return [file.name for file in tmp_path.glob("index/dense.*")]


def test_the_base_is_written_in_the_background_after_a_change(
    empty: TestClient, tmp_path: Path
) -> None:
    add(empty, *ARTICLES)
    renewed()
    (first,) = bases(tmp_path)
    for article in ARTICLES[:2]:
        empty.delete(f"/articles/{article['id']}")
    renewed()
    (second,) = bases(tmp_path)
    assert first != second


def test_a_large_base_is_written_by_another_process(
    empty: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.service.EXACT_MOST", 1)
    monkeypatch.setattr(Archive, "renew_base", lambda _: pytest.fail("it was written here"))
    add(empty, *ARTICLES)
    renewed()
    assert len(bases(tmp_path)) == 1
    add(empty, *ARTICLES)  # nothing changes, nothing is due
    renewed()
    assert len(bases(tmp_path)) == 1


def test_a_process_that_cannot_write_the_base_says_why(
    empty: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("rag.service.EXACT_MOST", 1)
    monkeypatch.setattr(
        "rag.process.command", lambda *_: [sys.executable, "-c", "raise OSError('no disk')"]
    )
    add(empty, *ARTICLES)
    renewed()
    assert "the dense base cannot be renewed" in caplog.text
    assert "no disk" in caplog.text
    assert not bases(tmp_path)


def test_a_large_base_for_which_there_is_no_room_is_told_once(
    empty: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("rag.service.EXACT_MOST", 1)
    (tmp_path / "index").mkdir(exist_ok=True)
    (tmp_path / "index" / "dense.faiss.tmp").symlink_to(tmp_path / "nowhere" / "file")
    for article in ARTICLES:
        add(empty, article)
        renewed()
    assert caplog.text.count("the dense base cannot be renewed") == 1
    assert "the base cannot be written" in caplog.text
    assert empty.post("/ask", json={"question": QUESTION}).json()["citations"]


def test_a_process_that_is_killed_while_it_writes_the_base_is_told(
    empty: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rag.service.EXACT_MOST", 1)
    suicide = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr("rag.process.command", lambda *_: [sys.executable, "-c", suicide])
    add(empty, *ARTICLES)
    renewed()
    assert "its process ended with -9" in caplog.text


def test_a_process_that_writes_the_base_ends_with_the_server(
    empty: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rag.service.EXACT_MOST", 1)
    started = threading.Event()

    def waiting(*_: str) -> list[str]:
        started.set()
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    monkeypatch.setattr("rag.process.command", waiting)
    service = empty.app.state.service  # type: ignore[attr-defined]
    add(empty, *ARTICLES)
    assert started.wait(60)
    until = time.monotonic() + 60
    while service._renewing._running is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    service.stop()
    renewed()
    assert service._renewing._running.returncode < 0
    assert not caplog.text


def test_a_base_that_cannot_be_written_is_no_error_of_the_call(
    empty: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(_: Archive) -> None:
        raise ArchiveDamaged("index", "library.db: torn")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Archive, "renew_base", damaged)
        add(empty, *ARTICLES)
        renewed()
    assert "the dense base cannot be renewed" in caplog.text
    assert not bases(tmp_path)
    assert empty.post("/ask", json={"question": QUESTION}).json()["citations"]


def test_a_quote_is_checked(client: TestClient) -> None:
    best = client.post("/ask", json={"question": QUESTION}).json()["citations"][0]
    claim = {
        "article_id": "spillover",
        "revision": best["article"]["revision"],
        "start": best["start"],
        "end": best["end"],
        "quote": best["quote"],
    }
    there = {"valid": True, "revision": 1, "found_at": best["start"]}
    assert client.post("/verify", json=claim).json() == there
    moved = claim | {"start": best["start"] + 1, "end": best["end"] + 1}
    assert client.post("/verify", json=moved).json() == there | {"valid": False}
    other = client.post("/verify", json=claim | {"quote": "Vera Okafor denied it."}).json()
    assert other == {"valid": False, "revision": 1, "found_at": None}
    beyond = client.post("/verify", json=claim | {"start": 10**6, "end": 10**6 + 5}).json()
    assert beyond["valid"] is False


def test_a_quote_is_checked_after_the_article_was_revised(client: TestClient) -> None:
    add(client, ARTICLES[1] | {"text": "Corrected. Ships came back to the harbour."})
    claim = {"article_id": "harbour", "start": 0, "end": 31, "quote": ARTICLES[1]["text"][:31]}
    today = client.post("/verify", json=claim).json()
    assert today == {"valid": False, "revision": 2, "found_at": 11}
    then = client.post("/verify", json=claim | {"revision": 1}).json()
    assert then == {"valid": True, "revision": 1, "found_at": 0}


def test_an_empty_archive_answers_that_it_has_no_answer(empty: TestClient) -> None:
    answer = empty.post("/ask", json={"question": QUESTION}).json()
    assert (answer["answered"], answer["citations"], answer["generation"]) == (False, [], 0)
    assert empty.post("/search", json={"question": QUESTION}).json()["hits"] == []
    assert empty.get("/articles").json() == {"articles": [], "next_cursor": None}
    problem(empty.delete("/articles/a"), 404)
    ready = empty.get("/health/ready").json()
    assert ready == {
        "status": "ready",
        "generation": 0,
        "behind": [],
        "sound": None,
        "checked_at": None,
    }


def test_what_another_writer_adds_is_found_at_once(client: TestClient, tmp_path: Path) -> None:
    with server(tmp_path / "index") as other:
        add(other, {"id": "quokka", "text": "A quokka was seen."})
    answer = client.post("/ask", json={"question": "quokka", "top_k": 1}).json()
    assert answer["citations"][0]["article"]["id"] == "quokka"


def test_metrics_count_and_hold_no_question(client: TestClient) -> None:
    client.get("/ask", params={"q": "a secret question"})
    client.get("/articles/no-such")
    client.get("/made/up/by/a/stranger")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    assert 'rag_requests_total{method="GET",route="/ask",status="200"} 1.0' in lines
    missing = 'rag_requests_total{method="GET",route="/articles/{article_id}",status="404"} 1.0'
    assert missing in lines
    assert 'rag_requests_total{method="GET",route="other",status="404"} 1.0' in lines
    assert 'rag_question_stage_seconds_count{stage="encode"} 1.0' in lines
    assert 'rag_request_seconds_count{method="GET",route="/ask"} 1.0' in lines
    assert "rag_articles 3.0" in lines
    assert "rag_generation 1.0" in lines
    assert "secret" not in response.text
    assert "stranger" not in response.text


def test_two_servers_count_apart(client: TestClient, tmp_path: Path) -> None:
    client.get("/ask", params={"q": QUESTION})
    with server(tmp_path / "other") as other:
        assert 'route="/ask"' not in other.get("/metrics").text


def test_openapi_names_the_calls(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {(path, method) for path, methods in schema["paths"].items() for method in methods} == {
        ("/ask", "post"),
        ("/ask", "get"),
        ("/search", "post"),
        ("/articles", "post"),
        ("/articles", "get"),
        ("/articles/{article_id}", "get"),
        ("/articles/{article_id}", "delete"),
        ("/articles/{article_id}/text", "get"),
        ("/verify", "post"),
        ("/health/live", "get"),
        ("/health/ready", "get"),
        ("/metrics", "get"),
    }
    responses = schema["paths"]["/ask"]["post"]["responses"]
    assert set(responses["422"]["content"]) == {PROBLEM}
    assert set(responses["200"]["content"]) == {"application/json"}
    assert set(schema["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}


@pytest.mark.parametrize("address", ["/docs", "/redoc"])
def test_no_page_that_loads_from_elsewhere(address: str, client: TestClient) -> None:
    problem(client.get(address), 404)
