from __future__ import annotations

import re
import time
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.dateline import CUT_TITLE_CHARACTERS, dateline, first_line_title, line_date, page_date

DAY = "2025-11-20"


@pytest.mark.parametrize(
    "line",
    [
        "November 20, 2025",
        "November 20 2025",
        "november 20th, 2025",
        "20 November 2025",
        "20th of November 2025",
        "20-Nov-2025",
        "Thursday, 20 Nov. 2025",
        "Thu, 20 Nov 2025 10:00:00 GMT",
        "2025-11-20",
        "2025/11/20",
        "2025-11-20T10:30:00+01:00",
        "2025-11-20 10:30",
        "20.11.2025",
        "11/20/2025",
        "MOSCOW, Nov. 20, 2025 —",
        "WASHINGTON, D.C., Nov. 20, 2025 (AP) —",
        "KABUL (Reuters), 20 November 2025",
        "KABUL (Reuters) - 20 November 2025",
        "GENEVA/NEW YORK, 20 November 2025 (WHO) -",
        "Paris – 20 November 2025",
        "Rio de Janeiro, November 20, 2025",
        "By Jane Doe, November 20, 2025",
        "Reuters | November 20, 2025",
        "Published: 2025-11-20",
        "PUBLISHED 20 NOVEMBER 2025",
        "Published on Thursday, November 20, 2025 at 10:30 a.m. GMT",
        "Posted November 20, 2025 | 10:30",
        "November 20, 2025 10 AM ET",
        "**Date:** 2025-11-20",
        "*November 20, 2025*",
        "## 20 November 2025",
        "  20   November   2025  ",
        "2025年11月20日",
        "2025年11月20日（木）",
        "2025년 11월 20일",
    ],
)
def test_a_line_that_is_a_date(line: str) -> None:
    assert line_date(line) == DAY


@pytest.mark.parametrize(
    "line",
    [
        "20 novembre 2025",
        "jeudi 20 novembre 2025",
        "Genève, le 20 novembre 2025",
        "Kaboul, le 20 novembre 2025 à 10:30",
        "Berlin, 20. November 2025",
        "Berlin, den 20. November 2025",
        "Madrid, 20 de noviembre de 2025",
        "martes, 20 de noviembre de 2025",
        "RIO DE JANEIRO, 20 de novembro de 2025",
        "Москва, 20 ноября 2025 г.",
        "20 листопада 2025",
        "20 Kasım 2025",
        "2025. november 20.",
        "20 Νοεμβρίου 2025",
        "20 نوفمبر 2025",
        "٢٠ نوفمبر ٢٠٢٥",
        "20 नवंबर 2025",
    ],
)
def test_a_line_that_is_a_date_in_another_language(line: str) -> None:
    assert line_date(line) == DAY


@pytest.mark.parametrize(
    "line",
    [
        # two readings, or none
        "03/04/2025",
        "03.04.2025",
        "2025-02-30",
        "February 30, 2025",
        "31 de fevereiro de 2025",
        "2025-13-01",
        "20251120",
        "November 2025",
        "2025",
        "20 พฤศจิกายน 2568",  # a year of the Buddhist era
        "1447-05-29",
        # the day of something else
        "Updated: 2025-11-20",
        "Last updated November 20, 2025",
        "Updated, November 20, 2025",
        "Retrieved 20 November 2025",
        "Born 3 March 1950",
        "Deadline: 20 November 2025",
        # running text
        "On November 20, 2025, the council met",
        "The council met on November 20, 2025",
        "The council met on November 20, 2025.",
        "The dam burst on 3 March 2019",
        "MOSCOW, Nov. 20, 2025 — The president said",
        "from 20 November 2025 to 21 November 2025",
        "Between 20 November 2025 and 21 November 2025",
        "Le barrage a cédé le 20 novembre 2025",
        "Paris Agreement 12 December 2015",
        "Chapter 12 Dec 2025",
        # numbers that are no dates
        "Room 2025, floor 11-20",
        "Ticket 2025-11-20-7",
        "Version 1.2025-11-20",
        "Top 20 films of March 2025",
        "Apollo 11 in May 2025",
        "12 angry men 2025 mar",
        "may 2025 20 years",
        "© 2025 Reuters",
        "",
    ],
)
def test_a_line_that_is_not_a_date_beyond_doubt(line: str) -> None:
    assert line_date(line) is None


def test_a_long_line_is_no_dateline() -> None:
    assert line_date("KABUL, 20 November 2025".ljust(150)) == DAY
    assert line_date(f"{'K' * 80}, 20 November 2025") is None
    assert line_date("KABUL, 20 November 2025".ljust(200)) is None


def test_what_the_date_library_stumbles_over_is_no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise OverflowError

    assert line_date("20 novembre 2025") == DAY
    monkeypatch.setattr("dateparser.parse", breaks)
    assert line_date("20 novembre 2025") is None


def test_equal_day_and_month_leave_no_doubt() -> None:
    assert line_date("05/05/2025") == "2025-05-05"


@given(st.dates(date(1600, 1, 1), date(2199, 12, 31)))
def test_every_day_is_read_in_every_english_form(day: date) -> None:
    month = f"{day:%B}"
    for line in (
        day.isoformat(),
        f"{month} {day.day}, {day.year}",
        f"{day.day} {month} {day.year}",
        f"{day:%A}, {day.day} {month[:3]}. {day.year}",
        f"KYIV, {month} {day.day}, {day.year} (Agency) —",
        f"{day.year}年{day.month}月{day.day}日",
    ):
        assert line_date(line) == day.isoformat()
        assert line_date(f"It was said that {line}") is None


@given(
    st.text(max_size=100) | st.text(st.sampled_from("0123456789 -/.,:()novjuly年月日"), max_size=60)
)
@example("2025-11-20 (\ud800")
@example("0 nov 2025")
@example("²⁰ november ²⁰²⁵")
def test_any_line_is_safe(line: str) -> None:
    found = line_date(line)
    assert found is None or date.fromisoformat(found).isoformat() == found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("2025-11-23-report.txt", "2025-11-23"),
        ("report_2025_11_23.txt", "2025-11-23"),
        ("report20251123.txt", "2025-11-23"),
        ("20251123T0830.txt", "2025-11-23"),
        ("a-2025-13-23-2025-11-24.txt", "2025-11-24"),
        ("120251123.txt", None),
        ("202511230.txt", None),
        ("20251123083000.txt", None),
        ("2025-11_23.txt", None),
        ("2025-11-231.txt", None),
        ("20250230.txt", None),
        ("16540923.txt", None),
        ("report-2025.txt", None),
        ("", None),
    ],
)
def test_a_date_in_the_name_of_a_file(name: str, wanted: str | None) -> None:
    assert dateline("Title\n\nText.", name) == wanted


def test_the_name_of_the_file_comes_first() -> None:
    text = "Title\n\nNovember 20, 2025\n\nText."
    assert dateline(text, "2024-01-02.txt") == "2024-01-02"
    assert dateline(text, "report.txt") == DAY


def test_only_lines_at_the_edges_are_dates() -> None:
    story = [f"Paragraph {number} of the story." for number in range(20)]
    for place, wanted in ((0, DAY), (5, DAY), (6, None), (17, None), (18, DAY), (20, DAY)):
        lines = [*story[:place], "November 20, 2025", *story[place:]]
        assert dateline("\n".join(lines), "a.txt") == wanted, place
        assert dateline("\n\n".join(lines), "a.txt") == wanted, place
    assert dateline("", "") is None


def test_the_first_of_two_datelines_counts() -> None:
    assert dateline("Title\n2025-11-20\n2025-11-21\n\nText.", "") == DAY


def test_a_long_text_is_not_gone_through_for_a_date() -> None:
    text = "20 November 2025 was a day like any other.\n" * 200_000
    started = time.process_time()
    assert dateline(text, "a.txt") is None
    assert line_date("2025 " * 2_000_000) is None
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        ("Title\n\nText.", "Title", "Text."),
        ("Title\nText.\n\nMore.", "Title", "Text.\n\nMore."),
        ("# Title\n\nText.", "Title", "Text."),
        ("### Title #1\n\nText.", "Title #1", "Text."),
        ("#title\n\nText.", "#title", "Text."),
        ("  Title\n\n  indented", "Title", "  indented"),
        ("Only one line.", "Only one line.", "Only one line."),
        ("# Only one line.", "Only one line.", "# Only one line."),
        ("x" * 200 + "\n\nText.", "x" * 200, "Text."),
        ("November 20, 2025\n\nTitle\n\nText.", "Title", "November 20, 2025\n\nText."),
        ("KABUL, 20 November 2025\nTitle\nText.", "Title", "KABUL, 20 November 2025\n\nText."),
        ("November 20, 2025", "November 20, 2025", "November 20, 2025"),
        ("", "", ""),
    ],
)
def test_title_from_the_first_line(text: str, title: str, rest: str) -> None:
    assert first_line_title(text) == (title, rest)


def test_a_first_paragraph_is_cut_at_a_word_and_stays_in_the_text() -> None:
    text = "word " * 50 + "end\n\nMore."
    title, rest = first_line_title(text)
    assert rest == text
    assert title == "word " * 23 + "word…"
    assert len(title) == CUT_TITLE_CHARACTERS
    assert first_line_title("x" * 1000) == ("x" * 119 + "…", "x" * 1000)
    assert first_line_title("x" * 118 + ", y z")[0] == "x" * 118 + "…"
    assert first_line_title("x" * 117 + " yz and") == ("x" * 117 + "…", "x" * 117 + " yz and")


@given(st.text(st.sampled_from("ab #\n\t2025-11-20é\U0001f600"), max_size=300))
def test_title_and_rest_hold_every_word(text: str) -> None:
    text = text.strip("\n")
    title, rest = first_line_title(text)
    assert len(title) <= 200
    assert "\n" not in title
    assert bool(title) == bool(text.strip())
    if rest != text:
        assert sorted(f"{title} {rest}".split()) in (
            sorted(text.split()),
            sorted(_without_a_heading_mark(text).split()),
        )


def _without_a_heading_mark(text: str) -> str:
    return re.sub(r"^\s*#{1,6}\s+(?=\S)", "", text, count=1, flags=re.MULTILINE)


def page(html: str, url: str | None = None) -> str | None:
    import trafilatura

    return page_date(trafilatura.load_html(f"<html>{html}<p>One.</p><p>Two.</p></html>"), url)


@pytest.mark.parametrize(
    ("html", "wanted"),
    [
        (
            '<meta property="article:published_time" content="2025-11-20T23:30:00-05:00">',
            "2025-11-20T23:30:00-05:00",
        ),
        ('<meta name="date" content="20 November 2025">', DAY),
        ('<meta name="DC.date.issued" content="1969-07-21">', "1969-07-21"),
        ('<meta name="citation_publication_date" content="2025/11/20">', DAY),
        ('<meta itemprop="datePublished" content="2025-11-20">', DAY),
        (
            '<script type="application/ld+json">{"dateModified": "2025-12-01",'
            ' "datePublished": "2025-11-20"}</script>',
            DAY,
        ),
        (f'<div><span>By A. B.</span> <time datetime="{DAY}">yesterday</time></div>', DAY),
        (f'<p>Published <time datetime="{DAY}">20 November 2025</time></p>', DAY),
        (
            '<div><time datetime="2024-01-01">old</time></div>'
            f'<div><time itemprop="datePublished" datetime="{DAY}">new</time></div>',
            DAY,
        ),
        # not when it was published, or not beyond doubt
        ('<meta property="article:modified_time" content="2025-11-20">', None),
        ('<meta name="date" content="03/04/2025">', None),
        ('<meta name="date" content="0001-01-01T00:00:00Z">', None),
        ('<meta name="copyright" content="2025">', None),
        (f'<nav><time datetime="{DAY}">today</time></nav>', None),
        (f'<time class="updated" datetime="{DAY}">today</time>', None),
        (f'<p>The dam burst on <time datetime="{DAY}">that day</time>.</p>', None),
        (
            "<div>After long rains in the hills the dam burst at last on "
            f'<time datetime="{DAY}">that day</time></div>',
            None,
        ),
        ("<p>The dam burst on 20 November 2025.</p><small>2025-11-20</small>", None),
        ("", None),
    ],
)
def test_the_date_of_a_page(html: str, wanted: str | None) -> None:
    assert page(html) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://example.org/2025/11/20/spill", DAY),
        ("https://example.org/news-2025-11-20", DAY),
        ("https://example.org/2025/13/20/spill", None),
        ("https://example.org/20251120", None),
    ],
)
def test_the_date_in_an_address(url: str, wanted: str | None) -> None:
    assert page("", url) == wanted
    marked = '<meta name="date" content="2024-01-01">'
    assert page(marked, url) == "2024-01-01"
