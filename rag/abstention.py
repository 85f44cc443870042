"""Does confidence tell what is answered from what is not: discrimination, calibration, risk.

Confidences are from 0 to 1; a label is True where the answer is what confidence claims. Nothing
here depends on the order of equal confidences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.failures import Outcome
from rag.measures import Counts, Table, percentile_interval, resamples
from rag.types import Answer

PRECISION = 0.95
"""The precision at which coverage is reported."""

BINS = 10

CURVE_POINTS = 200
"""Points of the risk–coverage curve in a report, evenly spread over the thresholds."""

Column = npt.NDArray[np.float64]

WAYS = ("answerable", "not_answerable")
"""The two ways in which a question is asked: as it is, and of an archive without the answer."""

Confidences = Mapping[str, Mapping[str, float]]
"""By way of asking and query id: how sure the answer was."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Some of the answers, of like confidence: mean confidence, and the part that is right."""

    answers: int
    confidence: float
    correct: float


@dataclass(frozen=True, slots=True)
class Point:
    """Answering what is at least `threshold` sure: the part answered, the part of it wrong."""

    threshold: float
    coverage: float
    risk: float


@dataclass(frozen=True, slots=True)
class AurocChange:
    """AUROC of two sets of confidences, and the 95% interval of by how much it grew."""

    before: float
    now: float
    interval: tuple[float, float]


def auroc(confidences: Sequence[float], labels: Sequence[bool]) -> float | None:
    """The chance that a positive is surer than a negative, ties counting half; None without both.

    The area under the receiver operating characteristic. Hanley and McNeil 1982,
    doi:10.1148/radiology.143.1.7063747.
    """
    scores, true = _columns(confidences, labels)
    once = np.ones((1, len(scores)), np.int64)
    (found,) = _resampled_auroc(scores[true], scores[~true], once[:, true], once[:, ~true])
    return None if np.isnan(found) else float(found)


def auroc_change(now: Confidences, before: Confidences) -> AurocChange | None:
    """How AUROC changed; None unless both are of the same questions, of which some are answerable
    and some not.

    The interval is by the paired bootstrap: a question is drawn with all its confidences, now and
    before, with its answer and without.
    """
    if any(not now[way] or now[way].keys() != before[way].keys() for way in WAYS):
        return None
    ids = list(dict.fromkeys(query_id for way in WAYS for query_id in now[way]))
    earlier, after = (
        np.array([[each[way].get(query_id, np.nan) for way in WAYS] for query_id in ids])
        for each in (before, now)
    )
    there, gone = ~np.isnan(after).T

    def aurocs(counts: Counts) -> Table:
        """Before and now, a row a resample."""
        times = counts[:, there], counts[:, gone]
        sides = ((each[there, 0], each[gone, 1]) for each in (earlier, after))
        return np.column_stack([_resampled_auroc(*side, *times) for side in sides])

    ((was, is_now),) = aurocs(np.ones((1, len(after)), np.int64)).tolist()
    drawn = np.concatenate([np.diff(aurocs(counts))[:, 0] for counts in resamples(len(after))])
    low, high = percentile_interval(drawn[np.isfinite(drawn)]).tolist()
    return AurocChange(was, is_now, (low, high))


def coverage_at_precision(
    confidences: Sequence[float], labels: Sequence[bool], precision: float = PRECISION
) -> float | None:
    """The greatest part of the positives over one threshold, such that of all over it at least
    `precision` are positives; None without positives."""
    scores, true = _columns(confidences, labels)
    if not true.any():
        return None
    _, answered, right = _cumulated(scores, true)
    enough = right >= precision * answered - 1e-9
    return float(np.max(right[enough], initial=0) / true.sum())


def risk_coverage(confidences: Sequence[float], labels: Sequence[bool]) -> list[Point]:
    """A point for every threshold, the surest answers first.

    El-Yaniv and Wiener 2010, jmlr.org/papers/v11/el-yaniv10a.html.
    """
    scores, true = _columns(confidences, labels)
    if not len(scores):
        return []
    thresholds, answered, right = _cumulated(scores, true)
    coverage, risk = answered / len(scores), 1 - right / answered
    columns = (thresholds.tolist(), coverage.tolist(), risk.tolist())
    return [Point(*row) for row in zip(*columns, strict=True)]


def reliability(confidences: Sequence[float], labels: Sequence[bool]) -> list[Bin]:
    """Up to ten bins of about equally many answers, the least sure first.

    Of equal mass, since confidences crowd near 0 and 1: bins of equal width would hold a few
    answers in the middle, and tell of chance. Equal confidences share a bin. Nguyen and O'Connor
    2015, doi:10.18653/v1/D15-1182.
    """
    scores, true = _columns(confidences, labels)
    if not len(scores):
        return []
    ends = np.sort(scores)[np.arange(1, BINS) * len(scores) // BINS]
    bins = np.searchsorted(np.unique(ends), scores, "right")
    return [
        Bin(
            int((bins == at).sum()),
            float(scores[bins == at].mean()),
            float(true[bins == at].mean()),
        )
        for at in np.unique(bins)
    ]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Expected calibration error: how far confidence is from the part that is right, over the bins.

    Naeini, Cooper and Hauskrecht 2015, doi:10.1609/aaai.v29i1.9602.
    """
    total = sum(each.answers for each in bins)
    if not total:
        return None
    return sum(each.answers * abs(each.confidence - each.correct) for each in bins) / total


def brier(confidences: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Mean squared difference of confidence and outcome. Brier 1950."""
    scores, true = _columns(confidences, labels)
    return float(((scores - true) ** 2).mean()) if len(scores) else None


def abstention_report(
    outcomes: Sequence[Outcome], without: Mapping[str, Answer] | None
) -> dict[str, Any] | None:
    """Is confidence higher where the archive holds the answer, and is it the chance to be right.

    `without`: by query id, the answers where the articles that are right were left out. There, and
    for unanswerable questions, the right answer is that there is none. `auroc` and
    `coverage_at_precision_0.95` tell questions as they are from these; what is in `correctness` is
    of whether the best citation answers. A question of which either answer has no confidence is
    only counted, in `without_confidence`. None where no question is left.
    """
    if without is None:
        return None
    known = [each for each in outcomes if each.known]
    outcomes = [each for each in known if _has_confidences(each, without)]
    if not outcomes:
        return None
    left_out = [without[each.query_id] for each in outcomes if each.answerable]
    answers = [*(each.answer for each in outcomes), *left_out]
    sure = [sureness(answer) or 0.0 for answer in answers]
    there = [each.answerable for each in outcomes] + [False] * len(left_out)
    # Where an article that nobody judged answers too, a right answer is counted as wrong.
    correct = [each.answerable and each.correct for each in outcomes] + [False] * len(left_out)
    told = [answer.answered for answer in answers]
    return {
        "auroc": auroc(sure, there),
        "coverage_at_precision_0.95": coverage_at_precision(sure, there),
        "questions": {"answerable": sum(there), "not_answerable": len(there) - sum(there)},
        "not_answerable": {
            "as_asked": _withheld([each.answer for each in outcomes if not each.answerable]),
            "left_out": _withheld(left_out),
        },
        "without_confidence": len(known) - len(outcomes),
        "answered": _part(told, there),
        "withheld": _part([not each for each in told], [not each for each in there]),
        "correctness": _correctness(sure, correct),
    }


def sureness(answer: Answer) -> float | None:
    """Its confidence, 0 where nothing was found; None where there is none to be had."""
    return answer.confidence if answer.citations else 0.0


def why_not_measured(report: Mapping[str, Any]) -> str:
    """The reason for which a report has no `abstention`."""
    if all(each["cited"] is None for each in report["per_query"].values()):
        return "nothing was found"
    return "no answer has a confidence, which needs token vectors and the default model"


def known_confidences(report: Mapping[str, Any]) -> Confidences:
    """Those of a report's questions, none where it does not tell.

    A query that is judged on nothing right is not among them, nor is one of which either answer
    has no confidence.
    """
    found: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    answerable, not_answerable = found.values()
    for query_id, each in report["per_query"].items():
        sure, unsure = each.get("confidence"), each.get("confidence_without")
        if sure is None:
            continue
        if unsure is not None:
            answerable[query_id], not_answerable[query_id] = sure, unsure
        elif "confidence_without" not in each and "answer" in each:
            not_answerable[query_id] = sure
    return found


def _has_confidences(outcome: Outcome, without: Mapping[str, Answer]) -> bool:
    """Whether it is known how sure each answer to a question is."""
    if outcome.answerable and outcome.query_id not in without:
        return False
    answers = [outcome.answer, without.get(outcome.query_id, outcome.answer)]
    return all(sureness(answer) is not None for answer in answers)


def _withheld(answers: Sequence[Answer]) -> dict[str, int]:
    return {"questions": len(answers), "withheld": sum(not each.answered for each in answers)}


def _resampled_auroc(
    positives: Column, negatives: Column, times: Counts, times_negative: Counts
) -> Column:
    """AUROC of each resample: its rows say how often each positive and each negative was drawn.
    NaN for one that lacks either."""
    order = np.argsort(negatives)
    drawn = np.cumsum(times_negative[:, order], axis=1)
    drawn = np.concatenate([np.zeros((len(drawn), 1), drawn.dtype), drawn], axis=1)
    ordered = negatives[order]
    below = drawn[:, np.searchsorted(ordered, positives, "left")]
    up_to = drawn[:, np.searchsorted(ordered, positives, "right")]
    won = ((below + up_to) * times).sum(axis=1) / 2
    pairs = times.sum(axis=1) * drawn[:, -1]
    found = np.full(len(pairs), np.nan)
    np.divide(won, pairs, out=found, where=pairs > 0)
    return found


def _correctness(sure: Sequence[float], correct: Sequence[bool]) -> dict[str, Any]:
    bins = reliability(sure, correct)
    curve = risk_coverage(sure, correct)
    places = np.unique(np.linspace(0, len(curve) - 1, min(CURVE_POINTS, len(curve))).astype(int))
    return {
        "auroc": auroc(sure, correct),
        "coverage_at_precision_0.95": coverage_at_precision(sure, correct),
        "expected_calibration_error": calibration_error(bins),
        "brier": brier(sure, correct),
        "reliability": [asdict(each) for each in bins],
        "risk_coverage": [asdict(curve[at]) for at in places],
    }


def _columns(
    confidences: Sequence[float], labels: Sequence[bool]
) -> tuple[Column, npt.NDArray[np.bool_]]:
    return np.asarray(confidences, np.float64), np.asarray(labels, np.bool_)


def _cumulated(scores: Column, true: npt.NDArray[np.bool_]) -> tuple[Column, Column, Column]:
    """By each different confidence, downwards: how many are at least so sure, how many are true."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    answered = np.arange(1, len(scores) + 1, dtype=np.float64)
    return ordered[last], answered[last], np.cumsum(true[order], dtype=np.float64)[last]


def _part(held: Sequence[bool], among: Sequence[bool]) -> float | None:
    """The part of those `among` for which it holds."""
    return (
        sum(h and a for h, a in zip(held, among, strict=True)) / sum(among) if any(among) else None
    )
