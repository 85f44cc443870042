"""Candidates for a question: the best by words and the best by vectors, each scored by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.lexical import Scope
from rag.snapshot import Snapshot
from rag.types import Floats, Numbers

DEPTH = 200
"""Candidates taken by each signal. Fixed, so that no score depends on how many are asked for."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union of both searches by ascending number, with the raw scores of each signal."""

    numbers: Numbers
    lexical: Floats
    dense: Floats

    def __len__(self) -> int:
        return len(self.numbers)


ByWords = tuple[Numbers, Floats]
"""The best passages by words, best first, with scores."""


def by_words(snapshot: Snapshot, terms: Sequence[str], scope: Scope, depth: int = DEPTH) -> ByWords:
    """The half of retrieval that needs no vector, so that it can be done while the model is at
    work."""
    if snapshot.lexical is None:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    return snapshot.lexical.search(terms, depth, scope)


def retrieve(
    snapshot: Snapshot,
    terms: Sequence[str],
    best_by_words: ByWords,
    vector: Floats,
    scope: Scope,
    depth: int = DEPTH,
) -> Candidates:
    """The passages within `scope` that are among the `depth` best of either signal.

    A passage that has none of the terms scores 0 by words. Where nothing is filtered, and the
    archive is large, one of the best by vectors may be missing (`vectors.FaissBase.approximate`).
    """
    if snapshot.vectors is None or snapshot.lexical is None:
        return Candidates(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))
    mask = snapshot.columns.passing(scope)
    with_words, word_scores = best_by_words
    vectors = snapshot.vectors
    by_meaning = vectors.approximate if scope.everything else vectors.search
    by_vectors, _ = by_meaning(vector, depth, mask)
    numbers = np.union1d(with_words, by_vectors)
    lexical = np.zeros(len(numbers), dtype=np.float32)
    lexical[np.searchsorted(numbers, with_words)] = word_scores
    others = np.setdiff1d(by_vectors, with_words)
    lexical[np.searchsorted(numbers, others)] = snapshot.lexical.score(terms, others)
    return Candidates(numbers, lexical, vectors.score(vector, numbers))
