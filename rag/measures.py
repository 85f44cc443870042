"""The field's measures of a ranking, by ir_measures, query by query, and how sure their means are.

Values of one query are tuples in the order of the measures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ir_measures
import numpy as np
import numpy.typing as npt

MEASURES = ("nDCG@10", "RR@10", "R@10", "R@100", "Success@1")

RESAMPLES = 10_000
"""Resamples of an interval and permutations of a test; a p-value is then good to about .005."""

SEED = 20_251_123
"""Of every random draw, so that two runs give equal figures."""

LEVEL = 0.95

CELLS_AT_ONCE = 2_000_000
"""Random numbers held in memory at a time."""

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Sequence[str]]
"""By query id: article ids, best first."""

Values = Mapping[str, Sequence[float]]
"""By query id: a value for each measure."""

Table = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def measure(run: Run, qrels: Qrels) -> dict[str, tuple[float, ...]]:
    """Every measure of each judged query; 0 where the run has nothing for it."""
    judged = [
        ir_measures.Qrel(query_id, article, relevance)
        for query_id, articles in qrels.items()
        for article, relevance in articles.items()
    ]
    # The score is the rank turned round, so that measures order as the stage did.
    scored = [
        ir_measures.ScoredDoc(query_id, article, float(-rank))
        for query_id, articles in run.items()
        for rank, article in enumerate(articles)
    ]
    wanted = [ir_measures.parse_measure(name) for name in MEASURES]
    found = {
        (each.query_id, each.measure): float(each.value)
        for each in ir_measures.iter_calc(wanted, judged, scored)
    }
    return {query_id: tuple(found.get((query_id, m), 0.0) for m in wanted) for query_id in qrels}


def means(values: Values) -> list[float]:
    """The mean of each column over the queries."""
    rows = list(values.values())
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def intervals(rows: Table) -> list[tuple[float, float]]:
    """95% intervals of the column means by resampling rows (the percentile bootstrap).

    `rows` has a row a query. Efron and Tibshirani 1993, doi:10.1201/9780429246593.
    """
    drawn = np.concatenate([counts @ rows / len(rows) for counts in resamples(len(rows))])
    low, high = percentile_interval(drawn)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def resamples(number: int) -> Iterator[Counts]:
    """How often each of `number` queries is drawn, a row a resample, `RESAMPLES` rows in all."""
    generator = np.random.default_rng(SEED)
    for many in _batches(number):
        places = generator.integers(0, number, (many, number))
        places += np.arange(many)[:, None] * number
        yield np.bincount(places.ravel(), minlength=many * number).reshape(many, number)


def percentile_interval(drawn: Table) -> Table:
    """The lower and the upper ends of the columns' 95% intervals, a row a resample."""
    outside = (1 - LEVEL) / 2
    return np.asarray(np.quantile(drawn, [outside, 1 - outside], axis=0))


def randomisation_test(differences: Table) -> list[float]:
    """Two-sided p-values of the column means of paired differences, a row a query.

    Were both systems equal, each difference could as well have the other sign; p is the part of
    random signs whose mean is at least as far from 0, those observed counted in. Smucker, Allan
    and Carterette 2007, doi:10.1145/1321440.1321528.
    """
    number = len(differences)
    observed = np.abs(differences.sum(axis=0))
    reach = observed - 1e-9 * np.maximum(1.0, observed)  # sums in another order differ a little
    generator = np.random.default_rng(SEED)
    extreme = np.zeros(differences.shape[1])
    for many in _batches(number):
        signs = generator.integers(0, 2, (many, number), dtype=np.int8) * 2.0 - 1.0
        extreme += (np.abs(signs @ differences) >= reach).sum(axis=0)
    return [float(p) for p in (extreme + 1) / (RESAMPLES + 1)]


def by_measure(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """What belongs to each measure, by its name."""
    return dict(zip(names, values, strict=True))


def _batches(number: int) -> Iterator[int]:
    """`RESAMPLES` in parts small enough for memory."""
    most = max(1, CELLS_AT_ONCE // max(1, number))
    for begun in range(0, RESAMPLES, most):
        yield min(most, RESAMPLES - begun)
