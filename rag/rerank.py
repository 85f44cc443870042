"""Late interaction: the question's words against each word of a passage, and the three signals in
one score.

MaxSim (Khattab and Zaharia 2020, doi:10.1145/3397271.3401075): each word of the question takes its
greatest similarity with any word of the passage; their weighted mean is the score.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag.fuse import min_max
from rag.lexical import Term
from rag.project import expand
from rag.types import EncodedQuestion, Floats, Numbers, Places, TokenVectors

RERANKED = 50
"""Candidates that are compared word by word."""

LEXICAL, DENSE, LATE = 0.3, 0.3, 0.4
"""Parts of the three signals. Chosen among nine triples on one half of the questions of five
collections, together with weighting words by the square root of their idf; `eval/README.md`."""


COPY_COSINE = 0.02
COPY_SIMILARITY = 0.1
"""Passages of equal lexical score and equally many words, whose cosines and whose words' greatest
similarities differ by less, hold the same words."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A passage's words against the question's.

    `similarities`: float32 of shape (words of the passage, words of the question). `whole`: float32
    of shape (words of the passage,), their similarity with the question's vector. `places`: as in
    TokenVectors.
    """

    similarities: Floats
    whole: Floats
    places: Places

    def greatest(self) -> Floats:
        """Of each word of the question, its greatest similarity: shape (words of the question,)."""
        return np.asarray(self.similarities.max(axis=0, initial=0.0), dtype=np.float32)


def align(question: EncodedQuestion, passages: Sequence[TokenVectors]) -> list[Alignment]:
    """Each passage's words against the question's, in one matrix product over all passages."""
    if not passages:
        return []
    asked = np.vstack([question.token_vectors, question.whole])
    filled = [each.codes for each in passages if len(each.codes)]
    codes = np.concatenate(filled) if filled else np.empty((0, asked.shape[1] // 4), np.uint8)
    similarities = expand(codes) @ asked.T
    ends = np.cumsum([len(each.codes) for each in passages])
    parts = np.split(similarities, ends[:-1])
    return [
        Alignment(part[:, :-1], part[:, -1], each.places)
        for part, each in zip(parts, passages, strict=True)
    ]


def word_weights(
    question: EncodedQuestion, terms: Sequence[Term], weights: Mapping[str, float]
) -> Floats:
    """How much each word of the question counts: shape (words,), the sum 1 (0 without words).

    It is the square root of the weight of its term. On half of five collections' questions that was
    best in the mean (nDCG@10 .752; the idf itself .750, equal weights .744): equal weights lose .02
    on news articles, the idf .01 on SciFact's claims.
    """
    found = [
        max(
            (math.sqrt(weights.get(t.text, 0.0)) for t in terms if t.start < end and start < t.end),
            default=0.0,
        )
        for start, end in question.offsets
    ]
    total = sum(found)
    if not total:
        return np.full(len(found), 1 / max(1, len(found)), dtype=np.float32)
    return np.asarray(found, dtype=np.float32) / np.float32(total)


def max_sim(alignments: Sequence[Alignment], weights: Floats) -> Floats:
    """The weighted mean of each word's greatest similarity: float32 of shape (passages,)."""
    return np.array([each.greatest() @ weights for each in alignments], dtype=np.float32)


def first_copies(
    numbers: Numbers, lexical: Floats, dense: Floats, alignments: Sequence[Alignment]
) -> Numbers:
    """By passage, the place of the first one (by number) that holds the same words.

    Copies differ in a quotation mark or a space, of which the model makes something and a reader
    nothing. With the signals of their first they stay in the order in which they were added.
    """
    first: Numbers = np.arange(len(numbers), dtype=np.int64)
    alike: dict[tuple[float, int], list[int]] = defaultdict(list)
    for place in np.argsort(numbers).tolist():
        if not lexical[place] > 0:
            continue
        words = alignments[place]
        # Others that the lexical score does not tell apart may stand between two copies.
        originals = alike[float(lexical[place]), len(words.places)]
        for earlier in originals:
            if abs(dense[place] - dense[earlier]) >= COPY_COSINE:
                continue
            apart = np.abs(words.greatest() - alignments[earlier].greatest())
            if apart.max(initial=0.0) < COPY_SIMILARITY:
                first[place] = earlier
                break
        else:
            originals.append(place)
    return first


def combined(lexical: Floats, dense: Floats, late: Floats, top: Numbers) -> Floats:
    """The three signals of the candidates at the places `top` in one score.

    `lexical` and `dense` are raw, of all candidates, and normalised over them as when they were
    fused; `late` is raw, of those at `top`, and normalised over these.
    """
    words, meaning = min_max(lexical, floor=0.0)[top], min_max(dense)[top]
    mixed = LEXICAL * words + DENSE * meaning + LATE * min_max(late)
    return np.asarray(mixed, dtype=np.float32)


def followed(before: Floats, top: Numbers, scores: Floats) -> Floats:
    """`scores` at the places `top`; behind them the other candidates in the order of `before`."""
    after = before.copy()
    others = np.ones(len(before), dtype=np.bool_)
    others[top] = False
    if others.any() and len(top):
        greatest = float(before[others].max())
        # Equal scores go by number, so that equal would not be behind.
        least = float(np.nextafter(scores.min(), np.float32(-np.inf)))
        if greatest > least:
            after[others] += np.float32(least - greatest)
            after[others] = np.minimum(after[others], np.float32(least))
    after[top] = scores
    return after
