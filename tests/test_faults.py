"""Disks that are full or read-only, and files torn under a server that is at work."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from rag.archive import Archive
from rag.errors import ArchiveDamaged, RagError, StorageFailed
from rag.types import Article
from tests.fakes import FakeEncoder, add, assert_holds, assert_snapshot_holds
from tests.folders import temporary_folder
from tests.served import running

PATIENCE_S = 60.0
PAGE_BYTES = 4096


def story(number: int) -> Article:
    text = f"A storm hit town{number} on Monday, said the mayor. Nobody was hurt in river{number}."
    return Article(id=f"a{number}", title=f"Storm {number}", text=text)


STORIES = [story(number) for number in range(40)]


@pytest.fixture(name="built", scope="module")
def _built() -> Iterator[Path]:
    """An archive, closed: its library is one file."""
    with temporary_folder() as folder:
        index = Path(folder) / "index"
        with closing(Archive(index)) as archive:
            add(archive, FakeEncoder(), *STORIES)
        yield index


@pytest.fixture(name="folder")
def _folder(built: Path) -> Iterator[Path]:
    with temporary_folder() as folder:
        yield Path(shutil.copytree(built, Path(folder) / "index"))


def cut(file: Path) -> None:
    os.truncate(file, 10)


def flip(file: Path) -> None:
    """A bit in the middle, in the place where it is."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 4]))


def largest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda file: file.stat().st_size)


def ask(port: int, question: str) -> tuple[int, Any]:
    """Status and body of a question."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/ask?{urlencode({'q': question})}") as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def cited(answer: Any) -> list[tuple[str, float]]:
    return [(each["article"]["id"], each["score"]) for each in answer["citations"]]


# Derived files, under a server that has them mapped

DERIVED = ["dense.*", "lexical/*.idx", "lexical/*.fast", "lexical/*.term", "lexical/*.store"]


def test_derived_files_damaged_under_a_server_are_named_and_mended(folder: Path) -> None:
    question = "who spoke of town7"
    with running(folder) as (process, port), closing(Archive(folder)) as archive:
        status, before = ask(port, question)
        assert status == 200
        for damage in (cut, flip):
            for pattern in DERIVED:
                damage(largest(folder, pattern))
                (part,) = {fault.part for fault in archive.check()}
                assert pattern.startswith(part)
                status, answer = ask(port, question)
                assert process.poll() is None
                assert status == 200 or "rag rebuild" in answer["detail"]
                archive.rebuild()
                assert archive.check() == []
                status, answer = ask(port, question)
                assert (status, cited(answer)) == (200, cited(before))
    assert_holds(folder, STORIES)


def test_a_base_cut_under_a_server_is_made_anew_by_it(folder: Path) -> None:
    with running(folder) as (process, port):
        _, before = ask(port, "who spoke of town7")
        cut(largest(folder, "dense.*"))
        status, answer = ask(port, "who spoke of town7")
        assert process.poll() is None
        assert (status, cited(answer)) == (200, cited(before))
    assert_holds(folder, STORIES)


# The truth


def test_a_library_torn_under_a_server_is_refused_with_what_to_do(
    folder: Path, tmp_path: Path
) -> None:
    with closing(Archive(folder)) as archive:
        archive.back_up(tmp_path / "backup.db")
    with running(folder) as (process, port):
        assert ask(port, "who spoke of town7")[0] == 200
        os.truncate(folder / "library.db", 3 * PAGE_BYTES)
        status, problem = ask(port, "who spoke of town8")
        assert status == 503
        assert "rag restore" in problem["detail"]
        assert process.poll() is None
    with closing(Archive(folder)) as archive:
        assert {fault.part for fault in archive.check()} == {"library.db"}
        archive.restore(tmp_path / "backup.db", replace=True)
    assert_holds(folder, STORIES)


def flip_what_readers_keep(folder: Path) -> None:
    """Flip the first bit of SQLite's index of passages that keeps readers from reading it."""
    library = folder / "library.db"
    with closing(sqlite3.connect(library)) as connection:
        asked = "SELECT rootpage FROM sqlite_master WHERE name = 'passage_columns'"
        ((page,),) = connection.execute(asked)
    whole = library.read_bytes()
    for at in range((page - 1) * PAGE_BYTES, page * PAGE_BYTES):
        data = bytearray(whole)
        data[at] ^= 16
        other = library.with_name("other")
        other.write_bytes(data)
        other.replace(library)
        with closing(Archive(folder)) as archive:
            try:
                with archive.snapshot():
                    pass
            except ArchiveDamaged as error:
                if "an index has numbers" in error.fault:
                    return
    raise AssertionError("no bit of the index matters")


def test_an_index_of_the_library_torn_under_a_server_is_named_by_it(folder: Path) -> None:
    with running(folder) as (process, port):
        assert ask(port, "who spoke of town7")[0] == 200
        flip_what_readers_keep(folder)
        for _ in range(2):
            status, problem = ask(port, "who spoke of town8")
            assert status == 503
            assert "an index has numbers that are not in" in problem["detail"]
            assert "rag restore" in problem["detail"]
        assert ready(port)[1]["sound"] is False
        with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            assert b"\nrag_sound 0.0\n" in response.read()
        assert process.poll() is None
    with closing(Archive(folder)) as archive:
        assert {fault.part for fault in archive.check()} == {"library.db"}
        assert archive.is_sound() is False


def test_a_library_that_is_restored_under_a_server_is_answered_from(
    folder: Path, tmp_path: Path
) -> None:
    with closing(Archive(folder)) as archive, running(folder) as (_, port):
        archive.back_up(tmp_path / "backup.db")
        with closing(sqlite3.connect(folder / "library.db", isolation_level=None)) as library:
            library.execute("UPDATE article SET text = replace(text, 'town7', 'town9')")
        assert ask(port, "who spoke of town7")[0] == 503
        archive.restore(tmp_path / "backup.db", replace=True)
        status, answer = ask(port, "who spoke of town7")
        assert status == 200
        assert "a7" in [article for article, _ in cited(answer)]


def post(port: int, article_id: str) -> tuple[int, Any]:
    """Status and body of an article that is added."""
    body = json.dumps({"id": article_id, "title": "News", "text": "Something happened."})
    request = Request(
        f"http://127.0.0.1:{port}/articles", body.encode(), {"Content-Type": "application/json"}
    )
    try:
        with urlopen(request) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def ready(port: int) -> tuple[int, Any]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/ready") as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("gone", ["the folder", "the library"])
def test_an_archive_that_is_gone_under_a_server_is_no_empty_one(folder: Path, gone: str) -> None:
    missing = folder if gone == "the folder" else folder / "library.db"
    elsewhere = folder.with_name("elsewhere")
    with running(folder) as (_, port):
        assert ask(port, "who spoke of town7")[0] == 200
        missing.rename(elsewhere)
        for status, problem in (ask(port, "who spoke of town8"), post(port, "new"), ready(port)):
            assert status == 503
            assert "not there any more" in problem["detail"]
        with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            assert b"\nrag_sound 0.0\n" in response.read()
        assert not missing.exists()
        elsewhere.rename(missing)
        assert ready(port)[0] == 200
        assert post(port, "new")[0] == 200
        assert ask(port, "who spoke of town7")[0] == 200
    with closing(Archive(folder)) as archive:
        assert archive.check() == []


def test_a_server_that_began_while_changes_were_lost_answers_once_that_is_mended(
    folder: Path,
) -> None:
    before = (folder / "library.db").read_bytes()
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), story(99))
    (folder / "library.db").write_bytes(before)
    with running(folder) as (_, port):
        for status, problem in (ask(port, "who spoke of town7"), ready(port)):
            assert status == 503
            assert "it has lost changes" in problem["detail"]
        with closing(Archive(folder)) as archive:
            archive.rebuild()
        assert ready(port)[0] == 200
        assert ask(port, "who spoke of town7")[0] == 200


@pytest.mark.parametrize("how", ["empty", "missing"])
def test_a_library_that_is_lost_is_not_begun_anew(folder: Path, tmp_path: Path, how: str) -> None:
    with closing(Archive(folder)) as archive:
        archive.back_up(tmp_path / "backup.db")
    library = folder / "library.db"
    library.unlink()
    if how == "empty":
        library.touch()
    with closing(Archive(folder)) as archive:
        calls: list[Callable[[], object]] = [
            archive.manifest,
            archive.rebuild,
            archive.recover,
            lambda: archive.remove(["a0"]),
            lambda: archive.back_up(tmp_path / "another.db"),
            lambda: add(archive, FakeEncoder(), story(99)),
        ]
        for call in calls:
            with pytest.raises(ArchiveDamaged, match=f"it is {how}, while "):
                call()
        (fault,) = archive.check()
        assert fault.part == "library.db"
        archive.restore(tmp_path / "backup.db", replace=True)
    assert_holds(folder, STORIES)


def add_and_die(folder: Path) -> None:
    """Leave all that is acknowledged in the log of the library."""
    archive = Archive(folder)
    for number in range(4):
        add(archive, FakeEncoder(), story(number))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(name="logged", scope="module")
def _logged() -> Iterator[Path]:
    """An archive of four articles whose library is for the most part in its log."""
    with temporary_folder() as folder:
        index = Path(folder) / "index"
        child = multiprocessing.get_context("spawn").Process(target=add_and_die, args=(index,))
        child.start()
        child.join(PATIENCE_S)
        assert child.exitcode == -signal.SIGKILL
        yield index


@pytest.mark.parametrize("step", range(60))
def test_any_flipped_bit_of_the_log_is_named_or_does_no_harm(
    logged: Path, tmp_path: Path, step: int
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(logged, folder)
    log = folder / "library.db-wal"
    data = bytearray(log.read_bytes())
    data[len(data) * (2 * step + 1) // 120] ^= 16
    log.write_bytes(data)
    with closing(Archive(folder)) as archive:
        named = [fault.problem for fault in archive.check() if fault.part == "library.db"]
        if named:
            with pytest.raises(ArchiveDamaged):
                add(archive, FakeEncoder(), story(99))
            if "it is empty" not in named[0]:
                assert archive.rebuild() == 5
                assert archive.check() == []
                add(archive, FakeEncoder(), story(99))
                with archive.snapshot() as snapshot:
                    left = {head.id for head in snapshot.heads(limit=100)}
                assert {"a99"} <= left < {"a0", "a1", "a2", "a3", "a99"}
            return
    assert_holds(folder, [story(number) for number in range(4)])


@pytest.mark.parametrize("torn", [bytes(PAGE_BYTES), b"\xff" * PAGE_BYTES], ids=["zeros", "ones"])
def test_any_page_of_the_library_that_is_lost_is_named_or_does_no_harm(
    folder: Path, torn: bytes
) -> None:
    library = folder / "library.db"
    whole = library.read_bytes()
    named = 0
    pages = range(0, len(whole), PAGE_BYTES)
    for at in pages:
        library.write_bytes(whole[:at] + torn + whole[at + PAGE_BYTES :])
        with closing(Archive(folder)) as archive:
            try:
                faults = archive.check()
                if faults:
                    assert {fault.part for fault in faults} >= {"library.db"}
                    named += 1
                    continue
                with archive.snapshot() as snapshot:
                    assert_snapshot_holds(snapshot, {each.id: each for each in STORIES})
            except RagError:
                named += 1
    assert named > len(pages) * 0.9


# The disk


def test_a_disk_that_fills_up_keeps_all_that_was_acknowledged(small_disk: Path) -> None:
    held: list[Article] = []
    encoder = FakeEncoder()
    with closing(Archive(small_disk / "index")) as archive:
        while True:
            some = [story(len(held) + each) for each in range(20)]
            try:
                add(archive, encoder, *some)
            except StorageFailed:
                break
            held += some
            assert len(held) < 20_000
        assert held
        with archive.snapshot() as snapshot:
            seen = {head.id for head in snapshot.heads(limit=100_000)}
        assert seen in ({each.id for each in held}, {each.id for each in [*held, *some]})
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    with closing(Archive(small_disk / "index")) as archive:
        add(archive, encoder, *some)
    assert_holds(small_disk / "index", [*held, *some])


def fill(file: Path) -> None:
    """Leave no room on its disk."""
    with suppress(OSError), file.open("wb", buffering=0) as stream:
        while stream.write(bytes(PAGE_BYTES)):
            pass


def test_an_archive_on_a_full_disk_is_read_checked_and_backed_up(
    folder: Path, small_disk: Path, tmp_path: Path
) -> None:
    full = small_disk / "index"
    shutil.copytree(folder, full)
    fill(small_disk / "filler")
    with closing(Archive(full)) as archive:
        with archive.snapshot() as snapshot:
            assert_snapshot_holds(snapshot, {each.id: each for each in STORIES})
        assert archive.check() == []
        archive.back_up(tmp_path / "backup.db")
        with pytest.raises(StorageFailed, match="No space left"):
            add(archive, FakeEncoder(), story(99))
        (small_disk / "filler").unlink()
        add(archive, FakeEncoder(), story(99))
    assert_holds(full, [*STORIES, story(99)])


def test_nothing_is_half_written_to_a_full_disk(folder: Path, small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_950_000))
    with closing(Archive(folder)) as archive, pytest.raises(StorageFailed):
        archive.back_up(small_disk / "backup.db")
    assert list(small_disk.iterdir()) == [filler]


def test_a_check_that_cannot_be_kept_on_a_full_disk_leaves_nothing(
    folder: Path, small_disk: Path
) -> None:
    full = small_disk / "index"
    shutil.copytree(folder, full)
    fill(small_disk / "filler")
    with closing(Archive(full)) as archive:
        assert archive.check() == []
    assert not list(full.glob("checked.json*"))


def test_readers_go_on_where_there_is_no_room_to_index_the_words_of_a_change(
    folder: Path, small_disk: Path
) -> None:
    words = small_disk / "lexical"
    shutil.move(folder / "lexical", words)
    (folder / "lexical").symlink_to(words)
    filler = small_disk / "filler"
    with closing(Archive(folder)) as reader, closing(Archive(folder)) as writer:
        with reader.snapshot() as snapshot:
            assert snapshot.generation == 1
        fill(filler)
        with pytest.raises(StorageFailed, match="lexical"):
            add(writer, FakeEncoder(), story(99))
        with closing(Archive(folder)) as new:
            for archive in (reader, new):
                with archive.snapshot() as snapshot:
                    assert_snapshot_holds(snapshot, {each.id: each for each in STORIES})
        filler.unlink()
        writer.recover()  # as the next writer does
    assert_holds(folder, [*STORIES, story(99)])
