"""Two reports on the same questions: what changed, and whether it could be chance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from rag.abstention import WAYS, Confidences, auroc_change, known_confidences
from rag.answers import ANSWER_MEASURES, LOWER_IS_BETTER, WITHHELD
from rag.errors import InvalidRequest
from rag.measures import MEASURES, RESAMPLES, SEED, randomisation_test
from rag.report import PER_QUERY_DIGITS, Report
from rag.sets import EvaluationSet

SIGNIFICANT = 0.05
"""The p-value below which a difference counts as one."""

AUROC = "AUROC"
"""How well confidence tells whether the archive holds the answer, among the measures compared."""

BETTER, WORSE = "better", "worse"
"""What is said of a difference that counts as one."""

Column = Mapping[str, float]
"""By query id, the value of one measure."""


def require_comparable(report: Report, name: str, sha256: str, asked: Collection[str]) -> None:
    """Raise InvalidRequest unless `report` is of the set of that name and digest, and has just the
    queries whose ids are `asked`."""
    if report["set"] != name:
        raise InvalidRequest("compare", f"that report is on {report['set']}, not on {name}")
    if report["set_sha256"] != sha256:
        problem = (
            f"that report is on other questions, days of asking or judgements, though the set is "
            f"named {name} too; write a new one with the code of then"
        )
        raise InvalidRequest("compare", problem)
    if odd := report["per_query"].keys() ^ set(asked):
        raise InvalidRequest("compare", f"only one of the two reports has the query {min(odd)}")


def require_measures(before: Report, asked: EvaluationSet, *, has_confidence: bool) -> None:
    """Raise InvalidRequest unless `before` has every measure that a report on the set will have,
    of the same questions: a gate must not pass what it did not compare."""
    needed: dict[str, Collection[str]] = {name: asked.queries.keys() for name in MEASURES}
    if asked.questions:
        needed |= {name: asked.queries.keys() for name in ANSWER_MEASURES}
        needed[WITHHELD] = asked.texts.keys() - asked.queries.keys()
    found = columns(before)
    missing = [name for name, ids in needed.items() if found.get(name, {}).keys() != set(ids)]
    if has_confidence and AUROC not in _measured(before):
        missing.append(AUROC)
    if missing:
        problem = f"that report cannot be compared by {', '.join(missing)}; write a new one"
        raise InvalidRequest("fail-on-loss", problem)


def comparison(report: Report, before: Report) -> dict[str, Any]:
    """How the default pipeline of `report` differs from that of an earlier one, by each measure.

    Each has both means, their difference, its p-value (`measures.randomisation_test`), the ids of
    the questions that got better and worse, most changed first, and the verdict: `better`, `worse`,
    or None where it may be chance. `abstention` says the same of confidences, with an interval
    instead of p; it is None where a report has none. Raises InvalidRequest.
    """
    require_comparable(before, report["set"], report["set_sha256"], report["per_query"])
    now, then = columns(report), columns(before)
    then = {name: each for name, each in then.items() if each.keys() == now.get(name, {}).keys()}
    measures = {name: _compared(name, now[name], then[name]) for name in now if name in then}
    abstention = _abstention(report, before)
    compared = {*measures} | ({AUROC} if abstention else set())
    verdicts = {name: found["verdict"] for name, found in measures.items()}
    if abstention:
        verdicts[AUROC] = abstention["auroc"]["verdict"]
    return {
        "with": {"commit": before["commit"], "stage": before["stage"]},
        "test": f"paired randomisation, two-sided, {RESAMPLES} permutations, seed {SEED}",
        "measures": measures,
        "abstention": abstention,
        "not_compared": sorted((_measured(report) | _measured(before)) - compared),
        "significant_losses": [name for name, verdict in verdicts.items() if verdict == WORSE],
        "median_quote_characters": _quote_characters(report, before),
        "confidence_model_changed": _model_changed(report, before),
        "changed": _changed(report, now, then),
    }


def not_gated(report: Report) -> list[str]:
    """What a gate on the comparison in `report` would pass unseen: measures that it has and were
    not compared, and confidences that only the earlier report has."""
    measured = _measured(report) | {AUROC}
    return [name for name in report["comparison"]["not_compared"] if name in measured]


def is_better(measure: str, value: float, than: float) -> bool:
    """Whether a value of a measure, or a confidence in one of `WAYS`, is better than another."""
    return value < than if measure in {*LOWER_IS_BETTER, WAYS[1]} else value > than


def notes(comparison: Mapping[str, Any]) -> list[str]:
    """Sentences on what the two reports do not share."""
    found = []
    if missing := comparison["not_compared"]:
        reason = "since the two reports do not both have it of the same questions"
        found.append(f"Not compared, {reason}: {', '.join(missing)}.")
    if changed := comparison["confidence_model_changed"]:
        found.append(f"Changed in the confidence model: {', '.join(changed)}.")
    return found


def columns(report: Report) -> dict[str, Column]:
    """The values of the default pipeline by measure and query id, those of answers too."""
    found: dict[str, dict[str, float]] = {name: {} for name in report["measures"]}
    found |= {name: {} for name in (*ANSWER_MEASURES, WITHHELD)}
    for query_id, each in report["per_query"].items():
        ranked = each.get("stages", {}).get(report["stage"], ())
        for name, value in zip(report["measures"], ranked, strict=False):
            found[name][query_id] = value
        for name, value in each.get("answer", {}).items():
            found.setdefault(name, {})[query_id] = value
    return {name: column for name, column in found.items() if column}


def _compared(name: str, now: Column, then: Column) -> dict[str, Any]:
    differences = {query_id: now[query_id] - then[query_id] for query_id in now}
    values = np.array(list(differences.values()))
    difference, p = float(values.mean()), randomisation_test(values[:, None])[0]
    towards = -1 if name in LOWER_IS_BETTER else 1
    return {
        "questions": len(values),
        "mean": float(np.mean(list(now.values()))),
        "before": float(np.mean([then[query_id] for query_id in now])),
        "difference": difference,
        "p": p,
        "verdict": _verdict(towards * difference) if p < SIGNIFICANT else None,
        **_sides({query_id: towards * each for query_id, each in differences.items()}),
    }


def _sides(gains: Column) -> dict[str, Any]:
    """The questions that got better and worse, what changed most first."""
    ordered = sorted(gains, key=lambda query_id: -abs(gains[query_id]))
    won = [query_id for query_id in ordered if gains[query_id] > 0]
    lost = [query_id for query_id in ordered if gains[query_id] < 0]
    ties = len(gains) - len(won) - len(lost)
    return {"wins": len(won), "losses": len(lost), "ties": ties, "won": won, "lost": lost}


def _verdict(gain: float) -> str:
    return BETTER if gain > 0 else WORSE


def _abstention(report: Report, before: Report) -> dict[str, Any] | None:
    """How confidences changed: AUROC, and those of each question, which got better where it is
    surer with its answer or less sure without. None unless both reports have them."""
    now, then = known_confidences(report), known_confidences(before)
    found = auroc_change(now, then)
    if found is None:
        return None
    low, high = found.interval
    gaps, earlier = _gaps(now), _gaps(then)
    return {
        "auroc": {
            "questions": len(gaps),
            "mean": found.now,
            "before": found.before,
            "difference": found.now - found.before,
            "interval": [low, high],
            "verdict": _verdict(low) if low > 0 or high < 0 else None,
            **_sides({query_id: gap - earlier[query_id] for query_id, gap in gaps.items()}),
        },
        "test": f"paired bootstrap over questions, {RESAMPLES} resamples, seed {SEED}",
        "changed": _changed(report, now, then),
    }


def _gaps(sure: Confidences) -> dict[str, float]:
    """By how much a question is surer with its answer than without, or than not at all."""
    answerable, not_answerable = (sure[way] for way in WAYS)
    return {
        query_id: round(answerable.get(query_id, 0.0) - without, PER_QUERY_DIGITS)
        for query_id, without in not_answerable.items()
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


def _measured(report: Report) -> set[str]:
    """Everything of a report that can be compared."""
    confidences = {AUROC} if all(known_confidences(report).values()) else set()
    return {*columns(report)} | confidences


def _model_changed(report: Report, before: Report) -> list[str] | None:
    """What makes confidences and answers of signals otherwise than then; None where untold."""
    now, then = report["confidence_model"], before.get("confidence_model")
    return [name for name in now if now[name] != then.get(name)] if now and then else None


def _quote_characters(report: Report, before: Report) -> list[float] | None:
    """The length of quotes then and now, where both tell."""
    if "answers" not in report or "answers" not in before:
        return None
    lengths = [each["answers"]["median_quote_characters"] for each in (before, report)]
    return None if None in lengths else lengths
