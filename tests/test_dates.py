"""Dates: what a bare date covers, offsets, the ends of the calendar, and what is not a date."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.dates import EPOCH, MICROSECOND, Period, parse_iso

DAY = timedelta(days=1) // MICROSECOND

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=OFFSETS)


@given(st.dates())
def test_a_bare_date_is_the_whole_day_in_utc(day: date) -> None:
    period = parse_iso(day.isoformat())
    assert period.iso == day.isoformat()
    assert period.first == (day - EPOCH.date()) // timedelta(days=1) * DAY
    assert period.last == period.first + DAY - 1


@given(MOMENTS)
def test_a_date_time_is_one_moment_whatever_its_offset(moment: datetime) -> None:
    period = parse_iso(moment.isoformat())
    assert datetime.fromisoformat(period.iso) == moment
    assert period.first == period.last
    assert EPOCH + timedelta(microseconds=period.first) == moment
    assert parse_iso(moment.astimezone(UTC).isoformat()).first == period.first


@given(MOMENTS)
def test_parsing_what_was_parsed_changes_nothing(moment: datetime) -> None:
    once = parse_iso(moment.isoformat())
    assert parse_iso(once.iso) == once


@given(MOMENTS, MOMENTS)
def test_moments_keep_their_order(one: datetime, other: datetime) -> None:
    first, second = parse_iso(one.isoformat()), parse_iso(other.isoformat())
    assert (first.first < second.first) == (one < other)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-11-23T08:30", datetime(2025, 11, 23, 8, 30, tzinfo=UTC)),
        ("2025-11-23 08:30:00", datetime(2025, 11, 23, 8, 30, tzinfo=UTC)),
        ("2025-11-23T08:30:00Z", datetime(2025, 11, 23, 8, 30, tzinfo=UTC)),
        ("2025-11-23T08:30:00+01:00", datetime(2025, 11, 23, 7, 30, tzinfo=UTC)),
        ("2025-11-23T00:15:00+05:45", datetime(2025, 11, 22, 18, 30, tzinfo=UTC)),
        ("1969-12-31T23:59:59.999999Z", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("  2025-11-23T08:30:00Z\n", datetime(2025, 11, 23, 8, 30, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc(text: str, moment: datetime) -> None:
    expected = (moment - EPOCH) // MICROSECOND
    assert parse_iso(text) == Period(parse_iso(text).iso, expected, expected)


def test_what_is_finer_than_a_microsecond_is_left_out() -> None:
    assert parse_iso("2025-11-23T08:30:00.1234569Z").first % 1_000_000 == 123_456


def test_the_calendar_ends_at_the_years_1_and_9999() -> None:
    assert parse_iso("0001-01-01").first < parse_iso("9999-12-31").first
    assert parse_iso("9999-12-31").last == parse_iso("9999-12-31T23:59:59.999999Z").last
    assert parse_iso("0001-01-01T00:00:00+14:00").first == parse_iso("0001-01-01").first - (
        14 * 3_600_000_000
    )


@pytest.mark.parametrize("text", ["20251123", "2025W477"])
def test_another_iso_form_of_a_bare_date_is_the_same_day(text: str) -> None:
    assert parse_iso(text) == parse_iso("2025-11-23")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "yesterday",
        "2025",
        "2025-11",
        "2025-02-29",
        "2025-13-01",
        "2025-00-10",
        "0000-01-01",
        "10000-01-01",
        "-001-01-01",
        "23.11.2025",
        "11/23/2025",
        "2025-11-23T25:00:00",
        "2025-11-23T08:30:00+25:00",
        "2025-11-23T08:30:00 CET",
        "2025-11-23T",
        "２０２５-１１-２３",
        "2025-11-23\x00",
        "2025-11-2\ud800",
    ],
)
def test_what_is_no_date_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not an ISO date") as caught:
        parse_iso(text)
    assert repr(text) in str(caught.value)


@given(st.text() | st.from_regex(r"[0-9]{4}-?[0-9W]{2}-?[0-9]{0,2}([T ][0-9:.+Z-]{0,20})?"))
def test_any_text_is_a_period_or_a_value_error(text: str) -> None:
    period = None
    with suppress(ValueError):
        period = parse_iso(text)
    if period is not None:
        assert period.first <= period.last
        assert parse_iso(period.iso) == period
