"""Reports of an evaluation as files: what is in them, how they are named, written and read."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

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

_Value = Annotated[float, Field(allow_inf_nan=False)]

_Confidence = Annotated[float, Field(ge=0, le=1)]


class _Read(BaseModel):
    """A part of a report file that a comparison rests on; what else is in it may be anything."""

    model_config = ConfigDict(strict=True)


class _Query(_Read):
    stages: dict[str, list[_Value]] = Field(default_factory=dict)
    answer: Annotated[dict[str, _Value], Field(min_length=1)] = Field(default_factory=dict)
    confidence: _Confidence | None = None
    confidence_without: _Confidence | None = None


class _Answers(_Read):
    median_quote_characters: _Value | None


class _Whole(_Read):
    set: str
    set_sha256: str
    stage: str
    measures: list[str]
    commit: str | None
    per_query: dict[str, _Query]
    answers: _Answers = Field(default_factory=lambda: _Answers(median_quote_characters=None))
    confidence_model: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _every_query_has_figures(self) -> Self:
        for query_id, query in self.per_query.items():
            figures = query.stages.get(self.stage, [])
            if query.stages and len(figures) != len(self.measures):
                problem = "per_query.{id}.stages has not a value of {stage} for each measure"
                raise PydanticCustomError("values", problem, {"id": query_id, "stage": self.stage})
            if not query.stages and not query.answer:
                raise PydanticCustomError("figures", "per_query.{id}: no figures", {"id": query_id})
        return self


def read_report(file: Path) -> dict[str, Any]:
    """A report written before, whole or as a baseline. Raises InvalidRequest, which names the place
    of what cannot be compared."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest("compare", f"{file} cannot be read: {error}") from None
    if not isinstance(report, dict) or not {*_COMPARED, "per_query"} <= report.keys():
        raise InvalidRequest("compare", f"{file} is no report of rag eval that can be compared")
    if report["format"] != FORMAT:
        problem = f"{file} has format {report['format']}, this version writes and reads {FORMAT}"
        raise InvalidRequest("compare", problem)
    try:
        _Whole.model_validate(report)
    except ValidationError as error:
        first = error.errors()[0]
        # what pydantic says of an object names our class for it
        told = [".".join(map(str, first["loc"])), first["msg"].partition(" or instance of")[0]]
        raise InvalidRequest("compare", ": ".join(filter(None, [f"{file}", *told]))) from None
    return report


def write_report(report: Report, file: Path) -> None:
    """Write a report whole."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_text("out", file, text + "\n")


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
    write_text("out", file, _lines(kept) + "\n")


def write_text(field: str, file: Path, text: str) -> None:
    """Write a file, in a new folder where it has none. Raises InvalidRequest, on `field`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(field, f"{file} cannot be written: {error.strerror}") from None


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
    """Where the figures were taken; None for what the system does not tell."""
    return {
        "processor": platform.machine(),
        "processor_model": _processor_model(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """The commit of this code, with a + where it has uncommitted changes.

    None where git does not keep it, as when it is installed within another repository.
    """
    here = Path(__file__)
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "describe", "--always", "--dirty=+") or None
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - only what stands in this file
        ["git", *arguments],  # noqa: S607 - whichever git there is
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _processor_model(told: Path = Path("/proc/cpuinfo")) -> str | None:
    try:
        lines = told.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or None


def _memory_bytes() -> int | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, others not the names
        return None
    return size if size > 0 else None


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
