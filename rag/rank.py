"""All candidates of one question in order: retrieve → fuse → rerank → understand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
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
    Alignments,
    align,
    combined,
    first_copies,
    followed,
    max_sim,
    word_weights,
)
from rag.retrieve import ByWords, Candidates, retrieve
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
    """What is asked: the text as the archive has texts, its terms, its vectors, and how it was
    read; and the best passages by words, which are looked for while it is encoded."""

    text: str
    terms: Sequence[str]
    encoded: EncodedQuestion
    interpreted: Interpreted
    scope: Scope
    by_words: Future[ByWords]


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
    re-ranked, and `alignments` what it was made from. `weights`: of the question's terms. `asked`
    is None for an archive without token vectors, which is ranked without them. `lost`: numbers of
    the passages that were to be re-ranked and have none.
    """

    question: Question
    candidates: Candidates
    articles: Numbers
    fused: Floats
    late: Floats
    understood: Floats
    order: Numbers
    max_sims: Floats
    alignments: Mapping[int, Alignment]
    weights: Mapping[str, float]
    asked: Asked | None
    read: Mapping[int, Read]
    lost: frozenset[int]
    clock: Stopwatch = field(repr=False)


def rank(
    snapshot: Snapshot, question: Question, depth: int, lexical_weight: float, clock: Stopwatch
) -> Ranking:
    """Rank what the two searches find, `depth` passages each."""
    with clock.stage("retrieve"):
        words, vector = question.by_words.result(), question.encoded.vector
        found = retrieve(snapshot, question.terms, words, vector, question.scope, depth)
        weights = _weights(snapshot, question.terms)
    with clock.stage("fuse"):
        fused = convex(found.lexical, found.dense, lexical_weight)
        articles = snapshot.columns.article[found.numbers]
        boosts = _boosts(question.interpreted, snapshot.columns, articles)
    with clock.stage("rerank"):
        reranked = _reranked(snapshot, question, found, fused, boosts, weights)
    with clock.stage("understand"):
        first = _order(found, reranked.understood)[:READ].tolist()
        asking, understood = None, reranked.understood
        read: Mapping[int, Read] = {}
        if reranked.alignments:
            asking = asked(question.text, question.encoded, reranked.word_part)
            aligned = {at: reranked.alignments[at] for at in first if at in reranked.alignments}
            read = _sentences(snapshot, found, aligned, asking)
            if asking.is_question:
                understood = _understood(understood, boosts, first, read)
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
        reranked.alignments,
        weights,
        asking,
        read,
        reranked.lost,
        clock,
    )


def read_closely(snapshot: Snapshot, ranking: Ranking, places: Sequence[int]) -> dict[int, Read]:
    """The sentences of the candidates at `places`; none of those without token vectors."""
    if ranking.asked is None:
        return {}
    unread = [place for place in places if place not in ranking.read]
    aligned = {place: ranking.alignments[place] for place in unread if place in ranking.alignments}
    if missing := [place for place in unread if place not in aligned]:
        found = _aligned(snapshot, ranking.question, ranking.candidates, np.array(missing))
        aligned |= dict(found)
    more = _sentences(snapshot, ranking.candidates, aligned, ranking.asked)
    read = {**ranking.read, **more}
    return {place: read[place] for place in places if place in read}


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
    alignments: Mapping[int, Alignment]
    word_part: Floats
    lost: frozenset[int]


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
    plain = _order(found, fused)[:RERANKED]
    top = _order(found, boosted)[:RERANKED] if boosts.any() else plain
    wanted = np.union1d(plain, top)
    alignments = _aligned(snapshot, question, found, wanted)
    places = np.array(list(alignments), dtype=np.int64)
    lost = frozenset(found.numbers[list({*wanted.tolist()} - {*alignments})].tolist())
    max_sims = np.full(len(found), np.nan, dtype=np.float32)
    if not alignments:
        return _Reranked(fused, boosted, max_sims, {}, np.empty(0, np.float32), lost)
    terms = snapshot.analyzer.terms(question.text)
    word_part = word_weights(question.encoded, terms, content(snapshot, question, weights))
    first = first_copies(
        found.numbers[places], found.lexical[places], found.dense[places], alignments
    )
    max_sims[places] = max_sim(alignments, word_part)[first]
    first_place = np.arange(len(found))
    first_place[places] = places[first]

    def scores(those: Numbers) -> Floats:
        mixed = np.full(len(found), np.nan, dtype=np.float32)
        mixed[those] = combined(found.lexical, found.dense, max_sims[those], those)
        copied = mixed[first_place[those]]
        return np.where(np.isnan(copied), mixed[those], copied)

    late = followed(fused, plain, scores(plain))
    understood = late if top is plain else followed(boosted, top, scores(top) + boosts[top])
    return _Reranked(late, understood, max_sims, alignments, word_part, lost)


def _aligned(
    snapshot: Snapshot, question: Question, found: Candidates, places: Numbers
) -> Alignments:
    """The candidates at `places` that have token vectors, by place."""
    numbers = dict(zip(places.tolist(), found.numbers[places].tolist(), strict=True))
    vectors = snapshot.token_vectors(list(numbers.values()))
    having = {place: vectors[number] for place, number in numbers.items() if number in vectors}
    return align(question.encoded, having)


def _understood(
    before: Floats, boosts: Floats, first: Sequence[int], read: Mapping[int, Read]
) -> Floats:
    """Scores with what the best sentence of each of the `first` has to say.

    One whose token vectors are lost counts as saying as much as any: the passage that answers would
    else be behind all that were read (on SQuAD, where it has lost its own, first for .25 of the
    questions instead of .87).
    """
    most = max((each.gain for each in read.values()), default=0.0)
    after = before.copy()
    for place in first:
        gain = read[place].gain if place in read else most
        after[place] += gain + (BESIDE_SENTENCES - 1) * boosts[place]
    return after


def _sentences(
    snapshot: Snapshot, found: Candidates, aligned: Mapping[int, Alignment], question: Asked
) -> dict[int, Read]:
    stored = snapshot.passages(found.numbers[list(aligned)].tolist())
    of = [stored[number] for number in found.numbers[list(aligned)].tolist()]
    alignments = list(aligned.values())
    said = sentences([passage for passage, _ in of], alignments, question)
    return {place: Read(*of[at], alignments[at], said[at]) for at, place in enumerate(aligned)}


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
