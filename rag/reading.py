"""Questions to the database within one unchanging view of it."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np

from rag.dates import MOMENTS, parse_iso
from rag.schema import (
    MANIFEST_OF_BEFORE,
    ArticleRow,
    LexicalRow,
    article_checksum,
    encoding_checksum,
    manifest_checksum,
    passage_checksum,
    removed_checksum,
    token_vectors_checksum,
)
from rag.types import Article, ArticleHead, Floats, Numbers, Passage, Span, TokenVectors

VARIABLES_AT_ONCE = 500
"""Values in one IN (…) list."""

VECTORS_AT_ONCE = 20_000
"""Passages of a part of all vectors."""

ALIVE = "born <= :g AND (died IS NULL OR died > :g)"
"""A row is seen by generation :g."""

Damaged = sqlite3.DatabaseError
"""Raised for what SQLite does not see, as it raises it; `store` gives both our name."""

NOT_AS_STORED = (TypeError, ValueError, LookupError, AttributeError, OverflowError)
"""What comes of a row that holds what was never stored: None, or a value of another type."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_HEAD = "id, title, source, author, url, published_at, revision, sha256, characters"


@contextmanager
def _as_stored() -> Iterator[None]:
    """Damaged where rows are not as they were stored, which no index of SQLite's vouches for."""
    try:
        yield
    except NOT_AS_STORED as error:
        raise Damaged(f"a row cannot be read: {error}") from error


class Reading:
    """Queries within one view of the database, at the generation that was published then."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.generation = self._count("published")

    @_as_stored()
    def manifest(self) -> dict[str, str]:
        """All that the manifest says, if it still is what was stored."""
        entries = dict(self._connection.execute("SELECT key, value FROM manifest"))
        stored = entries.get("checksum")
        known = entries.keys() <= MANIFEST_OF_BEFORE
        if stored != manifest_checksum(entries) and not (stored is None and known):
            raise Damaged("the manifest has changed")
        return entries

    def unpublished(self) -> int | None:
        """The generation of a change that was committed and not published, if there is one."""
        committed = self.committed()
        return committed if committed > self.generation else None

    def committed(self) -> int:
        """The greatest generation that was committed, published or not."""
        return self._count("committed")

    def is_reindexing(self) -> bool:
        """Whether the lexical index is being made anew, or was when its writer was killed."""
        return self._entry("reindexing") == "yes"

    def archive(self) -> str:
        """The archive's own random name, which tells it from another that takes its folder."""
        return self._entry("archive") or ""

    @_as_stored()
    def derived_from(self) -> str:
        """Names the archive and its last rebuild: nothing derived under another name is kept."""
        names = self._connection.execute(
            "SELECT value FROM manifest WHERE key IN ('archive', 'rebuilt') ORDER BY key"
        )
        return " ".join(name for (name,) in names)

    def counts(self) -> tuple[int, int]:
        """How many articles and passages are alive."""
        articles, passages = (
            self._rows(f"SELECT count(*) FROM {table} WHERE {ALIVE}").fetchone()[0]
            for table in ("article", "passage")
        )
        return articles, passages

    @_as_stored()
    def head(self, article_id: str, revision: int | None = None) -> ArticleHead | None:
        """The living revision of an article, or the one named."""
        which = ALIVE if revision is None else "revision = :revision AND born <= :g"
        row = self._rows(
            f"SELECT checksum, {_HEAD} FROM article WHERE id = :id AND {which}",
            id=article_id,
            revision=revision,
        ).fetchone()
        return _head(*row) if row else None

    @_as_stored()
    def text(self, article_id: str, revision: int) -> str:
        """The text of one revision."""
        (number,) = self._rows(
            "SELECT number FROM article WHERE id = :id AND revision = :revision",
            id=article_id,
            revision=revision,
        ).fetchone()
        return self._text(number)

    @_as_stored()
    def heads(self, *, limit: int, after: str = "") -> list[ArticleHead]:
        """Living articles in the order of their ids, from the first id greater than `after`."""
        rows = self._rows(
            f"SELECT checksum, {_HEAD} FROM article WHERE id > :after AND {ALIVE}"
            " ORDER BY id LIMIT :limit",
            after=after,
            limit=limit,
        )
        return [_head(*row) for row in rows]

    def ids_at(self, url: str) -> list[str]:
        """Ids of the living articles of this address."""
        rows = self._rows(
            f"SELECT id FROM article WHERE url = :url AND {ALIVE} ORDER BY id", url=url
        )
        return [row[0] for row in rows]

    def ids_of_text(self, sha256: str, title: str | None = None) -> list[str]:
        """Ids of the living articles with this text (and title, if given), the oldest first."""
        rows = self._rows(
            "SELECT id FROM article WHERE sha256 = :sha256 AND coalesce(:title, title) = title"
            f" AND {ALIVE} ORDER BY number",
            sha256=sha256,
            title=title,
        )
        return [row[0] for row in rows]

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Which of these encodings are stored."""
        return {row[0] for row in self._in("SELECT key FROM encoding WHERE key IN (?)", keys)}

    @_as_stored()
    def article_rows(self, after: int) -> list[ArticleRow]:
        """All revisions with a number over `after`, dead or alive, by number."""
        rows = self._rows(
            "SELECT number, source, first, last FROM article INDEXED BY article_columns"
            " WHERE number > :after AND born <= :g ORDER BY number",
            after=after,
        )
        found = [ArticleRow(*row) for row in rows]
        _require_up_to(self._last("article"), np.array([row.number for row in found], np.int64))
        for row in found:
            _require_moments(row.number, row.first, row.last)
            if not isinstance(row.source, str | None):
                raise Damaged(f"the source of article {row.number} has changed")
        return found

    def article_numbers(self, ids: Iterable[str]) -> list[int]:
        """Numbers of all revisions of these articles; only the living one has living passages."""
        rows = self._in("SELECT number FROM article WHERE id IN (?)", ids)
        numbers = sorted(row[0] for row in rows)
        if numbers and numbers[0] < 1:
            raise Damaged(f"there is no article {numbers[0]}")
        return numbers

    def article_ids(self, numbers: Iterable[int]) -> dict[int, str]:
        """Ids of the articles of these numbers."""
        return dict(self._in("SELECT number, id FROM article WHERE number IN (?)", numbers))

    @_as_stored()
    def passage_columns(self, after: int) -> tuple[Numbers, Numbers]:
        """Numbers of the living passages over `after`, ascending, and of their articles."""
        rows = self._rows(
            "SELECT number, article FROM passage INDEXED BY passage_columns"
            f" WHERE number > :after AND {ALIVE} ORDER BY number",
            after=after,
        )
        columns = np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, 2)
        numbers, articles = columns[:, 0].copy(), columns[:, 1].copy()
        _require_up_to(self.last_passage(), numbers)
        _require_up_to(self._last("article"), articles)
        return numbers, articles

    def last_passage(self) -> int:
        """The greatest number of a passage, a dead one's too; 0 if there never was one."""
        return self._last("passage")

    def count_living(self) -> int:
        """How many passages live, by their rows and no index of them, which takes its time."""
        row = self._rows(f"SELECT count(*) FROM passage NOT INDEXED WHERE {ALIVE}")
        return int(row.fetchone()[0])

    def count_over(self, number: int) -> int:
        """How many passages have a greater number, dead ones counted."""
        row = self._rows("SELECT count(*) FROM passage WHERE number > :number", number=number)
        return int(row.fetchone()[0])

    def count_died(self, number: int, generation: int) -> int:
        """How many passages up to this number died after `generation`."""
        row = self._rows(
            "SELECT count(*) FROM passage WHERE died > :after AND number <= :number",
            after=generation,
            number=number,
        )
        return int(row.fetchone()[0])

    def all_vectors(self, dimension: int) -> Iterator[tuple[Numbers, Floats]]:
        """What `vectors` gives of all living passages, in parts."""
        after = 0
        while True:
            part = self.vectors(after, dimension, limit=VECTORS_AT_ONCE)
            if not len(part[0]):
                return
            yield part
            after = int(part[0][-1])

    @_as_stored()
    def vectors(self, after: int, dimension: int, *, limit: int = -1) -> tuple[Numbers, Floats]:
        """Numbers and vectors (float32, a row each) of the living passages over `after`.

        With a `limit`, the first so many of them.
        """
        rows = self._rows(
            "SELECT number, (SELECT vector FROM encoding e WHERE e.number = passage.encoding)"
            f" FROM passage WHERE number > :after AND {ALIVE} ORDER BY number LIMIT :limit",
            after=after,
            limit=limit,
        )
        numbers: list[int] = []
        blob = bytearray()
        for number, vector in rows:
            if not isinstance(vector, bytes) or len(vector) != 4 * dimension:
                raise Damaged(f"passage {number} has no encoding of {dimension} numbers")
            numbers.append(number)
            blob += vector
        found = np.array(numbers, dtype=np.int64)
        if (np.diff(found, prepend=after) <= 0).any():  # or who reads on after the last never ends
            raise Damaged("the passages are not in the order of their numbers")
        return found, np.frombuffer(bytes(blob), dtype="<f4").reshape(-1, dimension)

    @_as_stored()
    def token_vectors(self, numbers: Iterable[int]) -> dict[int, TokenVectors]:
        """The token vectors of these passages, by number; of those that have them."""
        rows = self._in(
            "SELECT p.number, e.key, t.places, t.codes, t.checksum FROM passage p"
            " JOIN token_vectors t ON t.encoding = p.encoding JOIN encoding e"
            " ON e.number = p.encoding WHERE p.number IN (?)",
            numbers,
        )
        return {number: _token_vectors(number, *stored) for number, *stored in rows}

    @_as_stored()
    def died(self, after: int, generation: int) -> Numbers:
        """Numbers of the passages that died over `after` up to `generation`."""
        rows = self._rows(
            "SELECT number FROM passage WHERE died > :after AND died <= :to ORDER BY number",
            after=after,
            to=generation,
        )
        numbers = np.array([row[0] for row in rows], dtype=np.int64)
        _require_up_to(self.last_passage(), numbers)
        return numbers

    def lexical_rows(self, after: int, generation: int) -> Iterator[LexicalRow]:
        """What is indexed by words of the passages born over `after` and alive at `generation`,
        which may not be published yet; by number."""
        rows = self._rows(
            'SELECT number, article, start, "end" FROM passage WHERE born > :after'
            " AND born <= :to AND (died IS NULL OR died > :to) ORDER BY number",
            after=after,
            to=generation,
        )
        of_article = f"SELECT first, last, checksum, {_HEAD} FROM article WHERE number = ?"
        current: int | None = None
        with _as_stored():
            for number, article, start, end in rows:
                if current != article:
                    found = self._connection.execute(of_article, (article,)).fetchone()
                    if found is None:
                        raise Damaged(f"passage {number} belongs to no article")
                    first, last, *stored = found
                    _require_moments(article, first, last)
                    head, text, current = _head(*stored), self._text(article), article
                fixed = (number, article, head.source, first, last, head.title)
                yield LexicalRow(*fixed, text[start:end])

    @_as_stored()
    def passages(self, numbers: Sequence[int]) -> dict[int, tuple[Passage, ArticleHead]]:
        """These passages with their text and article, by number."""
        found: dict[int, tuple[Passage, ArticleHead]] = {}
        rows = self._in(
            'SELECT p.number, p.checksum, p.start, p."end", p.tokens, p.sentences, a.number,'
            " a.checksum, "
            + ", ".join(f"a.{column}" for column in _HEAD.split(", "))
            + " FROM passage p JOIN article a ON a.number = p.article WHERE p.number IN (?)",
            numbers,
        )
        heads: dict[int, ArticleHead] = {}
        texts: dict[int, str] = {}
        for number, checksum, start, end, tokens, marks, article, *stored in rows:
            if passage_checksum(article, start, end, tokens, marks) != checksum:
                raise Damaged(f"the record of passage {number} has changed")
            if article not in heads:
                heads[article], texts[article] = _head(*stored), self._text(article)
            head, text = heads[article], texts[article][start:end]
            sentences = tuple((first, last) for first, last in json.loads(marks))
            span = Span(start, end, tokens, sentences)
            found[number] = Passage(number, head.id, head.revision, span, text), head
        if len(found) < len(set(numbers)):
            raise Damaged(f"passage {min(set(numbers) - found.keys())} is not there")
        return found

    def faults(self) -> Iterator[str]:
        """Everything in the database that is not as it was written, in plain words."""
        # A flipped bit may leave a text that is no UTF-8; it is to be named, not to be raised.
        self._connection.text_factory = lambda raw: raw.decode(errors="replace")
        try:
            for (line,) in self._connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield str(line)
            for faults in (
                self._manifest_faults,
                self._article_faults,
                self._passage_faults,
                self._encoding_faults,
                self._token_vector_faults,
                self._removed_faults,
            ):
                try:
                    yield from faults()
                except NOT_AS_STORED as error:
                    yield f"a row cannot be read: {error}"
        finally:
            self._connection.text_factory = str

    def _manifest_faults(self) -> Iterator[str]:
        try:
            self.manifest()
        except Damaged as error:
            yield str(error)

    def _removed_faults(self) -> Iterator[str]:
        rows = self._connection.execute(
            "SELECT checksum, id, revision, generation FROM removed ORDER BY id"
        )
        for checksum, *kept in rows:
            if not _removed_as_stored(checksum, *kept):
                yield _removed_has_changed(kept[0])

    @_as_stored()
    def _removed(self, which: str, **parameters: Any) -> list[tuple[str, int]]:
        """Which articles were removed, and at which revision, if that still is what was stored."""
        found = []
        rows = self._rows(
            f"SELECT checksum, id, revision, generation FROM removed WHERE {which}", **parameters
        )
        for checksum, article_id, revision, generation in rows:
            if not _removed_as_stored(checksum, article_id, revision, generation):
                raise Damaged(_removed_has_changed(article_id))
            found.append((article_id, revision))
        return found

    def _article_faults(self) -> Iterator[str]:
        rows = self._connection.execute(
            f"SELECT {_HEAD}, first, last, checksum, text FROM article ORDER BY number"
        )
        for *columns, first, last, checksum, text in rows:
            head = ArticleHead(*columns)
            article = _article(head, text)
            if article.sha256 != head.sha256 or len(text) != head.characters:
                yield f"the text of article {head.id} at revision {head.revision} has changed"
            if article_checksum(article) != checksum or (first, last) != _period(head):
                yield f"the record of article {head.id} at revision {head.revision} has changed"

    def _passage_faults(self) -> Iterator[str]:
        rows = self._connection.execute(
            'SELECT p.number, p.article, p.start, p."end", p.tokens, p.sentences, p.checksum,'
            " a.characters, e.number IS NULL FROM passage p LEFT JOIN article a"
            " ON a.number = p.article LEFT JOIN encoding e ON e.number = p.encoding"
            " WHERE p.died IS NULL ORDER BY p.number"
        )
        for number, article, start, end, tokens, marks, checksum, characters, no_encoding in rows:
            if passage_checksum(article, start, end, tokens, marks) != checksum:
                yield f"the record of passage {number} has changed"
            elif characters is None:
                yield f"passage {number} belongs to no article"
            elif not 0 <= start <= end <= characters:
                yield f"passage {number} lies outside its article"
            if no_encoding:
                yield f"passage {number} has no encoding"
        missing = self._connection.execute(
            "SELECT id FROM article a WHERE died IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM passage p WHERE p.article = a.number AND p.died IS NULL)"
        )
        for (article_id,) in missing:
            yield f"article {article_id} has no passage"

    def _encoding_faults(self) -> Iterator[str]:
        rows = self._connection.execute(
            "SELECT number, key, tokens, vector, checksum FROM encoding"
        )
        for number, key, tokens, vector, checksum in rows:
            if encoding_checksum(key, tokens, vector) != checksum:
                yield f"encoding {number} has changed"

    def _token_vector_faults(self) -> Iterator[str]:
        rows = self._connection.execute(
            "SELECT e.number, e.key, t.places, t.codes, t.checksum FROM encoding e"
            " LEFT JOIN token_vectors t ON t.encoding = e.number ORDER BY e.number"
        )
        expected = self._entry("projection") is not None
        for number, key, places, codes, checksum in rows:
            if codes is None:
                if expected:
                    yield f"encoding {number} has no token vectors"
            elif token_vectors_checksum(key, places, codes) != checksum:
                yield f"the token vectors of encoding {number} have changed"

    def _text(self, article: int) -> str:
        """The text of the article of this number, if it still is what was stored."""
        asked = "SELECT id, revision, sha256, text FROM article WHERE number = ?"
        article_id, revision, sha256, text = self._connection.execute(asked, (article,)).fetchone()
        if hashlib.sha256(text.encode()).hexdigest() != sha256:
            raise Damaged(f"the text of article {article_id} at revision {revision} has changed")
        return str(text)

    def _last(self, table: str) -> int:
        """The greatest number in a table, by its rows and no index of them; 0 if it is empty."""
        row = self._rows(f"SELECT max(number) FROM {table} NOT INDEXED WHERE born <= :g")
        return int(row.fetchone()[0] or 0)

    @_as_stored()
    def _entry(self, key: str) -> str | None:
        found = self._connection.execute("SELECT value FROM manifest WHERE key = ?", (key,))
        row = found.fetchone()
        return str(row[0]) if row else None

    def _count(self, key: str) -> int:
        value = self._entry(key) or "0"
        if not value.isdecimal():
            raise Damaged(f"the manifest has changed: {key} is {value!r}")
        return int(value)

    def _rows(self, sql: str, **values: object) -> sqlite3.Cursor:
        bound = {name: _bindable(value) for name, value in values.items()}
        return self._connection.execute(sql, {"g": self.generation, **bound})

    def _in(self, sql: str, values: Iterable[object]) -> list[tuple[Any, ...]]:
        """Run `sql`, whose `IN (?)` stands for a list, over all values, some at a time."""
        rows: list[tuple[Any, ...]] = []
        every = list(dict.fromkeys(map(_bindable, values)))
        for at in range(0, len(every), VARIABLES_AT_ONCE):
            some = every[at : at + VARIABLES_AT_ONCE]
            marks = ", ".join("?" * len(some))
            rows += self._connection.execute(sql.replace("IN (?)", f"IN ({marks})"), some)
        return rows


def well_formed(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, which no stored text has and none can be asked
    for with; every other character stays where it is."""
    return _SURROGATE.sub("\ufffd", text)


def _bindable(value: object) -> object:
    return well_formed(value) if isinstance(value, str) else value


def _head(checksum: int, *columns: Any) -> ArticleHead:
    """What `_HEAD` names of one article, if it still is what was stored."""
    head = ArticleHead(*columns)
    counted = isinstance(head.revision, int) and isinstance(head.characters, int)
    if not (counted and article_checksum(_article(head, "")) == checksum):
        raise Damaged(f"the record of article {head.id} at revision {head.revision} has changed")
    return head


def _removed_as_stored(checksum: int | None, *kept: Any) -> bool:
    """Whether what is kept of a removed article is; of one removed before format 4 nobody knows."""
    return checksum is None or removed_checksum(*kept) == checksum


def _removed_has_changed(article_id: str) -> str:
    return f"what is kept of the removed article {article_id} has changed"


def _require_up_to(greatest: int, numbers: Numbers) -> None:
    """Raise Damaged if one is not the number of a row that there may be."""
    if len(numbers) and not 0 < numbers.min() <= numbers.max() <= greatest:
        raise Damaged(f"an index has numbers that are not in 1 to {greatest}")


def _require_moments(article: int, first: object, last: object) -> None:
    """Raise Damaged unless an article has no date, or one in microseconds."""
    dated = isinstance(first, int) and isinstance(last, int)
    if (first, last) != (None, None) and not (dated and first in MOMENTS and last in MOMENTS):
        raise Damaged(f"the date of article {article} has changed")


def _token_vectors(
    passage: int, key: bytes, places: bytes, codes: bytes, checksum: int
) -> TokenVectors:
    tokens = len(places) // 4
    if token_vectors_checksum(key, places, codes) != checksum:
        raise Damaged(f"the token vectors of passage {passage} have changed")
    return TokenVectors(
        np.frombuffer(codes, dtype=np.uint8).reshape(tokens, -1 if tokens else 0),
        np.frombuffer(places, dtype="<u2").reshape(tokens, 2),
    )


def _period(head: ArticleHead) -> tuple[int | None, int | None]:
    try:
        period = parse_iso(head.published_at) if head.published_at else None
    except ValueError:
        period = None
    return (period.first, period.last) if period else (None, None)


def _article(head: ArticleHead, text: str) -> Article:
    return Article(
        id=head.id,
        title=head.title,
        text=text,
        source=head.source,
        author=head.author,
        url=head.url,
        published_at=head.published_at,
    )
