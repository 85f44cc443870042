"""What every part that keeps files needs of them: that they last, and that they are the same."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path


def sha256(file: Path) -> str:
    """Hex digest of what is in a file. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder that is not there, with those that it is in, so that they last. Raises
    OSError."""
    if folder.is_dir():
        return
    made = [folder, *(above for above in folder.absolute().parents if not above.exists())]
    folder.mkdir(parents=True, exist_ok=True)
    for each in made:
        make_last(each.absolute())


def make_last(path: Path) -> None:
    """Make a name, of an absolute path, last, where its folder can be synced: one that may be
    written and not read cannot, nor can any in some file systems."""
    with suppress(OSError):
        sync(path.parent)


def sync(path: Path) -> None:
    """Make what was written to a file, or renamed in a folder, last. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
