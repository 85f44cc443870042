"""The keys of an archive: who may come in, and what for.

They stand in a file of the archive's folder, which holds the sha256 of each. A slow hash is for
what people choose and others guess; a key has 256 random bits, so a plain one is right.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rag.errors import ArchiveBusy, InvalidRequest, KeyNotFound, KeysDamaged, StorageFailed
from rag.files import make_folder, sync

FILE = "keys.json"
FORMAT = 1

PREFIX = "rag_"
"""Before the random part, so that people and programs know a key that was left somewhere."""

RANDOM_BYTES = 32
LOCK_TIMEOUT_S = 10.0
"""How long one who adds or revokes a key waits for another, who needs milliseconds."""

_NAME = re.compile(r"[\w.@-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Right(StrEnum):
    """What a key is good for: `ask` for all that changes nothing, `write` for the rest."""

    ASK = "ask"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key: its name, rights, ISO day in UTC that it was made on, hex sha256."""

    name: str
    rights: tuple[Right, ...]
    made: str
    sha256: str


class KeyFile:
    """The keys in an archive's folder. Other processes may change them at any time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._known: tuple[tuple[int, ...], tuple[Key, ...]] | None = None

    def keys(self) -> tuple[Key, ...] | None:
        """The keys as they are now; None if there is no file, as there is after all were revoked.

        Read again only if the file has changed. Raises KeysDamaged.
        """
        try:
            known, state = self._known, os.stat(self._file)
            if not stat.S_ISREG(state.st_mode):  # to open a pipe waits for who writes to it
                raise KeysDamaged(str(self._file), "it cannot be read: it is no regular file")
            if known is None or known[0] != _version(state):
                with self._file.open("rb") as stream:
                    version = _version(os.fstat(stream.fileno()))
                    self._known = known = version, _parsed(stream.read())
            return known[1]
        except FileNotFoundError:
            if self._file.is_symlink():
                raise KeysDamaged(str(self._file), "it links to a file that is not there") from None
            return None
        except OSError as error:
            reason = error.strerror or str(error)
            raise KeysDamaged(str(self._file), f"it cannot be read: {reason}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise KeysDamaged(str(self._file), f"it is not what was written: {error}") from error

    def add(self, name: str, *, write: bool = False) -> tuple[Key, str]:
        """Make a key; what is kept of it, and the key itself, which nobody can tell again.

        Raises InvalidRequest, KeysDamaged, ArchiveBusy and StorageFailed.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest("name", "it takes 1 to 64 letters, digits and . _ @ -")
        secret = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        rights = (Right.ASK, Right.WRITE) if write else (Right.ASK,)
        made = Key(name, rights, datetime.now(UTC).date().isoformat(), _digest(secret.encode()))
        with self._changing() as keys:
            if any(key.name == name for key in keys):
                raise InvalidRequest("name", f"there is a key {name!r}; revoke it first")
            self._write([*keys, made])
        return made, secret

    def revoke(self, name: str) -> int:
        """Have a key no longer let anybody in; how many are left.

        Raises KeyNotFound, KeysDamaged, ArchiveBusy and StorageFailed.
        """
        with self._changing() as keys:
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                raise KeyNotFound(name)
            self._write(left)
        return len(left)

    @contextmanager
    def _changing(self) -> Iterator[tuple[Key, ...]]:
        """The keys, which nobody else changes meanwhile."""
        folder = self._file.parent
        try:
            make_folder(folder)
            with FileLock(folder / "keys.lock").acquire(timeout=LOCK_TIMEOUT_S):
                yield self.keys() or ()
        except Timeout:
            holder = "another process is changing its keys"
            raise ArchiveBusy(str(folder), "keys", holder, LOCK_TIMEOUT_S) from None
        except OSError as error:
            raise StorageFailed(str(folder), error.strerror or str(error)) from error

    def _write(self, keys: Sequence[Key]) -> None:
        """The file is there whole, as it was or as it is to be. Raises OSError."""
        listed = [
            {"name": key.name, "rights": key.rights, "made": key.made, "sha256": key.sha256}
            for key in keys
        ]
        temporary = self._file.with_name(f"{FILE}.tmp")
        temporary.unlink(missing_ok=True)  # left by a process that was killed
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"format": FORMAT, "keys": listed}, stream, ensure_ascii=False, indent=1)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(self._file)
        sync(self._file.parent)


def key_of(keys: Sequence[Key], secret: bytes) -> Key | None:
    """The one of `keys` that `secret` is. It is compared with all, each in constant time, so that
    how long it takes tells nothing."""
    digest, found = _digest(secret), None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _version(state: os.stat_result) -> tuple[int, ...]:
    """What differs between two states of a file."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _parsed(content: bytes) -> tuple[Key, ...]:
    document = json.loads(content)
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']!r}, not {FORMAT}")
    keys = tuple(_key(**each) for each in document["keys"])
    if len({key.name for key in keys}) < len(keys):
        raise ValueError("two keys have the same name")
    return keys


def _key(*, name: Any, rights: Any, made: Any, sha256: Any) -> Key:
    if not (_NAME.fullmatch(name) and _SHA256.fullmatch(sha256) and rights):
        raise ValueError("a key has no name, no right or no sha256")
    return Key(name, tuple(map(Right, rights)), date.fromisoformat(made).isoformat(), sha256)
