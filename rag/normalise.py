"""One form for every text, fixed before any offset is counted, and articles from loose fields.

`NORMALISER` names the rules; an archive remembers it, since other rules would move offsets.
"""

from __future__ import annotations

import codecs
import hashlib
import math
import re
import sys
import unicodedata
from collections.abc import Mapping
from datetime import date
from functools import cache
from urllib.parse import urlsplit, urlunsplit

from rag.dates import parse_iso
from rag.errors import UnreadableItem
from rag.types import Article, IdentifiedBy

NORMALISER = "nfc-1"
# Every citation brings these along, so that one of megabytes makes every answer as long.
MAX_CHARACTERS = {"title": 1_000, "source": 1_000, "author": 4_000, "url": 4_000}
MAX_REASON_CHARACTERS = 300

UTF8_MARK, UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")

_LINE_END = re.compile("\r\n|[\r\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LEADING = re.compile(r"[\s\ufeff]*")
# NFC takes time square in the length of a run of marks on one letter. Unicode's Stream-Safe Text
# Format (UAX 15, section 13) allows 30 and parts longer runs with U+034F, which is not seen.
_MARKS_IN_A_RUN = 30
_PART = "\u034f"

STRAY_CHARACTERS = 200  # per byte that a page's declared charset does not know
_PAGE_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)
# The encodings that pages are written in. Python knows more under such names, some of them
# programs rather than encodings, and one that takes time square in the length.
_PAGE_ENCODING = re.compile(
    r"(?:utf-?8|iso-?(?:8859|2022)-\w+|latin-?\d|(?:windows|cp)-?\d+|koi8-[ru]|gb\d+|gbk|big5\w*"
    r"|euc-\w+|(?:shift|s)[_-]?jis|mac\w*|tis-620|us-ascii)(?:-\w+)?",
    re.IGNORECASE,
)

_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_ID_HEX_DIGITS = 32
_ID_MAX_BITS = 4_096  # Python refuses to write much longer numbers in decimal
_ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "_id"),
    "title": ("title",),
    "text": ("text", "body", "content"),
    "source": ("source",),
    "author": ("author", "authors"),
    "url": ("url", "link"),
    "published_at": ("published_at", "date", "published"),
}
# Never `date`: in such records it is as often the day of a crawl or of an update.
_FROM_METADATA = ("title", "source", "author", "url", "published_at")
_KINDS = (
    (bool, "true or false"),  # before numbers: it is one of them
    (int | float, "a number"),
    (str, "text"),
    (list, "a list"),
    (date, "a date"),
    (Mapping, "an object"),
)


def decode(data: bytes, item: str) -> str:
    """UTF-8, or UTF-16 with a byte order mark; UnreadableItem for anything else."""
    encoding = "utf-16" if data[:2] in UTF16_MARKS else "utf-8"
    try:
        text = data.removeprefix(UTF8_MARK).decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in data and encoding == "utf-8":
            raise UnreadableItem(item, "looks like a binary file") from None
        raise UnreadableItem(item, not_text(error, encoding)) from None
    if "\0" in text:
        raise UnreadableItem(item, "looks like a binary file")
    return text


def not_text(error: UnicodeDecodeError, encoding: str) -> str:
    """The reason that names the first byte that does not fit, and what to do about it."""
    found = f"is not {encoding.upper()} (byte 0x{error.object[error.start]:02x} at {error.start})"
    if encoding != "utf-8":
        return found
    return f"{found}; convert it first, for example: iconv -f WINDOWS-1252 -t UTF-8"


def decode_page(data: bytes, item: str) -> str:
    """A page as text: UTF-8 if it is that, else in the charset it declares.

    UnreadableItem if it is neither: what a library guesses from the bytes is often wrong, and
    nobody would notice. As in a browser, a few stray bytes in a declared charset become U+FFFD.
    """
    if data[:2] in UTF16_MARKS or b"\0" in data:
        return decode(data, item)
    declared = _declared_encoding(data)
    problem = f"is not in the charset it declares, {declared}"
    if not declared.startswith("iso-2022"):  # seven bits, so it would pass for UTF-8
        try:
            return data.removeprefix(UTF8_MARK).decode()
        except UnicodeDecodeError as error:
            problem = not_text(error, "utf-8")
    if declared:
        text = data.decode(declared, "replace")
        if text.count("\ufffd") * STRAY_CHARACTERS <= len(text):
            return text
    raise UnreadableItem(item, problem)


def _declared_encoding(data: bytes) -> str:
    """Python's name of the charset that a page declares; empty for none that is known."""
    declared = _PAGE_CHARSET.search(data[:4096])
    name = declared[1].decode().lower() if declared else ""
    if name in ("iso-8859-1", "latin1"):  # as in a browser, its superset is meant
        return "cp1252"
    try:
        return name if _PAGE_ENCODING.fullmatch(name) and codecs.lookup(name) else ""
    except LookupError:
        return ""


def normalise_text(text: str) -> str:
    r"""`text` in NFC with `\n` line ends, without control characters and surplus white space.

    A control character other than `\n` and `\t` becomes a space, a lone surrogate U+FFFD. The
    white space that ends a line, the blank lines at both ends and a byte order mark go. The
    result can be encoded as UTF-8, and normalising it again changes nothing.
    """
    text = _LINE_END.sub("\n", text)
    text = _CONTROL.sub(" ", text)
    if not text.isascii():
        text = _compose(_SURROGATE.sub("\ufffd", text))
    text = "\n".join([line.rstrip() for line in text.split("\n")]).rstrip()
    body = text[_leading(text) :]
    if not body:
        return ""
    indent = text[: len(text) - len(body)].rpartition("\n")[2]
    return indent.replace("\ufeff", "") + body


def normalise_line(text: str) -> str:
    """`text` normalised and on one line: each run of white space is one space, none at the ends."""
    return " ".join(normalise_text(text).split())


def article_from_fields(
    fields: Mapping[str, object],
    *,
    item: str,
    fallback_id: str | None = None,
    max_text_bytes: int,
) -> Article:
    """The article that `fields` describe; unknown fields are passed over.

    `item` names it in errors. `fallback_id` is its id if it has neither id nor url. A record in
    BEIR form may hold fields in `metadata`. Raises UnreadableItem: a field of the wrong type, a
    date that is none, no title and no text, a text of more than `max_text_bytes` in UTF-8, or
    another field that is too long.
    """
    fields = _with_metadata(fields)
    title = _line(fields, "title", item) or ""
    text = _limited_text(_string(fields, "text", item) or "", item, max_text_bytes)
    if not (title or text):
        raise UnreadableItem(item, "has neither a title nor a text")
    url = _line(fields, "url", item)
    id_, identified_by = _identify(_given_id(fields, item), url, fallback_id)
    return Article(
        id=id_ or _digest(f"{title}\n{text}"),
        title=title,
        text=text,
        source=_line(fields, "source", item),
        author=_author(fields, item),
        url=url,
        published_at=_published_at(fields, item),
        identified_by=identified_by,
        origin=item,
    )


def path_id(place: str | bytes) -> str:
    """The id of an article known by its place alone: an absolute path, or one and a position."""
    return _digest(place)


def short_reason(reason: str) -> str:
    """`reason` as one line of at most 300 characters."""
    line = normalise_line(reason[: MAX_REASON_CHARACTERS * 4])
    return line if len(line) <= MAX_REASON_CHARACTERS else line[: MAX_REASON_CHARACTERS - 1] + "…"


def megabytes(size: int) -> str:
    """`size` in bytes, for people: in MB of 1,048,576 bytes, rounded up, or in bytes below one."""
    unit = 1024 * 1024
    return f"{math.ceil(size * 10 / unit) / 10:,.1f} MB" if size >= unit else f"{size:,} bytes"


def _leading(text: str) -> int:
    """How many characters of white space and byte order marks `text` begins with."""
    found = _LEADING.match(text)
    return found.end() if found else 0


def _compose(text: str) -> str:
    """`text` in NFC, long runs of marks parted, in time linear in its length."""
    likely, sure = _long_runs()
    while likely.search(text) and sure.search(text):
        # again, since a letter can come apart into several marks
        text = unicodedata.normalize("NFC", sure.sub(_parted, text))
    return unicodedata.normalize("NFC", text)


def _parted(run: re.Match[str]) -> str:
    marks = run[0]
    starts = range(0, len(marks), _MARKS_IN_A_RUN)
    return _PART.join(marks[start : start + _MARKS_IN_A_RUN] for start in starts)


@cache
def _long_runs() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """More marks in a row than are allowed: what NFC sorts, or takes apart into such.

    The first also finds runs of anything beyond U+FFFF. It is a class of characters that `re`
    looks up in a table; for the second, the exact one, it goes through a list.
    """
    marks = "".join(each for each in map(chr, range(sys.maxunicode + 1)) if _is_mark(each))
    others = re.sub(f"[{marks}]", "", "".join(map(chr, range(0x10000))))
    many = f"{{{_MARKS_IN_A_RUN + 1},}}"
    return re.compile(f"[^{re.escape(others)}]{many}"), re.compile(f"[{marks}]{many}")


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) != 0 or character in "\u0f73\u0f75\u0f81"


def _given(fields: Mapping[str, object], field: str) -> tuple[str, object] | None:
    """Name and value of the first of a field's names that holds anything."""
    for name in _ALIASES[field]:
        value = fields.get(name)
        if not (value is None or value == [] or (isinstance(value, str) and not value.strip())):
            return name, value
    return None


def _with_metadata(fields: Mapping[str, object]) -> Mapping[str, object]:
    """`fields`, and what only their `metadata` holds; there, a value of no use is passed over."""
    metadata = fields.get("metadata")
    if not isinstance(metadata, Mapping):
        return fields
    found: dict[str, object] = {}
    for field in _FROM_METADATA:
        value = metadata.get(field)
        if _given(fields, field) is None and _is_usable(field, value):
            found[field] = value
    return {**fields, **found}


def _is_usable(field: str, value: object) -> bool:
    if field == "author" and isinstance(value, list):
        return all(isinstance(name, str) for name in value)
    if field == "published_at":
        try:
            return isinstance(value, str | date) and parse_iso(_iso(value)) is not None
        except ValueError:
            return False
    return isinstance(value, str)


def _string(fields: Mapping[str, object], field: str, item: str) -> str | None:
    given = _given(fields, field)
    if given is None:
        return None
    name, value = given
    if not isinstance(value, str):
        raise _wrong_type(item, name, "text", value)
    return value


def _line(fields: Mapping[str, object], field: str, item: str) -> str | None:
    return _limited_line(_string(fields, field, item) or "", field, item)


def _limited_line(text: str, field: str, item: str) -> str | None:
    """`text` normalised, None if nothing is left; UnreadableItem if it is over the field's limit
    before or after."""
    limit = MAX_CHARACTERS[field]
    line = normalise_line(text) if len(text) <= limit else text
    if len(line) > limit:
        reason = f"its {field} has {len(line):,} characters, over the limit of {limit:,}"
        raise UnreadableItem(item, reason)
    return line or None


def _limited_text(text: str, item: str, max_text_bytes: int) -> str:
    """`text` normalised; UnreadableItem if it is over the limit before or after."""
    size = _utf8_length(text)
    if size <= max_text_bytes:
        text = normalise_text(text)
        size = _utf8_length(text)
    if size > max_text_bytes:
        over = f"over the limit of {megabytes(max_text_bytes)} (RAG_MAX_TEXT_BYTES)"
        raise UnreadableItem(item, f"its text is {megabytes(size)}, {over}")
    return text


def _author(fields: Mapping[str, object], item: str) -> str | None:
    given = _given(fields, "author")
    if given is None or not isinstance(given[1], list):
        return _line(fields, "author", item)
    names = [normalise_line(name) for name in given[1] if isinstance(name, str)]
    if len(names) < len(given[1]):
        raise UnreadableItem(item, f"its {given[0]} must be text or a list of texts")
    return _limited_line(", ".join(filter(None, names)), "author", item)


def _published_at(fields: Mapping[str, object], item: str) -> str | None:
    given = _given(fields, "published_at")
    if given is None:
        return None
    name, value = given
    if not isinstance(value, str | date):
        raise _wrong_type(item, name, "a date", value)
    try:
        return parse_iso(_iso(value)).iso
    except ValueError as error:
        raise UnreadableItem(item, f"its {name} {error}") from None


def _iso(value: str | date) -> str:
    """What to parse as a date, cut where no date is so long, and so that it is none then."""
    if isinstance(value, date):
        return value.isoformat()
    value = value.strip()
    return value if len(value) <= 60 else value[:60] + "…"


def _given_id(fields: Mapping[str, object], item: str) -> str | None:
    given = _given(fields, "id")
    if given is None:
        return None
    name, value = given
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value.bit_length() <= _ID_MAX_BITS else hex(value)
    if not isinstance(value, str):
        raise _wrong_type(item, name, "text or a whole number", value)
    return value


def _identify(
    given: str | None, url: str | None, fallback_id: str | None
) -> tuple[str | None, IdentifiedBy]:
    """Id and where it comes from; no id if there is nothing but the words themselves."""
    if given is not None:
        fits = _ID.fullmatch(given) and given not in (".", "..")
        return given if fits else _digest(given), IdentifiedBy.CALLER
    if url and (address := _plain_address(url)):
        return _digest(address), IdentifiedBy.ADDRESS
    return fallback_id, IdentifiedBy.PATH


def _plain_address(url: str) -> str:
    """`url` without its fragment, scheme and host in lower case: equal for equal pages."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # no address by the rules, but it names the article all the same
        return url.strip()
    login, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=login + at + host.lower(), fragment=""))


def _digest(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:_ID_HEX_DIGITS]


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _wrong_type(item: str, name: str, wanted: str, value: object) -> UnreadableItem:
    kind = next((words for kind, words in _KINDS if isinstance(value, kind)), "something else")
    return UnreadableItem(item, f"its {name} must be {wanted}, not {kind}")
