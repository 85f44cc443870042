"""The read path: question → interpret → rank → cite, and how sure the answer is."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self, TypedDict

from rag.archive import Archive
from rag.cite import cite, collapse, sentence_of_weight, words_asked
from rag.confidence import THRESHOLD, sure
from rag.cores import cores
from rag.errors import InvalidRequest
from rag.evidence import aligned_words
from rag.fuse import LEXICAL_WEIGHT
from rag.interpret import interpret
from rag.models import DEFAULT_MODEL
from rag.naming import NO_NAMES, SourceNames, source_names
from rag.normalise import normalise_text
from rag.rank import Question, Ranking, Read, Stopwatch, rank, read_closely
from rag.retrieve import DEPTH, by_words
from rag.snapshot import Columns, Fingerprint, Snapshot
from rag.tokens import DEFAULT_ENCODING, TokenCounter, token_counter
from rag.types import (
    Answer,
    Budget,
    Citation,
    Encoder,
    Filters,
    Hit,
    Interpreted,
    Scores,
    SearchResult,
    Verification,
)

logger = logging.getLogger(__name__)

TOP_K = 5
TOP_K_MOST = 100

QUESTION_CHARACTERS = 8_000
"""The longest question."""

UNSEEN = frozenset(["Cc", "Cf", "Zl", "Zp", "Zs"])
"""Categories of characters that show nothing, as control characters and spaces of no width."""

NO_FILTERS = Filters()


class Bounds(TypedDict, total=False):
    """What may bound the answer to a question; see `Searcher.ask`."""

    top_k: int
    filters: Filters
    token_budget: int | None
    asked_at: str | None


LOST = (
    "library.db has lost the token vectors of these passages, which are ranked without them: %s; "
    "`rag check` names every loss, and removing an article and adding it again makes it whole"
)
"""Logged once for each passage."""


class Searcher:
    """Asks an archive. Safe for threads."""

    def __init__(
        self,
        archive: Archive,
        encoder: Encoder,
        *,
        lexical_weight: float = LEXICAL_WEIGHT,
        question_characters: int = QUESTION_CHARACTERS,
        threshold: float = THRESHOLD,
    ) -> None:
        """`threshold`: the confidence from which a question counts as answered.

        Raises IndexMismatch if the archive was built with another model.
        """
        self.archive = archive
        self._encoder = encoder
        self._lexical_weight = lexical_weight
        self._question_characters = question_characters
        self.threshold = threshold
        self._fingerprint = Fingerprint(
            {"encoder": encoder.fingerprint, "projection": encoder.projection}, encoder.name
        )
        self._names: tuple[Columns | None, SourceNames] = (None, NO_NAMES)
        self._day: str | None = None
        self._told: frozenset[int] = frozenset()
        self._beside = ThreadPoolExecutor(cores(), "words")
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
        with self._found(question, top_k, filters, asked_at) as (snapshot, ranking, places):
            with ranking.clock.stage("cite"):
                read = read_closely(snapshot, ranking, places)
                hits = _hits(snapshot, ranking, places, read)
                fitting, budget = _within(hits, token_budget, counter)
                citations = tuple(
                    _cited(at, hit, read.get(place), ranking, snapshot)
                    for at, (place, hit) in enumerate(fitting.items(), start=1)
                )
                sure = self._confidence(snapshot, ranking)
            return Answer(
                question=question,
                answered=bool(hits) and (sure is None or sure >= self.threshold),
                confidence=sure,
                citations=citations,
                generation=snapshot.generation,
                undated=snapshot.columns.undated(ranking.question.scope),
                tokens=ranking.question.encoded.tokens,
                tokens_seen=ranking.question.encoded.tokens_seen,
                took_ms=ranking.clock.stop(),
                interpreted=ranking.question.interpreted,
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
        with self._found(question, top_k, filters, asked_at) as (snapshot, ranking, places):
            hits = _hits(snapshot, ranking, places, ranking.read)
            fitting, budget = _within(hits, token_budget, counter)
            return SearchResult(
                question=question,
                hits=tuple(fitting.values()),
                generation=snapshot.generation,
                undated=snapshot.columns.undated(ranking.question.scope),
                tokens=ranking.question.encoded.tokens,
                tokens_seen=ranking.question.encoded.tokens_seen,
                took_ms=ranking.clock.stop(),
                interpreted=ranking.question.interpreted,
                budget=budget,
            )

    @contextmanager
    def _found(
        self, question: str, top_k: int, filters: Filters, asked_at: str | None
    ) -> Iterator[tuple[Snapshot, Ranking, list[int]]]:
        """What is found for a question, in the snapshot in which it was found; the places of the
        passages to give, best first."""
        self._check(question, top_k)
        with self.archive.snapshot() as snapshot:
            ranking = self.rank(snapshot, question, filters, asked_at=asked_at)
            order = ranking.order
            chosen = collapse(ranking.articles[order].tolist(), top_k)
            yield snapshot, ranking, order[chosen].tolist()

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
        text = normalise_text(question)  # as the articles are: an accent may be two characters
        terms = snapshot.analyzer.question_terms(text)
        words = self._beside.submit(by_words, snapshot, terms, scope, depth)
        with clock.stage("encode"):
            encoded = self._encoder.encode_question(text)
        asked = Question(text, terms, encoded, interpreted, scope, words)
        ranking = rank(snapshot, asked, depth, self._lexical_weight, clock)
        if "projection" in snapshot.manifest and (lost := ranking.lost - self._told):
            self._told |= lost
            logger.warning(LOST, ", ".join(map(str, sorted(lost))))
        return ranking

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

    def _confidence(self, snapshot: Snapshot, ranking: Ranking) -> float | None:
        """None where nothing is found, and for signals that the model of it was not fitted to."""
        if self._encoder.name != DEFAULT_MODEL:
            return None
        found = sure(snapshot, ranking)
        return None if found is None else round(found, 4)

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
        if all(unicodedata.category(character) in UNSEEN for character in question):
            raise InvalidRequest("question", "it is empty")
        if not 1 <= top_k <= TOP_K_MOST:
            raise InvalidRequest("top_k", f"{top_k} is not between 1 and {TOP_K_MOST}")


def _hits(
    snapshot: Snapshot, ranking: Ranking, places: Sequence[int], read: Mapping[int, Read]
) -> dict[int, Hit]:
    """The passages at `places`, by place."""
    found = ranking.candidates
    numbers = {place: int(found.numbers[place]) for place in places}
    stored = snapshot.passages([numbers[place] for place in places if place not in read])
    hits = {}
    for place in places:
        late = float(ranking.max_sims[place])
        passage, article = (
            (read[place].passage, read[place].article) if place in read else stored[numbers[place]]
        )
        scores = Scores(
            float(found.lexical[place]),
            float(found.dense[place]),
            None if math.isnan(late) else late,
        )
        hits[place] = Hit(passage, article, float(ranking.understood[place]), scores)
    return hits


def _cited(at: int, hit: Hit, read: Read | None, ranking: Ranking, snapshot: Snapshot) -> Citation:
    """The citation of a hit; by the weight of the question's terms where it was not read."""
    quoted = read.quoted if read else None
    if read is None or ranking.asked is None or quoted is None:
        quoted = sentence_of_weight(hit.passage, ranking.weights, snapshot.analyzer)
        aligned = []
    else:
        aligned = aligned_words(hit.passage, read.alignment, ranking.asked, quoted)
    asked_for = words_asked(hit.passage, ranking.weights, snapshot.analyzer, quoted)
    return cite(at, hit, quoted, sorted({*asked_for, *aligned}))


def _counter(token_budget: int | None, encoding: str) -> TokenCounter | None:
    """What counts a budget, None without one. Raises InvalidRequest."""
    if token_budget is None:
        return None
    if token_budget < 1:
        raise InvalidRequest("token_budget", "it must be at least 1")
    return token_counter(encoding)


def _within(
    hits: Mapping[int, Hit], limit: int | None, counter: TokenCounter | None
) -> tuple[dict[int, Hit], Budget | None]:
    """The best hits whose passages fit into `limit` tokens together; all without a limit."""
    if limit is None or counter is None:
        return dict(hits), None
    used, fitting = 0, {}
    for place, hit in hits.items():
        tokens = counter.count(hit.passage.text)
        if used + tokens <= limit:
            used += tokens
            fitting[place] = hit
    return fitting, Budget(limit, used, counter.encoding)
