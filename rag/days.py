"""The days that an expression of time stands for: dateparser and the calendar.

Expressions are in lower case, their words parted by single spaces. A date without a year is the
latest that is not after the day of asking.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

MONTH = "(?:january|february|march|april|may|june|july|august|september|october|november|december)"
ANY_MONTH = rf"(?:{MONTH}\b|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
WEEKDAY = "(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
DAY = r"(?:[12][0-9]|3[01]|0?[1-9])(?:st|nd|rd|th)?"
YEAR = "(?:1[89][0-9]{2}|2[01][0-9]{2})"
NUMBERS = (
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
COUNT = rf"(?:[1-9][0-9]{{0,2}}|{'|'.join(NUMBERS)})"
DAYS_OF = {"day": 1, "week": 7, "month": 30.44, "year": 365.25}
UNIT = "(?:day|week|month|year)"
QUARTERS = ("first", "second", "third", "fourth")


@dataclass(frozen=True, slots=True)
class Days:
    """From the first to the last day, both included; no first one: from the beginning."""

    first: date | None
    last: date


def warm() -> None:
    """Load dateparser, which takes 0.2 s, before the first question that needs it."""
    days_of("1 may 2024", date(2024, 5, 1), "dated")


@lru_cache(maxsize=4096)
def days_of(words: str, asked: date, kind: str) -> Days | None:
    """The days of an expression; None if there are no such days."""
    try:
        match kind:
            case "decade":
                return Days(date(int(words[:4]), 1, 1), date(int(words[:4]) + 9, 12, 31))
            case "span":
                return _span(words, asked)
            case "nearest":
                return _nearest(words, asked)
            case "unit":
                return _unit(words, asked)
            case "near":
                day = asked - timedelta(days=words == "yesterday")
                return Days(day, day)
            case "weekday":
                ago = (asked.weekday() - _weekday(words)) % 7
                return Days(asked - timedelta(days=ago), asked - timedelta(days=ago))
            case "quarter":
                for number, name in enumerate(QUARTERS, start=1):
                    words = words.replace(f"{name} quarter", f"q{number}").replace(" of ", " ")
        return _parsed(words, asked)
    except (OverflowError, ValueError):
        return None


def _weekday(words: str) -> int:
    names = re.findall(r"[a-z]+", WEEKDAY)
    return names.index(words.split()[-1])


def _span(words: str, asked: date) -> Days:
    """The days up to today of "past three weeks"."""
    _, *count, unit = words.split()
    number = count[0] if count else "1"
    amount = int(number) if number.isdigit() else NUMBERS.index(number) + 1
    days = round(amount * DAYS_OF[unit.removesuffix("s")])
    return Days(asked - timedelta(days=days), asked)


def _unit(words: str, asked: date) -> Days:
    """ "this week" and "last week" are those of the calendar, from Monday on."""
    which, unit = words.split()
    if unit == "weekend":
        monday = asked - timedelta(days=asked.weekday())
        return Days(monday - timedelta(days=2), monday - timedelta(days=1))
    now = _widened(asked, unit)
    assert now.first is not None
    return now if which == "this" else _widened(now.first - timedelta(days=1), unit)


def _nearest(words: str, asked: date) -> Days | None:
    """ "last Monday" and "last November" are over; "this Monday" and "this March" may be now."""
    which, name = words.split()
    if name.endswith("day"):
        base = asked - timedelta(days=1) if which == "last" else asked
        ago = (base.weekday() - _weekday(name)) % 7
        return Days(base - timedelta(days=ago), base - timedelta(days=ago))
    days = _parsed(f"{name} {asked.year}", asked)
    if which == "last" and days and days.last >= asked:
        return _parsed(f"{name} {asked.year - 1}", asked)
    return days


def _parsed(words: str, asked: date) -> Days | None:
    """What dateparser makes of words that the grammar holds to be a date, widened to the period
    that they name. A date without a year is the latest that is not after `asked`."""
    from dateparser.date import DateDataParser  # type: ignore[import-untyped]  # 0.1 s, rarely needed

    settings = {
        "PARSERS": ["absolute-time", "relative-time"],
        "PREFER_DATES_FROM": "past",
        "PREFER_DAY_OF_MONTH": "first",
        "RELATIVE_BASE": datetime(asked.year, asked.month, asked.day),
    }
    found = DateDataParser(languages=["en"], settings=settings).get_date_data(words)
    return None if found.date_obj is None else _widened(found.date_obj.date(), found.period)


def _widened(day: date, period: str) -> Days:
    match period:
        case "week":
            first = day - timedelta(days=day.weekday())
            return Days(first, first + timedelta(days=6))
        case "month":
            return Days(day.replace(day=1), _month_end(day))
        case "quarter":
            first = date(day.year, day.month - (day.month - 1) % 3, 1)
            return Days(first, _month_end(first.replace(month=first.month + 2)))
        case "year":
            return Days(date(day.year, 1, 1), date(day.year, 12, 31))
    return Days(day, day)


def _month_end(day: date) -> date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])
