"""Names of sources in questions: what makes one, and what does not."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.naming import LONGEST_NAME_WORDS, NO_NAMES, find_sources, source_names

NAMES = source_names(
    frozenset(
        [
            "Eurasia Review",
            "Reuters",
            "The Times",
            "Times of India",
            "Nature",
            "Time",
            "The Week",
            "USA Today",
            "Briefs: Security",
            "El País",
            "www.cnn.com",
            "World Bank",
            "Der Spiegel",
            "+972 Magazine",
            "🦊 News",
            "Yahoo!",
            "Today",
            "7",
            "!",
        ]
    )
)


def read(question: str) -> list[tuple[str, str]]:
    return [(each.text, each.source) for each in find_sources(question, NAMES)]


@pytest.mark.parametrize(
    ("question", "text", "source"),
    [
        ("who warned, according to Eurasia Review?", "Eurasia Review", "Eurasia Review"),
        ("according to eurasia  review who warned", "eurasia  review", "Eurasia Review"),
        ("According to the Times, who won?", "Times", "The Times"),
        ("what did reuters report?", "reuters", "Reuters"),
        ("what did Reuters recently say on Kabul", "Reuters", "Reuters"),
        ("Reuters reported what", "Reuters", "Reuters"),
        ("What Reuters reported", "Reuters", "Reuters"),
        ("What is in the Reuters story", "Reuters", "Reuters"),
        ("which article of the Times names him", "Times", "The Times"),
        ("what was written in the Times", "Times", "The Times"),
        ("the study published in Nature", "Nature", "Nature"),
        ("according to Times of India who won", "Times of India", "Times of India"),
        ("what does USA Today say", "USA Today", "USA Today"),
        ("as reported by Briefs: Security, who fled", "Briefs: Security", "Briefs: Security"),
        ("as reported by briefs security, who fled", "briefs security", "Briefs: Security"),
        ("quoted by EL PAIS", "EL PAIS", "El País"),
        ("what did CNN say", "CNN", "www.cnn.com"),
        ("what did cnn.com say", "cnn.com", "www.cnn.com"),
        ('according to "Briefs: Security"?', "Briefs: Security", "Briefs: Security"),
        ("according to ‘briefs: security’ who won", "briefs: security", "Briefs: Security"),
        ("according to 'Reuters' who won", "Reuters", "Reuters"),
        ('according to "Reuters," who won', "Reuters", "Reuters"),
        ('according to "The Times" who won', "Times", "The Times"),
        ('according to the "Times" who won', "Times", "The Times"),
        ("what did „Der Spiegel“ report", "Der Spiegel", "Der Spiegel"),
        ("reported by «\u00a0El País\u00a0», who won", "El País", "El País"),
        ("which “Reuters” report names him", "Reuters", "Reuters"),
        ("according to +972 Magazine, who warned", "+972 Magazine", "+972 Magazine"),
        ('according to "+972 magazine" who warned', "+972 magazine", "+972 Magazine"),
        ("according to 972 Magazine, who warned", "972 Magazine", "+972 Magazine"),
        ("according to 🦊 News who warned", "🦊 News", "🦊 News"),
        ("according to 🦊  News, who warned", "🦊  News", "🦊 News"),
        ("what did 🦊 News report", "🦊 News", "🦊 News"),
        ("what did Yahoo! report", "Yahoo!", "Yahoo!"),
        ("what did Yahoo report", "Yahoo", "Yahoo!"),
    ],
)
def test_sources_are_read(question: str, text: str, source: str) -> None:
    assert read(question) == [(text, source)]


@pytest.mark.parametrize(
    "question",
    [
        "who owns Reuters",
        "how much did the World Bank lend",
        "what time did he come according to the driver",
        "what did nature do to the ship",
        "according to nature, what is right",
        "how often in a week is it reported",
        "in time for the article",
        "what did the week bring",
        "in times of war who reported",
        "New York Times reported what",
        "according to Reuters Institute",
        "according to Nature-based surveys",
        "according to the Times of London",
        "what did the Timesman report",
        "according to 7 people",
        "how does time tell on stone",
        "in what the Cape Times reported",
        'according to "Nature walks", who won',
        'according to "time", who won',
        'who owns "Reuters"',
        'who says in "Reuters rules" that it is so',
        "what does +972 stand for",
        "according to today's figures",
        "according to news of the strike",
        "according to Yahoo! Finance",
    ],
)
def test_what_is_only_a_word_or_a_topic_is_no_source(question: str) -> None:
    assert read(question) == []


def test_names_with_composed_and_decomposed_accents_are_equal() -> None:
    for form in ("NFC", "NFD"):
        question = unicodedata.normalize(form, "according to El País who won")
        (found,) = find_sources(question, NAMES)
        assert found.source == "El País"
        assert question[found.start : found.end] == found.text


def test_two_sources_of_one_name_are_both_meant() -> None:
    names = source_names(frozenset(["cnn", "CNN"]))
    found = find_sources("according to CNN who won", names)
    assert [each.source for each in found] == ["CNN", "cnn"]


def test_a_name_as_long_as_a_text_is_not_looked_for() -> None:
    longest = " ".join(["ab"] * LONGEST_NAME_WORDS)
    names = source_names(frozenset([longest, f"{longest} cd", "ab " * 4_000]))
    assert names.longest == LONGEST_NAME_WORDS
    (found,) = find_sources(f"who warned, according to {longest}?", names)
    assert found.source == longest


def test_without_sources_nothing_is_named() -> None:
    assert find_sources("according to Reuters", NO_NAMES) == ()
    assert source_names(frozenset()) == NO_NAMES


TOKENS = """
according to the Times time Reuters reuters report reported did in by of says USA Today El
" “ ” +972 Magazine 🦊 News Yahoo! ! Pai\u0301s Briefs : Security , ? ' s week Week
"""
WORDS = st.sampled_from(TOKENS.split())


@given(
    st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=20).map(" ".join)),
    st.lists(st.text(max_size=12), max_size=5),
)
def test_any_text_is_safe_and_its_places_are_right(question: str, more: list[str]) -> None:
    for names in (NAMES, source_names(frozenset(more))):
        end = 0
        for found in find_sources(question, names):
            assert question[found.start : found.end] == found.text != ""
            assert found.start >= end or found.end == end
            end = found.end
