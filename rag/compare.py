"""Two reports on the same questions: what changed, and whether it could be chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rag.answers import ANSWER_MEASURES, WITHHELD
from rag.errors import InvalidRequest
from rag.measures import RESAMPLES, SEED, randomisation_test
from rag.report import Report

SIGNIFICANT = 0.05
"""The p-value below which a difference counts as one."""

Column = Mapping[str, float]
"""By query id, the value of one measure."""


def require_comparable(report: Report, name: str, sha256: str) -> None:
    """Raise InvalidRequest unless `report` is of the set of that name and digest."""
    if report["set"] != name:
        raise InvalidRequest("compare", f"that report is on {report['set']}, not on {name}")
    if report["set_sha256"] != sha256:
        problem = (
            f"that report is on other questions, days of asking or judgements, though the set is "
            f"named {name} too; write a new one with the code of then"
        )
        raise InvalidRequest("compare", problem)


def comparison(report: Report, before: Report) -> dict[str, Any]:
    """How the default pipeline of `report` differs from that of an earlier one, by each measure.

    Each has both means, their difference, its p-value (`measures.randomisation_test`), and the ids
    of the questions that got better and worse, most changed first. Raises InvalidRequest.
    """
    require_comparable(before, report["set"], report["set_sha256"])
    if before["per_query"].keys() != report["per_query"].keys():
        odd = min(before["per_query"].keys() ^ report["per_query"].keys())
        raise InvalidRequest("compare", f"only one of the two reports has the query {odd}")
    now, then = columns(report), columns(before)
    measures = {name: _compared(now[name], then[name]) for name in now if name in then}
    return {
        "with": {"commit": before["commit"], "stage": before["stage"]},
        "test": f"paired randomisation, two-sided, {RESAMPLES} permutations, seed {SEED}",
        "measures": measures,
        "not_compared": sorted(now.keys() ^ then.keys()),
        "significant_losses": [
            name for name, m in measures.items() if m["difference"] < 0 and m["p"] < SIGNIFICANT
        ],
        "median_quote_characters": _quote_characters(report, before),
        "changed": _changed(report, now, then),
    }


def columns(report: Report) -> dict[str, Column]:
    """The values of the default pipeline by measure and query id, those of answers too."""
    found: dict[str, dict[str, float]] = {name: {} for name in report["measures"]}
    found |= {name: {} for name in (*ANSWER_MEASURES, WITHHELD)}
    for query_id, each in report["per_query"].items():
        ranked = each.get("stages", {}).get(report["stage"], ())
        for name, value in zip(report["measures"], ranked, strict=False):
            found[name][query_id] = value
        for name, value in each.get("answer", {}).items():
            found[name][query_id] = value
    return {name: column for name, column in found.items() if column}


def _compared(now: Column, then: Column) -> dict[str, Any]:
    differences = {query_id: now[query_id] - then[query_id] for query_id in now}
    ordered = sorted(differences, key=lambda query_id: -abs(differences[query_id]))
    won = [query_id for query_id in ordered if differences[query_id] > 0]
    lost = [query_id for query_id in ordered if differences[query_id] < 0]
    values = np.array(list(differences.values()))
    return {
        "questions": len(values),
        "mean": float(np.mean(list(now.values()))),
        "before": float(np.mean([then[query_id] for query_id in now])),
        "difference": float(values.mean()),
        "p": randomisation_test(values[:, None])[0],
        "wins": len(won),
        "losses": len(lost),
        "ties": len(values) - len(won) - len(lost),
        "won": won,
        "lost": lost,
    }


def _changed(
    report: Report, now: Mapping[str, Column], then: Mapping[str, Column]
) -> list[dict[str, Any]]:
    """The questions of which any measure changed, what changed most first."""
    found = []
    for query_id, each in report["per_query"].items():
        changes = {
            name: [then[name][query_id], column[query_id]]
            for name, column in now.items()
            if name in then and query_id in column and column[query_id] != then[name][query_id]
        }
        if changes:
            most = max(abs(after - before) for before, after in changes.values())
            change = {"id": query_id, "question": each["question"], "measures": changes}
            found.append((most, len(changes), change))
    found.sort(key=lambda entry: (-entry[0], -entry[1]))
    return [change for _, _, change in found]


def _quote_characters(report: Report, before: Report) -> list[float] | None:
    """The length of quotes then and now, where both tell."""
    if "answers" not in report or "answers" not in before:
        return None
    return [each["answers"]["median_quote_characters"] for each in (before, report)]
