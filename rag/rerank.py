"""Late interaction: the question's words against each word of a passage, and the three signals in
one score.

MaxSim (Khattab and Zaharia 2020, doi:10.1145/3397271.3401075): each word of the question takes its
greatest similarity with any word of the passage; their weighted mean is the score.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag.fuse import min_max
from rag.lexical import Term
from rag.project import PER_BYTE, expand
from rag.types import Codes, EncodedQuestion, Floats, Numbers, Places, TokenVectors

RERANKED = 50
"""Candidates that are compared word by word."""

LEXICAL, DENSE, LATE = 0.3, 0.3, 0.4
"""Parts of the three signals. Chosen among nine triples on one half of the questions of five
collections, together with weighting words by the square root of their idf; `eval/README.md`."""


COPY_COSINE = 0.02
COPY_SIMILARITY = 0.1
"""Passages of equal lexical score and equally many words, whose cosines and whose words' greatest
similarities differ by less, hold the same words."""


TOKENS_AT_ONCE = 128
"""Vectors that are expanded, 128 kB, before they are multiplied: they stay in a core's cache, and
BLAS multiplies what is so small in one thread and as it lies. On 50 passages of SciFact that took
.86 ms instead of 1.18 at once (with two threads, on busy cores, of 8)."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Alignments(Mapping[int, Alignment]):
    """The alignments of several passages, by the keys that they were given, in their order.

    `greatest`: float32 of shape (passages, words of the question), of each of these words its
    greatest similarity with any word of the passage, at least 0. `lengths`: int64 of shape
    (passages,), in words.
    """

    greatest: Floats
    lengths: Numbers
    _similarities: Floats
    _parts: Mapping[int, tuple[int, Places]]

    def __getitem__(self, key: int) -> Alignment:
        start, places = self._parts[key]
        words = self._similarities[start : start + len(places)]
        return Alignment(words[:, :-1], words[:, -1], places)

    def __contains__(self, key: object) -> bool:
        return key in self._parts

    def __iter__(self) -> Iterator[int]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def align(question: EncodedQuestion, passages: Mapping[int, TokenVectors]) -> Alignments:
    """Each passage's words against the question's."""
    lengths = np.array([len(each.places) for each in passages.values()], dtype=np.int64)
    ends = np.cumsum(lengths)
    filled = [each.codes for each in passages.values() if len(each.places)]
    similarities = _similarities(question, filled)
    greatest = greatest_in(similarities[:, :-1], ends - lengths, ends)
    starts = (ends - lengths).tolist()
    parts = {
        key: (start, each.places)
        for start, (key, each) in zip(starts, passages.items(), strict=True)
    }
    return Alignments(greatest, lengths, similarities, parts)


def _similarities(question: EncodedQuestion, codes: Sequence[Codes]) -> Floats:
    """Of all words with those of the question and, last, its vector: a row each."""
    asked = np.vstack([question.token_vectors, question.whole]).T.copy()
    together = np.concatenate(codes) if codes else np.empty((0, len(asked) // PER_BYTE), np.uint8)
    found = np.empty((len(together), asked.shape[1]), dtype=np.float32)
    for at in range(0, len(together), TOKENS_AT_ONCE):
        some = slice(at, at + TOKENS_AT_ONCE)
        np.matmul(expand(together[some]), asked, out=found[some])
    return found


def greatest_in(similarities: Floats, starts: Numbers, ends: Numbers) -> Floats:
    """Of each run of rows from one of `starts` to its end, which are in order and apart, the
    greatest in each column, at least 0: shape (runs, columns)."""
    found = np.zeros((len(starts), similarities.shape[1]), dtype=np.float32)
    filled = starts < ends
    if filled.any():
        # Every second part is what lies between two runs; it may be empty.
        bounds = np.column_stack([starts[filled], ends[filled]]).ravel()
        parts = np.maximum.reduceat(similarities[: bounds[-1]], bounds[:-1], axis=0)
        found[filled] = np.maximum(parts[::2], 0.0)
    return found


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


def max_sim(alignments: Alignments, weights: Floats) -> Floats:
    """The weighted mean of each word's greatest similarity: float32 of shape (passages,)."""
    return np.asarray(alignments.greatest @ weights, dtype=np.float32)


def first_copies(
    numbers: Numbers, lexical: Floats, dense: Floats, alignments: Alignments
) -> Numbers:
    """By passage, the place of the first one (by number) that holds the same words.

    Copies differ in a quotation mark or a space, of which the model makes something and a reader
    nothing. With the signals of their first they stay in the order in which they were added.
    """
    first: Numbers = np.arange(len(numbers), dtype=np.int64)
    alike: dict[tuple[float, int], list[int]] = defaultdict(list)
    scores, lengths = lexical.tolist(), alignments.lengths.tolist()
    for place in np.argsort(numbers).tolist():
        if not scores[place] > 0:
            continue
        # Others that the lexical score does not tell apart may stand between two copies.
        originals = alike[scores[place], lengths[place]]
        for earlier in originals:
            if abs(dense[place] - dense[earlier]) >= COPY_COSINE:
                continue
            apart = np.abs(alignments.greatest[place] - alignments.greatest[earlier])
            if apart.max(initial=0.0) < COPY_SIMILARITY:
                first[place] = earlier
                break
        else:
            originals.append(place)
    return first


def combined(lexical: Floats, dense: Floats, late: Floats, top: Numbers) -> Floats:
    """The three signals of the candidates at the places `top` in one score.

    `lexical` and `dense` are raw, of all candidates, and normalised over them as when they were
    fused; `late` is raw, of those at `top`, and normalised over these. Where it is NaN, the score
    is the mean of the other two.
    """
    words, meaning = min_max(lexical, floor=0.0)[top], min_max(dense)[top]
    mixed = LEXICAL * words + DENSE * meaning
    known = ~np.isnan(late)
    mixed[known] += LATE * min_max(late[known])
    mixed[~known] /= LEXICAL + DENSE
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
