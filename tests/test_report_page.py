"""The page of a report: whole, of one file, and no text in it can become markup."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rag.compare import comparison
from rag.errors import InvalidRequest
from rag.evaluate import DEFAULT_STAGE
from rag.report import write_baseline
from rag.report_page import page, write_page
from rag.searcher import Searcher
from rag.sets import EvaluationSet
from tests.evaluated import ATTACK, QUOTED, evaluated, own_set

VOID = {"meta", "link"}


class Read(HTMLParser):
    """The elements and the text of a page, which closes all it opens."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.said += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """With all that a report can have."""
    found = evaluated(tmp_path_factory.mktemp("index")).report
    before = copy.deepcopy(found)
    before["per_query"]["attack"]["stages"][DEFAULT_STAGE] = [0.0] * 5
    before["per_query"]["none"]["confidence"] += 0.25
    before["per_query"]["none"]["answer"]["of another version"] = 1.0
    found["comparison"] = comparison(found, before)
    return found


def test_the_page_shows_every_part(report: dict[str, Any]) -> None:
    said = Read(page(report)).said
    for title in ("Stages", "Answers", "Confidence", "Reliability", "Risk and coverage"):
        assert title in said
    for title in ("Latency", "Where the time goes", "Compared with", "Failures to read"):
        assert title in said
    for stage, values in report["stages"].items():
        assert stage in said
        assert f"{values['nDCG@10']:.4f}" in said
    for each in report["failures"]:
        assert each["kind"] in said
        assert each["cited"]["quote"] in said


def test_the_page_tells_what_answers_by_which_numbers(report: dict[str, Any]) -> None:
    said = " ".join(Read(page(report)).said.split())
    model = report["confidence_model"]
    assert f"answered from confidence {model['threshold']} on" in said
    for name, value in model["coefficients"].items():
        assert f"{abs(value)} × {name.replace('_', ' ')}" in said
    parts = report["answers"]["all"]
    assert "answered right" in said
    assert f"and wrong {parts['answered_wrong']:.3f}" in said


def test_the_page_tells_how_confidence_changed(report: dict[str, Any]) -> None:
    html = page(report)
    said = Read(html).said
    found = report["comparison"]
    assert f"{found['abstention']['auroc']['before']:.4f}" in said
    assert found["abstention"]["test"] in said
    assert "Questions whose confidence changed: 1" in said
    (then, now) = found["abstention"]["changed"][0]["measures"]["not_answerable"]
    assert then > now
    assert f'<span class="better">not answerable {then:.2f} → {now:.2f}</span>' in html
    assert "both have it of the same questions: of another version." in said


def test_the_page_tells_apart_what_was_withheld(report: dict[str, Any]) -> None:
    said = " ".join(Read(page(report)).said.split())
    left_out = report["abstention"]["not_answerable"]["left_out"]["withheld"]
    assert f"Withheld: 1 of 1 unanswerable as asked, {left_out} of 3 with the answer" in said
    found = copy.deepcopy(report)
    found["abstention"]["without_confidence"] = 7
    assert "Without a confidence" not in said
    assert "Without a confidence, and not among these: 7." in Read(page(found)).said


def test_the_page_counts_confidences_on_a_scale(report: dict[str, Any]) -> None:
    html = page(report)
    plot = html[html.index("<h3>Confidences</h3>") :]
    labels = re.findall(r'<text class="end"[^>]*>(\d+)</text>', plot[: plot.index("</svg>")])
    assert labels == ["0", "1", "2", "3", "4", "5"] * 2


def test_the_page_tells_the_machine(report: dict[str, Any]) -> None:
    machine = {"processor_model": None, "memory_bytes": 4_096_000}
    html = page(report | {"machine": machine})
    assert "<dt>processor model</dt><dd>unknown</dd>" in html
    assert "<dt>memory bytes</dt><dd>4,096,000</dd>" in html


def test_no_text_becomes_markup(report: dict[str, Any]) -> None:
    html = page(report)
    read = Read(html)
    assert ATTACK in read.said  # in questions and titles
    assert QUOTED in read.said
    assert "{{7*7}}" in read.said
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "input"}
    assert not [a for _, attributes in read.elements for a in attributes if a.startswith("on")]


def test_the_page_needs_nothing_else(report: dict[str, Any]) -> None:
    html = page(report)
    for tag, attributes in Read(html).elements:
        for name in ("href", "src", "srcset", "data", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "@import" not in style[0]
    assert "prefers-color-scheme: dark" in style[0]


def test_every_colour_of_a_plot_is_there_in_the_dark_too(report: dict[str, Any]) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page(report), re.DOTALL)
    used = set(re.findall(r"var\((--[a-z-]+)\)", style))
    blocks = re.findall(r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", style, re.DOTALL)
    dark = "".join(blocks)
    assert used <= set(re.findall(r"(--[a-z-]+):", dark))


def test_a_report_without_answers_confidence_or_failures(tmp_path: Path) -> None:
    own = own_set()
    one = {"who-harbour": own.queries["who-harbour"]}
    asked = EvaluationSet("beir", [], one, {"who-harbour": {"harbour": 1}})
    report = evaluated(tmp_path, asked, kind=Searcher).report
    said = Read(page(report)).said
    assert "no answer has a confidence" in said
    assert "There is none." in said
    assert "Compared with" not in said
    assert "evidence first" not in said


def test_equal_reports_give_equal_pages(report: dict[str, Any]) -> None:
    assert page(report) == page(copy.deepcopy(report))


def test_the_page_is_written_or_the_reason_is_told(report: dict[str, Any], tmp_path: Path) -> None:
    write_page(report, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == page(report)
    write_baseline(report, tmp_path / "file")
    with pytest.raises(InvalidRequest, match="cannot be written"):
        write_page(report, tmp_path / "file" / "report.html")
