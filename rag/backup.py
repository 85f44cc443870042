"""One file that holds all of an archive: written while the archive is at work, checked before it
counts, and put back as one transaction."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rag.errors import ArchiveDamaged, BackupDamaged, InvalidRequest, StorageFailed, UnreadableItem
from rag.files import sync
from rag.store import Store

IN_USE = "rag-backup.lock"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds: its published generation, how much is alive in it, its size in bytes."""

    generation: int
    articles: int
    passages: int
    size_bytes: int


def write(store: Store, file: Path) -> Contents:
    """Write a sound copy of `store` to `file`, which is there whole or not at all.

    Readers and writers go on meanwhile. What a backup that was killed left beside it is removed.
    Raises InvalidRequest if `file` is there, ArchiveDamaged if the copy has a fault, StorageFailed;
    after each of which there is no file.
    """
    _refuse_to_overwrite(file)
    try:
        _clear(file.parent)
        with _workplace(file) as folder:
            made = folder / file.name
            with closing(Store(made, str(file))) as copy:
                store.copy(copy)
                fault = _fault(copy)
                if fault:
                    raise ArchiveDamaged(store.name, fault)
                contents = _contents(copy, made)
                copy.be_one_file()
            sync(made)
            _refuse_to_overwrite(file)
            made.rename(file)
        sync(file.parent)
    except OSError as error:
        raise StorageFailed(str(file), error.strerror or str(error)) from error
    return contents


@contextmanager
def checked_copy(file: Path, folder: Path) -> Iterator[Store]:
    """A copy in `folder` of the backup `file`, sound and of today's format, until the context ends.

    To be called under the archive's lock. Raises UnreadableItem if there is no such file,
    BackupDamaged, FormatNotSupported and StorageFailed.
    """
    if not file.is_file():
        raise UnreadableItem(str(file), "there is no such file")
    for left in folder.glob("restoring.*"):  # by a process that was killed
        shutil.rmtree(left)
    with (
        TemporaryDirectory(dir=folder, prefix="restoring.") as temporary,
        closing(Store(Path(temporary) / "library.db", str(file))) as copy,
    ):
        try:
            with closing(Store(file, str(file))) as backup:
                backup.copy(copy)
            with copy.read():  # an empty database is no archive, and must not become one
                pass
            copy.create()
            fault = _fault(copy)
        except ArchiveDamaged as error:
            fault = error.fault
        if fault:
            raise BackupDamaged(str(file), fault)
        yield copy


def put(copy: Store, store: Store, seen: int) -> None:
    """Make what `copy` holds what `store` holds, under the archive's lock.

    It becomes an archive of another name and of a generation over `seen`, the greatest that readers
    may have seen: no derived file, and nothing in a reader's memory, is taken for part of it.
    A library that SQLite can open is overwritten in one transaction, so that connections to it stay
    good and it is never missing; the file of one that it cannot is replaced.
    """
    with copy.write() as writing:
        unpublished = writing.unpublished()
        if unpublished:
            writing.publish(unpublished)
        generation = str(max(seen, unpublished or writing.generation) + 1)
        entries = {"archive": uuid.uuid4().hex, "dense_base": ""}
        writing.set_manifest({**entries, "committed": generation, "published": generation})
        writing.set_reindexing(True)
    if store.exists():
        try:
            copy.copy(store)
        except ArchiveDamaged:
            store.replace(copy)
    else:
        store.replace(copy)


@contextmanager
def _workplace(file: Path) -> Iterator[Path]:
    """A folder beside `file`, for what is not there yet, that is known for ours and in use: it has
    a file named `IN_USE`, locked for as long as this process lives."""
    with (
        TemporaryDirectory(dir=file.parent, prefix=f"{file.name}.") as folder,
        (Path(folder) / "locking").open("wb") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(folder) / IN_USE)  # by then it is locked
        yield Path(folder)


def _clear(folder: Path) -> None:
    """Remove the workplaces in `folder` of processes that were killed."""
    for file in folder.glob(f"*/{IN_USE}"):
        with suppress(OSError), file.open("r+b") as lock:  # as of one that is in use, or just gone
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(file.parent)


def _fault(copy: Store) -> str | None:
    """What `rag check` says of it first, and how much more; None if it is sound."""
    with copy.read() as reading:
        faults = list(reading.faults())
        if not faults and not (reading.generation or reading.unpublished()):
            return "no article was ever added to it"
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    return faults[0] + more if faults else None


def _contents(copy: Store, file: Path) -> Contents:
    with copy.read() as reading:
        return Contents(reading.generation, *reading.counts(), file.stat().st_size)


def _refuse_to_overwrite(file: Path) -> None:
    if file.exists():
        raise InvalidRequest("FILE", f"{file} is there already; name a file that is not")
