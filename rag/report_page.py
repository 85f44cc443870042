"""A report as one page to read: a file that needs nothing else, neither network nor script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rag import plots
from rag.abstention import why_not_measured
from rag.compare import is_better, notes
from rag.report import Report, best, write_text

STYLE = "".join(
    files("rag").joinpath("pages", name).read_text(encoding="utf-8")
    for name in ("colours.css", "style.css", "report.css")
)

PAGES = Environment(
    loader=PackageLoader("rag", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.globals["style"] = Markup(STYLE)  # noqa: S704 - our own files, which hold no `<`
PAGES.globals |= {"plots": plots, "best": best, "is_better": is_better, "notes": notes}
PAGES.globals["why_not_measured"] = why_not_measured

INDEX_TOLD = ("encoder_name", "passage_tokens", "chunker", "normaliser", "dimension", "published")
"""Entries of an index's manifest that people ask for, the first of all."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure to look at first."""

    name: str
    value: str
    note: str


def write_page(report: Report, file: Path) -> None:
    """Write the page. Raises InvalidRequest."""
    write_text("html", file, page(report))


def page(report: Report) -> str:
    """The page as HTML. Every text of the set and the archive in it is escaped."""
    return PAGES.get_template("report.html").render(
        report=report,
        figures=figures(report),
        kinds=Counter(each["kind"] for each in report["failures"]),
        manifest=_told(report["index"]),
    )


def figures(report: Report) -> list[Figure]:
    """What to look at first: a ranking, an answer, a confidence, a time."""
    found = [
        Figure(name, f"{report['metrics'][name]:.3f}", plots.interval(report["intervals"][name]))
        for name in ("nDCG@10", "Success@1")
    ]
    answers, abstention = report.get("answers"), report["abstention"]
    if answers:
        ends = plots.interval(answers["intervals"]["evidence@1"])
        found.append(Figure("evidence first", f"{answers['all']['evidence@1']:.3f}", ends))
        wrong = f"and wrong {answers['all']['answered_wrong']:.3f}"
        found.append(Figure("answered right", f"{answers['all']['answered_right']:.3f}", wrong))
    if abstention and abstention["auroc"] is not None:
        error = abstention["correctness"]["expected_calibration_error"]
        found.append(
            Figure("AUROC", f"{abstention['auroc']:.3f}", f"calibration error {error:.3f}")
        )
    took = report["latency_ms"]
    return [
        *found,
        Figure("a question", f"{took['p50']:.0f} ms", f"95% within {took['p95']:.0f} ms"),
    ]


def _told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: manifest[name] for name in INDEX_TOLD if name in manifest}
