"""The words of an archive under damage: a flipped bit is named or mended, and blamed on nothing
else."""

from __future__ import annotations

import multiprocessing
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rag import lexical
from rag.archive import Archive
from rag.errors import ArchiveDamaged, StorageFailed
from rag.lexical import LexicalIndex, Scope
from rag.types import Article
from tests.fakes import FakeEncoder, add, assert_holds
from tests.folders import temporary_folder

FLIPS_READ, FLIPS_CHANGED = 160, 30
PATIENCE_S = 60.0

MARKERS = 0.3
"""What those that died make of a score here at most."""


def story(number: int, version: int = 0) -> Article:
    text = f"A storm hit town{number} on Monday. {'Rain fell. ' * (number % 4)}Version{version}."
    return Article(id=f"a{number}", title=f"Storm {number}", text=text)


STORIES = [story(number) for number in (0, 2, 3, 4, 5)]
MORE = [story(number) for number in range(10, 17)]


@pytest.fixture(name="built", scope="module")
def _built() -> Iterator[Path]:
    """An archive whose words are in several segments, with lists of the dead."""
    with temporary_folder() as folder:
        index = Path(folder) / "index"
        with closing(Archive(index)) as archive:
            add(archive, FakeEncoder(), *[story(number, number % 2) for number in range(4)])
            archive.remove(["a1"])
            add(archive, FakeEncoder(), story(3))
            for number in (4, 5):
                add(archive, FakeEncoder(), story(number))
        yield index


Places = list[tuple[str, int, int]]


def places(built: Path, count: int) -> Places:
    """File, byte and bit, each file as often as any."""
    chance = random.Random(count)
    files = [file for file in (built / "lexical").iterdir() if file.stat().st_size]
    files.sort(key=lambda file: (file.suffix, file.stat().st_mtime_ns))  # names are random
    return [
        (file.name, chance.randrange(file.stat().st_size), chance.randrange(8))
        for file in chance.choices(files, k=count)
    ]


def each_damaged(built: Path, flips: Places) -> Iterator[Archive]:
    for name, byte, bit in flips:
        with TemporaryDirectory(dir=built.parent, ignore_cleanup_errors=True) as temporary:
            folder = Path(shutil.copytree(built, Path(temporary) / "index"))
            data = bytearray((folder / "lexical" / name).read_bytes())
            data[byte] ^= 1 << bit
            (folder / "lexical" / name).write_bytes(data)
            with closing(Archive(folder)) as archive:
                yield archive


Scores = dict[str, dict[int, float]]


def scores(archive: Archive) -> Scores:
    """By word and passage, and how many as those of passage 0."""
    with archive.snapshot() as snapshot:
        assert snapshot.lexical is not None
        found = {}
        for word in ("storm", "rain", "version1", *(f"town{number}" for number in range(18))):
            numbers, values = snapshot.lexical.search([word], 1000, Scope())
            found[word] = dict(zip(numbers.tolist(), values.tolist(), strict=True))
            found[word][0] = len(numbers)
        return found


def same(found: Scores, expected: Scores, within: float = 1e-3) -> bool:
    return all(found[word] == pytest.approx(expected[word], abs=within) for word in expected)


def named(archive: Archive) -> bool:
    """Whether a fault is named, of the words alone."""
    faults = archive.check()
    assert {fault.part for fault in faults} <= {"lexical"}
    return bool(faults)


@pytest.fixture(name="right", scope="module")
def _right(built: Path) -> tuple[Scores, Scores]:
    """The scores as they are, and once all is made anew: markers that died count for the first."""
    folder = Path(shutil.copytree(built, built.parent / "right"))
    with closing(Archive(folder)) as archive:
        before = scores(archive)
        archive.rebuild()
        return before, scores(archive)


def test_any_flipped_bit_of_the_words_is_named_or_gone_after_a_question(
    built: Path, right: tuple[Scores, Scores]
) -> None:
    refused = 0
    for archive in each_damaged(built, places(built, FLIPS_READ)):
        try:
            found = scores(archive)
        except StorageFailed:
            assert named(archive)
            refused += 1
        else:
            assert named(archive) or any(same(found, each) for each in right)
    assert refused < FLIPS_READ / 4


def change(archive: Archive) -> None:
    for article in MORE:
        add(archive, FakeEncoder(), article)
    archive.remove(["a10"])


def test_any_flipped_bit_of_the_words_is_named_or_gone_after_changes(built: Path) -> None:
    """tantivy merges eight segments."""
    folder = Path(shutil.copytree(built, built.parent / "changed"))
    with closing(Archive(folder)) as archive:
        change(archive)
        archive.rebuild()
        expected = scores(archive)
    for archive in each_damaged(built, places(built, FLIPS_CHANGED)):
        change(archive)
        assert named(archive) or same(scores(archive), expected, MARKERS)
        archive.rebuild()
        assert same(scores(archive), expected)


def last(folder: Path, part: str) -> Path:
    return max(folder.glob(f"lexical/*.{part}"), key=lambda file: file.stat().st_mtime_ns)


def every_bit(file: Path) -> Places:
    return [(file.name, byte, bit) for byte in range(file.stat().st_size) for bit in range(8)]


def test_no_flipped_bit_of_the_last_generation_is_a_loss_of_the_library(built: Path) -> None:
    """The marker says it in two files."""
    flips = every_bit(last(built, "fast"))[::3]
    for archive in each_damaged(built, flips):
        archive._words.require_nothing_lost()


def test_a_flipped_bit_in_a_list_of_the_dead_brings_nothing_back(built: Path) -> None:
    with closing(Archive(built)) as archive:
        expected = scores(archive)
    flips = [flip for file in built.glob("lexical/*.del") for flip in every_bit(file)[: 8 * 6]]
    for at, archive in enumerate(each_damaged(built, flips + flips)):
        if at < len(flips):
            add(archive, FakeEncoder(), MORE[0])
        found = scores(archive)
        for word in ("town0", "town2", "town3", "town4", "town5", "version1"):
            assert found[word].keys() == expected[word].keys()
            assert found[word][0] == expected[word][0]


@pytest.mark.parametrize("whole", [True, False])
def test_words_ahead_of_the_library_tell_of_a_loss_only_where_they_are_whole(
    built: Path, tmp_path: Path, whole: bool
) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "index"))
    with closing(Archive(folder)) as archive:
        LexicalIndex(folder / "lexical").commit(archive.manifest()["archive"], 9, [], [])
        if whole:
            with pytest.raises(ArchiveDamaged, match="at generation 5 and its lexical index at 9"):
                archive.back_up(tmp_path / "backup.db")
            return
        file = last(folder, "fieldnorm")
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
        archive.back_up(tmp_path / "backup.db")
        add(archive, FakeEncoder(), *MORE)
    assert_holds(folder, [*STORIES, *MORE])


def remove_from_each(built: Path) -> None:
    file = min(built.glob("lexical/*.term"), key=lambda file: file.stat().st_mtime_ns)
    for archive in each_damaged(built, every_bit(file)[6::56]):
        archive.remove(["a3"])


def test_no_flipped_bit_ends_the_process_that_removes_an_article(built: Path) -> None:
    """As a panic does in a thread of tantivy's own."""
    child = multiprocessing.get_context("spawn").Process(target=remove_from_each, args=(built,))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == 0


def test_counts_of_documents_that_changed_are_named(built: Path) -> None:
    """meta.json has no checksum; a wrong count of documents makes every score wrong."""
    meta = (built / "lexical" / "meta.json").read_bytes()
    counts = [at for at in range(meta.index(b'"schema"')) if meta[at - 2 : at] == b": "]
    for archive in each_damaged(built, [("meta.json", at, 0) for at in counts]):
        assert named(archive)
        archive.rebuild()
        assert not named(archive)


def test_words_of_before_are_read_until_a_change_makes_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    with monkeypatch.context() as before, closing(Archive(index)) as archive:
        before.setattr(lexical, "SCHEMA", lexical.SCHEMA_OF_BEFORE)
        add(archive, FakeEncoder(), *STORIES)
        for number in (10, 11):
            add(archive, FakeEncoder(), story(number))
    with closing(Archive(index)) as archive:
        assert LexicalIndex(index / "lexical").searcher().is_of_before
        assert archive.check() == []
        had = scores(archive)
        add(archive, FakeEncoder(), story(12))
        assert not LexicalIndex(index / "lexical").searcher().is_of_before
        archive.remove(["a12"])
        archive.rebuild()
        assert scores(archive) == had
        assert archive.check() == []
