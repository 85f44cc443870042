"""What an encoder makes of texts, and of the model's passes over them, whatever runs the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from rag.models import DEFAULT_MODEL
from rag.project import RANDOM, Projection, random_projection, shipped_projection
from rag.types import EncodedQuestion, Encoding, Floats, Places, TokenVectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXTS_AT_ONCE = 64
"""Texts tokenised in one go, while the model is at those before them: several passes' worth."""

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Shape:
    """What must be known of a model beside its weights and its tokenizer.

    `longest`: tokens it takes in one text, special ones and a prompt included. `pad`: the token
    that fills up the shorter texts of a batch. `query` and `document` are the prompts that stand
    before questions and passages, most often empty.
    """

    dimension: int
    longest: int
    pad: int
    query: str
    document: str


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A text, the ids the model is given for it, and the (start, end) of its own tokens.

    Special tokens and a prompt are among the ids and have no offsets.
    """

    text: str
    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Pass:
    """What the model gave for one text: `vector`, float32 of shape (dimension,), and `tokens`,
    float32 of shape (ids, dimension)."""

    vector: Floats
    tokens: Floats


class ModelEncoder(ABC):
    """The part of an `Encoder` that does not depend on what runs the model."""

    runtime: str
    """For people: what runs the model."""

    exported: Path | None = None

    def __init__(self, name: str, fingerprint: str, shape: Shape, tokenizer: Tokenizer) -> None:
        """`tokenizer` neither truncates nor pads."""
        self.name = name
        self.fingerprint = fingerprint
        self.projection = projection_name(name)
        self.shape = shape
        self.tokenizer = tokenizer
        self._projection = _projection(name, shape.dimension)
        marks = tokenizer.encode("a").special_tokens_mask
        inner = [at for at, mark in enumerate(marks) if not mark]
        self._before, self._behind = inner[0], len(marks) - 1 - inner[-1]
        self.window = self._window(shape.document)
        self._question_window = self._window(shape.query)

    @abstractmethod
    def _document_passes(self, texts: Sequence[Tokenised]) -> Sequence[Pass]:
        """A pass for each passage, in their order."""

    @abstractmethod
    def _question_pass(self, text: Tokenised) -> Pass:
        """The pass over one question."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones, however long it is."""
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encoded]

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text whole; ValueError for one over the window."""
        encodings = {}
        for place, tokenised, given in self._passes(texts):
            encodings[place] = self._encoding(tokenised, given)
        return [encodings[place] for place in range(len(texts))]

    def encode_question(self, text: str) -> EncodedQuestion:
        """Encode a question; what is over the window is left out, and the result says so."""
        tokens = self.count([text])[0]
        head = text if tokens <= self._question_window else self.head(text, self._question_window)
        (seen,) = self._tokenised([head], self.shape.query)
        given = self._question_pass(seen)
        vectors, kept = self._words(seen, given)
        vector = _unit(given.vector)
        turned = self._projection.question(np.vstack([vectors, vector]))
        offsets = trimmed(seen.text, [seen.offsets[at] for at in kept])
        return EncodedQuestion(
            vector, tokens, len(seen.offsets), turned[:-1], tuple(offsets), turned[-1]
        )

    def uncompressed(self, texts: Sequence[str]) -> Floats:
        """Token vectors of texts as the model gives them, a row each: to fit a projection to."""
        vectors = {place: self._words(text, given)[0] for place, text, given in self._passes(texts)}
        return np.concatenate([vectors[place] for place in range(len(texts))])

    def head(self, text: str, limit: int) -> str:
        """The start of `text` that has at most `limit` tokens; `text` itself if all of it does."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        while len(encoding) > limit:
            text = text[: encoding.offsets[limit][0]].rstrip()
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return text

    def _window(self, prompt: str) -> int:
        return self.shape.longest - self._before - self._behind - self.count([prompt])[0]

    def _passes(self, texts: Sequence[str]) -> Iterator[tuple[int, Tokenised, Pass]]:
        """The place of each text among `texts` with its tokens and pass, long texts first."""
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        some = [order[at : at + TEXTS_AT_ONCE] for at in range(0, len(order), TEXTS_AT_ONCE)]

        def tokenised(places: Sequence[int]) -> list[Tokenised]:
            return self._tokenised([texts[place] for place in places], self.shape.document)

        for places, ready in zip(some, _ahead(tokenised, some), strict=True):
            longest = max(len(each.offsets) for each in ready)
            if longest > self.window:
                raise ValueError(f"a text of {longest} tokens is over the window of {self.window}")
            yield from zip(places, ready, self._document_passes(ready), strict=True)

    def _tokenised(self, texts: Sequence[str], prompt: str) -> list[Tokenised]:
        whole = self.tokenizer.encode_batch([prompt + text for text in texts])
        if not prompt:
            inner = slice(self._before, -self._behind or None)
            return [
                Tokenised(text, each.ids, each.offsets[inner])
                for text, each in zip(texts, whole, strict=True)
            ]
        alone = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            Tokenised(text, each.ids, own.offsets)
            for text, each, own in zip(texts, whole, alone, strict=True)
        ]

    def _encoding(self, text: Tokenised, given: Pass) -> Encoding:
        vectors, kept = self._words(text, given)
        offsets = trimmed(text.text, [text.offsets[at] for at in kept])
        codes = self._projection.compress(vectors)
        tokens = self._before + len(text.offsets) + self._behind
        places = _places(len(text.text), offsets)
        return Encoding(_unit(given.vector), tokens, TokenVectors(codes, places))

    def _words(self, text: Tokenised, given: Pass) -> tuple[Floats, list[int]]:
        """Vectors of the text's words and parts of words, and which of its tokens these are."""
        first = len(given.tokens) - self._behind - len(text.offsets)  # a prompt may be before it
        kept = [
            at
            for at, (start, end) in enumerate(text.offsets)
            if any(map(str.isalnum, text.text[start:end]))
        ]
        return _checked(given.tokens[[first + at for at in kept]]), kept


def projection_name(model: str) -> str:
    """Name of what token vectors of this model are compressed with."""
    return shipped_projection().fingerprint if model == DEFAULT_MODEL else RANDOM


def trimmed(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without the space that tokens of some models begin with."""
    return [
        (end - len(text[start:end].lstrip()), end) if text[start:end].strip() else (start, end)
        for start, end in offsets
    ]


def _projection(model: str, dimension: int) -> Projection:
    return shipped_projection() if model == DEFAULT_MODEL else random_projection(dimension)


def _ahead(make: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """What `make` gives for each item, the next one being made while the caller is at this one."""
    with ThreadPoolExecutor(1, "tokenise") as thread:
        pending = [thread.submit(make, item) for item in items[:1]]
        for item in items[1:]:
            made = pending.pop().result()
            pending.append(thread.submit(make, item))
            yield made
        for last in pending:
            yield last.result()


def _places(length: int, offsets: Sequence[tuple[int, int]]) -> Places:
    before_end = length - np.array(offsets, dtype=np.int64).reshape(-1, 2)
    return np.minimum(before_end, np.iinfo(np.uint16).max).astype(np.uint16)


def _unit(vector: Floats) -> Floats:
    """The vector at unit length, which not every model gives it."""
    length = np.float32(np.linalg.norm(vector))
    return _checked(vector / max(length, np.finfo(np.float32).tiny))


def _checked(vectors: Floats) -> Floats:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the model gave a vector that is not finite")
    return vectors
