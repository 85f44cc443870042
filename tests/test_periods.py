"""Dates and periods in questions: what is read, and what must not be."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.days import Days, readings
from rag.periods import EXPRESSIONS_MOST, PERIODS_MOST, find_periods

SUNDAY = date(2025, 11, 23)

# Under the day of asking: a question with its periods in brackets, then the first and the last day
# of each, or the one day; ".." is no first one, "or" stands between two readings.
READ = """
2025-11-23
who met [in November 2025] | 2025-11-01 2025-11-30
who met [in november 2025]? | 2025-11-01 2025-11-30
who won [the May 2024] elections | 2024-05-01 2024-05-31
who met [on November 20, 2025]? | 2025-11-20
who met [on Nov. 20 2025]? | 2025-11-20
who led the talks [of 3 March 2022] | 2022-03-03
who met [on the 2nd of March, 2022] | 2022-03-02
who met [on 20 November] | 2025-11-20
who met [on 24 November] | 2024-11-24
who met [on 23 November] | 2025-11-23
who met [on the 20th of November] | 2025-11-20
who met [on 29 February] | 2024-02-29
who met [on 2025-11-20] | 2025-11-20
what fell [in 2024]? | 2024-01-01 2024-12-31
[In 2024] what fell? | 2024-01-01 2024-12-31
what did the court rule [in the year 2024]? | 2024-01-01 2024-12-31
who fled [in the 1990s] | 1990-01-01 1999-12-31
who fell [in March] | 2025-03-01 2025-03-31
who fell [in December] | 2024-12-01 2024-12-31
who fell [in may]? | 2025-05-01 2025-05-31
who fell [in May] in Kabul | 2025-05-01 2025-05-31
what did Biden sign [in August]? | 2025-08-01 2025-08-31
what was agreed [in the month of May]? | 2025-05-01 2025-05-31
who was shot [on the night of 13 November 2015]? | 2015-11-13
what did the minister say [on Sunday, Jan. 7, 2024] in Kabul? | 2024-01-07

Who resigned [in the week of 5 May]? | 2025-05-05 2025-05-11
What was signed [the week of November 19, 2025]? | 2025-11-17 2025-11-23
Which talks failed [during the week of Sunday, 4 May 2025]? | 2025-05-04 2025-05-10
Who was elected [in the week beginning 14 May]? | 2025-05-14 2025-05-20
How many strikes were there [in the week ending 9 May 2025]? | 2025-05-03 2025-05-09
Who played [on the weekend of 10 May]? | 2025-05-10 2025-05-11
Which storms hit Manila [the first week of June]? | 2025-06-01 2025-06-07
What was said [in the last week of October 2024]? | 2024-10-25 2024-10-31
Which bills passed [in 2025-W21]? | 2025-05-19 2025-05-25
Which bills passed [in week 21 of 2025]? | 2025-05-19 2025-05-25
What are the events [of 2022-08]? | 2022-08-01 2022-08-31
What are the events [of 2022-08-15]? | 2022-08-15
Who met [at the end of 2022-09]? | 2022-09-21 2022-09-30
Who met [between 2022-05 and 2022-08]? | 2022-05-01 2022-08-31

Which towns were flooded [in spring 2024]? | 2024-03-01 2024-05-31
Who was sacked [in the summer of 2022]? | 2022-06-01 2022-08-31
Who won the league [in autumn 2023]? | 2023-09-01 2023-11-30
Who ruled Kabul [in the fall of 2021]? | 2021-09-01 2021-11-30
Where did the power fail [in winter 2023/24]? | 2023-12-01 2024-02-29
Where did the power fail [in the winter of 2022–2023]? | 2022-12-01 2023-02-28
Where did the power fail [in winter 2024]? | 2023-12-01 2024-02-29 or 2024-12-01 2025-02-28
Where did the power fail [last winter]? | 2024-12-01 2025-02-28
Which fires burned [this summer]? | 2025-06-01 2025-08-31
Who paid for [last summer]'s floods? | 2025-06-01 2025-08-31
What has changed [since last spring]? | 2025-03-01 2025-11-23
Who has led the army [since the summer of 2022]? | 2022-06-01 2025-11-23
Which laws were passed [in late summer 2025]? | 2025-08-01 2025-08-31

What did the court rule [on 11/20/2025]? | 2025-11-20
What did the court rule [on 20/11/2025]? | 2025-11-20
What did the court rule [on 20.11.2025]? | 2025-11-20
What did the court rule [on 03/04/2025]? | 2025-03-04 or 2025-04-03
What did the court rule [on 03.04.2025]? | 2025-04-03
What did the court rule [on 5-5-2025]? | 2025-05-05
What did the court rule [on 2025/11/20]? | 2025-11-20
What has the court ruled [since 3/4/2025]? | 2025-03-04 2025-11-23 or 2025-04-03 2025-11-23
What did the court rule [from 03/04/2025 to 20/04/2025]? | 2025-03-04 2025-04-20

Who was arrested [in the last few days]? | 2025-11-19 2025-11-23
What happened in Sudan [in recent days]? | 2025-11-19 2025-11-23
What happened in Sudan [in recent weeks]? | 2025-10-20 2025-11-23
What happened in Sudan [over the past few months]? | 2025-06-24 2025-11-23
Who was killed [in the past 24 hours]? | 2025-11-22 2025-11-23
Who was killed [in the past three days]? | 2025-11-21 2025-11-23
Who was killed [in last 3 days]? | 2025-11-21 2025-11-23
Who was killed [over the last 2 weeks]? | 2025-11-10 2025-11-23
Who was killed [within the last week]? | 2025-11-17 2025-11-23
Who was killed [this past week]? | 2025-11-17 2025-11-23
How much did prices rise [in the past month]? | 2025-10-24 2025-11-23
How much did prices rise [in the past year]? | 2024-11-24 2025-11-23
How much did prices rise [in the last decade]? | 2015-11-24 2025-11-23
Who visited Delhi [in the last couple of weeks]? | 2025-11-10 2025-11-23
Who resigned [a few days ago]? | 2025-11-19 2025-11-23
Who resigned [3 days ago]? | 2025-11-20
Who resigned [three hours ago]? | 2025-11-23
Who resigned [two weeks ago]? | 2025-11-03 2025-11-09
Who resigned [a month ago]? | 2025-10-01 2025-10-31
Who resigned [twenty years ago]? | 2005-01-01 2005-12-31

What were sales [in Q3 2025]? | 2025-07-01 2025-09-30
What were sales [in Q3 of 2024]? | 2024-07-01 2024-09-30
What were sales [in the second quarter of 2024]? | 2024-04-01 2024-06-30
How many fled [in the first half of 2024]? | 2024-01-01 2024-06-30
How many fled [in the second half of last year]? | 2024-07-01 2024-12-31
How many fled [in H2 2024]? | 2024-07-01 2024-12-31
How many fled [in early 2025]? | 2025-01-01 2025-04-30
How many fled [in mid-2024]? | 2024-05-01 2024-08-31
How many fled [late in 2024]? | 2024-09-01 2024-12-31
How many fled [in mid-November]? | 2025-11-11 2025-11-20
How many fled [at the end of October]? | 2025-10-21 2025-10-31
How many fled [in early March 2022]? | 2022-03-01 2022-03-10
How many fled [in the first half of May]? | 2025-05-01 2025-05-15
How many fled [in late February 2024]? | 2024-02-21 2024-02-29
How many fled [in the first half of spring 2024]? | 2024-03-01 2024-05-31
How many fled [early last month]? | 2025-10-01 2025-10-10
How many fled [in the early 1990s]? | 1990-01-01 1993-12-31
What did Apple earn [last quarter]? | 2025-07-01 2025-09-30

Who was elected [in November last year]? | 2024-11-01 2024-11-30
Who was elected [on 5 May last year]? | 2024-05-05
Who was elected [in March of this year]? | 2025-03-01 2025-03-31
Who was elected [in the summer of last year]? | 2024-06-01 2024-08-31
Who was elected [from 3 to 8 June last year]? | 2024-06-03 2024-06-08
Who was elected [between mid-March and the end of April last year]? | 2024-03-11 2024-04-30

What has changed [since March 2024]? | 2024-03-01 2025-11-23
what changed [since March]? | 2025-03-01 2025-11-23
who resigned [since 2 May 2020] | 2020-05-02 2025-11-23
who resigned [since the end of 2024] | 2024-12-31 2025-11-23
who resigned [since mid-2024] | 2024-05-01 2025-11-23
who has been chairman [from 2020] onwards? | 2020-01-01 2025-11-23
who resigned [after 2024] | 2025-01-01 2025-11-23
who resigned [after 7 October 2023]? | 2023-10-08 2025-11-23
who resigned [after the start of 2024] | 2024-01-01 2025-11-23
who resigned [before 2020]? | .. 2019-12-31
who resigned [before the end of 2024] | .. 2024-12-31
who resigned [before last summer]? | .. 2025-05-31
who was president [until November 3, 2025]? | .. 2025-11-03
who was president [until early 2021]? | .. 2021-04-30
who had fled [by the beginning of 2021]? | .. 2021-01-01
who resigned [prior to October 2005] | .. 2005-09-30

who met [between May and June 2025]? | 2025-05-01 2025-06-30
who met [between May and July 2025]? | 2025-05-01 2025-07-31
who met [from March 2021 to June 2022]? | 2021-03-01 2022-06-30
who met [between 2019 and 2021]? | 2019-01-01 2021-12-31
who met [between 5 March and 10 March 2025]? | 2025-03-05 2025-03-10
who met [from 3 to 8 June]? | 2025-06-03 2025-06-08
who met [between 3 and 8 June 2024]? | 2024-06-03 2024-06-08
who met [between June 3 and 8]? | 2025-06-03 2025-06-08
who was shot [on June 3] and 12 others? | 2025-06-03
who met [from June 3 to 8, 2025]? | 2025-06-03 2025-06-08
who met [on June 3–8]? | 2025-06-03 2025-06-08
who met [in May-July 2024]? | 2024-05-01 2024-07-31
who met [in May to July 2024]? | 2024-05-01 2024-07-31
who met [in 2019–2021]? | 2019-01-01 2021-12-31
who met [from 28 June to 3 July]? | 2025-06-28 2025-07-03
who met [from November to February]? | 2024-11-01 2025-02-28
who met [between late May and early July 2025]? | 2025-05-21 2025-07-10
who met [from the summer of 2022 to the spring of 2023]? | 2022-06-01 2023-05-31
who has led it [from 2019 until today]? | 2019-01-01 2025-11-23
who has led it [between 2020 and now]? | 2020-01-01 2025-11-23
who met [between Monday and Wednesday]? | 2025-11-17 2025-11-19
who met [in May] and [July 2024]? | 2024-05-01 2024-05-31; 2024-07-01 2024-07-31
who met [on 5 May], [June 6] and [July 7, 2024]? | 2024-05-05; 2024-06-06; 2024-07-07

who died [yesterday] | 2025-11-22
who died [the day before yesterday]? | 2025-11-21
who died [last night]? | 2025-11-22
who was arrested [this morning]? | 2025-11-23
who was arrested [today]? | 2025-11-23
who died [last week]? | 2025-11-10 2025-11-16
what was said [at last week]'s summit | 2025-11-10 2025-11-16
who died [this week]? | 2025-11-17 2025-11-23
who died [this month]? | 2025-11-01 2025-11-30
[This year]'s budget was passed by whom? | 2025-01-01 2025-12-31
who died [last month] | 2025-10-01 2025-10-31
who died [last year] | 2024-01-01 2024-12-31
who died [last weekend] | 2025-11-15 2025-11-16
who won [over the weekend]? | 2025-11-22 2025-11-23
who died [last November] | 2024-11-01 2024-11-30
who died [last October] | 2025-10-01 2025-10-31
who died [this March] | 2025-03-01 2025-03-31
who died [on Monday] | 2025-11-17
who died [on sunday]? | 2025-11-23
who died [last Sunday] | 2025-11-16
who died [this past Friday]? | 2025-11-21
who was arrested [late on Tuesday]? | 2025-11-18
who clinched the nomination [Tuesday]? | 2025-11-18
who won [Sunday]'s game? | 2025-11-23
who was chosen [in Monday]'s draft? | 2025-11-17
who died [since Friday] | 2025-11-21 2025-11-23

2025-01-15
Where did pipes freeze [last winter]? | 2023-12-01 2024-02-29
Where did pipes freeze [this winter]? | 2024-12-01 2025-02-28
Who resigned [last December]? | 2024-12-01 2024-12-31
Who resigned [this past Monday]? | 2025-01-13
Who resigned [over the weekend]? | 2025-01-11 2025-01-12
Who plays this weekend? | nothing
Who plays this summer? | nothing
Who resigned [in May]? | 2024-05-01 2024-05-31
Who met [from 28 December to 3 January]? | 2024-12-28 2025-01-03
Who met [between last Friday and Monday]? | 2025-01-10 2025-01-13
What did it earn [in the fourth quarter of last year]? | 2024-10-01 2024-12-31
Who resigned [3 months ago]? | 2024-10-01 2024-10-31

2025-03-20
Where did pipes freeze [this winter]? | 2024-12-01 2025-02-28
Who resigned [last quarter]? | 2024-10-01 2024-12-31
Who resigned [in November]? | 2024-11-01 2024-11-30

2024-02-29
How much did prices rise [in the past year]? | 2023-03-01 2024-02-29
How much did prices rise [in the past month]? | 2024-01-30 2024-02-29
How much did prices rise [this quarter]? | 2024-01-01 2024-03-31
Who resigned [yesterday]? | 2024-02-28
"""

NOT_READ = """
who may vote
what may happen in Kabul
who may resign this time
soldiers march to Kabul
who led the long march to Yanan
who spoke at the March on Washington
who spoke after march on washington?
who was in march formation
at last may they go home
between 10 and 12 may have died, who said so?
who came second in the race
who sat in the sun
Who sat where?
when did it happen
when was the treaty signed
who is April Jones
what did April Smith say
who was seen with April in Paris?
what was said in April Jones's trial
which plays are by August Wilson
what happens in August Wilson's plays
who sits in august company there
who spoke to the august body
who plays June Osborne
what is the March 23 Movement
who leads the 26th of July Movement
who is Jan Egeland
who did May succeed
what did Theresa May say in May's cabinet
who came to power after May's fall
May 2000 soldiers go home
what did Johnson do before May resigned
how many of the 2000 soldiers died
how many died when 1500 soldiers attacked
how did 2,000 people flee
who lives in 2000 villages
who fell from 2000 feet
who was killed by 2000 men
between 1500 and 2000 people died
what lies between 2024 and the sea
one of 2021 dead
who sat in room 2024?
who was on flight 1912
what is resolution 2593
what does resolution 2021 say
who wrote Nineteen Eighty-Four and 1985
who paid $2000 in 2,000 houses
who ran in 2:01:09
in 2024-25 who won
in 2024–25 who won
which flight is in AB2024
what is planned for 2030
what is protected by 2030
who wins in 2030
what happened after September 11
what happened on 7 October
who sat in room 2024-05
what was played in 2009-10
which flight is of 2024-13
who stormed it on January 6
the last week of the war
who ruled in the last year of his reign
who won in the last few days of the war
what happened this week of mourning
who wrote Yesterday
what did India Today print
who hosts Last Week Tonight
who presents This Morning
who rules today's world
which country is today a remnant of it
who went to the fort in June 1755
how many were killed by September 17
how many schools were there by 2010
what rose for the first time since 2020
what was the highest since May 2020
on Friday, the 31st of whenever
what happened more than 20 years ago
who left a year and a half ago
who died three years and two months ago
who lived 4.6 billion years ago
on 31 February 2024
on 2024-13-45
on 31/31/2024
on 11.20.2024
who met on Super Tuesday
who shopped on the morning of Black Friday
Bloody Sunday
who was shot on Bloody Sunday's march
who plays Wednesday?
which series is called Wednesday?
who works every Friday?
see https://example.org/2024/05/03/in-2024.html
the 2022 final
the 2019–2021 drought
the Thirty Years' War
7 days a week
who led the Arab Spring
who led the Arab Spring of 2011?
who won at the Winter Olympics
who won at the last winter olympics
why did this fall apart?
how far can a spring be wound
who sells winter coats
when did the government fall in parliament
who profited from a fall of 2000 points
what will happen next week
what will happen tomorrow
who scored in the last quarter of the game
which version is 1.2.3
what did he earn in the fourth quarter
who opposes the 24 hours rule
how many are in the week of fasting
who met early on
who is to visit this winter?
which city was the worst since last November?
"""


def table() -> list[tuple[str, str, str]]:
    """Day of asking, marked question, periods."""
    rows, asked = [], ""
    for line in READ.splitlines():
        question, _, periods = line.partition(" | ")
        if periods:
            rows.append((asked, question, periods))
        else:
            asked = question or asked
    return rows


def expected(marked: str, periods: str) -> list[tuple[str, str | None, str]]:
    texts = [each.split("]")[0] for each in marked.split("[")[1:]]
    found: list[tuple[str, str | None, str]] = []
    for text, either in zip(texts, periods.split("; "), strict=periods != "nothing"):
        for days in either.split(" or "):
            first, *_, last = f"{days} {days}".split()
            found.append((text, None if first == ".." else first, last))
    return found


def read(question: str, asked: date = SUNDAY) -> list[tuple[str, str | None, str]]:
    found = find_periods(question, asked)
    return [(each.text, each.published_from, each.published_to) for each in found]


@pytest.mark.parametrize(("asked", "marked", "periods"), table())
def test_periods_are_read(asked: str, marked: str, periods: str) -> None:
    question = marked.replace("[", "").replace("]", "")
    assert read(question, date.fromisoformat(asked)) == expected(marked, periods)


@pytest.mark.parametrize("question", NOT_READ.strip().splitlines())
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
        *("on Sunday", "before 1800", "in recent days", "a few decades ago", "over the weekend"),
        *("this winter", "last summer", "in winter 2024", "in the second half of this year"),
        *("in the week of 1 January", "in the week ending 1 January", "late this month"),
        *("from December to January", "since 01/02/2024", "since yesterday", "this quarter"),
    ],
)
def test_the_ends_of_the_calendar_are_no_error(question: str, asked: date) -> None:
    for _, first, last in read(f"who died {question}", asked):
        assert (first or "") <= min(last, asked.isoformat())


def test_an_expression_that_is_no_date_has_no_days() -> None:
    assert readings("30 february 2024", SUNDAY, "dated") == []
    assert readings("2024", SUNDAY, "year") == [Days(date(2024, 1, 1), date(2024, 12, 31))]
    both = [Days(day, day) for day in (date(2024, 1, 2), date(2024, 2, 1))]
    assert readings("2/1/2024", SUNDAY, "numeric") == both


TOKENS = """
last in on since before after between and the of last past this week month year days ago may March
May Friday, november 20 20th 2024 1999 31 , . ? - yesterday today Monday end early Q3 three an
2024-02-30 0 99 1990s 's quarter second from to until winter fall Spring recent few hours 03/04/2025
31/12/2024 2024-W53 W60 – mid- late half first onwards weekend now fortnight night 99999999999999999
😀 اليوم שבוע 2024年 ２０２４
"""
MARKS = ("\u00a0", "\n", "\u202e", "\u200f", "the\u200bweek", "ſpring", "sprİng", "wee\u212a")
WORDS = st.sampled_from([*TOKENS.split(), *MARKS])


@given(
    st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=25).map(" ".join)),
    st.dates(),
)
@example("in 2024", date(2024, 6, 1))
@example("in ſpring 2024 or sprİng 2024", date(2024, 6, 1))
@example("on 01/02/2024 or 02/01/2024", date(2024, 6, 1))
def test_any_text_is_safe_and_its_places_are_right(question: str, asked: date) -> None:
    place = (0, 0)
    for period in find_periods(question, asked):
        assert question[period.start : period.end] == period.text != ""
        assert period.start >= place[1] or (period.start, period.end) == place
        place = (period.start, period.end)
        last = date.fromisoformat(period.published_to)
        first = date.fromisoformat(period.published_from) if period.published_from else None
        assert first is None or first <= min(last, asked)
        assert first is not None or last < asked
