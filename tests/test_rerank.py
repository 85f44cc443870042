"""Words against words: MaxSim as by hand, copies, and the three signals in one score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rag.fuse import min_max
from rag.lexical import Analyzer, Term
from rag.project import LEVELS, PER_BYTE, expand
from rag.rerank import (
    COPY_COSINE,
    COPY_SIMILARITY,
    DENSE,
    LATE,
    LEXICAL,
    TOKENS_AT_ONCE,
    Alignments,
    align,
    combined,
    first_copies,
    followed,
    greatest_in,
    max_sim,
    word_weights,
)
from rag.types import EncodedQuestion, Floats, Places, TokenVectors

BYTES = 3
SCORES = st.floats(0, 30, width=32, allow_subnormal=False)


def question(words: int, seed: int = 1) -> EncodedQuestion:
    vectors = np.random.default_rng(seed).normal(size=(words + 1, BYTES * PER_BYTE))
    turned = vectors.astype(np.float32)
    offsets = tuple((at * 5, at * 5 + 4) for at in range(words))
    return EncodedQuestion(np.ones(2, np.float32), words, words, turned[:-1], offsets, turned[-1])


def passage(words: int, seed: int = 2) -> TokenVectors:
    codes = np.random.default_rng(seed).integers(0, 256, size=(words, BYTES), dtype=np.uint8)
    return TokenVectors(codes, places(words))


def numbered(passages: Sequence[TokenVectors]) -> dict[int, TokenVectors]:
    return dict(enumerate(passages))


def places(words: int) -> Places:
    ends = np.arange(words, 0, -1, dtype=np.uint16) * 5
    return np.stack([ends, ends - 1], axis=1).astype(np.uint16).reshape(-1, 2)


def empty() -> TokenVectors:
    """As the store gives a text without a word."""
    return TokenVectors(np.empty((0, 0), np.uint8), np.empty((0, 2), np.uint16))


def levels(codes: Sequence[int]) -> list[float]:
    return [float(LEVELS[byte >> shift & 3]) for byte in codes for shift in (0, 2, 4, 6)]


def by_hand(asked: EncodedQuestion, vectors: TokenVectors, weights: Floats) -> float:
    """MaxSim in plain Python; a word that nothing is near has 0."""
    total = 0.0
    for word, weight in zip(asked.token_vectors.tolist(), weights.tolist(), strict=True):
        greatest = 0.0
        for codes in vectors.codes.tolist():
            near = sum(a * b for a, b in zip(word, levels(codes), strict=True))
            greatest = max(greatest, near)
        total += weight * greatest
    return total


# MaxSim


@given(
    st.integers(0, 5),
    st.lists(st.integers(0, 6), max_size=5),
    st.integers(0, 1000),
)
def test_it_is_what_a_loop_over_words_finds(words: int, lengths: list[int], seed: int) -> None:
    asked = question(words, seed)
    passages = [passage(length, seed + at) for at, length in enumerate(lengths, start=1)]
    weights = np.random.default_rng(seed).random(words).astype(np.float32)
    alignments = align(asked, numbered(passages))
    found = max_sim(alignments, weights)
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(
        [by_hand(asked, each, weights) for each in passages], rel=1e-5, abs=1e-5
    )
    assert alignments.lengths.tolist() == lengths
    for each, alignment in zip(passages, alignments.values(), strict=True):
        assert alignment.similarities.shape == (len(each.codes), words)
        assert alignment.places is each.places
        whole = expand(each.codes) @ asked.whole
        assert np.allclose(alignment.whole, whole, atol=1e-5)


def test_a_passage_is_aligned_alone_as_in_company() -> None:
    asked = question(4)
    passages = [empty(), passage(3, 1), empty(), passage(1, 2), passage(7, 3), empty()]
    for each, together in zip(passages, align(asked, numbered(passages)).values(), strict=True):
        (alone,) = align(asked, numbered([each])).values()
        assert np.allclose(alone.similarities, together.similarities, atol=1e-5)
        assert np.allclose(alone.whole, together.whole, atol=1e-5)
        assert len(together.whole) == len(each.places)


@pytest.mark.parametrize("passages", [[], [empty()], [empty(), empty()]])
def test_passages_without_words_score_0(passages: list[TokenVectors]) -> None:
    weights = np.full(3, 1 / 3, np.float32)
    alignments = align(question(3), numbered(passages))
    assert max_sim(alignments, weights).tolist() == [0.0] * len(passages)
    assert alignments.greatest.tolist() == [[0.0] * 3 for _ in passages]
    assert [each.similarities.shape for each in alignments.values()] == [(0, 3)] * len(passages)


def test_a_question_without_words_scores_0() -> None:
    alignments = align(question(0), {7: passage(3)})
    assert alignments[7].whole.shape == (3,)
    assert max_sim(alignments, np.empty(0, np.float32)).tolist() == [0.0]


def test_more_words_never_make_a_passage_worse() -> None:
    asked, longer = question(4), passage(9)
    shorter = TokenVectors(longer.codes[:5], longer.places[:5])
    one, other = align(asked, numbered([shorter, longer])).greatest
    assert np.all(other >= one)


@pytest.mark.parametrize("words", [TOKENS_AT_ONCE - 1, TOKENS_AT_ONCE, 3 * TOKENS_AT_ONCE + 5])
def test_many_words_are_aligned_as_few(words: int) -> None:
    asked, long = question(3), passage(words)
    alignment = align(asked, {0: passage(1), 1: long, 2: passage(2)})[1]
    every = expand(long.codes)
    assert np.allclose(alignment.similarities, every @ asked.token_vectors.T, atol=1e-5)
    assert np.allclose(alignment.whole, every @ asked.whole, atol=1e-5)


def test_passages_are_known_by_the_keys_they_came_with() -> None:
    passages = {30: passage(2, 1), 10: empty(), 20: passage(3, 2)}
    alignments = align(question(2), passages)
    assert list(alignments) == [30, 10, 20]
    assert 10 in alignments
    assert 0 not in alignments
    for key, each in passages.items():
        assert alignments[key].places is each.places
    assert len(align(question(2), {})) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=6), st.integers(0, 3))
def test_the_greatest_of_runs_of_rows(gaps: list[tuple[int, int]], columns: int) -> None:
    """Runs may be empty, follow each other or leave rows out."""
    starts, ends, at = [], [], 0
    for gap, length in gaps:
        starts.append(at + gap)
        at += gap + length
        ends.append(at)
    rows = np.random.default_rng(at).normal(size=(at + 2, columns)).astype(np.float32)
    found = greatest_in(rows, np.array(starts, np.int64), np.array(ends, np.int64))
    by_hand = [
        [max([0.0, *rows[a:b, column].tolist()]) for column in range(columns)]
        for a, b in zip(starts, ends, strict=True)
    ]
    assert found.shape == (len(gaps), columns)
    assert found.tolist() == by_hand


# What each word of the question counts


def asked_of(text: str, *offsets: tuple[int, int]) -> EncodedQuestion:
    vectors = np.zeros((len(offsets), BYTES * PER_BYTE), np.float32)
    return EncodedQuestion(
        np.ones(2, np.float32), 9, 9, vectors, offsets, np.zeros(BYTES * PER_BYTE, np.float32)
    )


def test_words_count_by_the_root_of_the_weight_of_their_term() -> None:
    text = "who warned of spillover"
    # "spillover" is two tokens of the model; "who" and "of" have no weight.
    asked = asked_of(text, (0, 3), (4, 10), (11, 13), (14, 19), (19, 23))
    terms = Analyzer().terms(text)
    found = word_weights(asked, terms, {"warn": 4.0, "spillov": 9.0})
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([0, 2 / 8, 0, 3 / 8, 3 / 8])


def test_a_token_over_two_terms_counts_as_the_heavier() -> None:
    terms = [Term("spill", 0, 5), Term("over", 6, 10), Term("not", 11, 14)]
    found = word_weights(
        asked_of("spill-over not", (0, 10), (10, 11), (11, 14)),
        terms,
        {"spill": 1.0, "over": 16.0, "not": 1.0},
    )
    assert found.tolist() == pytest.approx([4 / 5, 0, 1 / 5])


@pytest.mark.parametrize("weights", [{}, {"elsewhere": 3.0}, {"a": 0.0, "b": 0.0}])
def test_words_count_the_same_where_no_term_has_a_weight(weights: dict[str, float]) -> None:
    terms = [Term("a", 0, 1), Term("b", 2, 3)]
    assert word_weights(asked_of("a b", (0, 1), (2, 3)), terms, weights).tolist() == [0.5, 0.5]
    assert word_weights(asked_of(""), terms, weights).shape == (0,)


WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-9, 12))  # log1p(1 / 2n) is the least there is


@given(st.text(max_size=40), st.dictionaries(st.sampled_from("abcxyz"), WEIGHTS))
def test_the_parts_of_all_words_are_one(text: str, weights: dict[str, float]) -> None:
    offsets = tuple((at, at + 1) for at in range(len(text)))
    found = word_weights(asked_of(text, *offsets), Analyzer().terms(text), weights)
    assert (found >= 0).all()
    assert float(found.sum()) == pytest.approx(1.0 if len(text) else 0.0, abs=1e-5)


# Copies


Words = tuple[tuple[float, ...], int]


def aligned(*greatest: float, words: int = 4) -> Words:
    """What each word of the question is nearest to in a passage of so many words."""
    return greatest, words


def together(passages: Sequence[Words]) -> Alignments:
    """Of passages of which no more is known."""
    greatest = np.array([each for each, _ in passages], np.float32)
    lengths = np.array([words for _, words in passages], np.int64)
    return Alignments(greatest, lengths, np.empty((0, 0), np.float32), {})


def copies(*passages: tuple[int, float, float, Words]) -> list[int]:
    """The number of the first copy of each, given number, lexical score, cosine, words."""
    numbers = np.array([each[0] for each in passages], np.int64)
    lexical = np.array([each[1] for each in passages], np.float32)
    dense = np.array([each[2] for each in passages], np.float32)
    first = first_copies(numbers, lexical, dense, together([each[3] for each in passages]))
    return [int(number) for number in numbers[first]]


LITTLE, MUCH = 0.4, 1.1


def test_a_copy_has_the_signals_of_the_first_by_number() -> None:
    near = 0.5 + LITTLE * COPY_COSINE
    one, other = aligned(0.9, 0.3), aligned(0.9, 0.3 + LITTLE * COPY_SIMILARITY)
    assert copies((7, 4.0, 0.5, one), (9, 4.0, near, other)) == [7, 7]
    assert copies((9, 4.0, near, other), (7, 4.0, 0.5, one)) == [7, 7]


@pytest.mark.parametrize(
    "other",
    [
        (9, 4.5, 0.5, aligned(0.9, 0.3)),
        (9, 4.0, 0.5 + MUCH * COPY_COSINE, aligned(0.9, 0.3)),
        (9, 4.0, 0.5 - MUCH * COPY_COSINE, aligned(0.9, 0.3)),
        (9, 4.0, 0.5, aligned(0.9, 0.3 - MUCH * COPY_SIMILARITY)),
        (9, 4.0, 0.5, aligned(0.9 + MUCH * COPY_SIMILARITY, 0.3)),
        (9, 4.0, 0.5, aligned(0.9, 0.3, words=5)),
    ],
    ids=["words", "nearer", "farther", "a word less", "a word more", "longer"],
)
def test_what_differs_in_one_signal_is_no_copy(other: tuple[int, float, float, Words]) -> None:
    assert copies((7, 4.0, 0.5, aligned(0.9, 0.3)), other) == [7, 9]


def test_passages_without_a_word_of_the_question_are_no_copies() -> None:
    assert copies((7, 0.0, 0.5, aligned(0.9)), (9, 0.0, 0.5, aligned(0.9))) == [7, 9]


def test_many_copies_have_one_first() -> None:
    many = [(number, 4.0, 0.5, aligned(0.9)) for number in (5, 3, 8, 4)]
    assert copies(*many) == [3, 3, 3, 3]


def test_another_passage_of_the_same_lexical_score_does_not_part_two_copies() -> None:
    between = (8, 4.0, 0.2, aligned(0.1))
    assert copies((7, 4.0, 0.5, aligned(0.9)), between, (9, 4.0, 0.5, aligned(0.9))) == [7, 8, 7]


def test_a_chain_of_small_differences_does_not_add_up() -> None:
    step = 0.7 * COPY_COSINE
    chain = [(number, 4.0, 0.5 + number * step, aligned(0.9)) for number in range(6)]
    assert copies(*chain) == [0, 0, 2, 2, 4, 4]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 60),
            st.sampled_from([0.0, 2.0, 4.0]),
            st.sampled_from([0.5, 0.51, 0.6]),
            st.sampled_from([0.3, 0.35, 0.6]),
            st.sampled_from([2, 3]),
        ),
        unique_by=lambda each: each[0],
        max_size=12,
    )
)
def test_the_first_copy_is_a_copy_of_nothing_and_has_their_signals(
    made: list[tuple[int, float, float, float, int]],
) -> None:
    numbers = np.array([each[0] for each in made], np.int64)
    lexical = np.array([each[1] for each in made], np.float32)
    dense = np.array([each[2] for each in made], np.float32)
    alignments = together([aligned(each[3], words=each[4]) for each in made])
    first = first_copies(numbers, lexical, dense, alignments)
    assert first.tolist() == first[first].tolist()
    for place, at in enumerate(first.tolist()):
        assert numbers[at] <= numbers[place]
        assert lexical[at] == lexical[place]
        assert abs(dense[at] - dense[place]) < COPY_COSINE
        assert alignments.lengths[at] == alignments.lengths[place]
        assert at == place or lexical[at] > 0


# The three signals together


def test_signals_are_normalised_over_what_they_are_known_of() -> None:
    assert pytest.approx(1.0) == LEXICAL + DENSE + LATE
    lexical = np.array([0, 10, 5, 2], np.float32)
    dense = np.array([0.1, 0.3, 0.5, 0.2], np.float32)
    top = np.array([2, 1])
    late = np.array([0.7, 0.6], np.float32)
    found = combined(lexical, dense, late, top)
    by_hand = [
        LEXICAL * 5 / 10 + DENSE * (0.5 - 0.1) / 0.4 + LATE * 1,
        LEXICAL * 10 / 10 + DENSE * (0.3 - 0.1) / 0.4 + LATE * 0,
    ]
    assert found.tolist() == pytest.approx(by_hand)


def test_a_signal_that_is_not_known_counts_as_the_mean_of_the_others() -> None:
    lexical = np.array([0, 10, 5, 2], np.float32)
    dense = np.array([0.1, 0.3, 0.5, 0.2], np.float32)
    top = np.array([2, 1, 3])
    late = np.array([0.7, np.nan, 0.6], np.float32)
    found = combined(lexical, dense, late, top)
    known = np.array([0, 2])
    assert found[known].tolist() == combined(lexical, dense, late[known], top[known]).tolist()
    by_hand = (LEXICAL * 1 + DENSE * (0.3 - 0.1) / 0.4) / (LEXICAL + DENSE)
    assert found[1] == pytest.approx(by_hand)
    nothing = combined(lexical, dense, np.full(3, np.nan, np.float32), top)
    assert nothing[1] == pytest.approx(by_hand)


CANDIDATES = st.integers(1, 30).flatmap(
    lambda count: st.tuples(
        arrays(np.float32, count, elements=SCORES),
        arrays(np.float32, count, elements=st.floats(-1, 1, width=32)),
        arrays(np.float32, count, elements=st.floats(0, 1, width=32)),
        st.lists(st.integers(0, count - 1), unique=True, min_size=1),
    )
)


@given(CANDIDATES)
def test_a_combined_score_is_between_0_and_1_and_rises_with_each_signal(
    made: tuple[Floats, Floats, Floats, list[int]],
) -> None:
    lexical, dense, late, chosen = made
    top = np.array(chosen)
    found = combined(lexical, dense, late[top], top)
    assert found.shape == top.shape
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()
    for one, place in enumerate(chosen):
        for other, rival in enumerate(chosen):
            if (
                lexical[place] >= lexical[rival]
                and dense[place] >= dense[rival]
                and late[place] >= late[rival]
            ):
                assert found[one] >= found[other] - 1e-6


def test_without_another_the_only_candidate_has_it_all() -> None:
    only = np.array([3.0], np.float32)
    assert combined(only, only, only, np.array([0])).tolist() == pytest.approx([1.0])
    assert min_max(only).tolist() == [1.0]


@given(CANDIDATES)
def test_what_is_not_re_ranked_follows_in_its_order(
    made: tuple[Floats, Floats, Floats, list[int]],
) -> None:
    before, _, scores, chosen = made
    top = np.array(chosen)
    scores = scores[top] + np.float32(0.01)
    after = followed(before, top, scores)
    assert after[top].tolist() == scores.tolist()
    others = np.setdiff1d(np.arange(len(before)), top)
    assert (after[others] < scores.min()).all()
    order = others[np.lexsort((others, -before[others]))]
    assert (np.diff(after[order]) <= 0).all()
    raised = after[others] > before[others]
    assert not raised.any()


def test_followers_that_are_behind_keep_their_scores() -> None:
    before = np.array([0.9, 0.2, 0.1, 0.8], np.float32)
    after = followed(before, np.array([3, 0]), np.array([0.5, 0.4], np.float32))
    assert after.tolist() == pytest.approx([0.4, 0.2, 0.1, 0.5])
    nothing = followed(before, np.array([], np.int64), np.array([], np.float32))
    assert nothing.tolist() == before.tolist()
    assert math.isclose(float(followed(before, np.arange(4), before)[0]), 0.9, rel_tol=1e-6)
