"""Evaluation: measures that can be worked out by hand, rankings that stay, answers that hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag import confidence
from rag.archive import Archive
from rag.encode import LazyEncoder
from rag.errors import InvalidRequest
from rag.evaluate import (
    ARTICLES,
    DEFAULT_STAGE,
    STAGES,
    Stage,
    chosen,
    evaluate,
    latency_ms,
    rank_articles,
)
from rag.ingest import ingest
from rag.measures import MEASURES
from rag.read import read_paths
from rag.retrieve import DEPTH
from rag.searcher import Searcher
from rag.sets import EvaluationSet, Evidence, QuestionType, SetQuestion, read_questions
from rag.types import Answer, Article, Filters, Interpreted
from tests.evaluated import SureSearcher, evaluated
from tests.fakes import FakeEncoder, add

HERE = Path(__file__).parent.parent
QUESTIONS = HERE / "eval" / "questions.jsonl"
SEED_FILES = sorted(file for file in (HERE / "seeds").glob("*.md") if file.name != "SOURCES.md")

PLENTY = [
    Article(
        f"long-{number:02}",
        f"Report {number}",
        " ".join(
            f"The harbour was reopened by envoy {number} on day {day} again." for day in range(25)
        ),
    )
    for number in range(16)
]
FEW = [
    Article(f"short-{number:03}", f"Note {number}", f"Bread got dearer in town {number} this week.")
    for number in range(130)
]
QUERIES = {
    "harbour": "who reopened the harbour",
    "bread": "where did bread get dearer",
    "x": "zebra",
}


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    """Few articles hold so many passages that the others are beyond the depth of a search."""
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        report = add(archive, FakeEncoder(), *PLENTY, *FEW)
        assert report.passages > 2 * DEPTH
        yield Searcher(archive, FakeEncoder())


def asked() -> EvaluationSet:
    qrels = {
        "harbour": {"long-03": 1},
        "bread": {"short-005": 2, "short-006": 1},
        "x": {"long-00": 1},
    }
    return EvaluationSet("own", [], QUERIES, qrels)


# Rankings


def test_a_ranking_has_a_hundred_articles_and_none_twice(searcher: Searcher) -> None:
    for question in QUERIES.values():
        ranked = rank_articles(searcher, question)
        assert ranked.keys() == STAGES.keys()
        for stage, articles in ranked.items():
            assert len(set(articles)) == len(articles)
            if stage != "lexical":
                assert len(articles) == ARTICLES


def test_articles_without_a_word_of_the_question_are_not_found_by_words(
    searcher: Searcher,
) -> None:
    assert set(rank_articles(searcher, "harbour")["lexical"]) == {a.id for a in PLENTY}
    assert set(rank_articles(searcher, "dearer")["lexical"]) <= {a.id for a in FEW}
    assert len(rank_articles(searcher, "dearer")["lexical"]) == ARTICLES
    assert rank_articles(searcher, "zebra")["lexical"] == []


def test_deepening_does_not_change_the_head(searcher: Searcher) -> None:
    question = QUERIES["harbour"]
    ranked = rank_articles(searcher, question)
    with searcher.archive.snapshot() as snapshot:
        ranking = searcher.rank(snapshot, question)
        for stage, rule in STAGES.items():
            scores = rule.scores(snapshot, ranking)
            places = [at for at in range(len(scores)) if np.isfinite(scores[at])]
            places.sort(key=lambda at: (-scores[at], ranking.candidates.numbers[at]))
            articles = list(dict.fromkeys(ranking.articles[places].tolist()))
            ids = snapshot.article_ids(articles)
            head = [ids[article] for article in articles]
            assert len(head) < ARTICLES, "the test needs a search that is too short"
            assert ranked[stage][: len(head)] == head


def test_what_answers_are_made_from_ranks_as_answers_do(searcher: Searcher) -> None:
    for question in QUERIES.values():
        ranked = rank_articles(searcher, question)[DEFAULT_STAGE]
        answer = searcher.ask(question, top_k=50)
        cited = list(dict.fromkeys(c.hit.article.id for c in answer.citations))
        assert ranked[: len(cited)] == cited


def test_an_article_ranks_by_its_best_passage(searcher: Searcher) -> None:
    question = "the harbour on day 7 by envoy 4"
    first = searcher.ask(question, top_k=1).citations[0].hit.article.id
    assert rank_articles(searcher, question)[DEFAULT_STAGE][0] == first


TWO_DAYS = ["2024-03-04", "2024-05-06"]
DEARER = [Article(day, "Bread", "Bread got dearer again.", published_at=day) for day in TWO_DAYS]


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[SureSearcher]:
    """A searcher of two articles that differ in their day alone."""
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), *DEARER)
        yield SureSearcher(archive, FakeEncoder())


def own_question(text: str, evidence: str, asked_at: str | None = None) -> EvaluationSet:
    right = (Evidence(evidence, "Bread got dearer again."),)
    question = SetQuestion("q", QuestionType.WHAT, text, (("dearer",),), right, asked_at)
    days = {"q": asked_at} if asked_at else {}
    return EvaluationSet("own", [], {"q": text}, {"q": {evidence: 1}}, [question], days)


def test_a_query_is_ranked_on_its_day(asking: SureSearcher) -> None:
    queries = dict.fromkeys(TWO_DAYS, "did bread get dearer yesterday")
    asked_at = {"2024-03-04": "2024-03-05", "2024-05-06": "2024-05-07"}
    qrels = {day: {day: 1} for day in TWO_DAYS}
    own = EvaluationSet("own", [], queries, qrels, (), asked_at)
    stages = evaluate(asking, own).report["stages"]
    for day in TWO_DAYS:
        ranked = rank_articles(asking, queries[day], asked_at=asked_at[day])
        assert ranked["understanding"][0] == day
        assert ranked["fused"] == TWO_DAYS
    assert stages["understanding"]["Success@1"] == 1
    assert stages["fused"]["Success@1"] == 0.5


@pytest.mark.parametrize("day", TWO_DAYS)
def test_a_question_is_answered_on_its_day(day: str, asking: SureSearcher) -> None:
    own = own_question("did bread get dearer today", day, day)
    (told,) = evaluate(asking, own).report["per_query"].values()
    assert told["cited"] == day
    assert told["answer"]["evidence@1"] == 1


def test_every_question_of_a_set_is_asked_on_its_day(
    asking: SureSearcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_at = []
    ask = SureSearcher.ask

    def noted(self: SureSearcher, question: str, **options: Any) -> Answer:
        answer = ask(self, question, **options)
        asked_at.append((answer.interpreted.asked_at, answer.interpreted.recent))
        return answer

    monkeypatch.setattr(SureSearcher, "ask", noted)
    evaluate(asking, own_question("is bread dear", TWO_DAYS[0], "2024-03-05"))
    assert asked_at == [("2024-03-05", True)] * 2  # as it is, and without what answers it
    asked_at.clear()
    evaluate(asking, own_question("is bread dear", TWO_DAYS[0]))
    assert asked_at == [("2024-05-06", False)] * 2


def test_without_a_day_relative_dates_count_from_the_newest_article(asking: SureSearcher) -> None:
    stages = evaluate(asking, own_question("did bread get dearer today", TWO_DAYS[1])).report[
        "stages"
    ]
    assert stages["fused"]["Success@1"] == 0
    assert stages["understanding"]["Success@1"] == 1


def test_without_a_day_nothing_recent_is_preferred(asking: SureSearcher) -> None:
    runs = evaluate(asking, own_question("is bread dear", TWO_DAYS[0])).runs
    assert runs["understanding"] == runs["fused"] == {"q": TWO_DAYS}


def test_an_empty_archive_ranks_nothing(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        ranked = rank_articles(Searcher(archive, FakeEncoder()), "harbour")
    assert ranked == {stage: [] for stage in STAGES}


# Stages


def test_stages_that_are_not_named_are_not_ranked(searcher: Searcher) -> None:
    assert chosen(["lexical"]) == ("lexical", DEFAULT_STAGE)
    assert chosen(STAGES) == tuple(STAGES)
    found = evaluate(searcher, asked(), stages=["dense", "lexical"])
    assert list(found.report["stages"]) == list(found.runs) == ["lexical", "dense", DEFAULT_STAGE]
    whole = evaluate(searcher, asked()).report
    for stage, measures in found.report["stages"].items():
        assert measures == whole["stages"][stage]


def test_a_stage_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no stage 'magic'; there are lexical, dense"):
        chosen(["dense", "magic"])


def test_a_stage_is_one_entry(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    backwards = Stage(lambda _, ranking: -ranking.fused, "fuse")
    monkeypatch.setattr("rag.evaluate.STAGES", {**STAGES, "backwards": backwards})
    ranked = rank_articles(searcher, "harbour", ["fused", "backwards"])
    assert ranked["backwards"][0] != ranked["fused"][0]


@pytest.mark.parametrize("question", [*QUERIES.values(), "who reopened it on day 7?"])
def test_sentences_are_the_whole_ranking_of_a_question_without_dates(
    question: str, searcher: Searcher
) -> None:
    with searcher.archive.snapshot() as snapshot:
        ranking = searcher.rank(snapshot, question)
        found = STAGES["sentences"].scores(snapshot, ranking)
    assert found.tolist() == ranking.understood.tolist()
    assert ranking.asked is not None
    assert (found.tolist() != ranking.late.tolist()) == ranking.asked.is_question


@pytest.mark.parametrize(
    ("question", "asked_at"),
    [("who made bread dearer on 2024-05-06", None), ("who made bread dearer", "2024-05-07")],
)
def test_sentences_know_nothing_of_dates(
    question: str, asked_at: str | None, asking: SureSearcher
) -> None:
    with asking.archive.snapshot() as snapshot:
        ranking = asking.rank(snapshot, question, asked_at=asked_at)
        found = STAGES["sentences"].scores(snapshot, ranking)
    for place, read in ranking.read.items():
        assert read.gain > 0
        assert found[place] == pytest.approx(ranking.late[place] + read.gain)
    ranked = rank_articles(asking, question, asked_at=asked_at)
    assert ranked["sentences"] == TWO_DAYS
    assert ranked["understanding"] == TWO_DAYS[::-1]


# Reports


def test_two_runs_are_equal_but_for_times(searcher: Searcher) -> None:
    told: list[tuple[str, int]] = []

    @contextmanager
    def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
        told.append((what, total))
        yield lambda done: told.append((what, done))

    first = evaluate(searcher, asked(), counting=counting)
    second = evaluate(searcher, asked())
    assert told[:4] == [("Ranking", 3), ("Ranking", 1), ("Ranking", 2), ("Ranking", 3)]
    assert told[4:] == [("Asking", 3), ("Asking", 1), ("Asking", 2), ("Asking", 3)]
    assert first.runs == second.runs
    for name in first.report.keys() - {"latency_ms"}:
        assert json.dumps(first.report[name]) == json.dumps(second.report[name]), name


def test_two_archives_of_the_same_articles_give_equal_reports(tmp_path: Path) -> None:
    reports = [evaluated(tmp_path / name).report for name in ("one", "two")]
    for report in reports:
        del report["latency_ms"]
    assert json.dumps(reports[0]) == json.dumps(reports[1])


def test_a_report_is_json_with_all_that_is_promised(searcher: Searcher) -> None:
    report = json.loads(json.dumps(evaluate(searcher, asked()).report, allow_nan=False))
    assert (report["set"], report["queries"]) == ("own", 3)
    assert report["stages"].keys() >= {"lexical", "dense", "fused", "understanding"}
    for measures in [report["metrics"], *report["stages"].values()]:
        assert tuple(measures) == MEASURES
        assert all(0 <= value <= 1 for value in measures.values())
    assert report["metrics"] == report["stages"][DEFAULT_STAGE]
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"]
    assert report["index"]["encoder_name"] == "fake"
    assert report["abstention"] is None


def test_a_report_says_what_made_answers_of_signals(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), *DEARER)
        sure = SureSearcher(archive, FakeEncoder(), threshold=0.75)
        report = evaluate(sure, own_question("is bread dear", TWO_DAYS[0])).report
    assert report["confidence_model"] == {
        "threshold": 0.75,
        "intercept": confidence.INTERCEPT,
        "coefficients": confidence.COEFFICIENTS,
    }


def test_every_query_has_its_values_at_every_stage(searcher: Searcher) -> None:
    report = evaluate(searcher, asked()).report
    for stage in STAGES:
        rows = [each["stages"][stage] for each in report["per_query"].values()]
        for place, name in enumerate(MEASURES):
            mean = sum(row[place] for row in rows) / len(rows)
            assert mean == pytest.approx(report["stages"][stage][name], abs=1e-6)
            low, high = report["stage_intervals"][stage][name]
            assert low <= mean + 1e-6
            assert mean - 1e-6 <= high
    assert report["intervals"] == report["stage_intervals"][DEFAULT_STAGE]
    for stage, differences in report["stage_differences"].items():
        assert stage != DEFAULT_STAGE
        gained = report["metrics"]["RR@10"] - report["stages"][stage]["RR@10"]
        assert differences["RR@10"]["difference"] == pytest.approx(gained)
        assert 0 < differences["RR@10"]["p"] <= 1


# Latencies


def timed(**took_ms: float) -> Answer:
    return Answer("q", True, None, (), 1, 0, 1, 1, took_ms, Interpreted("2025-11-23", (), ()))


def test_a_stage_is_known_after_all_that_it_waits_for() -> None:
    answers = [
        timed(
            encode=10.0, retrieve=2.0, fuse=1.0, rerank=2.0, understand=1.0, cite=4.0, total=21.0
        ),
        timed(
            encode=20.0, retrieve=4.0, fuse=1.0, rerank=3.0, understand=1.0, cite=2.0, total=32.0
        ),
        timed(
            encode=12.0, retrieve=3.0, fuse=1.0, rerank=2.5, understand=1.0, cite=3.0, total=24.0
        ),
    ]
    found = latency_ms(answers, STAGES)
    by_hand = {"lexical": 15.0, "dense": 15.0, "rrf": 16.0, "fused": 16.0}
    assert found["stages"] == by_hand | {
        "late": 18.5,
        "sentences": 19.5,
        "understanding": 19.5,
    }
    steps = {"encode": 12.0, "retrieve": 3.0, "fuse": 1.0, "rerank": 2.5, "understand": 1.0}
    assert found["steps"] == steps | {"cite": 3.0}
    assert found["p50"] == found["percentiles"]["50"] == 24.0
    assert 24 < found["p95"] <= 32


def test_a_time_that_is_not_told_is_none() -> None:
    found = latency_ms([timed(encode=10.0, retrieve=2.0, total=13.0)], ["lexical", "fused"])
    assert found["stages"] == {"lexical": 12.0, "fused": None}
    assert found["p50"] == found["p95"] == 13.0


# The sample archive with the real model


@pytest.fixture(scope="module")
def seeded(
    real_encoder: LazyEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searcher]:
    with closing(Archive(tmp_path_factory.mktemp("seeds"))) as archive:
        report = ingest(archive, real_encoder, read_paths(SEED_FILES))
        assert (report.added, report.failed) == (len(SEED_FILES), [])
        yield Searcher(archive, real_encoder)


@pytest.mark.model
@pytest.mark.parametrize(
    "asked",
    [
        "who warned of spillover and when",
        "who warned about a spillover of terrorism and on what date",
    ],
)
def test_who_warned_of_spillover_and_when(asked: str, seeded: Searcher) -> None:
    quotes = [citation.quote for citation in seeded.ask(asked).citations[:3]]
    assert any("Vasily Nebenzya" in quote and "November 20, 2025" in quote for quote in quotes), (
        quotes
    )


SIMILAR = Article(
    "similar",
    "Kenya warns of a cholera outbreak on the coast",
    """\
Health Watch has reported that officials in Kenya are increasingly worried by the number of \
cholera cases near the Somali border, and warn of a possible outbreak on the coast. The \
government, according to that report, regards the port of Mombasa as vital for the region.

After the floods of 2023 the ministry of health tried to widen its work with the camps. On \
March 3, 2024, the cabinet lifted a ban on the sale of bottled water, a step read as part of a \
new policy.

The government fears that the disease may travel inland with the dry season. Grace Mwangi, \
Kenya's envoy to the World Health Organization, warned its executive board on February 6, 2025, \
that the danger of cholera breaking out in the cities is "not abstract." She also stressed that \
the camps still lack clean water.

The administration of the camps denies such concerns. Peter Otieno, secretary of the national \
council, told a recent meeting of the regional bloc in Nairobi that the threat remains serious \
and calls for close cooperation.""",
    source="Health Watch",
    published_at="2025-02-07",
)


@pytest.fixture(scope="module")
def beside(
    real_encoder: LazyEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searcher]:
    """The sample archive and one more article."""
    with closing(Archive(tmp_path_factory.mktemp("beside"))) as archive:
        ingest(archive, real_encoder, [SIMILAR, *read_paths(SEED_FILES)])
        yield Searcher(archive, real_encoder)


@pytest.mark.model
@pytest.mark.parametrize(
    "asked", ["who warned of an outbreak and when", "Who warned of a cholera outbreak, and when?"]
)
def test_a_text_of_the_same_shape(asked: str, beside: Searcher) -> None:
    quotes = [citation.quote for citation in beside.ask(asked).citations[:3]]
    assert any("Grace Mwangi" in quote and "February 6, 2025" in quote for quote in quotes), quotes


@pytest.mark.model
def test_every_citation_of_the_sample_archive_verifies(seeded: Searcher) -> None:
    texts = {}
    for each in read_questions(QUESTIONS):
        answer = seeded.ask(each.text)
        assert len(answer.citations) == 5
        for citation in answer.citations:
            head = citation.hit.article
            found = seeded.verify(head.id, citation.start, citation.end, citation.quote)
            assert (found.valid, found.revision) == (True, 1)
            if head.id not in texts:
                with seeded.archive.snapshot() as snapshot:
                    texts[head.id] = snapshot.text(snapshot.head(head.id))
            assert texts[head.id][citation.start : citation.end] == citation.quote
            for start, end in citation.highlights:
                assert citation.start <= start < end <= citation.end
        for one, other in combinations(answer.citations, 2):
            if one.hit.article.id == other.hit.article.id:
                assert one.end <= other.start or other.end <= one.start


@pytest.mark.model
def test_a_question_is_not_answered_from_an_article_that_is_excluded(seeded: Searcher) -> None:
    asked = "who warned of spillover and when"
    first = seeded.ask(asked).citations[0].hit.article.id
    without = seeded.ask(asked, filters=Filters(exclude_article_id=(first,)))
    assert first not in {citation.hit.article.id for citation in without.citations}
    assert len(without.citations) == 5
