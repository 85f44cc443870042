"""Files and folders into articles: one reader per format, and a reason for what cannot be read.

Nothing that is wrong with one file or one record stops the others, and no more of a file than
one line (JSON Lines) or one bounded whole (every other format) is ever in memory.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from rag.dateline import dateline, first_line_title, line_date
from rag.dates import parse_iso
from rag.errors import UnreadableItem
from rag.normalise import (
    article_from_fields,
    megabytes,
    normalise_line,
    normalise_text,
    path_id,
    short_reason,
)
from rag.types import Article, Unreadable

MAX_TEXT_BYTES = 10 * 1024 * 1024
MAX_FRONT_MATTER_CHARACTERS = 64 * 1024  # the YAML parser takes about 3 s for a megabyte
# Markup, metadata and escapes come on top of a text; beyond this a file or line is not opened up.
FILE_TO_TEXT = 4
UNPACKED_MARGIN_BYTES = 1024 * 1024

Found = Article | Unreadable

_ADDRESS = re.compile(r"https?:/", re.IGNORECASE)
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_FENCE = re.compile(r"^(?:---|\.\.\.)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _File:
    """One file to read: `item` is its name in messages, `size` in bytes on the disk."""

    item: str
    path: str
    suffix: str
    gzipped: bool
    size: int

    def id_at(self, position: int | None = None) -> str:
        """The id of a record without one: of the file, or of its line or place in the file."""
        at = b"" if position is None else b":%d" % position
        return path_id(os.fsencode(os.path.abspath(self.path)) + at)


def read_paths(
    paths: Iterable[str | Path],
    *,
    max_text_bytes: int = MAX_TEXT_BYTES,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Found]:
    """The articles in files and folders, in order, and an Unreadable for each that is none.

    A folder is walked in the order of names, without hidden entries, links to folders and files
    of a suffix that has no reader. `max_text_bytes` limits one text in UTF-8. `on_bytes` is told
    of bytes done with; they sum up to `size_of(paths)`. Raises nothing over what it reads.
    """
    for path in paths:
        for file in _find(os.fspath(path)):
            if isinstance(file, Unreadable):
                yield file
            else:
                yield from _read_file(file, max_text_bytes, on_bytes or _ignore)


def size_of(paths: Iterable[str | Path]) -> int:
    """Bytes on the disk of all files that `read_paths` would open."""
    files = (file for path in paths for file in _find(os.fspath(path)))
    return sum(file.size for file in files if isinstance(file, _File))


def _ignore(_: int) -> None:
    """Tell nobody of progress."""


# Finding files


def _find(path: str) -> Iterator[_File | Unreadable]:
    if _ADDRESS.match(path):
        reason = "addresses are not read yet; save the page and add the file"
        yield Unreadable(_shown(path), reason)
    elif os.path.isdir(path):
        yield from _walk(path)
    else:
        yield _file(path)


def _walk(root: str) -> Iterator[_File | Unreadable]:
    waiting = [(root, True)]
    while waiting:
        path, is_folder = waiting.pop()
        if not is_folder:
            yield _file(path)
            continue
        try:
            waiting.extend(reversed(_children(path)))
        except OSError as error:
            yield Unreadable(_shown(path), _in_the_systems_words(error))


def _children(folder: str) -> list[tuple[str, bool]]:
    """Path of each entry of `folder` that is to be read, by name, and whether it is a folder."""
    with os.scandir(folder) as entries:
        seen = sorted((entry.name, entry) for entry in entries if not entry.name.startswith("."))
    return [
        (entry.path, entry.is_dir())
        for name, entry in seen
        if entry.is_dir(follow_symlinks=False)
        or (_suffix(name)[0] in READERS and not entry.is_dir())
    ]


def _file(path: str) -> _File | Unreadable:
    item = _shown(path)
    suffix, gzipped = _suffix(path)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        missing = "no such file or folder"
        return Unreadable(item, str(error.strerror) if os.path.islink(path) else missing)
    except (OSError, ValueError) as error:
        return Unreadable(item, _in_the_systems_words(error))
    if suffix not in READERS:
        known = ", ".join(READERS)
        named = f"{suffix!r}" if suffix else "a name without a suffix"
        return Unreadable(item, f"no reader for {named}; known: {known}, and each with .gz")
    if not stat.S_ISREG(status.st_mode):
        return Unreadable(item, "is not a regular file")
    return _File(item, path, suffix, gzipped, status.st_size)


def _suffix(path: str) -> tuple[str, bool]:
    """Suffix of `path` in lower case, without .gz, and whether .gz was there."""
    name = os.path.basename(path).lower()
    bare = name.removesuffix(".gz")
    return os.path.splitext(bare)[1], bare != name


def _shown(path: str) -> str:
    """`path` for messages: what is no UTF-8 in a file name cannot be printed."""
    return os.fsencode(path).decode(errors="replace")


def _in_the_systems_words(error: Exception) -> str:
    return short_reason(str(getattr(error, "strerror", None) or error))


# Reading one file


class _Metered(io.FileIO):
    """A file that says how many bytes are read from it."""

    def __init__(self, path: str, on_bytes: Callable[[int], None]) -> None:
        super().__init__(path)
        self._on_bytes = on_bytes
        self.seen = 0

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        self.seen += count or 0
        self._on_bytes(count or 0)
        return count


def _read_file(file: _File, limit: int, on_bytes: Callable[[int], None]) -> Iterator[Found]:
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_bytes(size)

    try:
        with _opened(file, count) as stream:
            yield from READERS[file.suffix](stream, file, limit)
    except Exception as error:  # whatever a parser trips over is the fault of this one file
        yield _as_unreadable(error, file.item)
    if done < file.size:
        on_bytes(file.size - done)


@contextmanager
def _opened(file: _File, on_bytes: Callable[[int], None]) -> Iterator[io.BufferedReader]:
    with io.BufferedReader(_Metered(file.path, on_bytes)) as stream:
        if not file.gzipped:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield io.BufferedReader(cast(io.RawIOBase, unpacked))


def _as_unreadable(error: Exception, item: str) -> Unreadable:
    if isinstance(error, UnreadableItem):
        return Unreadable(error.item, short_reason(error.reason))
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return Unreadable(item, short_reason(f"is not a sound gzip file: {error}"))
    if isinstance(error, OSError):
        return Unreadable(item, _in_the_systems_words(error))
    return Unreadable(item, short_reason(f"cannot be parsed ({type(error).__name__}: {error})"))


def _bound(limit: int) -> int:
    """Bytes of one line, or of one file unpacked, that are read at most."""
    return FILE_TO_TEXT * limit + UNPACKED_MARGIN_BYTES


def _whole(stream: io.BufferedReader, file: _File, limit: int) -> bytes:
    """All bytes of the file; UnreadableItem if it is empty or too large."""
    if file.size > FILE_TO_TEXT * limit:
        over = f"over the limit of {megabytes(FILE_TO_TEXT * limit)} for a file"
        reason = f"is {megabytes(file.size)}, {over} ({FILE_TO_TEXT} times RAG_MAX_TEXT_BYTES)"
        raise UnreadableItem(file.item, reason)
    data = stream.read(_bound(limit) + 1)
    if len(data) > _bound(limit):
        raise UnreadableItem(file.item, f"unpacks to more than {megabytes(_bound(limit))}")
    if not data.strip():
        raise UnreadableItem(file.item, "is empty")
    return data


def _decode(data: bytes, item: str) -> str:
    """UTF-8, or UTF-16 with a byte order mark; UnreadableItem for anything else."""
    encoding = "utf-16" if data[:2] in _UTF16_MARKS else "utf-8"
    try:
        text = data.removeprefix(_UTF8_MARK).decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in data and encoding == "utf-8":
            raise UnreadableItem(item, "looks like a binary file") from None
        raise UnreadableItem(item, _not_text(error, encoding)) from None
    if "\0" in text:
        raise UnreadableItem(item, "looks like a binary file")
    return text


def _not_text(error: UnicodeDecodeError, encoding: str) -> str:
    found = f"is not {encoding.upper()} (byte 0x{error.object[error.start]:02x} at {error.start})"
    if encoding != "utf-8":
        return found
    return f"{found}; convert it first, for example: iconv -f WINDOWS-1252 -t UTF-8"


# One reader per format


def _read_text(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    yield _plain_article(_decode(_whole(stream, file, limit), file.item), file, limit)


def _plain_article(text: str, file: _File, limit: int) -> Article:
    text = normalise_text(text)
    if not text:
        raise UnreadableItem(file.item, "is empty")
    title, rest = first_line_title(text)
    published_at = dateline(text, os.path.basename(file.path))
    fields = {"title": title, "text": rest, "published_at": published_at}
    return article_from_fields(
        fields, item=file.item, fallback_id=file.id_at(), max_text_bytes=limit
    )


def _read_markdown(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    text = normalise_text(_decode(_whole(stream, file, limit), file.item))
    if not text.startswith("---\n"):
        yield _plain_article(text, file, limit)
        return
    fields, body = _front_matter(text, file.item)
    yield article_from_fields(
        {**fields, "text": body}, item=file.item, fallback_id=file.id_at(), max_text_bytes=limit
    )


def _front_matter(text: str, item: str) -> tuple[dict[str, object], str]:
    """Fields and body of a normalised text that begins with a line `---`."""
    end = _FENCE.search(text, 4, 4 + MAX_FRONT_MATTER_CHARACTERS)
    if end is None:
        reason = "no line --- ends it in the first 65,536 characters"
        raise UnreadableItem(item, f"its front matter is not YAML: {reason}")
    try:
        fields = yaml.safe_load(text[4 : end.start()])
    except yaml.MarkedYAMLError as error:
        at = f" in line {error.problem_mark.line + 2}" if error.problem_mark else ""
        problem = f"{error.problem}{at}"
        raise UnreadableItem(item, f"its front matter is not YAML: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableItem(item, f"its front matter is not YAML: {error}") from None
    if fields is not None and not isinstance(fields, dict):
        raise UnreadableItem(item, "its front matter is not YAML: no lines of the form name: value")
    return fields or {}, text[end.end() :]


def _read_json(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    value = _parse_json(_decode(_whole(stream, file, limit), file.item), file.item)
    if not isinstance(value, list):
        yield _article_of_record(value, file.item, file.id_at(), limit)
        return
    if not value:
        raise UnreadableItem(file.item, "is empty")
    for position, record in enumerate(value, 1):
        yield _article_of_record(record, f"{file.item}:{position}", file.id_at(position), limit)


def _read_json_lines(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    number = 0
    is_empty = True
    for number, line in enumerate(_lines(stream, _bound(limit)), 1):
        item = f"{file.item}:{number}"
        if line is None:
            is_empty = False
            yield Unreadable(item, f"the line is longer than {megabytes(_bound(limit))}")
        elif line.removeprefix(_UTF8_MARK).strip():
            is_empty = False
            yield _article_of_line(line, item, file.id_at(number), limit)
    if is_empty:
        raise UnreadableItem(file.item, "is empty")
