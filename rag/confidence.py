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

from rag.rank import Ranking, Read
from rag.snapshot import Snapshot

THRESHOLD = 0.5
"""`answered` is a confidence of at least this, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the best citation has to say for itself, as numbers that need no other passage but the
    margins: these are over the best citation of another article, or over 0 without one."""

    late: float
    covered: float
    meaning: float
    quoted: float
    """Part of the weight of the question's terms that stands in the quoted sentence."""
    named: float
    """The same of the passage and its title."""
    weakest: float
    """Mean similarity of the two words of the question that fit worst, of those that count."""
    unknown: float
    """Part of the weight of the question's terms that no passage of the archive has."""
    rarity: float
    """Mean weight of the question's terms."""
    late_margin: float
    lexical_margin: float
    """Of the lexical scores, each divided by the weight of the question's terms."""


WEAKEST = 2
"""So many words are looked at for `Signals.weakest`."""

COEFFICIENTS: Mapping[str, float] = {}
INTERCEPT = 0.0


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
    whole = f"{best.article.title}\n{best.passage.text}"
    late, lexical = (
        float(values[place]) - (float(values[rival]) if rival is not None else 0.0)
        for values in (ranking.max_sims, found.lexical)
    )
    assert snapshot.lexical is not None
    absent = sum(w for term, w in weights.items() if not snapshot.lexical.frequency(term))
    return Signals(
        late=float(ranking.max_sims[place]),
        covered=sentence.covered if sentence else 0.0,
        meaning=sentence.meaning if sentence else 0.0,
        quoted=_part(quote, weights, snapshot),
        named=_part(whole, weights, snapshot),
        weakest=_weakest(best, ranking),
        unknown=absent / weight,
        rarity=weight / max(1, len(weights)),
        late_margin=late,
        lexical_margin=lexical / weight,
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


def _weakest(best: Read, ranking: Ranking) -> float:
    assert ranking.asked is not None
    part = ranking.asked.weights
    if not len(part):
        return 0.0
    counting = best.alignment.greatest()[part >= part.max() / 2]
    return float(np.sort(counting)[:WEAKEST].mean())
