"""ISO dates and what they cover. A bare date is the whole day in UTC.

Sub-second precision is kept to the microsecond; the years are 1 to 9999.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY_MICROSECONDS = 86_400_000_000

UNDATED = -(2**63)
"""In columns of microseconds: the article has no date, so no period holds it."""

MOMENTS = range(-62_135_683_200_000_000, 253_402_387_200_000_000)
"""Every microsecond that `Period` can have: the years 1 to 9999, with a day for offsets."""


@dataclass(frozen=True, slots=True)
class Period:
    """`iso` as normalised text; `first` and `last` in microseconds since 1970 UTC, inclusive."""

    iso: str
    first: int
    last: int


def parse_iso(value: str) -> Period:
    """Parse an ISO 8601 date or date-time; one without an offset is UTC. ValueError otherwise."""
    text = value.strip()
    try:
        return _day(date.fromisoformat(text))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at = _microseconds(moment)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{value!r} is not an ISO date such as 2025-11-23 or 2025-11-23T08:30:00+01:00"
        ) from None
    return Period(moment.isoformat(), at, at)


def _day(day: date) -> Period:
    first = _microseconds(datetime.combine(day, time(), UTC))
    last = _microseconds(datetime.combine(day, time.max, UTC))
    return Period(day.isoformat(), first, last)


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND
