"""All candidates of one question in order: retrieve → fuse → rerank → understand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from rag.cite import term_weights
from rag.evidence import Asked, Sentence, asked, best_run, sentences
from rag.fuse import convex
from rag.interpret import boost
from rag.lexical import Scope
from rag.rerank import (
    RERANKED,
    Alignment,
    align,
    combined,
    first_copies,
    followed,
    max_sim,
    word_weights,
)
from rag.retrieve import Candidates, retrieve
from rag.snapshot import Columns, Snapshot
from rag.types import ArticleHead, EncodedQuestion, Floats, Interpreted, Numbers, Passage

READ = 10
"""Passages whose sentences are looked at; the answer is hardly ever in a later one."""


BESIDE_SENTENCES = 3.0
"""Factor of the boosts where sentences add to the score, which then spreads more. On one half of
RealTimeQA's questions nDCG@10 is .802 with 1, .822 with 2, .828 with 3 and .834 with 6."""


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._took_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens in the context as `name`; added up if it happens again."""
        began = time.perf_counter()
        yield
        took = (time.perf_counter() - began) * 1000
        self._took_ms[name] = round(self._took_ms.get(name, 0.0) + took, 3)

    def stop(self) -> dict[str, float]:
        """All stages, and the total since the start."""
        return self._took_ms | {"total": round((time.perf_counter() - self._began) * 1000, 3)}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the text as the archive has texts, its vectors, and how it was read."""

    text: str
    encoded: EncodedQuestion
    interpreted: Interpreted
    scope: Scope


@dataclass(frozen=True, slots=True)
class Read:
    """A passage that was looked at word by word; `found` are its sentences with their signals."""

    passage: Passage
    article: ArticleHead
    alignment: Alignment
    found: Sequence[Sentence]

    @property
    def quoted(self) -> tuple[int, int] | None:
        """What is quoted of it, in code points of the article; None where the title is all."""
        if not self.found:
            return None
        first, last = best_run(self.passage, self.found)
        return self.found[first].start, self.found[last - 1].end

    @property
    def gain(self) -> float:
        """What its best sentence adds to the passage's score: never less than nothing, or what was
        not read would pass what was."""
        return max([0.0, *(sentence.score for sentence in self.found)])


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one question found, by place among the candidates.

    `fused`, `late` and `understood` are the scores after each stage; the last gives `order`
    (places, best first). `max_sims` is the raw late signal, NaN for candidates that were not
    re-ranked. `weights`: of the question's terms. `asked` is None for an archive without token
    vectors, which is ranked without them.
    """

    question: Question
    candidates: Candidates
    articles: Numbers
    fused: Floats
    late: Floats
    understood: Floats
    order: Numbers
    max_sims: Floats
    terms: Sequence[str]
    weights: Mapping[str, float]
    asked: Asked | None
    read: Mapping[int, Read]
    clock: Stopwatch = field(repr=False)


def rank(
    snapshot: Snapshot, question: Question, depth: int, lexical_weight: float, clock: Stopwatch
) -> Ranking:
    """Rank what the two searches find, `depth` passages each."""
    with clock.stage("retrieve"):
        terms = snapshot.analyzer.question_terms(question.text)
        found = retrieve(snapshot, terms, question.encoded.vector, question.scope, depth)
        weights = _weights(snapshot, terms)
    with clock.stage("fuse"):
        fused = convex(found.lexical, found.dense, lexical_weight)
        articles = snapshot.columns.article[found.numbers]
        boosts = _boosts(question.interpreted, snapshot.columns, articles)
    with clock.stage("rerank"):
        reranked = _reranked(snapshot, question, found, fused, boosts, weights)
    with clock.stage("understand"):
        read = _read(snapshot, found, reranked)
        understood = reranked.understood.copy()
        if reranked.asked and reranked.asked.is_question:
            for place, each in read.items():
                understood[place] += each.gain + (BESIDE_SENTENCES - 1) * boosts[place]
        order = _order(found, understood)
    return Ranking(
        question,
        found,
        articles,
        fused,
        reranked.late,
        understood,
        order,
        reranked.max_sims,
        terms,
        weights,
        reranked.asked,
        read,
        clock,
    )


def read_closely(snapshot: Snapshot, ranking: Ranking, places: Sequence[int]) -> dict[int, Read]:
    """The sentences of the candidates at `places`; none without token vectors."""
    missing = [place for place in places if place not in ranking.read]
    numbers = ranking.candidates.numbers[missing].tolist() if missing else []
    vectors = snapshot.token_vectors(numbers) if ranking.asked else {}
    aligned = {}
    if len(vectors) == len(numbers):
        found = align(ranking.question.encoded, [vectors[number] for number in numbers])
        aligned = dict(zip(missing, found, strict=True))
    more = _sentences(snapshot, ranking.candidates, aligned, ranking.asked)
    return {
        place: ranking.read.get(place) or more[place]
        for place in places
        if place in more or place in ranking.read
    }


def content(
    snapshot: Snapshot, question: Question, weights: Mapping[str, float]
) -> dict[str, float]:
    """The weights of the question's terms without those that name a day or a source, which need
    not stand in the text."""
    read = question.interpreted
    named = [*(each.text for each in read.periods), *(each.text for each in read.sources)]
    cues = {term.text for text in named for term in snapshot.analyzer.terms(text)}
    return {term: weight for term, weight in weights.items() if term not in cues}


@dataclass(frozen=True, slots=True)
class _Reranked:
    late: Floats
    understood: Floats
    max_sims: Floats
    asked: Asked | None
    alignments: Mapping[int, Alignment]


def _reranked(
    snapshot: Snapshot,
    question: Question,
    found: Candidates,
    fused: Floats,
    boosts: Floats,
    weights: Mapping[str, float],
) -> _Reranked:
    """The three signals together for the first candidates, with the boosts and without."""
    boosted = fused + boosts
    plain, top = _order(found, fused)[:RERANKED], _order(found, boosted)[:RERANKED]
    places = np.union1d(plain, top)
    numbers = found.numbers[places].tolist()
    vectors = snapshot.token_vectors(numbers)
    max_sims = np.full(len(found), np.nan, dtype=np.float32)
    if len(vectors) < len(numbers) or not numbers:
        return _Reranked(fused, boosted, max_sims, None, {})
    alignments = align(question.encoded, [vectors[number] for number in numbers])
    terms = snapshot.analyzer.terms(question.text)
    word_part = word_weights(question.encoded, terms, content(snapshot, question, weights))
    first = first_copies(np.array(numbers), found.lexical[places], found.dense[places], alignments)
    max_sims[places] = max_sim(alignments, word_part)[first]
    first_place = np.arange(len(found))
    first_place[places] = places[first]

    def scores(those: Numbers) -> Floats:
        mixed = np.zeros(len(found), dtype=np.float32)
        mixed[those] = combined(found.lexical, found.dense, max_sims[those], those)
        copied = mixed[first_place[those]]
        return np.where(np.isin(first_place[those], those), copied, mixed[those])

    late = followed(fused, plain, scores(plain))
    understood = followed(boosted, top, scores(top) + boosts[top])
    by_place = dict(zip(places.tolist(), alignments, strict=True))
    return _Reranked(
        late, understood, max_sims, asked(question.text, question.encoded, word_part), by_place
    )


def _read(snapshot: Snapshot, found: Candidates, reranked: _Reranked) -> dict[int, Read]:
    if reranked.asked is None:
        return {}
    first = _order(found, reranked.understood)[:READ].tolist()
    aligned = {place: reranked.alignments[place] for place in first if place in reranked.alignments}
    return _sentences(snapshot, found, aligned, reranked.asked)


def _sentences(
    snapshot: Snapshot, found: Candidates, aligned: Mapping[int, Alignment], question: Asked | None
) -> dict[int, Read]:
    if question is None or not aligned:
        return {}
    stored = snapshot.passages(found.numbers[list(aligned)].tolist())
    read = {}
    for place, alignment in aligned.items():
        passage, article = stored[int(found.numbers[place])]
        read[place] = Read(passage, article, alignment, sentences(passage, alignment, question))
    return read


def _order(found: Candidates, scores: Floats) -> Numbers:
    return np.lexsort((found.numbers, -scores))


def _boosts(interpreted: Interpreted, columns: Columns, articles: Numbers) -> Floats:
    named = [columns.sources[each.source] for each in interpreted.sources]
    of_source = np.isin(columns.source[articles], named)
    return boost(interpreted, columns.first[articles], columns.last[articles], of_source)


def _weights(snapshot: Snapshot, terms: Sequence[str]) -> dict[str, float]:
    if snapshot.lexical is None:
        return {}
    return term_weights(terms, snapshot.lexical.frequency, snapshot.lexical.documents)
