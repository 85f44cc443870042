"""Folders that go when a test ends."""

import os
from tempfile import TemporaryDirectory

SHARED_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def temporary_folder() -> TemporaryDirectory[str]:
    """A new folder in memory, where there is some. A thread of tantivy's may look at an index in it
    to the last, and put a lock file there: that is no reason to fail."""
    return TemporaryDirectory(dir=SHARED_MEMORY, ignore_cleanup_errors=True)
