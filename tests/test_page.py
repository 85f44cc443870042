"""The page: what it shows, what it marks, and that no text can become markup."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from rag.marks import paragraphs
from rag.page import day
from tests.served import ARTICLES, QUESTION, add, filled, problem, server, text_of

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><b onclick=alert(3)>{{7*7}}"


class Page(HTMLParser):
    """What a browser would see: the elements with their attributes, and the text of some."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(response.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag  # all is closed in order

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def links(self) -> list[str]:
        return [str(each["href"]) for each in self.of("a")]

    @property
    def said(self) -> str:
        return " ".join(self.texts["body"][0].split())

    @property
    def field(self) -> dict[str, str | None]:
        return next(each for each in self.of("input") if each["name"] == "q")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with filled(tmp_path) as client:
        yield client


def asked(client: TestClient, question: str = QUESTION, **parameters: Any) -> Page:
    response = client.get("/", params={"q": question, **parameters})
    assert response.status_code == 200, response.text
    return Page(response)


def test_the_start_page(client: TestClient) -> None:
    page = Page(client.get("/"))
    assert "3 articles" in page.said
    assert page.of("html")[0]["lang"] == "en"
    assert "autofocus" in page.field
    assert "required" in page.field
    labels = {each["for"] for each in page.of("label")}
    assert labels == {each["id"] for each in page.of("input")}
    (form,) = page.of("form")
    assert (form["action"], form["method"]) == ("/", "get")
    assert not page.of("script")
    assert not page.of("mark")


def test_the_page_loads_nothing(client: TestClient) -> None:
    for address in ("/", f"/?q={QUESTION}", "/read/spillover?start=5&end=9"):
        response = client.get(address)
        page = Page(response)
        for _, attributes in page.elements:
            assert str(attributes.get("src", "data:")).startswith("data:")
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert all(str(each["href"]).startswith("data:") for each in page.of("link"))
        style = re.search("<style>(.*?)</style>", response.text, re.DOTALL)
        assert style is not None
        assert "url(" not in style[1]
        digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        policy = response.headers["content-security-policy"]
        assert f"style-src 'sha256-{digest}';" in policy
        assert "form-action 'self'" in policy
        assert "script-src" not in policy


def test_an_empty_archive_says_how_to_add(tmp_path: Path) -> None:
    with server(tmp_path / "index") as client:
        assert "rag add PATH" in Page(client.get("/")).said
        page = asked(client)
        assert "Nothing was found" in page.said
        assert "rag add PATH" in page.said


def test_an_answer_is_marked_where_it_stands(client: TestClient) -> None:
    page = asked(client)
    assert page.field["value"] == QUESTION
    assert page.texts["mark"][0] == "Vera Okafor warned of spillover on May 4."
    assert page.texts["b"][:2] == ["warned", "spillover"]
    assert page.texts["h2"][0] == "Envoy warns of spillover"
    assert "The Daily Test" in page.said
    assert "23 November 2025" in page.said
    assert "Ann Other, B. Writer" in page.said
    assert re.search(r"\d+ quotes in \d+ ms", page.said)
    first = page.texts["blockquote"][0]
    assert first.strip().startswith("🦠 First an emoji. Vera Okafor")
    assert any(link.startswith("https://news.example/spillover#:~:text=") for link in page.links)


def test_the_link_leads_to_the_quote(client: TestClient) -> None:
    page = asked(client)
    link = next(link for link in page.links if link.startswith("/read/"))
    assert link.startswith("/read/spillover?revision=1&start=18&")
    assert link.endswith("#quote")
    article = Page(client.get(link))
    marks = article.of("mark")
    assert [each.get("id") for each in marks] == ["quote"]
    assert article.texts["mark"] == ["Vera Okafor warned of spillover on May 4."]
    assert article.texts["h1"] == ["Envoy warns of spillover"]
    assert "characters 18 to 59" in article.said
    assert "https://news.example/spillover" in article.links
    assert text_of(client, "spillover").split("\n\n") == article.texts["p"][2:4]


def test_a_quote_over_two_paragraphs_is_marked_in_both(client: TestClient) -> None:
    text = text_of(client, "spillover")
    article = Page(client.get("/read/spillover", params={"start": 60, "end": len(text)}))
    assert [each.get("id") for each in article.of("mark")] == ["quote", None]
    assert "".join(article.texts["mark"]) == text[60:].replace("\n\n", "")


def test_an_article_without_a_place_has_no_mark(client: TestClient) -> None:
    article = Page(client.get("/read/harbour"))
    assert not article.of("mark")
    assert "29 February 2024, 23:30 UTC" in article.said
    assert "/articles/harbour/text?revision=1" in article.links


@pytest.mark.parametrize(("start", "end"), [(10, 10**6), (20, 10), (10**9, 10**9 + 1)])
def test_a_place_that_is_not_in_the_article(start: int, end: int, client: TestClient) -> None:
    article = Page(client.get("/read/harbour", params={"start": start, "end": end}))
    assert not article.of("mark")
    assert "no quote at that place" in article.said


def test_a_quote_can_be_read_after_a_revision(client: TestClient) -> None:
    add(client, ARTICLES[1] | {"text": "No ship came."})
    earlier = Page(client.get("/read/harbour?revision=1&start=0&end=31"))
    assert earlier.texts["mark"] == ["Ships came back to the harbour."]
    assert "has been revised since" in earlier.said
    assert "/read/harbour" in earlier.links
    assert "revised since" not in Page(client.get("/read/harbour")).said


def test_an_article_that_is_not_there(client: TestClient) -> None:
    for address in ("/read/nobody", "/read/harbour?revision=9", "/read/%3Cscript%3E"):
        response = client.get(address)
        assert response.status_code == 404
        assert "No such article" in Page(response).said
    problem(client.get("/read/harbour?start=x"), 422)
    problem(client.get("/read/harbour?start=-1"), 422)


def test_an_article_that_is_a_title_only(client: TestClient) -> None:
    add(client, {"id": "bare", "title": "Quokka seen"})
    page = asked(client, "quokka")
    assert page.texts["h2"][0] == "Quokka seen"
    article = Page(client.get(page.links[1]))
    assert "only the title" in article.said


@pytest.mark.parametrize(
    ("parameters", "status", "said"),
    [
        ({"q": ""}, 422, "The question: it is empty."),
        ({"q": "  "}, 422, "The question: it is empty."),
        ({"q": "x" * 8001}, 422, "8000"),
        ({"q": QUESTION, "from": "2025-02-30"}, 422, "The first date: '2025-02-30' is not"),
        ({"q": QUESTION, "to": ATTACK}, 422, "The last date:"),
        ({"q": QUESTION, "from": "2025-02-02", "to": "2025-02-01"}, 422, "The first date: it lies"),
    ],
)
def test_what_cannot_be_asked_is_said_plainly(
    parameters: dict[str, str], status: int, said: str, client: TestClient
) -> None:
    response = client.get("/", params=parameters)
    assert response.status_code == status
    page = Page(response)
    assert "That could not be asked." in page.said
    assert said in page.said
    assert page.field["value"] == parameters["q"]


def test_dates_are_kept_and_what_they_leave_out_is_said(client: TestClient) -> None:
    page = asked(client, "harbour", **{"from": "2024-01-01", "to": "2024-12-31"})
    dates = {each["name"]: each["value"] for each in page.of("input") if each["name"] != "q"}
    assert dates == {"from": "2024-01-01", "to": "2024-12-31"}
    assert "open" in page.of("details")[0]
    assert page.texts["h2"] == ["The harbour reopens"]
    assert "1 article has no date and was left out for it." in page.said
    assert "open" not in asked(client, "harbour", **{"from": "", "to": ""}).of("details")[0]
    none = asked(client, "harbour", to="1999-12-31")
    assert "Nothing was found. Try it without the dates." in none.said


def test_how_the_question_was_read_is_said(client: TestClient) -> None:
    page = asked(client, "which harbour reopened in March 2024, according to Coast Wire?")
    said = "Read as: published 1 March 2024 to 31 March 2024; source Coast Wire."
    assert f"{said} Preferred, not required." in page.said
    assert "2024-03-31" in [each["datetime"] for each in page.of("time")]
    assert "Read as: published 4 May 2024. Preferred" in asked(client, "who on 4 May 2024?").said
    assert "published up to 31 December 2023." in asked(client, "harbour before 2024").said
    either = "Read as: published 4 March 2025 or 3 April 2025; source Coast Wire."
    assert either in asked(client, "which on 03/04/2025, according to Coast Wire?").said
    assert "Read as" not in asked(client).said


def test_the_same_answer_as_json(client: TestClient) -> None:
    page = asked(client, "harbour & <piers>", **{"from": "2024-01-01"})
    answer = client.get(page.links[-1]).json()
    assert answer["question"] == "harbour & <piers>"
    assert answer["filtered"] == {"undated": 1}
    assert "This answer as JSON" in page.said


def test_a_long_question_says_what_was_seen_of_it(client: TestClient) -> None:
    assert "first 256 of 300 tokens" in asked(client, "harbour " * 300).said


def test_nothing_written_in_an_article_becomes_markup(client: TestClient) -> None:
    attack = {
        "id": "attack",
        "title": f"Quokka {ATTACK}",
        "text": f"A quokka {ATTACK} was seen. {ATTACK}",
        "source": ATTACK,
        "author": ATTACK,
        "url": "javascript:alert(document.domain)",
    }
    add(client, attack)
    page = asked(client, f"quokka {ATTACK}")
    link = next(link for link in page.links if link.startswith("/read/attack"))
    for each in (page, Page(client.get(link))):
        assert not each.of("script")
        assert not each.of("img")
        assert not [a for _, a in each.elements if "onclick" in a or "onerror" in a]
        assert not [link for link in each.links if "javascript" in link.partition("?")[0]]
        assert ATTACK in each.said
    assert page.field["value"] == f"quokka {ATTACK}"
    assert page.texts["h2"][0] == f"Quokka {ATTACK}"
    assert "Original page" not in page.texts["li"][0]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "JAVASCRIPT://x/%0aalert(1)", "data:text/html,x", "//x.example"]
)
def test_only_a_web_address_becomes_a_link(url: str, client: TestClient) -> None:
    add(client, {"id": "odd", "text": "A quokka was seen.", "url": url})
    page = asked(client, "quokka")
    assert "A quokka was seen." in page.said
    for link in [*page.links, *Page(client.get("/read/odd")).links]:
        assert re.match(r"/|#|https://news\.example/", link)


def test_a_text_from_right_to_left(client: TestClient) -> None:
    text = "😀 בירושלים ירד גשם כבד. ראש העיר הזהיר מפני הצפות."
    add(client, {"id": "rtl", "title": "תחזית", "text": text, "source": "קול"})
    page = asked(client, "הצפות")
    assert page.texts["mark"][0] == "ראש העיר הזהיר מפני הצפות."
    assert "הצפות" in page.texts["b"]
    assert {each.get("dir") for each in page.of("h2")} == {"auto"}
    assert page.field["dir"] == "auto"
    assert "קול" in page.texts["bdi"]
    link = next(link for link in page.links if link.startswith("/read/rtl"))
    article = Page(client.get(link))
    assert article.of("h1")[0]["dir"] == "auto"
    assert "auto" in {each.get("dir") for each in article.of("p")}


@pytest.mark.parametrize(
    ("published_at", "shown"),
    [
        ("2025-11-23", "23 November 2025"),
        ("2025-11-03T08:05:00+00:00", "3 November 2025, 08:05 UTC"),
        ("2025-11-23T08:30:00.5+05:30", "23 November 2025, 08:30 +05:30"),
        ("0850-01-01", "1 January 850"),
    ],
)
def test_a_date_for_people(published_at: str, shown: str) -> None:
    found = day(published_at)
    assert found is not None
    assert (found.iso, found.shown) == (published_at, shown)
    assert day(None) is None


TEXTS = st.text(alphabet="ab 🦠\nא\u0301<", max_size=60)


@given(TEXTS, st.lists(st.integers(0, 60), min_size=2, max_size=8))
def test_marking_loses_no_character(text: str, places: list[int]) -> None:
    cuts = sorted(min(place, len(text)) for place in places)
    start, end = cuts[0], cuts[-1]
    words = list(pairwise(cuts))[::2]
    marked = paragraphs(text, (start, end), words)
    shown = [
        each.before + "".join(piece.text for piece in each.quote) + each.after for each in marked
    ]
    assert "".join("".join(shown).split()) == "".join(text.split())
    quote = "".join(piece.text for each in marked for piece in each.quote)
    bold = "".join(piece.text for each in marked for piece in each.quote if piece.is_word)
    assert "".join(quote.split()) == "".join(text[start:end].split())
    wanted = "".join(text[first:last] for first, last in words)
    assert "".join(bold.split()) == "".join(wanted.split())
