"""Folders that go when a test ends."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

SHARED_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def temporary_folder() -> Iterator[str]:
    """A new folder in memory, where there is some. A thread of tantivy's may look at an index in it
    to the last, and put a lock file there: that is no reason to fail."""
    with TemporaryDirectory(dir=SHARED_MEMORY, ignore_cleanup_errors=True) as folder:
        yield folder
    shutil.rmtree(folder, ignore_errors=True)
