"""Which sentences of a passage answer the question, and what each has to say for it.

Four things are looked at, each explainable: the question's words that the sentence or the title
covers, the meaning of its words against that of the whole question, the kinds of answer asked for
that it holds and the question does not, and the fit of the question word itself ("who", "when").
Their weights were fitted by `eval/fit.py` on questions whose answering sentence is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.kind import ALSO, held, wanted
from rag.rerank import Alignment
from rag.types import EncodedQuestion, Floats, Kind, Mask, Passage

COVERED, MEANING, KINDS, ASKED = 1.33, 0.38, 0.23, 0.59
"""Weights in units of the ranking's score."""

SHARPNESS = 8.15
"""Log-odds that a unit of score makes, when a sentence is compared with others."""

ALSO_PART = 0.5
"""How much a kind counts that may also answer: a group for "who"."""

QUOTE_SENTENCES = 3
"""The longest quote."""

QUOTE_CERTAINTY = 0.8
"""A quote grows until it holds the answering sentence with this probability, were it in the
passage."""

ALIGNED = 0.5
"""Similarity from which a word is shown as one that the question meant."""

_QUESTION_WORD = re.compile(r"\b(?:who|whom|whose|when|where|which|what|why|how)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as sentences are held against it. `weights`: of its words, the sum 1;
    `question_words`: which of them are "who", "when" and the like."""

    lower: str
    wants: tuple[Kind, ...]
    is_question: bool
    weights: Floats
    question_words: Mask


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage, in code points of its article, and its signals, each about 0 to 1.

    `score` is their weighted sum, in units of the ranking's score.
    """

    start: int
    end: int
    covered: float
    meaning: float
    kinds: float
    asked: float

    @property
    def score(self) -> float:
        """How much speaks for it."""
        return (
            COVERED * self.covered
            + MEANING * self.meaning
            + KINDS * self.kinds
            + ASKED * self.asked
        )


def asked(question: str, encoded: EncodedQuestion, weights: Floats) -> Asked:
    """What sentences are held against; `weights` are those of the question's words."""
    wants = wanted(question)
    spans = [match.span() for match in _QUESTION_WORD.finditer(question)]
    words: Mask = np.array([span in spans for span in encoded.offsets], dtype=np.bool_)
    is_question = bool(wants) or (bool(spans) and question.rstrip().endswith("?"))
    return Asked(question.lower(), wants, is_question, weights, words)


def sentences(passage: Passage, alignment: Alignment, question: Asked) -> list[Sentence]:
    """The sentences of a passage with their signals, in order."""
    starts, ends = (passage.span.end - alignment.places.astype(np.int64)).T
    title = alignment.similarities[ends <= passage.span.start].max(axis=0, initial=0.0)
    found = []
    for start, end in passage.span.sentences:
        inside = (start <= starts) & (ends <= end)
        nearest = alignment.similarities[inside].max(axis=0, initial=0.0)
        text = passage.text[start - passage.span.start : end - passage.span.start]
        words = nearest[question.question_words]
        found.append(
            Sentence(
                start,
                end,
                float(np.maximum(nearest, title) @ question.weights),
                float(alignment.whole[inside].mean()) if inside.any() else 0.0,
                kinds_held(text, question),
                float(words.mean()) if len(words) else 0.0,
            )
        )
    return found


def kinds_held(text: str, question: Asked) -> float:
    """The part of the kinds asked for that `text` holds and the question does not say itself."""
    if not question.wants:
        return 0.0
    kinds = held(text)

    def part(kind: Kind) -> float:
        for worth, each in ((1.0, kind), *((ALSO_PART, also) for also in ALSO.get(kind, ()))):
            spans = kinds.get(each, ())
            if any(text[start:end].lower() not in question.lower for start, end in spans):
                return worth
        return 0.0

    return sum(map(part, question.wants)) / len(question.wants)


def aligned_words(passage: Passage, alignment: Alignment, question: Asked) -> list[tuple[int, int]]:
    """The words of a passage that stand for words of the question that count, in order, in code
    points of the article."""
    weights = question.weights
    # The mean of equal numbers may come out greater than each of them.
    counting = weights >= min(weights.mean(), weights.max()) if len(weights) else slice(0)
    near = (alignment.similarities[:, counting] >= ALIGNED).any(axis=1)
    places = alignment.places[near].astype(np.int64)
    found: list[tuple[int, int]] = []
    for start, end in (passage.span.end - places).tolist():
        if start < passage.span.start:
            continue  # a word of the title
        word = _whole_word(passage, start, end)
        if not found or found[-1] != word:
            found.append(word)
    return found


def _whole_word(passage: Passage, start: int, end: int) -> tuple[int, int]:
    """The word of which a part stands at [start, end)."""
    base, text = passage.span.start, passage.text
    while start > base and text[start - 1 - base].isalnum():
        start -= 1
    while end < passage.span.end and text[end - base].isalnum():
        end += 1
    return start, end


def best_run(found: Sequence[Sentence]) -> tuple[int, int]:
    """The (first, last + 1) of the sentences to quote: the shortest run of neighbours that holds
    the answering one with `QUOTE_CERTAINTY`, three at most; of equally short ones the likeliest."""
    scores = np.array([each.score for each in found]) * SHARPNESS
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    longest = min(QUOTE_SENTENCES, len(found))
    for length in range(1, longest + 1):
        sums = np.convolve(chances, np.ones(length), mode="valid")
        first = int(sums.argmax())
        if sums[first] >= QUOTE_CERTAINTY or length == longest:
            return first, first + length
    raise AssertionError("a passage has a sentence")
