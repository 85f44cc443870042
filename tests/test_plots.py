"""Plots: values stand where their axis says, and everything is on the paper."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import plots
from rag.plots import BYTES, COUNT, Axis, LogAxis
from tests.evaluated import evaluated


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(tmp_path_factory.mktemp("index")).report


@given(st.floats(-1000, 1000), st.floats(0.001, 10_000))
def test_ticks_are_round_even_and_within_the_axis(low: float, reach: float) -> None:
    axis = Axis(low, low + reach, 10, 110)
    ticks = axis.ticks
    assert 2 <= len(ticks) <= 11
    for tick in ticks:
        assert 10 - 0.01 <= tick.at <= 110 + 0.01
    steps = [after.at - before.at for before, after in pairwise(ticks)]
    assert max(steps) - min(steps) < 0.03
    assert len({tick.label for tick in ticks}) == len(ticks)


def test_values_are_where_the_axis_says() -> None:
    upwards = Axis(0, 1, 200, 0)
    assert [upwards.place(value) for value in (0, 0.25, 1)] == [200, 150, 0]
    assert [tick.label for tick in upwards.ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.label for tick in Axis(0, 22, 0, 1).ticks] == ["0", "5", "10", "15", "20"]


def test_a_logarithmic_axis_has_powers_of_ten_at_even_steps_around_all_values() -> None:
    axis = LogAxis.around([14.4e6, 2.3e9, 190e6], 200, 20, BYTES)
    assert [(tick.at, tick.label) for tick in axis.ticks] == [
        (200, "10 MB"),
        (140, "100 MB"),
        (80, "1 GB"),
        (20, "10 GB"),
    ]
    assert axis.place(10**7.5) == 170


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1000], ["100", "1k", "10k"]),
        ([18_768], ["10k", "100k"]),
        ([1000, 1_000_000], ["1k", "10k", "100k", "1M"]),
    ],
)
def test_a_logarithmic_axis_has_two_ticks_at_least(values: list[int], labels: list[str]) -> None:
    axis = LogAxis.around(values, 0, 300, COUNT)
    assert [tick.label for tick in axis.ticks] == labels
    assert all(0 <= axis.place(value) <= 300 for value in values)


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 B"), (999.4, "999 B"), (999.6, "1 kB"), (14.384e6, "14.4 MB"), (2e15, "2e+03 TB")],
)
def test_bytes_are_told_in_three_digits(count: float, told: str) -> None:
    assert plots.in_units(count, BYTES) == told


def test_a_plot_for_each_measure_and_one_for_the_time(report: dict[str, Any]) -> None:
    found = plots.stages(report)
    assert [each.title for each in found] == [*report["measures"], "ms until it is known"]
    for plot in found:
        assert [dot.label for dot in plot.dots] == list(report["stages"])
        assert [dot.label for dot in plot.dots if dot.is_default] == [report["stage"]]
        for dot in plot.dots:
            assert plot.axis.start <= dot.low <= dot.x <= dot.high <= plot.axis.end


def test_a_stage_whose_time_is_not_told_leaves_its_row_empty(report: dict[str, Any]) -> None:
    known = report["latency_ms"]["stages"] | {"dense": None}
    partly = report | {"latency_ms": report["latency_ms"] | {"stages": known}}
    times = plots.stages(partly)[-1]
    assert [dot.label for dot in times.dots] == [
        stage for stage in report["stages"] if stage != "dense"
    ]
    assert times.rows == len(report["stages"])
    assert times.dots[1].y == 2.5 * plots.ROW


def test_curves_stay_on_the_paper(report: dict[str, Any]) -> None:
    found = report["abstention"]["correctness"]
    curves = [
        plots.reliability(found["reliability"]),
        plots.risk_coverage(found["risk_coverage"]),
        plots.latencies(report["latency_ms"]["percentiles"]),
    ]
    for curve in curves:
        for place in curve.line.split():
            x, y = map(float, place.split(","))
            assert curve.across.start <= x <= curve.across.end
            assert curve.up.end <= y <= curve.up.start
    assert curves[2].marks[0].told.startswith("p50: ")


def test_confidences_stand_on_both_sides_of_the_line(report: dict[str, Any]) -> None:
    found = plots.confidences(report)
    upwards = [each for each in found.columns if each.there]
    downwards = [each for each in found.columns if not each.there]
    counted = [sum(int(each.told.split()[0]) for each in side) for side in (upwards, downwards)]
    assert counted == [3, 4]
    threshold = report["confidence_model"]["threshold"]
    assert found.threshold == found.across.place(threshold)
    for each in upwards:
        assert each.y + each.height == pytest.approx(found.up.start, abs=0.02)
    for each in downwards:
        assert each.y == pytest.approx(found.down.start, abs=0.02)


def test_a_column_reaches_its_count_on_a_scale_of_whole_questions(report: dict[str, Any]) -> None:
    found = plots.confidences(report)
    assert found.up.start == found.down.start
    for axis in (found.up, found.down):
        assert [tick.label for tick in axis.ticks] == ["0", "1", "2", "3", "4", "5"]
    for each in found.columns:
        count = int(each.told.split()[0])
        end, axis = (each.y, found.up) if each.there else (each.y + each.height, found.down)
        assert end == pytest.approx(axis.place(count), abs=0.02)
    queries = {f"q{n}": {"confidence": 0.5, "confidence_without": 0.1} for n in range(40)}
    many = plots.confidences(report | {"per_query": queries})
    assert [tick.label for tick in many.up.ticks] == ["0", "10", "20", "30", "40"]


def test_each_step_begins_where_the_one_before_it_ends() -> None:
    found = plots.steps({"encode": 6.0, "retrieve": 3.0, "cite": 1.0})
    start, end = plots.ACROSS
    reach = end - start
    assert [bar.width for bar in found.bars] == pytest.approx([reach * n for n in (0.6, 0.3, 0.1)])
    assert [bar.x for bar in found.bars] == pytest.approx(
        [start, start + 0.6 * reach, start + 0.9 * reach]
    )
    assert [bar.value for bar in found.bars] == ["6.0", "3.0", "1.0"]
    assert [bar.y for bar in found.bars] == [plots.ROW / 2, plots.ROW * 1.5, plots.ROW * 2.5]
    assert found.height == 3 * plots.ROW
    assert [bar.width for bar in plots.steps({"encode": 0.0}).bars] == [0]
