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

from rag.rank import Ranking
from rag.snapshot import Snapshot

THRESHOLD = 0.5
"""`answered` is a confidence of at least this, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the best citation has to say for itself, as numbers that need no other passage, but for
    margins over the best citation of another article."""

    said: float
    """Of its best sentence, as `meaning`: see rag.evidence."""
    meaning: float
    quoted: float
    """Part of the weight of the question's terms that stands in the quoted sentence."""
    late_margin: float
    lexical_margin: float
    """Of the lexical scores, each divided by the weight of the question's terms."""


LATE_MARGIN, LEXICAL_MARGIN = 0.15, 0.5
"""The greatest margins that count, which three in four right answers do not reach: a small archive
of unlike articles has great ones for any question."""

ALONE = (0.12, 0.32)
"""The two margins where there is no other article: the median of right answers on SQuAD."""

COEFFICIENTS: Mapping[str, float] = {
    "said": 2.291,
    "meaning": 6.042,
    "quoted": 1.976,
    "late_margin": 13.061,
    "lexical_margin": 1.312,
}
INTERCEPT = -5.887
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
    weights, found = ranking.weights, ranking.candidates
    weight = sum(weights.values()) or 1.0
    rival = _rival(ranking, ranking.articles[place])
    sentence = max(best.found, key=lambda each: each.score, default=None)
    quote = best.passage.text
    if sentence is not None:
        base = best.passage.span.start
        quote = quote[sentence.start - base : sentence.end - base]
    late, lexical = ALONE
    if rival is not None:
        late = float(ranking.max_sims[place] - ranking.max_sims[rival])
        lexical = float(found.lexical[place] - found.lexical[rival]) / weight
    return Signals(
        said=sentence.said if sentence else 0.0,
        meaning=sentence.meaning if sentence else 0.0,
        quoted=_part(quote, weights, snapshot),
        late_margin=min(late, LATE_MARGIN),
        lexical_margin=min(lexical, LEXICAL_MARGIN),
    )


def _rival(ranking: Ranking, article: int) -> int | None:
    """The best candidate of another article, among those that were read."""
    for place in ranking.order.tolist():
        if place in ranking.read and ranking.articles[place] != article:
            return int(place)
    return None


def _part(text: str, weights: Mapping[str, float], snapshot: Snapshot) -> float:
    """The part of the weight of the question's terms that stands in `text`."""
    there = {term.text for term in snapshot.analyzer.terms(text)}
    weight = sum(weights.values())
    return sum(w for term, w in weights.items() if term in there) / weight if weight else 0.0
