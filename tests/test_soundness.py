"""What `check` names: every flipped bit in the truth, every derived file that is not as it was."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from rag import checked, soundness
from rag import vectors as vectors_module
from rag.archive import Archive
from rag.errors import ArchiveDamaged, RagError, StorageFailed
from rag.lexical import LexicalDocument, LexicalIndex, discard
from rag.locks import Locks
from rag.reading import Damaged, Reading
from rag.schema import manifest_checksum, passage_checksum
from rag.searcher import Searcher
from rag.types import Article, Fault
from rag.vectors import BaseRecord, FaissBase, write_base
from tests.fakes import DIMENSION, FakeEncoder, add, assert_holds, assert_snapshot_holds

NEWS = [
    Article(
        id=f"n{number}",
        title=f"Headline{number} of the day",
        text=f"Opening{number} words of it. Closing{number} words of it, and no more to say.",
        source=f"Sourcename{number}",
        author=f"Authorname{number}",
        url=f"https://news.example/{number}",
        published_at="2025-11-23",
    )
    for number in range(3)
]


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with a revision, a removal, a base and a tail, closed: all in one file."""
    folder = tmp_path_factory.mktemp("built") / "index"
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), *NEWS[:2], dataclasses.replace(NEWS[0], id="gone"), NEWS[2])
        archive.remove(["gone"])
        add(archive, FakeEncoder(), dataclasses.replace(NEWS[1], author="Another"))
        add(archive, FakeEncoder(), NEWS[1])
    assert not (folder / "library.db-wal").exists()
    return folder


@pytest.fixture(name="folder")
def _folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "index"))


@pytest.fixture(name="archive")
def _archive(folder: Path) -> Iterator[Archive]:
    with closing(Archive(folder)) as archive:
        yield archive


def sql(folder: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "library.db", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def problems(archive: Archive, part: str) -> list[str]:
    return [fault.problem for fault in archive.check() if fault.part == part]


def test_a_sound_archive_has_no_fault_and_each_part_is_looked_at(archive: Archive) -> None:
    parts: list[str] = []
    assert archive.check(parts.append) == []
    assert parts == ["library.db", "lexical", "dense", "model", "recall"]
    assert_holds(archive.folder, NEWS)


def test_an_archive_before_its_first_article_is_sound(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        assert archive.check() == []
        archive.recover()
        assert (tmp_path / "library.db").exists()
        assert archive.check() == []
    assert soundness.lost(tmp_path / "nowhere") == ""


@pytest.mark.parametrize("kept", ["dense.", "lexical"])
def test_derived_files_without_their_truth_are_a_fault(archive: Archive, kept: str) -> None:
    archive.close()
    for file in archive.folder.iterdir():
        if not file.name.startswith(kept):
            discard(file) if file.is_dir() else file.unlink()
    (fault,) = archive.check()
    assert fault.part == "library.db"
    assert fault.problem.startswith("it is missing, while ")
    assert kept in fault.problem or "meta.json" in fault.problem


# The truth: bits flipped in the file itself


def flip_in_file(file: Path, place: bytes, offset: int, bit: int) -> None:
    """Flip a bit of the last copy of `place`: earlier ones may be of pages no longer used."""
    data = bytearray(file.read_bytes())
    data[data.rindex(place) + offset] ^= 1 << bit
    file.write_bytes(data)


@pytest.mark.parametrize("bit", [0, 7], ids=["another letter", "no UTF-8"])
@pytest.mark.parametrize(
    ("place", "named"),
    [
        (b"Closing2", "the text of article n2 at revision 1 has changed"),
        (b"Headline2", "the record of article n2 at revision 1 has changed"),
        (b"Authorname2", "the record of article n2 at revision 1 has changed"),
    ],
)
def test_a_flipped_bit_in_an_article_is_named(
    archive: Archive, place: bytes, named: str, bit: int
) -> None:
    flip_in_file(archive.folder / "library.db", place, 3, bit)
    assert problems(archive, "library.db") == [named]


@pytest.mark.parametrize(
    "place", ["2025-11-23", "https://news.example/2", NEWS[2].sha256, "Sourcename2"]
)
def test_a_flipped_bit_in_what_is_said_of_an_article_is_named(archive: Archive, place: str) -> None:
    flip_in_file(archive.folder / "library.db", place.encode(), len(place) - 1, 0)
    assert problems(archive, "library.db")


@pytest.mark.parametrize("row", ["text", "sentences"])
def test_what_cannot_be_read_any_more_is_damage_to_a_reader(archive: Archive, row: str) -> None:
    if row == "text":
        flip_in_file(archive.folder / "library.db", b"Closing2", 3, 7)
    else:
        sql(archive.folder, "UPDATE passage SET sentences = '[[0,2' || char(0) || ']]'")

    def read() -> None:
        with archive.snapshot() as snapshot:
            snapshot.text(snapshot.head("n2"))
            snapshot.passages(np.flatnonzero(snapshot.columns.alive).tolist())

    with pytest.raises(ArchiveDamaged, match=r"Restore library\.db"):
        read()


def test_a_flipped_bit_in_a_vector_is_named(archive: Archive) -> None:
    ((number, vector),) = sql(archive.folder, "SELECT number, vector FROM encoding LIMIT 1")
    flip_in_file(archive.folder / "library.db", vector, 9, 4)
    assert problems(archive, "library.db") == [f"encoding {number} has changed"]


@pytest.mark.parametrize(
    ("column", "value"), [("tokens", 13), ("tokens", -115), ("tokens", 2**31), ("vector", b"")]
)
def test_a_changed_encoding_is_named(archive: Archive, column: str, value: object) -> None:
    sql(archive.folder, f"UPDATE encoding SET {column} = ? WHERE number = 2", value)
    assert "encoding 2 has changed" in problems(archive, "library.db")


CODES_OF_2 = (
    "SELECT t.encoding, codes, places FROM token_vectors t JOIN passage p USING (encoding)"
    " JOIN article a ON a.number = p.article WHERE a.id = 'n2' ORDER BY p.number LIMIT 1"
)


@pytest.mark.parametrize("part", ["codes", "places"])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_in_token_vectors_is_named(archive: Archive, part: str, bit: int) -> None:
    ((number, codes, places),) = sql(archive.folder, CODES_OF_2)
    assert len(codes) > len(places) > 16
    # They stand one behind the other; places alone may be those of another passage too.
    offset = 5 + (len(places) if part == "codes" else 0)
    flip_in_file(archive.folder / "library.db", places + codes, offset, bit)
    named = f"the token vectors of encoding {number} have changed"
    assert problems(archive, "library.db") == [named]


@pytest.mark.parametrize("column", ["codes", "places"])
@pytest.mark.parametrize("value", ["x''", "substr(codes, 2)", "zeroblob(length(places))"])
def test_changed_token_vectors_are_named(archive: Archive, column: str, value: str) -> None:
    sql(archive.folder, f"UPDATE token_vectors SET {column} = {value} WHERE encoding = 2")
    named = ["the token vectors of encoding 2 have changed"]
    assert problems(archive, "library.db") == named


def test_token_vectors_of_another_encoding_are_named(archive: Archive) -> None:
    sql(archive.folder, "UPDATE token_vectors SET encoding = -encoding WHERE encoding IN (1, 2)")
    sql(archive.folder, "UPDATE token_vectors SET encoding = 3 + encoding WHERE encoding < 0")
    assert problems(archive, "library.db") == [
        f"the token vectors of encoding {number} have changed" for number in (1, 2)
    ]


def test_missing_token_vectors_are_named(archive: Archive) -> None:
    sql(archive.folder, "DELETE FROM token_vectors WHERE encoding IN (1, 3)")
    assert problems(archive, "library.db") == [
        f"encoding {number} has no token vectors" for number in (1, 3)
    ]


@pytest.mark.parametrize("value", ["x'01'", "substr(places, 1, 8)", "zeroblob(length(places) - 4)"])
def test_token_vectors_of_another_size_are_damage_to_a_reader(archive: Archive, value: str) -> None:
    sql(archive.folder, f"UPDATE token_vectors SET places = {value} WHERE encoding = 2")

    def read() -> None:
        with archive.snapshot() as snapshot:
            snapshot.token_vectors(np.flatnonzero(snapshot.columns.alive).tolist())

    with pytest.raises(ArchiveDamaged, match=r"token vectors of passage \d+ have changed"):
        read()


@pytest.mark.parametrize("column", ['"end"', "start", "tokens", "sentences", "article"])
def test_a_changed_passage_is_named(archive: Archive, column: str) -> None:
    changed = "replace(sentences, '0', '1')" if column == "sentences" else f"{column} + 1"
    sql(archive.folder, f"UPDATE passage SET {column} = {changed} WHERE number = 1")
    assert "the record of passage 1 has changed" in problems(archive, "library.db")


@pytest.mark.parametrize("column", ["first", "last", "characters"])
def test_a_changed_number_of_an_article_is_named(archive: Archive, column: str) -> None:
    sql(archive.folder, f"UPDATE article SET {column} = {column} + 1 WHERE id = 'n0'")
    (problem,) = problems(archive, "library.db")
    assert "article n0 at revision 1 has changed" in problem


@pytest.mark.parametrize("name", ["chebksum", "checksum2", "Checksum"])
def test_a_manifest_whose_checksum_has_another_name_is_named(archive: Archive, name: str) -> None:
    sql(archive.folder, "UPDATE manifest SET key = ? WHERE key = 'checksum'", name)
    assert problems(archive, "library.db") == ["the manifest has changed"]
    with pytest.raises(ArchiveDamaged, match="the manifest has changed"):
        archive.manifest()


def test_a_manifest_of_before_it_had_a_checksum_is_sound(archive: Archive) -> None:
    sql(archive.folder, "DELETE FROM manifest WHERE key = 'checksum'")
    assert archive.check() == []
    archive.remove(["n0"])
    sql(archive.folder, "UPDATE manifest SET value = '1' WHERE key = 'dimension'")
    assert problems(archive, "library.db") == ["the manifest has changed"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("published", "3"),
        ("published", "="),
        ("committed", "99"),
        ("dimension", "33"),
        ("encoder", "another"),
        ("dense_base", "{"),
        ("archive", "f" * 32),
    ],
)
def test_a_changed_manifest_is_named(archive: Archive, key: str, value: str) -> None:
    sql(archive.folder, "UPDATE manifest SET value = ? WHERE key = ?", value, key)
    assert any("the manifest has changed" in each for each in problems(archive, "library.db"))


ENCODING_OF = "SELECT encoding FROM passage WHERE number ="


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (f"DELETE FROM encoding WHERE number = ({ENCODING_OF} 1)", "passage 1 has no encoding"),
        ("DELETE FROM article WHERE id = 'n0'", "passage 1 belongs to no article"),
        ("DELETE FROM passage WHERE article = 1", "article n0 has no passage"),
    ],
)
def test_rows_that_belong_together_and_do_not(archive: Archive, statement: str, named: str) -> None:
    sql(archive.folder, statement)
    assert named in problems(archive, "library.db")


def test_a_passage_outside_its_article_is_named(archive: Archive) -> None:
    sql(
        archive.folder,
        'UPDATE passage SET start = 400, "end" = 500, checksum = ? WHERE number = 1',
        passage_checksum_of(archive.folder, 400, 500),
    )
    assert "passage 1 lies outside its article" in problems(archive, "library.db")


def passage_checksum_of(folder: Path, start: int, end: int) -> int:
    ((article, tokens, marks),) = sql(
        folder, "SELECT article, tokens, sentences FROM passage WHERE number = 1"
    )
    return passage_checksum(article, start, end, tokens, marks)


def test_every_fault_is_named_not_only_the_first(archive: Archive) -> None:
    for word in (b"Closing0", b"Closing2", b"Headline2"):
        flip_in_file(archive.folder / "library.db", word, 1, 7)
    sql(archive.folder, "UPDATE encoding SET tokens = 99 WHERE number IN (1, 3)")
    discard(archive.folder / "lexical")
    next(archive.folder.glob("dense.*")).unlink()
    named = "\n".join(f"{fault.part}: {fault.problem}" for fault in archive.check())
    for each in (
        "the text of article n0",
        "the text of article n2",
        "the record of article n2",
        "encoding 1 has changed",
        "encoding 3 has changed",
        "lexical: the lexical index cannot be opened",
        "cannot be read: No such file",
    ):
        assert each in named


def flipped(library: Path, used: Sequence[int], times: int) -> Iterator[None]:
    """A bit of one of the bytes `used` of a closed library is another, each time in a new file."""
    whole = library.read_bytes()
    chosen = random.Random(7)
    for _ in range(times):
        data = bytearray(whole)
        data[chosen.choice(used)] ^= 1 << chosen.randrange(8)
        other = library.with_name("other")
        other.write_bytes(data)
        other.replace(library)
        yield
        for name in ("library.db-wal", "library.db-shm"):
            library.with_name(name).unlink(missing_ok=True)


def mend_derived(built: Path, folder: Path) -> None:
    discard(folder / "lexical")
    shutil.copytree(built / "lexical", folder / "lexical")
    for file in built.glob("dense.*"):
        shutil.copy(file, folder)


def test_any_flipped_bit_of_the_library_is_named_or_does_no_harm(
    built: Path, archive: Archive
) -> None:
    """A sample; of no bit may anything but an error of ours come of checking."""
    library = archive.folder / "library.db"
    used = [at for at, byte in enumerate(library.read_bytes()) if byte]
    named = 0
    for _ in flipped(library, used, 120):
        try:
            faults = archive.check()
            if faults:
                named += 1
                continue
            with archive.snapshot() as snapshot:
                assert_snapshot_holds(snapshot, {article.id: article for article in NEWS})
        except RagError:
            named += 1
        finally:
            archive.close()
            mend_derived(built, archive.folder)
    assert named > 60


INDEXES = ("article_columns", "passage_columns", "sqlite_autoindex_article_1")


@pytest.mark.parametrize("tree", [*INDEXES, "passage", "manifest"])
def test_a_flipped_bit_of_what_readers_keep_is_named_and_never_another_error(
    built: Path, folder: Path, tree: str
) -> None:
    """Every tree of SQLite's that a reader takes numbers from; all fit into a page here."""
    library = folder / "library.db"
    ((page,),) = sql(folder, "SELECT rootpage FROM sqlite_master WHERE name = ?", tree)
    whole = library.read_bytes()
    ((page_bytes,),) = sql(folder, "PRAGMA page_size")
    used = [at for at in range((page - 1) * page_bytes, page * page_bytes) if whole[at]]
    named = 0
    for _ in flipped(library, used, 50):
        with closing(Archive(folder)) as archive:
            faults = archive.check()
            try:
                assert archive.is_sound() is not bool(faults)
                Searcher(archive, FakeEncoder()).ask("Closing2 words of Sourcename1")
                with archive.snapshot() as snapshot:
                    read = {head.id: snapshot.text(head) for head in snapshot.heads(limit=9)}
                if not faults:
                    assert read == {article.id: article.text for article in NEWS}
            except ArchiveDamaged:
                assert faults
        mend_derived(built, folder)
        named += bool(faults)
    assert named >= 25


def test_a_flipped_bit_of_what_is_kept_of_the_removed_is_named(built: Path, folder: Path) -> None:
    library = folder / "library.db"
    gone = NEWS[0].id
    with closing(Archive(folder)) as archive:
        archive.remove([gone])
    before = Path(shutil.copytree(folder, folder.with_name("before")))
    ((page,),) = sql(folder, "SELECT rootpage FROM sqlite_master WHERE name = 'removed'")
    whole = library.read_bytes()
    used = [at for at in range((page - 1) * 4096, page * 4096) if whole[at]]
    named = refused = 0
    for _ in flipped(library, used, 60):
        with closing(Archive(folder)) as archive:
            faults = archive.check()
            named += bool(faults)
            try:
                add(archive, FakeEncoder(), NEWS[0])
                with archive.snapshot() as snapshot:
                    head = snapshot.head(gone)
                assert faults or (head and head.revision == 2)
            except ArchiveDamaged:
                refused += 1
                assert faults
        mend_derived(before, folder)
    assert named > 50
    assert refused > 10


def test_a_flipped_bit_of_a_removal_that_is_not_finished_is_named(
    built: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageFailed("lexical", "no room")

    with monkeypatch.context() as patch, closing(Archive(folder)) as archive:
        patch.setattr(Archive, "_finish", fail)
        with pytest.raises(StorageFailed):
            archive.remove([NEWS[0].id, NEWS[1].id])
    more = dataclasses.replace(NEWS[0], id="more")
    ((page,),) = sql(folder, "SELECT rootpage FROM sqlite_master WHERE name = 'removed'")
    library = folder / "library.db"
    whole = library.read_bytes()
    used = [at for at in range((page - 1) * 4096, page * 4096) if whole[at]]
    refused = 0
    for _ in flipped(library, used, 60):
        with closing(Archive(folder)) as archive:
            faults = archive.check()
            try:
                add(archive, FakeEncoder(), more)
            except ArchiveDamaged:
                refused += 1
                assert faults
        mend_derived(built, folder)
    assert refused > 20


def test_passages_in_no_order_are_named_and_not_read_for_ever(archive: Archive) -> None:
    library = archive.folder / "library.db"
    ((page,),) = sql(archive.folder, "SELECT rootpage FROM sqlite_master WHERE name = 'passage'")
    data = bytearray(library.read_bytes())
    start = (page - 1) * 4096
    cells = int.from_bytes(data[start + 3 : start + 5], "big")
    last = start + int.from_bytes(data[start + 6 + 2 * cells : start + 8 + 2 * cells], "big")
    assert data[start] == 13  # a leaf, whose cells are a length, a number and a row
    assert data[last + 1] == cells
    data[last + 1] ^= 8
    assert data[last + 1] < cells
    library.write_bytes(data)
    for call in (archive.rebuild, lambda: read_vectors(archive)):
        with pytest.raises(ArchiveDamaged):
            call()
    assert problems(archive, "library.db")


def read_vectors(archive: Archive) -> None:
    with archive.reading() as reading:
        assert reading is not None
        for turn, _ in enumerate(reading.all_vectors(DIMENSION)):
            assert turn < 9


def test_what_a_check_found_is_told_whatever_it_cannot_look_at(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(reading: Reading) -> Iterator[str]:
        yield "one page"
        raise Damaged("another page")

    def failed(*given: object) -> list[Fault]:
        raise StorageFailed("index", "no disk")

    with monkeypatch.context() as patched:
        patched.setattr(Reading, "faults", damaged)
        assert problems(archive, "library.db") == ["one page", "another page"]
    monkeypatch.setattr(soundness, "derived_faults", failed)
    with pytest.raises(StorageFailed, match="no disk"):
        archive.check()
    flip_in_file(archive.folder / "library.db", b"Closing2", 3, 0)
    assert problems(archive, "library.db") == ["the text of article n2 at revision 1 has changed"]
    assert archive.is_sound() is False


# Derived files


def test_being_behind_is_no_fault_and_being_ahead_one_of_the_library(
    archive: Archive, tmp_path: Path
) -> None:
    lexical, old = archive.folder / "lexical", tmp_path / "old"
    shutil.copytree(lexical, old)
    more = dataclasses.replace(NEWS[0], id="more")
    add(archive, FakeEncoder(), more)
    new = tmp_path / "new"
    shutil.move(lexical, new)
    shutil.move(old, lexical)
    assert archive.check() == []
    assert_holds(archive.folder, [*NEWS, more])
    archive.remove(["more"])
    discard(lexical)
    LexicalIndex(lexical).rebuild(archive.manifest()["archive"], 99, [])
    (fault,) = archive.check()
    assert fault.part == "library.db"
    assert "its lexical index at 99" in fault.problem
    assert archive.rebuild() == 100
    assert archive.check() == []
    assert_holds(archive.folder, NEWS)


def test_an_index_of_just_this_generation_must_hold_just_the_living(archive: Archive) -> None:
    manifest = archive.manifest()
    lexical = LexicalIndex(archive.folder / "lexical")
    stray = LexicalDocument(passage=77, article=1, source=None, first=None, last=None, text="x")
    lexical.commit(manifest["archive"], int(manifest["published"]), [stray], [])
    assert archive.check() == [Fault("lexical", "it does not hold just the living passages")]
    archive.rebuild()
    assert archive.check() == []


def test_an_index_of_another_archive_is_a_fault(archive: Archive) -> None:
    generation = int(archive.manifest()["published"])
    LexicalIndex(archive.folder / "lexical").rebuild("another", generation, [])
    assert archive.check() == [Fault("lexical", "it belongs to another library.db")]
    assert_holds(archive.folder, NEWS)


@pytest.mark.parametrize("pattern", ["*.term", "*.idx", "*.fieldnorm", "*.fast", "*.store"])
def test_a_flipped_bit_in_a_file_of_the_lexical_index_is_named(
    archive: Archive, pattern: str
) -> None:
    file = max(archive.folder.glob(f"lexical/{pattern}"), key=lambda each: each.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 5] ^= 16
    file.unlink()
    file.write_bytes(data)
    (problem,) = problems(archive, "lexical")
    assert file.name in problem or "cannot be opened" in problem


def with_base(
    archive: Archive, change: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], Any]
) -> BaseRecord:
    """Put a base in place that is as its record says, and not as library.db says."""
    with archive.reading() as reading:
        assert reading is not None
        parts = change(*reading.vectors(0, DIMENSION))
        record = write_base(archive.folder, reading.generation, DIMENSION, [parts])
        manifest = reading.manifest()
    manifest["dense_base"] = record.to_json()
    manifest["checksum"] = manifest_checksum(manifest)
    for key, value in manifest.items():
        sql(archive.folder, "UPDATE manifest SET value = ? WHERE key = ?", value, key)
    return record


def test_a_base_with_other_vectors_is_a_fault(archive: Archive) -> None:
    record = with_base(archive, lambda numbers, matrix: (numbers, -matrix))
    problem = f"{record.file} holds other vectors than library.db"
    assert archive.check() == [Fault("dense", problem)]
    archive.rebuild()
    assert_holds(archive.folder, NEWS)


def test_a_base_that_lacks_a_passage_is_a_fault(archive: Archive) -> None:
    record = with_base(archive, lambda numbers, matrix: (numbers[1:], matrix[1:]))
    problem = f"{record.file} lacks passages that it should hold"
    assert archive.check() == [Fault("dense", problem)]
    archive.rebuild()
    assert_holds(archive.folder, NEWS)


def test_a_base_that_is_good_for_less_than_all_is_no_fault(archive: Archive) -> None:
    with_base(archive, lambda numbers, matrix: (numbers[:3], matrix[:3]))
    assert archive.check() == []
    assert_holds(archive.folder, NEWS)


# Recall


LETTERS = "abcdefghijklmnopqrst"


def letters(number: int) -> Article:
    """One passage; FAISS wants sixteen of different vectors for its codes."""
    return Article(id=f"l{number}", title=LETTERS[number], text=f"{LETTERS[number] * 3} was said.")


@pytest.fixture(name="quantised")
def _quantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(vectors_module, "EXACT_MOST", 16)
    with closing(Archive(tmp_path / "index")) as archive:
        add(archive, FakeEncoder(), *[letters(number) for number in range(20)])
        yield archive


def known(archive: Archive) -> tuple[float | None, str]:
    return soundness.known_recall(archive.manifest(), archive.last_check())


def test_an_exact_archive_needs_no_measurement(archive: Archive) -> None:
    assert known(archive) == (1.0, "exact search")
    assert archive.check() == []
    last = archive.last_check()
    assert last is not None
    assert last.recall is None
    assert soundness.known_recall({}, None) == (1.0, "exact search")


def test_recall_is_measured_by_check_and_kept_until_the_base_is_another(quantised: Archive) -> None:
    assert known(quantised)[0] is None
    assert "rag check" in known(quantised)[1]
    assert quantised.check() == []
    assert known(quantised) == (1.0, "approximate search, rag check on 20 passages")
    assert quantised.check() == []
    add(quantised, FakeEncoder(), NEWS[0])
    assert known(quantised)[0] == 1.0  # the tail is exact
    quantised.rebuild()
    assert known(quantised)[0] is None
    assert quantised.check() == []
    assert known(quantised)[0] == 1.0


def blind(self: FaissBase, vector: Any, depth: int, mask: Any) -> Any:
    numbers, scores = self.search(-vector, depth, mask)
    return numbers, -scores


def test_a_base_that_does_not_find_what_it_should_is_a_fault(
    quantised: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FaissBase, "approximate", blind)
        assert [fault.part for fault in quantised.check()] == ["dense"]
        assert "recall@10 is 0." in problems(quantised, "dense")[0]
    recall, _ = known(quantised)
    assert recall is not None
    assert recall < soundness.RECALL_LEAST
    assert quantised.check() == []


def test_a_faulty_archive_keeps_its_manifest_as_it_is(quantised: Archive) -> None:
    sql(quantised.folder, "UPDATE manifest SET value = 'other' WHERE key = 'encoder_name'")
    assert problems(quantised, "library.db") == ["the manifest has changed"]
    assert problems(quantised, "library.db") == ["the manifest has changed"]
    with pytest.raises(ArchiveDamaged, match="the manifest has changed"):
        known(quantised)


def test_a_check_beside_writers_finds_no_fault(archive: Archive) -> None:
    def write() -> None:
        with closing(Archive(archive.folder)) as writer:
            for number in range(30):
                add(writer, FakeEncoder(), dataclasses.replace(NEWS[0], id=f"more{number}"))
                writer.rebuild()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        while not writing.done():
            assert archive.check() == []
            assert archive.is_sound() is not False
        writing.result()


def test_what_a_writer_was_just_making_is_no_fault(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, away = soundness.PARTS["lexical"], archive.folder / "lexical.old"
    locked: list[bool] = []

    def beside_a_rebuild(folder: Path, reading: Reading) -> Iterator[str]:
        locked.append(archive._locks.somebody_writes())
        if len(locked) == 1:
            (folder / "lexical").rename(away)
        found = [*look(folder, reading)]
        if away.exists():
            assert found
            away.rename(folder / "lexical")
        yield from found

    monkeypatch.setitem(soundness.PARTS, "lexical", beside_a_rebuild)
    assert archive.check() == []
    assert locked == [False, True]


@pytest.mark.parametrize("lasts", [False, True])
def test_who_cannot_keep_others_from_writing_looks_again_and_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, lasts: bool
) -> None:
    def nobody_can_write(_: object) -> NoReturn:
        raise StorageFailed(str(archive.folder), "Read-only file system")

    looks: list[None] = []

    def beside_a_writer(_folder: Path, _reading: Reading) -> Iterator[str]:
        looks.append(None)
        if lasts or len(looks) % 4:
            yield "torn"

    monkeypatch.setattr(Locks, "writing", nobody_can_write)
    monkeypatch.setitem(soundness.PARTS, "lexical", beside_a_writer)
    assert [fault.problem for fault in archive.check()] == (["torn"] if lasts else [])


def test_a_check_waits_for_no_writer(quantised: Archive) -> None:
    with (
        closing(Archive(quantised.folder, lock_timeout_s=0.01)) as other,
        quantised._locks.writing(),
    ):
        assert other.check() == []
    assert known(quantised)[0] == 1.0


def test_a_figure_of_another_base_is_none(quantised: Archive) -> None:
    assert quantised.check() == []
    last = quantised.last_check()
    assert last is not None
    assert last.recall is not None
    other = replace(last, recall=replace(last.recall, file="x"))
    assert soundness.known_recall(quantised.manifest(), last)[0] == 1.0
    assert soundness.known_recall(quantised.manifest(), other)[0] is None


def test_what_the_last_check_found_is_kept(archive: Archive) -> None:
    assert archive.last_check() is None
    assert archive.is_sound() is None
    before = checked.now()
    assert archive.check() == []
    last = archive.last_check()
    assert last is not None
    assert before <= last.at <= checked.now()
    assert (last.sound, last.faults, last.generation) == (True, 0, 4)
    assert archive.is_sound() is True
    sql(archive.folder, "UPDATE article SET title = 'x' WHERE number = 1")
    faults = archive.check()
    assert faults
    last = archive.last_check()
    assert last is not None
    assert (last.sound, last.faults) == (False, len(faults))
    assert archive.is_sound() is False


def read_all(archive: Archive) -> None:
    with archive.reading() as reading:
        assert reading is not None
        for article in NEWS:
            head = reading.head(article.id)
            assert head is not None
            reading.text(head.id, head.revision)


def test_damage_met_after_the_last_check_is_not_sound(archive: Archive) -> None:
    assert archive.check() == []
    read_all(archive)
    assert archive.is_sound() is True
    sql(archive.folder, "UPDATE article SET text = 'x' WHERE id = 'n0'")
    with pytest.raises(ArchiveDamaged):
        read_all(archive)
    assert archive.is_sound() is False
    with closing(Archive(archive.folder)) as other:
        assert other.is_sound() is True  # it has met nothing
        assert other.check()
        assert other.is_sound() is False


def test_after_a_rebuild_nobody_knows_until_the_next_check(archive: Archive) -> None:
    discard(archive.folder / "lexical")
    assert archive.check()
    assert archive.is_sound() is False
    archive.rebuild()
    assert archive.is_sound() is None
    assert archive.check() == []
    assert archive.is_sound() is True


def test_what_was_restored_is_sound(archive: Archive, tmp_path: Path) -> None:
    archive.back_up(tmp_path / "backup")
    sql(archive.folder, "UPDATE article SET title = 'x' WHERE number = 1")
    assert archive.check()
    archive.restore(tmp_path / "backup", replace=True)
    assert archive.is_sound() is True
    assert archive.check() == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", "\x00", '{"at": "yesterday"}', '{"recall": 1}', "[" * 100_000],
)
def test_a_kept_check_that_cannot_be_read_is_none(archive: Archive, content: str) -> None:
    assert archive.check() == []
    (archive.folder / checked.FILE).write_text(content)
    assert archive.last_check() is None
    assert archive.is_sound() is None
    assert archive.check() == []
    assert archive.is_sound() is True


@pytest.mark.parametrize("at", ["x", 3, None, "2026-01-01T00:00:00"])
def test_a_kept_check_of_no_moment_is_none(archive: Archive, at: object) -> None:
    assert archive.check() == []
    file = archive.folder / checked.FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "at": at}))
    assert archive.last_check() is None


def test_a_check_that_cannot_be_kept_still_says_what_it_found(archive: Archive) -> None:
    (archive.folder / f"{checked.FILE}.tmp").mkdir()
    assert archive.check() == []
    assert archive.is_sound() is None


def test_a_folder_without_an_archive_is_left_as_it_is(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        assert archive.check() == []
        assert archive.is_sound() is None
    assert not [*tmp_path.iterdir()]
