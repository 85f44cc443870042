"""Dates and periods in a question: a grammar of expressions finds them, dateparser reads them.

A misreading is worse than a miss. A word that is also something else ("may", "march", "2000")
counts only where the words around it leave no doubt. dateparser alone would find dates in most
questions that have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice

from rag.days import ANY_MONTH, COUNT, DAY, MONTH, QUARTERS, UNIT, WEEKDAY, YEAR, Days, days_of
from rag.types import AskedPeriod

PERIODS_MOST = 4
EXPRESSIONS_MOST = 16
"""A text with more periods than that, or words that may be some, was pasted and not asked; none of
them is taken."""

LEAD_CHARACTERS = 48
"""How far before a date the words that belong to it may begin."""

_GATE = re.compile(
    rf"[0-9]{{4}}|\b(?:{ANY_MONTH}|{WEEKDAY}|yesterday|today|ago|this|last|past|previous)\b",
    re.IGNORECASE,
)
"""What every expression holds one of; a question without it is not looked at further."""

# In the order in which they are tried; the name of the group is the kind.
_KINDS = (
    rf"(?P<iso>{YEAR}-[01][0-9]-[0-3][0-9])",
    rf"(?P<dated>{ANY_MONTH} {DAY},? {YEAR}|{DAY} (?:of )?{ANY_MONTH},? {YEAR})",
    rf"(?P<monthly>{ANY_MONTH},? (?:of )?{YEAR})",
    rf"(?P<day>{ANY_MONTH} {DAY}|{DAY} (?:of )?{ANY_MONTH})",
    rf"(?P<quarter>(?:q[1-4]|(?:{'|'.join(QUARTERS)}) quarter) (?:of )?{YEAR})",
    r"(?P<decade>(?:1[89]|20)[0-9]0s)",
    rf"(?P<year>{YEAR})",
    rf"(?P<ago>(?:{COUNT}|an?) {UNIT}s? ago)",
    rf"(?<=\bthe\s)(?P<span>(?:last|past|previous) (?:{COUNT} {UNIT}s?|{UNIT}))",
    rf"(?P<nearest>(?:last|this) (?:{MONTH}|{WEEKDAY}))",
    r"(?P<unit>(?:this|last) (?:week|month|year)|last weekend)",
    r"(?P<near>yesterday|today)",
    rf"(?P<weekday>{WEEKDAY})",
    rf"(?P<month>{MONTH})",
)
_POINT = re.compile(
    # no part of a greater number, an amount, an address or a compound
    rf"(?<![\w$€£¥#/@.])(?<!(?<!mid)-)(?<![0-9],)(?:{'|'.join(_KINDS)})(?![\w%°€/]|[,.:][0-9]|-\w)".replace(
        " ", r"\s+"
    ),
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:(?<!\w)(?P<cue>in|on|at|of|over|since|before|prior\s+to|after|during|within|throughout"
    r"|until|till|by|from|between)\s+)?"
    r"(?:(?P<edge>(?:the\s+)?(?:end|start|beginning|middle)\s+of|early|late|mid)[\s-]+)?"
    rf"(?:{WEEKDAY},?\s+)?"
    r"(?P<the>the\s+)?$",
    re.IGNORECASE,
)
_JOINT = re.compile(r"\s+(?:and|to|until|till|through)\s+|\s*[-–—]\s*", re.IGNORECASE)
_OWNER = re.compile(r"\b(?:the|his|her|its|their|my|our|your|that)\s+$", re.IGNORECASE)
_COUNTED = re.compile(
    r"\s*-?\s*(?:(?!was|is|has|does|as|this|its|his|us|thus)[a-z]+s|people|men|women|children"
    r"|police|dead|more|other|new|km|kg|m|percent|per|euro|million|billion|or|of)\b"
)
"""After a number that counts something: "in 2000 villages" names no year."""

_NUMBER_FOLLOWS = re.compile(r",?\s+(?:of\s+)?[0-9]")
_DATE_FOLLOWS = re.compile(rf",?\s+(?:the\s+)?(?:{ANY_MONTH}|[0-9])", re.IGNORECASE)
_GOES_ON = re.compile(r"\s+[A-Z]|['’]s\b")
_ENDS = re.compile(r"\s*(?:[?.,;:!)]|$)")
_SENTENCE_START = re.compile(r"(?:^|[.?!:]\s)\W*$")

_WORDS = frozenset(["march", "may"])
"""Months that are other words too."""

_NAMES = frozenset(["april", "june", "august"])
"""Months that are names of people too."""

_EVENTS = frozenset([(1, 6), (9, 11), (10, 7)])
"""Month and day that stand for what happened on them, whatever year it is now."""

_COMPARED = re.compile(r"(?:\b(?:time|first|most|worst|ever)|est)\s+since\s+", re.IGNORECASE)
"""Before "since" in "for the first time since 2020", which is no period."""

_PAST = re.compile(r"\b(?:did|was|were|has|have|had|said|[a-z]+ed)\b", re.IGNORECASE)
_PRESENT = re.compile(r"\b(?:is|are|am|does|do|can|still|than)\b|['’](?:s|re)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Point:
    """An expression, its kind, and what leads to it: `start` is where that begins."""

    kind: str
    words: str
    match: re.Match[str]
    cue: str
    edge: str
    the: bool
    start: int

    @property
    def question(self) -> str:
        return self.match.string

    @property
    def end(self) -> int:
        return self.match.end()

    @property
    def before(self) -> str:
        """What stands before the expression, as far as it can belong to it."""
        start = self.match.start()
        return self.question[max(0, start - LEAD_CHARACTERS) : start]


def find_periods(
    question: str, asked: date, taken: Sequence[tuple[int, int]] = ()
) -> tuple[AskedPeriod, ...]:
    """The periods that `question` names, in the order of the text; relative ones count from the
    day `asked`. What overlaps a place in `taken` is passed over. Any text is safe."""
    if not _GATE.search(question):
        return ()
    found: list[AskedPeriod] = []
    if len(points := _points(question, taken)) > EXPRESSIONS_MOST:
        return ()
    at = 0
    while at < len(points):
        pair = _pair(points[at : at + 2])
        days = _range(points[at], points[at + 1], asked) if pair else _single(points[at], asked)
        last = points[at + 1] if pair else points[at]
        if days is not None and _is_past(days, asked):
            free_from = found[-1].end if found else 0
            found.append(_asked_period(points[at], last.end, days, free_from))
        if len(found) > PERIODS_MOST:
            return ()
        at += 2 if pair else 1
    return tuple(found)


def _is_past(days: Days, asked: date) -> bool:
    """Whether anything can have been published then and not at another time."""
    return days.first <= asked if days.first else days.last < asked


def _points(question: str, taken: Sequence[tuple[int, int]]) -> list[_Point]:
    matches = _POINT.finditer(question)
    free = (m for m in matches if all(m.end() <= a or b <= m.start() for a, b in taken))
    return [_point(match) for match in islice(free, EXPRESSIONS_MOST + 1)]


def _point(match: re.Match[str]) -> _Point:
    begin = max(0, match.start() - LEAD_CHARACTERS)
    lead = _LEAD.search(match.string, begin, match.start())
    assert lead is not None  # it may be empty
    parts = {name: (text or "").lower() for name, text in lead.groupdict().items()}
    return _Point(
        kind=match.lastgroup or "",
        words=" ".join(match[0].lower().split()),
        match=match,
        cue=parts["cue"],
        edge=parts["edge"],
        the=bool(parts["the"]),
        start=lead.start(),
    )


def _pair(points: Sequence[_Point]) -> bool:
    """Whether two points are the ends of one period: "between May and June 2025"."""
    if len(points) < 2 or points[0].cue not in ("between", "from"):
        return False
    between = points[0].question[points[0].end : points[1].match.start()]
    return _JOINT.fullmatch(between) is not None and not _is_counted(points[1])


def _range(one: _Point, other: _Point, asked: date) -> Days | None:
    last = days_of(other.words, asked, other.kind)
    words, year = one.words, re.search(YEAR, other.words)
    if year and one.kind in ("day", "month"):
        words = f"{words} {year[0]}"
    first = days_of(words, asked, one.kind)
    if first is None or last is None or first.first is None or first.first > last.last:
        return None
    return Days(first.first, last.last)


def _single(point: _Point, asked: date) -> Days | None:
    if not (_is_clear(point) and _ACCEPTED[point.kind](point)):
        return None
    days = days_of(point.words, asked, point.kind)
    if days is None or days.first is None:
        return None
    if point.kind == "day" and (days.first.month, days.first.day) in _EVENTS:
        return None
    return _bounded(point, days.first, days.last, asked)


def _is_clear(point: _Point) -> bool:
    """Whether what leads to an expression says at all when something was published."""
    if point.cue == "since" and _COMPARED.search(point.before):
        return False
    # "how many died by May" is told afterwards
    return point.cue != "between" and (point.cue != "by" or bool(point.edge))


def _bounded(point: _Point, first: date, last: date, asked: date) -> Days | None:
    """The days that a cue such as "since" or "before the end of" makes of a period."""
    starts = "start" in point.edge or "beginning" in point.edge
    ends = "end" in point.edge
    try:
        if point.cue == "since":
            days = Days(last if ends else first, asked)
        elif point.cue == "after":
            days = Days(first if starts else last + timedelta(days=1), asked)
        elif point.cue.startswith(("before", "prior")):
            days = Days(None, last if ends else first - timedelta(days=1))
        elif point.cue in ("until", "till", "by"):
            days = Days(None, first if starts else last)
        else:
            return Days(first, last)
    except OverflowError:
        return None
    return days if days.first is None or days.first <= days.last else None


def _accept_monthly(point: _Point) -> bool:
    month = point.match[0].split()[0]
    if month.lower() not in (*_WORDS, *_NAMES, "mar"):
        return True
    return bool(point.cue) or (month[0].isupper() and not _starts_sentence(point))


def _accept_day(point: _Point) -> bool:
    # "the March 23 Movement", but "on the 20th of November"
    ordinal = point.words[0].isdigit() and not point.words.split()[0].isdigit()
    if (point.the and not ordinal) or _NUMBER_FOLLOWS.match(point.question, point.end):
        return False
    return point.cue not in ("", "of", "in", "over")


def _accept_year(point: _Point) -> bool:
    if point.the or _is_counted(point):
        return False
    return bool(point.edge) or point.cue not in ("", "of", "on", "at", "over", "within")


def _accept_month(point: _Point) -> bool:
    if not (point.cue or point.edge) or point.the or point.cue in ("of", "on", "at", "over"):
        return False
    rest = point.question[point.end :]
    if _NUMBER_FOLLOWS.match(rest):
        return False
    if point.words in _WORDS:
        clear = point.match[0][0].isupper() and point.cue in ("in", "during", "throughout")
        return not _GOES_ON.match(rest) if clear else _ENDS.match(rest) is not None
    return not (point.words in _NAMES and _GOES_ON.match(rest))


def _accept_weekday(point: _Point) -> bool:
    if _DATE_FOLLOWS.match(point.question, point.end):
        return False
    return point.cue in ("on", "since", "until", "till") and not point.the


def _accept_ago(point: _Point) -> bool:
    lead = point.before.rstrip().lower()
    return not lead.endswith((" than", " over", " nearly", " almost"))


def _accept_span(point: _Point) -> bool:
    """ "in the past three days"; not "in the last week of the war"."""
    if re.match(r"\s+of\b", point.question[point.end :]) or _is_title(point):
        return False
    return point.cue in ("in", "over", "during", "within")


def _accept_unit(point: _Point) -> bool:
    of = re.match(r"\s+of\b", point.question[point.end :])
    return not (of or _is_owned(point) or _is_title(point))


def _accept_nearest(point: _Point) -> bool:
    name = point.match[0].split()[1]
    rest = point.question[point.end :]
    return _accept_unit(point) and (name not in _WORDS or _ENDS.match(rest) is not None)


def _accept_near(point: _Point) -> bool:
    before = point.before.rstrip().lower()
    if _is_title(point) or before.endswith("ago"):
        return False
    if point.words == "yesterday":
        return True
    # Where nothing has happened yet, "today" is "in our time".
    return _PAST.search(point.question) is not None and not _PRESENT.search(point.question)


_ACCEPTED: Mapping[str, Callable[[_Point], bool]] = {
    "iso": lambda _: True,
    "dated": lambda _: True,
    "monthly": _accept_monthly,
    "day": _accept_day,
    "quarter": lambda _: True,
    "decade": lambda point: point.the and point.cue in ("in", "during", "since", "before", "after"),
    "year": _accept_year,
    "ago": _accept_ago,
    "span": _accept_span,
    "nearest": _accept_nearest,
    "unit": _accept_unit,
    "near": _accept_near,
    "weekday": _accept_weekday,
    "month": _accept_month,
}
"""By kind, whether the words around an expression leave no doubt."""


def _is_counted(point: _Point) -> bool:
    year = point.kind == "year"
    return year and _COUNTED.match(point.question, point.end) is not None


def _is_owned(point: _Point) -> bool:
    return _OWNER.search(point.before) is not None


def _starts_sentence(point: _Point) -> bool:
    return _SENTENCE_START.search(point.before) is not None


def _is_title(point: _Point) -> bool:
    """Whether it is written as a name is: "USA Today", "Last Week Tonight"."""
    first, *others = point.match[0].split()
    if any(word[0].isupper() for word in others if word.lower() not in _CAPITAL):
        return True
    return first[0].isupper() and not _starts_sentence(point)


_CAPITAL = frozenset(re.findall(r"[a-z]+", f"{MONTH} {WEEKDAY}"))
"""Words that English writes with a capital."""


def _asked_period(point: _Point, end: int, days: Days, free_from: int) -> AskedPeriod:
    """What leads to an expression is its own unless the one before has it."""
    start = point.start if point.start >= free_from else point.match.start()
    first = days.first.isoformat() if days.first else None
    return AskedPeriod(point.question[start:end], start, end, first, days.last.isoformat())
