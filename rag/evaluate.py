"""How good the answers are: rankings by stage with ir_measures, quotes on question sets.

Each stage ranks articles by their best passage: `lexical` and `dense` alone, `rrf` and `fused` the
two together, `understanding` with what the question says of date and source. The first articles are
just those that a user gets; where a ranking ends before 100, the search is deepened and what is new
goes behind.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np

from rag.fuse import reciprocal_rank
from rag.retrieve import DEPTH
from rag.searcher import Ranking, Searcher
from rag.sets import EvaluationSet, Question
from rag.types import Answer, Floats

MEASURES = ("nDCG@10", "RR@10", "R@10", "R@100", "Success@1")

ARTICLES = 100
"""How many articles each stage ranks."""

TIMED_MOST = 300
"""Questions asked again from start to end for the latencies, spread evenly over the set."""

QUOTED_FIRST = 3
"""Own sets also say how often the evidence is among so many first citations."""

Stage = Callable[[Ranking], Floats]

STAGES: Mapping[str, Stage] = {
    "lexical": lambda ranking: _matching(ranking.candidates.lexical),
    "dense": lambda ranking: ranking.candidates.dense,
    "rrf": lambda ranking: reciprocal_rank(ranking.candidates.lexical, ranking.candidates.dense),
    "fused": lambda ranking: ranking.fused,
    "understanding": lambda ranking: ranking.understood,
}

DEFAULT_STAGE = "understanding"
"""The stage that answers are made from."""

Qrels = Mapping[str, Mapping[str, int]]
Runs = dict[str, dict[str, list[str]]]
"""By stage and query id: article ids, best first."""


def evaluate(
    searcher: Searcher, asked: EvaluationSet, tell: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Rank every query by every stage and measure; the report as `rag eval --out` writes it.

    `tell` is told how many queries are done.
    """
    runs: Runs = {stage: {} for stage in STAGES}
    for done, (query_id, text) in enumerate(asked.queries.items(), start=1):
        for stage, articles in rank_articles(searcher, text, asked.asked_at.get(query_id)).items():
            runs[stage][query_id] = articles
        tell(done)
    stages = {stage: measure(run, asked.qrels) for stage, run in runs.items()}
    return {
        "set": asked.name,
        "queries": len(asked.queries),
        "metrics": stages[DEFAULT_STAGE],
        "stages": stages,
        "abstention": None,
        "latency_ms": latency_ms(searcher, list(asked.queries.values())),
        "index": searcher.archive.manifest(),
        "machine": machine(),
        "commit": commit(),
    }


def rank_articles(
    searcher: Searcher, question: str, asked_at: str | None = None
) -> dict[str, list[str]]:
    """By stage, the ids of the 100 best articles, best first; fewer if there are not so many."""
    ranked: dict[str, list[int]] = {stage: [] for stage in STAGES}
    with searcher.archive.snapshot() as snapshot:
        depth = DEPTH
        while True:
            ranking = searcher.rank(snapshot, question, depth=depth, asked_at=asked_at)
            for stage, places in ranked.items():
                _extend(places, ranking, STAGES[stage])
            short = {stage for stage, articles in ranked.items() if len(articles) < ARTICLES}
            if np.count_nonzero(ranking.candidates.lexical) < depth:
                short.discard("lexical")  # every passage that has a word of the question is there
            if not short or depth >= len(snapshot.columns.alive):
                break
            depth *= 4
        ids = snapshot.article_ids(sorted({n for numbers in ranked.values() for n in numbers}))
    return {stage: [ids[n] for n in numbers[:ARTICLES]] for stage, numbers in ranked.items()}


def measure(run: Mapping[str, Sequence[str]], qrels: Qrels) -> dict[str, float]:
    """Means of all measures over the judged queries."""
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
    found = ir_measures.calc_aggregate(wanted, judged, scored)
    return {name: float(found[each]) for name, each in zip(MEASURES, wanted, strict=True)}


def latency_ms(searcher: Searcher, questions: Sequence[str]) -> dict[str, float]:
    """Milliseconds of whole questions in this process, one after the other: p50 and p95."""
    step = max(1, math.ceil(len(questions) / TIMED_MOST))
    took = [searcher.ask(text, top_k=10).took_ms["total"] for text in questions[::step]]
    if len(took) < 2:
        return {"p50": took[0], "p95": took[0]}
    return {"p50": statistics.median(took), "p95": statistics.quantiles(took, n=20)[-1]}


@dataclass(frozen=True, slots=True)
class Judged:
    """One question of an own set: the ranks at which its facts and its evidence are first quoted,
    None where they are not."""

    question: Question
    answer: Answer
    answer_rank: int | None
    evidence_rank: int | None


def judge(searcher: Searcher, questions: Iterable[Question]) -> list[Judged]:
    """Ask every question and see whether the quotes hold what was asked for."""
    return [
        _judged(question, searcher.ask(question.text, asked_at=question.asked_at))
        for question in questions
    ]


def answers_report(judged: Sequence[Judged]) -> dict[str, Any]:
    """Parts of the questions, over all and by type, whose facts or evidence are quoted first, and
    among the first three; and how many unanswerable ones were withheld."""
    answerable = [each for each in judged if each.question.evidence]
    types = sorted({each.question.type.value for each in answerable})
    unanswerable = [each for each in judged if not each.question.evidence]
    withheld = [each for each in unanswerable if not each.answer.answered]
    return {
        "all": _parts(answerable),
        "by_type": {
            name: _parts([each for each in answerable if each.question.type == name])
            for name in types
        },
        "unanswerable": {"questions": len(unanswerable), "withheld": len(withheld)},
        "not_quoted_first": [
            {"id": each.question.id, "question": each.question.text, "rank": each.evidence_rank}
            for each in answerable
            if each.evidence_rank != 1
        ],
    }


def machine() -> dict[str, object]:
    """Where the figures were taken."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """The commit of this code, with a + where it has uncommitted changes; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],  # noqa: S607 - whichever git there is
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip() or None


def _extend(articles: list[int], ranking: Ranking, stage: Stage) -> None:
    """Put the articles that a ranking adds behind those already there."""
    scores = stage(ranking)
    order = np.lexsort((ranking.candidates.numbers, -scores))
    order = order[np.isfinite(scores[order])]
    seen = set(articles)
    for article in ranking.articles[order].tolist():
        if article not in seen:
            seen.add(article)
            articles.append(article)


def _matching(lexical: Floats) -> Floats:
    return np.where(lexical > 0, lexical, np.float32(-np.inf))


def _judged(question: Question, answer: Answer) -> Judged:
    telling = (_tells(question, citation.quote) for citation in answer.citations)
    evident = (
        _is_evidence(question, citation.hit.article.id, citation.quote)
        for citation in answer.citations
    )
    return Judged(question, answer, _first(telling), _first(evident))


def _first(found: Iterable[bool]) -> int | None:
    """The rank, from 1, of the first that is true."""
    return next((rank for rank, true in enumerate(found, start=1) if true), None)


def _tells(question: Question, quote: str) -> bool:
    return bool(question.answers) and all(
        any(spelling in quote for spelling in spellings) for spellings in question.answers
    )


def _is_evidence(question: Question, article: str, quote: str) -> bool:
    return any(e.article == article and e.quote in quote for e in question.evidence)


def _parts(judged: Sequence[Judged]) -> dict[str, float]:
    def part(ranks: Iterable[int | None], most: int) -> float:
        return sum(rank is not None and rank <= most for rank in ranks) / len(judged)

    answers = [each.answer_rank for each in judged]
    evidence = [each.evidence_rank for each in judged]
    return {
        "questions": len(judged),
        "answer@1": part(answers, 1),
        f"answer@{QUOTED_FIRST}": part(answers, QUOTED_FIRST),
        "evidence@1": part(evidence, 1),
        f"evidence@{QUOTED_FIRST}": part(evidence, QUOTED_FIRST),
    }
