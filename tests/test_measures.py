"""Measures, intervals and tests that can be worked out by hand or by trying every case."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.measures import MEASURES, by_measure, intervals, means, measure, randomisation_test


def test_measures_are_those_worked_out_by_hand() -> None:
    qrels = {
        "second and third": {"a": 1, "b": 1},
        "not asked": {"c": 1},
        "graded": {"best": 2, "good": 1},
        "eleventh": {"k": 1},
        "judged useless": {"useless": 0, "useful": 1},
        "half": {"found": 1, "lost": 1},
    }
    run = {
        "second and third": ["x", "a", "b"],
        "graded": ["good", "best"],
        "eleventh": [*"0123456789", "k"],
        "judged useless": ["useless", "useful"],
        "half": ["found"],
        "not judged": ["a", "b"],
    }
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    ndcg = [
        (second + third) / (1 + second),
        0,
        (1 + 2 * second) / (2 + second),
        0,
        second,
        1 / (1 + second),
    ]
    expected = {
        "nDCG@10": sum(ndcg) / 6,
        "RR@10": (1 / 2 + 0 + 1 + 0 + 1 / 2 + 1) / 6,
        "R@10": (1 + 0 + 1 + 0 + 1 + 1 / 2) / 6,
        "R@100": (1 + 0 + 1 + 1 + 1 + 1 / 2) / 6,
        "Success@1": (0 + 0 + 1 + 0 + 0 + 1) / 6,
    }
    assert tuple(expected) == MEASURES
    found = measure(run, qrels)
    assert by_measure(MEASURES, means(found)) == pytest.approx(expected, abs=1e-9)
    assert [row[0] for row in found.values()] == pytest.approx(ndcg, abs=1e-9)
    assert list(found) == list(qrels)


def test_a_perfect_run_measures_one_and_an_empty_one_nothing() -> None:
    qrels = {f"q{n}": {f"d{n}": 1} for n in range(5)}
    perfect = measure({f"q{n}": [f"d{n}", "x"] for n in range(5)}, qrels)
    assert means(perfect) == [1] * len(MEASURES)
    assert means(measure({f"q{n}": [] for n in range(5)}, qrels)) == [0] * len(MEASURES)


def test_equal_scores_do_not_mix_a_ranking() -> None:
    names = [f"d{number}" for number in range(100)]
    for place, name in enumerate(reversed(names), start=1):
        found = measure({"q": list(reversed(names))}, {"q": {name: 1}})
        assert found["q"][MEASURES.index("RR@10")] == (
            pytest.approx(1 / place) if place <= 10 else 0
        )


# Intervals


def test_an_interval_holds_the_mean_and_narrows_with_more_queries() -> None:
    values = np.random.default_rng(1).random((1600, 2))
    (low, high), other = intervals(values)
    assert low < values[:, 0].mean() < high
    assert other != (low, high)
    (wide_low, wide_high), _ = intervals(values[:100])
    assert 3 < (wide_high - wide_low) / (high - low) < 5  # a quarter of the root
    spread = 1.96 * values[:, 0].std() / math.sqrt(1600)
    assert (high - low) / 2 == pytest.approx(spread, rel=0.05)


def test_intervals_of_equal_values_and_of_one_query_are_points() -> None:
    assert intervals(np.full((7, 1), 0.25)) == [(0.25, 0.25)]
    assert intervals(np.array([[0.5, 1.0]])) == [(0.5, 0.5), (1.0, 1.0)]


def test_intervals_and_p_values_do_not_change_from_run_to_run() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, (40, 3))
    assert intervals(values) == intervals(values)
    assert randomisation_test(values) == randomisation_test(values)


# The randomisation test


def exact(differences: list[float]) -> float:
    """The p-value of every assignment of signs."""
    observed = abs(sum(differences))
    signed = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    return sum(each >= observed - 1e-9 for each in signed) / len(signed)


@given(st.lists(st.integers(-20, 20).map(lambda n: n / 20), min_size=1, max_size=9))
def test_p_is_near_that_of_every_assignment_of_signs(differences: list[float]) -> None:
    (p,) = randomisation_test(np.array(differences)[:, None])
    assert p == pytest.approx(exact(differences), abs=0.025)


def test_p_is_two_sided_and_by_column() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, (50, 1))
    better, worse, same = randomisation_test(np.hstack([values, -values, np.zeros((50, 1))]))
    assert better == worse < 0.05
    assert same == 1.0


def test_p_is_never_nothing() -> None:
    (p,) = randomisation_test(np.ones((200, 1)))
    assert p == pytest.approx(1 / 10_001)
