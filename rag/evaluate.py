"""How good the answers are: every question ranked by every stage, asked, and asked again without
the articles that answer it.

Each stage ranks articles by their best passage. The first articles are just those that a user
gets; where a ranking ends before 100, the search is deepened and what is new goes behind.

A question is asked on the day that the set says. Where it says none, relative dates count from the
day of the newest article, so that figures are the same tomorrow, and nothing recent is preferred.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag.abstention import abstention_report, sureness
from rag.answers import answers_report, judge
from rag.confidence import COEFFICIENTS, INTERCEPT
from rag.errors import InvalidRequest
from rag.failures import Outcome, failures
from rag.fuse import reciprocal_rank
from rag.measures import (
    MEASURES,
    Table,
    Values,
    by_measure,
    intervals,
    means,
    measure,
    randomisation_test,
)
from rag.rank import READ, Ranking, read_closely
from rag.report import FORMAT, PER_QUERY_DIGITS, commit, machine, manifest_entries
from rag.retrieve import DEPTH
from rag.searcher import Searcher
from rag.sets import EvaluationSet
from rag.snapshot import Snapshot
from rag.types import Answer, Filters, Floats

ARTICLES = 100
"""How many articles each stage ranks."""

LATENCY_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Stage:
    """A ranking to be measured: what scores its candidates (-inf leaves one out), and the entry of
    `took_ms` after which it is known."""

    scores: Callable[[Snapshot, Ranking], Floats]
    known_after: str


def _by_words(_: Snapshot, ranking: Ranking) -> Floats:
    found = ranking.candidates.lexical
    return np.where(found > 0, found, -np.inf)


def _by_sentences(snapshot: Snapshot, ranking: Ranking) -> Floats:
    """What `understood` would be, had the question named no date and no source."""
    scores = ranking.late.copy()
    if ranking.asked and ranking.asked.is_question:
        first = np.lexsort((ranking.candidates.numbers, -scores))[:READ].tolist()
        for place, read in read_closely(snapshot, ranking, first).items():
            scores[place] += read.gain
    return scores


STAGES: Mapping[str, Stage] = {
    "lexical": Stage(_by_words, "retrieve"),
    "dense": Stage(lambda _, ranking: ranking.candidates.dense, "retrieve"),
    "rrf": Stage(
        lambda _, ranking: reciprocal_rank(ranking.candidates.lexical, ranking.candidates.dense),
        "fuse",
    ),
    "fused": Stage(lambda _, ranking: ranking.fused, "fuse"),
    "late": Stage(lambda _, ranking: ranking.late, "rerank"),
    "sentences": Stage(_by_sentences, "understand"),
    "understanding": Stage(lambda _, ranking: ranking.understood, "understand"),
}

DEFAULT_STAGE = "understanding"
"""The stage that answers are made from."""

Runs = dict[str, dict[str, list[str]]]
"""By stage and query id: article ids, best first."""

Counting = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows progress: given what is done and how often, yields what is told how many are done."""


@contextmanager
def _silent(_: str, __: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report as `rag eval --out` writes it, and the rankings that its measures are of."""

    report: dict[str, Any]
    runs: Runs


def evaluate(
    searcher: Searcher,
    asked: EvaluationSet,
    *,
    stages: Iterable[str] = tuple(STAGES),
    counting: Counting = _silent,
) -> Evaluation:
    """Rank every query by the stages named and the default one, ask every question, and measure.

    Raises InvalidRequest for a stage that there is not.
    """
    searcher = _on_a_fixed_day(searcher)
    runs = _rank_all(searcher, asked, chosen(stages), counting)
    outcomes = _ask_all(searcher, asked, counting)
    without = _ask_without(searcher, asked, outcomes, counting)
    values = {stage: measure(run, asked.qrels) for stage, run in runs.items()}
    abstention = abstention_report(outcomes, without)
    report: dict[str, Any] = {
        "format": FORMAT,
        "set": asked.name,
        "set_sha256": asked.sha256,
        "queries": len(asked.queries),
        **_stages(values),
        "abstention": abstention,
        "confidence_model": None if abstention is None else _confidence_model(searcher),
        "latency_ms": latency_ms([each.answer for each in outcomes], list(runs)),
    }
    own = [each.judged for each in outcomes if each.judged]
    if own:
        report["answers"] = answers_report(own)
    with searcher.archive.snapshot() as snapshot:
        report["failures"] = failures(snapshot, outcomes, runs[DEFAULT_STAGE])
    report["per_query"] = _per_query(outcomes, values, without)
    report["index"] = manifest_entries(searcher.archive.manifest())
    return Evaluation(report | {"machine": machine(), "commit": commit()}, runs)


def chosen(stages: Iterable[str]) -> tuple[str, ...]:
    """The stages named and the default one, in the order of `STAGES`. Raises InvalidRequest."""
    wanted = {*stages, DEFAULT_STAGE}
    unknown = wanted - STAGES.keys()
    if unknown:
        problem = f"there is no stage {min(unknown)!r}; there are {', '.join(STAGES)}"
        raise InvalidRequest("stages", problem)
    return tuple(stage for stage in STAGES if stage in wanted)


def rank_articles(
    searcher: Searcher,
    question: str,
    stages: Iterable[str] = tuple(STAGES),
    *,
    asked_at: str | None = None,
) -> dict[str, list[str]]:
    """By stage, the ids of the 100 best articles, best first; fewer if there are not so many.

    `asked_at` is that of `Searcher.ask`.
    """
    ranked: dict[str, list[int]] = {stage: [] for stage in stages}
    with searcher.archive.snapshot() as snapshot:
        depth = DEPTH
        while True:
            ranking = searcher.rank(snapshot, question, depth=depth, asked_at=asked_at)
            for stage, places in ranked.items():
                _extend(places, ranking, STAGES[stage].scores(snapshot, ranking))
            short = {stage for stage, articles in ranked.items() if len(articles) < ARTICLES}
            if np.count_nonzero(ranking.candidates.lexical) < depth:
                short.discard("lexical")  # every passage that has a word of the question is there
            if not short or depth >= len(snapshot.columns.alive):
                break
            depth *= 4
        ids = snapshot.article_ids(sorted({n for numbers in ranked.values() for n in numbers}))
    return {stage: [ids[n] for n in numbers[:ARTICLES]] for stage, numbers in ranked.items()}


def latency_ms(answers: Sequence[Answer], stages: Iterable[str]) -> dict[str, Any]:
    """Milliseconds of whole questions in this process, one after the other: p50, p95, and more.

    `stages`: the median until a stage's ranking is known, None where `took_ms` does not tell. What
    is done in one step is known at once: `lexical` and `dense`, `rrf` and `fused`, `sentences` and
    `understanding`. `steps`: the median of each step.
    """
    took = [answer.took_ms for answer in answers]
    totals = [each["total"] for each in took]
    steps = [name for name in took[0] if name != "total"]
    found = np.percentile(totals, LATENCY_PERCENTILES).tolist()
    percentiles = dict(zip(map(str, LATENCY_PERCENTILES), found, strict=True))
    return {
        "p50": percentiles["50"],
        "p95": percentiles["95"],
        "stages": {stage: _known_after(took, STAGES[stage].known_after) for stage in stages},
        "steps": {step: statistics.median(each.get(step, 0.0) for each in took) for step in steps},
        "percentiles": percentiles,
    }


def _on_a_fixed_day(searcher: Searcher) -> Searcher:
    """The searcher on the day of the newest article; where none has a date, no day matters."""
    with searcher.archive.snapshot() as snapshot:
        newest = snapshot.columns.newest()
    return searcher if newest is None else searcher.on(newest)


def _rank_all(
    searcher: Searcher, asked: EvaluationSet, stages: Sequence[str], counting: Counting
) -> Runs:
    runs: Runs = {stage: {} for stage in stages}
    with counting("Ranking", len(asked.queries)) as tell:
        for done, (query_id, text) in enumerate(asked.queries.items(), start=1):
            asked_at = asked.asked_at.get(query_id)
            ranked = rank_articles(searcher, text, stages, asked_at=asked_at)
            for stage, articles in ranked.items():
                runs[stage][query_id] = articles
            tell(done)
    return runs


def _ask_all(searcher: Searcher, asked: EvaluationSet, counting: Counting) -> list[Outcome]:
    """Every query answered, as a user would ask it; of own sets the unanswerable questions too."""
    own = {question.id: question for question in asked.questions}
    outcomes: list[Outcome] = []
    with counting("Asking", len(asked.texts)) as tell:
        for query_id, text in asked.texts.items():
            answer = searcher.ask(text, asked_at=asked.asked_at.get(query_id))
            relevant = [a for a, grade in asked.qrels.get(query_id, {}).items() if grade > 0]
            if query_id in own:
                found = judge(own[query_id], answer)
                correct = found.correct
            else:
                found = None
                correct = any(c.hit.article.id in relevant for c in answer.citations[:1])
            outcomes.append(Outcome(query_id, text, answer, correct, relevant, found))
            tell(len(outcomes))
    return outcomes


def _ask_without(
    searcher: Searcher, asked: EvaluationSet, outcomes: Sequence[Outcome], counting: Counting
) -> dict[str, Answer] | None:
    """By query id, the answer where the articles that answer it are left out; None where no answer
    has a confidence to be measured. A question whose own answer has none is not asked again."""
    if all(each.answer.confidence is None for each in outcomes):
        return None
    answerable = [
        each for each in outcomes if each.answerable and sureness(each.answer) is not None
    ]
    answers: dict[str, Answer] = {}
    with counting("Asking without the answer", len(answerable)) as tell:
        for each in answerable:
            filters = Filters(exclude_article_id=tuple(each.relevant))
            answers[each.query_id] = searcher.ask(
                each.question, filters=filters, asked_at=asked.asked_at.get(each.query_id)
            )
            tell(len(answers))
    return answers


def _confidence_model(searcher: Searcher) -> dict[str, Any]:
    """What made confidences of signals, and answers of confidences."""
    return {
        "threshold": searcher.threshold,
        "intercept": INTERCEPT,
        "coefficients": dict(COEFFICIENTS),
    }


def _stages(values: Mapping[str, Values]) -> dict[str, Any]:
    """The measures of every stage, and how sure they are."""
    tables = {stage: np.array(list(by_query.values())) for stage, by_query in values.items()}
    measured = {stage: by_measure(MEASURES, means(by)) for stage, by in values.items()}
    sure = {stage: by_measure(MEASURES, intervals(table)) for stage, table in tables.items()}
    return {
        "stage": DEFAULT_STAGE,
        "measures": MEASURES,
        "metrics": measured[DEFAULT_STAGE],
        "intervals": sure[DEFAULT_STAGE],
        "stages": measured,
        "stage_intervals": sure,
        "stage_differences": _differences(tables),
    }


def _per_query(
    outcomes: Sequence[Outcome], values: Mapping[str, Values], without: Mapping[str, Answer] | None
) -> dict[str, dict[str, Any]]:
    """Everything that can be said of one question."""
    told: dict[str, dict[str, Any]] = {}
    for each in outcomes:
        query = told[each.query_id] = {"question": each.question}
        if each.query_id in values[DEFAULT_STAGE]:
            query["stages"] = {
                stage: [round(value, PER_QUERY_DIGITS) for value in by_query[each.query_id]]
                for stage, by_query in values.items()
            }
        if each.judged:
            query["answer"] = each.judged.values
        cited = each.first.hit.article.id if each.first else None
        answer = each.answer
        query |= {"cited": cited, "correct": each.correct, "answered": answer.answered}
        if without is not None:
            query["confidence"] = sureness(answer)
            if each.query_id in without:
                query["confidence_without"] = sureness(without[each.query_id])
    return told


def _extend(articles: list[int], ranking: Ranking, scores: Floats) -> None:
    """Put the articles that a ranking adds behind those already there."""
    order = np.lexsort((ranking.candidates.numbers, -scores))
    order = order[np.isfinite(scores[order])]
    seen = set(articles)
    for article in ranking.articles[order].tolist():
        if article not in seen:
            seen.add(article)
            articles.append(article)


def _differences(tables: Mapping[str, Table]) -> dict[str, Any]:
    """By how much the default stage is better than each other one, and how likely by chance."""
    default = tables[DEFAULT_STAGE]
    found: dict[str, Any] = {}
    for stage, table in tables.items():
        if stage != DEFAULT_STAGE:
            differences = default - table
            pairs = zip(
                differences.mean(axis=0).tolist(), randomisation_test(differences), strict=True
            )
            found[stage] = by_measure(MEASURES, [{"difference": d, "p": p} for d, p in pairs])
    return found


def _known_after(took: Sequence[Mapping[str, float]], step: str) -> float | None:
    """The median milliseconds until `step` is done; steps are in the order in which they ran."""
    sums = []
    for each in took:
        names = list(each)
        if step not in names:
            return None
        sums.append(sum(each[name] for name in names[: names.index(step) + 1]))
    return statistics.median(sums)
