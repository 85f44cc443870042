"""Made-up archives: sound, of the size asked for, the same every time, near to real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rag import vectors
from rag.archive import Archive
from rag.errors import InvalidRequest
from rag.ingest import fingerprint
from rag.searcher import Searcher
from rag.synthetic import PASSAGE_CHARACTERS, PASSAGES_AN_ARTICLE, Stock, fill, stock
from rag.types import Article
from tests.fakes import DIMENSION, FakeEncoder, add

ENCODER = FakeEncoder()
TOPICS = ["storm", "levee", "budget", "vote", "harvest", "railway", "strike", "glacier"]


def news(number: int) -> Article:
    one, other = TOPICS[number % 8], TOPICS[number * 3 % 8]
    text = f"The {one} of place{number} met the {other}. It was {number} days long.\n\nIt ended."
    return Article(id=f"n{number}", title=f"{one} news", text=text)


@pytest.fixture(name="real", scope="module")
def _real(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        add(archive, ENCODER, *[news(number) for number in range(40)])
        with archive.reading() as reading:
            assert reading is not None
            return stock(reading)


@pytest.fixture(name="archive")
def _archive(tmp_path: Path) -> Iterator[Archive]:
    with closing(Archive(tmp_path / "index")) as archive:
        yield archive


def made(archive: Archive, real: Stock, passages: int, seed: int = 0) -> list[int]:
    told: list[int] = []
    fill(archive, real, passages, fingerprint(ENCODER, 100), seed=seed, tell=told.append)
    return told


def test_the_stock_is_the_archives_own_sentences(real: Stock) -> None:
    assert "The storm of place8 met the storm." in real.sentences
    assert "It was 7 days long." in real.sentences
    assert len(real.vectors) > 40
    assert real.codes.shape[1] == DIMENSION // 4


@pytest.mark.parametrize("passages", [1, 7, 8, 9, 100])
def test_an_archive_has_the_passages_asked_for_and_is_sound(
    archive: Archive, real: Stock, passages: int
) -> None:
    assert made(archive, real, passages) == [passages]
    assert archive.check() == []
    with archive.snapshot() as snapshot:
        assert snapshot.counts() == (-(-passages // PASSAGES_AN_ARTICLE), passages)
        assert snapshot.vectors is not None
        assert snapshot.vectors.base is not None
        stored = snapshot.passages(list(range(1, passages + 1)))
        codes = snapshot.token_vectors(list(stored))
    for number, (passage, article) in stored.items():
        assert len(passage.text) >= PASSAGE_CHARACTERS - 1
        assert article.id.startswith("made-up-0-")
        assert str(article.source).startswith("Made-up Paper")
        places = codes[number].places.astype(int)
        whole = len(article.title) + 1 + len(passage.text)
        assert (places[:, 0] >= places[:, 1]).all()
        assert abs(places[0, 0] - whole) <= 1
        assert places[-1, 1] == 0
        for start, end in passage.span.sentences:
            at = passage.span.start
            assert passage.text[start - at : end - at] in real.sentences


def test_questions_are_answered(archive: Archive, real: Stock) -> None:
    made(archive, real, 100)
    answer = Searcher(archive, ENCODER).ask("who met the glacier", top_k=3)
    assert len(answer.citations) == 3
    assert all("glacier" in citation.hit.passage.text for citation in answer.citations)


def test_equal_seeds_give_equal_archives_and_others_more(
    archive: Archive, real: Stock, tmp_path: Path
) -> None:
    made(archive, real, 30)
    with closing(Archive(tmp_path / "other")) as other:
        made(other, real, 30)
        with archive.reading() as one, other.reading() as two:
            assert one is not None
            assert two is not None
            assert [h.sha256 for h in one.heads(limit=9)] == [h.sha256 for h in two.heads(limit=9)]
            assert np.array_equal(one.vectors(0, DIMENSION)[1], two.vectors(0, DIMENSION)[1])
    made(archive, real, 30, seed=1)
    with archive.reading() as both:
        assert both is not None
        assert both.counts() == (8, 60)


def test_vectors_are_of_unit_length_and_near_to_real_ones(archive: Archive, real: Stock) -> None:
    made(archive, real, 200)
    with archive.reading() as reading:
        assert reading is not None
        _, matrix = reading.vectors(0, DIMENSION)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)
    nearest = (matrix @ real.vectors.T).max(axis=1)
    drawn = np.random.default_rng(1).standard_normal((200, DIMENSION)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    assert np.median(nearest) > np.median((drawn @ real.vectors.T).max(axis=1)) + 0.2


def test_a_large_one_has_codes(
    archive: Archive, real: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "EXACT_MOST", 100)
    made(archive, real, 101)
    with archive.snapshot() as snapshot:
        assert snapshot.vectors is not None
        assert snapshot.vectors.base is not None
        assert snapshot.vectors.base.record.quantised
    assert archive.check() == []


def test_nothing_can_be_drawn_from_an_archive_without_texts(archive: Archive) -> None:
    add(archive, ENCODER, Article(id="bare", title="Storm warning", text=""))
    with archive.reading() as reading:
        assert reading is not None
        with pytest.raises(InvalidRequest, match="no sentences"):
            stock(reading)
