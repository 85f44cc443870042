"""Comparisons: what changed is named, chance is told from change, other sets are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rag.compare import columns, comparison, require_comparable
from rag.errors import InvalidRequest
from tests.evaluated import evaluated


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
        *("answer@1", "answer@3", "evidence@1", "evidence@3", "answered", "withheld"),
    }
    for each in found["measures"].values():
        assert (each["difference"], each["p"], each["wins"], each["losses"]) == (0, 1, 0, 0)
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
    assert comparison(report, before)["not_compared"] == ["answered"]
    assert "answered" in columns(report)


def test_another_set_other_judgements_and_other_queries_are_refused(
    report: dict[str, Any],
) -> None:
    with pytest.raises(InvalidRequest, match="is on own, not on scifact"):
        require_comparable(report, "scifact", report["set_sha256"])
    with pytest.raises(InvalidRequest, match="other questions, days of asking or judgements"):
        require_comparable(report, "own", "0" * 64)
    before = copy.deepcopy(report)
    del before["per_query"]["attack"]
    with pytest.raises(InvalidRequest, match="has the query attack"):
        comparison(report, before)
