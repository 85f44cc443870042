"""Dates and periods in a question: expressions of time, alone or two as the ends of a period.

`expressions` finds them and says which are clear, `days` what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import islice

from rag.days import Days, part_of, readings
from rag.expressions import Expression, find_expressions, is_clear
from rag.types import AskedPeriod

PERIODS_MOST = 4
EXPRESSIONS_MOST = 16
"""A text with more periods than that, or words that may be some, was pasted and not asked; none of
them is taken."""

_JOINT = re.compile(
    r"\s{1,4}(?:and|or|to|until|till|through)\s{1,4}|,\s{1,4}|\s?[-–—]\s?", re.IGNORECASE
)
_LISTING = frozenset(["and", "or", ","])
_UNTIL = frozenset(["until", "till", "through", "up to"])
_YEARLESS = frozenset(["day", "month", "weekday"])
_OF_YEAR = frozenset(["dated", "monthly"])

_EVENTS = frozenset([(1, 6), (9, 11), (10, 7)])
"""Month and day that stand for what happened on them, whatever year it is now."""


def find_periods(
    question: str, asked: date, taken: Sequence[tuple[int, int]] = ()
) -> tuple[AskedPeriod, ...]:
    """The periods that `question` names, in the order of the text; relative ones count from the
    day `asked`. A date that may be read in two ways is given in both. What overlaps a place in
    `taken` is passed over. Any text is safe."""
    expressions = list(islice(find_expressions(question, taken), EXPRESSIONS_MOST + 1))
    if len(expressions) > EXPRESSIONS_MOST:
        return ()
    found: list[AskedPeriod] = []
    places = free_from = 0
    for one, end, read in _places(expressions, asked):
        if past := [days for days in read if _is_past(days, asked)]:
            start = one.start if one.start >= free_from else one.match.start()
            found += [_asked_period(question, start, end, days) for days in past]
            places, free_from = places + 1, end
    return tuple(found) if places <= PERIODS_MOST else ()


def _is_past(days: Days, asked: date) -> bool:
    """Whether anything can have been published then and not at another time."""
    if days.first == date.min:
        return days.last < asked
    return days.first <= min(days.last, asked)


def _asked_period(question: str, start: int, end: int, days: Days) -> AskedPeriod:
    first = None if days.first == date.min else days.first.isoformat()
    return AskedPeriod(question[start:end], start, end, first, days.last.isoformat())


def _places(
    expressions: Sequence[Expression], asked: date
) -> Iterator[tuple[Expression, int, list[Days]]]:
    """Each expression, or the first of two that are the ends of one period; where it ends; its
    days."""
    joints = [*map(_joint, expressions, expressions[1:]), ""]
    expressions, bases = _shared(expressions, joints, asked)
    at = 0
    while at < len(expressions):
        one = expressions[at]
        if joints[at] and _is_range(one, joints[at], expressions[at + 1]):
            other = expressions[at + 1]
            yield one, other.end, _range(one, other, asked)
            at += 2
        else:
            yield one, one.end, _single(one, bases[at], asked)
            at += 1


def _joint(one: Expression, other: Expression) -> str:
    """What joins an expression to the next: a word, a comma or a dash; else nothing."""
    joint = _JOINT.match(one.question, one.end)
    if joint is None or not other.start <= joint.end() <= other.match.start():
        return ""
    return joint[0].strip().lower()


def _shared(
    expressions: Sequence[Expression], joints: Sequence[str], asked: date
) -> tuple[list[Expression], list[date]]:
    """What stands once in a list is of all of it: "in" and the year in "in May and July 2024". The
    expressions with their cues, and the day that each counts from if it names no year."""
    shared, bases = list(expressions), [asked] * len(expressions)
    for at, joint in enumerate(joints[:-1]):
        if joint in _LISTING and shared[at].cue in ("in", "on", "during"):
            shared[at + 1] = replace(shared[at + 1], cue=shared[at + 1].cue or shared[at].cue)
    for at in range(len(joints) - 2, -1, -1):
        if joints[at] in _LISTING and shared[at].kind in _YEARLESS:
            last = shared[at + 1]
            days = readings(last.words, asked, last.kind) if last.kind in _OF_YEAR else []
            bases[at] = days[0].last if days else bases[at + 1]
    return shared, bases


def _is_range(one: Expression, joint: str, other: Expression) -> bool:
    """Whether two expressions are the ends of one period: "between May and June"."""
    if joint in (",", "or") or (other.cue and other.cue not in _UNTIL):
        return False
    if one.cue in ("between", "from"):
        return not other.counts
    of_year = one.kind in _YEARLESS and other.kind in _OF_YEAR
    return joint != "and" and (of_year or one.cue in ("in", "during", "over", "throughout"))


def _range(one: Expression, other: Expression, asked: date) -> list[Days]:
    """Of ends that may be read in two ways the earliest start and the latest end."""
    try:
        ends = [part_of(days, other.part) for days in readings(other.words, asked, other.kind)]
        last = max(days.last for days in ends)
        base = last if one.kind in _YEARLESS else asked
        starts = [part_of(days, one.part) for days in readings(one.words, base, one.kind)]
        return [Days(min(days.first for days in starts), last)]
    except (OverflowError, ValueError):  # no such days, or the end of the calendar
        return []


def _single(one: Expression, base: date, asked: date) -> list[Days]:
    read = readings(one.words, base, one.kind) if is_clear(one) else []
    if one.kind == "day" and any((days.first.month, days.first.day) in _EVENTS for days in read):
        return []
    try:
        return [_bounded(one, days, asked) for days in read]
    except (OverflowError, ValueError):  # the end of the calendar
        return []


def _bounded(one: Expression, days: Days, asked: date) -> Days:
    """The days that a cue such as "since" or "before the end of" makes of a period."""
    starts, ends = one.part in ("start of", "beginning of"), one.part == "end of"
    part = part_of(days, one.part)
    if one.cue == "since":
        return Days(days.last if ends else part.first, asked)
    if one.cue == "after":
        return Days(days.first if starts else part.last + timedelta(days=1), asked)
    if one.cue in ("before", "prior to"):
        return Days(date.min, days.last if ends else part.first - timedelta(days=1))
    if one.cue in _UNTIL or one.cue == "by":
        return Days(date.min, days.first if starts else part.last)
    return part
