"""Articles and questions that mean harm, over HTTP: what is asked is data, and quotes stay true."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote as percent_encoded

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.served import ARTICLES, JSON, add, filled

EXAMPLES = int(os.environ.get("RAG_FUZZ_EXAMPLES", "40"))
some = settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
)

ODD = st.sampled_from(
    [
        *"aZé.?!,;:'\"\\/*~^()[]{}<>&%#@+-_=|`$ \t\n",
        *("\0", "\x1b", "\x7f", "\x85", "\ufeff", "\ufffe", "\uffff", "\U0010ffff", "\U000e0001"),
        *("\u200b", "\u200d", "\u2060", "\u00ad", "\u034f", "\u180e", "\u2028", "\u3000", "\u00a0"),
        *("\u202e", "\u202d", "\u2066", "\u2069", "\u200f", "\u061c"),
        *("\u0301", "\u0323", "\u0344", "\u0f73", "\u1ab0", "\u20dd", "\ufe0f", "\u0e33"),
        *("\ue000", "\U000f0000", "\u0378", "\u1160", "\uac00", "\u1100\u1161\u11a8"),
        *(
            "🦠",
            "👩\u200d👩\u200d👧",
            "🇺🇳",
            "👍🏽",
            "ﬃ",
            "İ",
            "ß",
            "ǅ",
            "Å",
            "ﷺ",
            "𝔘",
            "١",
            "²",
            "中。",
        ),
        *("AND", "OR", "NOT", "NEAR", "quokka", "spillover", "The mayor was glad. "),
    ]
)
TEXT = st.text(max_size=60) | st.lists(ODD, max_size=40).map("".join)
HALVES = st.sampled_from(["", "\ud800", "\udfff", "\udc00\ud800"])  # of surrogate pairs


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with filled(tmp_path_factory.mktemp("served"), lexical_weight=1.0) as client:
        yield client


def post(client: TestClient, address: str, body: Any) -> Any:
    """The response to a body in ASCII, as half a surrogate pair must be sent."""
    return client.post(address, content=json.dumps(body), headers=JSON)


def check_quotes(client: TestClient, answer: dict[str, Any]) -> None:
    """Every quote, passage and highlight of an answer is where it says, and verified there."""
    for each in answer["citations"]:
        article = each["article"]["id"]
        text = client.get(f"/articles/{percent_encoded(article, safe='')}/text").content.decode()
        assert text[each["start"] : each["end"]] == each["quote"]
        passage = each["passage"]
        assert text[passage["start"] : passage["end"]] == passage["text"]
        assert passage["start"] <= each["start"] <= each["end"] <= passage["end"]
        last = each["start"]
        for start, end in each["highlights"]:
            assert last <= start < end <= each["end"]
            last = end
        claim = {name: each[name] for name in ("start", "end", "quote")}
        checked = client.post("/verify", json={"article_id": article, **claim}).json()
        assert checked["valid"] is True


@some
@given(st.lists(st.tuples(TEXT, TEXT, HALVES), min_size=1, max_size=3), TEXT)
@example([("q" + "\u0301" * 900, "A quokka" + "\u0301" * 100_000 + " was seen.", "")], "quokka")
@example(
    [("T", "A \u202equokka\u202c was e\u0301 seen. \u1100\u1161\u11a8 ran.", "")], "e\u0301 각"
)
@example([("T", "🇺🇳👩\u200d👩\u200d👧 quokka. " * 200, "\ud800")], "quokka 🇺🇳")
def test_quotes_of_any_text_stand_where_they_say(
    client: TestClient, made: list[tuple[str, str, str]], question: str
) -> None:
    articles = [
        {
            "id": f"n{at}",
            "title": title,
            "text": f"{text}{half} A quokka was seen.",
            "source": text[:99],
        }
        for at, (title, text, half) in enumerate(made)
    ]
    response = post(client, "/articles", articles)
    assert response.status_code == 200, response.text
    answer = post(client, "/ask", {"question": f"quokka {question}", "top_k": 10})
    assert answer.status_code == 200, answer.text
    assert answer.json()["citations"]
    check_quotes(client, answer.json())
    for address in ("/", "/read/n0?start=0&end=5"):
        page = client.get(address, params={"q": f"quokka {question}"} if address == "/" else None)
        assert page.status_code == 200


FIELDS = st.fixed_dictionaries(
    {"question": TEXT | st.builds("".join, st.tuples(TEXT, HALVES))},
    optional={
        "top_k": st.integers(-1, 102) | st.just(10**30),
        "asked_at": TEXT | st.dates().map(str) | st.datetimes().map(str),
        "token_budget": st.integers(0, 2**53),
        "filters": st.fixed_dictionaries(
            {},
            optional={
                "source": st.lists(TEXT | HALVES, max_size=3),
                "article_id": st.lists(TEXT, max_size=3),
                "exclude_article_id": st.lists(TEXT, max_size=3),
                "published_from": TEXT | st.dates().map(str),
                "published_to": TEXT | st.datetimes().map(str),
            },
        ),
    },
)


@some
@given(FIELDS)
@example({"question": "last week and yesterday and two years ago", "asked_at": "0001-01-01"})
@example({"question": "next winter, since 9999", "asked_at": "9999-12-31T23:59:59.999999-23:59"})
@example({"question": "in 0000-00 or on 31 February 0000", "asked_at": "0001-01-01T00:00+23:59"})
def test_any_question_gets_an_answer_or_a_reason(client: TestClient, asked: dict[str, Any]) -> None:
    for address in ("/ask", "/search"):
        response = post(client, address, asked)
        assert response.status_code in (200, 422), response.text
        if response.status_code == 422:
            assert response.json()["errors"][0]["detail"]
        elif address == "/ask":
            check_quotes(client, response.json())


@some
@given(TEXT, TEXT)
def test_any_address_is_one_that_is_there_or_not(client: TestClient, one: str, two: str) -> None:
    encoded = percent_encoded(one, safe="")
    for method, address in [
        ("GET", f"/articles/{encoded}"),
        ("GET", f"/articles/{encoded}/text"),
        ("DELETE", f"/articles/{encoded}x"),
        ("GET", f"/read/{encoded}"),
    ]:
        assert client.request(method, address).status_code in (200, 307, 404, 405)
    listed = client.get("/articles", params={"cursor": one, "limit": 1000})
    assert listed.status_code == 200
    assert all(each["id"] > one for each in listed.json()["articles"])
    parameters = {"q": one, "source": two, "from": two}
    assert client.get("/ask", params=parameters).status_code in (200, 422)
    assert client.get("/", params=parameters).status_code in (200, 422)
    claim = {"article_id": one, "start": 0, "end": len(two), "quote": two}
    assert post(client, "/verify", claim).status_code in (200, 404)


SYNTAX = [
    'title:harbour AND (mayor OR "storm surge"~2) -levee +ships^3',
    "words:[a TO z] source:{* TO 5} /harb.*r/ IN [mayor] ships*",
    "'; DROP TABLE article; -- harbour",
    "harbour' OR '1'='1",
    'NEAR("harbour" mayor, 5) ^ships {words} : harbour',
    'harbour" OR rowid MATCH "mayor',
    "SELECT * FROM article WHERE title LIKE '%harbour%'",
    "passage:1 generation:[0 TO *] *:* harbour",
    "{{harbour}} ${harbour} %(harbour)s {0} %s %n \\x00 \\",
    "harbour\0mayor",
]


@pytest.mark.parametrize("question", SYNTAX)
def test_syntax_finds_what_its_words_find(client: TestClient, question: str) -> None:
    def found(asked: str) -> list[tuple[str, float]]:
        hits = post(client, "/search", {"question": asked, "top_k": 100}).json()["hits"]
        return sorted((hit["passage_id"], hit["scores"]["lexical"]) for hit in hits)

    words = " ".join(re.findall("[^\\W_]+", question))
    assert found(question) == found(words)
    assert any(score > 0 for _, score in found(question))
    assert {each["id"] for each in ARTICLES} <= {
        each["id"] for each in client.get("/articles", params={"limit": 1000}).json()["articles"]
    }


@pytest.mark.parametrize("syntax", ["*", "%", "_", "' OR 1=1 --", '"', "Coast*", "Coast Wire' --"])
def test_a_filter_is_a_value_and_no_pattern(client: TestClient, syntax: str) -> None:
    for name in ("source", "article_id"):
        body = {"question": "harbour", "filters": {name: [syntax]}}
        assert client.post("/search", json=body).json()["hits"] == []
    assert client.get(f"/articles/{percent_encoded(syntax, safe='')}").status_code == 404
    add(client, {"id": "odd", "text": "A harbour.", "source": syntax})
    (hit,) = client.post(
        "/search", json={"question": "harbour", "filters": {"source": [syntax]}}
    ).json()["hits"]
    assert hit["article"]["source"] == syntax


def test_no_field_of_an_article_makes_every_answer_long(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    body = schema["paths"]["/articles"]["post"]["requestBody"]["content"]["application/json"]
    described = body["schema"]["anyOf"][0]["properties"]
    for field in ("title", "source", "author", "url"):
        (limit,) = (kind["maxLength"] for kind in described[field]["anyOf"] if "maxLength" in kind)
        article = {"id": "long", "text": "A numbat was seen.", field: "x" * limit}
        add(client, article)
        response = post(client, "/articles", article | {field: "x" * (limit + 1)})
        assert response.status_code == 422
        assert f"its {field} has {limit + 1:,} characters" in response.json()["detail"]
    assert len(post(client, "/ask", {"question": "numbat"}).content) < 100_000
    client.request("DELETE", "/articles/long")


@pytest.mark.parametrize("filling", ["\u200b", " ", "\u0301"])
def test_no_text_makes_every_answer_long(client: TestClient, filling: str) -> None:
    add(client, {"id": "long", "text": f"A numbat. {filling * 1_000_000} A numbat."})
    asked = {"question": "numbat", "top_k": 1}
    assert len(post(client, "/ask", asked).content) < 100_000
    client.request("DELETE", "/articles/long")
