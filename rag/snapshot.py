"""What a reader of one generation sees, and how its memory is brought from one to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.dates import EPOCH, MICROSECOND, UNDATED, Period, parse_iso
from rag.errors import ArticleNotFound, IndexMismatch, InvalidRequest
from rag.lexical import Analyzer, LexicalSearcher, Scope
from rag.reading import Damaged, Reading, well_formed
from rag.types import ArticleHead, Filters, Mask, Numbers, Passage, TokenVectors
from rag.vectors import BaseRecord, ExactVectors, FaissBase, Vectors

OTHER_PASSAGES = "an index of the passages has others than their table"

NO_SOURCE = -1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What an archive is built with, by the manifest's names; `encoder_name` is for people."""

    values: Mapping[str, str]
    encoder_name: str


def compare(manifest: Mapping[str, str], fingerprint: Fingerprint) -> None:
    """Raise IndexMismatch for the first part in which the two differ; a part that only one names
    is no difference."""
    for part, mine in fingerprint.values.items():
        theirs = manifest.get(part, mine)
        if theirs == mine:
            continue
        if part == "encoder":
            named = f"{manifest['encoder_name']} ({theirs[:12]})"
            raise IndexMismatch(part, named, f"{fingerprint.encoder_name} ({mine[:12]})")
        raise IndexMismatch(part, theirs, mine)


@dataclass(frozen=True, slots=True)
class Columns:
    """What filters and grouping look at: `alive` and `article` by passage number, the rest by
    article number. Index 0 of each is not used."""

    alive: Mask
    article: Numbers
    source: Numbers
    first: Numbers
    last: Numbers
    sources: Mapping[str, int]

    def passing(self, scope: Scope) -> Mask:
        """By passage number: alive and within `scope`."""
        if scope.everything:
            return self.alive
        mask: Mask = self.alive & self._articles(scope)[self.article]
        return mask

    def undated(self, scope: Scope) -> int:
        """How many articles only their want of a date keeps out of `scope`."""
        if scope.first is None and scope.last is None:
            return 0
        otherwise = self._articles(replace(scope, first=None, last=None))
        mask = self.alive & (otherwise & (self.first == UNDATED))[self.article]
        return len(np.unique(self.article[mask]))

    def newest(self) -> str | None:
        """The last day in UTC, as an ISO date, on which a living article was published; None if
        none has a date."""
        latest = np.max(self.first[self.article[self.alive]], initial=UNDATED)
        return None if latest == UNDATED else (EPOCH + int(latest) * MICROSECOND).date().isoformat()

    def living_sources(self) -> frozenset[str]:
        """The names of sources that a living article has."""
        living = np.zeros(len(self.sources) + 1, dtype=np.bool_)
        living[self.source[self.article[self.alive]]] = True  # the last place is for no source
        return frozenset(name for name, number in self.sources.items() if living[number])

    def _articles(self, scope: Scope) -> Mask:
        mask = np.ones(len(self.source), dtype=np.bool_)
        if scope.source is not None:
            wanted = [self.sources[name] for name in scope.source if name in self.sources]
            mask &= np.isin(self.source, wanted)
        if scope.first is not None or scope.last is not None:
            mask &= self.first != UNDATED
        if scope.first is not None:
            mask &= self.last >= scope.first
        if scope.last is not None:
            mask &= self.first <= scope.last
        if scope.article is not None:
            mask &= np.isin(np.arange(len(mask)), scope.article)
        mask[[number for number in scope.exclude_article if number < len(mask)]] = False
        return mask


@dataclass(frozen=True, slots=True)
class State:
    """Everything derived that a reader holds in memory: of which library.db, which generation."""

    library: str
    generation: int
    manifest: Mapping[str, str]
    columns: Columns
    vectors: Vectors | None
    lexical: LexicalSearcher | None

    def whole(self) -> bool:
        """Whether no file that it has mapped was cut meanwhile."""
        base = self.vectors.base if self.vectors else None
        return base is None or base.whole()


def empty_state(library: str = "") -> State:
    """The state of an archive before its first article."""
    zero = np.zeros(1, dtype=np.int64)
    columns = Columns(np.zeros(1, dtype=np.bool_), zero, zero, zero, zero, {})
    return State(library, 0, {}, columns, None, None)


def advanced(old: State, reading: Reading, lexical: LexicalSearcher, folder: Path) -> State:
    """`old` brought to the generation of `reading`. ValueError if a derived file is not there."""
    if (lexical.archive, lexical.generation) != (reading.archive(), reading.generation):
        raise ValueError(f"the lexical index is at {lexical.generation}, not {reading.generation}")
    manifest = reading.manifest()
    columns = _advanced_columns(old, reading)
    living = np.count_nonzero(columns.alive)
    if lexical.documents != living:
        if reading.count_living() != living:
            raise Damaged(OTHER_PASSAGES)
        raise ValueError("the lexical index holds other passages than the living")
    vectors = _advanced_vectors(old, reading, manifest, folder)
    if vectors is not None:
        _require_same_passages(columns, vectors)
    return State(old.library, reading.generation, manifest, columns, vectors, lexical)


def _advanced_columns(old: State, reading: Reading) -> Columns:
    before = old.columns
    numbers, articles = reading.passage_columns(len(before.alive) - 1)
    died = reading.died(old.generation, reading.generation)
    size = reading.last_passage() + 1  # room for the dead too: the base may still hold them
    alive, article = _grown(before.alive, size, 0), _grown(before.article, size, 0)
    alive[died] = False
    alive[numbers] = True
    article[numbers] = articles
    rows = reading.article_rows(len(before.source) - 1)
    sources = dict(before.sources)
    count = rows[-1].number + 1 if rows else len(before.source)
    if articles.max(initial=0) >= count:
        raise Damaged(f"article {articles.max()} is not there, but passages of it are")
    source = _grown(before.source, count, NO_SOURCE)
    first, last = _grown(before.first, count, UNDATED), _grown(before.last, count, UNDATED)
    for row in rows:
        if row.source is not None:
            source[row.number] = sources.setdefault(row.source, len(sources))
        if row.first is not None and row.last is not None:
            first[row.number], last[row.number] = row.first, row.last
    return Columns(alive, article, source, first, last, sources)


def _advanced_vectors(
    old: State, reading: Reading, manifest: Mapping[str, str], folder: Path
) -> Vectors | None:
    if "dimension" not in manifest:
        return None  # no article is left, nor was one ever
    dimension, record = int(manifest["dimension"]), base_record(manifest)
    base = old.vectors.base if old.vectors else None
    covered = record.last if record else 0
    if old.vectors is not None and (base.record if base else None) == record:
        after = max(len(old.columns.alive) - 1, covered)
        return Vectors(base, old.vectors.tail.extended(*reading.vectors(after, dimension)))
    tail = ExactVectors(*reading.vectors(covered, dimension))
    return Vectors(FaissBase(folder, record) if record else None, tail)


def _require_same_passages(columns: Columns, vectors: Vectors) -> None:
    """Raise Damaged unless those that live have a vector, as an index of SQLite and the table say
    it, each of its own."""
    tail, in_base = vectors.tail.numbers, vectors.base.record.last if vectors.base else 0
    lacking = columns.alive.copy()
    lacking[: in_base + 1] = False
    rising = bool((np.diff(tail, prepend=0) > 0).all())
    if rising and tail.max(initial=in_base) < len(lacking):
        lacking[tail] = False
        if not lacking.any():
            return
    raise Damaged(OTHER_PASSAGES)


def base_record(manifest: Mapping[str, str]) -> BaseRecord | None:
    """What the manifest says of the dense base; None if it says nothing that can be read."""
    try:
        return BaseRecord.from_json(manifest["dense_base"])
    except (KeyError, ValueError, TypeError):
        return None


class Snapshot:
    """One generation of the archive, for the length of one request."""

    def __init__(self, state: State, reading: Reading | None, analyzer: Analyzer) -> None:
        self.generation = state.generation
        self.manifest = state.manifest
        self.columns = state.columns
        self.vectors = state.vectors
        self.lexical = state.lexical
        self.analyzer = analyzer
        self._reading = reading

    def require(self, fingerprint: Fingerprint) -> None:
        """Raise IndexMismatch unless the archive is empty or was built with all of this."""
        compare(self.manifest, fingerprint)

    def scope(self, filters: Filters) -> Scope:
        """`filters` resolved. Raises InvalidRequest for a date that is not one."""
        sources = filters.source
        first = _period("published_from", filters.published_from)
        last = _period("published_to", filters.published_to)
        if first and last and first.first > last.last:
            raise InvalidRequest("published_from", "it lies after published_to")
        return Scope(
            source=None if sources is None else tuple(map(well_formed, sources)),
            first=first.first if first else None,
            last=last.last if last else None,
            article=self._numbers(filters.article_id),
            exclude_article=self._numbers(filters.exclude_article_id) or (),
        )

    def passages(self, numbers: Sequence[int]) -> dict[int, tuple[Passage, ArticleHead]]:
        """Passages with their text and article, by number."""
        return self._reading.passages(numbers) if self._reading else {}

    def token_vectors(self, numbers: Sequence[int]) -> dict[int, TokenVectors]:
        """The token vectors of these passages by number; none of an archive that was built before
        there were any."""
        if self._reading is None or "projection" not in self.manifest:
            return {}
        return self._reading.token_vectors(numbers)

    def find(self, article_id: str, revision: int | None = None) -> ArticleHead | None:
        """The living revision of an article, or the one named; None if it is not there."""
        return self._reading.head(article_id, revision) if self._reading else None

    def head(self, article_id: str, revision: int | None = None) -> ArticleHead:
        """As `find`, but raises ArticleNotFound."""
        head = self.find(article_id, revision)
        if head is None:
            raise ArticleNotFound(article_id, revision)
        return head

    def text(self, head: ArticleHead) -> str:
        """The text of an article at that revision."""
        return self._reading.text(head.id, head.revision) if self._reading else ""

    def heads(self, *, limit: int, after: str = "") -> list[ArticleHead]:
        """Articles in the order of their ids, from the first id greater than `after`."""
        return self._reading.heads(limit=limit, after=after) if self._reading else []

    def counts(self) -> tuple[int, int]:
        """How many articles and passages there are."""
        return self._reading.counts() if self._reading else (0, 0)

    def ids_at(self, url: str) -> list[str]:
        """Ids of the articles of an address."""
        return self._reading.ids_at(url) if self._reading else []

    def article_ids(self, numbers: Sequence[int]) -> dict[int, str]:
        """Ids of the articles of these numbers."""
        return self._reading.article_ids(numbers) if self._reading else {}

    def _numbers(self, ids: Sequence[str] | None) -> tuple[int, ...] | None:
        if ids is None:
            return None
        return tuple(self._reading.article_numbers(ids)) if self._reading else ()


def _grown(column: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    """A copy of `column` with `fill` up to `size`."""
    grown = np.full(max(size, len(column)), fill, dtype=column.dtype)
    grown[: len(column)] = column
    return grown


def _period(field: str, value: str | None) -> Period | None:
    if value is None:
        return None
    try:
        return parse_iso(value)
    except ValueError as error:
        raise InvalidRequest(field, str(error)) from None
