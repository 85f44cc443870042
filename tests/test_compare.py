"""Comparisons: what changed is named, chance is told from change, other sets are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rag.compare import (
    columns,
    comparison,
    is_better,
    not_gated,
    notes,
    require_comparable,
    require_measures,
)
from rag.errors import InvalidRequest
from rag.sets import EvaluationSet
from tests.evaluated import evaluated, own_set


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(tmp_path_factory.mktemp("index")).report


@pytest.fixture
def report(measured: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(measured)


def many(report: dict[str, Any], number: int) -> dict[str, Any]:
    """The same with more questions, each as the first."""
    first = report["per_query"]["who-harbour"]
    queries = {f"q{n}": copy.deepcopy(first) for n in range(number)}
    return {**report, "per_query": queries}


def test_a_report_does_not_differ_from_itself(report: dict[str, Any]) -> None:
    found = comparison(report, copy.deepcopy(report))
    assert set(found["measures"]) == {
        *("nDCG@10", "RR@10", "R@10", "R@100", "Success@1"),
        *("answer@1", "answer@3", "evidence@1", "evidence@3"),
        *("answered", "answered_right", "answered_wrong", "withheld"),
    }
    for each in found["measures"].values():
        assert (each["difference"], each["p"], each["verdict"]) == (0, 1, None)
        assert (each["wins"], each["losses"]) == (0, 0)
    auroc = found["abstention"]["auroc"]
    assert (auroc["difference"], auroc["interval"], auroc["verdict"]) == (0, [0, 0], None)
    assert (auroc["wins"], auroc["losses"], auroc["ties"]) == (0, 0, 4)
    assert found["abstention"]["changed"] == []
    assert found["confidence_model_changed"] == []
    assert notes(found) == []
    assert found["measures"]["withheld"]["questions"] == 1
    assert (found["changed"], found["significant_losses"], found["not_compared"]) == ([], [], [])


def test_wins_losses_and_ties_are_counted_by_question(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    stage, queries = report["stage"], report["per_query"]
    before["per_query"]["who-harbour"]["stages"][stage][0] = 0.25
    queries["attack"]["stages"][stage][0] = 0.5
    before["per_query"]["attack"]["stages"][stage][0] = 0.75
    queries["none"]["answer"]["withheld"], before["per_query"]["none"]["answer"]["withheld"] = 0, 1
    found = comparison(report, before)
    ndcg = found["measures"]["nDCG@10"]
    gained = queries["who-harbour"]["stages"][stage][0] - 0.25
    assert (ndcg["won"], ndcg["lost"], ndcg["ties"]) == (["who-harbour"], ["attack"], 1)
    assert ndcg["difference"] == pytest.approx((gained - 0.25) / 3)
    assert ndcg["mean"] - ndcg["before"] == pytest.approx(ndcg["difference"])
    assert found["measures"]["withheld"]["lost"] == ["none"]
    assert [each["id"] for each in found["changed"]] == ["none", "who-harbour", "attack"]
    assert found["changed"][2]["measures"] == {"nDCG@10": [0.75, 0.5]}
    assert found["changed"][0]["question"] == queries["none"]["question"]


def test_a_loss_counts_where_chance_does_not_explain_it(report: dict[str, Any]) -> None:
    now, before = many(report, 20), many(report, 20)
    for number in range(8):
        now["per_query"][f"q{number}"]["answer"]["evidence@1"] = 0.0
        before["per_query"][f"q{number}"]["answer"]["answer@3"] = 0.0
    now["per_query"]["q9"]["answer"]["answer@1"] = 0.0
    found = comparison(now, before)
    assert found["significant_losses"] == ["evidence@1"]  # one question is chance, a gain no loss
    assert found["measures"]["evidence@1"]["lost"] == [f"q{number}" for number in range(8)]
    assert found["measures"]["evidence@1"]["p"] == pytest.approx(2 / 2**8, abs=0.003)
    assert found["measures"]["answer@3"]["p"] < 0.05
    assert found["measures"]["answer@1"]["p"] == 1.0


def test_more_wrong_answers_are_a_loss(report: dict[str, Any]) -> None:
    now, before = many(report, 20), many(report, 20)
    for number in range(8):
        now["per_query"][f"q{number}"]["answer"]["answered_wrong"] = 1.0
    found = comparison(now, before)
    assert found["significant_losses"] == ["answered_wrong"]
    wrong = found["measures"]["answered_wrong"]
    assert (wrong["difference"], wrong["verdict"]) == (pytest.approx(8 / 20), "worse")
    assert (wrong["wins"], wrong["lost"]) == (0, [f"q{number}" for number in range(8)])
    turned = comparison(before, now)
    assert turned["significant_losses"] == []
    assert turned["measures"]["answered_wrong"]["verdict"] == "better"


@pytest.mark.parametrize(
    ("name", "better"), [("answered_wrong", 0), ("not_answerable", 0), ("answerable", 1)]
)
def test_of_some_measures_less_is_better(name: str, better: int) -> None:
    assert is_better(name, better, 1 - better)
    assert not is_better(name, 1 - better, better)


def test_confidence_that_tells_less_is_a_loss(report: dict[str, Any]) -> None:
    now, before = many(report, 20), many(report, 20)
    for number in range(12):
        now["per_query"][f"q{number}"]["confidence_without"] = 0.9
    found = comparison(now, before)
    assert found["significant_losses"] == ["AUROC"]
    auroc = found["abstention"]["auroc"]
    sure = report["per_query"]["who-harbour"]["confidence"]
    assert sure < 0.9  # so that those with the answer come behind those without
    assert (auroc["before"], auroc["mean"]) == (1, pytest.approx(8 / 20))
    assert auroc["difference"] == pytest.approx(-12 / 20)
    low, high = auroc["interval"]
    assert -0.85 < low < -12 / 20 < high < -0.35  # as of twelve heads in twenty throws
    assert (auroc["losses"], auroc["ties"], auroc["verdict"]) == (12, 8, "worse")
    assert auroc["lost"] == [f"q{number}" for number in range(12)]
    changed = found["abstention"]["changed"]
    without = before["per_query"]["q0"]["confidence_without"]
    assert len(changed) == 12
    assert changed[0] == {
        "id": "q0",
        "question": before["per_query"]["q0"]["question"],
        "measures": {"not_answerable": [without, 0.9]},
    }
    turned = comparison(before, now)
    assert turned["significant_losses"] == []
    assert turned["abstention"]["auroc"]["verdict"] == "better"


def test_an_unanswerable_question_is_lost_where_confidence_in_it_grew(
    report: dict[str, Any],
) -> None:
    before = copy.deepcopy(report)
    report["per_query"]["none"]["confidence"] += 0.25
    found = comparison(report, before)["abstention"]
    assert found["auroc"]["lost"] == ["none"]
    assert [each["id"] for each in found["changed"]] == ["none"]
    assert list(found["changed"][0]["measures"]) == ["not_answerable"]


def test_a_report_from_before_confidences_were_kept_is_still_read(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    del before["confidence_model"]
    for each in before["per_query"].values():
        each.pop("confidence", None)
        each.pop("confidence_without", None)
    found = comparison(report, before)
    assert found["abstention"] is None
    assert found["not_compared"] == ["AUROC"]
    assert found["confidence_model_changed"] is None
    (note,) = notes(found)
    assert note.startswith("Not compared, ")
    assert note.endswith(": AUROC.")


def test_another_confidence_model_is_named(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    before["confidence_model"]["threshold"] = 0.25
    before["confidence_model"]["coefficients"]["meaning"] = 0.0
    found = comparison(report, before)
    assert found["confidence_model_changed"] == ["threshold", "coefficients"]
    assert notes(found) == ["Changed in the confidence model: threshold, coefficients."]


def test_the_pipelines_are_compared_whatever_their_last_stage_is_called(
    report: dict[str, Any],
) -> None:
    before = copy.deepcopy(report)
    before["stage"] = "lexical"
    found = comparison(report, before)
    assert found["with"]["stage"] == "lexical"
    assert found["measures"]["nDCG@10"]["before"] == pytest.approx(
        report["stages"]["lexical"]["nDCG@10"], abs=1e-6
    )


def test_a_measure_that_only_one_report_has_is_named(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    for each in before["per_query"].values():
        each.get("answer", {}).pop("answered", None)
    found = comparison(report, before)
    assert found["not_compared"] == ["answered"]
    assert notes(found)[0].endswith(": answered.")
    for each in before["per_query"].values():
        each.setdefault("answer", {})["of another version"] = 1.0
    assert comparison(report, before)["not_compared"] == ["answered", "of another version"]
    assert "answered" in columns(report)


def test_another_set_other_judgements_and_other_queries_are_refused(
    report: dict[str, Any],
) -> None:
    with pytest.raises(InvalidRequest, match="is on own, not on scifact"):
        require_comparable(report, "scifact", report["set_sha256"], report["per_query"])
    with pytest.raises(InvalidRequest, match="other questions, days of asking or judgements"):
        require_comparable(report, "own", "0" * 64, report["per_query"])
    before = copy.deepcopy(report)
    del before["per_query"]["attack"]
    with pytest.raises(InvalidRequest, match="has the query attack"):
        comparison(report, before)


def test_a_measure_of_other_questions_is_not_compared(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    del before["per_query"]["attack"]["answer"]["answered"]
    del before["per_query"]["who-blamed"]["confidence_without"]
    report["comparison"] = comparison(report, before)
    assert report["comparison"]["not_compared"] == ["AUROC", "answered"]
    assert report["comparison"]["abstention"] is None
    assert "answered" not in report["comparison"]["measures"]
    assert not_gated(report) == ["AUROC", "answered"]


def test_a_gate_minds_lost_confidences_but_not_measures_of_another_version(
    report: dict[str, Any],
) -> None:
    before = copy.deepcopy(report)
    before["per_query"]["none"]["answer"]["of another version"] = 1.0
    report["comparison"] = comparison(report, before)
    assert report["comparison"]["not_compared"] == ["of another version"]
    assert not_gated(report) == []
    for each in report["per_query"].values():
        each["confidence"] = None
    report["comparison"] = comparison(report, before)
    assert not_gated(report) == ["AUROC"]


def test_quotes_of_which_one_report_has_none_are_not_compared(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    assert comparison(report, before)["median_quote_characters"] is not None
    before["answers"]["median_quote_characters"] = None  # as where nothing was found
    assert comparison(report, before)["median_quote_characters"] is None
    assert comparison(before, report)["median_quote_characters"] is None


def test_a_gate_needs_every_measure_of_every_question(report: dict[str, Any]) -> None:
    asked = own_set()
    require_measures(report, asked, has_confidence=True)

    def missing(before: dict[str, Any], has_confidence: bool = True) -> str:
        with pytest.raises(InvalidRequest) as raised:
            require_measures(before, asked, has_confidence=has_confidence)
        assert raised.value.field == "fail-on-loss"
        return raised.value.problem

    other = report | {"stage": "another"}
    assert "compared by nDCG@10, RR@10, R@10, R@100, Success@1;" in missing(other)
    fewer = report | {"measures": report["measures"][:4]}
    assert "compared by Success@1;" in missing(fewer)
    partly = copy.deepcopy(report)
    del partly["per_query"]["attack"]["answer"]["evidence@1"]
    del partly["per_query"]["none"]["answer"]
    assert "compared by evidence@1, withheld;" in missing(partly)
    unsure = copy.deepcopy(report)
    for each in unsure["per_query"].values():
        each.pop("confidence")
    assert "compared by AUROC;" in missing(unsure)
    require_measures(unsure, asked, has_confidence=False)


def test_a_gate_on_a_collection_needs_no_measure_of_answers(report: dict[str, Any]) -> None:
    queries = {name: each for name, each in report["per_query"].items() if "stages" in each}
    before = {
        **report,
        "per_query": {name: {"stages": queries[name]["stages"]} for name in queries},
    }
    own = own_set()
    require_measures(before, EvaluationSet("b", [], own.queries, own.qrels), has_confidence=False)
