"""How a question's time, memory and disk grow with the archive: what `rag bench` measured on
made-up archives, as one SVG that needs nothing else.

Places are in SVG user units, x to the right and y downwards. They leave room for the larger letters
that the template takes where the image is small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any

from rag.plots import BYTES, COUNT, Axis, LogAxis, in_units
from rag.report import Report, write_text
from rag.report_page import PAGES

LEFT, RIGHT, TOP, BOTTOM = 78.0, 424.0, 116.0, 306.0
"""Edges of a panel's plot."""

ACROSS = (LEFT + 38, RIGHT - 38)
"""Where the smallest and the largest number of passages stand, with room for half a column."""

COLUMN = 56.0
"""The widest that a column is."""

LABEL_WIDTH, LABEL_HEIGHT = 70.0, 28.0
"""Room of a label; one that has less beside it is left out."""

FOOT_CHARACTERS = 92
"""Of a line below the panels."""

STEPS = {"encode": "model", "retrieve": "searching", "rerank": "re-ranking", "rest": "rest"}
"""The parts of a question's time that are told apart, and what they are called."""


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured on one archive: medians in milliseconds, bytes. The steps add up to
    `process_ms`; `memory` is None where it is not known."""

    passages: int
    steps_ms: Mapping[str, float]
    process_ms: float
    http_ms: float
    memory: float | None
    disk: float

    def __str__(self) -> str:
        known = "not known" if self.memory is None else in_units(self.memory, BYTES)
        return (
            f"{self.passages:,} passages: {self.process_ms:.1f} ms in process, "
            f"{self.http_ms:.1f} ms over HTTP, memory {known}, "
            f"{in_units(self.disk, BYTES)} on disk"
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A step's part of a column."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    told: str


@dataclass(frozen=True, slots=True)
class Point:
    """A value of one archive; its label stands above it or below."""

    x: float
    y: float
    label: str
    is_above: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A value of all archives that have it."""

    kind: str
    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """Columns of blocks, with lines over them, by number of passages."""

    title: str
    across: LogAxis
    up: Axis
    blocks: Sequence[Block]
    lines: Sequence[Line]


def write_plot(report: Report, file: Path) -> None:
    """Write the plot of a report that has archives of several sizes. Raises InvalidRequest."""
    write_text("plot", file, plot(report))


def plot(report: Report) -> str:
    """The plot as SVG. Every text of the report in it is escaped."""
    found = sizes(report["growth"])
    return PAGES.get_template("growth.svg").render(
        panels=[times(found), bytes_held(found)],
        left=LEFT,
        right=RIGHT,
        bottom=BOTTOM,
        steps=STEPS,
        sizes=found,
        foot=foot(report),
    )


def sizes(growth: Sequence[Mapping[str, Any]]) -> list[Size]:
    """What was measured, by number of passages; the last of several of one size."""
    return [each for _, each in sorted({each["passages"]: _size(each) for each in growth}.items())]


def _size(measured: Mapping[str, Any]) -> Size:
    process, http = measured["asked"]
    told = {step: process["steps_ms"].get(step, 0.0) for step in STEPS}
    told["rest"] = max(0.0, process["p50_ms"] - sum(told.values()))
    return Size(
        measured["passages"],
        told,
        process["p50_ms"],
        http["p50_ms"],
        http["resident_bytes"],
        measured["passages"] * sum(measured["disk"]["bytes_per_passage"].values()),
    )


def times(found: Sequence[Size]) -> Panel:
    """The steps in process as columns, and the whole over HTTP as a line."""
    across = _passages(found)
    highest = max(max(sum(size.steps_ms.values()), size.http_ms) for size in found)
    up = Axis(0, highest * 1.1, BOTTOM, TOP)
    places = [across.place(size.passages) for size in found]
    width = min([COLUMN, *(0.7 * (after - before) for before, after in pairwise(places))])
    blocks = [
        block
        for size, x in zip(found, places, strict=True)
        for block in _column(size, round(x - width / 2, 2), round(width, 2), up)
    ]
    asked = [
        Point(x, up.place(size.http_ms), f"{size.http_ms:.1f}", True)
        for size, x in zip(found, places, strict=True)
    ]
    line = Line("http", "over HTTP", _readable(asked))
    return Panel("A question's median time, ms", across, up, blocks, [line])


def _column(size: Size, x: float, width: float, up: Axis) -> list[Block]:
    ends = [up.place(ms) for ms in accumulate(size.steps_ms.values(), initial=0.0)]
    return [
        Block(step, x, end, width, round(start - end, 2), f"{STEPS[step]}: {ms:.1f} ms")
        for (step, ms), (start, end) in zip(size.steps_ms.items(), pairwise(ends), strict=True)
    ]


def bytes_held(found: Sequence[Size]) -> Panel:
    """Memory and disk as lines; where both are known the label of the larger is above."""
    across = _passages(found)
    memory = [(size, size.memory) for size in found if size.memory is not None]
    values = [size.disk for size in found] + [value for _, value in memory]
    up = LogAxis.around(values, BOTTOM - LABEL_HEIGHT, TOP, BYTES)

    def point(size: Size, value: float, is_above: bool) -> Point:
        places = across.place(size.passages), up.place(value)
        return Point(*places, in_units(value, BYTES), is_above)

    resident = [point(size, value, value > size.disk) for size, value in memory]
    disk = [point(size, size.disk, size.disk >= (size.memory or 0)) for size in found]
    lines = [
        Line("memory", "memory of the server", _readable(resident)),
        Line("disk", "files of the archive", _readable(disk)),
    ]
    return Panel("Memory and disk", across, up, [], [line for line in lines if line.points])


def _passages(found: Sequence[Size]) -> LogAxis:
    return LogAxis.around([size.passages for size in found], *ACROSS, COUNT)


def _readable(points: Sequence[Point]) -> list[Point]:
    """Without the labels that would stand in another's room; the last keeps its own."""
    kept, next_x = [], math.inf
    for point in reversed(points):
        has_room = next_x - point.x >= LABEL_WIDTH
        kept.append(point if has_room else replace(point, label=""))
        next_x = point.x if has_room else next_x
    return kept[::-1]


def foot(report: Report) -> list[str]:
    """How it was measured, and where, in lines."""
    machine = report["machine"]
    memory, processor = machine["memory_bytes"], machine["processor_model"]
    asked = report["growth"][0]["asked"][0]["questions"]
    made = f"Made-up archives, drawn from {report['set']}"
    how = f"{made}; medians of {asked} questions, one at a time."
    drawn = "Columns are the steps of a question in process, dots the whole of it over HTTP."
    where = [
        processor or machine["processor"],
        f"{machine['cores']} cores",
        "" if memory is None else f"{in_units(memory, BYTES)} of memory",
        machine["system"],
        f"Python {machine['python']}",
        f"commit {report['commit'] or 'unknown'}",
    ]
    paragraphs = (how, drawn, " · ".join(filter(None, where)))
    return [line for each in paragraphs for line in wrap(each, FOOT_CHARACTERS)]
