"""Archives of older formats, and backups of them: opened, asked, added to, restored, sound.

Format 1 has no token vectors, format 2 lacks only indexes of the database, and format 3 the
checksums of what is kept of removed articles.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rag.archive import Archive
from rag.models import DEFAULT_MODEL
from rag.schema import FORMAT, MIGRATIONS, manifest_checksum
from rag.searcher import Searcher
from rag.types import Article, Citation
from tests.fakes import FakeEncoder, add, assert_holds, assert_snapshot_holds

QUESTION = "who warned of the storm at town2 and when"


def news(number: int) -> Article:
    text = f"Mayor{number} warned of the storm. It hit town{number} on 3 May. Nobody was hurt."
    return Article(id=f"n{number}", title=f"Storm {number}", text=text)


NEWS = [news(number) for number in range(4)]
TEXTS = {article.id: article.text for article in NEWS}


def sql(folder: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "library.db", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def schema(connection: sqlite3.Connection) -> list[Any]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def to_format_3(folder: Path) -> None:
    """Take back what format 4 brought, so that the file is as it was then."""
    (as_it_was,) = re.findall(r"CREATE TABLE removed .*?;", MIGRATIONS[0], re.DOTALL)
    with closing(sqlite3.connect(folder / "library.db", isolation_level=None)) as connection:
        rows = connection.execute("SELECT id, revision, generation FROM removed").fetchall()
        connection.execute("DROP TABLE removed")
        connection.execute(as_it_was)
        connection.executemany("INSERT INTO removed VALUES (?, ?, ?)", rows)
        connection.execute("PRAGMA user_version = 3")
        assert_is_of_format(connection, 3)


def to_format_2(folder: Path) -> None:
    """Take back what format 3 brought, so that the file is as it was then."""
    to_format_3(folder)
    with closing(sqlite3.connect(folder / "library.db", isolation_level=None)) as connection:
        connection.execute("DROP INDEX article_columns")
        connection.execute("DROP INDEX passage_columns")
        connection.execute("PRAGMA user_version = 2")
        assert_is_of_format(connection, 2)


def to_format_1(folder: Path) -> None:
    """Take back what format 2 brought, so that the file is as it was then."""
    to_format_2(folder)
    with closing(sqlite3.connect(folder / "library.db", isolation_level=None)) as connection:
        for statement in (
            "DROP TRIGGER encoding_gone",
            "DROP TABLE token_vectors",
            "DELETE FROM manifest WHERE key = 'projection'",
        ):
            connection.execute(statement)
        entries = dict(connection.execute("SELECT key, value FROM manifest").fetchall())
        if "checksum" in entries:
            connection.execute(
                "UPDATE manifest SET value = ? WHERE key = 'checksum'",
                (manifest_checksum(entries),),
            )
        connection.execute("PRAGMA user_version = 1")
        assert_is_of_format(connection, 1)


def assert_is_of_format(connection: sqlite3.Connection, number: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        for step in MIGRATIONS[:number]:
            new.executescript(step)
        assert schema(connection) == schema(new)


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "index"
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), *NEWS)
    to_format_1(folder)
    return folder


@pytest.fixture(name="archive")
def _archive(built: Path, tmp_path: Path) -> Iterator[Archive]:
    """An archive of format 1 that nobody has opened since."""
    folder = Path(shutil.copytree(built, tmp_path / "index"))
    assert sql(folder, "PRAGMA user_version") == [(1,)]
    with closing(Archive(folder)) as archive:
        yield archive


def test_it_opens_and_holds_what_it_held(archive: Archive) -> None:
    before = sql(archive.folder, "SELECT * FROM encoding ORDER BY number")
    assert_holds(archive.folder, NEWS)
    assert sql(archive.folder, "PRAGMA user_version") == [(FORMAT,)]
    assert sql(archive.folder, "SELECT * FROM encoding ORDER BY number") == before
    with closing(sqlite3.connect(archive.folder / "library.db")) as migrated:
        assert_is_of_format(migrated, FORMAT)


def test_checking_it_first_finds_no_fault(archive: Archive) -> None:
    assert archive.check() == []
    assert archive.rebuild() == 1
    assert archive.check() == []


def test_it_answers_by_two_signals(archive: Archive) -> None:
    searcher = Searcher(archive, FakeEncoder())
    answer = searcher.ask(QUESTION, top_k=10)
    assert len(answer.citations) > 4
    assert answer.answered
    assert answer.confidence is None
    for citation in answer.citations:
        assert citation.hit.scores.late is None
        assert TEXTS[citation.hit.article.id][citation.start : citation.end] == citation.quote
    assert {citation.hit.article.id for citation in answer.citations} == TEXTS.keys()
    assert any(citation.highlights for citation in answer.citations)
    assert searcher.search(QUESTION, top_k=10).hits == tuple(c.hit for c in answer.citations)
    with archive.snapshot() as snapshot:
        ranking = searcher.rank(snapshot, QUESTION)
    assert ranking.late.tolist() == ranking.fused.tolist()


def test_it_has_no_confidence_even_where_that_is_known(tmp_path: Path) -> None:
    encoder = FakeEncoder(name=DEFAULT_MODEL)
    with closing(Archive(tmp_path)) as archive:
        add(archive, encoder, *NEWS)
        assert Searcher(archive, encoder).ask(QUESTION).confidence is not None
    to_format_1(tmp_path)
    with closing(Archive(tmp_path)) as archive:
        answer = Searcher(archive, encoder, threshold=1.0).ask(QUESTION)
    assert answer.confidence is None
    assert answer.answered


def test_it_can_be_added_to_and_removed_from(archive: Archive) -> None:
    encoder = FakeEncoder()
    report = add(archive, encoder, *NEWS, news(7))
    assert (report.added, report.unchanged) == (1, len(NEWS))
    assert encoder.passages_encoded == report.passages
    assert_holds(archive.folder, [*NEWS, news(7)])
    new = sql(archive.folder, "SELECT count(*) FROM token_vectors")[0][0]
    assert new == report.passages
    archive.remove(["n7", "n0"])
    assert sql(archive.folder, "SELECT count(*) FROM token_vectors") == [(0,)]
    assert_holds(archive.folder, NEWS[1:])
    late = [c.hit.scores.late for c in Searcher(archive, encoder).ask(QUESTION).citations]
    assert set(late) == {None}


def test_an_archive_of_before_its_first_article_becomes_a_new_one(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        archive.recover()
    to_format_1(tmp_path)
    with closing(Archive(tmp_path)) as archive:
        assert archive.check() == []
        add(archive, FakeEncoder(), *NEWS)
        answer = Searcher(archive, FakeEncoder()).ask(QUESTION)
        assert all(citation.hit.scores.late is not None for citation in answer.citations)
    assert_holds(tmp_path, NEWS)


def test_many_may_open_it_at_once(archive: Archive) -> None:
    def ask(_: int) -> tuple[Citation, ...]:
        with closing(Archive(archive.folder)) as other:
            return Searcher(other, FakeEncoder()).ask(QUESTION).citations

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert answers == [ask(8)] * 8
    assert_holds(archive.folder, NEWS)


def test_a_flipped_bit_in_what_was_kept_of_the_removed_keeps_nobody_from_reading_it(
    tmp_path: Path,
) -> None:
    """It was never summed, so what it was is not known."""
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), *NEWS, news(7))
        archive.remove(["n7"])
    to_format_3(tmp_path)
    library = tmp_path / "library.db"
    whole = library.read_bytes()
    at = whole.index(b"\x11\x09\x01n7")  # a text of two characters, the number 1, one of a byte
    for place, bit in ((at + 3, 0x80), (at, 1)):  # no UTF-8 any more, and no text
        data = bytearray(whole)
        data[place] ^= bit
        library.write_bytes(data)
        with closing(Archive(tmp_path)) as archive, archive.snapshot() as snapshot:
            assert_snapshot_holds(snapshot, {article.id: article for article in NEWS})
        assert sql(tmp_path, "PRAGMA user_version") == [(FORMAT,)]


# Backups of older formats

OLDER = {1: to_format_1, 2: to_format_2, 3: to_format_3}


def backed_up_as_then(folder: Path, file: Path) -> Path:
    """What `rag backup` has written since there is one: SQLite's copy, without a log."""
    with (
        closing(sqlite3.connect(folder / "library.db")) as library,
        closing(sqlite3.connect(file, isolation_level=None)) as copy,
    ):
        library.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    return file


def cited(archive: Archive) -> list[tuple[str, str, int, int]]:
    citations = Searcher(archive, FakeEncoder()).ask(QUESTION, top_k=10).citations
    return [(c.hit.article.id, c.quote, c.start, c.end) for c in citations]


@pytest.mark.parametrize("number", OLDER)
@pytest.mark.parametrize("replace", [True, False])
def test_a_backup_of_an_older_format_restores_into_todays(
    tmp_path: Path, number: int, replace: bool
) -> None:
    with closing(Archive(tmp_path / "old")) as archive:
        add(archive, FakeEncoder(), *NEWS[1:], news(8))
        add(archive, FakeEncoder(), NEWS[0])
        archive.remove(["n8"])
    OLDER[number](tmp_path / "old")
    file = backed_up_as_then(tmp_path / "old", tmp_path / "backup.db")
    before, encodings = file.read_bytes(), "SELECT * FROM encoding ORDER BY number"
    with closing(Archive(tmp_path / "old")) as old, closing(Archive(tmp_path / "new")) as new:
        if replace:
            add(new, FakeEncoder(), news(9))
        new.restore(file, replace=replace)
        assert file.read_bytes() == before
        assert sql(new.folder, "PRAGMA user_version") == [(FORMAT,)]
        assert_holds(new.folder, NEWS)
        assert sql(new.folder, encodings) == sql(old.folder, encodings)
        assert cited(new) == cited(old)
        encoder = FakeEncoder()
        assert add(new, encoder, *NEWS).unchanged == len(NEWS)
        assert encoder.passages_encoded == 0
        add(new, encoder, news(7), news(8))
        assert_holds(new.folder, [*NEWS, news(7), news(8)])
        assert new.check() == []
        with new.reading() as reading:
            assert reading is not None
            head = reading.head("n8")
        assert head is not None
        assert head.revision == 2
    with closing(sqlite3.connect(new.folder / "library.db")) as restored:
        assert_is_of_format(restored, FORMAT)
