"""How probable it is that the best citation answers the question.

A logistic regression over raw signals, none of them normalised within a list of results, so that
it means the same on an archive of one article and of a million. `eval/fit.py` fitted it to
questions asked of archives that hold their answer, and of the same archives with it left out;
`eval/README.md` says which, and how well it holds on others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from rag.evidence import FARTHEST, meaning
from rag.rank import Ranking, content
from rag.snapshot import Snapshot

THRESHOLD = 0.5
"""`answered` is a confidence of at least this, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the first quote has to say for itself, as numbers that need no other passage, but for
    the margin."""

    covered: float
    """Part of the weight of the question's terms that stands in the quote or its title, 0 to 1."""
    meaning: float
    """Mean similarity of the quote's words with the meaning of the whole question."""
    margin: float
    """MaxSim of the passage over that of the fifth other article."""


RIVAL = 5
"""The margin is over the article that is so many places behind: the first ones may be copies of the
best, or say the same, which is no reason to doubt it."""

ALONE = 0.25
"""The margin where there are fewer others: the median of right answers on SQuAD."""

COEFFICIENTS: Mapping[str, float] = {
    "covered": 2.319,
    "meaning": 6.356,
    "margin": 9.294,
}
INTERCEPT = -5.141
"""Fitted to half of the questions of SQuAD, RealTimeQA and SciFact."""


def confidence(signals: Signals) -> float:
    """The probability, 0 to 1."""
    log_odds = INTERCEPT + sum(
        COEFFICIENTS[name] * value for name, value in asdict(signals).items()
    )
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, log_odds))))


def signals(snapshot: Snapshot, ranking: Ranking) -> Signals | None:
    """Those of the best citation; None where there is none, or no token vectors."""
    if ranking.asked is None or not len(ranking.order):
        return None
    place = int(ranking.order[0])
    best = ranking.read.get(place)
    if best is None:
        return None
    base = best.passage.span.start
    # Before the passage stands the title, of which an article may have nothing else.
    start, end = best.quoted or (-FARTHEST, base)
    quote = best.passage.text[max(0, start - base) : end - base]
    weights = content(snapshot, ranking.question, ranking.weights)
    return Signals(
        covered=_part(f"{best.article.title}\n{quote}", weights, snapshot),
        meaning=meaning(best.passage, best.alignment, start, end),
        margin=_margin(ranking, place),
    )


def _margin(ranking: Ranking, place: int) -> float:
    """By how much the passage at `place` is before the `RIVAL`-th other article that was re-ranked;
    `ALONE` where there are fewer."""
    others: dict[int, float] = {}
    for at in np.flatnonzero(~np.isnan(ranking.max_sims)).tolist():
        article = int(ranking.articles[at])
        others[article] = max(others.get(article, -np.inf), float(ranking.max_sims[at]))
    others.pop(int(ranking.articles[place]))
    if len(others) < RIVAL:
        return ALONE
    return float(ranking.max_sims[place]) - sorted(others.values(), reverse=True)[RIVAL - 1]


def _part(text: str, weights: Mapping[str, float], snapshot: Snapshot) -> float:
    """The part of the weight of the question's terms that stands in `text`."""
    there = {term.text for term in snapshot.analyzer.terms(text)}
    weight = sum(weights.values())
    return sum(w for term, w in weights.items() if term in there) / weight if weight else 0.0
