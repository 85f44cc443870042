"""An archive that can be read, not written: on a read-only disk, or with the writer elsewhere."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from rag import archive as archive_module
from rag.archive import Archive
from rag.errors import StorageFailed
from rag.lexical import LexicalIndex
from rag.searcher import Searcher
from rag.types import Article, Citation
from tests.fakes import FakeEncoder, add, assert_holds, assert_snapshot_holds
from tests.served import running

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0
QUESTION = "who spoke of town7"


def story(number: int) -> Article:
    text = f"A storm hit town{number} on Monday, said the mayor. Nobody was hurt in river{number}."
    return Article(id=f"a{number}", title=f"Storm {number}", text=text)


STORIES = [story(number) for number in range(12)]


def build(folder: Path) -> Path:
    """An archive, closed: its library is one file."""
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), *STORIES)
    assert not list(folder.glob("library.db-*"))
    return folder


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


@pytest.fixture(name="index")
def _index(small_disk: Path) -> Path:
    """An archive on a read-only disk."""
    index = build(small_disk / "index")
    make_read_only(small_disk)
    return index


@pytest.fixture(name="elsewhere")
def _elsewhere(small_disk: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An archive, and the same folder where it cannot be written."""
    build(small_disk / "index")
    seen = tmp_path / "seen"
    seen.mkdir()
    subprocess.run(["mount", "--bind", str(small_disk), str(seen)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(seen)], check=True)
        yield small_disk / "index", seen / "index"
    finally:
        subprocess.run(["umount", "--lazy", str(seen)], check=True)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder with its time of change and content."""
    return {
        str(file): (file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def cited(archive: Archive) -> tuple[Citation, ...]:
    return Searcher(archive, FakeEncoder()).ask(QUESTION).citations


def assert_sees(archive: Archive, *articles: Article) -> None:
    with archive.snapshot() as snapshot:
        assert_snapshot_holds(snapshot, {each.id: each for each in articles})


def call(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body of a call."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    try:
        with urlopen(request) as response:
            content = response.read()
            return response.status, json.loads(content) if content[:1] in b"[{" else content
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


# On a read-only disk


def test_it_is_read_as_before(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build(small_disk / "index")
    with closing(Archive(index)) as archive:
        before = cited(archive)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    make_read_only(small_disk)
    there = files(index)
    with closing(Archive(index)) as archive:
        assert_sees(archive, *STORIES)
        assert cited(archive) == before
        assert archive.check() == []
        assert archive.sizes()["library"] > 0
        archive.back_up(tmp_path / "backup.db")
    assert files(index) == there
    assert list((tmp_path / "temporary").iterdir()) == []
    with closing(Archive(tmp_path / "other")) as other:
        other.restore(tmp_path / "backup.db")
    assert_holds(tmp_path / "other", STORIES)


def test_what_changes_it_is_refused_and_a_backup_on_it_can_be_read(
    small_disk: Path, tmp_path: Path
) -> None:
    index, other = build(small_disk / "index"), build(tmp_path / "other")
    with closing(Archive(other)) as archive:
        archive.back_up(small_disk / "backup.db")
        archive.remove(["a1"])
        make_read_only(small_disk)
        there = files(small_disk)
        archive.restore(small_disk / "backup.db", replace=True)
    assert_holds(other, STORIES)
    calls: list[Callable[[Archive], object]] = [
        lambda archive: add(archive, FakeEncoder(), story(99)),
        lambda archive: archive.remove(["a1"]),
        lambda archive: archive.rebuild(),
        lambda archive: archive.restore(small_disk / "backup.db", replace=True),
        lambda archive: archive.back_up(small_disk / "another.db"),
    ]
    for each in calls:
        with closing(Archive(index)) as archive:
            with pytest.raises(StorageFailed, match="Read-only file system"):
                each(archive)
            assert_sees(archive, *STORIES)
    assert files(small_disk) == there


def test_the_commands_read_it_and_say_why_they_cannot_write(
    rag: Any, story: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_INDEX", str(small_disk / "index"))
    rag("add", str(story))
    make_read_only(small_disk)
    there = files(small_disk)
    assert rag("ask", "who warned of spillover", "--json").json["citations"]
    assert rag("search", "spillover", "--json").json["hits"]
    assert rag("status", "--json").json["articles"] == 1
    assert rag("check", "--json").json == {"sound": True, "faults": []}
    assert rag("key", "list").code == 0
    assert rag("backup", "b.db").code == 0
    story.write_text("Another storm.")
    article_id = rag("search", "spillover", "--json").json["hits"][0]["article"]["id"]
    for change in (
        ("add", str(story)),
        ("remove", article_id),
        ("rebuild",),
        ("restore", "b.db", "--replace"),
        ("key", "add", "reader"),
    ):
        refused = rag(*change, "--json")
        assert refused.code == 1
        assert refused.json["error"]["type"] == "StorageFailed"
        assert "Read-only file system" in refused.json["error"]["detail"]
    assert files(small_disk) == there


def test_a_server_answers_from_it_and_refuses_changes(index: Path) -> None:
    there = files(index)
    with running(index) as (process, port):
        status, answer = call(port, "POST", "/ask", {"question": QUESTION})
        assert status == 200
        best = answer["citations"][0]
        assert best["article"]["id"] == "a7"
        assert call(port, "POST", "/search", {"question": QUESTION})[1]["hits"]
        quoted = {key: best[key] for key in ("start", "end", "quote")}
        status, verified = call(port, "POST", "/verify", {"article_id": "a7", **quoted})
        assert (status, verified["valid"]) == (200, True)
        assert len(call(port, "GET", "/articles")[1]["articles"]) == len(STORIES)
        status, ready = call(port, "GET", "/health/ready")
        assert (status, ready["behind"]) == (200, [])
        assert b"rag_articles 12.0" in call(port, "GET", "/metrics")[1]
        for method, path, body in (
            ("POST", "/articles", {"title": "New", "text": "A new storm."}),
            ("DELETE", "/articles/a1", None),
        ):
            status, problem = call(port, method, path, body)
            assert (status, problem["title"]) == (503, "The archive cannot be used")
            assert "Read-only file system" in problem["detail"]
        assert call(port, "POST", "/ask", {"question": QUESTION})[1]["citations"]
        assert process.poll() is None
    assert files(index) == there


def test_damage_that_cannot_be_mended_there_is_named(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build(small_disk / "index")
    (base,) = index.glob("dense.*")
    base.write_bytes(b"torn")
    make_read_only(small_disk)
    monkeypatch.setattr(archive_module, "PAIRING_TIMEOUT_S", 0.05)
    with closing(Archive(index)) as archive:
        with pytest.raises(StorageFailed, match=r"rag check.*cannot be mended: Read-only file"):
            assert_sees(archive)
        assert [fault.part for fault in archive.check()] == ["dense"]
        monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
        faults = archive.check()
    assert [fault.part for fault in faults] == ["lexical", "dense"]
    assert str(small_disk) in faults[0].problem


def test_an_older_format_that_cannot_be_migrated_there_is_named(small_disk: Path) -> None:
    index = build(small_disk / "index")
    with closing(sqlite3.connect(index / "library.db")) as library:
        library.execute("PRAGMA user_version = 2")
    make_read_only(small_disk)
    with (
        closing(Archive(index)) as archive,
        pytest.raises(StorageFailed, match="older format, and that cannot be mended"),
    ):
        assert_sees(archive)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_what_a_killed_writer_left_in_the_log_is_read_or_missed_aloud(
    small_disk: Path, tmp_path: Path, shared_memory: bool
) -> None:
    build(tmp_path / "index")
    with closing(Archive(tmp_path / "index")) as archive:
        add(archive, FakeEncoder(), story(99))
        index = Path(shutil.copytree(tmp_path / "index", small_disk / "index"))
    assert (index / "library.db-wal").stat().st_size > 0
    if not shared_memory:
        (index / "library.db-shm").unlink()
    make_read_only(small_disk)
    with closing(Archive(index)) as archive:
        if shared_memory:
            assert_sees(archive, *STORIES, story(99))
        else:
            with pytest.raises(StorageFailed, match="library\\.db-wal has changes"):
                assert_sees(archive, *STORIES)


def killed_while_adding(folder: Path, indexed: bool) -> None:
    commit = LexicalIndex.commit

    def die(*given: Any) -> None:
        if indexed:
            commit(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    LexicalIndex.commit = die  # type: ignore[method-assign, assignment]
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), story(99))


@pytest.mark.parametrize("indexed", [True, False])
def test_a_change_of_a_killed_writer_is_no_obstacle_until_its_words_are_indexed(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    index = build(small_disk / "index")
    writer = SPAWN.Process(target=killed_while_adding, args=(index, indexed))
    writer.start()
    writer.join(PATIENCE_S)
    assert writer.exitcode == -signal.SIGKILL
    make_read_only(small_disk)
    monkeypatch.setattr(archive_module, "PAIRING_TIMEOUT_S", 0.05)
    with closing(Archive(index)) as archive:
        if indexed:
            with pytest.raises(StorageFailed, match="a change was left half published"):
                assert_sees(archive, *STORIES)
        else:
            assert_sees(archive, *STORIES)


# With the writer elsewhere


def link_library(folder: Path) -> None:
    """Have the library of a closed archive in another folder, to which a link leads."""
    place = folder.with_name("data")
    place.mkdir()
    (folder / "library.db").rename(place / "library.db")
    (folder / "library.db").symlink_to("../data/library.db")


@pytest.mark.parametrize("linked", [False, True], ids=["in its folder", "a link to another"])
def test_a_reader_that_cannot_write_sees_what_others_do(
    elsewhere: tuple[Path, Path], linked: bool
) -> None:
    written, seen = elsewhere
    if linked:
        link_library(written)
    beside = (seen / "library.db").resolve().parent
    with closing(Archive(seen)) as reader:
        assert_sees(reader, *STORIES)
        with running(written) as (_, port):
            assert_sees(reader, *STORIES)
            new = {"id": "a99", "title": story(99).title, "text": story(99).text}
            assert call(port, "POST", "/articles", new)[0] == 200
            assert list(beside.glob("library.db-wal"))
            assert_holds_ids(reader, 13)
        assert_holds_ids(reader, 13)  # the server was killed: its log is there
        reader.close()
        with closing(Archive(written)) as archive:
            archive.remove(["a99"])
        assert not list(beside.glob("library.db-wal"))
        assert_sees(reader, *STORIES)
        with closing(Archive(written)) as archive:
            archive.remove(["a11"])
        assert_sees(reader, *STORIES[:-1])
        assert reader.check() == []


def assert_holds_ids(archive: Archive, count: int) -> None:
    with archive.snapshot() as snapshot:
        assert len(snapshot.heads(limit=100)) == count
        assert snapshot.lexical is not None
        assert snapshot.lexical.documents == int(snapshot.columns.alive.sum())


def test_a_library_that_others_change_while_it_is_read_gives_no_answer(
    elsewhere: tuple[Path, Path],
) -> None:
    written, seen = elsewhere

    def read_while_it_is_changed() -> None:
        with reader.snapshot() as snapshot:
            assert snapshot.counts()[0] == 12
            with closing(Archive(written)) as archive:
                add(archive, FakeEncoder(), story(99))

    with closing(Archive(seen)) as reader:
        with pytest.raises(StorageFailed, match="changed while it was read"):
            read_while_it_is_changed()
        assert_sees(reader, *STORIES, story(99))
