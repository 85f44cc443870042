"""The database: one view a reader, all or nothing a writer, and every question it answers."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rag.store as store_module
from rag.errors import ArchiveDamaged, FormatNotSupported, RagError, StorageFailed
from rag.reading import VARIABLES_AT_ONCE, Reading
from rag.schema import FORMAT, ArticleDraft, PassageDraft
from rag.store import Store
from rag.types import Article, Encoding, Span, TokenVectors
from rag.writing import Writing

DIMENSION = 4


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "library.db")) as store:
        store.create()
        yield store


def article(number: int, version: int = 0, **fields: str | None) -> Article:
    values: dict[str, str | None] = {"title": f"Title {number}", "source": "Paper", **fields}
    text = f"Story {number} in version {version}. It ends here."
    return Article(id=f"a{number}", text=text, **values)  # type: ignore[arg-type]


def encoding(text: str) -> Encoding:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return Encoding(vector, len(text.split()), token_vectors(text))


def token_vectors(text: str) -> TokenVectors:
    """Two bytes a word that tell whose they are."""
    codes = [list(hashlib.sha256(word.encode()).digest()[:2]) for word in text.split()]
    places = [(len(text) - at, len(text) - at - 1) for at in range(len(codes))]
    return TokenVectors(
        np.array(codes, dtype=np.uint8).reshape(-1, 2),
        np.array(places, dtype=np.uint16).reshape(-1, 2),
    )


def draft(made: Article) -> tuple[ArticleDraft, dict[bytes, Encoding]]:
    """A passage for each sentence."""
    cut = made.text.index(".") + 1
    passages, encodings = [], {}
    for start, end in ((0, cut), (cut + 1, len(made.text))):
        text = made.text[start:end]
        key = hashlib.sha256(text.encode()).digest()
        passages.append(PassageDraft(Span(start, end, len(text.split()), ((start, end),)), key))
        encodings[key] = encoding(text)
    return ArticleDraft(made, tuple(passages)), encodings


def put(writing: Writing, generation: int, *articles: Article) -> list[int]:
    revisions = []
    for made in articles:
        one, encodings = draft(made)
        writing.add_encodings(encodings)
        revisions.append(writing.add_article(one, generation))
    writing.set_manifest({"committed": str(generation)})
    return revisions


def publish(store: Store, generation: int, *articles: Article, removed: str = "") -> None:
    with store.write() as writing:
        if removed:
            writing.remove_article(removed, generation)
        put(writing, generation, *articles)
        writing.publish(generation)


# The file


def test_creating_twice_changes_nothing(store: Store) -> None:
    with store.read() as reading:
        name = reading.archive()
        assert (reading.generation, reading.counts()) == (0, (0, 0))
    publish(store, 1, article(1))
    store.create()
    with store.read() as reading:
        assert reading.archive() == name
        assert (reading.generation, reading.counts()) == (1, (1, 2))


def test_each_archive_has_a_name_of_its_own(store: Store, tmp_path: Path) -> None:
    with closing(Store(tmp_path / "other.db")) as other:
        assert not other.exists()
        other.create()
        assert other.exists()
        with store.read() as mine, other.read() as theirs:
            assert len(mine.archive()) == len(theirs.archive()) == 32
            assert mine.archive() != theirs.archive()


def test_it_writes_ahead_and_waits_for_the_disk(store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "library.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with store.read() as reading:
        assert reading._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_database_of_no_format_is_not_current(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "library.db").close()
    (tmp_path / "library.db").touch()
    with closing(Store(tmp_path / "library.db")) as store:
        assert store.is_empty()
        assert not store.is_current()
        store.create()
        assert store.is_current()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "library.db")) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 3}")
    with closing(Store(tmp_path / "library.db")) as store:
        for call in (store.create, store.is_empty, store.is_current):
            with pytest.raises(FormatNotSupported, match=f"format {FORMAT + 3}"):
                call()


def test_a_file_that_takes_its_place_is_the_one_that_is_read(store: Store, tmp_path: Path) -> None:
    publish(store, 1, article(1))
    with closing(Store(tmp_path / "other.db")) as other:
        other.create()
        publish(other, 1, article(7))
    before = store.place()
    for name in ("library.db-wal", "library.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "other.db").replace(tmp_path / "library.db")
    assert store.place() != before
    with store.read() as reading:
        assert [head.id for head in reading.heads(limit=9)] == ["a7"]
    (tmp_path / "library.db").unlink()
    assert store.place() is None


# Transactions


def test_a_reading_does_not_change_while_it_lasts(store: Store) -> None:
    publish(store, 1, article(1), article(2))
    with store.read() as before:
        publish(store, 2, article(1, version=1), article(3), removed="a2")
        with store.read() as after:
            assert (before.generation, after.generation) == (1, 2)
            assert [head.id for head in before.heads(limit=9)] == ["a1", "a2"]
            assert [head.id for head in after.heads(limit=9)] == ["a1", "a3"]
            assert before.text("a2", 1) == article(2).text
            assert after.head("a2", 1) is None
        assert before.counts() == (2, 4)
        assert before.vectors(0, DIMENSION)[0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_writing_that_fails_leaves_nothing(store: Store, error: type[BaseException]) -> None:
    publish(store, 1, article(1))

    def write() -> None:
        with store.write() as writing:
            put(writing, 2, article(1, version=1), article(2))
            writing.publish(2)
            raise error("half-way")

    with pytest.raises(error):
        write()
    with store.read() as reading:
        assert (reading.generation, reading.unpublished(), reading.counts()) == (1, None, (1, 2))
        assert len(reading.known(list(draft(article(2))[1]))) == 1
    publish(store, 2, article(2))
    with store.read() as reading:
        assert reading.counts() == (2, 4)


def test_a_full_disk_is_named_and_leaves_nothing(store: Store) -> None:
    publish(store, 1, article(1))

    def write() -> None:
        with store.write() as writing:
            pages = writing._connection.execute("PRAGMA page_count").fetchone()[0]
            writing._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
            put(writing, 2, *[article(number) for number in range(1000)])

    with pytest.raises(StorageFailed, match="database or disk is full"):
        write()
    publish(store, 2, article(2))
    with store.read() as reading:
        assert reading.counts() == (2, 4)
        assert list(reading.faults()) == []


def test_a_transaction_that_sqlite_ended_itself_keeps_its_reason(store: Store) -> None:
    def write() -> None:
        with store.write() as writing:
            writing._connection.execute("ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    with pytest.raises(StorageFailed, match="disk I/O error"):
        write()


def test_a_database_that_others_keep_locked_is_given_up_in_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.05)
    with store.write() as writing:
        put(writing, 1, article(1))
        with (
            closing(Store(tmp_path / "library.db")) as other,
            pytest.raises(StorageFailed, match="database is locked"),
            other.write(),
        ):
            pass
        with closing(Store(tmp_path / "library.db")) as other, other.read() as reading:
            assert reading.counts() == (0, 0)


def test_threads_read_and_write_at_once(store: Store) -> None:
    publish(store, 1, *[article(number) for number in range(5)])
    done = threading.Event()

    def read() -> set[int]:
        seen = set()
        while not done.is_set():
            with store.read() as reading:
                texts = {reading.text(head.id, head.revision) for head in reading.heads(limit=9)}
                version = reading.generation - 1
                assert texts == {article(number, version).text for number in range(5)}
                seen.add(version)
        return seen

    with ThreadPoolExecutor(3) as threads:
        reads = [threads.submit(read) for _ in range(3)]
        try:
            for version in range(1, 12):
                publish(store, version + 1, *[article(number, version) for number in range(5)])
        finally:
            done.set()
        assert all(each.result() for each in reads)


def garbage(file: Path) -> None:
    file.write_bytes(b"neither header nor pages " * 400)


def no_folder(file: Path) -> None:
    for each in file.parent.iterdir():
        each.unlink()
    file.parent.rmdir()


def no_tables(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT}")


@pytest.mark.parametrize(
    ("harm", "error", "named"),
    [
        (garbage, ArchiveDamaged, "file is not a database"),
        (no_folder, StorageFailed, "unable to open database file"),
        (no_tables, ArchiveDamaged, "no such table"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(
    tmp_path: Path, harm: Callable[[Path], None], error: type[RagError], named: str
) -> None:
    file = tmp_path / "folder" / "library.db"
    file.parent.mkdir()
    with closing(Store(file)) as store:
        store.create()
    harm(file)
    with closing(Store(file)) as store, pytest.raises(error, match=named) as caught, store.read():
        pass
    assert "library.db" in str(caught.value)


# Questions


@pytest.fixture(name="history")
def _history(store: Store) -> Store:
    """Three generations: five articles, two of them revised, one removed and one revised."""
    publish(store, 1, *[article(number) for number in range(5)])
    publish(store, 2, article(1, version=1), article(2, source=None, url="https://a.example/2"))
    publish(store, 3, article(1, version=2), removed="a4")
    return store


def test_heads_come_by_id_a_page_at_a_time(history: Store) -> None:
    with history.read() as reading:
        every = reading.heads(limit=9)
        assert [(head.id, head.revision) for head in every] == [
            ("a0", 1),
            ("a1", 3),
            ("a2", 2),
            ("a3", 1),
        ]
        assert reading.heads(limit=2) == every[:2]
        assert reading.heads(limit=2, after="a1") == every[2:]
        assert reading.heads(limit=2, after="a11") == every[2:]
        assert reading.heads(limit=0) == []
        assert every[1].characters == len(article(1, version=2).text)
        assert every[1].sha256 == article(1, version=2).sha256


def test_a_revision_by_its_number(history: Store) -> None:
    with history.read() as reading:
        for revision in (1, 2, 3):
            head = reading.head("a1", revision)
            assert head is not None
            assert head.revision == revision
            assert reading.text("a1", revision) == article(1, version=revision - 1).text
        assert reading.head("a1") == reading.head("a1", 3)
        for article_id, wanted in (("a1", 4), ("a1", 0), ("a4", 1), ("a4", None), ("b", None)):
            assert reading.head(article_id, wanted) is None


def test_articles_by_address_and_by_text(history: Store) -> None:
    with history.read() as reading:
        assert reading.ids_at("https://a.example/2") == ["a2"]
        assert reading.ids_at("https://a.example/") == []
        assert reading.ids_of_text(article(1, version=2).sha256) == ["a1"]
        assert reading.ids_of_text(article(1).sha256) == []
        assert reading.ids_of_text(article(4).sha256) == []
        assert reading.ids_of_text(article(3).sha256, "Title 3") == ["a3"]
        assert reading.ids_of_text(article(3).sha256, "Title 4") == []
    publish(history, 4, article(2))
    with history.read() as reading:
        assert reading.ids_at("https://a.example/2") == []


def test_numbers_of_articles_and_back(history: Store) -> None:
    with history.read() as reading:
        numbers = reading.article_numbers(["a1", "a3", "nobody"])
        assert len(numbers) == 4
        assert reading.article_ids([*numbers, 999]) == {
            number: "a3" if number == 4 else "a1" for number in numbers
        }
        rows = reading.article_rows(0)
        assert [row.number for row in rows] == [1, 2, 3, 4, 6, 7, 8]
        assert {row.source for row in rows} == {"Paper", None}
        assert reading.article_rows(6) == rows[-2:]


def test_passages_and_vectors_of_the_living(history: Store) -> None:
    with history.read() as reading:
        numbers, articles = reading.passage_columns(0)
        stored = reading.passages(numbers.tolist())
        assert [stored[number][1].id for number in numbers.tolist()] == [
            reading.article_ids([at])[at] for at in articles.tolist()
        ]
        assert reading.counts() == (4, len(numbers))
        found, matrix = reading.vectors(0, DIMENSION)
        assert found.tolist() == numbers.tolist()
        for row, number in zip(matrix, found.tolist(), strict=True):
            assert np.array_equal(row, encoding(stored[number][0].text).vector)
        later, _ = reading.passage_columns(int(numbers[3]))
        assert later.tolist() == numbers[4:].tolist()
        first, _ = reading.vectors(int(numbers[1]), DIMENSION, limit=3)
        assert first.tolist() == numbers[2:5].tolist()
        assert reading.vectors(10_000, DIMENSION)[1].shape == (0, DIMENSION)
        assert reading.count_over(int(numbers[-1])) == 0
        assert reading.count_over(0) == numbers[-1]


def test_what_died_and_what_was_born_between(history: Store) -> None:
    with history.read() as reading:
        assert reading.died(0, 1).tolist() == []
        assert reading.died(1, 2).tolist() == [3, 4, 5, 6]
        assert reading.died(2, 3).tolist() == [9, 10, 11, 12]
        assert reading.died(0, 3).tolist() == [3, 4, 5, 6, 9, 10, 11, 12]
        alive = reading.passage_columns(0)[0].tolist()
        assert [row.passage for row in reading.lexical_rows(0, 3)] == alive
        assert [row.passage for row in reading.lexical_rows(2, 3)] == [15, 16]
        rows = list(reading.lexical_rows(1, 3))
        assert [(row.source, row.title) for row in rows[:2]] == [(None, "Title 2")] * 2
        assert rows[-2].text == "Story 1 in version 2."


def test_dates_are_kept_as_they_were_and_as_moments(store: Store) -> None:
    publish(store, 1, article(1, published_at="2025-11-23"), article(2))
    with store.read() as reading:
        dated, undated = reading.article_rows(0)
        assert dated.first is not None
        assert dated.last == dated.first + 86_400_000_000 - 1
        assert (undated.first, undated.last) == (None, None)
        assert [head.published_at for head in reading.heads(limit=2)] == ["2025-11-23", None]


def test_lists_may_be_longer_than_sqlite_takes_at_once(store: Store) -> None:
    count = 2 * VARIABLES_AT_ONCE + 1
    publish(store, 1, *[article(number) for number in range(count)])
    with store.read() as reading:
        keys = [key for number in range(count) for key in draft(article(number))[1]]
        assert len(reading.known([*keys, b"unknown"])) == count + 1
        assert len(reading.article_numbers(f"a{number}" for number in range(count))) == count
        numbers = reading.passage_columns(0)[0].tolist()
        assert sorted(reading.passages(numbers)) == numbers
        assert len(numbers) == 2 * count


def test_a_change_that_is_not_published_is_not_seen(history: Store) -> None:
    with history.write() as writing:
        assert writing.unpublished() is None
        assert put(writing, 4, article(0, version=9), article(8)) == [2, 1]
        writing.remove_article("a3", 4)
    with history.read() as reading:
        assert (reading.generation, reading.unpublished()) == (3, 4)
        assert [head.id for head in reading.heads(limit=9)] == ["a0", "a1", "a2", "a3"]
        assert reading.head("a0", 2) is None
        assert reading.article_rows(8) == []
        before = reading.passage_columns(0)[0].tolist()
        assert reading.vectors(0, DIMENSION)[0].tolist() == before
        after = [row.passage for row in reading.lexical_rows(0, 4)]
        assert set(before) - set(after) == set(reading.died(3, 4).tolist())
        assert len(set(after) - set(before)) == 4
    with history.write() as writing:
        writing.publish(4)
    with history.read() as reading:
        assert reading.passage_columns(0)[0].tolist() == after
        assert [head.id for head in reading.heads(limit=9)] == ["a0", "a1", "a2", "a8"]


def test_an_encoding_that_is_there_stays_as_it_is(store: Store) -> None:
    publish(store, 1, article(1))
    _, encodings = draft(article(1))
    with store.read() as reading:
        numbers, before = reading.vectors(0, DIMENSION)
        words = reading.token_vectors(numbers.tolist())
    with store.write() as writing:
        zero = Encoding(np.zeros(DIMENSION, dtype=np.float32), 0, token_vectors(""))
        writing.add_encodings(dict.fromkeys(encodings, zero))
    with store.read() as reading:
        assert np.array_equal(reading.vectors(0, DIMENSION)[1], before)
        after = reading.token_vectors(numbers.tolist())
        assert [each.codes.tolist() for each in after.values()] == [
            each.codes.tolist() for each in words.values()
        ]


def test_the_manifest_keeps_what_it_is_told(store: Store) -> None:
    with store.write() as writing:
        writing.set_manifest({"one": "1", "two": "2"})
        writing.set_manifest({"two": "3"})
    with store.read() as reading:
        manifest = reading.manifest()
    assert (manifest["one"], manifest["two"], len(manifest["archive"])) == ("1", "3", 32)


CHANGES = st.lists(
    st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=4), min_size=1, max_size=8
)


@settings(max_examples=30)
@given(changes=CHANGES)
def test_every_generation_can_be_seen_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, changes: list[dict[int, int]]
) -> None:
    held: dict[str, str] = {}
    history = [dict(held)]
    with closing(Store(tmp_path_factory.mktemp("store") / "library.db")) as store:
        store.create()
        for generation, change in enumerate(changes, start=1):
            articles = [article(number, version) for number, version in change.items()]
            publish(store, generation, *articles)
            held |= {each.id: each.text for each in articles}
            history.append(dict(held))
        with store.read() as reading:
            for generation, expected in enumerate(history):
                reading.generation = generation
                assert as_of(reading) == expected


def as_of(reading: Reading) -> dict[str, str]:
    heads = reading.heads(limit=99)
    texts = {head.id: reading.text(head.id, head.revision) for head in heads}
    passages = reading.passages(reading.passage_columns(0)[0].tolist()).values()
    assert len(passages) == 2 * len(heads) == 2 * reading.counts()[0]
    for passage, head in passages:
        assert head in heads
        assert passage.text == texts[head.id][passage.span.start : passage.span.end]
    return texts
