"""Sentences as evidence: what speaks for each, which are quoted, which words are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evidence import (
    ALIGNED,
    ALSO_PART,
    FARTHEST,
    QUOTE_SENTENCES,
    Asked,
    Sentence,
    aligned_words,
    asked,
    best_run,
    kinds_held,
    sentences,
)
from rag.rerank import Alignment
from rag.types import Floats, Kind, Passage, Span
from tests.fakes import FakeEncoder

START = 40
FIRST, SECOND, THIRD = (
    "Rain fell in Oslo.",
    "Vera Okafor warned the harbour on 3 May 2025.",
    "Nobody came.",
)
TEXT = f"{FIRST} {SECOND} {THIRD}"
TITLE = "Flood warning"


def passage(*parts: str, gap: str = " ") -> Passage:
    """These sentences at `START` of an article."""
    text, at, spans = gap.join(parts), START, []
    for part in parts:
        spans.append((at, at + len(part)))
        at += len(part) + len(gap)
    return Passage(1, "a", 1, Span(START, START + len(text), 9, tuple(spans)), text)


NEWS = passage(FIRST, SECOND, THIRD)


def alignment(
    of: Passage,
    near: Mapping[str, tuple[float, ...]],
    whole: Mapping[str, float] | None = None,
    title: str = TITLE,
) -> Alignment:
    """Of the words of a title and a passage; words not in `near` are far from everything."""
    count = len(next(iter(near.values()), ()))
    text = f"{title}\n{of.text}".strip()
    found = FakeEncoder().encode_passages([text])[0].token_vectors.places
    words = [text[len(text) - start : len(text) - end] for start, end in found.tolist()]
    similarities = [near.get(word, (0.0,) * count) for word in words]
    return Alignment(
        np.array(similarities, np.float32).reshape(len(words), count),
        np.array([(whole or {}).get(word, 0.0) for word in words], np.float32),
        found,
    )


def question(text: str, *weights: float) -> Asked:
    """As it is read, its words weighing so much, or all the same."""
    encoded = FakeEncoder(window=999).encode_question(text)
    count = len(encoded.offsets)
    parts = weights or tuple([1 / max(1, count)] * count)
    assert len(parts) == count
    return asked(text, encoded, np.array(parts, np.float32))


def sentence(start: int, *, holds: frozenset[Kind] = frozenset(), **signals: float) -> Sentence:
    """Two characters of which nothing else is said than this."""
    said = dict.fromkeys(("covered", "said", "meaning", "kinds", "asked"), 0.0) | signals
    return Sentence(start, start + 2, holds=holds, **said)


def alone(of: Passage, found: Alignment, wants: Asked) -> list[Sentence]:
    """The sentences of one passage."""
    (only,) = sentences([of], [found], wants)
    return only


# How a question is read


def test_question_words_and_what_they_want() -> None:
    found = question("Who warned the harbour, and when?")
    assert found.question_words.tolist() == [True, False, False, False, False, True]
    assert set(found.wants) == {Kind.PERSON, Kind.DATE}
    assert found.is_question
    assert found.lower == "who warned the harbour, and when?"


@pytest.mark.parametrize(
    ("text", "is_question"),
    [
        ("harbour warning", False),
        ("what the harbour is like", True),
        ("tell me who warned the harbour", True),
        ("date of the warning in Oslo", True),
        (f"the date of the warning {'to everybody ' * 9}", False),
        (f"{'The harbour spoke. ' * 9} It thanked those who fled", False),
        (f"{'The harbour spoke. ' * 9} It thanked those who fled?", True),
        ("in which harbour", True),
        ("they warned those who sailed from the harbour.", False),
        ("date of the coup", True),
        ("date of the coup that toppled the president, they say, is not known", False),
        ("What is the harbour like?", True),
        ("who warned the harbour", True),
        ("was the harbour warned?", False),
        ("whoever it was?", False),
        ("", False),
    ],
)
def test_what_is_a_question(text: str, is_question: bool) -> None:
    assert question(text).is_question == is_question


# Signals


def test_a_word_of_the_question_is_covered_by_the_sentence_or_the_title() -> None:
    near = {"warned": (0.8, 0.0), "Rain": (0.2, 0.1), "Flood": (0.5, 0.6), "Nobody": (0.0, 0.7)}
    found = alone(NEWS, alignment(NEWS, near), question("warn flood", 0.25, 0.75))
    assert [(each.start, each.end) for each in found] == list(NEWS.span.sentences)
    by_hand = [0.25 * 0.5 + 0.75 * 0.6, 0.25 * 0.8 + 0.75 * 0.6, 0.25 * 0.5 + 0.75 * 0.7]
    assert [each.covered for each in found] == pytest.approx(by_hand)
    said = [0.25 * 0.2 + 0.75 * 0.1, 0.25 * 0.8, 0.75 * 0.7]
    assert [each.said for each in found] == pytest.approx(said)
    bare = alone(NEWS, alignment(NEWS, near, title=""), question("warn flood", 0.25, 0.75))
    assert [each.covered for each in bare] == pytest.approx(said)
    assert [each.said for each in bare] == pytest.approx(said)


def test_nothing_near_covers_nothing_and_never_less() -> None:
    near = dict.fromkeys((*TEXT.replace(".", "").split(), *TITLE.split()), (-0.4, -0.9))
    found = alone(NEWS, alignment(NEWS, near), question("who flood"))
    assert [each.covered for each in found] == [0.0, 0.0, 0.0]
    assert [each.asked for each in found] == [0.0, 0.0, 0.0]


def test_the_meaning_is_the_mean_of_its_words_without_the_title() -> None:
    whole = {"Nobody": 0.6, "came": 0.2, "Flood": 0.9, "Rain": -0.4}
    near: dict[str, tuple[float, ...]] = {"Rain": (0.0,)}
    found = alone(NEWS, alignment(NEWS, near, whole), question("flood"))
    assert [each.meaning for each in found] == pytest.approx([-0.4 / 4, 0.0, 0.8 / 2])


def test_question_words_are_asked_of_the_sentence_alone() -> None:
    near = {"Vera": (0.6, 0.0, 0.1), "2025": (0.1, 0.0, 0.4), "Flood": (0.9, 0.9, 0.9)}
    found = alone(NEWS, alignment(NEWS, near), question("who warned when"))
    assert [each.asked for each in found] == pytest.approx([0.0, (0.6 + 0.4) / 2, 0.0])
    none = alone(NEWS, alignment(NEWS, near), question("flood warned Vera"))
    assert [each.asked for each in none] == [0.0, 0.0, 0.0]


def test_the_kinds_are_parts_of_what_is_wanted() -> None:
    near = {"Rain": (0.0,) * 6}
    found = alone(NEWS, alignment(NEWS, near), question("who warned the harbour and when"))
    first, second, third = found
    assert second.kinds == 1.0
    assert second.holds == {Kind.PERSON, Kind.DATE}
    assert first.kinds == ALSO_PART / 2  # Oslo is no person, but may have warned
    assert first.holds == {Kind.PERSON}
    assert (third.kinds, third.holds) == (0.0, frozenset())


def test_what_the_question_says_itself_answers_nothing() -> None:
    wants = question("who is Vera Okafor of Oslo and when was 3 May 2025")
    assert set(wants.wants) >= {Kind.PERSON, Kind.DATE}
    assert kinds_held("Vera Okafor came from Oslo on 3 May 2025.", wants) == {}
    assert kinds_held("Vera Okafor met Ida Holm.", wants) == {Kind.PERSON: 1.0}
    assert kinds_held("It was 4 May 2025.", wants) == {Kind.DATE: 1.0}


@pytest.mark.parametrize("number", ["20", "24", "02", "2", "4"])
def test_a_part_of_a_number_in_the_question_is_not_said_by_it(number: str) -> None:
    text = f"In all {number} were hurt."
    assert kinds_held(text, question("how many were hurt in 2024?")) == {Kind.NUMBER: 1.0}
    assert kinds_held(text, question(f"how many but {number} were hurt in 2024?")) == {}
    held_date = kinds_held("It was on 3 May.", question("when was it, if not on 23 May?"))
    assert held_date == {Kind.DATE: 1.0}


def test_without_a_kind_asked_for_none_is_held() -> None:
    assert kinds_held(SECOND, question("harbour warning")) == {}


def test_a_score_rises_with_each_signal() -> None:
    plain = sentence(0, covered=0.5, said=0.5, meaning=0.5, kinds=0.5, asked=0.5)
    assert replace(plain, covered=0.6).score > plain.score
    assert replace(plain, said=0.6).score > plain.score
    assert replace(plain, meaning=0.6).score > plain.score
    assert replace(plain, kinds=0.6).score > plain.score
    assert replace(plain, asked=0.6).score > plain.score
    assert sentence(0).score == 0.0


def test_a_passage_without_a_sentence_has_none() -> None:
    empty = Passage(1, "a", 1, Span(0, 0, 0, ()), "")
    near = {"Flood": (0.9,)}
    found = alignment(empty, near)
    assert len(found.places) == 2
    assert alone(empty, found, question("flood")) == []
    assert shown(empty, found, question("flood")) == []


def test_a_passage_without_words_has_no_signals() -> None:
    marks = passage("...", "!!!")
    found = alone(marks, alignment(marks, {}, title=""), question(""))
    assert [(each.covered, each.said, each.meaning, each.asked) for each in found] == [
        (0.0,) * 4
    ] * 2


def test_passages_are_read_together_as_alone() -> None:
    near = {"Rain": (0.2, 0.9), "Vera": (0.7, 0.1), "Flood": (0.4, 0.4), "ended": (0.3, 0.8)}
    whole = {"Oslo": 0.7, "harbour": 0.3, "ended": 0.9, "Flood": -0.5}
    far = passage(f"{'x' * 70_000} ended.", "It rained.")
    empty = Passage(2, "b", 1, Span(0, 0, 0, ()), "")
    moved = Passage(3, "c", 1, Span(0, len(SECOND), 9, ((0, len(SECOND)),)), SECOND)
    passages = [empty, NEWS, moved, passage("...", "!!!"), far, empty, NEWS]
    titles = ["Flood", TITLE, "", "", TITLE, "", "Vera"]
    alignments = [
        alignment(of, near, whole, title) for of, title in zip(passages, titles, strict=True)
    ]
    wants = question("who drowned")
    together = sentences(passages, alignments, wants)
    for of, found, each in zip(passages, alignments, together, strict=True):
        assert [(one.start, one.end) for one in each] == list(of.span.sentences)
        for one, other in zip(each, alone(of, found, wants), strict=True):
            assert one.holds == other.holds
            for name in ("covered", "said", "meaning", "kinds", "asked"):
                assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)
    assert len({round(one.score, 4) for each in together for one in each}) > 5
    assert sentences([], [], wants) == []


# Words that are shown


def shown(of: Passage, found: Alignment, wants: Asked) -> list[str]:
    words = aligned_words(of, found, wants, (of.span.start, of.span.end))
    return [of.text[start - of.span.start : end - of.span.start] for start, end in words]


def test_words_near_to_a_word_that_counts_are_shown_but_not_those_of_the_title() -> None:
    near = {
        "warned": (ALIGNED, 0.0),
        "Rain": (0.0, 0.99),
        "Flood": (1.0, 1.0),
        "harbour": (ALIGNED - 0.01, 0.0),
        "Nobody": (0.9, 0.0),
    }
    found = alignment(NEWS, near)
    assert shown(NEWS, found, question("warning of", 0.9, 0.1)) == ["warned", "Nobody"]
    assert shown(NEWS, found, question("warning of", 0.5, 0.5)) == ["Rain", "warned", "Nobody"]


def test_only_words_of_the_part_asked_for_are_shown() -> None:
    found = alignment(NEWS, dict.fromkeys(("Oslo", "Vera", "harbour", "came"), (0.9,)))
    start, end = NEWS.span.sentences[1]
    words = aligned_words(NEWS, found, question("flood"), (start, end))
    assert [TEXT[a - START : b - START] for a, b in words] == ["Vera", "harbour"]
    assert aligned_words(NEWS, found, question("flood"), (start + 1, start + 9)) == []


@pytest.mark.parametrize("count", range(1, 40))
def test_words_that_weigh_the_same_all_count(count: int) -> None:
    found = alignment(NEWS, {"warned": (0.9,) * count})
    wants = question(" ".join("abcdefghij"[at % 10] for at in range(count)))
    assert shown(NEWS, found, wants) == ["warned"]


def test_parts_of_a_word_show_the_whole_word_once() -> None:
    text = "An unforeseeable end."
    of = passage(text)
    spans = [(0, 2), (3, 5), (5, 12), (12, 16), (17, 20)]
    places = np.array([(len(text) - a, len(text) - b) for a, b in spans], np.uint16)
    near = np.array([[0.0], [0.9], [0.0], [0.8], [0.0]], np.float32)
    found = Alignment(near, near[:, 0], places)
    assert shown(of, found, question("x")) == ["unforeseeable"]


def test_what_is_too_far_from_the_end_to_be_told_is_not_shown() -> None:
    word = "x" * 70_000
    of = passage(f"{word} ended.")
    found = alignment(of, {"Flood": (0.9,), word: (0.9,), "ended": (0.9,)})
    assert (found.places == FARTHEST).any()
    assert shown(of, found, question("flood")) == ["ended"]
    (only,) = alone(of, found, question("flood"))
    assert only.covered == pytest.approx(0.9)


WORDS = st.text("abcé7ß警🦠-.' \u0301", min_size=1, max_size=12)


@given(
    st.lists(WORDS, min_size=1, max_size=4),
    st.data(),
    st.integers(1, 3),
)
def test_words_shown_are_whole_in_order_and_in_the_passage(
    parts: list[str], data: st.DataObject, count: int
) -> None:
    of = passage(*parts)
    size = len(of.text)
    cuts = data.draw(st.lists(st.integers(0, size + 20), unique=True, max_size=8).map(sorted))
    spans = [
        (before, after)
        for after, before in reversed(list(pairwise(cuts)))
        if any(map(str.isalnum, of.text[max(0, size - before) : size - after]))
    ]
    places = np.array(spans, np.uint16).reshape(-1, 2)
    near = data.draw(
        st.lists(
            st.lists(st.sampled_from([0.0, ALIGNED, 1.0]), min_size=count, max_size=count),
            min_size=len(places),
            max_size=len(places),
        )
    )
    similarities: Floats = np.array(near, np.float32).reshape(len(places), count)
    found = Alignment(similarities, np.zeros(len(places), np.float32), places)
    wants = question(" ".join("x" * count))
    words = aligned_words(of, found, wants, (of.span.start, of.span.end))
    assert len(set(words)) == len(words)
    at = of.span.start
    for start, end in words:
        assert of.span.start <= start < end <= of.span.end
        assert start >= at
        at = start
        inner = of.text[start - of.span.start : end - of.span.start]
        before = of.text[: start - of.span.start]
        behind = of.text[end - of.span.start :]
        assert not (inner[0].isalnum() and before[-1:].isalnum())
        assert not (inner[-1].isalnum() and behind[:1].isalnum())


# The run of sentences that is quoted


def ranked(*scores: float, holds: Mapping[int, frozenset[Kind]] | None = None) -> list[Sentence]:
    """Sentences of "0. 1. 2. …" by what is covered of the question."""
    made = []
    for at, score in enumerate(scores):
        start = START + at * 3
        kinds = (holds or {}).get(at, frozenset())
        made.append(sentence(start, covered=score, holds=kinds))
    return made


def numbered(count: int, gap: str = " ") -> Passage:
    return passage(*(f"{at % 10}." for at in range(count)), gap=gap)


FAR = 100.0
"""So much more covered that nothing else may be the answer."""


@pytest.mark.parametrize("best", range(5))
def test_one_sentence_is_quoted_when_it_is_sure(best: int) -> None:
    scores = [0.0] * 5
    scores[best] = FAR
    assert best_run(numbered(5), ranked(*scores)) == (best, best + 1)


def test_a_neighbour_that_may_as_well_be_it_is_quoted_too() -> None:
    assert best_run(numbered(4), ranked(0.0, FAR, FAR, 0.0)) == (1, 3)
    assert best_run(numbered(4), ranked(FAR, FAR, 0.0, 0.0)) == (0, 2)
    assert best_run(numbered(3), ranked(0.0, FAR, FAR)) == (1, 3)
    apart = best_run(numbered(4), ranked(FAR, 0.0, FAR, 0.0))
    assert apart in ((0, 1), (2, 3))


@pytest.mark.parametrize("count", range(1, 9))
def test_never_more_than_three_nor_beyond_the_passage(count: int) -> None:
    first, last = best_run(numbered(count), ranked(*[FAR] * count))
    assert 0 <= first < last <= count
    assert last - first == min(count, QUOTE_SENTENCES)


def test_a_quote_stays_in_its_paragraph() -> None:
    for gap in ("\n", "\n\n", " \n "):
        of = numbered(3, gap)
        found = [
            replace(each, start=start, end=end)
            for each, (start, end) in zip(ranked(FAR, FAR, FAR), of.span.sentences, strict=True)
        ]
        first, last = best_run(of, found)
        assert last - first == 1


def test_a_neighbour_with_what_is_lacking_is_quoted_before_one_without() -> None:
    person, date = frozenset({Kind.PERSON}), frozenset({Kind.DATE})
    # How far apart two sentences may be is measured; one of such distances tells the kinds apart.
    told = []
    for apart in np.linspace(0, 3, 601):
        scores = (0.0, float(apart), 0.0)
        same = best_run(numbered(3), ranked(*scores, holds={0: person, 1: person}))
        other = best_run(numbered(3), ranked(*scores, holds={0: date, 1: person}))
        assert other[0] <= same[0]
        told.append((same[0], other[0]))
    assert (1, 0) in told
    assert told[0] == (0, 0)
    assert told[-1] == (1, 1)


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    st.dictionaries(st.integers(0, 11), st.frozensets(st.sampled_from(list(Kind)))),
)
def test_the_best_sentence_is_in_a_run_of_three_at_most(
    scores: list[float], holds: dict[int, frozenset[Kind]]
) -> None:
    found = ranked(*scores, holds=holds)
    first, last = best_run(numbered(len(scores)), found)
    assert 0 <= first < last <= len(scores)
    assert last - first <= QUOTE_SENTENCES
    assert max(each.score for each in found[first:last]) == max(each.score for each in found)
    # Whatever is said for the worst sentence, the same run stands when it is worth nothing.
    worst = min(range(len(scores)), key=lambda at: scores[at])
    if not first <= worst < last:
        lower = [*scores]
        lower[worst] -= 50
        assert best_run(numbered(len(scores)), ranked(*lower, holds=holds)) == (first, last)
