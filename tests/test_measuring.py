"""`rag eval` as a caller sees it: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag import tables
from rag.errors import InvalidRequest
from rag.evaluate import DEFAULT_STAGE, STAGES
from tests.called import Called

DOCUMENTS = {"d1": "the bridge was closed", "d2": "the harvest was poor", "d3": "it snowed"}
QUERIES = {"q1": "which bridge was closed", "q2": "how was the harvest"}


def beir(folder: Path, queries: dict[str, str] = QUERIES) -> Path:
    """A set of which each query is answered by the document of its number."""
    folder.mkdir()
    documents = [{"_id": k, "title": "", "text": text} for k, text in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
    asked = [
        {"_id": k, "text": text, "metadata": {"number": at}}
        for at, (k, text) in enumerate(queries.items(), start=1)
    ]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    judged = [f"{query_id}\td{at}\t1" for at, query_id in enumerate(queries, start=1)]
    (folder / "qrels.tsv").write_text("\n".join(judged), encoding="utf-8")
    return folder


def refused(called: Called) -> str:
    assert called.code == 2
    assert called.out == ""
    return called.err


def test_eval_of_a_beir_folder_writes_a_report(rag: Any, tmp_path: Path) -> None:
    folder = beir(tmp_path / "tiny")
    called = rag("eval", str(folder), "--out", str(tmp_path / "report.json"))
    assert called.code == 0
    for stage in ("lexical", "dense", "rrf", "fused", "understanding"):
        assert stage in called.out
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["set"] == "tiny"
    assert report["queries"] == 2
    assert report["metrics"]["nDCG@10"] == 1.0
    assert report["metrics"] == report["stages"][DEFAULT_STAGE]
    assert not (tmp_path / "index").exists()


def test_eval_of_questions_asks_an_archive_that_is_named_and_adds_nothing(
    rag: Any, story: Path, tmp_path: Path
) -> None:
    rag("add", str(story), "--index", str(tmp_path / "mine"))
    article = rag("ask", "who warned", "--index", str(tmp_path / "mine"), "--json")
    article_id = article.json["citations"][0]["article"]["id"]
    quote = "The envoy Ada Berg warned on November 20, 2025, that the fighting may spill over."
    questions = [
        {
            "id": "one",
            "type": "who",
            "question": "who warned that fighting may spill over",
            "answers": [["Ada Berg"]],
            "evidence": [{"article": article_id, "quote": quote}],
        },
        {"id": "two", "type": "unanswerable", "question": "why?", "answers": [], "evidence": []},
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, questions)), encoding="utf-8")
    called = rag("eval", str(file), "--index", str(tmp_path / "mine"), "--json")
    assert called.code == 0
    answers = called.json["answers"]
    assert answers["all"]["answer@1"] == 1.0
    assert answers["all"]["evidence@1"] == 1.0
    assert answers["unanswerable"] == {"questions": 1, "withheld": 0}
    assert rag("eval", str(file), "--index", str(tmp_path / "mine")).code == 0
    assert rag("status", "--index", str(tmp_path / "mine"), "--json").json["articles"] == 1


def test_eval_of_what_is_not_there_is_a_wrong_call(rag: Any) -> None:
    assert rag("eval", "nowhere").code == 2


def test_eval_with_json_prints_one_document_and_nothing_else(rag: Any, tmp_path: Path) -> None:
    folder = beir(tmp_path / "tiny")
    report = rag("eval", str(folder), "--json", "--html", str(tmp_path / "page.html")).json
    assert report["latency_ms"]["p50"] > 0
    assert list(report["stages"]) == list(STAGES)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_eval_names_files_in_a_folder_by_set_and_commit(rag: Any, tmp_path: Path) -> None:
    folder = beir(tmp_path / "tiny")
    (tmp_path / "pages").mkdir()
    called = rag("eval", str(folder), "--out", f"{tmp_path}/new/", "--html", f"{tmp_path}/pages")
    (written,) = (tmp_path / "new").iterdir()
    (page,) = (tmp_path / "pages").iterdir()
    report = json.loads(written.read_text(encoding="utf-8"))
    assert written.name == f"tiny-{report['commit']}.json"
    assert page.name == f"tiny-{report['commit']}.html"
    assert f"Wrote {written}" in called.err


def test_eval_ranks_by_the_stages_that_are_named(rag: Any, tmp_path: Path) -> None:
    folder = beir(tmp_path / "tiny")
    report = rag("eval", str(folder), "--stages", "dense, lexical", "--json").json
    assert list(report["stages"]) == ["lexical", "dense", DEFAULT_STAGE]
    assert "there is no stage 'magic'" in refused(rag("eval", str(folder), "--stages", "magic"))


def test_eval_of_a_part_of_a_set(rag: Any, tmp_path: Path) -> None:
    folder = beir(tmp_path / "tiny")
    report = rag("eval", str(folder), "--where", "number=2", "--json").json
    assert (report["set"], list(report["per_query"])) == ("tiny,number=2", ["q2"])
    assert "has number = 3" in refused(rag("eval", str(folder), "--where", "number=3"))


def test_eval_writes_trec_files(rag: Any, tmp_path: Path) -> None:
    folder = beir(tmp_path / "tiny")
    assert rag("eval", str(folder), "--trec", str(tmp_path / "trec")).code == 0
    written = {file.name for file in (tmp_path / "trec").iterdir()}
    assert written == {"qrels.txt", *(f"{stage}.run" for stage in STAGES)}
    assert (tmp_path / "trec" / "qrels.txt").read_text() == "q1 0 d1 1\nq2 0 d2 1\n"
    odd = beir(tmp_path / "odd", {"q one": "which bridge was closed"})
    assert "'q one' is not one word" in refused(rag("eval", str(odd), "--trec", str(tmp_path)))


def test_eval_compares_with_a_baseline_and_fails_on_a_loss(rag: Any, tmp_path: Path) -> None:
    asked = {f"q{number}": f"which bridge was closed {number}" for number in range(1, 11)}
    folder = beir(tmp_path / "tiny", asked)
    (folder / "qrels.tsv").write_text("\n".join(f"{q}\td1\t1" for q in asked), encoding="utf-8")
    baseline = tmp_path / "baseline.json"
    assert rag("eval", str(folder), "--write-baseline", str(baseline)).code == 0
    same = rag("eval", str(folder), "--compare", str(baseline), "--fail-on-loss", "--json")
    assert same.code == 0
    assert same.json["comparison"]["changed"] == []
    report = json.loads(baseline.read_text(encoding="utf-8"))
    for each in report["per_query"].values():
        each["stages"][DEFAULT_STAGE][0] = 2.0  # as if everything had been better
    baseline.write_text(json.dumps(report), encoding="utf-8")
    assert rag("eval", str(folder), "--compare", str(baseline)).code == 0
    lost = rag("eval", str(folder), "--compare", str(baseline), "--fail-on-loss")
    assert lost.code == 1
    assert "Significant loss: nDCG@10 fell from 2.0000 to 1.0000" in lost.err
    assert "q1: which bridge was closed 1" in lost.err


def test_eval_refuses_to_compare_other_sets_before_it_measures(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = tmp_path / "baseline.json"
    rag("eval", str(beir(tmp_path / "tiny")), "--write-baseline", str(baseline))
    other = beir(tmp_path / "other")
    monkeypatch.setattr("rag.evaluate.evaluate", None)
    assert "is on tiny, not on other" in refused(
        rag("eval", str(other), "--compare", str(baseline))
    )
    assert "cannot be read" in refused(rag("eval", str(other), "--compare", str(tmp_path / "no")))
    assert "--compare" in refused(rag("eval", str(other), "--fail-on-loss"))
    nowhere = str(tmp_path / "baseline.json" / "report.json")
    for option in ("--out", "--html", "--trec", "--write-baseline"):
        err = refused(rag("eval", str(other), option, nowhere))
        assert "nothing can be written to" in err
    assert "no stage" in refused(rag("eval", str(other), "--stages", "magic"))


def test_eval_tells_its_errors_as_json_where_json_is_asked_for(rag: Any, tmp_path: Path) -> None:
    called = rag("eval", str(beir(tmp_path / "tiny")), "--stages", "magic", "--json")
    assert called.code == 2
    assert called.json["error"]["type"] == "InvalidRequest"


def test_eval_prints_what_to_look_at(rag: Any, tmp_path: Path) -> None:
    called = rag("eval", str(beir(tmp_path / "tiny")))
    assert "tiny: 2 questions" in called.out
    assert "no answer has a confidence" in called.out
    assert tables.BEST not in called.out


@pytest.fixture
def question_set(tmp_path: Path) -> Path:
    """Questions of two articles, of which the archive of `story` holds one."""
    questions = [
        {
            "id": name,
            "type": "who",
            "question": "who warned that fighting may spill over",
            "answers": [["Ada Berg"]],
            "evidence": [{"article": article, "quote": "The envoy Ada Berg warned"}],
        }
        for name, article in (("held", "story"), ("lost", "other"))
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, questions)), encoding="utf-8")
    return file


def test_eval_warns_of_judged_articles_that_the_archive_lacks(
    rag: Any, question_set: Path, tmp_path: Path
) -> None:
    about = tmp_path / "about.jsonl"
    about.write_text(json.dumps({"id": "story", "title": "Envoy", "text": "She warned."}))
    mine = str(tmp_path / "mine")
    assert "none of the 2 articles" in refused(rag("eval", str(question_set), "--index", mine))
    rag("add", str(about), "--index", mine)
    called = rag("eval", str(question_set), "--index", mine, "--json")
    assert called.code == 0
    assert "holds 1 of the 2 articles" in called.err
    assert called.json["queries"] == 2
    whole = rag("eval", str(beir(tmp_path / "tiny")))
    assert "Warning" not in whole.err


def test_eval_refuses_a_gate_that_could_not_tell_before_it_measures(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, baseline = str(beir(tmp_path / "tiny")), tmp_path / "baseline.json"
    rag("eval", folder, "--write-baseline", str(baseline))
    report = json.loads(baseline.read_text(encoding="utf-8"))
    report["measures"] = report["measures"][:1]
    for each in report["per_query"].values():
        each["stages"] = {stage: values[:1] for stage, values in each["stages"].items()}
    baseline.write_text(json.dumps(report), encoding="utf-8")
    plain = rag("eval", folder, "--compare", str(baseline), "--json")
    assert plain.code == 0
    assert plain.json["comparison"]["not_compared"] == ["R@10", "R@100", "RR@10", "Success@1"]
    monkeypatch.setattr("rag.evaluate.evaluate", None)
    err = refused(rag("eval", folder, "--compare", str(baseline), "--fail-on-loss"))
    assert "cannot be compared by RR@10, R@10, R@100, Success@1" in err


def test_eval_does_not_pass_what_it_could_not_compare(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, baseline = str(beir(tmp_path / "tiny")), str(tmp_path / "baseline.json")
    rag("eval", folder, "--write-baseline", baseline)
    monkeypatch.setattr("rag.compare.not_gated", lambda _: ["AUROC"])
    called = rag("eval", folder, "--compare", baseline, "--fail-on-loss", "--json")
    assert called.code == 1
    assert "a loss cannot be ruled out: AUROC." in called.err
    assert called.json["comparison"]["significant_losses"] == []


def test_eval_refuses_a_damaged_report_before_it_measures(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, baseline = str(beir(tmp_path / "tiny")), tmp_path / "baseline.json"
    rag("eval", folder, "--write-baseline", str(baseline))
    report = json.loads(baseline.read_text(encoding="utf-8"))
    report["per_query"]["q1"] = "text"
    baseline.write_text(json.dumps(report), encoding="utf-8")
    monkeypatch.setattr("rag.evaluate.evaluate", None)
    err = refused(rag("eval", folder, "--compare", str(baseline)))
    assert "baseline.json: per_query.q1: " in err


def test_eval_writes_what_it_measured_even_where_it_cannot_be_compared(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, baseline = str(beir(tmp_path / "tiny")), str(tmp_path / "baseline.json")
    rag("eval", folder, "--write-baseline", baseline)

    def impossible(*_: object) -> None:
        raise InvalidRequest("compare", "it cannot be")

    monkeypatch.setattr("rag.compare.comparison", impossible)
    out = tmp_path / "report.json"
    called = rag("eval", folder, "--compare", baseline, "--out", str(out))
    assert called.code == 2
    assert "it cannot be" in called.err
    assert json.loads(out.read_text(encoding="utf-8"))["queries"] == 2
