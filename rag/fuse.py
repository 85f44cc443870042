"""Two rankings into one: convex combination of min-max normalised scores, and RRF beside it."""

from __future__ import annotations

import numpy as np

from rag.types import Floats, Numbers

LEXICAL_WEIGHT = 0.4
"""Part of the lexical signal in the fused score; README gives what it was chosen by."""

RRF_CONSTANT = 60
"""The constant of the paper that proposed RRF."""


def min_max(scores: Floats, *, floor: float | None = None) -> Floats:
    """Scores from 0 to 1 by the least (or `floor`) and the greatest; equal values become 1."""
    if not len(scores):
        return scores
    least = float(scores.min()) if floor is None else floor
    spread = float(scores.max()) - least
    if spread <= 0:
        return np.full(
            len(scores), 1.0 if float(scores.max()) > 0 or floor is None else 0.0, np.float32
        )
    return np.asarray((scores - least) / spread, dtype=np.float32)


def convex(lexical: Floats, dense: Floats, lexical_weight: float = LEXICAL_WEIGHT) -> Floats:
    """Weighted sum of the two signals over the same candidates, each normalised over all of them.

    The lexical floor is 0, which is no match. Bruch, Gai and Ingber 2023, doi:10.1145/3596512.
    """
    words = min_max(lexical, floor=0.0)
    meaning = min_max(dense)
    return np.asarray(lexical_weight * words + (1 - lexical_weight) * meaning, dtype=np.float32)


def reciprocal_rank(lexical: Floats, dense: Floats) -> Floats:
    """Sum of 1 / (60 + rank) over the signals; a lexical score of 0 has no rank.

    Cormack, Clarke and Buettcher 2009, doi:10.1145/1571941.1572114.
    """
    fused = np.zeros(len(dense), dtype=np.float64)
    for scores, ranked in ((lexical, lexical > 0), (dense, np.ones(len(dense), dtype=np.bool_))):
        order = np.argsort(-scores[ranked], kind="stable")
        ranks: Numbers = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(1, len(order) + 1)
        fused[ranked] += 1.0 / (RRF_CONSTANT + ranks)
    return fused.astype(np.float32)
