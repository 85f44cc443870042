"""The days that an expression of time stands for: the calendar, whatever the words around it.

Expressions are in lower case, their words parted by single spaces. A date without a year is the
latest that is not after the day of asking. Weeks begin on Monday. Seasons are those of the northern
hemisphere, in whole months.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
"""The month in which they begin."""

FEW = 5
"""How many "a few", "several" and "recent" ones are."""

_NUMBERS = {
    **{"one": 1, "two": 2, "couple of": 2, "three": 3, "four": 4, "five": 5, "six": 6},
    **{"seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12},
    **{"fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50},
    **{"few": FEW, "several": FEW},
}
_DAYS_OF = {"day": 1, "week": 7, "fortnight": 14}
_MONTHS_OF = {"month": 1, "quarter": 3, "year": 12, "decade": 120}

MONTH = f"(?:{'|'.join(_MONTHS)})"
ANY_MONTH = rf"(?:{MONTH}\b|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
WEEKDAY = f"(?:{'|'.join(_WEEKDAYS)})"
SEASON = f"(?:{'|'.join(_SEASONS)})"
DAY = r"(?:[12][0-9]|3[01]|0?[1-9])(?:st|nd|rd|th)?"
YEAR = "(?:1[89][0-9]{2}|2[01][0-9]{2})"
SAID_YEAR = f"(?:{YEAR}|(?:this|last) year)"
COUNT = rf"(?:[1-9][0-9]{{0,2}}|{'|'.join(_NUMBERS)})"
UNIT = f"(?:hour|{'|'.join((*_DAYS_OF, *_MONTHS_OF))})"
TO = r"(?:\s?[-–—]\s?|\s(?:and|to|until|till|through)\s)"
"""Between the ends of "3 to 8 June"."""

_FRACTIONS = {
    **{"early": (0, 3), "start of": (0, 3), "beginning of": (0, 3)},
    **{"mid": (1, 3), "middle of": (1, 3), "late": (2, 3), "end of": (2, 3)},
    **{"h1": (0, 2), "first half of": (0, 2), "h2": (1, 2), "second half of": (1, 2)},
    **{"q1": (0, 4), "q2": (1, 4), "q3": (2, 4), "q4": (3, 4)},
    **{"first quarter of": (0, 4), "second quarter of": (1, 4), "third quarter of": (2, 4)},
    **{"fourth quarter of": (3, 4), "last quarter of": (3, 4)},
}
"""Which, from 0, of how many equal parts of a month or more."""

_WEEKS = {"first week of": 0, "second week of": 7, "third week of": 14, "fourth week of": 21}
"""So many days after its start."""

_AROUND = ("week of", "week beginning", "week starting", "week ending", "weekend of")
_ALL = ("the years?", "months? of", "night of", "morning of", "afternoon of", "evening of")
PARTS = (*_FRACTIONS, *_WEEKS, "last week of", *_AROUND, *_ALL)
"""Patterns of what may stand before an expression and name other days by it."""

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Days:
    """From the first to the last day, both included; date.min: from the beginning."""

    first: date
    last: date


def readings(words: str, asked: date, kind: str) -> list[Days]:
    """The days of an expression, in the order of the calendar: none if there are no such days, two
    if it may be read in two ways. `asked` is the day of asking."""
    try:
        return list(_READERS[kind](words, asked))
    except (OverflowError, ValueError):
        return []


def part_of(days: Days, part: str) -> Days:
    """What one of PARTS makes of `days`: a part of a month or more, or the week around a day; the
    same days where that has no meaning, as in "early on Monday".

    Raises OverflowError or ValueError at the ends of the calendar.
    """
    if part in _FRACTIONS:
        return _fraction(days, *_FRACTIONS[part])
    if part in _WEEKS:
        return _week_from(days.first + timedelta(days=_WEEKS[part]))
    if part == "last week of":
        return _week_from(days.last - timedelta(days=6))
    if part in _AROUND and days.first == days.last:
        return _around(days.first, part)
    return days


def _fraction(days: Days, nth: int, count: int) -> Days:
    first, last = days.first, days.last
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    if first.day != 1 or last != _month_end(last):
        return days
    if months == 1:  # parts are of thirty days; the rest of the month is in the last one
        start, end = (first + timedelta(days=30 * each // count) for each in (nth, nth + 1))
        return Days(start, last if nth + 1 == count else end - _ONE_DAY)
    step = 12 if months > 12 else 1  # nobody means months by "the mid-1990s"
    if months % count and step == 1:
        return days
    since, until = months * nth // count // step, -(-months * (nth + 1) // (count * step))
    return Days(_later(first, since * step), _later(first, until * step) - _ONE_DAY)


def _around(day: date, part: str) -> Days:
    if part == "week ending":
        return _week_from(day - timedelta(days=6))
    if part == "weekend of":
        return _weekend(_widened(day, "week").last)
    # whoever names a week by its Sunday begins it there
    return _widened(day, "week") if part == "week of" and day.weekday() < 6 else _week_from(day)


def _week_from(day: date) -> Days:
    return Days(day, day + timedelta(days=6))


def _weekend(sunday: date) -> Days:
    return Days(sunday - _ONE_DAY, sunday)


class _Named(NamedTuple):
    """What an expression says of a date."""

    year: int | None
    month: int | None
    day: int | None


_NAMED = re.compile(rf"(?P<month>{ANY_MONTH})|(?P<year>{SAID_YEAR})|(?P<day>[0-9]+)")


def _named(words: str, asked: date) -> _Named:
    said = {match.lastgroup: match[0] for match in _NAMED.finditer(words)}
    short = [name[:3] for name in _MONTHS]
    return _Named(
        year=_year(said["year"], asked) if "year" in said else None,
        month=short.index(said["month"][:3]) + 1 if "month" in said else None,
        day=int(said["day"]) if "day" in said else None,
    )


def _year(said: str, asked: date) -> int:
    relative = {"this year": asked.year, "last year": asked.year - 1}
    return relative[said] if said in relative else int(said)


def _latest(named: _Named, asked: date) -> Days:
    """What is named; the latest that has begun by `asked` if that is of no year."""
    if named.year is not None:
        return _calendar(named)
    for year in range(asked.year, asked.year - 9, -1):  # leap days are up to eight years apart
        try:
            days = _calendar(named._replace(year=year))
        except ValueError:
            continue
        if days.first <= asked:
            return days
    raise ValueError(f"no such day: {named}")


def _calendar(named: _Named) -> Days:
    first = date(named.year or 0, named.month or 1, named.day or 1)
    if named.day is not None:
        return Days(first, first)
    return _widened(first, "year" if named.month is None else "month")


def _read_named(words: str, asked: date) -> Iterator[Days]:
    yield _latest(_named(words, asked), asked)


def _read_iso(words: str, _: date) -> Iterator[Days]:
    day = date(*map(int, re.split("[-/.]", words)))
    yield Days(day, day)


def _read_iso_month(words: str, _: date) -> Iterator[Days]:
    year, month = map(int, words.split("-"))
    yield _calendar(_Named(year, month, None))


def _read_numeric(words: str, _: date) -> Iterator[Days]:
    """11/20/2025 and 20/11/2025; 03/04/2025 is both. Nobody writes the month before a dot."""
    one, two, year = map(int, re.split("[-/.]", words))
    for month, day in sorted({(two, one)} if "." in words else {(one, two), (two, one)}):
        if 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]:
            yield Days(date(year, month, day), date(year, month, day))


def _read_iso_week(words: str, _: date) -> Iterator[Days]:
    week, year = sorted(map(int, re.findall("[0-9]+", words)))
    yield _week_from(date.fromisocalendar(year, week, 1))


def _read_run(words: str, asked: date) -> Iterator[Days]:
    one, other = (_named(each, asked) for each in re.split(TO, words, maxsplit=1))
    last = _latest(other._replace(month=other.month or one.month), asked).last
    if one.day and not (one.month and other.month):
        one = _Named(last.year, last.month, one.day)
    yield Days(_latest(one, last).first, last)


def _read_season(words: str, asked: date) -> Iterator[Days]:
    name, years = words.split()[0], re.findall(f"{SAID_YEAR}|[0-9]+", words)
    year = _year(years[0], asked)
    if name == "winter" and len(years) == 1:  # a year has the end of one and the start of another
        yield _season(name, year - 1)
    yield _season(name, year)


def _season(name: str, year: int) -> Days:
    first = date(year, _SEASONS[name], 1)
    return Days(first, _later(first, 3) - _ONE_DAY)


def _read_decade(words: str, _: date) -> Iterator[Days]:
    yield Days(date(int(words[:4]), 1, 1), date(int(words[:4]) + 9, 12, 31))


_AMOUNT = re.compile(rf"(?:(?P<count>{COUNT}) )?(?P<unit>{UNIT})s?\b")


def _amount(words: str) -> tuple[str, str]:
    amount = _AMOUNT.search(words)
    assert amount is not None
    return amount["count"] or ("few" if words.startswith("recent") else "one"), amount["unit"]


def _number(count: str) -> int:
    return int(count) if count.isdigit() else _NUMBERS[count]


def _read_ago(words: str, asked: date) -> Iterator[Days]:
    """The day, week, month or year that it was then; "a few days ago" is since then."""
    count, unit = _amount(words)
    if count in ("few", "several"):
        yield from _read_span(words, asked)
    elif unit == "hour":
        yield _widened(_earlier(asked, _number(count) // 24, "day"), "day")
    else:
        yield _widened(_earlier(asked, _number(count), unit), unit)


def _read_span(words: str, asked: date) -> Iterator[Days]:
    """So many days up to the one of asking, and with it; of hours, those that may be meant."""
    count, unit = _amount(words)
    number = _number(count)
    if unit == "hour":
        number, unit = -(-number // 24) + 1, "day"
    yield Days(_earlier(asked, number, unit) + _ONE_DAY, asked)


def _read_unit(words: str, asked: date) -> Iterator[Days]:
    """ "this week" and "last week" are those of the calendar, "the weekend" is the latest that has
    begun."""
    *which, unit = words.split()
    now = _widened(asked, "week" if unit == "weekend" else unit)
    before = now.first - _ONE_DAY
    over = which in (["last"], ["this", "past"])
    if unit == "weekend":
        yield _weekend(before if over or (not which and asked.weekday() < 5) else now.last)
    else:
        yield _widened(before, unit) if over else now


def _read_nearest(words: str, asked: date) -> Iterator[Days]:
    """ "last Monday" and "last November" are over; "this Monday" and "this March" may be now."""
    *which, name = words.split()
    over = which != ["this"]
    if name in _WEEKDAYS:
        yield from _read_weekday(name, asked - _ONE_DAY if over else asked)
        return
    named = _season if name in _SEASONS else _month
    now, before = named(name, asked.year), named(name, asked.year - 1)
    if over and before.last >= asked:  # a winter that goes on
        yield named(name, asked.year - 2)
    elif over:
        yield now if now.last < asked else before
    else:  # in March "this winter" is the one before, in November it is the next
        just = now.first > asked and before.last > _earlier(asked, 3, "month")
        yield before if just else now


def _month(name: str, year: int) -> Days:
    return _calendar(_Named(year, _MONTHS.index(name) + 1, None))


def _read_weekday(words: str, asked: date) -> Iterator[Days]:
    """The latest that is not after the day of asking."""
    day = asked - timedelta(days=(asked.weekday() - _WEEKDAYS.index(words)) % 7)
    yield Days(day, day)


def _read_near(words: str, asked: date) -> Iterator[Days]:
    ago = {"yesterday": 1, "last night": 1, "day before yesterday": 2}.get(words, 0)
    yield Days(asked - timedelta(days=ago), asked - timedelta(days=ago))


_READERS: Mapping[str, Callable[[str, date], Iterator[Days]]] = {
    "iso": _read_iso,
    "iso_month": _read_iso_month,
    "numeric": _read_numeric,
    "iso_week": _read_iso_week,
    "run": _read_run,
    "dated": _read_named,
    "monthly": _read_named,
    "day": _read_named,
    "season": _read_season,
    "decade": _read_decade,
    "year": _read_named,
    "ago": _read_ago,
    "span": _read_span,
    "nearest": _read_nearest,
    "unit": _read_unit,
    "near": _read_near,
    "hours": _read_near,
    "weekend": _read_unit,
    "weekday": _read_weekday,
    "month": _read_named,
}


def _widened(day: date, unit: str) -> Days:
    """The week, month, quarter, year or decade of a day."""
    if unit in _MONTHS_OF:
        count = _MONTHS_OF[unit]
        since = (day.year * 12 + day.month - 1) % count
        first = _earlier(day.replace(day=1), since, "month")
        return Days(first, _later(first, count) - _ONE_DAY)
    if unit == "day":
        return Days(day, day)
    return _week_from(day - timedelta(days=day.weekday()))


def _earlier(day: date, number: int, unit: str) -> date:
    """So many units before a day; of months, the last day of one that has no such day."""
    if unit in _DAYS_OF:
        return day - timedelta(days=number * _DAYS_OF[unit])
    return _later(day, -number * _MONTHS_OF[unit])


def _later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    first = date(year, month + 1, 1)
    return first.replace(day=min(day.day, _month_end(first).day))


def _month_end(day: date) -> date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])
