"""The plots of a report, as places on paper: the templates in rag/pages draw them as SVG.

All places are in SVG user units, x to the right and y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag.abstention import WAYS, known_confidences
from rag.report import Report

ROW = 26.0
"""Height of a row of a plot with rows."""

LABELS = 74.0
"""Room for the names of rows."""

DOTS_WIDTH = 320.0
ACROSS = (LABELS, DOTS_WIDTH - 52)
"""Where the axis of a plot with rows begins and ends."""

SQUARE = 300.0
MARGIN = 42.0

COLUMNS = 20

TICKS = 5
"""About how many ticks an axis has."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` on the way from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a value is."""
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[Tick]:
        """Round values within the axis, at steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [
            Tick(self.place(n * step), f"{n * step:.{digits}f}") for n in range(first, last + 1)
        ]


COUNT = ("", "k", "M", "G")
BYTES = (" B", " kB", " MB", " GB", " TB")
"""Units of a thousand of the one before."""


@dataclass(frozen=True, slots=True)
class LogAxis(Axis):
    """Values by their logarithm; `low` and `high` are exponents of ten, and whole numbers."""

    units: Sequence[str]

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, end: float, units: Sequence[str]
    ) -> LogAxis:
        """The shortest one that holds all values."""
        exponents = [math.log10(value) for value in values]
        low, high = math.floor(min(exponents)), math.ceil(max(exponents))
        if low == high:
            low, high = low - 1, high + 1
        return cls(low, high, start, end, units)

    def place(self, value: float) -> float:
        """Where a value is."""
        return Axis.place(self, math.log10(value))

    @property
    def ticks(self) -> list[Tick]:
        """The powers of ten."""
        powers = [10.0**exponent for exponent in range(int(self.low), int(self.high) + 1)]
        return [Tick(self.place(power), in_units(power, self.units)) for power in powers]


def in_units(value: float, units: Sequence[str]) -> str:
    """Three digits of a value, in the unit that people would name it in."""
    power = 0
    while value >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{units[power]}"


@dataclass(frozen=True, slots=True)
class Dot:
    """A figure with its 95% interval, on its own row."""

    label: str
    value: str
    x: float
    low: float
    high: float
    y: float
    is_default: bool
    told: str


@dataclass(frozen=True, slots=True)
class Dots:
    """One measure of every stage."""

    title: str
    axis: Axis
    dots: Sequence[Dot]
    rows: int

    @property
    def height(self) -> float:
        """Of the rows; the axis stands below."""
        return ROW * self.rows


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with what is said of it."""

    x: float
    y: float
    radius: float
    told: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, on two axes; `marks` stand out on it."""

    across: Axis
    up: Axis
    line: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Bar:
    """What one step takes, on its own row, from where the step before it ends."""

    label: str
    value: str
    x: float
    width: float
    y: float


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a question, one after the other."""

    axis: Axis
    bars: Sequence[Bar]

    @property
    def height(self) -> float:
        """Of the rows; the axis stands below."""
        return ROW * len(self.bars)


@dataclass(frozen=True, slots=True)
class Column:
    """How many questions have a confidence of about so much, as a bar."""

    x: float
    y: float
    width: float
    height: float
    there: bool
    told: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Confidences where the archive holds the answer, upwards, and where it does not, downwards,
    on two axes of counts that meet in the middle; right of `threshold` they are answered."""

    across: Axis
    up: Axis
    down: Axis
    threshold: float
    columns: Sequence[Column]


def stages(report: Report) -> list[Dots]:
    """A plot for each measure, and one for the time until a stage is known; a row a stage."""
    return [*(_dots(report, measure) for measure in report["measures"]), _times(report)]


def reliability(bins: Sequence[Mapping[str, float]]) -> Curve:
    """How many are right, by confidence; the area of a point is as its number of answers."""
    across, up = _square(1.0)
    most = max(each["answers"] for each in bins)
    marks = [
        Mark(
            across.place(each["confidence"]),
            up.place(each["correct"]),
            round(3 + 5 * math.sqrt(each["answers"] / most), 2),
            f"{each['answers']}: {each['confidence']:.2f} sure, {each['correct']:.2f} right",
        )
        for each in bins
    ]
    return Curve(across, up, _line([(mark.x, mark.y) for mark in marks]), marks)


def confidences(report: Report) -> Histogram:
    """How sure answers are, where the archive holds the answer and where it does not."""
    known = known_confidences(report)
    counts = [np.histogram(list(known[way].values()), COLUMNS, (0, 1))[0].tolist() for way in WAYS]
    across, middle = Axis(0, 1, MARGIN, SQUARE - 8), (SQUARE - MARGIN + 8) / 2
    most = max(TICKS, *counts[0], *counts[1])  # ticks of fewer would not be whole
    up, down = Axis(0, most, middle, 8), Axis(0, most, middle, SQUARE - MARGIN)
    width = round((across.end - across.start) / COLUMNS - 1.5, 2)
    columns = []
    for axis, heights in ((up, counts[0]), (down, counts[1])):
        for at, count in enumerate(heights):
            end, x = axis.place(count), across.place(at / COLUMNS)
            told = f"{count} of {at / COLUMNS:.2f} to {(at + 1) / COLUMNS:.2f}"
            y, height = min(middle, end), round(abs(end - middle), 2)
            columns.append(Column(x, y, width, height, axis is up, told))
    threshold = across.place(report["confidence_model"]["threshold"])
    return Histogram(across, up, down, threshold, [each for each in columns if each.height])


def risk_coverage(points: Sequence[Mapping[str, float]]) -> Curve:
    """The part of answers that is wrong, by the part of the questions that is answered."""
    highest = max(each["risk"] for each in points)
    across, up = _square(max(0.05, math.ceil(highest * 20) / 20))
    places = [(across.place(each["coverage"]), up.place(each["risk"])) for each in points]
    last = points[-1]
    told = f"All answered: {last['risk']:.2f} wrong"
    return Curve(across, up, _line(places), [Mark(*places[-1], 4, told)])


def latencies(percentiles: Mapping[str, float]) -> Curve:
    """The part of the questions that is answered after so many milliseconds."""
    highest = max(percentiles.values())
    across = Axis(0, highest * 1.04 or 1, MARGIN, SQUARE - 8)
    up = Axis(0, 1, SQUARE - MARGIN, 8)
    places = {p: (across.place(ms), up.place(int(p) / 100)) for p, ms in percentiles.items()}
    marks = [Mark(*places[p], 4, f"p{p}: {percentiles[p]:.1f} ms") for p in ("50", "95")]
    return Curve(across, up, _line(list(places.values())), marks)


def steps(medians: Mapping[str, float]) -> Steps:
    """The median of each step of a question."""
    axis = Axis(0, sum(medians.values()) or 1.0, *ACROSS)
    bars, begun = [], 0.0
    for row, (step, took) in enumerate(medians.items()):
        x, end = axis.place(begun), axis.place(begun + took)
        bars.append(Bar(step, f"{took:.1f}", x, round(end - x, 2), (row + 0.5) * ROW))
        begun += took
    return Steps(axis, bars)


def _dots(report: Report, measure: str) -> Dots:
    ends = {stage: each[measure] for stage, each in report["stage_intervals"].items()}
    lowest = min(low for low, _ in ends.values())
    highest = max(high for _, high in ends.values())
    room = max(0.02, (highest - lowest) * 0.08)
    axis = Axis(max(0.0, lowest - room), min(1.0, highest + room), *ACROSS)
    dots = []
    for row, (stage, values) in enumerate(report["stages"].items()):
        value, (low, high) = values[measure], ends[stage]
        told = f"{stage}: {value:.4f}, 95% {low:.4f} to {high:.4f}"
        places = (axis.place(value), axis.place(low), axis.place(high), (row + 0.5) * ROW)
        dots.append(Dot(stage, f"{value:.3f}", *places, stage == report["stage"], told))
    return Dots(measure, axis, dots, len(dots))


def _times(report: Report) -> Dots:
    known = report["latency_ms"]["stages"]
    axis = Axis(0, 1.05 * max((ms for ms in known.values() if ms), default=1), *ACROSS)
    dots = []
    for row, (stage, ms) in enumerate(known.items()):
        if ms is not None:
            places = (axis.place(ms),) * 3 + ((row + 0.5) * ROW,)
            dots.append(Dot(stage, f"{ms:.1f}", *places, stage == report["stage"], "median"))
    return Dots("ms until it is known", axis, dots, len(known))


def _square(highest: float) -> tuple[Axis, Axis]:
    return Axis(0, 1, MARGIN, SQUARE - 8), Axis(0, highest, SQUARE - MARGIN, 8)


def _line(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def interval(ends: Sequence[Any]) -> str:
    """An interval as people read it."""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"
