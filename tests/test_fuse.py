"""Fusion: what normalising keeps, what the sum says, and ranks beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rag.fuse import LEXICAL_WEIGHT, RRF_CONSTANT, convex, min_max, reciprocal_rank
from rag.types import Floats

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30)
BM25 = st.floats(0.0625, 60, width=32) | st.just(0.0)


def floats(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


@st.composite
def signals(draw: st.DrawFn) -> tuple[Floats, Floats]:
    dense = draw(COSINES)
    lexical = draw(st.lists(BM25, min_size=len(dense), max_size=len(dense)))
    return floats(*lexical), floats(*dense)


@given(COSINES)
def test_the_least_is_0_the_greatest_1_and_the_order_stays(scores: list[float]) -> None:
    values = floats(*scores)
    assume(values.max() - values.min() > 1e-6)
    normalised = min_max(values)
    assert normalised.min() == 0
    assert normalised.max() == 1
    assert normalised.dtype == np.float32
    for one, other in zip(np.argsort(values), np.argsort(values)[1:], strict=False):
        assert normalised[one] <= normalised[other]
        assert (normalised[one] == normalised[other]) or values[one] < values[other]


@given(COSINES, st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_shift_of_a_signal_do_not_matter(
    scores: list[float], scale: float, shift: float
) -> None:
    values = floats(*scores)
    assume(values.max() - values.min() > 0.01)
    moved = np.asarray(values * scale + shift, dtype=np.float32)
    assert np.allclose(min_max(moved), min_max(values), atol=1e-3)


def test_a_floor_is_the_zero_whatever_the_least_score() -> None:
    assert min_max(floats(2, 4, 8), floor=0.0).tolist() == [0.25, 0.5, 1.0]
    assert min_max(floats(2, 4, 8)).tolist() == pytest.approx([0, 1 / 3, 1])


@pytest.mark.parametrize(
    ("scores", "floor", "expected"),
    [
        ([], None, []),
        ([], 0.0, []),
        ([0.3], None, [1]),
        ([-0.3, -0.3], None, [1, 1]),
        ([5, 5, 5], 0.0, [1, 1, 1]),
        ([0, 0], 0.0, [0, 0]),
        ([0, 0], None, [1, 1]),
    ],
)
def test_equal_scores_become_1_but_for_no_match_at_all(
    scores: list[float], floor: float | None, expected: list[float]
) -> None:
    assert min_max(floats(*scores), floor=floor).tolist() == expected


@given(signals(), st.floats(0, 1))
def test_the_sum_is_between_0_and_1_and_by_hand(pair: tuple[Floats, Floats], weight: float) -> None:
    lexical, dense = pair
    fused = convex(lexical, dense, weight)
    assert fused.dtype == np.float32
    assert (fused >= 0).all()
    assert (fused <= 1 + 1e-6).all()
    most, low, high = float(lexical.max()), float(dense.min()), float(dense.max())
    by_hand = [
        weight * (word / most if most else 0.0)
        + (1 - weight) * ((cosine - low) / (high - low) if high > low else 1.0)
        for word, cosine in zip(lexical.tolist(), dense.tolist(), strict=True)
    ]
    assert fused.tolist() == pytest.approx(by_hand, abs=1e-5)


@given(signals())
def test_all_weight_on_one_signal_is_that_signal(pair: tuple[Floats, Floats]) -> None:
    lexical, dense = pair
    assert convex(lexical, dense, 1.0).tolist() == min_max(lexical, floor=0.0).tolist()
    assert convex(lexical, dense, 0.0).tolist() == min_max(dense).tolist()
    assert convex(lexical, dense).tolist() == convex(lexical, dense, LEXICAL_WEIGHT).tolist()


@given(signals())
def test_what_is_better_by_both_is_better_fused(pair: tuple[Floats, Floats]) -> None:
    lexical, dense = pair
    for fused in (convex(lexical, dense), reciprocal_rank(lexical, dense)):
        for one in range(len(dense)):
            for other in range(len(dense)):
                if lexical[one] > lexical[other] and dense[one] > dense[other]:
                    assert fused[one] >= fused[other]


@given(signals())
def test_reciprocal_ranks_are_by_the_paper(pair: tuple[Floats, Floats]) -> None:
    lexical, dense = pair
    expected = [0.0] * len(dense)
    by_words = sorted((-score, at) for at, score in enumerate(lexical.tolist()) if score > 0)
    by_vectors = sorted((-score, at) for at, score in enumerate(dense.tolist()))
    for ranking in (by_words, by_vectors):
        for rank, (_, at) in enumerate(ranking, start=1):
            expected[at] += 1 / (RRF_CONSTANT + rank)
    assert reciprocal_rank(lexical, dense).tolist() == pytest.approx(expected, rel=1e-6)


def test_no_candidates_are_no_scores() -> None:
    nothing = floats()
    assert convex(nothing, nothing).tolist() == []
    assert reciprocal_rank(nothing, nothing).tolist() == []
