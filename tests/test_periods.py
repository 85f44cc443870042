"""Dates and periods in questions: what is read, and what must not be."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.days import Days, days_of
from rag.periods import EXPRESSIONS_MOST, PERIODS_MOST, find_periods

SUNDAY = date(2025, 11, 23)


def read(question: str, asked: date = SUNDAY) -> list[tuple[str, str | None, str]]:
    found = find_periods(question, asked)
    return [(each.text, each.published_from, each.published_to) for each in found]


@pytest.mark.parametrize(
    ("question", "text", "first", "last"),
    [
        ("who met in November 2025", "in November 2025", "2025-11-01", "2025-11-30"),
        ("who met in november 2025?", "in november 2025", "2025-11-01", "2025-11-30"),
        ("the May 2024 elections", "the May 2024", "2024-05-01", "2024-05-31"),
        ("who met on November 20, 2025?", "on November 20, 2025", "2025-11-20", "2025-11-20"),
        ("who met on Nov. 20 2025?", "on Nov. 20 2025", "2025-11-20", "2025-11-20"),
        ("the talks of 3 March 2022", "of 3 March 2022", "2022-03-03", "2022-03-03"),
        ("who met on the 2nd of March, 2022", "on the 2nd of March, 2022", *["2022-03-02"] * 2),
        ("who met on 20 November", "on 20 November", "2025-11-20", "2025-11-20"),
        ("who met on 24 November", "on 24 November", "2024-11-24", "2024-11-24"),
        ("who met on 23 November", "on 23 November", "2025-11-23", "2025-11-23"),
        ("who met on the 20th of November", "on the 20th of November", *["2025-11-20"] * 2),
        ("who met on 2025-11-20", "on 2025-11-20", "2025-11-20", "2025-11-20"),
        ("what fell in 2024?", "in 2024", "2024-01-01", "2024-12-31"),
        ("In 2024 what fell?", "In 2024", "2024-01-01", "2024-12-31"),
        ("who fled in early 2024", "in early 2024", "2024-01-01", "2024-12-31"),
        ("who fled in mid-November", "in mid-November", "2025-11-01", "2025-11-30"),
        ("who fled in the 1990s", "in the 1990s", "1990-01-01", "1999-12-31"),
        ("sales in Q3 2024", "in Q3 2024", "2024-07-01", "2024-09-30"),
        ("the second quarter of 2024", "the second quarter of 2024", "2024-04-01", "2024-06-30"),
        ("who fell in March", "in March", "2025-03-01", "2025-03-31"),
        ("who fell in December", "in December", "2024-12-01", "2024-12-31"),
        ("who fell in may?", "in may", "2025-05-01", "2025-05-31"),
        ("who fell in May in Kabul", "in May", "2025-05-01", "2025-05-31"),
        ("what did Biden sign in August?", "in August", "2025-08-01", "2025-08-31"),
    ],
)
def test_dates_are_read(question: str, text: str, first: str, last: str) -> None:
    assert read(question) == [(text, first, last)]


@pytest.mark.parametrize(
    ("question", "text", "first", "last"),
    [
        ("what changed since March?", "since March", "2025-03-01", "2025-11-23"),
        ("since 2 May 2020 who", "since 2 May 2020", "2020-05-02", "2025-11-23"),
        ("since the end of 2024", "since the end of 2024", "2024-12-31", "2025-11-23"),
        ("after 2024 who", "after 2024", "2025-01-01", "2025-11-23"),
        ("after the start of 2024", "after the start of 2024", "2024-01-01", "2025-11-23"),
        ("before 2024 who", "before 2024", None, "2023-12-31"),
        ("before the end of 2024", "before the end of 2024", None, "2024-12-31"),
        ("until November 3, 2025", "until November 3, 2025", None, "2025-11-03"),
        ("by the beginning of 2021", "by the beginning of 2021", None, "2021-01-01"),
        ("prior to October 2005", "prior to October 2005", None, "2005-09-30"),
        ("on Sunday, Jan. 7, 2024 who", "on Sunday, Jan. 7, 2024", *["2024-01-07"] * 2),
        (
            "between May and June 2025",
            "between May and June 2025",
            "2025-05-01",
            "2025-06-30",
        ),
        (
            "from March 2021 to June 2022 who",
            "from March 2021 to June 2022",
            "2021-03-01",
            "2022-06-30",
        ),
        ("between 2019 and 2021", "between 2019 and 2021", "2019-01-01", "2021-12-31"),
        (
            "between 5 March and 10 March 2025",
            "between 5 March and 10 March 2025",
            "2025-03-05",
            "2025-03-10",
        ),
    ],
)
def test_bounds_are_read(question: str, text: str, first: str | None, last: str) -> None:
    assert read(question) == [(text, first, last)]


@pytest.mark.parametrize(
    ("question", "first", "last"),
    [
        ("who died yesterday", "2025-11-22", "2025-11-22"),
        ("who was arrested today?", "2025-11-23", "2025-11-23"),
        ("who died last week?", "2025-11-10", "2025-11-16"),
        ("what was said at last week's summit", "2025-11-10", "2025-11-16"),
        ("who died this week?", "2025-11-17", "2025-11-23"),
        ("who died this month?", "2025-11-01", "2025-11-30"),
        ("This year's budget", "2025-01-01", "2025-12-31"),
        ("who died last month", "2025-10-01", "2025-10-31"),
        ("who died last year", "2024-01-01", "2024-12-31"),
        ("who died last weekend", "2025-11-15", "2025-11-16"),
        ("who died last November", "2024-11-01", "2024-11-30"),
        ("who died last October", "2025-10-01", "2025-10-31"),
        ("who died this March", "2025-03-01", "2025-03-31"),
        ("who died on Monday", "2025-11-17", "2025-11-17"),
        ("who died on sunday?", "2025-11-23", "2025-11-23"),
        ("who died last Sunday", "2025-11-16", "2025-11-16"),
        ("who died since Friday", "2025-11-21", "2025-11-23"),
        ("who died 3 days ago", "2025-11-20", "2025-11-20"),
        ("who died two weeks ago", "2025-11-03", "2025-11-09"),
        ("who died a month ago", "2025-10-01", "2025-10-31"),
        ("who died in the past three days", "2025-11-20", "2025-11-23"),
        ("who died over the last 2 weeks", "2025-11-09", "2025-11-23"),
        ("who died within the last week", "2025-11-16", "2025-11-23"),
    ],
)
def test_relative_dates_count_from_the_day_of_asking(question: str, first: str, last: str) -> None:
    assert [(a, b) for _, a, b in read(question)] == [(first, last)]


@pytest.mark.parametrize(
    "question",
    [
        "who may vote",
        "what may happen in Kabul",
        "soldiers march to Kabul",
        "who led the long march to Yanan",
        "who was in march formation",
        "at last may they go home",
        "who came second in the race",
        "who sat in the sun",
        "Who sat where?",
        "when did it happen",
        "when was the treaty signed",
        "who is April Jones",
        "what was said in April Jones's trial",
        "which plays are by August Wilson",
        "what happens in August Wilson's plays",
        "what is the March 23 Movement",
        "who leads the 26th of July Movement",
        "who is Jan Egeland",
        "who did May succeed",
        "what did Theresa May say in May's cabinet",
        "who came to power after May's fall",
        "May 2000 soldiers go home",
        "what did Johnson do before May resigned",
        "how many of the 2000 soldiers died",
        "who lives in 2000 villages",
        "who was killed by 2000 men",
        "between 1500 and 2000 people died",
        "one of 2021 dead",
        "what is resolution 2593",
        "what does resolution 2021 say",
        "who paid $2000 in 2,000 houses",
        "who ran in 2:01:09",
        "in 2024-25 who won",
        "which flight is in AB2024",
        "what is planned for 2030",
        "what is protected by 2030",
        "who wins in 2030",
        "what happened after September 11",
        "who stormed it on January 6",
        "the last week of the war",
        "who ruled in the last year of his reign",
        "what happened this week of mourning",
        "who wrote Yesterday",
        "what did India Today print",
        "who hosts Last Week Tonight",
        "who rules today's world",
        "which country is today a remnant of it",
        "who went to the fort in June 1755",
        "how many were killed by September 17",
        "how many schools were there by 2010",
        "what rose for the first time since 2020",
        "what was the highest since May 2020",
        "on Friday, the 31st of whenever",
        "what happened more than 20 years ago",
        "who lived 4.6 billion years ago",
        "on 31 February 2024",
        "on 2024-13-45",
        "who met on Super Tuesday",
        "Bloody Sunday",
        "see https://example.org/2024/05/03/in-2024.html",
        "the 2022 final",
        "the Thirty Years' War",
        "7 days a week",
    ],
)
def test_what_only_looks_like_a_date_is_none(question: str) -> None:
    assert read(question) == []


def test_a_place_that_is_taken_is_passed_over() -> None:
    question = "in 2024 who wrote in The Year 2024"
    assert [p.text for p in find_periods(question, SUNDAY, [(22, 34)])] == ["in 2024"]
    assert find_periods(question, SUNDAY, [(0, 7), (22, 34)]) == ()


def test_two_periods_do_not_share_a_word() -> None:
    found = [text for text, _, _ in read("who met last Monday, 3 March 2025")]
    assert found == ["last Monday", "3 March 2025"]


def test_a_text_full_of_dates_was_pasted() -> None:
    some = ", ".join(f"on {day} May 2024" for day in range(1, PERIODS_MOST + 1))
    assert len(read(some)) == PERIODS_MOST
    assert read(f"{some} and on 30 May 2024") == []
    assert read("in 2024 who may " + "or may not " * EXPRESSIONS_MOST) == []


@pytest.mark.parametrize("asked", [date.min, date(1, 1, 31), date(2024, 2, 29), date.max])
@pytest.mark.parametrize(
    "question",
    [
        *("last week", "this week", "last weekend", "since 2024", "after 2 May 2024"),
        *("12 years ago", "in the past 999 years", "last December", "last Monday"),
        *("on Sunday", "before 1800"),
    ],
)
def test_the_ends_of_the_calendar_are_no_error(question: str, asked: date) -> None:
    for _, first, last in read(f"who died {question}", asked):
        assert first is None or first <= last


def test_an_expression_that_is_no_date_has_no_days() -> None:
    assert days_of("30 february 2024", SUNDAY, "dated") is None
    assert days_of("2024", SUNDAY, "year") == Days(date(2024, 1, 1), date(2024, 12, 31))


TOKENS = """
last in on since before after between and the of last past this week month year days ago may March
May Friday, november 20 20th 2024 1999 31 , . ? - yesterday today Monday end early Q3 three an
2024-02-30 0 99 1990s 's quarter second from to until
"""
WORDS = st.sampled_from([*TOKENS.split(), "\u00a0", "\n"])


@given(
    st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=25).map(" ".join)),
    st.dates(),
)
@example("in 2024", date(2024, 6, 1))
def test_any_text_is_safe_and_its_places_are_right(question: str, asked: date) -> None:
    end = 0
    for period in find_periods(question, asked):
        assert question[period.start : period.end] == period.text != ""
        assert period.start >= end
        end = period.end
        last = date.fromisoformat(period.published_to)
        first = date.fromisoformat(period.published_from) if period.published_from else None
        assert first is None or first <= min(last, asked)
        assert first is not None or last < asked
