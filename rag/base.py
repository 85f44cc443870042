"""The dense base of an archive: when it is due, and how it is written anew.

It is no part of publishing: the exact tail holds what it lacks. It is written under a lock of its
own, for as long as it takes, while others read and write; only its name is set under theirs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rag.locks import Locks
from rag.snapshot import base_record
from rag.store import Store
from rag.vectors import FaissBase, base_is_due, write_base


class Base:
    """The base of one folder. What writes raises ArchiveBusy and StorageFailed."""

    def __init__(self, folder: Path, store: Store, locks: Locks) -> None:
        self._folder = folder
        self._store = store
        self._locks = locks

    def is_due(self) -> bool:
        """Whether it lacks so much that it should be written anew."""
        with self._store.read() as reading:
            if not reading.generation:
                return False
            record = base_record(reading.manifest())
            last, since = (record.last, record.generation) if record else (0, 0)
            return base_is_due(record, reading.count_over(last), reading.count_died(last, since))

    def write_if_due(self) -> None:
        """Write it if it is due and nobody else is at it."""
        with self._locks.writing_base(wait=False):
            if self.is_due():
                self._write()

    def mend(self) -> None:
        """Write it anew if it cannot be opened."""
        if self._opens():
            return
        with self._locks.writing_base():
            if not self._opens():  # nobody else has mended it meanwhile
                self._write()

    def write(self) -> None:
        """Write it for the published generation."""
        with self._locks.writing_base():
            self._write()

    def _opens(self) -> bool:
        with self._store.read() as reading:
            record = base_record(reading.manifest())
        try:
            if record:
                FaissBase(self._folder, record)
        except ValueError:
            return False
        return True

    def _write(self) -> None:
        """Write it, set its name, and throw older ones away; under the base's lock."""
        place = self._store.place()
        with self._store.read() as reading:
            archive, manifest = reading.archive(), reading.manifest()
            if "dimension" not in manifest:
                return  # there is no vector
            dimension = int(manifest["dimension"])
            parts = reading.all_vectors(dimension)
            record = write_base(self._folder, reading.generation, dimension, parts)
            # Passages that died before are done with: else they would be a tail for ever.
            record = replace(record, last=reading.last_passage())
        with self._locks.writing():
            with self._store.write() as writing:
                same = (self._store.place(), writing.archive()) == (place, archive)
                if same:
                    writing.set_manifest({"dense_base": record.to_json()})
            if not same:  # a backup was put in its place meanwhile
                (self._folder / record.file).unlink(missing_ok=True)
                return
        for file in self._folder.glob("dense.*"):
            if file.name != record.file:
                file.unlink(missing_ok=True)
