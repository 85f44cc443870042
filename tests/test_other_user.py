"""An archive that belongs to another user: real ones, which only root can become."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from rag import archive as archive_module
from rag.archive import Archive
from rag.errors import RagError
from rag.keys import KeyFile
from rag.lexical import LexicalIndex
from rag.searcher import Searcher
from rag.types import Article
from tests.fakes import FakeEncoder, add, assert_holds, fake_export
from tests.folders import temporary_folder

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0
NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")


def story(number: int) -> Article:
    text = f"A storm hit town{number} on Monday, said the mayor. Nobody was hurt in river{number}."
    return Article(id=f"a{number}", title=f"Storm {number}", text=text)


STORIES = [story(number) for number in range(6)]


@pytest.fixture(name="index")
def _index() -> Iterator[Path]:
    """An archive of root's, with a model and a key, in a folder that all may read."""
    with temporary_folder() as made:
        os.chmod(made, 0o755)
        index = Path(made) / "index"
        with closing(Archive(index)) as archive:
            export = fake_export(Path(made) / "export", FakeEncoder().fingerprint)
            add(archive, FakeEncoder(exported=export), *STORIES[:5])
            add(archive, FakeEncoder(), STORIES[5])
        KeyFile(index).add("reader")
        yield index


def become_nobody(told: Connection, call: Callable[[Archive], Any], folder: Path) -> None:
    import_module("mmap")  # which numpy does when it needs it; Python itself may be root's alone
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    archive_module.PAIRING_TIMEOUT_S = 0.1
    try:
        with closing(Archive(folder)) as archive:
            told.send(call(archive))
    except RagError as error:
        told.send((type(error).__name__, str(error)))


def as_nobody(call: Callable[[Archive], Any], folder: Path) -> Any:
    """What `call` gives, or name and words of the error that it raises, called by another user."""
    told, tells = SPAWN.Pipe(duplex=False)
    child = SPAWN.Process(target=become_nobody, args=(tells, call, folder))
    child.start()
    tells.close()
    try:
        return told.recv()
    finally:
        child.join(PATIENCE_S)
        assert child.exitcode == 0


def cited(archive: Archive) -> list[str]:
    answer = Searcher(archive, FakeEncoder()).ask("who spoke of town3")
    return [each.hit.article.id for each in answer.citations]


def checked(archive: Archive) -> list[str]:
    return [f"{fault.part}: {fault.problem}" for fault in archive.check()]


def backed_up(archive: Archive) -> int:
    with temporary_folder() as folder:
        return archive.back_up(Path(folder) / "backup.db").articles


def read_all(archive: Archive) -> tuple[list[str], list[str], int]:
    return cited(archive), checked(archive), backed_up(archive)


def added(archive: Archive) -> None:
    add(archive, FakeEncoder(), story(99))


def test_it_is_asked_checked_and_backed_up_by_who_may_read_it(index: Path) -> None:
    with closing(Archive(index)) as archive:
        before = cited(archive)
        for change in (archive.recover, archive.rebuild, lambda: archive.remove(["a5"])):
            found, faults, articles = as_nobody(read_all, index)
            assert (found, faults) == (before, [])
            assert articles == len(archive_ids(archive))
            change()
    assert as_nobody(checked, index) == []
    assert "Permission denied" in str(as_nobody(added, index))
    assert_holds(index, STORIES[:5])


def archive_ids(archive: Archive) -> list[str]:
    with archive.snapshot() as snapshot:
        return [head.id for head in snapshot.heads(limit=99)]


def test_the_keys_are_for_their_owner_alone_and_all_else_is_as_the_library_is(index: Path) -> None:
    def mode(file: Path) -> int:
        return stat.S_IMODE(file.stat().st_mode)

    assert mode(index / "keys.json") == 0o600
    shared = mode(index / "library.db")
    files = [file for file in index.rglob("*") if file.is_file() and file.name != "keys.json"]
    assert {file.name for file in files} >= {"meta.json", ".managed.json", "about.json"}
    assert {mode(file) for file in files} == {shared}


@pytest.mark.parametrize("file", ["library.db", "lexical/meta.json", "lexical", "dense.*"])
def test_what_may_not_be_read_is_no_damage(index: Path, file: str) -> None:
    (kept_away,) = index.glob(file)
    kept_away.chmod(0o700)
    for call in (cited, checked):
        name, words = as_nobody(call, index)
        assert name == "StorageFailed"
        assert "rebuild" not in words
        assert file == "library.db" or f"{kept_away.name} may not be read" in words
    assert_holds(index, STORIES)


def test_a_folder_that_may_not_be_read_is_no_empty_archive(index: Path) -> None:
    index.chmod(0o700)
    for call in (cited, checked):
        assert "Permission denied" in str(as_nobody(call, index))


def kill_before_others_may_read(folder: Path) -> None:
    def killed(self: LexicalIndex) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    LexicalIndex._let_read = killed  # type: ignore[method-assign]
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), story(77))


def test_a_killed_writer_keeps_no_other_user_away_for_long(index: Path) -> None:
    child = SPAWN.Process(target=kill_before_others_may_read, args=(index,))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == -signal.SIGKILL
    left = index / "lexical" / ".tmpAbCdEf"
    left.touch(0o600)
    assert as_nobody(checked, index)[0] == "StorageFailed"
    with closing(Archive(index)) as archive:
        assert cited(archive)
    assert as_nobody(checked, index) == []
    with closing(Archive(index)) as archive:
        archive.remove(["a77"])
    assert not left.exists()
    assert_holds(index, STORIES)
