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

from rag.evidence import title_alone
from rag.rank import Ranking, content
from rag.snapshot import Snapshot
from rag.types import Floats

THRESHOLD = 0.5
"""`answered` is a confidence of at least this, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the best citation has to say for itself, as numbers that need no other passage, but for
    margins over the fifth other article by the same score."""

    said: float
    """Of its best sentence, as `meaning`: see rag.evidence."""
    meaning: float
    quoted: float
    """Part of the weight of the question's terms that stands in the quoted sentence."""
    late_margin: float
    lexical_margin: float
    """Of the lexical scores, each divided by the weight of the question's terms."""


RIVAL = 5
"""Margins are over the article that is so many places behind: the first ones may be copies of the
best, or say the same, which is no reason to doubt it."""

ALONE = (0.25, 0.54)
"""The two margins where there are fewer others: the median of right answers on SQuAD."""

COEFFICIENTS: Mapping[str, float] = {
    "said": 1.149,
    "meaning": 5.809,
    "quoted": 1.939,
    "late_margin": 7.936,
    "lexical_margin": 0.385,
}
INTERCEPT = -5.310
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
    weights = content(snapshot, ranking.question, ranking.weights)
    weight = sum(ranking.weights.values()) or 1.0
    sentence = max(best.found, key=lambda each: each.score, default=None) or title_alone(
        best.alignment, ranking.asked
    )
    base = best.passage.span.start
    quote = best.passage.text[sentence.start - base : sentence.end - base] or best.article.title
    lexical = ranking.candidates.lexical / weight
    return Signals(
        said=sentence.said,
        meaning=sentence.meaning,
        quoted=_part(quote, weights, snapshot),
        late_margin=_margin(ranking, place, ranking.max_sims, ALONE[0]),
        lexical_margin=_margin(ranking, place, lexical, ALONE[1]),
    )


def _margin(ranking: Ranking, place: int, scores: Floats, alone: float) -> float:
    """By how much the candidate at `place` is before the `RIVAL`-th other article that was
    re-ranked; `alone` where there are fewer."""
    others: dict[int, float] = {}
    for at in np.flatnonzero(~np.isnan(ranking.max_sims)).tolist():
        article = int(ranking.articles[at])
        others[article] = max(others.get(article, -np.inf), float(scores[at]))
    others.pop(int(ranking.articles[place]))
    if len(others) < RIVAL:
        return alone
    return float(scores[place]) - sorted(others.values(), reverse=True)[RIVAL - 1]


def _part(text: str, weights: Mapping[str, float], snapshot: Snapshot) -> float:
    """The part of the weight of the question's terms that stands in `text`."""
    there = {term.text for term in snapshot.analyzer.terms(text)}
    weight = sum(weights.values())
    return sum(w for term, w in weights.items() if term in there) / weight if weight else 0.0
