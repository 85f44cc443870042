"""Failures: what counts as one, and that all is there that explains it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag.answers import Judged
from rag.failures import Failure, Outcome, failed
from rag.searcher import Searcher
from rag.sets import EvaluationSet
from rag.types import Answer, ArticleHead, Citation, Hit, Interpreted, Passage, Scores, Span
from tests.evaluated import QUESTIONS, QUOTED, evaluated, own_set

READ = Interpreted("2025-11-23", (), ())


def answer(article: str | None = None, *, answered: bool = True) -> Answer:
    """An answer that cites an article, or nothing."""
    citations: tuple[Citation, ...] = ()
    if article is not None:
        head = ArticleHead(article, "T", None, None, None, None, 1, "", 4)
        passage = Passage(1, article, 1, Span(0, 4, 1, ((0, 4),)), "Yes.")
        hit = Hit(passage, head, 1.0, Scores(1.0, 1.0))
        citations = (Citation(1, hit, "Yes.", 0, 4, (), None),)
    return Answer("q", answered, 0.5, citations, 1, 0, 1, 1, {"total": 1.0}, READ)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome("q", "q", answer("a"), True, ["a"]), None),
        (Outcome("q", "q", answer("b"), False, ["a"]), Failure.ARTICLE),
        (Outcome("q", "q", answer(), False, ["a"]), Failure.NOTHING),
        (Outcome("q", "q", answer("a", answered=False), True, ["a"]), Failure.WITHHELD),
        (Outcome("q", "q", answer("b", answered=False), False, ["a"]), Failure.ARTICLE),
        (Outcome("q", "q", answer("a"), False, []), None),  # nobody knows
    ],
)
def test_a_ranking_fails_by_its_article(outcome: Outcome, kind: Failure | None) -> None:
    assert failed(outcome) == kind


@pytest.mark.parametrize(
    ("ranks", "answered", "kind"),
    [
        ((1, 1), True, None),
        ((None, 1), True, None),
        ((1, None), True, Failure.QUOTE),  # the facts stand elsewhere too; the evidence is wanted
        ((2, 2), True, Failure.QUOTE),
        ((1, 1), False, Failure.WITHHELD),
    ],
)
def test_an_answer_fails_by_its_quote(
    ranks: tuple[int | None, int | None], answered: bool, kind: Failure | None
) -> None:
    given = answer("harbour", answered=answered)
    judged = Judged(QUESTIONS[0], given, *ranks)
    outcome = Outcome("q", "q", given, judged.correct, ["harbour"], judged)
    assert failed(outcome) == kind
    unanswerable = Judged(QUESTIONS[-1], given, None, None)
    none = replace(outcome, relevant=(), judged=unanswerable)
    assert failed(none) == (Failure.ANSWERED if answered else None)


def by_id(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in report["failures"]}


def test_a_failure_says_what_was_expected_and_what_was_cited(tmp_path: Path) -> None:
    report = evaluated(tmp_path, kind=Searcher).report
    found = by_id(report)
    assert found.keys() == {"who-blamed", "none"}
    wrong = found["who-blamed"]
    assert wrong["kind"] == Failure.QUOTE
    assert wrong["expected"]["evidence"] == ["Bread got dearer in Oslo."]
    assert wrong["expected"]["articles"] == [{"id": "bread", "title": "Bread", "rank": 1}]
    assert QUOTED in wrong["cited"]["quote"]
    assert wrong["cited"]["scores"].keys() == {"lexical", "dense", "late"}
    assert found["none"]["kind"] == Failure.ANSWERED
    assert found["none"]["expected"]["articles"] == []


def test_an_article_that_is_not_in_the_archive_is_named_by_its_id(tmp_path: Path) -> None:
    asked = EvaluationSet("beir", [], {"q": "who reopened the harbour"}, {"q": {"gone": 1}})
    (only,) = evaluated(tmp_path, asked).report["failures"]
    assert only["kind"] == Failure.ARTICLE
    assert only["expected"]["articles"] == [{"id": "gone", "title": None, "rank": None}]


def test_the_surest_failures_come_first(tmp_path: Path) -> None:
    asked = own_set()
    qrels = {query_id: {"zoo": 1} for query_id in asked.queries}
    wrong = evaluated(tmp_path, EvaluationSet("beir", [], asked.queries, qrels)).report["failures"]
    confidences = [each["confidence"] for each in wrong]
    assert len(confidences) == 3
    assert confidences == sorted(confidences, reverse=True)
