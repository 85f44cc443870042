"""Citations: verbatim, highlighted at the right characters, and with a link that opens there."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag.archive import Archive
from rag.cite import (
    PER_ARTICLE,
    WHOLE_QUOTE_CHARACTERS,
    cite,
    collapse,
    link,
    sentence_of_weight,
    term_weights,
    words_asked,
)
from rag.errors import InvalidRequest
from rag.lexical import Analyzer
from rag.normalise import normalise_text
from rag.searcher import UNSEEN, Searcher
from rag.types import Answer, Article, ArticleHead, Hit, Passage, Scores, Span
from tests.fakes import FakeEncoder, add
from tests.folders import temporary_folder

ANALYZER = Analyzer()
HEAD = ArticleHead("a", "Title", None, None, "https://news.example/a", None, 1, "0", 100)

WORDS = ["Minister", "warned", "of", "spillover", "U.S.", "café", "naïve", "Ⅷ", "Straße", "ﬁre"]
MARKS = [". ", "! ", "\n\n", "\n", " ", "  ", "👩\u200d👩\u200d👧 ", "🇺🇸", "\u202b", "، ", "؟ "]
OTHERS = ["تحذير", "العربية", "警告", "。", "क़", "\u0130", "ß", "İstanbul", "x" * 70, "'s", "-"]
PIECES = st.lists(st.sampled_from([*WORDS, *WORDS, *MARKS, *MARKS, *OTHERS]), max_size=60)
TEXTS = st.one_of(PIECES.map("".join), PIECES.map(" ".join), st.text(max_size=120))


def texts_of(articles: list[Article]) -> dict[str, str]:
    return {article.id: article.text for article in articles}


def check(answer: Answer, texts: dict[str, str]) -> None:
    """What is promised of every citation."""
    asked = normalise_text(answer.question)
    terms = set(ANALYZER.question_terms(asked))
    taken: Counter[tuple[str, int]] = Counter()
    for rank, citation in enumerate(answer.citations, start=1):
        text = texts[citation.hit.article.id]
        span = citation.hit.passage.span
        assert citation.rank == rank
        assert text[citation.start : citation.end] == citation.quote
        assert text[span.start : span.end] == citation.hit.passage.text
        if span.sentences:
            assert citation.start in {start for start, _ in span.sentences}
            assert citation.end in {end for _, end in span.sentences}
        else:
            assert (citation.start, citation.end) == (0, 0)
        at = citation.start
        for start, end in citation.highlights:
            assert at <= start < end <= citation.end
            at = end
        lit = {place for start, end in citation.highlights for place in range(start, end)}
        for word in ANALYZER.terms(citation.quote):
            if word.text in terms:
                assert lit.issuperset(range(citation.start + word.start, citation.start + word.end))
        places = range(citation.start, citation.end)
        taken.update((citation.hit.article.id, place) for place in places)
    assert not taken or max(taken.values()) == 1, "quotes overlap"


# Every citation of any text for any question


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), st.lists(TEXTS, min_size=1))
def test_every_quote_is_verbatim(made: list[tuple[str, str]], questions: list[str]) -> None:
    articles = [
        Article(id=f"n{number}", title=normalise_text(title)[:90] or "T", text=normalise_text(text))
        for number, (title, text) in enumerate(made)
    ]
    texts = texts_of(articles)
    with temporary_folder() as folder, closing(Archive(folder)) as archive:
        report = add(archive, FakeEncoder(), *articles)
        assert report.added == len(articles)
        searcher = Searcher(archive, FakeEncoder())
        for question in [*questions, *(text for text in texts.values())]:
            try:
                answer = searcher.ask(question, top_k=50)
            except InvalidRequest:
                assert all(unicodedata.category(character) in UNSEEN for character in question)
                continue
            check(answer, texts)
            assert answer.question == question
            assert {citation.hit.article.id for citation in answer.citations} == texts.keys()
            for citation in answer.citations:
                article_id = citation.hit.article.id
                said = (citation.start, citation.end, citation.quote)
                assert searcher.verify(article_id, *said).valid


@pytest.mark.parametrize(
    "before",
    [
        "",
        "👩\u200d👩\u200d👧 🇺🇸 went. ",
        "قال الرئيس ذلك. ",
        "\U0001d54f\U0001d550 ",
        "Straße, ﬁre, Ⅷ and İstanbul: ",
        "他说了这句话。",
        "e\u0323\u0302 a\u20dd ",
    ],
)
def test_highlights_are_the_words_of_the_question(before: str, tmp_path: Path) -> None:
    text = f"{before}The minister WARNED of spill-over, and warnings came 🦠 of a spillover."
    article = Article(id="a", title="T", text=text)
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), article, passage_tokens=60)
        answer = Searcher(archive, FakeEncoder()).ask("who warned of spillover?")
    (citation,) = answer.citations
    check(answer, {"a": text})
    lit = [text[start:end] for start, end in citation.highlights]
    assert lit == ["WARNED", "warnings", "spillover"]


def test_the_sentence_with_most_of_the_question_is_quoted(tmp_path: Path) -> None:
    wanted = "Vera Okafor warned the council of spillover."
    text = f"The council met on Monday. {wanted} The council will meet again."
    others = [Article(id=f"o{n}", title="T", text="The council met.") for n in range(3)]
    with closing(Archive(tmp_path)) as archive:
        article = Article(id="a", title="T", text=text)
        add(archive, FakeEncoder(), article, *others, passage_tokens=60)
        searcher = Searcher(archive, FakeEncoder())
        asked = "who warned the council of spillover"
        most, equal = (
            next(c for c in searcher.ask(question).citations if c.hit.article.id == "a")
            for question in (asked, "Monday again")
        )
    assert most.quote == wanted
    assert equal.quote in ("The council met on Monday.", "The council will meet again.")


def test_without_token_vectors_the_sentence_of_most_weight_is_quoted() -> None:
    first, second, third = "The council met.", "Vera Okafor warned the council.", "Okafor left."
    text = f"{first} {second} {third}"
    starts = [100 + text.index(each) for each in (first, second, third)]
    spans = tuple(
        (start, start + len(each))
        for start, each in zip(starts, (first, second, third), strict=True)
    )
    span = Span(100, 100 + len(text), 12, spans)
    passage = Passage(1, "a", 1, span, text)

    def quoted(**weights: float) -> tuple[int, int]:
        return sentence_of_weight(passage, weights, ANALYZER)

    assert quoted(warn=1.0, okafor=2.0, council=0.5) == spans[1]
    assert quoted(okafor=1.0) == spans[1]  # the first of equals
    assert quoted(met=3.0, warn=1.0, okafor=1.0) == spans[0]
    assert quoted(zebra=1.0) == quoted() == (100, 100 + len(text))

    def shown(start: int, end: int) -> list[tuple[int, int]]:
        return words_asked(passage, {"okafor": 1}, ANALYZER, (start, end))

    both = shown(100, 100 + len(text))
    assert [text[start - 100 : end - 100] for start, end in both] == ["Okafor", "Okafor"]
    assert [shown(*each) for each in spans] == [[], both[:1], both[1:]]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=9))
def test_highlights_are_in_order_apart_and_inside_the_quote(made: list[tuple[int, int]]) -> None:
    text = "abcdefghijklmnopqrstuvwxyz0123456789ABCD"
    hit = Hit(Passage(1, "a", 1, Span(50, 90, 1, ((50, 90),)), text), HEAD, 1.0, Scores(1.0, 1.0))
    given_spans = [(50 + start, 50 + start + length) for start, length in made]
    citation = cite(1, hit, (55, 80), sorted(given_spans))
    assert citation.quote == text[5:30]
    inside = [span for span in given_spans if span[0] >= 55 and span[1] <= 80]
    lit = {place for span in inside for place in range(*span)}
    assert {place for span in citation.highlights for place in range(*span)} == lit
    at = 55
    for start, end in citation.highlights:
        assert at <= start < end <= 80
        at = end


# Which passages


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 45))
def test_at_most_two_of_an_article_unless_too_few_remain(articles: list[int], top_k: int) -> None:
    places = collapse(articles, top_k)
    assert places == sorted(set(places))
    assert len(places) == min(top_k, len(articles))
    assert PER_ARTICLE == 2
    counts = Counter(articles[place] for place in places)
    most = sum(min(count, PER_ARTICLE) for count in Counter(articles).values())
    if most >= top_k:
        assert all(count <= PER_ARTICLE for count in counts.values())
        best = [
            place
            for place, article in enumerate(articles)
            if articles[:place].count(article) < PER_ARTICLE
        ]
        assert places == best[:top_k]
    else:
        assert all(counts[each] >= min(articles.count(each), PER_ARTICLE) for each in articles)
        left_out = set(range(len(articles))) - set(places)
        spare = [
            place for place in places if articles[:place].count(articles[place]) >= PER_ARTICLE
        ]
        assert not left_out or max(spare) < min(left_out), "a worse passage came before a better"


def test_rarer_terms_weigh_more_and_none_below_nothing() -> None:
    frequency = {"spillover": 1, "council": 50, "the": 100, "dead": 130, "unknown": 0}
    weights = term_weights(frequency, frequency.__getitem__, 100)
    ordered = [weights[term] for term in ("unknown", "spillover", "council", "the")]
    assert ordered == sorted(ordered, reverse=True)
    assert len(set(ordered)) == 4
    assert weights["dead"] == weights["the"] > 0
    assert term_weights([], frequency.__getitem__, 0) == {}


# Links


@pytest.mark.parametrize(
    ("url", "quote", "wanted"),
    [
        ("https://n.example/a", "It is over.", "https://n.example/a#:~:text=It%20is%20over."),
        ("https://n.example/a?b=c&d", "So", "https://n.example/a?b=c&d#:~:text=So"),
        ("https://n.example/a#part", "So", "https://n.example/a#part:~:text=So"),
        ("https://n.example/a#", "So", "https://n.example/a#:~:text=So"),
        ("https://n.example/a#x:~:text=old", "So", "https://n.example/a#x:~:text=So"),
        ("https://n.example/a#:~:text=old", "So", "https://n.example/a#:~:text=So"),
        ("https://n.example/a", "spill-over", "https://n.example/a#:~:text=spill%2Dover"),
        ("https://n.example/a", "A, B & C", "https://n.example/a#:~:text=A%2C%20B%20%26%20C"),
        ("https://n.example/a", "né\n 中", "https://n.example/a#:~:text=n%C3%A9%20%E4%B8%AD"),
        ("https://n.example/a", "100% #1/2", "https://n.example/a#:~:text=100%25%20%231%2F2"),
        ("https://n.example/a#part", "", "https://n.example/a#part"),
    ],
)
def test_a_link_opens_at_the_quote(url: str, quote: str, wanted: str) -> None:
    assert link(replace(HEAD, url=url), quote) == wanted


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "http://[no address#x", "a/b"])
def test_without_a_page_s_address_there_is_no_link(url: str | None) -> None:
    assert link(replace(HEAD, url=url), "It is over.") is None


def test_a_quote_over_the_end_of_a_paragraph_is_named_by_its_ends() -> None:
    quote = "One two three four five six.\n\nSeven eight nine ten eleven twelve."
    found = link(HEAD, quote)
    assert found is not None
    wanted = ":~:text=One%20two%20three%20four%20five,eight%20nine%20ten%20eleven%20twelve."
    assert found.endswith(wanted)


@pytest.mark.parametrize(("words", "gap"), [(90, " "), (12, "\n"), (12, "\n\n")])
def test_a_long_quote_and_one_of_two_paragraphs_is_named_by_its_ends(words: int, gap: str) -> None:
    quote = gap.join(f"word-{number}," for number in range(words))
    assert (len(quote) > WHOLE_QUOTE_CHARACTERS) == (gap == " ")
    found = link(HEAD, quote)
    assert found is not None
    first, last = found.partition(":~:text=")[2].split(",")
    said = " ".join(quote.split())
    assert unquote(first) == "word-0, word-1, word-2, word-3, word-4,"
    assert said.endswith(f" {unquote(last)}")
    assert len(found) < 200


@given(TEXTS.map(normalise_text).filter(bool))
def test_a_link_says_the_quote_and_nothing_else(quote: str) -> None:
    found = link(HEAD, quote)
    assert found is not None
    address, _, directive = found.partition("#:~:text=")
    assert address == HEAD.url
    assert re.fullmatch(r"[A-Za-z0-9._~%]+(,[A-Za-z0-9._~%]+)?", directive)
    said = " ".join(quote.split())
    first, _, last = directive.partition(",")
    assert said.startswith(unquote(first))
    assert said.endswith(unquote(last or first))
    if len(quote) <= WHOLE_QUOTE_CHARACTERS and "\n" not in quote:
        assert unquote(directive) == said
