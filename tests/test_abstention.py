"""Confidence measured: every figure against the plainest way to work it out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.abstention import (
    BINS,
    WAYS,
    Confidences,
    _resampled_auroc,
    auroc,
    auroc_change,
    brier,
    calibration_error,
    coverage_at_precision,
    known_confidences,
    reliability,
    risk_coverage,
    why_not_measured,
)
from rag.searcher import Searcher
from rag.sets import EvaluationSet
from rag.types import Answer
from tests.evaluated import ARTICLES, SureSearcher, evaluated, own_set

answers = st.lists(
    st.tuples(st.sampled_from([n / 8 for n in range(9)]), st.booleans()), max_size=40
)


def columns(found: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [confidence for confidence, _ in found], [label for _, label in found]


@given(answers)
def test_auroc_is_the_chance_that_a_positive_is_surer(found: list[tuple[float, bool]]) -> None:
    positives = [c for c, label in found if label]
    negatives = [c for c, label in found if not label]
    if not positives or not negatives:
        assert auroc(*columns(found)) is None
        return
    won = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    assert auroc(*columns(found)) == pytest.approx(won / len(positives) / len(negatives))


@given(answers)
def test_coverage_is_the_most_that_any_threshold_gives(found: list[tuple[float, bool]]) -> None:
    positives = sum(label for _, label in found)
    if not positives:
        assert coverage_at_precision(*columns(found), precision=0.75) is None
        return
    most = 0.0
    for threshold, _ in found:
        told = [label for confidence, label in found if confidence >= threshold]
        if sum(told) / len(told) >= 0.75:
            most = max(most, sum(told) / positives)
    assert coverage_at_precision(*columns(found), precision=0.75) == pytest.approx(most)


def test_coverage_at_precision_by_hand() -> None:
    sure = [0.9, 0.8, 0.7, 0.6]
    assert coverage_at_precision(sure, [True, True, False, True]) == pytest.approx(2 / 3)
    assert coverage_at_precision(sure, [False, True, True, True]) == 0
    assert coverage_at_precision([0.5] * 20, [True] * 19 + [False]) == 1


@given(answers)
def test_a_point_of_the_curve_for_every_threshold(found: list[tuple[float, bool]]) -> None:
    curve = risk_coverage(*columns(found))
    assert [point.threshold for point in curve] == sorted({c for c, _ in found}, reverse=True)
    for point in curve:
        told = [label for confidence, label in found if confidence >= point.threshold]
        assert point.coverage == pytest.approx(len(told) / len(found))
        assert point.risk == pytest.approx(1 - sum(told) / len(told))


@given(answers, st.randoms())
def test_bins_hold_every_answer_once_in_any_order(
    found: list[tuple[float, bool]], shuffled: object
) -> None:
    bins = reliability(*columns(found))
    assert sum(each.answers for each in bins) == len(found)
    assert sum(each.answers * each.correct for each in bins) == pytest.approx(
        sum(label for _, label in found)
    )
    assert len(bins) <= BINS
    confidences = [each.confidence for each in bins]
    assert confidences == sorted(set(confidences))
    assert reliability(*columns(sorted(found))) == pytest.approx(bins)


def test_bins_are_of_equal_mass_and_do_not_part_equal_confidences() -> None:
    bins = reliability([n / 100 for n in range(100)], [n % 2 == 0 for n in range(100)])
    assert [each.answers for each in bins] == [10] * BINS
    crowded = reliability([0.0] * 50 + [1.0] * 50, [False] * 50 + [True] * 50)
    assert [(each.answers, each.correct) for each in crowded] == [(50, 0), (50, 1)]


def test_calibration_error_and_brier_by_hand() -> None:
    sure, right = [0.8] * 10 + [0.3] * 10, [True] * 6 + [False] * 4 + [True] * 3 + [False] * 7
    assert calibration_error(reliability(sure, right)) == pytest.approx((0.2 + 0.0) / 2)
    assert brier([1.0, 0.5, 0.0], [True, True, True]) == pytest.approx((0 + 0.25 + 1) / 3)
    assert brier([], []) is None
    assert calibration_error([]) is None


# Two sets of confidences


def sure_of(there: list[float], gone: list[float], more: tuple[float, ...] = ()) -> Confidences:
    """Of questions asked both ways, and of `more` that the archive does not answer."""
    answerable = {f"q{at}": sure for at, sure in enumerate(there)}
    rest = {f"none{at}": sure for at, sure in enumerate(more)}
    return {WAYS[0]: answerable, WAYS[1]: dict(zip(answerable, gone, strict=True)) | rest}


def test_equal_confidences_and_others_in_the_same_order_are_no_change() -> None:
    there, gone = [0.9, 0.6, 0.6, 0.2], [0.4, 0.6, 0.1, 0.3]
    before = sure_of(there, gone, (0.5,))
    once_more = auroc_change(before, before)
    calibrated = sure_of([c**2 for c in there], [c**2 for c in gone], (0.25,))
    squared = auroc_change(calibrated, before)
    by_hand = auroc([*there, *gone, 0.5], [True] * 4 + [False] * 5)
    for found in (once_more, squared):
        assert found is not None
        assert found.before == found.now == by_hand
        assert found.interval == (0, 0)


def test_what_got_worse_for_every_question_is_no_chance() -> None:
    draw = np.random.default_rng(4)
    there, gone = draw.uniform(0.5, 1, 60).tolist(), draw.uniform(0, 0.5, 60).tolist()
    mixed = draw.uniform(0, 1, 60).tolist()
    worse = auroc_change(sure_of(there, mixed), sure_of(there, gone))
    better = auroc_change(sure_of(there, gone), sure_of(there, mixed))
    assert worse is not None
    assert better is not None
    assert (worse.before, better.now) == (1, 1)
    assert worse.interval[0] < worse.now - worse.before < worse.interval[1] < 0
    assert better.interval == pytest.approx((-worse.interval[1], -worse.interval[0]))


def test_one_question_of_many_is_chance() -> None:
    there, gone = [0.6 + n / 100 for n in range(30)], [0.1 + n / 100 for n in range(30)]
    other = sure_of([*there[:-1], 0.0], gone)
    found = auroc_change(other, sure_of(there, gone))
    assert found is not None
    assert found.now < found.before
    assert found.interval[0] < found.interval[1] == 0


@given(
    st.lists(st.tuples(*[st.sampled_from([n / 4 for n in range(5)])] * 2), min_size=1), st.data()
)
def test_a_resample_is_measured_as_a_set_with_questions_more_than_once(
    found: list[tuple[float, float]], data: st.DataObject
) -> None:
    """The interval is that of plain AUROC over questions written down as often as drawn."""
    there, gone = (list(column) for column in zip(*found, strict=True))
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(found), max_size=len(found)))
    written = [
        [c for c, n in zip(column, times, strict=True) for _ in range(n)]
        for column in (there, gone)
    ]
    labels = [True] * len(written[0]) + [False] * len(written[1])
    counts = np.array([times])
    (drawn,) = _resampled_auroc(np.array(there), np.array(gone), counts, counts)
    expected = auroc([*written[0], *written[1]], labels)
    assert np.isnan(drawn) if expected is None else drawn == pytest.approx(expected)


def test_without_both_kinds_of_the_same_questions_there_is_no_change() -> None:
    none = sure_of([], [])
    assert auroc_change(none, none) is None
    assert auroc_change(sure_of([0.5], [0.1]), none) is None
    assert auroc_change(sure_of([0.5], [0.1]), sure_of([0.5], [0.1], (0.2,))) is None
    assert auroc_change(sure_of([], [], (0.5,)), sure_of([], [], (0.5,))) is None


# What is asked


def test_questions_are_asked_again_without_what_answers_them(tmp_path: Path) -> None:
    report = evaluated(tmp_path).report
    found = report["abstention"]
    assert found["questions"] == {"answerable": 3, "not_answerable": 4}  # 3 without, 1 has none
    for query_id in ("who-harbour", "who-blamed", "attack"):
        query = report["per_query"][query_id]
        assert query["confidence"] > query["confidence_without"]
    assert "confidence_without" not in report["per_query"]["none"]
    known = known_confidences(report)
    assert [len(known[way]) for way in WAYS] == [3, 4]
    labels = [way == WAYS[0] for way in WAYS for _ in known[way]]
    assert auroc([sure for way in WAYS for sure in known[way].values()], labels) == found["auroc"]
    assert found["auroc"] == 1.0
    assert found["coverage_at_precision_0.95"] == 1.0
    assert found["answered"] == 1.0


def test_to_be_right_is_to_quote_what_answers(tmp_path: Path) -> None:
    report = evaluated(tmp_path).report
    right = [each["correct"] for each in report["per_query"].values()]
    found = report["abstention"]["correctness"]
    assert sum(each["answers"] for each in found["reliability"]) == 7
    told = sum(each["answers"] * each["correct"] for each in found["reliability"])
    assert told == pytest.approx(sum(right))
    assert found["risk_coverage"][-1]["coverage"] == 1.0
    assert found["risk_coverage"][-1]["risk"] == pytest.approx(1 - sum(right) / 7)


def test_without_confidence_nothing_is_told_of_abstention(tmp_path: Path) -> None:
    report = evaluated(tmp_path, kind=Searcher).report
    assert report["abstention"] is None
    assert report["confidence_model"] is None
    assert "confidence" not in report["per_query"]["who-harbour"]
    assert not any(known_confidences(report).values())


def test_a_query_judged_on_nothing_right_says_nothing_of_abstention(tmp_path: Path) -> None:
    own = own_set()
    qrels = {**own.qrels, "unjudged": {ARTICLES[0].id: 0}}
    queries = {**own.queries, "unjudged": "what is new"}
    report = evaluated(tmp_path, EvaluationSet("beir", [], queries, qrels)).report
    assert report["abstention"]["questions"] == {"answerable": 3, "not_answerable": 3}
    assert report["per_query"]["unjudged"]["stages"]["fused"] == [0, 0, 0, 0, 0]
    assert not any("unjudged" in known for known in known_confidences(report).values())
    assert "unjudged" not in {each["id"] for each in report["failures"]}


class Unsure(SureSearcher):
    """Has no confidence in one question as it is, nor in another without its articles."""

    def ask(self, question: str, **options: Any) -> Answer:
        answer = super().ask(question, **options)
        lost = "harbour" in question or ("minister" in question and "filters" in options)
        return replace(answer, confidence=None) if lost else answer


def test_a_question_without_a_confidence_is_left_out_and_counted(tmp_path: Path) -> None:
    report = evaluated(tmp_path, kind=Unsure).report
    found = report["abstention"]
    assert found["without_confidence"] == 2
    assert found["questions"] == {"answerable": 1, "not_answerable": 2}
    known = known_confidences(report)
    assert [sorted(known[way]) for way in WAYS] == [["attack"], ["attack", "none"]]
    assert report["confidence_model"] is not None


def test_where_nothing_is_found_an_answer_is_surely_none(tmp_path: Path) -> None:
    class Found(SureSearcher):
        def ask(self, question: str, **options: Any) -> Answer:
            answer = super().ask(question, **options)
            return replace(answer, citations=(), confidence=None, answered=False)

    class FoundAsAsked(Found):
        def ask(self, question: str, **options: Any) -> Answer:
            if "filters" in options:
                return super().ask(question, **options)
            return SureSearcher.ask(self, question, **options)

    report = evaluated(tmp_path / "asked", kind=FoundAsAsked).report
    assert report["abstention"]["without_confidence"] == 0
    assert report["per_query"]["attack"]["confidence_without"] == 0
    nothing = evaluated(tmp_path / "nothing", kind=Found).report
    assert nothing["abstention"] is None
    assert why_not_measured(nothing) == "nothing was found"


def test_without_a_question_that_is_sure_both_ways_nothing_is_told(tmp_path: Path) -> None:
    class Late(SureSearcher):
        def ask(self, question: str, **options: Any) -> Answer:
            answer = super().ask(question, **options)
            return replace(answer, confidence=None) if "filters" in options else answer

    own = own_set()
    asked = EvaluationSet("beir", [], own.queries, own.qrels)
    report = evaluated(tmp_path, asked, kind=Late).report
    assert (report["abstention"], report["confidence_model"]) == (None, None)


def test_what_was_withheld_is_told_of_each_way_of_having_no_answer(tmp_path: Path) -> None:
    found = evaluated(tmp_path).report["abstention"]
    ways = found["not_answerable"]
    assert ways["as_asked"] == {"questions": 1, "withheld": 1}
    assert ways["left_out"]["questions"] == 3
    withheld = sum(each["withheld"] for each in ways.values())
    assert found["withheld"] == pytest.approx(withheld / 4)
