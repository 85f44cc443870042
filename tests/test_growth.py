"""The plot of `rag bench`: marks stand where the figures say, and no text becomes markup."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rag import growth
from rag.errors import InvalidRequest
from rag.growth import BOTTOM, COLUMN, LEFT, RIGHT, TOP, bytes_held, foot, plot, sizes, times

SVG = "{http://www.w3.org/2000/svg}"
ATTACK = """</desc><script>alert("1")</script>&'"""


def measured(passages: int, process_ms: float, http_ms: float, memory: float | None) -> Any:
    steps = {"interpret": 0.1, "encode": 5.0, "retrieve": 0.5, "rerank": 1.5, "total": process_ms}
    asked = {"clients": 1, "questions": 300, "steps_ms": steps}
    return {
        "passages": passages,
        "asked": [
            {**asked, "where": "process", "p50_ms": process_ms},
            {**asked, "where": "http", "p50_ms": http_ms, "resident_bytes": memory},
        ],
        "disk": {"bytes_per_passage": {"library": 12_000.0, "dense": 1_600.0, "model": 0.0}},
    }


GROWTH = [
    measured(1_000, 8.0, 10.0, 190e6),
    measured(10_000, 9.0, 11.0, 220e6),
    measured(100_000, 12.0, 14.0, 0.7e9),
    measured(1_000_000, 20.0, 23.0, 2.3e9),
]


def report(*grown: Any, **others: Any) -> dict[str, Any]:
    machine = {
        "processor": "x86_64",
        "processor_model": "Some Processor",
        "cores": 2,
        "memory_bytes": 8_400_000_000,
        "system": "Linux",
        "python": "3.11.7",
    }
    told = {"set": "scifact", "commit": "abc1234", "machine": machine}
    return {**told, "growth": list(grown), **others}


def marks(svg: str, tag: str) -> list[ElementTree.Element]:
    """The elements that show a value, without those of the legend."""
    root = ElementTree.fromstring(svg)
    found = [each for group in root.findall(f"{SVG}g") for each in group.findall(f"{SVG}{tag}")]
    edge = "cy" if tag == "circle" else "y"
    return [each for each in found if float(each.get(edge, "0")) >= TOP]


def said(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_mark_for_each_figure() -> None:
    svg = plot(report(*GROWTH))
    assert len(marks(svg, "rect")) == 4 * len(growth.STEPS)
    kinds = [each.get("class") for each in marks(svg, "circle")]
    assert {kind: kinds.count(kind) for kind in kinds} == {"http": 4, "memory": 4, "disk": 4}
    words = said(svg)
    for label in ("10.0", "23.0", "190 MB", "2.3 GB", "13.6 MB", "13.6 GB", "1k", "1M", "1 GB"):
        assert label in words


def test_columns_add_up_to_the_median_in_process() -> None:
    panel = times(sizes(GROWTH))
    unit = (BOTTOM - TOP) / panel.up.high
    for at, ms in enumerate((8.0, 9.0, 12.0, 20.0)):
        column = panel.blocks[4 * at : 4 * at + 4]
        assert [block.kind for block in column] == ["encode", "retrieve", "rerank", "rest"]
        heights = [block.height for block in column]
        assert heights == pytest.approx([n * unit for n in (5, 0.5, 1.5, ms - 7)], abs=0.02)
        assert column[0].y + column[0].height == pytest.approx(BOTTOM)
        for below, above in pairwise(column):
            assert above.y + above.height == pytest.approx(below.y, abs=0.02)


def test_columns_and_dots_stand_at_even_steps_of_tenfold_archives() -> None:
    panel = times(sizes(GROWTH))
    (line,) = panel.lines
    xs = [point.x for point in line.points]
    steps = [after - before for before, after in pairwise(xs)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.02)
    assert [block.x + block.width / 2 for block in panel.blocks[::4]] == pytest.approx(xs, abs=0.02)
    unit = (BOTTOM - TOP) / panel.up.high
    assert [BOTTOM - point.y for point in line.points] == pytest.approx(
        [unit * ms for ms in (10, 11, 14, 23)], abs=0.02
    )


def test_memory_and_disk_are_on_one_scale_the_larger_labelled_above() -> None:
    panel = bytes_held(sizes(GROWTH))
    memory, disk = panel.lines
    assert [point.is_above for point in memory.points] == [True, True, False, False]
    assert [point.is_above for point in disk.points] == [False, False, True, True]
    falls = [before.y - after.y for before, after in pairwise(disk.points)]
    assert falls == pytest.approx([falls[0]] * 3, abs=0.02)  # ten times as much each
    assert panel.up.place(190e6) == memory.points[0].y
    assert panel.up.place(13.6e6) == disk.points[0].y


def test_labels_stand_above_and_below_their_marks() -> None:
    svg = plot(report(*GROWTH))
    heights = {each.text: float(each.get("y", 0)) for each in marks(svg, "text")}
    panel = bytes_held(sizes(GROWTH))
    for point in (point for line in panel.lines for point in line.points):
        assert (heights[point.label] < point.y) == point.is_above


@pytest.mark.parametrize("passages", [1, 999, 1_000, 18_768, 10_000_000])
def test_one_size_has_one_column_on_the_paper(passages: int) -> None:
    svg = plot(report(measured(passages, 8.0, 10.0, 190e6)))
    blocks = marks(svg, "rect")
    assert len(blocks) == 4
    assert len(marks(svg, "circle")) == 3
    x, width = float(blocks[0].get("x", 0)), float(blocks[0].get("width", 0))
    assert width == COLUMN
    assert LEFT <= x < x + width <= RIGHT


def test_sizes_near_each_other_have_narrow_columns_and_the_last_a_label() -> None:
    panel = times(sizes([measured(n, 8.0, n / 100, None) for n in (1_300, 1_000, 1_150, 10_000)]))
    columns = panel.blocks[::4]
    for before, after in pairwise(columns):
        assert before.x + before.width < after.x
    assert [point.label for point in panel.lines[0].points] == ["", "", "13.0", "100.0"]


def test_of_two_archives_of_one_size_the_last_is_shown() -> None:
    found = sizes([measured(1_000, 8.0, 10.0, None), measured(1_000, 9.0, 12.0, None)])
    assert [size.http_ms for size in found] == [12.0]


def test_memory_that_is_not_known_is_left_out() -> None:
    partly = [measured(1_000, 8.0, 10.0, 190e6), measured(10_000, 9.0, 11.0, None)]
    memory, disk = bytes_held(sizes(partly)).lines
    assert (len(memory.points), len(disk.points)) == (1, 2)
    assert disk.points[1].is_above
    svg = plot(report(measured(1_000, 8.0, 10.0, None)))
    assert "memory of the server" not in said(svg)
    assert "memory not known" in svg


def test_steps_that_take_longer_than_the_median_leave_no_rest() -> None:
    (size,) = sizes([measured(1_000, 6.0, 10.0, None)])
    assert size.steps_ms["rest"] == 0
    assert [block.height for block in times([size]).blocks][-1] == 0


def test_everything_stays_on_the_paper() -> None:
    grown = [measured(10**n, 3.0 * n, 2.0**n, 10.0 ** (n + 5)) for n in range(1, 8)]
    for panel in (times(sizes(grown)), bytes_held(sizes(grown))):
        for line in panel.lines:
            for point in line.points:
                assert LEFT < point.x < RIGHT
                assert TOP <= point.y <= BOTTOM


def test_the_machine_and_what_was_asked_are_told_below() -> None:
    lines = foot(report(*GROWTH))
    assert lines[0] == (
        "Made-up archives, drawn from scifact; medians of 300 questions, one at a time."
    )
    assert lines[-1] == (
        "Some Processor · 2 cores · 8.4 GB of memory · Linux · Python 3.11.7 · commit abc1234"
    )
    machine = report()["machine"] | {"processor_model": None, "memory_bytes": None}
    told = foot(report(*GROWTH, commit=None, machine=machine))
    assert told[-1] == "x86_64 · 2 cores · Linux · Python 3.11.7 · commit unknown"
    named = foot(report(*GROWTH, set="long " * 40))
    assert max(map(len, named)) <= growth.FOOT_CHARACTERS
    svg = plot(report(*GROWTH, set="long " * 40))
    height = float(ElementTree.fromstring(svg).get("height", 0))
    last = max(float(each.get("y", 0)) for each in ElementTree.fromstring(svg).iter(f"{SVG}text"))
    assert last < height


def test_no_text_becomes_markup() -> None:
    svg = plot(report(*GROWTH, set=ATTACK))
    assert any("</desc><script>" in each for each in said(svg))
    tags = {each.tag.removeprefix(SVG) for each in ElementTree.fromstring(svg).iter()}
    assert tags == {
        *("svg", "title", "desc", "style", "g"),
        *("rect", "circle", "line", "polyline", "text"),
    }


def test_it_needs_nothing_else_and_is_told_to_those_who_do_not_see_it() -> None:
    svg = plot(report(*GROWTH))
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    named = [root.find(f"{SVG}{tag}") for tag in ("title", "desc")]
    assert root.get("aria-labelledby", "").split() == [
        each.get("id") for each in named if each is not None
    ]
    assert "1,000,000 passages: 20.0 ms in process, 23.0 ms over HTTP, memory 2.3 GB" in svg
    assert not re.findall(r"url\(|@import|href=|src=", svg)


def test_every_colour_is_there_in_the_dark_too() -> None:
    svg = plot(report(*GROWTH))
    used = set(re.findall(r"var\((--[a-z-]+)\)", svg))
    blocks = re.findall(r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", svg, re.DOTALL)
    assert used
    assert used <= set(re.findall(r"(--[a-z-]+):", "".join(blocks)))


def test_the_plot_is_written_or_the_reason_is_told(tmp_path: Path) -> None:
    found = report(*GROWTH)
    growth.write_plot(found, tmp_path / "new" / "growth.svg")
    assert (tmp_path / "new" / "growth.svg").read_text(encoding="utf-8") == plot(found)
    with pytest.raises(InvalidRequest, match="cannot be written") as told:
        growth.write_plot(found, tmp_path / "new" / "growth.svg" / "below.svg")
    assert told.value.field == "plot"
