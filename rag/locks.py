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

from filelock import FileLock, Timeout

from rag.errors import ArchiveBusy, StorageFailed
from rag.files import make_folder

LOCK_TIMEOUT_S = 30.0
"""How long a writer waits for another; a batch holds the lock for well under a second."""


class Locks:
    """The locks of one folder, which other processes take too. Who waits for one longer than it may
    is told who has it: ArchiveBusy. What goes wrong on the disk while one is held is raised as
    StorageFailed."""

    def __init__(self, folder: Path, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._ending = threading.Event()

    def stop_waiting(self) -> None:
        """From now on whoever finds a lock held, or waits for it, gives up at once: ArchiveBusy."""
        self._ending.set()

    def writing(self) -> AbstractContextManager[None]:
        """Hold the write lock."""
        return self._held("write", self._timeout_s)

    def writing_base(self, *, wait: bool = True) -> AbstractContextManager[None]:
        """Hold the base's lock; never entered by one who holds the other."""
        return self._held("base", self._timeout_s if wait else 0.0)

    def somebody_writes(self) -> bool:
        """Whether the write lock is held, or cannot be looked at."""
        try:
            with FileLock(self._folder / "write.lock").acquire(timeout=0):
                return False
        except (Timeout, OSError):
            return True

    @contextmanager
    def _held(self, name: str, timeout_s: float) -> Iterator[None]:
        holder = self._folder / f"{name}.holder"
        try:
            make_folder(self._folder)
            lock = FileLock(self._folder / f"{name}.lock")
            began = time.monotonic()
            try:
                held = lock.acquire(timeout=timeout_s, cancel_check=self._ending.is_set)
            except Timeout:
                waited_s = min(round(time.monotonic() - began, 1), timeout_s)
                raise ArchiveBusy(str(self._folder), name, _read_holder(holder), waited_s) from None
            with held:
                try:
                    holder.write_text(_this_process())
                    yield
                finally:
                    holder.unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(str(self._folder), error.strerror or str(error)) from error


def _this_process() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


def _read_holder(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return "somebody who is not known"
