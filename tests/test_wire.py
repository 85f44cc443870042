"""The JSON contract: which fields there are, what they hold, what a request may not say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from rag.cite import link, web_address
from rag.ingest import IngestReport
from rag.types import (
    Answer,
    ArticleHead,
    AskedPeriod,
    AskedSource,
    Budget,
    Citation,
    Filters,
    Hit,
    Interpreted,
    Passage,
    Scores,
    SearchResult,
    Span,
    Unreadable,
    Verification,
)
from rag.wire import (
    AskRequest,
    FiltersModel,
    VerifyRequest,
    added_json,
    answer_json,
    article_json,
    hits_json,
    verification_json,
)

HEAD = ArticleHead(
    id="a",
    title="Title",
    source="Source",
    author=None,
    url="https://news.example/a",
    published_at="2025-11-23",
    revision=2,
    sha256="0" * 64,
    characters=40,
)
PASSAGE = Passage(7, "a", 2, Span(10, 25, 4, ((10, 17), (18, 25))), "🦠 One.. Two two.")
HIT = Hit(PASSAGE, HEAD, 0.123456789, Scores(lexical=11.2, dense=0.4699999988))
CITATION = Citation(1, HIT, "Two two", 18, 25, ((18, 21), (22, 25)), "https://news.example/a#:~:t")
INTERPRETED = Interpreted(
    "2025-11-23",
    (AskedPeriod("until 2020", 4, 14, None, "2020-12-31"),),
    (AskedSource("source", 20, 26, "Source"),),
    recent=True,
)
ANSWER = Answer(
    question="two?",
    answered=True,
    confidence=None,
    citations=(CITATION,),
    generation=3,
    undated=1,
    tokens=300,
    tokens_seen=254,
    took_ms={"encode": 4.1, "total": 7.0},
    interpreted=INTERPRETED,
)
RESULT = SearchResult("two?", (HIT,), 3, 1, 300, 254, {"total": 7.0}, INTERPRETED)

ARTICLE_JSON = {
    "id": "a",
    "title": "Title",
    "source": "Source",
    "author": None,
    "url": "https://news.example/a",
    "published_at": "2025-11-23",
    "revision": 2,
    "sha256": "0" * 64,
}
PASSAGE_JSON = {
    "text": "🦠 One.. Two two.",
    "start": 10,
    "end": 25,
    "tokens": 4,
    "encoding": "small",
}
SCORES_JSON = {"lexical": 11.2, "dense": 0.47, "late": None}
INTERPRETED_JSON = {
    "asked_at": "2025-11-23",
    "periods": [
        {
            "text": "until 2020",
            "start": 4,
            "end": 14,
            "published_from": None,
            "published_to": "2020-12-31",
        }
    ],
    "sources": [{"text": "source", "start": 20, "end": 26, "source": "Source"}],
    "recent": True,
}
OUTCOME_JSON = {
    "interpreted": INTERPRETED_JSON,
    "question": "two?",
    "filtered": {"undated": 1},
    "generation": 3,
    "question_tokens": {"tokens": 300, "seen": 254, "encoding": "small"},
}


def test_an_answer_is_as_the_contract_has_it() -> None:
    written = json.loads(answer_json(ANSWER, encoder="small").model_dump_json())
    assert written == OUTCOME_JSON | {
        "answered": True,
        "confidence": None,
        "citations": [
            {
                "rank": 1,
                "passage_id": "a:2:10-25",
                "score": 0.123457,
                "scores": SCORES_JSON,
                "quote": "Two two",
                "start": 18,
                "end": 25,
                "highlights": [[18, 21], [22, 25]],
                "passage": PASSAGE_JSON,
                "article": ARTICLE_JSON,
                "link": "https://news.example/a#:~:t",
            }
        ],
        "took_ms": {"encode": 4.1, "total": 7.0},
    }


def test_a_budget_is_there_when_it_was_asked_for() -> None:
    answer = replace(ANSWER, budget=Budget(50, 42, "rag_news_v1"))
    written = answer_json(answer, encoder="small").model_dump()
    assert written["budget"] == {"limit": 50, "used": 42, "encoding": "rag_news_v1"}
    assert "budget" not in answer_json(ANSWER, encoder="small").model_dump()


def test_hits_are_as_citations_without_quote_and_highlights() -> None:
    written = json.loads(hits_json(RESULT, encoder="small").model_dump_json())
    (hit,) = written.pop("hits")
    assert written == OUTCOME_JSON | {"took_ms": {"total": 7.0}}
    assert hit.pop("link").startswith("https://news.example/a#:~:text=")
    assert hit == {
        "rank": 1,
        "passage_id": "a:2:10-25",
        "score": 0.123457,
        "scores": SCORES_JSON,
        "start": 10,
        "end": 25,
        "passage": PASSAGE_JSON,
        "article": ARTICLE_JSON,
    }


def test_an_article_and_a_check() -> None:
    assert article_json(HEAD).model_dump() == ARTICLE_JSON | {"characters": 40}
    check = verification_json(Verification(False, 2, None)).model_dump()
    assert check == {"valid": False, "revision": 2, "found_at": None}


def test_what_was_added() -> None:
    report = IngestReport(1, 2, 3, [Unreadable("a.md", "is empty")], 9, 20)
    assert added_json(report).model_dump() == {
        "added": 1,
        "updated": 2,
        "unchanged": 3,
        "failed": [{"item": "a.md", "reason": "is empty"}],
        "generation": 9,
    }


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://news.example/a", True),
        ("HTTP://news.example", True),
        ("javascript:alert(1)", False),
        ("JaVaScRiPt://news.example/%0aalert(1)", False),
        ("data:text/html,<script>", False),
        ("//news.example/a", False),
        ("/articles", False),
        ("https:", False),
        ("https://[broken", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_pages_address_is_a_link(url: str | None, kept: bool) -> None:
    assert web_address(url) == (url if kept else None)
    head = replace(HEAD, url=url)
    assert (link(head, "q") is not None) == kept
    result = replace(RESULT, hits=(replace(HIT, article=head),))
    assert (hits_json(result, encoder="small").hits[0].link is not None) == kept


def test_filters_as_the_core_has_them() -> None:
    asked = FiltersModel.model_validate(
        {"source": ["x"], "published_from": "2025-01-01", "article_id": [], "published_to": None}
    )
    assert asked.filters() == Filters(
        source=("x",), published_from="2025-01-01", article_id=(), exclude_article_id=None
    )
    assert FiltersModel().filters() == Filters()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"question": 5},
        {"question": None},
        {"question": "half \ud800 a pair"},
        {"question": "q", "questoin": "q"},
        {"question": "q", "top_k": True},
        {"question": "q", "top_k": "5"},
        {"question": "q", "top_k": 5.0},
        {"question": "q", "top_k": None},
        {"question": "q", "top_k": 0},
        {"question": "q", "top_k": 101},
        {"question": "q", "token_budget": 0},
        {"question": "q", "token_budget": "100"},
        {"question": "q", "filters": {"sources": ["x"]}},
        {"question": "q", "filters": {"source": "x"}},
        {"question": "q", "filters": {"source": [5]}},
        {"question": "q", "filters": {"source": ["\udfff"]}},
        {"question": "q", "filters": {"published_from": 20250101}},
        {"question": "q", "filters": []},
    ],
)
def test_a_request_that_is_not_in_the_contract_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AskRequest.model_validate(request_)


@pytest.mark.parametrize(
    "change",
    [
        {"start": -1},
        {"start": True},
        {"end": 1.0},
        {"end": 2**53},
        {"revision": 0},
        {"quote": None},
        {"qoute": "x"},
    ],
)
def test_a_check_that_is_not_in_the_contract_is_refused(change: dict[str, Any]) -> None:
    whole = {"article_id": "a", "revision": 1, "start": 0, "end": 1, "quote": "x"}
    assert VerifyRequest.model_validate(whole).end == 1
    with pytest.raises(ValidationError):
        VerifyRequest.model_validate(whole | change)
