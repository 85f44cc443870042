"""The tables of a report, as they are printed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from rag import tables
from rag.compare import comparison
from rag.searcher import Searcher
from tests.evaluated import evaluated


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(tmp_path_factory.mktemp("index")).report


def test_the_tables_fit_a_terminal_and_hold_the_figures(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = report | {"comparison": comparison(report, report)}
    tables.report(found)
    said = capsys.readouterr().out
    assert "…" not in said  # nothing is cut at 80 columns
    assert max(len(line) for line in said.splitlines() if "─" in line) <= 80
    for stage, values in report["stages"].items():
        (line,) = [line for line in said.splitlines() if line.strip().startswith(f"{stage} ")]
        assert f"{values['nDCG@10']:.4f}" in line
    assert "own: 3 questions" in said
    assert f"{report['abstention']['auroc']:.3f}" in said
    assert "Unanswerable questions withheld: 1 of 1." in said
    assert "+0.0000" in said
    assert "at a threshold of 0.45" in said
    left_out = report["abstention"]["not_answerable"]["left_out"]["withheld"]
    assert f"Withheld: 1 of 1 unanswerable as asked, {left_out} of 3 with the answer" in said
    assert "Without a confidence" not in said
    (right,) = [line for line in said.splitlines() if line.startswith("all ")]
    parts = report["answers"]["all"]
    assert right.split()[-2:] == [f"{parts[f'answered_{how}']:.3f}" for how in ("right", "wrong")]
    (auroc,) = [line for line in said.splitlines() if line.startswith("AUROC ")]
    assert auroc.split()[1:] == ["1.0000", "1.0000", "+0.0000", "0", "0", "4"]


def test_without_confidence_the_tables_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.report(evaluated(tmp_path, kind=Searcher).report)
    assert "no answer has a confidence" in capsys.readouterr().out


def test_only_what_was_asked_is_told_of_what_was_withheld(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"questions": 0, "withheld": 0}
    ways = report["abstention"]["not_answerable"] | {"as_asked": none}
    abstention = report["abstention"] | {"not_answerable": ways, "without_confidence": 7}
    tables.report(report | {"abstention": abstention})
    said = capsys.readouterr().out
    assert "as asked" not in said
    assert "of 3 with the answer left out." in said
    assert "Without a confidence, and not among these: 7." in said


def test_quotes_that_only_one_report_has_are_not_told(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = copy.deepcopy(report)
    before["answers"]["median_quote_characters"] = None
    tables.report(report | {"comparison": comparison(report, before)})
    assert "Median characters" not in capsys.readouterr().out


def test_a_significant_loss_is_named_with_its_questions_on_standard_error(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = report["per_query"]["who-harbour"]
    now = report | {"per_query": {f"q{n}": copy.deepcopy(first) for n in range(12)}}
    before = copy.deepcopy(now)
    for each in now["per_query"].values():
        each["answer"]["evidence@1"] = 0.0
    tables.report(now | {"comparison": comparison(now, before)})
    said = capsys.readouterr()
    assert "Significant loss: evidence@1 fell from 1.0000 to 0.0000" in said.err
    assert "q0: who reopened the harbour" in said.err
    assert "evidence@1 1.00 → 0.00" in said.out
    assert "and 2 more" in said.out


def test_confidence_that_tells_less_is_named_too(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = report["per_query"]["who-harbour"]
    now = report | {"per_query": {f"q{n}": copy.deepcopy(first) for n in range(12)}}
    before = copy.deepcopy(now)
    before["confidence_model"]["threshold"] = 0.75
    for each in now["per_query"].values():
        each["confidence_without"] = 0.95
    tables.report(now | {"comparison": comparison(now, before)})
    said = capsys.readouterr()
    assert "Significant loss: AUROC fell from 1.0000 to 0.0000 (95% -1.0000 to -1.0000)" in said.err
    assert "q0: who reopened the harbour" in said.err
    assert "Changed in the confidence model: threshold." in said.out
    assert "Confidence changed most for:" in said.out
    assert "→ 0.95" in said.out
    assert "and 7 more" in said.out
