"""Backups: whole, sound, made while the archive is at work, and put back in one step."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rag import backup, lexical
from rag import base as base_module
from rag.archive import Archive
from rag.config import Settings
from rag.errors import (
    ArchiveDamaged,
    BackupDamaged,
    FormatNotSupported,
    InvalidRequest,
    StorageFailed,
    Unguarded,
    UnreadableItem,
)
from rag.ingest import ingest
from rag.keys import KeyFile
from rag.lexical import discard
from rag.schema import FORMAT
from rag.serve import create_app
from rag.store import Store
from rag.types import Article
from rag.vectors import write_base
from tests.fakes import FakeEncoder, add, assert_holds, assert_snapshot_holds
from tests.folders import temporary_folder

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0


def story(number: int, version: int = 0) -> Article:
    text = f"A storm hit town{number} on Monday, said the mayor. Edition {version} of it followed."
    return Article(id=f"a{number}", title=f"Storm {number}", text=text)


STORIES = [story(number) for number in range(4)]


@pytest.fixture(name="tmp_path")
def _tmp_path() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield Path(folder)


@pytest.fixture(name="archive")
def _archive(tmp_path: Path) -> Iterator[Archive]:
    with closing(Archive(tmp_path / "index")) as archive:
        add(archive, FakeEncoder(), *STORIES)
        yield archive


@pytest.fixture(name="file")
def _file(archive: Archive, tmp_path: Path) -> Path:
    """A backup of the four stories."""
    archive.back_up(tmp_path / "backup.db")
    return tmp_path / "backup.db"


def sql(file: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def generation(archive: Archive) -> int:
    with archive.snapshot() as snapshot:
        return snapshot.generation


def restored(file: Path, folder: Path) -> Path:
    with closing(Archive(folder)) as archive:
        archive.restore(file)
    return folder


# Made


def test_a_backup_is_one_file_that_holds_all(archive: Archive, tmp_path: Path) -> None:
    contents = archive.back_up(tmp_path / "backup.db")
    assert (contents.generation, contents.articles) == (1, 4)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["backup.db", "index"]
    assert_holds(restored(tmp_path / "backup.db", tmp_path / "other"), STORIES)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["backup.db", "index", "other"]


def test_backups_made_while_others_write_hold_what_was_published(
    archive: Archive, tmp_path: Path
) -> None:
    done = threading.Event()

    def write() -> None:
        try:
            with closing(Archive(archive.folder)) as writer:
                for version in range(1, 12):
                    add(writer, FakeEncoder(), *[story(number, version) for number in range(4)])
        finally:
            done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        files: list[Path] = []
        while not done.is_set():
            files.append(tmp_path / f"{len(files)}.db")
            archive.back_up(files[-1])
        writing.result(PATIENCE_S)
    versions = []
    for file in files:
        (row,) = sql(file, "SELECT value FROM manifest WHERE key = 'published'")
        versions.append(int(row[0]) - 1)
    assert len(set(versions)) > 2
    folder = restored(files[1], tmp_path / "one")  # it may finish a change that was committed
    with closing(Archive(folder)) as one, one.snapshot() as snapshot:
        texts = {snapshot.text(head) for head in snapshot.heads(limit=9)}
    assert texts in [
        {story(number, version).text for number in range(4)}
        for version in (versions[1], versions[1] + 1)
    ]


def test_a_writer_does_not_wait_for_a_backup(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, go_on = threading.Event(), threading.Event()
    faults = backup._fault

    def slowly(copy: Store) -> str | None:
        copied.set()
        assert go_on.wait(PATIENCE_S)
        return faults(copy)

    monkeypatch.setattr(backup, "_fault", slowly)
    with ThreadPoolExecutor(1) as pool, closing(Archive(archive.folder, lock_timeout_s=1)) as other:
        backing_up = pool.submit(archive.back_up, tmp_path / "backup.db")
        try:
            assert copied.wait(PATIENCE_S)
            add(other, FakeEncoder(), story(9))
        finally:
            go_on.set()
        assert backing_up.result(PATIENCE_S).articles == 4


def test_a_file_that_is_there_is_not_overwritten(archive: Archive, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(InvalidRequest, match="there already"):
        archive.back_up(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["backup.db", "dense.db", "lexical/backup.db"])
def test_there_is_no_backup_within_the_archives_own_folder(archive: Archive, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name one elsewhere"):
        archive.back_up(archive.folder / name)
    assert not (archive.folder / name).exists()


def test_there_is_no_backup_of_what_is_damaged(archive: Archive, tmp_path: Path) -> None:
    sql(archive.folder / "library.db", "UPDATE article SET text = 'x' WHERE id = 'a1'")
    with pytest.raises(ArchiveDamaged, match="the text of article a1 at revision 1 has changed"):
        archive.back_up(tmp_path / "backup.db")
    assert [each.name for each in tmp_path.iterdir()] == ["index"]


def test_there_is_no_backup_of_nothing(tmp_path: Path) -> None:
    with closing(Archive(tmp_path / "none")) as archive:
        with pytest.raises(UnreadableItem):
            archive.back_up(tmp_path / "backup.db")
        archive.recover()
        with pytest.raises(ArchiveDamaged, match="no article"):
            archive.back_up(tmp_path / "backup.db")
    assert [each.name for each in tmp_path.iterdir()] == ["none"]


def test_a_full_disk_leaves_no_half_a_backup(archive: Archive, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(StorageFailed, match=r"backup\.db"):
            archive.back_up(tmp_path / "backup.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [each.name for each in tmp_path.iterdir()] == ["index"]
    archive.back_up(tmp_path / "backup.db")


# Refused


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    at = data.rindex(b"town2")
    return data[:at] + b"tawn2" + data[at + 5 :]


BAD: dict[str, Callable[[bytes], bytes]] = {
    "cut": cut,
    "a flipped bit": flipped,
    "no database": lambda data: b"not a database" * 1000,
    "empty": lambda data: b"",
    "no header": lambda data: bytes(100) + data[100:],
}


@pytest.mark.parametrize("damage", BAD)
def test_a_damaged_backup_is_refused_and_nothing_changes(
    archive: Archive, file: Path, damage: str, tmp_path: Path
) -> None:
    file.write_bytes(BAD[damage](file.read_bytes()))
    add(archive, FakeEncoder(), story(5))
    for replace in (True, False):
        folder = archive.folder if replace else tmp_path / "other"
        with closing(Archive(folder)) as target, pytest.raises(BackupDamaged, match="as it was"):
            target.restore(file, replace=replace)
        assert not (tmp_path / "other" / "library.db").exists()
    assert generation(archive) == 2
    assert_holds(archive.folder, [*STORIES, story(5)])
    assert not list(archive.folder.glob("restoring*"))


def test_a_backup_of_a_newer_format_is_refused_by_its_name_and_nothing_changes(
    archive: Archive, file: Path, tmp_path: Path
) -> None:
    add(archive, FakeEncoder(), story(5))
    sql(file, f"PRAGMA user_version = {FORMAT + 1}")
    for folder in (archive.folder, tmp_path / "other"):
        with (
            closing(Archive(folder)) as target,
            pytest.raises(FormatNotSupported, match=rf"backup\.db has format {FORMAT + 1}"),
        ):
            target.restore(file, replace=True)
        assert not list(folder.glob("restoring*"))
    assert not (tmp_path / "other" / "library.db").exists()
    assert generation(archive) == 2
    assert_holds(archive.folder, [*STORIES, story(5)])


def test_an_archive_that_is_there_is_not_replaced_unasked(archive: Archive, file: Path) -> None:
    add(archive, FakeEncoder(), story(5))
    with pytest.raises(InvalidRequest, match="--replace"):
        archive.restore(file)
    with pytest.raises(UnreadableItem, match="no such file"):
        archive.restore(file.with_name("nowhere"), replace=True)
    assert_holds(archive.folder, [*STORIES, story(5)])


# Put back


def test_a_restored_archive_encodes_nothing_and_can_be_added_to(
    archive: Archive, file: Path
) -> None:
    add(archive, FakeEncoder(), story(0, version=1), story(5))
    archive.restore(file, replace=True)
    assert_holds(archive.folder, STORIES)
    encoder = FakeEncoder()
    add(archive, encoder, *STORIES)
    assert encoder.passages_encoded == 0
    add(archive, encoder, story(6))
    assert_holds(archive.folder, [*STORIES, story(6)])


def watch(folder: Path, questions: Any) -> None:
    with closing(Archive(folder)) as archive:
        while questions.recv():
            with archive.snapshot() as snapshot:
                held = {head.id: snapshot.text(head) for head in snapshot.heads(limit=99)}
                questions.send((snapshot.generation, held))


def test_a_running_reader_never_sees_a_generation_go_back(archive: Archive, file: Path) -> None:
    add(archive, FakeEncoder(), story(0, version=1), story(5))
    mine, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=watch, args=(archive.folder, theirs), daemon=True)
    child.start()
    seen = []
    for step in range(4):
        mine.send(True)
        assert mine.poll(PATIENCE_S)
        seen.append(mine.recv())
        if step == 0:
            with closing(Archive(archive.folder)) as other:
                other.restore(file, replace=True)
        elif step == 1:
            add(archive, FakeEncoder(), story(7))
        elif step == 2:
            archive.restore(file, replace=True)
    mine.send(False)
    child.join(PATIENCE_S)
    generations = [number for number, _ in seen]
    assert generations == sorted(set(generations))
    four = {each.id: each.text for each in STORIES}
    assert seen[1][1] == seen[3][1] == four
    assert seen[2][1] == {**four, "a7": story(7).text}


def as_after_a_kill(archive: Archive, folder: Path) -> Path:
    """What is on the disk now, where nobody could bring the log into the library."""
    return Path(shutil.copytree(archive.folder, folder, ignore=shutil.ignore_patterns("*-shm")))


def test_what_was_restored_and_lost_again_is_not_taken_for_what_was_there_before(
    archive: Archive, file: Path, tmp_path: Path
) -> None:
    """A reader keeps the restored library in the log, in which one bit is flipped."""
    add(archive, FakeEncoder(), story(5))
    archive._store.checkpoint()
    with closing(Archive(archive.folder)) as reader, reader.reading() as before:
        assert before is not None
        assert len(before.heads(limit=100)) == 5
        archive.restore(file, replace=True)
        restored_as = generation(archive)
        folder = as_after_a_kill(archive, tmp_path / "killed")
    log = bytearray((folder / "library.db-wal").read_bytes())
    log[500] ^= 1 << 4
    (folder / "library.db-wal").write_bytes(log)
    with closing(Archive(folder)) as killed:
        calls: list[Callable[[], object]] = [
            lambda: generation(killed),
            killed.is_sound,
            lambda: add(killed, FakeEncoder(), story(6)),
            lambda: killed.back_up(tmp_path / "another.db"),
        ]
        for call in calls:
            with pytest.raises(ArchiveDamaged, match="it has lost changes"):
                call()
        assert "library.db" in {fault.part for fault in killed.check()}
        killed.restore(file, replace=True)
        assert generation(killed) == restored_as + 1
    assert_holds(folder, STORIES)


def test_a_restore_is_in_the_library_itself_when_it_is_said_to_be_done(
    archive: Archive, file: Path, tmp_path: Path
) -> None:
    with closing(Archive(archive.folder)) as reader:
        add(archive, FakeEncoder(), story(5))
        assert generation(reader) == 2
        archive.restore(file, replace=True)
        folder = as_after_a_kill(archive, tmp_path / "killed")
        (folder / "library.db-wal").unlink()
        assert_holds(folder, STORIES)
        assert generation(reader) == 3


def test_words_of_another_archive_are_no_hindrance_once_that_is_accepted(
    archive: Archive, tmp_path: Path
) -> None:
    with closing(Archive(tmp_path / "other")) as other:
        for number in range(5):
            add(other, FakeEncoder(), story(number, version=4))
    discard(archive.folder / "lexical")
    shutil.copytree(tmp_path / "other" / "lexical", archive.folder / "lexical")
    with pytest.raises(ArchiveDamaged, match="`rag rebuild` goes on without them"):
        generation(archive)
    assert archive.rebuild() == 6
    assert_holds(archive.folder, STORIES)


def test_a_reader_keeps_its_generation_while_another_is_put_in_place(
    archive: Archive, file: Path
) -> None:
    add(archive, FakeEncoder(), story(5))
    with archive.snapshot() as snapshot:
        with closing(Archive(archive.folder)) as other:
            other.restore(file, replace=True)
        assert_snapshot_holds(snapshot, {each.id: each for each in [*STORIES, story(5)]})
    assert_holds(archive.folder, STORIES)


def test_a_base_of_what_was_there_before_is_thrown_away(
    archive: Archive, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [story(number, version=3) for number in range(8)]
    ingest(archive, FakeEncoder(), more, passage_tokens=12, renew_base=False)

    def meanwhile(*arguments: Any) -> Any:
        record = write_base(*arguments)
        monkeypatch.setattr(base_module, "write_base", write_base)
        with archive._locks.writing(), backup.checked_copy(file, archive.folder) as copy:
            backup.put(copy, archive._store, archive._seen())
        return record

    monkeypatch.setattr(base_module, "write_base", meanwhile)
    archive.renew_base()
    assert_holds(archive.folder, STORIES)


TOO_DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    name: BAD[name] for name in ("cut", "no database", "no header")
}


@pytest.mark.parametrize("damage", TOO_DAMAGED)
def test_a_library_too_damaged_to_be_opened_is_replaced_and_kept_beside(
    archive: Archive, file: Path, damage: str
) -> None:
    add(archive, FakeEncoder(), story(5))
    archive.close()
    library = archive.folder / "library.db"
    damaged = TOO_DAMAGED[damage](library.read_bytes())
    library.write_bytes(damaged)
    archive.restore(file, replace=True)
    assert library.with_name("library.db.damaged").read_bytes() == damaged
    assert generation(archive) > 2
    assert_holds(archive.folder, STORIES)


def test_a_damaged_library_that_a_server_has_open_is_not_replaced(
    archive: Archive, file: Path
) -> None:
    mine, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=watch, args=(archive.folder, theirs), daemon=True)
    child.start()
    mine.send(True)
    assert mine.poll(PATIENCE_S)
    mine.recv()
    archive.close()
    library = archive.folder / "library.db"
    sql(library, "PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = b"not a database" * 1000
    with library.open("r+b") as stream:
        stream.write(damaged)
    with pytest.raises(StorageFailed, match="stop that"):
        archive.restore(file, replace=True)
    assert library.read_bytes().startswith(damaged)
    child.kill()
    child.join(PATIENCE_S)
    archive.restore(file, replace=True)
    assert_holds(archive.folder, STORIES)


def test_the_log_of_another_library_is_not_taken_for_the_restored_ones(
    archive: Archive, file: Path, tmp_path: Path
) -> None:
    add(archive, FakeEncoder(), story(5))
    log = archive.folder / "library.db-wal"
    with archive.reading():
        add(archive, FakeEncoder(), story(6))
        left = log.read_bytes()
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / log.name).write_bytes(left)
    assert len(left) > 4096
    assert_holds(restored(file, folder), STORIES)


# Killed


def die(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("this process was killed")


def after(original: Any) -> Callable[..., Any]:
    def call(*arguments: Any) -> None:
        original(*arguments)
        die()

    return call


STEPS: dict[str, tuple[Any, str, bool]] = {
    "before it is copied": (backup, "_fault", False),
    "when it is checked": (backup, "put", False),
    "when it is in place": (backup, "put", True),
    "while words are indexed": (lexical, "discard", True),
    "before the base": (Archive, "renew_base", False),
}


def killed_while_restoring(folder: Path, file: Path, step: str) -> None:
    owner, name, done = STEPS[step]
    setattr(owner, name, after(getattr(owner, name)) if done else die)
    Archive(folder).restore(file, replace=True)


def killed_while_backing_up(folder: Path, file: Path, _: str) -> None:
    Store.be_one_file = die  # type: ignore[method-assign]
    Archive(folder).back_up(file)


def run_to_death(task: Callable[[Path, Path, str], None], *given: Any) -> None:
    child = SPAWN.Process(target=task, args=given)
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_a_restore_that_is_killed_is_done_or_not_begun(
    archive: Archive, file: Path, step: str
) -> None:
    add(archive, FakeEncoder(), story(5))
    run_to_death(killed_while_restoring, archive.folder, file, step)
    began = step not in ("before it is copied", "when it is checked")
    assert archive.check() == []
    assert_holds(archive.folder, STORIES if began else [*STORIES, story(5)])
    assert generation(archive) == (3 if began else 2)
    archive.restore(file, replace=True)
    assert_holds(archive.folder, STORIES)
    assert not list(archive.folder.glob("restoring*"))


def test_a_backup_that_is_killed_leaves_no_file_of_its_name(
    archive: Archive, tmp_path: Path
) -> None:
    run_to_death(killed_while_backing_up, archive.folder, tmp_path / "backup.db", "")
    assert not (tmp_path / "backup.db").exists()
    assert len(list(tmp_path.iterdir())) == 2
    archive.back_up(tmp_path / "tomorrow.db")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["index", "tomorrow.db"]
    assert_holds(restored(tmp_path / "tomorrow.db", tmp_path / "other"), STORIES)


def test_what_others_have_beside_a_backup_is_left_alone(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backup.db.mine").mkdir()
    (tmp_path / "backup.db.mine" / "backup.db").write_text("not ours")
    checked, go_on = threading.Event(), threading.Event()
    faults = backup._fault

    def slowly(copy: Store) -> str | None:
        checked.set()
        assert go_on.wait(PATIENCE_S)
        return faults(copy)

    with ThreadPoolExecutor(1) as pool, closing(Archive(archive.folder)) as other:
        monkeypatch.setattr(backup, "_fault", slowly)
        at_work = pool.submit(archive.back_up, tmp_path / "backup.db")
        try:
            assert checked.wait(PATIENCE_S)
            monkeypatch.setattr(backup, "_fault", faults)
            other.back_up(tmp_path / "second.db")
        finally:
            go_on.set()
        at_work.result(PATIENCE_S)
    names = ["backup.db", "backup.db.mine", "index", "second.db"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert (tmp_path / "backup.db.mine" / "backup.db").read_text() == "not ours"
    for name in ("backup", "second"):
        assert_holds(restored(tmp_path / f"{name}.db", tmp_path / name), STORIES)


def test_no_key_is_in_a_backup_and_without_one_nobody_listens_for_others(
    archive: Archive, tmp_path: Path
) -> None:
    kept, _ = KeyFile(archive.folder).add("reader")
    archive.back_up(tmp_path / "backup.db")
    assert kept.sha256.encode() not in (tmp_path / "backup.db").read_bytes()
    folder = restored(tmp_path / "backup.db", tmp_path / "other")
    with pytest.raises(Unguarded):
        create_app(Settings(index=folder, host="0.0.0.0"), encoder=FakeEncoder())
    archive.restore(tmp_path / "backup.db", replace=True)
    assert KeyFile(archive.folder).keys() == (kept,)


# At the command line


def test_the_commands_say_what_they_did(rag: Any, story: Path, tmp_path: Path) -> None:
    rag("add", str(story))
    made = rag("backup", "b.db", "--json").json
    assert (made["generation"], made["articles"], made["file"]) == (1, 1, "b.db")
    assert made["size_bytes"] == Path("b.db").stat().st_size
    again = rag("backup", "b.db", "--json")
    assert (again.code, again.json["error"]["type"]) == (2, "InvalidRequest")
    assert "generation 1" in rag("backup", "c.db").out
    assert rag("restore", "b.db").code == 2
    assert rag("restore", "nowhere.db", "--replace").code == 1
    back = rag("restore", "b.db", "--replace", "--json").json
    assert (back["articles"], back["generation"]) == (1, 2)
    assert "restored 1 articles" in rag("restore", "b.db", "--index", "other").out
    assert rag("check").code == 0
    assert rag("ask", "who warned of spillover", "--json").json["citations"]


def test_check_says_how_damage_in_the_library_is_mended(rag: Any, story: Path) -> None:
    rag("add", str(story))
    rag("backup", "b.db")
    sql(Path("index/library.db"), "UPDATE article SET text = 'other'")
    assert "rag restore" in rag("check").err
    refused = rag("ask", "who warned of spillover", "--json")
    assert "rag restore" in refused.json["error"]["detail"]
    Path("c.db").write_bytes(b"no")
    assert rag("restore", "c.db", "--replace", "--json").json["error"]["type"] == "BackupDamaged"
    assert rag("restore", "b.db", "--replace").code == 0
    assert rag("check").code == 0
