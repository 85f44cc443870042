"""How probable it is that the best citation answers the question.

A logistic regression over four raw signals. `eval/fit.py` fitted it to questions asked of archives
that hold their answer, and of the same archives with it left out: of all articles of each, and of
one to four hundred, so that it means the same whether an archive is small or large.
`eval/README.md` says which, and how well it holds on others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from rag.evidence import FARTHEST, meaning
from rag.interpret import nearness
from rag.rank import Ranking, content
from rag.snapshot import Snapshot

THRESHOLD = 0.45
"""`answered` is a confidence of at least this, unless set otherwise. Of the steps of .05 it is the
least at which three of four answers are right on the half of SQuAD that was fitted to (.77)."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the first quote has to say for itself: numbers that need no other passage, but for the
    margin."""

    covered: float
    """Part of the question's terms that stand in the quote or its title, 0 to 1."""
    meaning: float
    """Mean similarity of the quote's words with the meaning of the whole question."""
    late: float
    """MaxSim of the passage."""
    margin: float
    """By how much that is greater than that of another article, see RIVAL."""


RIVAL = 0.1
"""The margin is over the last of this part, rounded up, of the other articles that were re-ranked,
best first. The next one alone would not do in a large archive: it may be a copy of the best or say
the same. One at a fixed place would not do in a small one, where it is about something else."""

ALONE = 0.15
"""The margin where there is no other article."""

COEFFICIENTS: Mapping[str, float] = {
    "covered": 2.643,
    "meaning": 4.960,
    "late": 2.425,
    "margin": 4.382,
}
INTERCEPT = -5.620
"""Fitted to half of the questions of SQuAD, RealTimeQA and SciFact."""

UNMET = 0.2
"""Factor where the question names days or sources of which the best citation is not. It was not
fitted: no set at hand asks for what happened on another day."""

MET_NEARNESS = 0.5
"""An article is of a period that is named if it was published in it or in the weeks after, until
its gain in the ranking has fallen to this part; see interpret.nearness."""


def confidence(signals: Signals) -> float:
    """The probability, 0 to 1."""
    log_odds = INTERCEPT + sum(
        COEFFICIENTS[name] * value for name, value in asdict(signals).items()
    )
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, log_odds))))


def sure(snapshot: Snapshot, ranking: Ranking) -> float | None:
    """The probability, 0 to 1, that the best citation answers; None where there is none, or it has
    no token vectors."""
    found = signals(snapshot, ranking)
    if found is None:
        return None
    return confidence(found) * (1.0 if cues_met(snapshot, ranking) else UNMET)


def signals(snapshot: Snapshot, ranking: Ranking) -> Signals | None:
    """Those of the best citation; None where there is none, or it has no token vectors."""
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
    wanted = content(snapshot, ranking.question, ranking.weights).keys()
    said = {term.text for term in snapshot.analyzer.terms(f"{best.article.title}\n{quote}")}
    return Signals(
        covered=len(wanted & said) / len(wanted) if wanted else 0.0,
        meaning=meaning(best.passage, best.alignment, start, end),
        late=float(ranking.max_sims[place]),
        margin=_margin(ranking, place),
    )


def cues_met(snapshot: Snapshot, ranking: Ranking) -> bool:
    """Whether the best citation is of a day and of a source that the question names, or says so
    itself; where it names none, it is."""
    place = int(ranking.order[0])
    best, article = ranking.read[place], ranking.articles[[place]]
    columns, read = snapshot.columns, ranking.question.interpreted
    text = f"{best.article.title}\n{best.passage.text}"
    said = {term.text for term in snapshot.analyzer.terms(text)}

    def says(words: str) -> bool:
        return said.issuperset(snapshot.analyzer.question_terms(words))

    first, last = columns.first[article], columns.last[article]
    of_period = not read.periods or any(
        nearness(each, first, last)[0] >= MET_NEARNESS or says(each.text) for each in read.periods
    )
    of_source = not read.sources or any(
        best.article.source == each.source or says(each.text) for each in read.sources
    )
    return of_period and of_source


def _margin(ranking: Ranking, place: int) -> float:
    """See Signals.margin; `ALONE` where no other article was re-ranked.

    Copies of the best, which have just its score (see rerank.first_copies), are none.
    """
    others: dict[int, float] = {}
    for at in np.flatnonzero(~np.isnan(ranking.max_sims)).tolist():
        article = int(ranking.articles[at])
        others[article] = max(others.get(article, -np.inf), float(ranking.max_sims[at]))
    others.pop(int(ranking.articles[place]))
    best = float(ranking.max_sims[place])
    scores = sorted((score for score in others.values() if score != best), reverse=True)
    if not scores:
        return ALONE
    return best - scores[math.ceil(RIVAL * len(scores)) - 1]
