"""Reports of an evaluation as files: what is in them, how they are named, written and read."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag.errors import InvalidRequest

Report = Mapping[str, Any]
"""What `rag eval --out` writes."""

FORMAT = 1

PER_QUERY_DIGITS = 6
"""Decimals of one query's values, so that files stay small; means are of all digits."""

_COMPARED = ("format", "set", "set_sha256", "queries", "stage", "measures", "metrics", "commit")

_COMPARED_OF_A_QUERY = ("answer", "confidence", "confidence_without")

_RANDOM = ("archive", "checksum")
"""Entries of a manifest that differ between two indexes of the same articles."""


def read_report(file: Path) -> dict[str, Any]:
    """A report written before, whole or as a baseline. Raises InvalidRequest."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest("compare", f"{file} cannot be read: {error}") from None
    if not isinstance(report, dict) or not {*_COMPARED, "per_query"} <= report.keys():
        raise InvalidRequest("compare", f"{file} is no report of rag eval that can be compared")
    if report["format"] != FORMAT:
        problem = f"{file} has format {report['format']}, this version writes and reads {FORMAT}"
        raise InvalidRequest("compare", problem)
    return report


def write_report(report: Report, file: Path) -> None:
    """Write a report whole."""
    _write(file, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False))


def write_baseline(report: Report, file: Path) -> None:
    """Write what a comparison needs and nothing else, a line a question, to be committed."""
    stage = report["stage"]
    kept = {name: report[name] for name in _COMPARED}
    kept["per_query"] = {
        query_id: _compared(each, stage) for query_id, each in report["per_query"].items()
    }
    if "answers" in report:
        figures = ("all", "unanswerable", "median_quote_characters")
        kept["answers"] = {name: report["answers"][name] for name in figures}
    kept["confidence_model"] = report["confidence_model"]
    _write(file, _lines(kept))


def report_file(given: str, report: Report, suffix: str) -> Path:
    """The file that is meant: in a folder, or what ends with /, one named by set and commit."""
    if not is_folder(given):
        return Path(given)
    name = "-".join(part for part in (report["set"], report["commit"]) if part)
    return Path(given) / (re.sub(r"[^\w.,=+~-]", "_", name) + suffix)


def is_folder(given: str) -> bool:
    """Whether a folder is meant, there or to be made."""
    return given.endswith(("/", os.sep)) or Path(given).is_dir()


def manifest_entries(manifest: Mapping[str, str]) -> dict[str, str]:
    """What an index says of itself, but for what is random in it."""
    return {name: value for name, value in manifest.items() if name not in _RANDOM}


def best(report: Report, measure: str, stage: str) -> bool:
    """Whether a stage has the best figure of a measure, and not all have it."""
    figures = {name: float(values[measure]) for name, values in report["stages"].items()}
    return figures[stage] == max(figures.values()) > min(figures.values())


def machine() -> dict[str, object]:
    """Where the figures were taken."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """The commit of this code, with a + where it has uncommitted changes; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],  # noqa: S607 - whichever git there is
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip() or None


def _compared(query: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What a comparison needs of one question."""
    kept: dict[str, Any] = {}
    if "stages" in query:
        kept["stages"] = {stage: query["stages"][stage]}
    return kept | {name: query[name] for name in _COMPARED_OF_A_QUERY if name in query}


def _lines(document: Mapping[str, Any], depth: int = 2) -> str:
    """JSON with a line for each entry of the mapping and of those in it."""
    entries = [
        f"{json.dumps(name)}: {_lines(value, depth - 1)}"
        if isinstance(value, dict) and depth > 1
        else f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for name, value in document.items()
    ]
    return "{\n" + ",\n".join(entries) + "\n}"


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidRequest("out", f"{file} cannot be written: {error.strerror}") from None
