"""How the truth is laid out: the tables, the records that go into them, their checksums.

Every row carries a checksum of what it holds, since SQLite itself does not notice a bit flipped
inside a value.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from rag.types import Article, ArticleHead, Span

MIGRATIONS = (
    """
    CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE article (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        title TEXT NOT NULL,
        source TEXT,
        author TEXT,
        url TEXT,
        published_at TEXT,
        first INTEGER,
        last INTEGER,
        characters INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        born INTEGER NOT NULL,
        died INTEGER,
        text TEXT NOT NULL,
        UNIQUE (id, revision)
    ) STRICT;
    CREATE UNIQUE INDEX article_living ON article (id) WHERE died IS NULL;
    CREATE INDEX article_life ON article (born, died);
    CREATE INDEX article_sha256 ON article (sha256);
    CREATE INDEX article_url ON article (url) WHERE url IS NOT NULL;
    CREATE TABLE removed (
        id TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        generation INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE encoding (
        number INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        tokens INTEGER NOT NULL,
        vector BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE passage (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        article INTEGER NOT NULL,
        start INTEGER NOT NULL,
        "end" INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        sentences TEXT NOT NULL,
        encoding INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        born INTEGER NOT NULL,
        died INTEGER
    ) STRICT;
    CREATE INDEX passage_article ON passage (article);
    CREATE INDEX passage_encoding ON passage (encoding) WHERE died IS NULL;
    CREATE INDEX passage_born ON passage (born, died);
    CREATE INDEX passage_died ON passage (died) WHERE died IS NOT NULL;
    """,
    # Apart from the vectors, which are read one after the other when an archive is opened.
    """
    CREATE TABLE token_vectors (
        encoding INTEGER PRIMARY KEY,
        places BLOB NOT NULL,
        codes BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TRIGGER encoding_gone AFTER DELETE ON encoding BEGIN
        DELETE FROM token_vectors WHERE encoding = OLD.number;
    END;
    """,
    # What a reader keeps in memory, beside the rows, which lie scattered between the blobs: of a
    # million passages these are 30 MB to read when an archive is opened, and not 700.
    """
    CREATE INDEX article_columns ON article (number, source, first, last, born);
    CREATE INDEX passage_columns ON passage (number, article, born, died);
    """,
    # Null for what was removed before.
    """
    ALTER TABLE removed ADD COLUMN checksum INTEGER;
    """,
)
"""Step n brings a database from format n to n + 1; `PRAGMA user_version` holds the format."""

FORMAT = len(MIGRATIONS)

MANIFEST_OF_BEFORE = frozenset(
    [
        "archive",
        "rebuilt",
        "published",
        "committed",
        "reindexing",
        "encoder",
        "encoder_name",
        "projection",
        "chunker",
        "normaliser",
        "passage_tokens",
        "dimension",
        "dense_base",
    ]
)
"""What a manifest may name that was written before it had a checksum."""


@dataclass(frozen=True, slots=True)
class PassageDraft:
    """A passage to be stored: where it is, and the key of its encoding."""

    span: Span
    key: bytes


@dataclass(frozen=True, slots=True)
class ArticleDraft:
    """An article to be stored with its passages."""

    article: Article
    passages: tuple[PassageDraft, ...]


@dataclass(frozen=True, slots=True)
class ArticleRow:
    """What filters look at, by article number. `first` and `last` in microseconds, or None."""

    number: int
    source: str | None
    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class LexicalRow:
    """What is indexed by words of one passage: its article's title and its own text."""

    passage: int
    article: int
    source: str | None
    first: int | None
    last: int | None
    title: str
    text: str


def same_record(article: Article, head: ArticleHead) -> bool:
    """Whether a stored article is this very one, by text and by every field."""
    stored = (head.title, head.source, head.author, head.url, head.published_at, head.sha256)
    return stored == (
        article.title,
        article.source,
        article.author,
        article.url,
        article.published_at,
        article.sha256,
    )


def article_checksum(article: Article) -> int:
    """Of everything but the text, which has its sha256."""
    fields = [
        article.id,
        article.title,
        article.source,
        article.author,
        article.url,
        article.published_at,
    ]
    return zlib.crc32(json.dumps(fields).encode())


def passage_checksum(article: int, start: int, end: int, tokens: int, marks: str) -> int:
    """Of where a passage is and what it says of its sentences."""
    return zlib.crc32(f"{article} {start} {end} {tokens} {marks}".encode())


def encoding_checksum(key: bytes, tokens: int, vector: bytes) -> int:
    """Of an encoding's key, token count and vector."""
    count = (tokens % 2**32).to_bytes(4, "little")
    return zlib.crc32(vector, zlib.crc32(key + count))


def token_vectors_checksum(key: bytes, places: bytes, codes: bytes) -> int:
    """Of the token vectors of the encoding of this key."""
    return zlib.crc32(codes, zlib.crc32(places, zlib.crc32(key)))


def removed_checksum(article_id: str, revision: int, generation: int) -> int:
    """Of what is kept of a removed article."""
    kept = [article_id, revision, generation]
    return zlib.crc32(json.dumps(kept, default=ascii).encode())  # a blob is not its text


def manifest_checksum(entries: Mapping[str, str]) -> str:
    """Of everything that the manifest says but this."""
    rest = sorted((key, value) for key, value in entries.items() if key != "checksum")
    return str(zlib.crc32(json.dumps(rest).encode()))
