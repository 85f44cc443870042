"""Title and date of a plain text that says neither in so many fields.

A date is believed only where nothing else can be meant: in the file's name, or on a line of its
own near the start or the end. A date inside running text is never taken, and one that can be
read in two ways, such as 03/04/2025, is left alone: undated is better than wrongly dated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from itertools import islice
from typing import Any

from rag.dates import parse_iso

TITLE_LINE_CHARACTERS = 200  # a longer first line is a paragraph, not a title
CUT_TITLE_CHARACTERS = 120
HEAD_LINES, TAIL_LINES = 6, 3  # lines with something on them where a dateline may stand
DATE_LINE_CHARACTERS = 80
# Outside these years a four-digit number is rather an amount, or a year of another calendar
# (2568 is 2025 in Thailand, 1447 in the Hijri calendar).
FIRST_YEAR, LAST_YEAR = 1600, 2199

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY, _YEAR = r"(?P<day>\d{1,2})", r"(?P<year>\d{4})"
_FORMS = tuple(
    re.compile(rf"(?<![\w./-]){form}(?!\w|[./-]\d)", re.IGNORECASE)
    for form in (
        rf"{_MONTH} {_DAY}(?:st|nd|rd|th)?,? {_YEAR}",
        rf"{_DAY}(?:st|nd|rd|th|\.)?[ -](?:of )?{_MONTH},?[ -]{_YEAR}",
        rf"{_YEAR}(?P<sign>[-/.])(?P<month>\d{{1,2}})(?P=sign){_DAY}(?:T[\d:.]+(?:Z|[+-][\d:]+)?)?",
        rf"{_YEAR} ?[年년] ?(?P<month>\d{{1,2}}) ?[月월] ?{_DAY} ?[日일]",
        rf"(?P<one>\d{{1,2}})(?P<sign>[-/.])(?P<two>\d{{1,2}})(?P=sign){_YEAR}",
    )
)
_LABEL = re.compile(
    r"(?:first )?(?:published|posted|issued|released|publication date|release date|pubdate|date)"
    r"(?: online)?(?: on)?(?: ?:)? ",
    re.IGNORECASE,
)
_WEEKDAY = re.compile(
    r"(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?[.,]{0,2} $", re.IGNORECASE
)
_AGENCY = r"[(（][^()（）\d]{1,40}[)）]"
_PLACE = re.compile(
    rf"(?P<name>[^\W\d_][^\d()!?;:\"]{{0,59}}?) ?(?:{_AGENCY} ?)?"
    r"(?:,|[|·]|[-–—]{1,2}|(?<=\)) ?) ?"
)
_HOUR = (
    r"(?:\d{1,2}(?:[:.]\d{2}){1,2} ?(?:[ap]\.?m\b\.?|h|uhr|Z)?|\d{1,2} ?(?:[ap]\.?m\b\.?|h|uhr))"
)
_ZONE = r"\(?(?-i:[A-Z]{2,4}\b(?:[+-]\d{1,2})?|[+-]\d{2}:?\d{2})\)?"
_TAIL = re.compile(
    rf"\.?(?:(?:,| at|,? [-–—|·])? ?{_HOUR}(?: ?{_ZONE})?)?(?:,? ?{_AGENCY})?\.?"
    r"(?: ?(?:[-–—]{1,2}|[:|]))?",
    re.IGNORECASE,
)
# Words that make a line something else than the place and day of writing.
_NO_PLACE = re.compile(
    r"accessed|archived|born|corrected|deadline|died|edited|expires|last|modified|retrieved|revised"
    r"|since|until|updated",
    re.IGNORECASE,
)
_SMALL_WORD = re.compile(r"al|and|das?|de[lnr]?|d[io]|du|el|l[ae]s?|los|o[fn]|the|und|[dy]")
_FILE_DATE = re.compile(
    r"(?<!\d)(?:(\d{4})([-_])(\d{2})\2(\d{2})|((?:19|20)\d{2})(\d{2})(\d{2}))(?!\d)"
)
_HEADING = re.compile(r"\A#{1,6}\s+")
_WORD = r"[^\s\d.,:]+\.?"  # vowel signs of Indic scripts are no \w
_FOREIGN_SHAPES = tuple(
    re.compile(shape)
    for shape in (
        rf"(?:{_WORD},? ){{0,2}}{_DAY}[^\W\d]{{0,3}}\.?(?: {_WORD}){{1,3}},? {_YEAR}"
        r"(?: ?\w{1,3}\.?)?",
        rf"(?:{_WORD},? ){{1,3}}{_DAY},? {_YEAR}",
        rf"{_YEAR}\.?(?: {_WORD}){{1,2}} {_DAY}\.?(?: \w{{1,2}}\.?)?",
    )
)
_FOREIGN_TIME = re.compile(rf",?(?: {_WORD})? \d{{1,2}}[:.h]\d{{2}}(?: \w{{1,4}})?$")
# Names under which a page says when it was published; times of change are not among them.
_PUBLISHED_NAME = re.compile(
    r"(?:og:)?(?:article[:.])?(?:published(?:[:_-]?(?:time|date))?|publish[_-]?date)|(?:pub_?)?date"
    r"|(?:citation_)?publication[_-]?date|date[_-]?published|parsely-pub-date|sailthru\.date"
    r"|dc(?:terms)?[.:](?:date|issued|date\.issued)",
    re.IGNORECASE,
)
_JSON_PUBLISHED = re.compile(r'"datePublished"\s*:\s*"([^"]{8,40})"')
_ADDRESS_DATE = re.compile(r"[/_-](\d{4})([/_-])(\d{2})\2(\d{2})(?=[/_-]|$)")
_TIMES = (
    "//time[@datetime][not(ancestor::nav or ancestor::aside or ancestor::footer or ancestor::li"
    " or ancestor::td or ancestor::blockquote or ancestor::figcaption)]"
)
_INLINE = frozenset({"a", "abbr", "b", "em", "i", "small", "span", "strong"})
BYLINE_CHARACTERS = 40  # around a <time>; more is running text


def first_line_title(text: str) -> tuple[str, str]:
    """Title and remaining text of a normalised `text`.

    The first line that is more than a date is the title, and leaves the text, if it has at most
    200 characters and more text follows. Otherwise the text stays whole and the title is the
    line cut at a word to at most 120 characters. Both are empty for an empty text.
    """
    lines = list(islice(re.finditer(r"\S[^\n]*", text), 3))
    if not lines:
        return "", text
    line = next((each for each in lines if not line_date(each[0])), lines[0])
    title = " ".join(_HEADING.sub("", line[0].strip()).split())
    before, after = text[: line.start()].rstrip(), text[line.end() :].lstrip("\n")
    if after.strip() and len(title) <= TITLE_LINE_CHARACTERS:
        return title, f"{before}\n\n{after}" if before else after
    return _cut(title), text


def dateline(text: str, file_name: str) -> str | None:
    """ISO date from `file_name`, else from a line of `text` that is nothing but a dateline.

    Only the first 6 and the last 3 lines that are not empty are looked at. None if there is no
    date, or none beyond doubt.
    """
    found = _file_date(file_name)
    return found or next((iso for line in _edges(text) if (iso := line_date(line))), None)


def line_date(line: str) -> str | None:
    """ISO date of a line that is nothing but a date, with or without place, agency and time.

    English and all-number dates are read by rule, other languages by dateparser.
    """
    if len(line) > DATE_LINE_CHARACTERS * 2 or not re.search(r"\d{4}", line):
        return None
    plain = " ".join(line.replace("*", "").split()).strip("#>_| ")
    if len(plain) > DATE_LINE_CHARACTERS:
        return None
    for form in _FORMS:
        for match in form.finditer(plain):
            if _is_lead(plain[: match.start()]) and _TAIL.fullmatch(plain, match.end()):
                return _matched_date(match)
    return _foreign_date(plain)


def page_date(tree: Any, url: str | None) -> str | None:
    """ISO date or date-time at which a parsed page says that it was published, or None.

    This is not the page library's answer, which reads dates out of running text, takes the day
    of a change for want of another, and knows no year before 1990. `url` is the page's address.
    """
    for value in _date_marks(tree, url or ""):
        try:
            found: str | None = parse_iso(value).iso
        except ValueError:
            found = line_date(value)
        if found and FIRST_YEAR <= int(found[:4]) <= LAST_YEAR:  # year 1 stands for no date
            return found
    return None


def _cut(title: str) -> str:
    if len(title) <= CUT_TITLE_CHARACTERS:
        return title
    kept = title[:CUT_TITLE_CHARACTERS]  # one more than fits, so that a word may end there
    shorter = kept.rpartition(" ")[0].rstrip(" ,;:–—-")
    return (shorter or kept[:-1]) + "…"


def _file_date(file_name: str) -> str | None:
    for match in _FILE_DATE.finditer(file_name):
        year, _, month, day, *compact = match.groups()
        parts = (year, month, day) if year else compact
        if found := _valid(*map(int, parts)):
            return found.isoformat()
    return None


def _edges(text: str) -> Iterator[str]:
    """The lines of `text` where a dateline may stand, without splitting all of a long text."""
    wide = 4  # blank lines between paragraphs are common: look at more lines than are wanted
    head = text.split("\n", HEAD_LINES * wide)[: HEAD_LINES * wide]
    yield from islice((line for line in head if line.strip()), HEAD_LINES)
    tail = text.rsplit("\n", TAIL_LINES * wide)[-TAIL_LINES * wide :]
    yield from [line for line in tail if line.strip()][-TAIL_LINES:]


def _is_lead(lead: str) -> bool:
    """Whether `lead`, what stands before a date, is a label, a place, a weekday or nothing."""
    rest = _WEEKDAY.sub("", lead)
    if not rest or _LABEL.fullmatch(rest):
        return True
    place = _PLACE.fullmatch(rest)
    return place is not None and _is_place(place["name"])


def _is_place(name: str) -> bool:
    words = re.findall(r"[^\W\d_]+", name)
    return len(words) <= 5 and all(
        _SMALL_WORD.fullmatch(word) or not (word[0].islower() or _NO_PLACE.fullmatch(word))
        for word in words
    )


def _matched_date(match: re.Match[str]) -> str | None:
    """ISO date of a match of one of `_FORMS`; None if there is no such day, or are two."""
    parts = match.groupdict()
    year = int(parts["year"])
    if "one" in parts:
        one, two = int(parts["one"]), int(parts["two"])
        days = {day for day in (_valid(year, one, two), _valid(year, two, one)) if day}
        return days.pop().isoformat() if len(days) == 1 else None
    month = parts["month"]
    number = int(month) if month.isdecimal() else _MONTHS.index(month[:3].lower()) + 1
    day = _valid(year, number, int(parts["day"]))
    return day.isoformat() if day else None


def _valid(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day) if FIRST_YEAR <= year <= LAST_YEAR else None
    except ValueError:
        return None


def _foreign_date(line: str) -> str | None:
    """ISO date of a line such as "Genève, le 20 novembre 2025"; None if it is anything else."""
    line = _FOREIGN_TIME.sub("", line)
    place, comma, rest = line.rpartition(", ")
    for text in (line, rest) if comma and _is_place(place) else (line,):
        shape = next((found for each in _FOREIGN_SHAPES if (found := each.fullmatch(text))), None)
        if shape and (day := _parse_foreign(text)) and day.year == int(shape["year"]):
            return day.isoformat() if day.day == int(shape["day"]) else None
    return None


def _parse_foreign(text: str) -> date | None:
    import dateparser  # type: ignore[import-untyped]  # half a second, and rarely needed

    settings = {
        "PARSERS": ["absolute-time"],
        "REQUIRE_PARTS": ["day", "month", "year"],
        "STRICT_PARSING": True,
    }
    try:
        moment = dateparser.parse(text, settings=settings)
    except Exception:  # whatever it stumbles over is no date
        return None
    return _valid(moment.year, moment.month, moment.day) if moment else None


def _date_marks(tree: Any, url: str) -> Iterator[str]:
    for meta in tree.iterfind(".//meta[@content]"):
        name = meta.get("property") or meta.get("name") or meta.get("itemprop") or ""
        if _PUBLISHED_NAME.fullmatch(name):
            yield meta.get("content")
    for script in tree.iterfind(".//script[@type='application/ld+json']"):
        yield from _JSON_PUBLISHED.findall(script.text or "")
    times = [time for time in tree.xpath(_TIMES) if "updated" not in time.get("class", "")]
    yield from (time.get("datetime") for time in times if time.get("itemprop") == "datePublished")
    yield from ("-".join(found.group(1, 3, 4)) for found in _ADDRESS_DATE.finditer(url))
    yield from (time.get("datetime") for time in times if _is_byline(time))


def _is_byline(time: Any) -> bool:
    """Whether a <time> stands by itself or in a byline, rather than in running text."""
    block = next((each for each in time.iterancestors() if each.tag not in _INLINE), time)
    if block.tag == "p":
        return line_date(" ".join(block.text_content().split())) is not None
    around = filter(None, [block.text, *(child.tail for child in block)])
    return len(" ".join(" ".join(around).split())) <= BYLINE_CHARACTERS
