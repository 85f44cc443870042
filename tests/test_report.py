"""Reports as files: named by set and commit, read back, and small where they are committed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rag import report as reports
from rag.abstention import known_confidences
from rag.compare import comparison, require_comparable, require_measures
from rag.errors import InvalidRequest
from rag.evaluate import DEFAULT_STAGE
from rag.report import (
    best,
    commit,
    is_folder,
    machine,
    read_report,
    report_file,
    write_baseline,
    write_report,
)
from rag.sets import open_set
from tests.evaluated import evaluated


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(tmp_path_factory.mktemp("index")).report


def test_a_report_is_read_as_it_was_written(report: dict[str, Any], tmp_path: Path) -> None:
    write_report(report, tmp_path / "new" / "report.json")
    assert read_report(tmp_path / "new" / "report.json") == json.loads(json.dumps(report))


def test_a_baseline_compares_as_the_whole_report_does(
    report: dict[str, Any], tmp_path: Path
) -> None:
    whole, small = tmp_path / "report.json", tmp_path / "baseline.json"
    write_report(report, whole)
    write_baseline(report, small)
    assert comparison(report, read_report(small)) == comparison(report, read_report(whole))


def test_a_baseline_has_a_line_for_each_question_and_no_text(
    report: dict[str, Any], tmp_path: Path
) -> None:
    write_baseline(report, tmp_path / "baseline.json")
    text = (tmp_path / "baseline.json").read_text(encoding="utf-8")
    lines = text.splitlines()
    for query_id in report["per_query"]:
        assert sum(line.startswith(f'"{query_id}": ') for line in lines) == 1
    assert "script" not in text
    assert "machine" not in json.loads(text)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "is no report"),
        ('{"metrics": {}}', "is no report"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_is_no_report_is_refused(content: str | None, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=problem):
        read_report(file)


def test_a_report_of_another_format_is_refused(report: dict[str, Any], tmp_path: Path) -> None:
    write_report(report | {"format": 99}, tmp_path / "report.json")
    with pytest.raises(InvalidRequest, match="has format 99"):
        read_report(tmp_path / "report.json")


DAMAGES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("per_query",), [], "per_query: "),
    (("per_query", "none"), "text", "per_query.none: "),
    (("per_query", "none"), {}, "per_query.none: no figures"),
    (("per_query", "none", "answer"), {}, "per_query.none.answer: "),
    (("per_query", "none", "answer"), None, "per_query.none.answer: "),
    (("per_query", "none", "answer", "withheld"), "1", "per_query.none.answer.withheld: "),
    (("per_query", "none", "confidence"), 2, "per_query.none.confidence: "),
    (("per_query", "attack", "stages"), {}, ""),
    (("per_query", "attack", "stages", DEFAULT_STAGE), [1.0], f"a value of {DEFAULT_STAGE}"),
    (("per_query", "attack", "stages", DEFAULT_STAGE, 0), None, f"stages.{DEFAULT_STAGE}.0: "),
    (("per_query", "attack", "stages", DEFAULT_STAGE, 0), float("nan"), "finite number"),
    (("stage",), "another", "per_query.who-harbour.stages has not a value of another"),
    (("measures",), ["nDCG@10"], "for each measure"),
    (("answers",), {}, "answers.median_quote_characters: "),
    (("answers",), None, "answers: "),
    (("answers", "median_quote_characters"), None, ""),
    (("confidence_model",), "text", "confidence_model: "),
    (("confidence_model",), None, ""),
]


@pytest.mark.parametrize(("place", "value", "problem"), DAMAGES)
def test_what_a_damaged_report_lacks_is_named_when_it_is_read(
    place: tuple[str | int, ...],
    value: Any,
    problem: str,
    report: dict[str, Any],
    tmp_path: Path,
) -> None:
    """What is no damage, without a problem, compares."""
    file = tmp_path / "damaged.json"
    write_baseline(report, file)
    damaged: Any = json.loads(file.read_text(encoding="utf-8"))
    part = damaged
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    file.write_text(json.dumps(damaged), encoding="utf-8")
    if not problem:
        assert comparison(report, read_report(file))["measures"]
        return
    with pytest.raises(InvalidRequest) as raised:
        read_report(file)
    assert "damaged.json: " in raised.value.problem
    assert problem in raised.value.problem


def test_the_commit_is_of_the_repository_that_keeps_this_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    installed = tmp_path / "site" / "rag" / "report.py"
    installed.parent.mkdir(parents=True)
    shutil.copy(reports.__file__, installed)
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "of something else")
    monkeypatch.setattr(reports, "__file__", str(installed))
    assert commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "of this code")
    kept = commit()
    assert kept
    installed.write_text("", encoding="utf-8")
    assert commit() == f"{kept}+"


def test_the_machine_is_told_as_far_as_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Example 9000\n", encoding="utf-8")
    monkeypatch.setattr("platform.processor", lambda: "of the platform")
    assert reports._processor_model(told) == "Example 9000"
    assert reports._processor_model(tmp_path / "none") == "of the platform"
    monkeypatch.setattr("platform.processor", lambda: "")
    assert reports._processor_model(tmp_path / "none") is None
    monkeypatch.setattr(os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 1000)
    assert machine()["memory_bytes"] == 4_096_000
    monkeypatch.setattr(os, "sysconf", lambda name: -1 if name == "SC_PHYS_PAGES" else 4096)
    assert machine()["memory_bytes"] is None
    monkeypatch.delattr(os, "sysconf")
    assert machine()["memory_bytes"] is None


def test_into_a_folder_a_report_is_named_by_set_and_commit(tmp_path: Path) -> None:
    report = {"set": "squad2-dev,answerable=true", "commit": "abc1234+"}
    name = "squad2-dev,answerable=true-abc1234+.json"
    assert report_file(str(tmp_path), report, ".json") == tmp_path / name
    assert report_file(f"{tmp_path}/new/", report, ".json") == tmp_path / "new" / name
    assert report_file(f"{tmp_path}/a.txt", report, ".json") == tmp_path / "a.txt"
    odd = {"set": "a/../b c", "commit": None}
    assert report_file(str(tmp_path), odd, ".html") == tmp_path / "a_.._b_c.html"
    assert not is_folder(str(tmp_path / "new"))
    assert is_folder(f"new{os.sep}")


def test_a_file_that_cannot_be_written_is_named(report: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="cannot be written"):
        write_report(report, tmp_path / "file" / "report.json")


def test_the_best_stage_of_a_measure() -> None:
    report = {"stages": {"a": {"x": 0.5, "y": 1}, "b": {"x": 0.7, "y": 1}, "c": {"x": 0.7, "y": 1}}}
    assert [best(report, "x", stage) for stage in "abc"] == [False, True, True]
    assert not any(best(report, "y", stage) for stage in "abc")  # all are equal


def test_the_committed_baseline_is_of_the_committed_questions() -> None:
    own = Path(__file__).parents[1] / "eval"
    opened = open_set(own / "questions.jsonl", None, max_text_bytes=1)
    baseline = read_report(own / "baseline.json")
    require_comparable(baseline, opened.name, opened.sha256, opened.texts)
    require_measures(baseline, opened, has_confidence=True)
    assert baseline["per_query"].keys() == {each.id for each in opened.questions}
    known = known_confidences(baseline)
    assert known["answerable"].keys() == opened.queries.keys()
    assert known["not_answerable"].keys() == baseline["per_query"].keys()
