"""The read path: question → interpret → retrieve → fuse → cite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

import numpy as np

from rag.archive import Archive
from rag.cite import cite, collapse, term_weights
from rag.errors import InvalidRequest
from rag.fuse import LEXICAL_WEIGHT, convex
from rag.interpret import boost, interpret
from rag.lexical import Scope
from rag.naming import NO_NAMES, SourceNames, source_names
from rag.normalise import normalise_text
from rag.retrieve import DEPTH, Candidates, retrieve
from rag.snapshot import Columns, Fingerprint, Snapshot
from rag.tokens import DEFAULT_ENCODING, TokenCounter, token_counter
from rag.types import (
    Answer,
    Budget,
    EncodedQuestion,
    Encoder,
    Filters,
    Floats,
    Hit,
    Interpreted,
    Numbers,
    Scores,
    SearchResult,
    Verification,
)

TOP_K = 5
TOP_K_MOST = 100

QUESTION_CHARACTERS = 8_000
"""The longest question."""

NO_FILTERS = Filters()


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._took_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens in the context as `name`."""
        began = time.perf_counter()
        yield
        self._took_ms[name] = round((time.perf_counter() - began) * 1000, 3)

    def stop(self) -> dict[str, float]:
        """All stages, and the total since the start."""
        return self._took_ms | {"total": round((time.perf_counter() - self._began) * 1000, 3)}


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one question found: candidates with their article numbers and scores, fused and then
    with what was understood of the question; the order that the latter give (places, best first),
    and what was asked."""

    candidates: Candidates
    fused: Floats
    understood: Floats
    articles: Numbers
    order: Numbers
    interpreted: Interpreted
    scope: Scope
    terms: Sequence[str]
    encoded: EncodedQuestion
    clock: Stopwatch = field(repr=False)


class Searcher:
    """Asks an archive. Safe for threads."""

    def __init__(
        self,
        archive: Archive,
        encoder: Encoder,
        *,
        lexical_weight: float = LEXICAL_WEIGHT,
        question_characters: int = QUESTION_CHARACTERS,
    ) -> None:
        """Raises IndexMismatch if the archive was built with another model."""
        self.archive = archive
        self._encoder = encoder
        self._lexical_weight = lexical_weight
        self._question_characters = question_characters
        self._fingerprint = Fingerprint({"encoder": encoder.fingerprint}, encoder.name)
        self._names: tuple[Columns | None, SourceNames] = (None, NO_NAMES)
        self._day: str | None = None
        archive.require(self._fingerprint)

    def on(self, day: str) -> Self:
        """The same searcher, to which today is `day`, an ISO date, and stays so.

        Not the same as `asked_at`: nothing recent is preferred for it.
        """
        other = copy(self)
        other._day = day
        return other

    def ask(
        self,
        question: str,
        *,
        top_k: int = TOP_K,
        filters: Filters = NO_FILTERS,
        token_budget: int | None = None,
        budget_encoding: str = DEFAULT_ENCODING,
        asked_at: str | None = None,
    ) -> Answer:
        """The best citations for `question`, at most `top_k` and within `token_budget`.

        The budget counts the cited passages by the tiktoken encoding named; it does not decide
        whether the question is answered. `asked_at` is the ISO date or date-time that "last week"
        counts from, today in UTC if None; where it is given and the question names no date, what
        was published in the weeks before it is preferred. Raises InvalidRequest.
        """
        counter = _counter(token_budget, budget_encoding)
        with self._found(question, top_k, filters, asked_at) as (snapshot, ranking, hits):
            with ranking.clock.stage("cite"):
                fitting, budget = _within(hits, token_budget, counter)
                weights = _weights(snapshot, ranking.terms)
                citations = tuple(
                    cite(rank, hit, weights, snapshot.analyzer)
                    for rank, hit in enumerate(fitting, start=1)
                )
            return Answer(
                question=question,
                answered=bool(hits),
                confidence=None,
                citations=citations,
                generation=snapshot.generation,
                undated=snapshot.columns.undated(ranking.scope),
                tokens=ranking.encoded.tokens,
                tokens_seen=ranking.encoded.tokens_seen,
                took_ms=ranking.clock.stop(),
                interpreted=ranking.interpreted,
                budget=budget,
            )

    def search(
        self,
        question: str,
        *,
        top_k: int = TOP_K,
        filters: Filters = NO_FILTERS,
        token_budget: int | None = None,
        budget_encoding: str = DEFAULT_ENCODING,
        asked_at: str | None = None,
    ) -> SearchResult:
        """The best passages for a query, within the same bounds. Raises InvalidRequest."""
        counter = _counter(token_budget, budget_encoding)
        with self._found(question, top_k, filters, asked_at) as (snapshot, ranking, hits):
            fitting, budget = _within(hits, token_budget, counter)
            return SearchResult(
                question=question,
                hits=tuple(fitting),
                generation=snapshot.generation,
                undated=snapshot.columns.undated(ranking.scope),
                tokens=ranking.encoded.tokens,
                tokens_seen=ranking.encoded.tokens_seen,
                took_ms=ranking.clock.stop(),
                interpreted=ranking.interpreted,
                budget=budget,
            )

    @contextmanager
    def _found(
        self, question: str, top_k: int, filters: Filters, asked_at: str | None
    ) -> Iterator[tuple[Snapshot, Ranking, list[Hit]]]:
        """What is found for a question, in the snapshot in which it was found."""
        self._check(question, top_k)
        with self.archive.snapshot() as snapshot:
            ranking = self.rank(snapshot, question, filters, asked_at=asked_at)
            yield snapshot, ranking, _hits(snapshot, ranking, top_k)

    def rank(
        self,
        snapshot: Snapshot,
        question: str,
        filters: Filters = NO_FILTERS,
        depth: int = DEPTH,
        *,
        asked_at: str | None = None,
    ) -> Ranking:
        """All candidates for a question in one snapshot, ranked. Raises IndexMismatch, and
        InvalidRequest for a date that is not one."""
        snapshot.require(self._fingerprint)
        clock = Stopwatch()
        with clock.stage("interpret"):
            interpreted = self._interpreted(snapshot.columns, question, filters, asked_at)
        scope = snapshot.scope(filters)
        asked = normalise_text(question)  # as the articles are: an accent may be two characters
        with clock.stage("encode"):
            encoded = self._encoder.encode_question(asked)
        with clock.stage("retrieve"):
            terms = snapshot.analyzer.question_terms(asked)
            found = retrieve(snapshot, terms, encoded.encoding.vector, scope, depth)
        with clock.stage("fuse"):
            fused = convex(found.lexical, found.dense, self._lexical_weight)
            articles = snapshot.columns.article[found.numbers]
            understood = fused + _boost(interpreted, snapshot.columns, articles)
            order = np.lexsort((found.numbers, -understood))
        return Ranking(
            found, fused, understood, articles, order, interpreted, scope, terms, encoded, clock
        )

    def _interpreted(
        self, columns: Columns, question: str, filters: Filters, asked_at: str | None
    ) -> Interpreted:
        """How a question is read; a filter goes before what the question says of the same."""
        known = self._names  # read once: another thread may be at another generation
        if known[0] is not columns:
            known = self._names = (columns, source_names(columns.living_sources()))
        try:
            read = interpret(
                question,
                asked_at=self._today() if asked_at is None else asked_at,
                sources=known[1],
            )
        except ValueError as error:
            raise InvalidRequest("asked_at", str(error)) from None
        return replace(
            read,
            periods=() if filters.dated else read.periods,
            sources=() if filters.source is not None else read.sources,
            recent=asked_at is not None and not (read.periods or filters.dated),
        )

    def _today(self) -> str:
        return self._day or datetime.now(UTC).date().isoformat()

    def verify(
        self, article_id: str, start: int, end: int, quote: str, revision: int | None = None
    ) -> Verification:
        """Whether `quote` stands at [start, end) of an article, today's revision or the one named.

        Raises ArticleNotFound.
        """
        with self.archive.snapshot() as snapshot:
            head = snapshot.head(article_id, revision)
            text = snapshot.text(head)
        if 0 <= start <= end <= len(text) and text[start:end] == quote:
            return Verification(True, head.revision, start)
        found = text.find(quote)
        return Verification(False, head.revision, found if found >= 0 else None)

    def _check(self, question: str, top_k: int) -> None:
        if len(question) > self._question_characters:
            raise InvalidRequest(
                "question",
                f"it has {len(question)} characters; the limit is {self._question_characters}",
            )
        if not normalise_text(question):
            raise InvalidRequest("question", "it is empty")
        if not 1 <= top_k <= TOP_K_MOST:
            raise InvalidRequest("top_k", f"{top_k} is not between 1 and {TOP_K_MOST}")


def _boost(interpreted: Interpreted, columns: Columns, articles: Numbers) -> Floats:
    named = [columns.sources[each.source] for each in interpreted.sources]
    of_source = np.isin(columns.source[articles], named)
    return boost(interpreted, columns.first[articles], columns.last[articles], of_source)


def _hits(snapshot: Snapshot, ranking: Ranking, top_k: int) -> list[Hit]:
    places = ranking.order[collapse(ranking.articles[ranking.order].tolist(), top_k)]
    found = ranking.candidates
    numbers = found.numbers[places].tolist()
    stored = snapshot.passages(numbers)
    return [
        Hit(
            *stored[number],
            score=float(ranking.understood[place]),
            scores=Scores(float(found.lexical[place]), float(found.dense[place])),
        )
        for place, number in zip(places, numbers, strict=True)
    ]


def _counter(token_budget: int | None, encoding: str) -> TokenCounter | None:
    """What counts a budget, None without one. Raises InvalidRequest."""
    if token_budget is None:
        return None
    if token_budget < 1:
        raise InvalidRequest("token_budget", "it must be at least 1")
    return token_counter(encoding)


def _within(
    hits: Sequence[Hit], limit: int | None, counter: TokenCounter | None
) -> tuple[list[Hit], Budget | None]:
    """The best hits whose passages fit into `limit` tokens together; all without a limit."""
    if limit is None or counter is None:
        return list(hits), None
    used, fitting = 0, []
    for hit in hits:
        tokens = counter.count(hit.passage.text)
        if used + tokens <= limit:
            used += tokens
            fitting.append(hit)
    return fitting, Budget(limit, used, counter.encoding)


def _weights(snapshot: Snapshot, terms: Sequence[str]) -> dict[str, float]:
    if snapshot.lexical is None:
        return {}
    return term_weights(terms, snapshot.lexical.frequency, snapshot.lexical.documents)
