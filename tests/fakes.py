"""Stand-ins for the parts that are slow: an encoder that is words hashed into a small vector.

And what is asked of every archive built with it: that it holds just these articles, whole.
"""

from __future__ import annotations

import re
import sqlite3
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from rag.archive import Archive
from rag.encoder import Shape
from rag.exported import GRAPH, TOKENIZER, WEIGHTS, appearing, describe
from rag.ingest import IngestReport, encoder_input, ingest
from rag.project import RANDOM, random_projection
from rag.schema import same_record
from rag.snapshot import Snapshot
from rag.types import Article, ArticleHead, EncodedQuestion, Encoding, Floats, Passage, TokenVectors

DIMENSION = 32

EXPORT_SHAPE = Shape(dimension=DIMENSION, longest=256, pad=1, query="ask: ", document="")

_PROJECTION = random_projection(DIMENSION)

_WORD = re.compile(r"\w+|[^\w\s]")


class FakeEncoder:
    """An `Encoder` without a model: equal words give near vectors, equal seeds equal ones.

    A token is a word or a mark. Safe for threads, but for the counters `passages_encoded` and
    `questions_encoded`.
    """

    def __init__(
        self,
        *,
        name: str = "fake",
        seed: int = 0,
        window: int = 256,
        exported: Path | None = None,
    ) -> None:
        self.exported = exported
        self._name = name
        self._seed = seed
        self._window = window
        self.passages_encoded = 0
        self.questions_encoded = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def fingerprint(self) -> str:
        return f"{self._name}-{self._seed}-{DIMENSION}"

    @property
    def projection(self) -> str:
        return RANDOM

    @property
    def window(self) -> int:
        return self._window

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) for text in texts]

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        counts = self.count(texts)
        if counts and max(counts) > self._window:
            raise ValueError(f"{max(counts)} tokens are over the window of {self._window}")
        self.passages_encoded += len(texts)
        return [
            Encoding(self._vector(text), count, self._token_vectors(text))
            for text, count in zip(texts, counts, strict=True)
        ]

    def encode_question(self, text: str) -> EncodedQuestion:
        self.questions_encoded += 1
        words = list(_WORD.finditer(text))
        seen = words[: self._window]
        vector = self._vector(" ".join(word[0] for word in seen))
        kept = [word for word in seen if word[0][0].isalnum()]
        turned = _PROJECTION.question(
            np.array([*(self._vector(word[0]) for word in kept), vector], dtype=np.float32)
        )
        offsets = tuple(word.span() for word in kept)
        return EncodedQuestion(vector, len(words), len(seen), turned[:-1], offsets, turned[-1])

    def _token_vectors(self, text: str) -> TokenVectors:
        kept = [word for word in _WORD.finditer(text) if word[0][0].isalnum()]
        vectors = np.array([self._vector(word[0]) for word in kept], dtype=np.float32)
        places = len(text) - np.array([word.span() for word in kept], dtype=np.int64)
        return TokenVectors(
            _PROJECTION.compress(vectors.reshape(-1, DIMENSION)),
            np.minimum(places, 65_535).astype(np.uint16).reshape(-1, 2),
        )

    def _vector(self, text: str) -> Floats:
        vector = np.zeros(DIMENSION, dtype=np.float32)
        vector[0] = 0.1  # a text without a word has a direction too
        for word in _WORD.findall(text.lower()):
            number = zlib.crc32(f"{self._seed} {word}".encode())
            vector[number % DIMENSION] += 1.0 if number & 0x10000 else -1.0
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length)


class SlowEncoder(FakeEncoder):
    """A fake that takes its time for each batch of passages and each question but the first, by
    which a server sees whether the model is there."""

    def __init__(self, takes_s: float) -> None:
        super().__init__()
        self._takes_s = takes_s

    def encode_question(self, text: str) -> EncodedQuestion:
        if self.questions_encoded:
            time.sleep(self._takes_s)
        return super().encode_question(text)

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        time.sleep(self._takes_s)
        return super().encode_passages(texts)


def fake_export(folder: Path, fingerprint: str) -> Path:
    """An exported model's folder, but for what is in its files."""
    with appearing(folder) as new:
        for name in (GRAPH, WEIGHTS, TOKENIZER):
            (new / name).write_bytes(name.encode() * 100)
        describe(new, "fake", fingerprint, EXPORT_SHAPE)
    return folder


def add(
    archive: Archive, encoder: FakeEncoder, *articles: Article, passage_tokens: int = 12
) -> IngestReport:
    """Ingest with passages of a sentence or two, so that small articles have several."""
    return ingest(archive, encoder, articles, passage_tokens=passage_tokens)


def assert_holds(folder: Path, articles: Iterable[Article]) -> None:
    """The archive has just these articles, each found whole by words and vectors, and is sound."""
    expected = {article.id: article for article in articles}
    with closing(Archive(folder)) as archive:
        with archive.snapshot() as snapshot:
            assert_snapshot_holds(snapshot, expected)
        assert archive.check() == []
        if archive.manifest():
            assert orphans(folder) == 0


def orphans(folder: Path) -> int:
    """Token vectors in the database that no encoding has."""
    left = "SELECT count(*) FROM token_vectors WHERE encoding NOT IN (SELECT number FROM encoding)"
    with closing(sqlite3.connect(folder / "library.db")) as connection:
        return int(connection.execute(left).fetchone()[0])


def assert_snapshot_holds(snapshot: Snapshot, expected: dict[str, Article]) -> None:
    """As `assert_holds`, of one snapshot and but for `check`."""
    heads = {head.id: head for head in snapshot.heads(limit=100_000)}
    assert sorted(heads) == sorted(expected)
    numbers = np.flatnonzero(snapshot.columns.alive)
    stored = snapshot.passages(numbers.tolist())
    assert sorted(stored) == numbers.tolist()
    assert snapshot.counts() == (len(expected), len(numbers))
    passages: dict[str, list[Passage]] = defaultdict(list)
    for passage, head in stored.values():
        assert head == heads[head.id]
        passages[head.id].append(passage)
    for article_id, article in expected.items():
        assert same_record(article, heads[article_id])
        assert snapshot.text(heads[article_id]) == article.text
        _assert_passages(article, heads[article_id], passages[article_id])
    if snapshot.generation == 0:
        assert snapshot.vectors is None
        assert snapshot.lexical is None
        return
    assert snapshot.vectors is not None
    assert snapshot.lexical is not None
    assert snapshot.lexical.passage_numbers().tolist() == numbers.tolist()
    everywhere = np.zeros(DIMENSION, np.float32)
    found, _ = snapshot.vectors.search(everywhere, len(numbers) + 1, snapshot.columns.alive)
    assert found.tolist() == numbers.tolist()
    token_vectors = snapshot.token_vectors(list(stored))
    assert sorted(token_vectors) == (numbers.tolist() if "projection" in snapshot.manifest else [])
    for number, (passage, head) in stored.items():
        text = encoder_input(head.title, passage.text)
        (encoding,) = FakeEncoder().encode_passages([text])
        if number in token_vectors:
            assert_equal(token_vectors[number], encoding.token_vectors)
        vector = encoding.vector
        scores = snapshot.vectors.score(vector, np.array([number]))
        assert scores.tolist() == [np.vecdot(vector, vector)]
        terms = [term.text for term in snapshot.analyzer.terms(text)]
        if terms:
            assert snapshot.lexical.score(terms, np.array([number]))[0] > 0


def assert_equal(found: TokenVectors, expected: TokenVectors) -> None:
    """The same bytes at the same places."""
    assert found.places.dtype == expected.places.dtype == np.uint16
    assert found.codes.dtype == expected.codes.dtype == np.uint8
    assert found.places.tolist() == expected.places.tolist()
    assert found.codes.tolist() == expected.codes.tolist()


def _assert_passages(article: Article, head: ArticleHead, passages: Sequence[Passage]) -> None:
    assert len(passages) >= 1
    for passage in passages:
        assert (passage.article_id, passage.revision) == (article.id, head.revision)
        assert passage.text == article.text[passage.span.start : passage.span.end]
    together = "".join(passage.text for passage in sorted(passages, key=lambda p: p.span.start))
    assert "".join(together.split()) == "".join(article.text.split())
