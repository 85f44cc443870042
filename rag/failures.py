"""The questions that went wrong, with all that one has to read to see why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rag.answers import Judged
from rag.snapshot import Snapshot
from rag.types import Answer, Citation


class Failure(StrEnum):
    """What went wrong."""

    ARTICLE = "another article was cited first"
    QUOTE = "the right article, but another quote"
    ANSWERED = "answered, though the archive does not hold the answer"
    WITHHELD = "right, but withheld"
    NOTHING = "nothing was found"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question as it was answered. `judged` is there for own sets; `correct` says whether the
    best citation answers: on own sets by its quote, else by its article being judged relevant."""

    query_id: str
    question: str
    answer: Answer
    correct: bool
    relevant: Sequence[str] = ()
    judged: Judged | None = None

    @property
    def answerable(self) -> bool:
        """Whether the archive holds the answer."""
        return bool(self.relevant)

    @property
    def known(self) -> bool:
        """Whether anybody knows if the archive holds it: a query may be judged on nothing right."""
        return self.answerable or self.judged is not None

    @property
    def first(self) -> Citation | None:
        """The best citation."""
        return self.answer.citations[0] if self.answer.citations else None


def failures(
    snapshot: Snapshot, outcomes: Iterable[Outcome], run: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """For each question that went wrong: what was asked, expected and cited first, and the ranks
    of the expected articles in `run`. The surest come first, then those of the highest score."""
    wrong = [(kind, each) for each in outcomes if (kind := failed(each)) is not None]
    wrong.sort(key=lambda pair: _sureness(pair[1]), reverse=True)
    return [
        {
            "id": each.query_id,
            "question": each.question,
            "kind": kind.value,
            "confidence": each.answer.confidence,
            "expected": _expected(snapshot, each, run.get(each.query_id, ())),
            "cited": _cited(each.first),
        }
        for kind, each in wrong
    ]


def failed(outcome: Outcome) -> Failure | None:
    """What is wrong with an answer; None if nothing is.

    On own sets the evidence itself has to be quoted first: facts found elsewhere do not do.
    """
    if not outcome.known:
        return None
    if not outcome.answerable:
        return Failure.ANSWERED if outcome.answer.answered else None
    if outcome.first is None:
        return Failure.NOTHING
    right = outcome.judged.evidence_rank == 1 if outcome.judged else outcome.correct
    if right:
        return None if outcome.answer.answered else Failure.WITHHELD
    return Failure.QUOTE if outcome.first.hit.article.id in outcome.relevant else Failure.ARTICLE


def _sureness(outcome: Outcome) -> tuple[float, float]:
    first = outcome.first
    return outcome.answer.confidence or 0.0, first.hit.score if first else 0.0


def _expected(snapshot: Snapshot, outcome: Outcome, ranked: Sequence[str]) -> dict[str, Any]:
    question = outcome.judged.question if outcome.judged else None
    ranks = {article: rank for rank, article in enumerate(ranked, start=1)}
    heads = {article: snapshot.find(article) for article in outcome.relevant}
    return {
        "answers": [list(spellings) for spellings in question.answers] if question else [],
        "evidence": [each.quote for each in question.evidence] if question else [],
        "articles": [
            {"id": article, "title": head.title if head else None, "rank": ranks.get(article)}
            for article, head in heads.items()
        ],
    }


def _cited(citation: Citation | None) -> dict[str, Any] | None:
    if citation is None:
        return None
    scores = citation.hit.scores
    raw = {"lexical": scores.lexical, "dense": scores.dense, "late": scores.late}
    return {
        "quote": citation.quote,
        "article": {"id": citation.hit.article.id, "title": citation.hit.article.title},
        "score": round(citation.hit.score, 6),
        "scores": {name: round(value, 6) for name, value in raw.items() if value is not None},
    }
