"""Which sentences of a passage answer the question, and what each has to say for it.

Five things are looked at, each explainable: the question's words that the sentence says, or it and
the title together, the meaning of its words against that of the whole question, the kinds of answer
asked for that it holds and the question does not, and the fit of the question word itself ("who").
Their weights were fitted by `eval/fit.py` on questions whose answering sentence is known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.kind import ALSO, held, wanted
from rag.rerank import Alignment, greatest_in
from rag.types import EncodedQuestion, Floats, Kind, Mask, Numbers, Passage

COVERED, SAID, MEANING, KINDS, ASKED = 0.567, 0.917, 0.368, 0.280, 0.480
"""Weights in units of the ranking's score, fitted to half of SQuAD's and RealTimeQA's questions."""

SHARPNESS = 7.58
"""Log-odds that a unit of score makes, when a sentence is compared with others."""

ALSO_PART = 0.5
"""How much a kind counts that may also answer: a group for "who"."""

QUOTE_SENTENCES = 3
"""The longest quote."""

AS_WELL, TOGETHER = 0.3, 0.003
"""How probable, beside the best sentence, a neighbour must be to be quoted with it; the second for
one that holds a kind of answer which the others lack, as for "who resigned and when". On SQuAD a
quote of one sentence holds the answer for .804, with the first at .3 for .833, in 1.2 sentences.
The second may be so low: from .1 to .003 quotes get no longer there (mean 210 characters)."""

LEADING_WORDS = 3
"""A question without its mark has its question word among so many first ones: "in which city"."""

FRAGMENT_WORDS = 10
"""Without either, it asks at most in so many words: "date of the coup in Niger"."""

ALIGNED = 0.5
"""Similarity from which a word is shown as one that the question meant."""

FARTHEST = np.iinfo(np.uint16).max
"""Stands for this many code points before the end, or more; see TokenVectors."""

APART = 2**32
"""More code points than any text has."""

_QUESTION_WORD = re.compile(r"\b(?:who|whom|whose|when|where|which|what|why|how)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as sentences are held against it. `weights`: of its words, the sum 1;
    `question_words`: which of them are "who", "when" and the like; `shown_from`: the similarity
    with each of them from which a word is shown as one that was meant."""

    lower: str
    wants: tuple[Kind, ...]
    is_question: bool
    weights: Floats
    question_words: Mask
    shown_from: Floats


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage, in code points of its article, and its signals, each about 0 to 1;
    `holds` are the kinds asked for that it holds.

    `score` is their weighted sum, in units of the ranking's score.
    """

    start: int
    end: int
    covered: float
    said: float
    meaning: float
    kinds: float
    asked: float
    holds: frozenset[Kind] = frozenset()

    @property
    def score(self) -> float:
        """How much speaks for it."""
        return (
            COVERED * self.covered
            + SAID * self.said
            + MEANING * self.meaning
            + KINDS * self.kinds
            + ASKED * self.asked
        )


def asked(question: str, encoded: EncodedQuestion, weights: Floats) -> Asked:
    """What sentences are held against; `weights` are those of the question's words."""
    wants = wanted(question)
    spans = [match.span() for match in _QUESTION_WORD.finditer(question)]
    words: Mask = np.array([span in spans for span in encoded.offsets], dtype=np.bool_)
    # The mean of equal numbers may come out greater than each of them.
    counting = weights >= min(weights.mean(), weights.max()) if len(weights) else words
    shown_from = np.where(counting, np.float32(ALIGNED), np.float32(np.inf))
    is_question = _is_question(question, wants, spans)
    return Asked(question.lower(), wants, is_question, weights, words, shown_from)


def _is_question(
    text: str, wants: Sequence[Kind], question_words: Sequence[tuple[int, int]]
) -> bool:
    """Whether it asks, and does not state: the "who" of "those who fled" asks for nobody."""
    if not question_words:
        return bool(wants) and len(text.split()) <= FRAGMENT_WORDS
    first = len(text[: question_words[0][0]].split())
    return text.rstrip().endswith("?") or first < LEADING_WORDS


def sentences(
    passages: Sequence[Passage], alignments: Sequence[Alignment], question: Asked
) -> list[list[Sentence]]:
    """The sentences of each passage with their signals, in order."""
    found: list[list[Sentence]] = [[] for _ in passages]
    marks = [(at, *mark) for at, each in enumerate(passages) for mark in each.span.sentences]
    if not marks:
        return found
    signals = _signals(passages, alignments, question, np.array(marks)).tolist()
    for (at, start, end), (covered, said, meant, fits) in zip(marks, signals, strict=True):
        base = passages[at].span.start
        kinds = kinds_held(passages[at].text[start - base : end - base], question)
        part = sum(kinds.values()) / max(1, len(question.wants))
        found[at].append(Sentence(start, end, covered, said, meant, part, fits, frozenset(kinds)))
    return found


def _signals(
    passages: Sequence[Passage], alignments: Sequence[Alignment], question: Asked, marks: Numbers
) -> Floats:
    """What sentences cover, say, mean and fit: shape (sentences, 4). `marks`: of each, the place of
    its passage, start and end."""
    spans = [_spans(*each) for each in zip(passages, alignments, strict=True)]
    # Words of all passages in one row, those of each behind all of the one before.
    starts, ends = np.concatenate([each + at * APART for at, each in enumerate(spans)]).T
    similarities = np.concatenate([each.similarities for each in alignments])
    at, start, end = marks.T
    first = np.searchsorted(starts, start + at * APART)
    last = np.maximum(first, np.searchsorted(ends, end + at * APART, side="right"))
    nearest = greatest_in(similarities, first, last)
    begins = np.cumsum([0, *(len(each) for each in spans[:-1])])
    bases = np.array([each.span.start for each in passages]) + np.arange(len(spans)) * APART
    titles = greatest_in(similarities, begins, np.searchsorted(ends, bases, side="right"))
    words = nearest[:, question.question_words]
    whole = np.concatenate([[0.0], *(each.whole for each in alignments)]).cumsum()
    return np.column_stack(
        [
            np.maximum(nearest, titles[at]) @ question.weights,
            nearest @ question.weights,
            (whole[last] - whole[first]) / np.maximum(1, last - first),
            words.sum(axis=1) / max(1, words.shape[1]),
        ]
    )


def meaning(passage: Passage, alignment: Alignment, start: int, end: int) -> float:
    """Mean similarity of the words in [start, end), code points of the article, with the meaning of
    the whole question; 0 without words."""
    starts, ends = _spans(passage, alignment).T
    inside = (start <= starts) & (ends <= end)
    return float(alignment.whole[inside].mean()) if inside.any() else 0.0


def kinds_held(text: str, question: Asked) -> dict[Kind, float]:
    """The kinds asked for that `text` holds and the question does not say itself, with what each is
    worth: less than 1 where it is another kind that may also answer."""
    if not question.wants:
        return {}
    kinds = held(text, {each for wants in question.wants for each in (wants, *ALSO.get(wants, ()))})
    worth: dict[Kind, float] = {}
    for wants in question.wants:
        for kind in (wants, *ALSO.get(wants, ())):
            spans = kinds.get(kind, ())
            if not all(_says(question.lower, text[start:end].lower()) for start, end in spans):
                worth[wants] = 1.0 if kind == wants else ALSO_PART
                break
    return worth


def _says(question: str, words: str) -> bool:
    """Whether a question has these words, and not in a longer number: 2024 does not say 20."""
    at = question.find(words)
    while at >= 0:
        before, behind = question[max(0, at - 1) : at], question[at + len(words) :][:1]
        longer = (before + words[:1], words[-1:] + behind)
        if not any(len(pair) == 2 and pair.isdigit() for pair in longer):
            return True
        at = question.find(words, at + 1)
    return False


def aligned_words(
    passage: Passage, alignment: Alignment, question: Asked, within: tuple[int, int]
) -> list[tuple[int, int]]:
    """The words of a part of a passage that stand for words of the question that count, in order,
    in code points of the article."""
    spans = _spans(passage, alignment)
    inside = (spans[:, 0] >= within[0]) & (spans[:, 1] <= within[1])
    near = (alignment.similarities[inside] >= question.shown_from).any(axis=1)
    found: list[tuple[int, int]] = []
    for start, end in spans[inside][near].tolist():
        word = _whole_word(passage, start, end)
        if not found or found[-1] != word:
            found.append(word)
    return found


def _spans(passage: Passage, alignment: Alignment) -> Numbers:
    """Where each word starts and ends, in code points of the article; before the passage for those
    of the title, and for what is too far from the end to be told."""
    spans: Numbers = passage.span.end - alignment.places.astype(np.int64)
    spans[alignment.places == FARTHEST] = passage.span.start - 1
    return spans


def _whole_word(passage: Passage, start: int, end: int) -> tuple[int, int]:
    """The word of which a part stands at [start, end)."""
    base, text = passage.span.start, passage.text
    while start > base and text[start - 1 - base].isalnum():
        start -= 1
    while end < passage.span.end and text[end - base].isalnum():
        end += 1
    return start, end


def best_run(passage: Passage, found: Sequence[Sentence]) -> tuple[int, int]:
    """The (first, last + 1) of the sentences to quote: the best one, and of its neighbours in the
    paragraph those that may as well be it, or that hold a kind asked for that it lacks."""
    scores = [each.score for each in found]
    best = scores.index(max(scores))
    chances = [math.exp((score - scores[best]) * SHARPNESS) for score in scores]
    first, last = best, best
    while last - first + 1 < QUOTE_SENTENCES:
        held_so_far = frozenset().union(*(each.holds for each in found[first : last + 1]))
        nearby = [
            (chances[at], at)
            for at, between in ((first - 1, first - 1), (last + 1, last))
            if 0 <= at < len(found)
            and not _paragraph_ends(passage, found[between])
            and chances[at] >= (TOGETHER if found[at].holds - held_so_far else AS_WELL)
        ]
        if not nearby:
            break
        _, at = max(nearby)
        first, last = min(first, at), max(last, at)
    return first, last + 1


def _paragraph_ends(passage: Passage, sentence: Sentence) -> bool:
    """Whether a line ends behind a sentence."""
    rest = passage.text[sentence.end - passage.span.start :]
    return "\n" in rest[: len(rest) - len(rest.lstrip())]
