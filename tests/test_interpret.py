"""What is understood of a question, and what it is worth."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.dates import UNDATED, parse_iso
from rag.interpret import (
    FULL_DAYS,
    HALF_LIFE_DAYS,
    PERIOD_WEIGHT,
    RECENT_HALF_LIFE_DAYS,
    RECENT_WEIGHT,
    SOURCE_WEIGHT,
    boost,
    interpret,
)
from rag.naming import NO_NAMES, source_names
from rag.types import AskedPeriod, AskedSource, Floats, Interpreted, Numbers

NAMES = source_names(frozenset(["USA Today", "Eurasia Review"]))
NOVEMBER = AskedPeriod("in November", 0, 11, "2025-11-01", "2025-11-30")
BEFORE = AskedPeriod("before 2020", 0, 11, None, "2019-12-31")
REVIEW = AskedSource("Eurasia Review", 0, 14, "Eurasia Review")


def published(*values: str | None) -> tuple[Numbers, Numbers]:
    periods = [None if value is None else parse_iso(value) for value in values]
    firsts = [UNDATED if period is None else period.first for period in periods]
    lasts = [UNDATED if period is None else period.last for period in periods]
    return np.array(firsts, dtype=np.int64), np.array(lasts, dtype=np.int64)


def gains(
    periods: list[AskedPeriod], *values: str | None, of: list[bool] | None = None
) -> list[float]:
    sources = (REVIEW,) if of is not None else ()
    understood = Interpreted("2025-12-24", tuple(periods), sources)
    mask = np.array(of if of is not None else [True] * len(values), dtype=np.bool_)
    gained: list[float] = boost(understood, *published(*values), mask).tolist()
    return gained


def test_dates_and_sources_are_understood_together() -> None:
    question = "According to Eurasia Review, who warned of it last week?"
    understood = interpret(question, asked_at="2025-11-23", sources=NAMES)
    assert understood == Interpreted(
        "2025-11-23",
        (AskedPeriod("last week", 46, 55, "2025-11-10", "2025-11-16"),),
        (AskedSource("Eurasia Review", 13, 27, "Eurasia Review"),),
    )


def test_a_day_in_the_name_of_a_source_is_no_date() -> None:
    understood = interpret("what did USA Today say", asked_at="2025-11-23", sources=NAMES)
    assert [each.source for each in understood.sources] == ["USA Today"]
    assert understood.periods == ()
    lower = interpret("what did usa today say", asked_at="2025-11-23", sources=NAMES)
    assert (len(lower.sources), lower.periods) == (1, ())


def test_the_day_of_asking_is_the_one_written() -> None:
    late = interpret("yesterday", asked_at="2025-11-23T23:30:00-08:00", sources=NO_NAMES)
    assert late.asked_at == "2025-11-23T23:30:00-08:00"
    assert late.periods[0].published_from == "2025-11-22"


@pytest.mark.parametrize("asked_at", ["", "yesterday", "2025-02-30", "23.11.2025"])
def test_a_day_of_asking_that_is_no_date_is_refused(asked_at: str) -> None:
    with pytest.raises(ValueError, match="ISO date"):
        interpret("who", asked_at=asked_at, sources=NO_NAMES)


def test_what_is_published_in_the_period_or_shortly_after_gains_all() -> None:
    days = ["2025-11-01", "2025-11-30T23:59:59", "2025-12-01", "2025-12-03T00:00:00+00:00"]
    assert gains([NOVEMBER], *days) == pytest.approx([PERIOD_WEIGHT] * 4)


def test_what_is_published_before_or_at_no_known_time_gains_nothing() -> None:
    assert gains([NOVEMBER], "2025-10-31", "2025-10-31T23:59:59.999999", None) == [0, 0, 0]
    assert gains([BEFORE], "0001-01-01", "2019-12-31", None) == pytest.approx(
        [PERIOD_WEIGHT, PERIOD_WEIGHT, 0]
    )


def test_the_gain_falls_by_half_in_a_half_life() -> None:
    midnight = date(2025, 12, 1) + timedelta(days=FULL_DAYS)
    days = [(midnight + timedelta(days=times * HALF_LIFE_DAYS)).isoformat() for times in range(4)]
    expected = [PERIOD_WEIGHT / 2**times for times in range(4)]
    assert gains([NOVEMBER], *days) == pytest.approx(expected, rel=1e-4)
    assert gains([NOVEMBER], "9999-12-31") == [0]


def test_of_several_periods_the_nearest_counts() -> None:
    assert gains([NOVEMBER, BEFORE], "2025-11-05", "2018-01-01") == pytest.approx(
        [PERIOD_WEIGHT] * 2
    )


def test_a_source_that_is_named_gains_and_adds_to_the_period() -> None:
    assert gains([], "2025-11-05", None, of=[True, False]) == pytest.approx([SOURCE_WEIGHT, 0])
    assert gains([NOVEMBER], "2025-11-05", "2001-01-01", of=[True, True]) == pytest.approx(
        [PERIOD_WEIGHT + SOURCE_WEIGHT, SOURCE_WEIGHT]
    )


def test_what_is_new_on_the_day_of_asking_gains() -> None:
    understood = Interpreted("2025-11-23", (), (), recent=True)
    day = date(2025, 11, 24)
    days = [day - timedelta(days=times * RECENT_HALF_LIFE_DAYS) for times in range(1, 4)]
    values = ["2025-11-23T23:59:59", *(each.isoformat() for each in days), "2025-11-24", None]
    gained = boost(understood, *published(*values), np.zeros(len(values), dtype=np.bool_))
    parts = [1, 1 / 2, 1 / 4, 1 / 8, 0, 0]
    assert gained.tolist() == pytest.approx([RECENT_WEIGHT * part for part in parts], rel=1e-4)


def test_nothing_understood_is_nothing_gained() -> None:
    gained: Floats = boost(
        Interpreted("2025-11-23", (), ()), *published("2025-11-05", None), np.array([True, False])
    )
    assert gained.dtype == np.float32
    assert gained.tolist() == [0, 0]
    assert gains([NOVEMBER]) == []


@given(st.text(max_size=300), st.dates())
def test_any_question_is_safe(question: str, asked: date) -> None:
    understood = interpret(question, asked_at=asked.isoformat(), sources=NAMES)
    for period in understood.periods:
        assert question[period.start : period.end] == period.text
    for source in understood.sources:
        assert question[source.start : source.end] == source.text
