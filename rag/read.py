"""Files and folders into articles: one reader per format, and a reason for what cannot be read.

Nothing that is wrong with one file or one record stops the others, and no more of a file than
one line (JSON Lines) or one bounded whole (every other format) is ever in memory.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import yaml

from rag.dateline import dateline, first_line_title, page_date
from rag.errors import UnreadableItem
from rag.normalise import (
    UTF8_MARK,
    UTF16_MARKS,
    article_from_fields,
    decode,
    decode_page,
    megabytes,
    normalise_line,
    normalise_text,
    not_text,
    path_id,
    short_reason,
)
from rag.types import Article, Unreadable

MAX_TEXT_BYTES = 10 * 1024 * 1024
MAX_FRONT_MATTER_CHARACTERS = 64 * 1024  # the YAML parser takes about 3 s for a megabyte
# Markup, metadata and escapes come on top of a text; beyond this a file or line is not opened up.
FILE_TO_TEXT = 4
# Files of these names speak of the folder they are in; they are read only when they are named.
ABOUT_A_FOLDER = frozenset({"readme", "sources", "license"})
UNPACKED_MARGIN_BYTES = 1024 * 1024
# Of one file so many records that are no articles are named, the others are counted.
MAX_NAMED = 1_000
# What of a file gives no article is read up to so many bytes, and so many times the file's own: a
# few hundred kilobytes can hold a billion blank lines or empty records. A record counts as a
# kilobyte at least, so that an end comes after seconds; where records are as long as any that say
# something, even if all are wrong and packed as well as text is, all are looked at. An article
# gives a kilobyte back.
WASTE_BYTES, WASTE_RATIO, RECORD_BYTES = 16 * 1024 * 1024, 32, 1024
MAX_PAGE_ELEMENTS = 100_000  # finding the article takes some 0.15 ms each
MAX_TAG_ATTRIBUTES = 1_000  # parsing takes time square in them: 40,000 took 3 s

LEADS_OUT = "is a link to a file outside the folder; name the link to have it read"

Found = Article | Unreadable

_ADDRESS = re.compile(r"https?:/", re.IGNORECASE)
_FENCE = re.compile(r"^(?:---|\.\.\.)$", re.MULTILINE)
# Possessive, so that it takes time linear in a page.
_LONG_TAG = re.compile(
    r"<[a-z][^\s/>]*+(?:[\s/]++[^\s/>=]++"
    rf"""(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>]*+))?+){{{MAX_TAG_ATTRIBUTES + 1}}}""",
    re.IGNORECASE,
)


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
    of a suffix that has no reader; a link to a file outside it is left out. `max_text_bytes` limits
    one text in UTF-8. `on_bytes` is told of bytes done with; they sum up to `size_of(paths)`.
    Raises nothing over what it reads.
    """
    for path in paths:
        for file in _find(os.fspath(path)):
            if isinstance(file, Unreadable):
                yield file
            else:
                yield from _read_file(file, max_text_bytes, on_bytes or (lambda _: None))


def size_of(paths: Iterable[str | Path]) -> int:
    """Bytes on the disk of all files that `read_paths` would open."""
    files = (file for path in paths for file in _find(os.fspath(path)))
    return sum(file.size for file in files if isinstance(file, _File))


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
            yield _file(path) if _is_within(root, path) else Unreadable(_shown(path), LEADS_OUT)
            continue
        try:
            waiting.extend(reversed(_children(path)))
        except OSError as error:
            yield Unreadable(_shown(path), _in_the_systems_words(error))


def _is_within(root: str, path: str) -> bool:
    """Whether a file in the folder `root` is there, too, once links are followed: who may put a
    file into a folder may not be one who may have any other file read."""
    if not os.path.islink(path):
        return True
    real_root, real_path = os.path.realpath(root), os.path.realpath(path)
    return os.path.commonpath((real_root, real_path)) == real_root


def _children(folder: str) -> list[tuple[str, bool]]:
    """Path of each entry of `folder` that is to be read, by name, and whether it is a folder."""
    with os.scandir(folder) as entries:
        seen = sorted((entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries)
    return [
        (path, is_folder)
        for path, is_folder in seen
        if not os.path.basename(path).startswith(".")
        and (is_folder or (_is_read(path) and not os.path.isdir(path)))
    ]


def _is_read(path: str) -> bool:
    stem = os.path.basename(path).partition(".")[0]
    return _suffix(path)[0] in READERS and stem.lower() not in ABOUT_A_FOLDER


def _file(path: str) -> _File | Unreadable:
    item = _shown(path)
    suffix, gzipped = _suffix(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError) and not os.path.islink(path)
        words = "no such file or folder" if missing else _in_the_systems_words(error)
        return Unreadable(item, words)
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
    return path.encode(errors="replace").decode()


def _in_the_systems_words(error: Exception) -> str:
    return short_reason(str(getattr(error, "strerror", None) or error))


class _Metered(io.FileIO):
    """A file that says how many bytes are read from it."""

    def __init__(self, path: str, on_bytes: Callable[[int], None]) -> None:
        super().__init__(path)
        self._on_bytes = on_bytes

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        self._on_bytes(count or 0)
        return count


def _read_file(file: _File, limit: int, on_bytes: Callable[[int], None]) -> Iterator[Found]:
    done = 0

    def meter(size: int) -> None:
        nonlocal done
        done += size
        on_bytes(size)

    left_out = 0
    try:
        with _opened(file, meter) as stream:
            for found in READERS[file.suffix](stream, file, limit):
                left_out += isinstance(found, Unreadable)
                if isinstance(found, Article) or left_out <= MAX_NAMED:
                    yield found
    except Exception as error:  # whatever a parser trips over is the fault of this one file
        yield _as_unreadable(error, file.item)
    if left_out > MAX_NAMED:
        more = left_out - MAX_NAMED
        yield Unreadable(file.item, f"{more:,} more of its records could not be taken", more)
    if done < file.size:
        on_bytes(file.size - done)


@contextmanager
def _opened(file: _File, on_bytes: Callable[[int], None]) -> Iterator[io.BufferedReader]:
    stream: io.BufferedReader = io.BufferedReader(_Metered(file.path, on_bytes))
    with stream:
        if file.gzipped:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield io.BufferedReader(cast(io.RawIOBase, unpacked))
        else:
            yield stream


def _as_unreadable(error: Exception, item: str) -> Unreadable:
    if isinstance(error, UnreadableItem):
        return Unreadable(error.item, short_reason(error.reason))
    if isinstance(error, UnicodeDecodeError):
        return Unreadable(item, not_text(error, "utf-16"))
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return Unreadable(item, short_reason(f"is not a sound gzip file: {error}"))
    if isinstance(error, OSError):
        return Unreadable(item, _in_the_systems_words(error))
    return Unreadable(item, short_reason(f"cannot be parsed ({type(error).__name__}: {error})"))


def _bound(limit: int) -> int:
    """Bytes of one line, or of one file unpacked, that are read at most."""
    return FILE_TO_TEXT * limit + UNPACKED_MARGIN_BYTES


def _whole(stream: io.BufferedReader, file: _File, limit: int) -> bytes:
    """All bytes of the file, unpacked; UnreadableItem if they are too many."""
    if file.size > FILE_TO_TEXT * limit:
        most = f"{megabytes(FILE_TO_TEXT * limit)} ({FILE_TO_TEXT} times RAG_MAX_TEXT_BYTES)"
        raise UnreadableItem(file.item, f"is {megabytes(file.size)}, over the limit of {most}")
    data = stream.read(_bound(limit) + 1)
    if len(data) > _bound(limit):
        raise UnreadableItem(file.item, f"unpacks to more than {megabytes(_bound(limit))}")
    return data


def _text(stream: io.BufferedReader, file: _File, limit: int) -> str:
    text = decode(_whole(stream, file, limit), file.item)
    if not text.strip("\ufeff \t\r\n"):
        raise UnreadableItem(file.item, "is empty")
    return text


def _read_text(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    yield _plain_article(normalise_text(_text(stream, file, limit)), file, limit)


def _plain_article(text: str, file: _File, limit: int) -> Article:
    title, rest = first_line_title(text)
    day = dateline(text, os.path.basename(file.path))
    return _article({"title": title, "text": rest, "published_at": day}, file, limit)


def _article(fields: Mapping[str, object], file: _File, limit: int) -> Article:
    return article_from_fields(
        fields, item=file.item, fallback_id=file.id_at(), max_text_bytes=limit
    )


def _read_markdown(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    text = normalise_text(_text(stream, file, limit))
    if not text.startswith("---\n"):
        yield _plain_article(text, file, limit)
    else:
        fields, body = _front_matter(text, file.item)
        if not fields.get("title"):
            title, body = first_line_title(normalise_text(body))
            fields = {**fields, "title": title}
        yield _article({**fields, "text": body}, file, limit)


class _FrontMatter(yaml.SafeLoader):
    """The safe loader without merge keys, a few lines of which can ask for all the memory, and
    without dates, so that one that is none is told of as such."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` as it is; no value is made of it, so that the front matter is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See SafeLoader, which of two values under one name takes the last in silence."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # it is refused below
            if (key.tag, key.value) in seen:
                problem = f"{key.value!r} stands there twice, the second time"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _front_matter(text: str, item: str) -> tuple[dict[str, object], str]:
    """Fields and body of a normalised text that begins with a line `---`."""
    end = _FENCE.search(text, 4, 4 + MAX_FRONT_MATTER_CHARACTERS)
    try:
        if end is None:
            raise yaml.YAMLError("no line --- ends it in the first 65,536 characters")
        fields = yaml.load(text[4 : end.start()], _FrontMatter)  # noqa: S506 - it is safe
        if not isinstance(fields, dict | None):
            raise yaml.YAMLError("it has no lines of the form name: value")
    except Exception as error:  # under a tag of another kind of value the loader trips
        mark = getattr(error, "problem_mark", None)
        problem = f"{getattr(error, 'problem', error)}{f' in line {mark.line + 2}' if mark else ''}"
        raise UnreadableItem(item, f"its front matter is not YAML: {problem}") from None
    return fields or {}, text[end.end() :]


def _read_json(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    value = _parse_json(_text(stream, file, limit), file.item)
    if not isinstance(value, list):
        yield _article_of_record(value, file.item, file.id_at(), limit)
        return
    if not value:
        raise UnreadableItem(file.item, "is empty")
    wasted = _waste(file)
    for position, record in enumerate(value, 1):
        item = f"{file.item}:{position}"
        found = _article_of_record(record, item, file.id_at(position), limit)
        wasted(RECORD_BYTES if isinstance(found, Unreadable) else -RECORD_BYTES)
        yield found


def _waste(file: _File) -> Callable[[int], None]:
    """Takes the bytes of what is no article, less than none for an article, which gives some back;
    UnreadableItem once they are too many."""
    left = most = WASTE_BYTES + WASTE_RATIO * file.size

    def take(size: int) -> None:
        nonlocal left
        left = min(left - size, most)
        if left < 0:
            reason = "too much of it is blank or no article; the rest of the file is not read"
            raise UnreadableItem(file.item, reason)

    return take


def _read_json_lines(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    head = stream.peek(1).removeprefix(UTF8_MARK).lstrip()
    if b"\0" in head and not head.startswith((b"{", *UTF16_MARKS)):
        raise UnreadableItem(file.item, "looks like a binary file")
    number = 0
    wasted = _waste(file)
    for number, line in _lines(stream, _bound(limit), wasted):
        item = f"{file.item}:{number}"
        if line is not None:
            found = _article_of_line(line, item, file.id_at(number), limit)
            wasted(max(len(line), RECORD_BYTES) if isinstance(found, Unreadable) else -RECORD_BYTES)
            yield found
            continue
        reason = f"the line is longer than {megabytes(_bound(limit))}"
        if file.gzipped:  # the rest of the line could unpack without end
            raise UnreadableItem(item, f"{reason}; the rest of the file is not read")
        yield Unreadable(item, reason)
    if not number:
        raise UnreadableItem(file.item, "is empty")


def _lines(
    stream: io.BufferedReader, bound: int, wasted: Callable[[int], None]
) -> Iterator[tuple[int, bytes | None]]:
    """Number, from 1, and UTF-8 of each line that is not blank; None for one over `bound` bytes.

    `wasted` is told of the bytes of blank lines.
    """
    if stream.peek(2)[:2] in UTF16_MARKS:
        stream = io.BufferedReader(_Recoded(stream))
    number = 0
    while line := stream.readline(bound + 1):
        number += 1
        is_cut = len(line) > bound and not line.endswith(b"\n")
        if is_cut or line.removeprefix(UTF8_MARK).strip():
            yield number, None if is_cut else line
        else:
            wasted(len(line))
            number += _pass_blank(stream, wasted)
        while is_cut and (rest := stream.readline(bound + 1)):
            is_cut = not rest.endswith(b"\n")


def _pass_blank(stream: io.BufferedReader, wasted: Callable[[int], None]) -> int:
    """Pass over the blank lines that come next, and count them: as many at a time as are in the
    buffer, since a hundred million of them, one by one, take 18 s."""
    number = 0
    while ahead := stream.peek():
        blank = ahead[: len(ahead) - len(ahead.lstrip())]
        end = blank.rfind(b"\n") + 1
        if not end:
            break
        number += blank.count(b"\n")
        stream.read(end)
        wasted(end)
    return number


class _Recoded(io.RawIOBase):
    """A stream of UTF-16 in UTF-8."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-16")()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = b""
        while not data and (wide := self._stream.read1(len(buffer) // 2)):
            data = self._decoder.decode(wide).encode()  # grows by half at most
        if not data:
            self._decoder.decode(b"", final=True)  # raises where the end is torn
        buffer[: len(data)] = data
        return len(data)


def _article_of_line(line: bytes, item: str, fallback_id: str, limit: int) -> Found:
    try:
        return _article_of_record(_parse_json(decode(line, item), item), item, fallback_id, limit)
    except UnreadableItem as error:
        return _as_unreadable(error, item)


def _article_of_record(value: object, item: str, fallback_id: str, limit: int) -> Found:
    if not isinstance(value, dict):
        return Unreadable(item, "is not a JSON object")
    try:
        return article_from_fields(value, item=item, fallback_id=fallback_id, max_text_bytes=limit)
    except Exception as error:  # as for a file: one record never stops the rest
        return _as_unreadable(error, item)


def _parse_json(text: str, item: str) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise UnreadableItem(item, "is not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise UnreadableItem(item, f"is not JSON: {error}") from None


def _read_page(stream: io.BufferedReader, file: _File, limit: int) -> Iterator[Found]:
    import trafilatura  # half a second, and only pages need it

    tree = _page_tree(decode_page(_whole(stream, file, limit), file.item), file.item)
    page = tree is not None and trafilatura.bare_extraction(
        tree, with_metadata=True, include_comments=False
    )
    if not (page and page.text and page.text.strip()):
        raise UnreadableItem(file.item, "no article text was found in the page")
    text = normalise_text("\n\n".join(page.text.split("\n")))
    title = normalise_line(page.title or "")
    body = text.removeprefix(title).lstrip("\n") if text.startswith(f"{title}\n") else text
    fields = {
        "title": title,
        "text": body,
        "source": page.sitename,
        "author": (page.author or "").replace("; ", ", "),
        "url": page.url,
        "published_at": page_date(tree, page.url) or dateline(text, ""),
    }
    yield _article(fields, file, limit)


def _page_tree(text: str, item: str) -> Any:
    """The page's tree, None if it is no page. UnreadableItem where the parser would leave out some
    of it without a word, or where it would take minutes."""
    from trafilatura.utils import HTML_PARSER, load_html

    if _LONG_TAG.search(text):
        raise UnreadableItem(item, f"a tag has more than {MAX_TAG_ATTRIBUTES:,} attributes")
    tree = load_html(text)
    for error in HTML_PARSER.error_log:
        if error.type_name == "ERR_RESOURCE_LIMIT":
            reason = error.message.partition(",")[0]
            raise UnreadableItem(item, f"cannot be read to its end: {reason}")
    elements = 0 if tree is None else sum(1 for _ in tree.iter())
    if elements > MAX_PAGE_ELEMENTS:
        reason = f"has {elements:,} elements, over the limit of {MAX_PAGE_ELEMENTS:,}"
        raise UnreadableItem(item, reason)
    return tree


READERS: dict[str, Callable[[io.BufferedReader, _File, int], Iterator[Found]]] = {
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".txt": _read_text,
    ".text": _read_text,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".html": _read_page,
    ".htm": _read_page,
}
