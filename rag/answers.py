"""Do quotes answer the questions of an own set: what each quote holds, and what was withheld."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag.measures import by_measure, intervals
from rag.sets import SetQuestion
from rag.types import Answer

QUOTED_FIRST = 3
"""The evidence is also looked for among so many first citations."""

ANSWER_MEASURES = (
    "answer@1",
    f"answer@{QUOTED_FIRST}",
    "evidence@1",
    f"evidence@{QUOTED_FIRST}",
    "answered",
    "answered_right",
    "answered_wrong",
)
"""Of answerable questions: is every fact in the quote, is the evidence; was it answered at all, and
then with the facts or the evidence in the first quote, or without."""

LOWER_IS_BETTER = frozenset({"answered_wrong"})

WITHHELD = "withheld"
"""The measure of unanswerable questions."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One question of an own set: the ranks at which its facts and its evidence are first quoted,
    None where they are not."""

    question: SetQuestion
    answer: Answer
    answer_rank: int | None
    evidence_rank: int | None

    @property
    def answerable(self) -> bool:
        """Whether the archive holds the answer."""
        return bool(self.question.evidence)

    @property
    def correct(self) -> bool:
        """Whether the best citation holds the facts or the evidence."""
        return 1 in (self.answer_rank, self.evidence_rank)

    @property
    def values(self) -> dict[str, float]:
        """0 or 1 for each measure that applies."""
        if not self.answerable:
            return {WITHHELD: float(not self.answer.answered)}
        found = [
            rank is not None and rank <= most
            for rank in (self.answer_rank, self.evidence_rank)
            for most in (1, QUOTED_FIRST)
        ]
        told = self.answer.answered
        found += [told, told and self.correct, told and not self.correct]
        return by_measure(ANSWER_MEASURES, [float(each) for each in found])


def judge(question: SetQuestion, answer: Answer) -> Judged:
    """See whether the quotes hold what was asked for."""
    telling = (_tells(question, citation.quote) for citation in answer.citations)
    evident = (
        _is_evidence(question, citation.hit.article.id, citation.quote)
        for citation in answer.citations
    )
    return Judged(question, answer, _first(telling), _first(evident))


def answers_report(judged: Sequence[Judged]) -> dict[str, Any]:
    """Parts of the questions, over all and by type, whose facts or evidence are quoted; how many
    unanswerable ones were withheld; and how long quotes are."""
    answerable = [each for each in judged if each.answerable]
    types = sorted({each.question.type.value for each in answerable})
    unanswerable = [each for each in judged if not each.answerable]
    return {
        "all": _parts(answerable),
        "intervals": _intervals(answerable),
        "by_type": {
            name: _parts([each for each in answerable if each.question.type == name])
            for name in types
        },
        "unanswerable": {
            "questions": len(unanswerable),
            "withheld": sum(not each.answer.answered for each in unanswerable),
        },
        "median_quote_characters": _quote_characters(judged),
        "not_quoted_first": [
            {"id": each.question.id, "question": each.question.text, "rank": each.evidence_rank}
            for each in answerable
            if each.evidence_rank != 1
        ],
    }


def _first(found: Iterable[bool]) -> int | None:
    """The rank, from 1, of the first that is true."""
    return next((rank for rank, true in enumerate(found, start=1) if true), None)


def _tells(question: SetQuestion, quote: str) -> bool:
    return bool(question.answers) and all(
        any(spelling in quote for spelling in spellings) for spellings in question.answers
    )


def _is_evidence(question: SetQuestion, article: str, quote: str) -> bool:
    """Evidence may be several sentences; the quote has to cover them all."""
    spaced = " ".join(quote.split())  # sentences may be parted by a line break in the article
    return any(
        each.article == article and " ".join(each.quote.split()) in spaced
        for each in question.evidence
    )


def _parts(judged: Sequence[Judged]) -> dict[str, float]:
    columns = zip(*(each.values.values() for each in judged), strict=True)
    parts = [sum(column) / len(judged) for column in columns]
    return {"questions": len(judged), **by_measure(ANSWER_MEASURES, parts)}


def _intervals(judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
    rows = np.array([list(each.values.values()) for each in judged])
    return by_measure(ANSWER_MEASURES, intervals(rows))


def _quote_characters(judged: Sequence[Judged]) -> float | None:
    """Median length of the best citation's quote, so that nobody wins by quoting everything."""
    lengths = [len(each.answer.citations[0].quote) for each in judged if each.answer.citations]
    return statistics.median(lengths) if lengths else None
