"""The nouns. Frozen, slotted, and importing nothing of ours.

All offsets are Unicode code points into the normalised `Article.text`, half-open `[start, end)`.
Higher is better for every score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.uint16]


class IdentifiedBy(StrEnum):
    """Where an article's id came from."""

    CALLER = "caller"
    ADDRESS = "address"
    PATH = "path"


class Kind(StrEnum):
    """A kind of thing that a question asks for and that a sentence holds."""

    PERSON = "person"
    ORGANISATION = "organisation"
    PLACE = "place"
    DATE = "date"
    DURATION = "duration"
    NUMBER = "number"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class Article:
    """One published text as read: `text` is normalised, `published_at` an ISO date or date-time.

    `origin` says where it was read, for messages; it is not stored.
    """

    id: str
    title: str
    text: str
    source: str | None = None
    author: str | None = None
    url: str | None = None
    published_at: str | None = None
    identified_by: IdentifiedBy = field(default=IdentifiedBy.CALLER, compare=False)
    origin: str = field(default="", compare=False)

    @property
    def sha256(self) -> str:
        """Hex digest of the UTF-8 bytes of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something offered for reading that could not be taken, and why; it stands in for it, or for
    so many `records` of one file."""

    item: str
    reason: str
    records: int = 1


@dataclass(frozen=True, slots=True)
class ArticleHead:
    """A stored article without its text."""

    id: str
    title: str
    source: str | None
    author: str | None
    url: str | None
    published_at: str | None
    revision: int
    sha256: str
    characters: int


@dataclass(frozen=True, slots=True)
class Span:
    """A run of whole sentences, `tokens` counted by the encoder without special ones.

    `sentences` are the (start, end) of each sentence, white space between them left out.
    """

    start: int
    end: int
    tokens: int
    sentences: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A stored span. `number` is the key of all indexes; it never changes and is never reused."""

    number: int
    article_id: str
    revision: int
    span: Span
    text: str

    @property
    def id(self) -> str:
        """The name that users see: which article, which revision, from where to where."""
        return f"{self.article_id}:{self.revision}:{self.span.start}-{self.span.end}"


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """The vectors of a text's words and parts of words, compressed; marks and special tokens are
    left out.

    `codes`: uint8 of shape (tokens, bytes); only an encoder of the same `projection` gives
    questions that they can be compared with. `places`: uint16 of shape (tokens, 2), where each
    token starts and ends, in code points before the end of the text, since a passage is the end of
    what is encoded; 65,535 stands for that or more.
    """

    codes: Codes
    places: Places


@dataclass(frozen=True, slots=True)
class Encoding:
    """What one forward pass gives for one text.

    `vector`: float32 of shape (dimension,), unit length. `tokens`: how many the model saw,
    special ones included.
    """

    vector: Floats
    tokens: int
    token_vectors: TokenVectors


@dataclass(frozen=True, slots=True)
class EncodedQuestion:
    """A question's encoding, with how much of it the model's window let through.

    `vector`: float32 of shape (dimension,), unit length. `tokens_seen` of `tokens` (both without
    special ones) went into it. `token_vectors`: float32 of shape (n, directions), for inner
    products with expanded codes, of the words and parts of words; `offsets`: their (start, end) in
    the question. `whole`: float32 of shape (directions,), the vector turned likewise.
    """

    vector: Floats
    tokens: int
    tokens_seen: int
    token_vectors: Floats
    offsets: tuple[tuple[int, int], ...]
    whole: Floats


class Encoder(Protocol):
    """The seam to the model. Implementations are safe to call from several threads."""

    @property
    def name(self) -> str:
        """For people: the model's name or path."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the vectors; equal fingerprints, equal vectors."""

    @property
    def projection(self) -> str:
        """Name of what token vectors are compressed with; equal names, comparable ones."""

    @property
    def exported(self) -> Path | None:
        """The folder of the exported model that runs, for archives to carry; None if none does."""

    @property
    def window(self) -> int:
        """How many tokens of a passage the model sees, special ones and prompts left out."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones, however long it is."""

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text whole. Raises ValueError for one over the window: nothing is cut."""

    def encode_question(self, text: str) -> EncodedQuestion:
        """Encode a question, its end left out when it is over the window; the result says so."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Exact conditions on articles. `None` is no condition; an empty tuple lets nothing through.

    `published_from` and `published_to` are ISO dates or date-times, inclusive; a bare date is the
    whole day in UTC. An undated article does not pass a date filter.
    """

    source: tuple[str, ...] | None = None
    published_from: str | None = None
    published_to: str | None = None
    article_id: tuple[str, ...] | None = None
    exclude_article_id: tuple[str, ...] | None = None

    @property
    def dated(self) -> bool:
        """Whether a date is asked for."""
        return self.published_from is not None or self.published_to is not None


@dataclass(frozen=True, slots=True)
class Scores:
    """The raw signals of one hit: BM25, cosine, and MaxSim (None where it was not computed). Never
    normalised."""

    lexical: float
    dense: float
    late: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage with its scores. `score` orders the hits of one question; it is no confidence."""

    passage: Passage
    article: ArticleHead
    score: float
    scores: Scores


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote that can be checked: `article_text[start:end] == quote`, always."""

    rank: int
    hit: Hit
    quote: str
    start: int
    end: int
    highlights: tuple[tuple[int, int], ...]
    link: str | None


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tokens the cited passages take, counted by the tiktoken encoding named."""

    limit: int
    used: int
    encoding: str


@dataclass(frozen=True, slots=True)
class AskedPeriod:
    """A date or period that a question names: `text` stands at [start, end) of it, as asked.

    `published_from` and `published_to` are ISO dates, inclusive; no first one: up to the last. What
    may be read in two ways is two periods at one place.
    """

    text: str
    start: int
    end: int
    published_from: str | None
    published_to: str


@dataclass(frozen=True, slots=True)
class AskedSource:
    """A source of the archive that a question names: `text` stands at [start, end) of it."""

    text: str
    start: int
    end: int
    source: str


@dataclass(frozen=True, slots=True)
class Interpreted:
    """How a question was read: what is preferred in its answer, and never required.

    `asked_at`, ISO, is what relative expressions count from. `recent`: what was published in the
    weeks before it is preferred, since the caller said when the question was asked and the question
    names no date.
    """

    asked_at: str
    periods: tuple[AskedPeriod, ...]
    sources: tuple[AskedSource, ...]
    recent: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question: citations best first.

    `confidence` is the probability that the first citation answers the question, and `answered`
    that it is great enough. Where it is None, for a model that it was not fitted to or a first
    citation without token vectors, `answered` says that there are citations. `undated` counts the
    articles that only the date filter's need for a date kept out. `took_ms` is milliseconds by
    stage.
    """

    question: str
    answered: bool
    confidence: float | None
    citations: tuple[Citation, ...]
    generation: int
    undated: int
    tokens: int
    tokens_seen: int
    took_ms: Mapping[str, float]
    interpreted: Interpreted
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of a query, without the decision to answer."""

    question: str
    hits: tuple[Hit, ...]
    generation: int
    undated: int
    tokens: int
    tokens_seen: int
    took_ms: Mapping[str, float]
    interpreted: Interpreted
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a quote stands at its place. `found_at`: where it stands instead, None if nowhere."""

    valid: bool
    revision: int
    found_at: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that `rag check` found wrong, and in which part of the archive."""

    part: str
    problem: str
