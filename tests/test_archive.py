"""One index folder: what is published is whole and stays, whatever is killed, torn or at odds."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NoReturn

import faiss
import pytest
import tantivy

import rag.archive as archive_module
import rag.base as base_module
import rag.lexical as lexical_module
import rag.store as store_module
from rag import exported
from rag.archive import Archive, EncodingsGone
from rag.errors import (
    ArchiveBusy,
    ArchiveDamaged,
    ArticleNotFound,
    FormatNotSupported,
    IndexMismatch,
    InvalidRequest,
    StorageFailed,
)
from rag.exported import opened
from rag.ingest import fingerprint, ingest
from rag.lexical import PANIC, LexicalIndex, Scope, discard
from rag.project import RANDOM
from rag.schema import FORMAT, MIGRATIONS, ArticleDraft, PassageDraft
from rag.types import Article, Encoding, Span
from rag.vectors import write_base
from rag.writing import Writing
from tests.fakes import FakeEncoder, add, assert_holds, assert_snapshot_holds, fake_export
from tests.folders import temporary_folder

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0


def story(number: int, version: int = 0, **fields: Any) -> Article:
    text = (
        f"A storm hit town{number} on Monday, said the mayor. "
        f"Nobody was hurt in version{version} of the flood.\n\n"
        f"The levee at river{number} held through the night {version}."
    )
    values = {"title": f"Storm {number}", "source": f"Paper {number % 3}", **fields}
    return Article(id=f"a{number}", text=text, **values)


STORIES = [story(number) for number in range(4)]


@pytest.fixture(name="tmp_path")
def _tmp_path() -> Iterator[Path]:
    """In memory where there is such a place: there, waiting for the disk costs nothing."""
    with temporary_folder() as folder:
        yield Path(folder)


@pytest.fixture(name="encoder")
def _encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture(name="archive")
def _archive(tmp_path: Path) -> Iterator[Archive]:
    with closing(Archive(tmp_path / "index")) as archive:
        yield archive


@pytest.fixture(name="full")
def _full(archive: Archive, encoder: FakeEncoder) -> Archive:
    add(archive, encoder, *STORIES)
    return archive


def sql(folder: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "library.db", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def ids(archive: Archive) -> list[str]:
    with archive.snapshot() as snapshot:
        return [head.id for head in snapshot.heads(limit=1000)]


# What goes in


def test_what_is_added_is_there(full: Archive, encoder: FakeEncoder) -> None:
    assert_holds(full.folder, STORIES)
    assert encoder.passages_encoded == sql(full.folder, "SELECT count(*) FROM passage")[0][0] >= 8


def test_each_change_is_a_generation_and_nothing_new_is_none(
    archive: Archive, encoder: FakeEncoder
) -> None:
    first = add(archive, encoder, *STORIES[:2])
    again = add(archive, encoder, *STORIES[:2])
    second = add(archive, encoder, *STORIES, story(0, version=1))
    assert (first.generation, again.generation) == (1, 1)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 2)
    assert len(second.failed) == 1
    assert archive.remove(["a1"]).generation == second.generation + 1
    assert_holds(archive.folder, [STORIES[0], *STORIES[2:]])


def test_a_revision_takes_the_place_of_the_one_before(full: Archive, encoder: FakeEncoder) -> None:
    report = add(full, encoder, story(1, version=1), STORIES[2])
    assert (report.added, report.updated, report.unchanged) == (0, 1, 1)
    assert_holds(full.folder, [STORIES[0], story(1, version=1), *STORIES[2:]])


def test_the_text_of_a_superseded_revision_can_still_be_read(
    full: Archive, encoder: FakeEncoder
) -> None:
    for version in (1, 2):
        add(full, encoder, story(1, version=version))
    with full.snapshot() as snapshot:
        assert snapshot.head("a1").revision == 3
        for revision in (1, 2, 3):
            head = snapshot.head("a1", revision)
            assert snapshot.text(head) == story(1, version=revision - 1).text
        with pytest.raises(ArticleNotFound, match="at revision 4"):
            snapshot.head("a1", 4)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "Another"},
        {"source": None},
        {"author": "Ada Berg"},
        {"url": "https://example.org/1"},
        {"published_at": "2025-11-23"},
    ],
    ids=str,
)
def test_a_revision_of_what_is_said_about_an_article_encodes_nothing(
    full: Archive, fields: dict[str, Any]
) -> None:
    encoder = FakeEncoder()
    report = add(full, encoder, story(1, **fields))
    assert (report.updated, encoder.passages_encoded) == (1, 0)
    assert_holds(full.folder, [STORIES[0], story(1, **fields), *STORIES[2:]])
    with full.snapshot() as snapshot:
        assert snapshot.head("a1").revision == 2


def test_a_text_that_two_articles_share_is_encoded_once_and_kept_for_either(
    full: Archive, encoder: FakeEncoder
) -> None:
    before = encoder.passages_encoded
    twin = replace(STORIES[1], id="twin")
    add(full, encoder, twin)
    assert encoder.passages_encoded == before
    full.remove(["a1"])
    assert_holds(full.folder, [STORIES[0], *STORIES[2:], twin])
    full.remove(["twin"])
    assert_holds(full.folder, [STORIES[0], *STORIES[2:]])


def test_an_article_without_text_is_one_passage(full: Archive, encoder: FakeEncoder) -> None:
    bare = Article(id="bare", title="Storm warning", text="")
    add(full, encoder, bare)
    assert_holds(full.folder, [*STORIES, bare])


def test_encodings_erased_between_encoding_and_publishing_are_made_again(full: Archive) -> None:
    class Interrupted(FakeEncoder):
        def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
            if not self.passages_encoded:
                full.remove(["a1"])
            return super().encode_passages(texts)

    text = f"{STORIES[1].text}\n\nA last sentence makes it another text."
    longer = replace(STORIES[1], id="longer", text=text)
    encoder = Interrupted()
    report = add(full, encoder, longer)
    assert report.added == 1
    assert_holds(full.folder, [STORIES[0], *STORIES[2:], longer])
    assert encoder.passages_encoded > report.passages


def test_a_change_that_wants_erased_encodings_changes_nothing(full: Archive) -> None:
    passage = PassageDraft(Span(0, 6, 2, ((0, 6),)), key=b"gone")
    draft = ArticleDraft(story(7), (passage,))
    with pytest.raises(EncodingsGone):
        full.publish([draft], {}, fingerprint(FakeEncoder(), 12))
    assert_holds(full.folder, STORIES)


# What goes out


def everything_stored(folder: Path) -> bytes:
    """Every value of every table, and the bytes of library.db."""
    with closing(sqlite3.connect(folder / "library.db")) as connection:
        values = "\n".join(connection.iterdump()).encode()
    return values + (folder / "library.db").read_bytes()


def blobs(folder: Path) -> list[bytes]:
    """All vectors and all token vectors that are distinctive."""
    vectors = sql(folder, "SELECT vector FROM encoding")
    codes = sql(folder, "SELECT codes FROM token_vectors")
    assert min(len(row[0]) for row in codes) > 16
    return [row[0] for row in [*vectors, *codes]]


def test_removing_erases_texts_and_encodings(full: Archive, encoder: FakeEncoder) -> None:
    secret = story(9, title="Xylophone", source="Zymurgy", author="Quixote")
    for version in (0, 1):
        add(full, encoder, replace(secret, text=story(9, version).text.replace("mayor", "jackdaw")))
    vectors = blobs(full.folder)
    assert b"jackdaw" in everything_stored(full.folder)
    full.remove(["a9"])
    full.close()
    stored = everything_stored(full.folder)
    for word in (b"jackdaw", b"Xylophone", b"Zymurgy", b"Quixote", b"town9"):
        assert word not in stored
    kept = blobs(full.folder)
    erased = [vector for vector in vectors if vector not in kept]
    assert len(erased) >= 6
    assert not any(vector in stored for vector in erased)
    assert_holds(full.folder, STORIES)
    with full.snapshot() as snapshot:
        assert snapshot.find("a9", 1) is None


def test_a_superseded_revision_keeps_its_text_and_loses_its_encodings(
    full: Archive, encoder: FakeEncoder
) -> None:
    add(full, encoder, story(1, version=1))
    living = sql(full.folder, "SELECT count(DISTINCT encoding) FROM passage WHERE died IS NULL")
    assert sql(full.folder, "SELECT count(*) FROM encoding") == living
    assert sql(full.folder, "SELECT count(*) FROM token_vectors") == living


def test_a_number_used_again_has_no_token_vectors_of_before(
    full: Archive, encoder: FakeEncoder
) -> None:
    # Numbers of encodings are the one thing that is used again: the greatest there is, plus one.
    last = "SELECT max(number) FROM encoding"
    add(full, encoder, story(7))
    before = sql(full.folder, last)
    full.remove(["a7"])
    add(full, encoder, story(8))
    assert sql(full.folder, last) == before
    assert_holds(full.folder, [*STORIES, story(8)])


def test_a_revision_number_is_never_used_again(full: Archive, encoder: FakeEncoder) -> None:
    add(full, encoder, story(1, version=1))
    full.remove(["a1"])
    add(full, encoder, STORIES[1])
    with full.snapshot() as snapshot:
        assert snapshot.head("a1").revision == 3
        assert snapshot.find("a1", 1) is None
        assert snapshot.find("a1", 2) is None
    full.remove(["a1"])
    add(full, encoder, story(1, version=5))
    with full.snapshot() as snapshot:
        assert snapshot.head("a1").revision == 4


def test_passage_numbers_are_never_used_again(full: Archive, encoder: FakeEncoder) -> None:
    before = sql(full.folder, "SELECT max(number) FROM passage")[0][0]
    full.remove(["a3"])
    add(full, encoder, STORIES[3])
    numbers = sql(full.folder, "SELECT number FROM passage WHERE born = 3")
    assert min(numbers)[0] > before


def test_an_unknown_article_cannot_be_removed_and_none_is(full: Archive) -> None:
    with pytest.raises(ArticleNotFound, match="nobody"):
        full.remove(["a0", "nobody", "a1"])
    assert_holds(full.folder, STORIES)
    assert full.remove(["a0", "a0"]).removed == ("a0",)
    for unknown in ("a0", "\ud800", ""):
        with pytest.raises(ArticleNotFound):
            full.remove([unknown])


def test_an_emptied_archive_is_sound_and_can_be_filled_again(
    full: Archive, encoder: FakeEncoder
) -> None:
    full.remove(ids(full))
    assert_holds(full.folder, [])
    full.rebuild()
    assert_holds(full.folder, [])
    add(full, encoder, *STORIES[:2])
    assert_holds(full.folder, STORIES[:2])


def test_a_new_reader_of_an_archive_that_lost_its_last_article(full: Archive) -> None:
    full.remove(["a3"])
    assert_holds(full.folder, STORIES[:3])
    full.remove(["a0", "a2"])
    assert_holds(full.folder, [STORIES[1]])


# An archive that is not there yet, or is another's


@pytest.mark.parametrize("there", [True, False])
def test_reading_an_empty_or_missing_folder_creates_nothing(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "index"
    if there:
        folder.mkdir()
    with closing(Archive(folder)) as archive:
        with archive.snapshot() as snapshot:
            assert_snapshot_holds(snapshot, {})
            assert snapshot.find("a1") is None
            assert snapshot.ids_at("https://example.org/") == []
        with archive.reading() as reading:
            assert reading is None
        assert archive.check() == []
        assert archive.manifest() == {}
        assert archive.rebuild() == 0
        assert set(archive.sizes().values()) == {0}
        with pytest.raises(ArticleNotFound):
            archive.remove(["a1"])
    assert list(tmp_path.rglob("*")) == ([folder] if there else [])


class OtherProjection(FakeEncoder):
    """The same model, compressed otherwise."""

    @property
    def projection(self) -> str:
        return "another projection"


@pytest.mark.parametrize(
    ("part", "other", "tokens"),
    [
        ("encoder", FakeEncoder(name="another model"), 12),
        ("encoder", FakeEncoder(seed=7), 12),
        ("projection", OtherProjection(), 12),
        ("passage_tokens", FakeEncoder(), 13),
    ],
)
def test_an_archive_of_another_make_is_refused_by_name(
    full: Archive, part: str, other: FakeEncoder, tokens: int
) -> None:
    with pytest.raises(IndexMismatch) as caught:
        add(full, other, story(8), passage_tokens=tokens)
    assert caught.value.part == part
    built_with = {"encoder": "fake", "projection": RANDOM, "passage_tokens": "12"}
    at_hand = {"encoder": other.name, "projection": other.projection, "passage_tokens": "13"}
    assert built_with[part] in caught.value.built_with
    assert at_hand[part] in caught.value.at_hand
    with pytest.raises(IndexMismatch):
        full.publish([], {}, fingerprint(other, tokens))
    assert other.passages_encoded == 0
    assert_holds(full.folder, STORIES)


def test_a_newer_format_is_refused_and_left_as_it_is(full: Archive) -> None:
    full.close()
    sql(full.folder, f"PRAGMA user_version = {FORMAT + 1}")
    before = (full.folder / "library.db").read_bytes()
    calls: list[Callable[[], object]] = [
        lambda: ids(full),
        full.check,
        full.manifest,
        full.rebuild,
        lambda: full.remove(["a0"]),
        lambda: add(full, FakeEncoder(), story(8)),
    ]
    for call in calls:
        with pytest.raises(FormatNotSupported, match=f"format {FORMAT + 1}"):
            call()
    assert (full.folder / "library.db").read_bytes() == before


def test_an_older_format_is_migrated_step_by_step(
    full: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (
        *MIGRATIONS,
        "ALTER TABLE article ADD COLUMN language TEXT",
        "UPDATE article SET language = 'en' || number",
    )
    monkeypatch.setattr(store_module, "MIGRATIONS", steps)
    monkeypatch.setattr(store_module, "FORMAT", len(steps))
    assert_holds(full.folder, STORIES)
    assert sql(full.folder, "PRAGMA user_version") == [(len(steps),)]
    assert sql(full.folder, "SELECT language FROM article WHERE id = 'a1'") == [("en2",)]


def test_a_migration_that_fails_leaves_the_format_as_it_was(
    full: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (*MIGRATIONS, "CREATE TABLE more (number INTEGER); INSERT INTO nowhere VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "MIGRATIONS", steps)
        patch.setattr(store_module, "FORMAT", len(steps))
        with pytest.raises(ArchiveDamaged, match="nowhere"):
            ids(full)
    assert sql(full.folder, "PRAGMA user_version") == [(FORMAT,)]
    assert sql(full.folder, "SELECT name FROM sqlite_master WHERE name = 'more'") == []
    assert_holds(full.folder, STORIES)


# Killed at every step

Hook = Callable[[Any], Callable[..., Any]]


def die(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("this process was killed")


def instead(_: Any) -> Callable[..., Any]:
    return die


def after(original: Any) -> Callable[..., Any]:
    def call(*arguments: object) -> None:
        original(*arguments)
        die()

    return call


def halfway(make_writer: Any) -> Callable[..., Any]:
    def call(write: Any) -> Any:
        def half(data: bytes) -> None:
            write(data[: len(data) // 2])
            write.__self__.flush()
            die()

        return make_writer(half)

    return call


STEPS: dict[str, tuple[Any, str, Hook]] = {
    "while SQLite is written": (Writing, "set_manifest", instead),
    "when SQLite has it": (LexicalIndex, "commit", instead),
    "while tantivy is written": (lexical_module, "_document", after),
    "before the files that it found are let go": (lexical_module, "_delete", instead),
    "when tantivy has it": (Writing, "publish", instead),
    "while it is published": (Writing, "publish", after),
    "when it is published": (base_module, "base_is_due", instead),
    "while the base is written": (faiss, "PyCallbackIOWriter", halfway),
    "when the base is written": (base_module, "write_base", after),
    "when the manifest names the base": (Path, "unlink", instead),
}
REBUILDING: dict[str, tuple[Any, str, Hook]] = {
    "before the old words go": (lexical_module, "discard", instead),
    "when the old words are gone": (lexical_module, "discard", after),
    "while tantivy is written": (lexical_module, "_document", after),
    "when tantivy has it": (LexicalIndex, "rebuild", after),
    "before the base": (base_module.Base, "write", instead),
    "when the base is written": (base_module, "write_base", after),
    "when the manifest names the base": (Path, "unlink", instead),
}
NOT_COMMITTED = "while SQLite is written"
CHANGED = [story(0, version=1), *STORIES[1:], *[story(number) for number in range(4, 8)]]


def killed_while_adding(folder: Path, step: str) -> None:
    owner, name, hook = STEPS[step]
    setattr(owner, name, hook(getattr(owner, name)))
    add(Archive(folder), FakeEncoder(), *CHANGED)


def killed_while_removing(folder: Path, step: str) -> None:
    owner, name, hook = STEPS[step]
    setattr(owner, name, hook(getattr(owner, name)))
    Archive(folder).remove(["a0", "a3"])


def killed_while_rebuilding(folder: Path, step: str) -> None:
    owner, name, hook = REBUILDING[step]
    setattr(owner, name, hook(getattr(owner, name)))
    Archive(folder).rebuild()


def run_to_death(task: Callable[[Path, str], None], folder: Path, step: str) -> None:
    child = SPAWN.Process(target=task, args=(folder, step))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == -signal.SIGKILL


def seen_after_a_kill(folder: Path, before: list[Article], after_it: list[Article]) -> None:
    """A reader, and then a writer, gets an archive in which the change is, whole, or is not."""
    with closing(Archive(folder)) as archive, archive.snapshot() as snapshot:
        heads = snapshot.heads(limit=100)
        is_there = {(head.id, head.sha256) for head in heads} == {
            (article.id, article.sha256) for article in after_it
        }
        expected = after_it if is_there else before
        assert_snapshot_holds(snapshot, {article.id: article for article in expected})
        assert archive.check() == []


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_killed_while_adding(full: Archive, step: str) -> None:
    full.close()
    run_to_death(killed_while_adding, full.folder, step)
    seen_after_a_kill(full.folder, STORIES, CHANGED)
    committed = CHANGED if step != NOT_COMMITTED else STORIES
    add(full, FakeEncoder(), story(20))
    assert_holds(full.folder, [*committed, story(20)])
    encoder = FakeEncoder()
    report = add(full, encoder, *CHANGED)
    assert_holds(full.folder, [*CHANGED, story(20)])
    if step != NOT_COMMITTED:
        assert (report.unchanged, encoder.passages_encoded) == (len(CHANGED), 0)
    assert not list(full.folder.glob("*.tmp"))


@pytest.mark.parametrize("step", REBUILDING)
def test_after_a_rebuild_was_killed_all_is_sound(full: Archive, step: str) -> None:
    full.close()
    run_to_death(killed_while_rebuilding, full.folder, step)
    with closing(Archive(full.folder)) as archive:
        assert archive.check() == []
    assert_holds(full.folder, STORIES)
    assert full.rebuild() == 1
    assert_holds(full.folder, STORIES)


@pytest.mark.parametrize(
    "step", [NOT_COMMITTED, "when SQLite has it", "when tantivy has it", "while it is published"]
)
def test_a_writer_killed_while_removing(full: Archive, step: str) -> None:
    full.close()
    run_to_death(killed_while_removing, full.folder, step)
    seen_after_a_kill(full.folder, STORIES, STORIES[1:3])
    add(full, FakeEncoder(), story(20))
    left = STORIES if step == NOT_COMMITTED else STORIES[1:3]
    assert_holds(full.folder, [*left, story(20)])
    kept = sql(full.folder, "SELECT DISTINCT id FROM article")
    assert sorted(row[0] for row in kept) == sorted(article.id for article in [*left, story(20)])


@pytest.mark.parametrize("task", [killed_while_removing, killed_while_adding])
@pytest.mark.parametrize("step", ["when SQLite has it", "when tantivy has it"])
def test_what_a_killed_writer_took_away_can_be_added_again_at_once(
    full: Archive, task: Callable[[Path, str], None], step: str
) -> None:
    """It is not called unchanged, to be gone when the change that was left is finished."""
    full.close()
    run_to_death(task, full.folder, step)
    with closing(Archive(full.folder)) as archive:
        add(archive, FakeEncoder(), *STORIES)
        archive.recover()
        with archive.snapshot() as snapshot:
            for article in STORIES:
                head = snapshot.head(article.id)
                assert head is not None
                assert snapshot.text(head) == article.text


def killed_before_the_tables(folder: Path, _: str) -> None:
    store_module.Store.create = after(  # type: ignore[method-assign]
        lambda store: sqlite3.connect(folder / "library.db").execute("PRAGMA journal_mode = WAL")
    )
    add(Archive(folder), FakeEncoder(), *STORIES)


def test_a_writer_killed_before_it_made_the_tables(archive: Archive, encoder: FakeEncoder) -> None:
    run_to_death(killed_before_the_tables, archive.folder, "")
    assert (archive.folder / "library.db").exists()
    assert_holds(archive.folder, [])
    add(archive, encoder, *STORIES)
    assert_holds(archive.folder, STORIES)


# Derived files that are missing, torn or changed


def cut(file: Path, size: int) -> None:
    other = file.with_name("cut")
    other.write_bytes(file.read_bytes()[:size])
    other.replace(file)


def flip(file: Path, at: int, bit: int = 2) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << bit
    other = file.with_name("flipped")
    other.write_bytes(data)
    other.replace(file)


def the(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda file: file.stat().st_size)


def put_a_file(folder: Path) -> None:
    discard(folder / "lexical")
    (folder / "lexical").write_bytes(b"?")


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def make_it_panic(folder: Path) -> None:
    """Flip a bit on which tantivy panics when it opens the index."""
    file = the(folder, "lexical/*.fast")
    for at in range(file.stat().st_size):
        flip(file, at)
        try:
            tantivy.Index.open(str(folder / "lexical")).searcher()
        except BaseException as error:
            if type(error).__name__ == PANIC:
                return
        flip(file, at)
    raise AssertionError("no flipped bit makes it panic")


TORN: dict[str, Callable[[Path], None]] = {
    "lexical: no folder": lambda folder: discard(folder / "lexical"),
    "lexical: a file": put_a_file,
    "lexical: empty": lambda folder: empty(folder / "lexical"),
    "lexical: no meta": lambda folder: (folder / "lexical" / "meta.json").unlink(),
    "lexical: cut meta": lambda folder: cut(folder / "lexical" / "meta.json", 80),
    "lexical: no terms": lambda folder: the(folder, "lexical/*.term").unlink(),
    "lexical: cut postings": lambda folder: cut(the(folder, "lexical/*.idx"), 40),
    "lexical: a panic": make_it_panic,
    "lexical: cut numbers": lambda folder: cut(the(folder, "lexical/*.fast"), 0),
    "dense: no file": lambda folder: the(folder, "dense.*").unlink(),
    "dense: cut": lambda folder: cut(the(folder, "dense.*"), 1000),
    "dense: empty": lambda folder: cut(the(folder, "dense.*"), 0),
    "dense: another header": lambda folder: flip(the(folder, "dense.*"), 0),
}


@pytest.mark.parametrize("damage", TORN)
def test_a_missing_or_torn_index_is_named_and_made_anew_by_a_reader(
    full: Archive, encoder: FakeEncoder, damage: str
) -> None:
    encoded = encoder.passages_encoded
    full.close()
    TORN[damage](full.folder)
    assert {fault.part for fault in full.check()} == {damage.split(":")[0]}
    assert_holds(full.folder, STORIES)
    add(full, encoder, *STORIES)
    assert encoder.passages_encoded == encoded


@pytest.mark.parametrize("damage", TORN)
def test_a_missing_or_torn_index_is_no_hindrance_to_a_writer(
    full: Archive, encoder: FakeEncoder, damage: str
) -> None:
    TORN[damage](full.folder)
    add(full, encoder, story(9))
    assert_holds(full.folder, [*STORIES, story(9)])


@pytest.mark.parametrize("pattern", ["lexical/*.term", "lexical/*.idx", "dense.*"])
def test_a_flipped_bit_is_named_and_gone_after_a_rebuild(
    full: Archive, encoder: FakeEncoder, pattern: str
) -> None:
    encoded = encoder.passages_encoded
    file = the(full.folder, pattern)
    flip(file, file.stat().st_size // 4)
    faults = full.check()
    assert [fault.problem for fault in faults] == [f"{file.name} has changed since it was written"]
    assert faults[0].part == pattern[: len(faults[0].part)]
    assert full.rebuild() == 1
    assert_holds(full.folder, STORIES)
    assert encoder.passages_encoded == encoded


def add_until_merged(folder: Path, _: str = "") -> None:
    """tantivy merges eight segments."""
    with closing(Archive(folder)) as archive:
        for number in range(10, 20):
            add(archive, FakeEncoder(), story(number))


def score_of(folder: Path, word: str) -> list[float]:
    with closing(Archive(folder)) as archive, archive.snapshot() as snapshot:
        assert snapshot.lexical is not None
        return [float(score) for score in snapshot.lexical.search([word], 1000, Scope())[1]]


@pytest.mark.parametrize("killed", [False, True])
def test_a_flipped_bit_is_not_made_permanent_by_a_merge(full: Archive, killed: bool) -> None:
    full.close()
    file = the(full.folder, "lexical/*.fieldnorm")
    flip(file, 0, bit=7)  # the first passage is now a very long one
    if killed:
        run_to_death(killed_when_merged, full.folder, "")
        assert not file.exists()
    add_until_merged(full.folder)
    assert full.check() == []
    found = score_of(full.folder, "town0")
    full.rebuild()
    assert found == pytest.approx(score_of(full.folder, "town0"), rel=0.1)  # markers count too


def killed_when_merged(folder: Path, _: str) -> None:
    """Before the files that went into it are looked at."""
    lexical_module._as_written = die
    add_until_merged(folder)


def test_a_rebuild_is_seen_by_those_who_read_before(full: Archive, encoder: FakeEncoder) -> None:
    with closing(Archive(full.folder)) as reader:
        assert ids(reader) == ["a0", "a1", "a2", "a3"]
        full.rebuild()
        add(full, encoder, story(4))
        with reader.snapshot() as snapshot:
            assert_snapshot_holds(snapshot, {each.id: each for each in [*STORIES, story(4)]})


# The base


def test_the_base_follows_the_archive_and_old_ones_go(
    archive: Archive, encoder: FakeEncoder
) -> None:
    held = []
    for number in range(12):
        held.append(story(number))
        add(archive, encoder, held[-1])
        assert len(list(archive.folder.glob("dense.*"))) == 1
    written = sql(archive.folder, "SELECT value FROM manifest WHERE key = 'dense_base'")[0][0]
    assert 1 < int(written.split('"generation": ')[1].split(",")[0]) < 12
    assert_holds(archive.folder, held)


@contextmanager
def base_being_written(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While the context lasts, another thread is writing a base that is due."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return write_base(*arguments)

    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(base_module, "write_base", slowly)
        writing = pool.submit(archive.renew_base)
        try:
            assert begun.wait(PATIENCE_S)
            yield
        finally:
            go_on.set()
        writing.result(PATIENCE_S)


def base_file(folder: Path) -> str:
    (file,) = folder.glob("dense.*.faiss")
    return file.name


def publish(archive: Archive, *articles: Article) -> None:
    """Add articles and leave the base as it is."""
    ingest(archive, FakeEncoder(), articles, passage_tokens=12, renew_base=False)


def test_while_the_base_is_written_others_write_and_read(
    full: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = base_file(full.folder)
    publish(full, *[story(number) for number in range(4, 9)])
    with (
        base_being_written(full, monkeypatch),
        closing(Archive(full.folder, lock_timeout_s=1)) as other,
    ):
        publish(other, story(9), story(0, version=1))
        assert other.remove(["a3"]).removed == ("a3",)
        other.renew_base()  # the one is being written: nothing to do
        expected = [story(0, version=1), *[story(n) for n in (1, 2, *range(4, 10))]]
        with other.snapshot() as snapshot:
            assert_snapshot_holds(snapshot, {article.id: article for article in expected})
        assert base_file(full.folder) == before
    assert base_file(full.folder) != before
    assert_holds(full.folder, expected)


def test_a_base_of_another_file_than_the_one_in_place_is_thrown_away(
    full: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = full.folder.with_name("backup.db")
    with (
        closing(sqlite3.connect(full.folder / "library.db")) as source,
        closing(sqlite3.connect(backup)) as target,
    ):
        source.backup(target)
    before = base_file(full.folder)
    publish(full, *[story(number) for number in range(4, 9)])
    with base_being_written(full, monkeypatch):
        full.close()
        for file in full.folder.glob("library.db-*"):
            file.unlink()
        backup.replace(full.folder / "library.db")
    assert base_file(full.folder) == before
    full.rebuild()  # without the articles that the other file lacks
    assert_holds(full.folder, STORIES)


def test_a_base_that_is_not_due_is_left_alone(full: Archive, tmp_path: Path) -> None:
    before = base_file(full.folder)
    full.renew_base()
    assert base_file(full.folder) == before
    with closing(Archive(tmp_path / "empty")) as empty:
        empty.renew_base()
    assert not (tmp_path / "empty").exists()


def test_a_base_is_due_when_many_of_its_passages_have_died(full: Archive) -> None:
    before = base_file(full.folder)
    full.remove(["a0"])
    full.renew_base()
    assert base_file(full.folder) == before
    full.remove(["a1"])
    full.renew_base()
    assert base_file(full.folder) != before
    assert_holds(full.folder, STORIES[2:])


def test_a_base_is_not_due_for_passages_that_died_before_it_was_written(
    full: Archive, encoder: FakeEncoder
) -> None:
    add(full, encoder, *[story(number) for number in range(4, 12)])
    full.remove([f"a{number}" for number in range(2, 12)])
    full.renew_base()
    assert not full.base_is_due()
    assert_holds(full.folder, STORIES[:2])
    full.remove(["a0", "a1"])
    full.renew_base()
    assert not full.base_is_due()
    add(full, encoder, story(12))
    assert_holds(full.folder, [story(12)])


def test_an_archive_with_codes_beside_its_base(
    archive: Archive, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.vectors.EXACT_MOST", 16)
    held = [story(number) for number in range(12)]
    add(archive, encoder, *held)
    archive.remove(["a3"])
    add(archive, encoder, story(1, version=1))
    held = [held[0], story(1, version=1), held[2], *held[4:]]
    assert_holds(archive.folder, held)
    with archive.snapshot() as snapshot:
        assert snapshot.vectors is not None
        assert snapshot.vectors.base is not None
        assert snapshot.vectors.base.record.quantised
    cut(the(archive.folder, "dense.*"), 1000)
    assert_holds(archive.folder, held)
    archive.rebuild()
    assert_holds(archive.folder, held)


# The exported model that an archive carries


@pytest.fixture(name="export")
def _export(tmp_path: Path, encoder: FakeEncoder) -> Path:
    return fake_export(tmp_path / "cache" / "export", encoder.fingerprint)


def test_an_archive_carries_the_model_from_its_first_articles_on(
    archive: Archive, export: Path
) -> None:
    add(archive, FakeEncoder(exported=export), *STORIES)
    carried = opened(archive.folder / "model")
    assert carried is not None
    assert carried.changed() is None
    assert archive.check() == []
    assert archive.sizes()["model"] == sum(file.stat().st_size for file in export.iterdir())


def test_an_archive_of_before_gets_the_model_when_something_is_added(
    full: Archive, export: Path
) -> None:
    assert full.sizes()["model"] == 0
    add(full, FakeEncoder(exported=export), *STORIES)
    assert full.sizes()["model"] == 0
    add(full, FakeEncoder(exported=export), story(9))
    assert opened(full.folder / "model") is not None


def test_an_archive_keeps_the_copy_it_has(full: Archive, export: Path) -> None:
    add(full, FakeEncoder(exported=export), story(9))
    shutil.rmtree(export)
    with closing(Archive(full.folder)) as archive:
        add(archive, FakeEncoder(exported=full.folder / "model"), story(10))
    with closing(Archive(full.folder)) as archive:
        add(archive, FakeEncoder(exported=None), story(11))
    assert full.check() == []
    assert opened(full.folder / "model") is not None


@pytest.mark.parametrize("file", ["model.weights", "model.onnx", "tokenizer.json", "about.json"])
def test_a_damaged_copy_of_the_model_is_named_and_replaced(
    file: str, full: Archive, export: Path
) -> None:
    add(full, FakeEncoder(exported=export), story(9))
    content = (export / file).read_bytes()
    (full.folder / "model" / file).unlink()
    (full.folder / "model" / file).write_bytes(content[:-9] + b"?" + content[-8:])
    (fault,) = full.check()
    assert fault.part == "model"
    with closing(Archive(full.folder)) as archive:
        add(archive, FakeEncoder(exported=export), story(10))
    assert full.check() == []
    assert (full.folder / "model" / file).read_bytes() == content


def test_a_damaged_copy_of_the_model_is_gone_after_a_rebuild(full: Archive, export: Path) -> None:
    add(full, FakeEncoder(exported=export), story(9))
    full.rebuild()
    assert opened(full.folder / "model") is not None
    (full.folder / "model" / "about.json").write_text("{")
    full.rebuild()
    assert full.check() == []
    assert not (full.folder / "model").exists()


def test_another_models_copy_is_a_fault(full: Archive) -> None:
    fake_export(full.folder / "model", "another")
    (fault,) = full.check()
    assert (fault.part, fault.problem) == ("model", "is another model's")


def test_articles_go_in_where_there_is_no_room_for_the_model(
    archive: Archive, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError("no space left")

    monkeypatch.setattr(exported, "carry", refuse)
    report = add(archive, FakeEncoder(exported=export), *STORIES)
    assert report.added == len(STORIES)
    assert_holds(archive.folder, STORIES)


def test_sizes_are_those_of_the_files_even_of_one_that_goes_meanwhile(
    full: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    full.close()
    size = (full.folder / "library.db").stat().st_size
    assert full.sizes()["library"] == size
    assert full.sizes()["dense"] == the(full.folder, "dense.*").stat().st_size
    listed = [*full.folder.glob("lexical/*"), full.folder / "lexical" / "merged.idx"]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(listed))
    assert full.sizes()["lexical"] == sum(file.stat().st_size for file in listed[:-1])


# Several at once


def writer_stopped_at(folder: Path, where: tuple[Any, str], parent: Connection) -> None:
    owner, name = where
    original = getattr(owner, name)

    def wait(*arguments: Any) -> Any:
        parent.send("stopped")
        assert parent.poll(PATIENCE_S)
        return original(*arguments)

    setattr(owner, name, wait)
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), story(30))


class AnotherWriter:
    """A process that is adding `story(30)` and waits under the lock to be let go."""

    def __init__(self, folder: Path, where: tuple[Any, str]) -> None:
        self._mine, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=writer_stopped_at, args=(folder, where, theirs))
        self.let_go = False

    def __enter__(self) -> AnotherWriter:
        self.process.start()
        assert self._mine.poll(PATIENCE_S)
        return self

    def go_on(self) -> None:
        if not self.let_go:
            self.let_go = True
            self._mine.send("go on")

    def kill(self) -> None:
        self.let_go = True
        self.process.kill()
        self.process.join(PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self.process.join(PATIENCE_S)
        assert self.process.exitcode in (0, -signal.SIGKILL)


def test_a_second_writer_waits_so_long_and_then_names_the_first(full: Archive) -> None:
    with (
        AnotherWriter(full.folder, (LexicalIndex, "commit")) as first,
        closing(Archive(full.folder, lock_timeout_s=0.2)) as second,
    ):
        named = f"process {first.process.pid} on "
        for call in (lambda: second.remove(["a0"]), second.rebuild):
            with pytest.raises(ArchiveBusy, match=named) as caught:
                call()
            assert caught.value.waited_s == 0.2
        with second.snapshot() as snapshot:
            assert_snapshot_holds(snapshot, {article.id: article for article in STORIES})
    assert_holds(full.folder, [*STORIES, story(30)])
    assert not (full.folder / "write.holder").exists()


def test_who_cannot_do_without_the_base_waits_so_long_and_names_who_writes_it(
    full: Archive, encoder: FakeEncoder
) -> None:
    with closing(Archive(full.folder, lock_timeout_s=0.2)) as second, full._locks.writing_base():
        with pytest.raises(ArchiveBusy, match=f"base lock .* process {os.getpid()} on ") as caught:
            second.rebuild()
        assert caught.value.waited_s == 0.2
        add(second, encoder, story(30))
    assert_holds(full.folder, [*STORIES, story(30)])


def test_nobody_waits_for_a_lock_once_it_is_to_end(full: Archive) -> None:
    with (
        AnotherWriter(full.folder, (LexicalIndex, "commit")),
        closing(Archive(full.folder, lock_timeout_s=10 * PATIENCE_S)) as second,
        ThreadPoolExecutor(1) as threads,
    ):
        waiting = threads.submit(second.remove, ["a0"])
        second.stop_waiting()
        with pytest.raises(ArchiveBusy) as caught:
            waiting.result(PATIENCE_S)
        assert caught.value.waited_s < 10 * PATIENCE_S
        with pytest.raises(ArchiveBusy):
            second.remove(["a0"])
    assert full.remove(["a0"]).removed == ("a0",)


def test_a_second_writer_goes_on_when_the_first_is_done(
    full: Archive, encoder: FakeEncoder
) -> None:
    with (
        AnotherWriter(full.folder, (LexicalIndex, "commit")) as first,
        ThreadPoolExecutor(1) as threads,
    ):
        adding = threads.submit(add, full, encoder, story(31))
        first.go_on()
        assert adding.result(PATIENCE_S).added == 1
    assert_holds(full.folder, [*STORIES, story(30), story(31)])


def test_a_writer_killed_under_the_lock_does_not_hold_it(full: Archive) -> None:
    with AnotherWriter(full.folder, (LexicalIndex, "commit")) as first:
        first.kill()
    assert full.remove(["a0"]).removed == ("a0",)
    assert_holds(full.folder, [*STORIES[1:], story(30)])


def test_a_new_reader_waits_for_a_writer_between_its_last_steps(
    full: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(ids(full)) == 4
    with AnotherWriter(full.folder, (Writing, "publish")) as first:
        assert ids(full) == ["a0", "a1", "a2", "a3"]
        monkeypatch.setattr("rag.archive.time.sleep", lambda _: first.go_on())
        with closing(Archive(full.folder)) as reader:
            assert not first.let_go
            assert ids(reader) == ["a0", "a1", "a2", "a3", "a30"]
        assert first.let_go


def edition(version: int) -> list[Article]:
    return [story(number, version) for number in range(5)]


def read_editions(folder: Path, ready: Event, stop: Event, answer: Connection) -> None:
    """Which editions were seen, each whole; one that is mixed stops the process with an error."""
    seen: set[int] = set()
    with closing(Archive(folder)) as archive:
        while not stop.is_set():
            with archive.snapshot() as snapshot:
                version = snapshot.generation - 1
                assert_snapshot_holds(snapshot, {each.id: each for each in edition(version)})
                assert snapshot.lexical is not None
                assert snapshot.lexical.generation == snapshot.generation
                seen.add(version)
            ready.set()
    answer.send(sorted(seen))


def test_readers_elsewhere_see_one_generation_at_a_time(
    archive: Archive, encoder: FakeEncoder
) -> None:
    add(archive, encoder, *edition(0))
    stop = SPAWN.Event()
    readers = []
    for _ in range(2):
        ready = SPAWN.Event()
        mine, theirs = SPAWN.Pipe()
        child = SPAWN.Process(
            target=read_editions, args=(archive.folder, ready, stop, theirs), daemon=True
        )
        child.start()
        readers.append((child, ready, mine))
    try:
        for _, ready, _ in readers:
            assert ready.wait(PATIENCE_S)
        for version in range(1, 16):
            add(archive, encoder, *edition(version))
            # The first may have begun before; the second began after.
            for _, ready, _ in [*readers, *readers]:
                ready.clear()
                assert ready.wait(PATIENCE_S)
    finally:
        stop.set()
    for child, _, mine in readers:
        assert mine.poll(PATIENCE_S)
        seen = mine.recv()
        child.join(PATIENCE_S)
        assert child.exitcode == 0
        assert set(seen) >= set(range(1, 16))


def test_threads_read_while_others_write(archive: Archive, encoder: FakeEncoder) -> None:
    add(archive, encoder, *edition(0))
    done = threading.Event()

    def read() -> int:
        count = 0
        while not done.is_set():
            with archive.snapshot() as snapshot:
                version = snapshot.generation - 1
                assert_snapshot_holds(snapshot, {each.id: each for each in edition(version)})
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(read) for _ in range(3)]
        try:
            for version in range(1, 9):
                add(archive, encoder, *edition(version))
        finally:
            done.set()
        assert all(each.result(PATIENCE_S) > 0 for each in reads)
    assert_holds(archive.folder, edition(8))


def test_a_snapshot_stays_at_its_generation(full: Archive, encoder: FakeEncoder) -> None:
    with full.snapshot() as snapshot:
        add(full, encoder, story(0, version=1), story(9))
        full.remove(["a3"])
        full.rebuild()
        assert_snapshot_holds(snapshot, {article.id: article for article in STORIES})
    assert_holds(full.folder, [story(0, version=1), *STORIES[1:3], story(9)])


def test_a_reader_follows_step_by_step(archive: Archive, encoder: FakeEncoder) -> None:
    held: dict[str, Article] = {}
    with closing(Archive(archive.folder)) as reader:
        for number in range(6):
            held[f"a{number}"] = story(number)
            add(archive, encoder, story(number))
            if number % 2:
                held[f"a{number - 1}"] = story(number - 1, version=1)
                add(archive, encoder, story(number - 1, version=1))
            if number % 3 == 2:
                del held[f"a{number}"]
                archive.remove([f"a{number}"])
            with reader.snapshot() as snapshot:
                assert_snapshot_holds(snapshot, held)


# Another library.db in its place


def article_ids(archive: Archive) -> list[str]:
    """As the database alone has them."""
    with archive.reading() as reading:
        return [head.id for head in reading.heads(limit=100)] if reading else []


def put_library(folder: Path, library: bytes) -> None:
    for name in ("library.db-wal", "library.db-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "restored").write_bytes(library)
    (folder / "restored").replace(folder / "library.db")


def library_of(folder: Path, encoder: FakeEncoder, *articles: Article) -> bytes:
    """The file of an archive of these articles, all of it in one file."""
    with closing(Archive(folder)) as archive:
        add(archive, encoder, *articles)
    assert not (folder / "library.db-wal").exists()
    return (folder / "library.db").read_bytes()


def test_another_archives_library_in_the_place_of_one_that_is_read(
    full: Archive, encoder: FakeEncoder, tmp_path: Path
) -> None:
    others = [replace(story(number, 7), id=f"b{number}") for number in range(4)]
    library = library_of(tmp_path / "other", encoder, *others)
    assert ids(full) == ["a0", "a1", "a2", "a3"]
    put_library(full.folder, library)
    assert {fault.part for fault in full.check()} == {"lexical", "dense"}
    with full.snapshot() as snapshot:
        assert snapshot.generation == 1
        assert_snapshot_holds(snapshot, {article.id: article for article in others})
    assert_holds(full.folder, others)


def test_a_library_of_before_is_refused_until_its_loss_is_accepted(
    full: Archive, encoder: FakeEncoder, tmp_path: Path
) -> None:
    full.close()
    of_before = (full.folder / "library.db").read_bytes()
    with closing(Archive(full.folder)) as reader:
        assert add(full, encoder, story(4), story(0, version=1)).generation == 2
        assert len(ids(reader)) == 5
        put_library(full.folder, of_before)
        calls: list[Callable[[], object]] = [
            lambda: ids(reader),
            lambda: article_ids(full),
            full.is_sound,
            lambda: add(full, encoder, story(5)),
            lambda: full.remove(["a0"]),
            lambda: full.back_up(tmp_path / "backup.db"),
        ]
        for call in calls:
            with pytest.raises(ArchiveDamaged, match="at generation 1 and its lexical index at 2"):
                call()
        assert full.check()[-1].part == "library.db"
        assert full.rebuild() == 3
        assert full.check() == []
        add(full, encoder, story(5))
        with reader.snapshot() as snapshot:
            assert snapshot.generation == 4
            assert_snapshot_holds(snapshot, {each.id: each for each in [*STORIES, story(5)]})


def answer_ids(folder: Path, questions: Connection) -> None:
    with closing(Archive(folder)) as archive:
        while questions.recv():
            questions.send(ids(archive))


def test_a_library_that_lost_everything_goes_on_as_an_empty_one_when_that_is_accepted(
    full: Archive, encoder: FakeEncoder, tmp_path: Path
) -> None:
    with closing(Archive(tmp_path / "other")) as other:
        other.recover()
    put_library(full.folder, (tmp_path / "other" / "library.db").read_bytes())
    with closing(Archive(full.folder)) as reader:
        for read in (ids, article_ids):
            with pytest.raises(ArchiveDamaged, match="at generation 0 and its lexical index at 1"):
                read(reader)
        assert reader.rebuild() == 2
        assert reader.check() == []
        assert ids(reader) == article_ids(reader) == []
        assert reader.rebuild() == 2
        assert add(full, encoder, story(5)).generation == 3
        assert ids(reader) == ["a5"]
    assert_holds(full.folder, [story(5)])


def test_a_reader_elsewhere_sees_the_library_that_took_its_place(
    full: Archive, encoder: FakeEncoder, tmp_path: Path
) -> None:
    library = library_of(tmp_path / "other", encoder, story(7), story(8))
    mine, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=answer_ids, args=(full.folder, theirs), daemon=True)
    child.start()
    seen = []
    for step in range(3):
        mine.send(True)
        assert mine.poll(PATIENCE_S)
        seen.append(mine.recv())
        if step == 0:
            put_library(full.folder, library)
        elif step == 1:
            with closing(Archive(full.folder)) as writer:
                add(writer, encoder, story(9))
    mine.send(False)
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    assert seen == [["a0", "a1", "a2", "a3"], ["a7", "a8"], ["a7", "a8", "a9"]]


def test_nothing_is_lost_of_an_archive_that_others_begin(
    tmp_path: Path, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process, and by another thread, between two looks of a reader."""
    for others in (False, True):
        folder = tmp_path / f"{others}"
        with closing(Archive(folder)) as reader, closing(Archive(folder)) as another:
            writer = another if others else reader
            is_empty = reader._store.is_empty

            def look(writer: Archive = writer, look: Callable[[], bool] = is_empty) -> bool:
                monkeypatch.undo()
                found = look()
                add(writer, encoder, story(1))
                return found

            monkeypatch.setattr(reader._store, "is_empty", look)
            assert ids(reader) == ["a1"]


# The disk


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, encoder: FakeEncoder) -> None:
    folder = tmp_path / "index"
    folder.write_text("not a folder")
    with closing(Archive(folder)) as archive, pytest.raises(StorageFailed, match="index"):
        add(archive, encoder, *STORIES)
    assert folder.read_text() == "not a folder"


def test_a_folder_in_the_place_of_the_library(tmp_path: Path, encoder: FakeEncoder) -> None:
    (tmp_path / "library.db").mkdir()
    with closing(Archive(tmp_path)) as archive:
        for call in (lambda: ids(archive), lambda: add(archive, encoder, *STORIES)):
            with pytest.raises(StorageFailed, match="unable to open database file"):
                call()


def test_a_folder_whose_name_is_no_utf_8_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    folder = tmp_path / os.fsdecode(b"arch\xffive")
    with pytest.raises(InvalidRequest, match="no UTF-8"):
        Archive(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(full: Archive, encoder: FakeEncoder) -> None:
    full.close()
    full.folder.chmod(0o500)
    try:
        with pytest.raises(StorageFailed):
            add(full, encoder, story(9))
    finally:
        full.folder.chmod(0o700)
    assert_holds(full.folder, STORIES)


@pytest.fixture(name="fill_the_disk")
def _fill_the_disk() -> Iterator[Callable[[], None]]:
    """From its call to the end of the test, or `has_room`, no file can grow."""
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, LARGEST_FILE[1]))
    has_room()


LARGEST_FILE = resource.getrlimit(resource.RLIMIT_FSIZE)


def has_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, LARGEST_FILE)


@pytest.mark.parametrize(
    "step",
    [(archive_module, "_store"), (LexicalIndex, "commit"), (Writing, "publish")],
    ids=lambda step: step[1],
)
def test_a_full_disk_keeps_what_was_acknowledged(
    full: Archive,
    encoder: FakeEncoder,
    monkeypatch: pytest.MonkeyPatch,
    fill_the_disk: Callable[[], None],
    step: tuple[Any, str],
) -> None:
    original = getattr(*step)

    def without_room(*arguments: Any) -> Any:
        fill_the_disk()
        return original(*arguments)

    more = [story(number) for number in range(4, 40)]
    with closing(Archive(full.folder)) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(*step, without_room)
            with pytest.raises(StorageFailed):
                add(writer, encoder, *more)
        has_room()
        seen_after_a_kill(full.folder, STORIES, [*STORIES, *more])
        encoded = encoder.passages_encoded
        add(writer, encoder, *more)
    assert_holds(full.folder, [*STORIES, *more])
    assert (encoder.passages_encoded == encoded) == (step[1] != "_store")


def test_a_disk_too_full_for_the_base_keeps_nobody_from_adding(
    full: Archive,
    encoder: FakeEncoder,
    monkeypatch: pytest.MonkeyPatch,
    fill_the_disk: Callable[[], None],
) -> None:
    def without_room(*arguments: Any) -> Any:
        fill_the_disk()
        try:
            return write_base(*arguments)
        finally:
            has_room()

    with monkeypatch.context() as patch:
        patch.setattr("rag.base.write_base", without_room)
        assert add(full, encoder, *[story(number) for number in range(4, 9)]).added == 5
        assert full.remove(["a0"]).removed == ("a0",)
        held = [story(number) for number in range(1, 9)]
        assert_holds(full.folder, held)
    add(full, encoder, story(9))
    assert_holds(full.folder, [*held, story(9)])
    assert len(list(full.folder.glob("dense.*"))) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"not a database, whatever its name says" * 200,
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes(4000) + data[4100:],
    ],
    ids=["garbage", "cut", "zeros"],
)
def test_a_library_that_is_torn_is_said_to_be_damaged(
    full: Archive, damage: Callable[[bytes], bytes]
) -> None:
    full.close()
    torn = damage((full.folder / "library.db").read_bytes())
    (full.folder / "library.db").write_bytes(torn)
    faults = full.check()
    assert faults
    assert {fault.part for fault in faults} <= {"library.db"}
    with pytest.raises(ArchiveDamaged, match=r"Restore library\.db"):
        add(full, FakeEncoder(), story(1, version=1), story(9))
