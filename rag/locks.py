"""The locks of an archive's folder: who writes, and who writes the dense base."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rag.errors import ArchiveBusy, StorageFailed

LOCK_TIMEOUT_S = 30.0
"""How long a writer waits for another; a batch holds the lock for well under a second."""


class Locks:
    """The locks of one folder, which other processes take too. What goes wrong on the disk while
    one is held is raised as StorageFailed."""

    def __init__(self, folder: Path, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._holder = folder / "write.holder"
        self._ending = threading.Event()

    def stop_waiting(self) -> None:
        """From now on whoever finds a lock held, or waits for it, gives up at once: ArchiveBusy."""
        self._ending.set()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock, by which who waits for it is told who has it. Raises ArchiveBusy."""
        with self._named():
            self._folder.mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            try:
                lock = self._acquired("write.lock", self._timeout_s)
            except Timeout:
                waited_s = min(round(time.monotonic() - began, 1), self._timeout_s)
                who = _read_holder(self._holder)
                raise ArchiveBusy(str(self._folder), who, waited_s) from None
            with lock:
                try:
                    self._holder.write_text(_this_process())
                    yield
                finally:
                    self._holder.unlink(missing_ok=True)

    @contextmanager
    def writing_base(self, timeout_s: float) -> Iterator[None]:
        """Hold the base's lock; never entered by one who holds the other. Raises ArchiveBusy."""
        with self._named():
            try:
                lock = self._acquired("base.lock", timeout_s)
            except Timeout:
                who = "it is held by another who writes the dense base"
                raise ArchiveBusy(str(self._folder), who, timeout_s) from None
            with lock:
                yield

    def somebody_writes(self) -> bool:
        """Whether the write lock is held, or cannot be looked at."""
        try:
            with FileLock(self._folder / "write.lock").acquire(timeout=0):
                return False
        except (Timeout, OSError):
            return True

    def _acquired(self, name: str, timeout_s: float) -> AbstractContextManager[Any]:
        """The lock, held. Raises Timeout and OSError."""
        lock = FileLock(self._folder / name)
        return lock.acquire(timeout=timeout_s, cancel_check=self._ending.is_set)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFailed(str(self._folder), error.strerror or str(error)) from error


def _this_process() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


def _read_holder(file: Path) -> str:
    try:
        return f"it is held by {file.read_text()}"
    except OSError:
        return "its holder is not known"
