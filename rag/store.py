"""The truth: one SQLite file, its format, and connections to it.

Rows of `article` (one a revision) and `passage` never change, but for the generation in which
they died: a generation g sees the rows with `born <= g` that had not died at g. The manifest's
`published` says which generation readers see; `committed` is greater while a change waits to be
published. `born` and `died` are also the change log that derived indexes are brought up from.
All SQL of the project is in `schema`, `reading`, `writing` and here.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rag.errors import ArchiveDamaged, FormatNotSupported, RagError, StorageFailed
from rag.files import make_last, sync
from rag.reading import Reading
from rag.schema import FORMAT, MIGRATIONS
from rag.writing import Writing

BUSY_TIMEOUT_S = 30.0
"""How long SQLite waits for another connection's commit; ours hold theirs for one batch."""

SHARED_LOCK = (510, 0x40000002)
"""Length and place of the bytes of a database that SQLite locks, shared, while a connection in WAL
mode has it open (sqlite.org/fileformat2, "the lock-byte page")."""

SQLITE_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
"""The second: a flipped bit in the schema gets into SQLite's message, which is then no UTF-8."""


DISK_ERRORS = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN}

ROOM_LEAST = 1 << 20
"""Bytes free on a disk that is not full."""


class _State(NamedTuple):
    """What a connection is good for as long as it stays the same.

    `file`: which one, by device and inode. `version`: how it is, where SQLite cannot make the files
    that it needs beside it, as on a read-only disk. It is then opened as one that nobody changes:
    without its log, which must be empty, and without locks. None where it is opened as ever.
    """

    file: tuple[int, ...]
    version: tuple[int, ...] | None


class Store:
    """The database file of one archive and a pool of connections to it, safe for threads."""

    def __init__(self, file: Path, name: str | None = None) -> None:
        """`name`: what errors call it; by default its folder."""
        self._file = file
        self.name = name or str(file.parent)
        self.damaged_at: datetime | None = None
        """When damage was met last, by this object."""
        self._idle: queue.LifoQueue[tuple[_State | None, sqlite3.Connection]]
        self._idle = queue.LifoQueue()

    def exists(self) -> bool:
        """Whether there is a database yet. Raises StorageFailed where that cannot be looked at."""
        try:
            return self._file.exists()
        except OSError as error:
            raise StorageFailed(self.name, error.strerror or str(error)) from error

    def place(self) -> tuple[int, int] | None:
        """Which file is there, whatever its name; None if there is none."""
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino

    def is_empty(self) -> bool:
        """Whether there is no database, or one without a table yet."""
        if not self.exists():
            return True
        with self._connection() as connection:
            return _format(connection) == 0

    def is_current(self) -> bool:
        """Whether the database has today's format."""
        with self._connection() as connection:
            return _format(connection) == FORMAT

    def create(self) -> None:
        """Create the database or bring it to today's format; nothing happens if it is."""
        self._touch()
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            began = _format(connection)
            if not began:
                make_last(self._file.absolute().parent)
            for step in range(began, FORMAT):
                connection.executescript(
                    f"BEGIN IMMEDIATE;{MIGRATIONS[step]};PRAGMA user_version = {step + 1};COMMIT"
                )
        with self.read() as reading:
            is_named = bool(reading.archive())
        if not is_named:
            with self.write() as writing:
                if not writing.archive():  # nobody else has named it meanwhile
                    writing.set_manifest({"archive": uuid.uuid4().hex})

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """One unchanging view of the database, for as long as the context lasts."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield Reading(connection)
            finally:
                _roll_back(connection)

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """A transaction: all of it is on the disk when the context ends, or none."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Writing(connection)
            except BaseException:
                _roll_back(connection)
                raise
            connection.execute("COMMIT")

    def copy(self, target: Store) -> None:
        """Make `target` what this holds now, in one transaction there: all of it or nothing.

        Whoever reads or writes this one does not wait, nor does a reader of `target`.
        """
        target._touch()
        with self._connection() as source, target._connection() as copy:
            source.backup(copy)

    def be_one_file(self) -> None:
        """Leave nothing beside the file, which can then be read where nothing can be written; it
        is in WAL mode again after `create`."""
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        self.close()

    def checkpoint(self) -> None:
        """Bring the log into the file as far as those let who read meanwhile, and nobody waits."""
        with self._connection() as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")

    def replace(self, other: Store) -> None:
        """Put the file of `other`, nobody's meanwhile, in the place of one that is missing or that
        SQLite cannot open; that one is kept as `library.db.damaged`.

        Whoever still has the old one open would delete the new one's log when it closes it, so that
        raises StorageFailed.
        """
        self.close()
        other.be_one_file()
        if self.exists():
            if _is_open(self._file):
                problem = "library.db is damaged, and another process has it open (a server?)"
                raise StorageFailed(self.name, f"{problem}; stop that, and restore again")
            kept = self._file.with_name(f"{self._file.name}.damaged")
            kept.unlink(missing_ok=True)
            shutil.copyfile(self._file, kept)
            sync(kept)
        # The log of another database would be taken for the new one's.
        for end in ("-wal", "-shm"):
            self._file.with_name(self._file.name + end).unlink(missing_ok=True)
        sync(other._file)
        other._file.replace(self._file)
        sync(self._file.parent)

    def damaged(self, fault: str) -> ArchiveDamaged:
        """The error that says so, to be raised."""
        self.damaged_at = datetime.now(UTC)
        return ArchiveDamaged(self.name, fault)

    def close(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                self._idle.get_nowait()[1].close()
            except queue.Empty:
                return

    def _touch(self) -> None:
        try:
            self._file.touch()
        except OSError as error:
            raise StorageFailed(self.name, error.strerror or str(error)) from error

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        opened, connection = self._idle_connection()
        try:
            yield connection
            self._require_unchanged(opened)
        except BaseException as error:
            connection.close()
            self._require_unchanged(opened)  # else what was read may be of two states, not damaged
            if isinstance(error, SQLITE_ERRORS):
                raise self._named(error) from error
            raise
        self._idle.put((opened or self._state(), connection))

    def _idle_connection(self) -> tuple[_State | None, sqlite3.Connection]:
        """A connection to the file that is in place now, which may be another than before."""
        state = self._state()
        while True:
            try:
                opened, connection = self._idle.get_nowait()
            except queue.Empty:
                return self._opened(state)
            if opened == state:
                return state, connection
            connection.close()

    def _opened(self, state: _State | None) -> tuple[_State | None, sqlite3.Connection]:
        """A new connection, and what it is opened as."""
        try:
            return state, self._open(unchanging=bool(state and state.version))
        except StorageFailed as error:
            # On a full disk SQLite cannot make the files either that it needs beside it.
            version, code = self._version(), getattr(error.__cause__, "sqlite_errorcode", 0)
            if code & 0xFF not in DISK_ERRORS or version is None or self._has_log():
                raise
            return _State(version[:2], version), self._open(unchanging=True)

    def _state(self) -> _State | None:
        """What the file in place is opened as; None if there is none."""
        version = self._version()  # before the log, which a writer may bring into the file
        if version is None:
            return None
        return _State(version[:2], None if self._is_writable() or self._has_log() else version)

    def _version(self) -> tuple[int, ...] | None:
        """What differs between two states of the file, its device and inode first."""
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

    def _has_log(self) -> bool:
        with suppress(OSError):
            return _beside(self._file, "-wal").stat().st_size > 0
        return False

    def _is_writable(self) -> bool:
        """Whether SQLite can make the files that it needs beside it."""
        return os.access(_beside(self._file).parent, os.W_OK)

    def _require_unchanged(self, opened: _State | None) -> None:
        """Raise StorageFailed if a file that was taken for one that nobody changes was changed."""
        if opened and opened.version and opened.version != self._version():
            raise StorageFailed(self.name, "library.db was changed while it was read; ask again")

    def _open(self, *, unchanging: bool) -> sqlite3.Connection:
        # sqlite.org/uri.html; one that is not there is not to be made
        uri = self._file.absolute().as_uri() + ("?immutable=1" if unchanging else "?mode=rw")
        try:
            connection = sqlite3.connect(
                uri,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                uri=True,
            )
        except SQLITE_ERRORS as error:
            raise self._named(error) from error
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
            found = _format(connection)
        except SQLITE_ERRORS as error:
            connection.close()
            raise self._named(error) from error
        if found > FORMAT:
            connection.close()
            raise FormatNotSupported(self.name, found, FORMAT)
        return connection

    def _named(self, error: Exception) -> RagError:
        """Ours for SQLite's error: the disk's trouble is another thing than a damaged file.

        A text that is no UTF-8 has no code, and what has the code of an error in the SQL, which is
        as it always was, is a table or column that is not there any more.
        """
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
            reason = f"library.db: {error}"
            if code == sqlite3.SQLITE_CANTOPEN and self._has_log():
                reason += "; library.db-wal has changes that can be read where it can be written"
            if code & 0xFF in DISK_ERRORS and _is_full(_beside(self._file).parent):
                reason += " (the disk is full)"
            return StorageFailed(self.name, reason)
        return self.damaged(f"library.db: {error}")


def _beside(file: Path, end: str = "") -> Path:
    """A file that SQLite keeps for a database: beside the file itself, where that is a link."""
    real = Path(os.path.realpath(file))
    return real.with_name(real.name + end)


def _roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction, unless SQLite has done so itself, as on a full disk."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < ROOM_LEAST
    except OSError:
        return False


def _is_open(file: Path) -> bool:
    """Whether another process has a connection to a database."""
    with file.open("r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, *SHARED_LOCK, os.SEEK_SET)
        except OSError:
            return True
    return False
