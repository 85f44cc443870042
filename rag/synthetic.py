"""Archives of any size, made up from a real one, to measure speed and memory on.

Nothing in them is true and no answer from them means anything. Each article is drawn from the
sentences of the real archive, shuffled; each vector lies between those of two near passages of it,
with noise in the directions in which near passages differ. So words have real frequencies and
vectors real neighbourhoods, which is what the speed and the recall of a search depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import faiss
import numpy as np

from rag.archive import Archive
from rag.errors import InvalidRequest
from rag.ingest import encoder_input
from rag.reading import Reading
from rag.schema import ArticleDraft, PassageDraft
from rag.snapshot import Fingerprint
from rag.types import Article, Codes, Encoding, Floats, Span, TokenVectors

STOCK = 10_000
"""Passages of the real archive that others are made up from, at most."""

NEIGHBOURS = 64
NOISE = 0.6
"""Of the standard deviation between near passages. Made from 15,000 real passages of five
collections, the tenth best of 15,000 is at cosine .34 from a real question, on average, and the
tenth best real one at .39: no nearer, so that searching is not made easier than it is."""

PASSAGES_AN_ARTICLE = 8
PASSAGE_CHARACTERS = 450
TITLE_CHARACTERS = 60
SOURCES = 40
FIRST_DAY, DAYS = date(2015, 1, 1), 3650
BATCH_ARTICLES = 1000
CHARACTERS_A_TOKEN = 4.5


@dataclass(frozen=True, slots=True)
class Stock:
    """What is drawn from: sentences, passage vectors (a row each), codes of words (a row each)."""

    sentences: Sequence[str]
    vectors: Floats
    codes: Codes


def stock(reading: Reading) -> Stock:
    """The stock of an archive. Raises InvalidRequest for one that has no token vectors."""
    manifest = reading.manifest()
    numbers, vectors = reading.vectors(0, int(manifest.get("dimension", 0)), limit=STOCK)
    codes = [each.codes for each in reading.token_vectors(numbers.tolist()).values()]
    sentences = [
        passage.text[start - passage.span.start : end - passage.span.start]
        for passage, _ in reading.passages(numbers.tolist()).values()
        for start, end in passage.span.sentences
    ]
    if not sentences or not codes:
        raise InvalidRequest("index", "it holds no sentences with token vectors to draw from")
    return Stock(sentences, vectors, np.concatenate(codes))


def fill(
    archive: Archive,
    drawn_from: Stock,
    passages: int,
    fingerprint: Fingerprint,
    *,
    seed: int = 0,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """Add made-up articles with so many passages together; `tell` is told how many there are.

    Equal arguments give equal articles. The base is written once, at the end.
    """
    random = np.random.default_rng(seed)
    vectors = _vectors(drawn_from.vectors, random)
    drafts: list[ArticleDraft] = []
    encodings: dict[bytes, Encoding] = {}
    made = 0
    while made < passages:
        most = min(PASSAGES_AN_ARTICLE, passages - made)
        name = f"made-up-{seed}-{made // PASSAGES_AN_ARTICLE}"
        drafts.append(_article(name, most, drawn_from, vectors, random, encodings))
        made += most
        if len(drafts) == BATCH_ARTICLES or made == passages:
            archive.publish(drafts, encodings, fingerprint)
            drafts, encodings = [], {}
            tell(made)
    archive.renew_base()


def _article(
    name: str,
    passages: int,
    drawn_from: Stock,
    vectors: Iterator[Floats],
    random: np.random.Generator,
    encodings: dict[bytes, Encoding],
) -> ArticleDraft:
    """An article; the encodings of its passages are put into `encodings`."""
    title = _sentence(drawn_from, random)[:TITLE_CHARACTERS]
    text, drafts = "", []
    for _ in range(passages):
        start, marks = len(text), []
        while len(text) - start < PASSAGE_CHARACTERS:
            sentence = _sentence(drawn_from, random)
            marks.append((len(text), len(text) + len(sentence)))
            text += sentence + " "
        end = marks[-1][1]
        given = encoder_input(title, text[start:end])
        key = hashlib.sha256(given.encode()).digest()
        tokens = 1 + int(len(given) / CHARACTERS_A_TOKEN)
        words = _token_vectors(len(given), tokens, drawn_from.codes, random)
        encodings[key] = Encoding(next(vectors), tokens, words)
        drafts.append(PassageDraft(Span(start, end, tokens, tuple(marks)), key))
    day = FIRST_DAY + timedelta(days=int(random.integers(DAYS)))
    source = f"Made-up Paper {random.integers(SOURCES)}"
    article = Article(name, title, text, source=source, published_at=day.isoformat())
    return ArticleDraft(article, tuple(drafts))


def _sentence(drawn_from: Stock, random: np.random.Generator) -> str:
    return drawn_from.sentences[int(random.integers(len(drawn_from.sentences)))]


def _token_vectors(
    characters: int, tokens: int, codes: Codes, random: np.random.Generator
) -> TokenVectors:
    """A run of real words' codes, spread evenly over a text of so many characters."""
    at = (int(random.integers(len(codes))) + np.arange(tokens)) % len(codes)
    edges = np.linspace(min(characters, 65_535), 0, tokens + 1).astype(np.uint16)
    return TokenVectors(codes[at], np.column_stack([edges[:-1], edges[1:]]))


def _vectors(real: Floats, random: np.random.Generator) -> Iterator[Floats]:
    """Unit vectors between two near ones of `real`, with noise, without end."""
    index = faiss.IndexFlatIP(real.shape[1])
    index.add(real)
    near = index.search(real, min(NEIGHBOURS, len(real)))[1]

    def pairs() -> tuple[Floats, Floats]:
        one = random.integers(len(real), size=STOCK)
        return real[one], real[near[one, random.integers(near.shape[1], size=STOCK)]]

    one, other = pairs()
    apart = (one - other).T @ (one - other) / STOCK
    noise = NOISE * np.linalg.cholesky(apart + 1e-6 * np.eye(len(apart))).T.astype(np.float32)
    while True:
        one, other = pairs()
        part = random.random((STOCK, 1), dtype=np.float32)
        drawn = random.standard_normal((STOCK, real.shape[1]), dtype=np.float32) @ noise
        mixed = part * one + (1 - part) * other + drawn
        yield from mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
