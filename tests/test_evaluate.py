"""Evaluation: measures that can be worked out by hand, rankings that stay, answers that hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from rag.archive import Archive
from rag.encode import SentenceTransformerEncoder
from rag.evaluate import (
    ARTICLES,
    DEFAULT_STAGE,
    MEASURES,
    QUOTED_FIRST,
    STAGES,
    answers_report,
    evaluate,
    judge,
    latency_ms,
    measure,
    rank_articles,
)
from rag.ingest import ingest
from rag.read import read_paths
from rag.retrieve import DEPTH
from rag.searcher import Searcher
from rag.sets import EvaluationSet, Evidence, Question, QuestionType, read_questions
from rag.types import Article, Filters
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


# Measures


def test_measures_are_those_worked_out_by_hand() -> None:
    qrels = {
        "second and third": {"a": 1, "b": 1},
        "not asked": {"c": 1},
        "graded": {"best": 2, "good": 1},
        "eleventh": {"k": 1},
        "judged useless": {"useless": 0, "useful": 1},
        "half": {"found": 1, "lost": 1},
    }
    run = {
        "second and third": ["x", "a", "b"],
        "graded": ["good", "best"],
        "eleventh": [*"0123456789", "k"],
        "judged useless": ["useless", "useful"],
        "half": ["found"],
        "not judged": ["a", "b"],
    }
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    ndcg = [
        (second + third) / (1 + second),
        0,
        (1 + 2 * second) / (2 + second),
        0,
        second,
        1 / (1 + second),
    ]
    expected = {
        "nDCG@10": sum(ndcg) / 6,
        "RR@10": (1 / 2 + 0 + 1 + 0 + 1 / 2 + 1) / 6,
        "R@10": (1 + 0 + 1 + 0 + 1 + 1 / 2) / 6,
        "R@100": (1 + 0 + 1 + 1 + 1 + 1 / 2) / 6,
        "Success@1": (0 + 0 + 1 + 0 + 0 + 1) / 6,
    }
    assert tuple(expected) == MEASURES
    assert measure(run, qrels) == pytest.approx(expected, abs=1e-9)


def test_a_perfect_run_measures_one_and_an_empty_one_nothing() -> None:
    qrels = {f"q{n}": {f"d{n}": 1} for n in range(5)}
    assert measure({f"q{n}": [f"d{n}", "x"] for n in range(5)}, qrels) == dict.fromkeys(MEASURES, 1)
    assert measure({f"q{n}": [] for n in range(5)}, qrels) == dict.fromkeys(MEASURES, 0)


def test_equal_scores_do_not_mix_a_ranking() -> None:
    names = [f"d{number}" for number in range(ARTICLES)]
    for place, name in enumerate(reversed(names), start=1):
        found = measure({"q": list(reversed(names))}, {"q": {name: 1}})
        assert found["RR@10"] == (pytest.approx(1 / place) if place <= 10 else 0)


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
        for stage, scores_of in STAGES.items():
            scores = scores_of(ranking)
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


def test_a_question_is_asked_on_its_day(tmp_path: Path) -> None:
    days = ["2024-03-04", "2024-05-06"]
    both = [
        Article(day, "Bread", "Bread got dearer in town again.", published_at=day) for day in days
    ]
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), *both)
        searcher = Searcher(archive, FakeEncoder())
        queries = dict.fromkeys(days, "did bread get dearer yesterday")
        asked_at = {"2024-03-04": "2024-03-05", "2024-05-06": "2024-05-07"}
        own = EvaluationSet("own", [], queries, {day: {day: 1} for day in days}, (), asked_at)
        stages = evaluate(searcher, own)["stages"]
        for day in days:
            ranked = rank_articles(searcher, queries[day], asked_at[day])
            assert ranked["understanding"][0] == day
            assert ranked["fused"] == days
    assert stages["understanding"]["Success@1"] == 1
    assert stages["fused"]["Success@1"] == 0.5


def test_an_empty_archive_ranks_nothing(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        ranked = rank_articles(Searcher(archive, FakeEncoder()), "harbour")
    assert ranked == {stage: [] for stage in STAGES}


# Reports


def test_two_runs_are_equal(searcher: Searcher) -> None:
    told: list[int] = []
    first = evaluate(searcher, asked(), told.append)
    second = evaluate(searcher, asked())
    assert told == [1, 2, 3]
    for name in ("set", "queries", "metrics", "stages", "index"):
        assert first[name] == second[name]
    for question in QUERIES.values():
        assert rank_articles(searcher, question) == rank_articles(searcher, question)


def test_a_report_is_json_with_all_that_is_promised(searcher: Searcher) -> None:
    report = json.loads(json.dumps(evaluate(searcher, asked()), allow_nan=False))
    assert (report["set"], report["queries"]) == ("own", 3)
    assert report["stages"].keys() >= {"lexical", "dense", "fused"}
    for measures in [report["metrics"], *report["stages"].values()]:
        assert tuple(measures) == MEASURES
        assert all(0 <= value <= 1 for value in measures.values())
    assert report["metrics"] == report["stages"][DEFAULT_STAGE]
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"]
    assert report["index"]["encoder_name"] == "fake"
    assert "abstention" in report


def test_latencies_of_one_question_and_of_many(searcher: Searcher) -> None:
    one = latency_ms(searcher, ["harbour"])
    assert one["p50"] == one["p95"] > 0
    many = latency_ms(searcher, ["harbour"] * 700)
    assert 0 < many["p50"] <= many["p95"]


# Own question sets


def question(name: str, text: str, answers: list[list[str]], *evidence: Evidence) -> Question:
    kind = QuestionType.WHO if evidence else QuestionType.UNANSWERABLE
    return Question(name, kind, text, tuple(map(tuple, answers)), evidence)


def test_answers_are_judged_by_their_quotes(tmp_path: Path) -> None:
    said = "Vera Okafor warned of spillover on May 4."
    articles = [
        Article("a", "Council", f"The council met. {said} It rained."),
        Article("b", "Bread", "Bread got dearer. Okafor said nothing of May 4."),
    ]
    text = "who warned of spillover"
    questions = [
        question("right", text, [["Vera", "Okafor"], ["May 4"]], Evidence("a", said)),
        question("other article", text, [["Okafor"]], Evidence("b", said)),
        question("one fact missing", text, [["Okafor"], ["June"]], Evidence("a", said)),
        question("not quoted", text, [["rained"]], Evidence("a", "It rained.")),
        question("none", text, []),
    ]
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), *articles)
        judged = judge(Searcher(archive, FakeEncoder()), questions)
    ranks = {each.question.id: (each.answer_rank, each.evidence_rank) for each in judged}
    assert ranks["right"] == (1, 1)
    assert ranks["other article"] == (1, None)
    assert ranks["one fact missing"] == (None, 1)
    assert ranks["not quoted"][0] != 1
    assert ranks["none"] == (None, None)
    report = answers_report(judged)
    assert report["all"]["questions"] == 4
    assert report["all"]["answer@1"] == 2 / 4
    assert report["all"]["evidence@1"] == 2 / 4
    assert report["by_type"] == {"who": report["all"]}
    assert report["unanswerable"] == {"questions": 1, "withheld": 0}
    assert [each["id"] for each in report["not_quoted_first"]] == ["other article", "not quoted"]


def test_a_fact_at_the_third_place_counts_among_the_first_three(tmp_path: Path) -> None:
    articles = [
        Article(
            f"{number}", "Harbour", f"Pier {number} of the harbour reopened." + " Then." * number
        )
        for number in range(6)
    ]
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), *articles, passage_tokens=60)
        searcher = Searcher(archive, FakeEncoder())
        quotes = [citation.quote for citation in searcher.ask("harbour pier").citations]
        evidence = [
            Evidence(c.hit.article.id, c.quote) for c in searcher.ask("harbour pier").citations
        ]
        questions = [
            question(f"{place}", "harbour pier", [[quote]], evidence[place])
            for place, quote in enumerate(quotes)
        ]
        judged = judge(searcher, questions)
    assert [each.answer_rank for each in judged] == [1, 2, 3, 4, 5]
    assert [each.evidence_rank for each in judged] == [1, 2, 3, 4, 5]
    found = answers_report(judged)["all"]
    assert found[f"answer@{QUOTED_FIRST}"] == found[f"evidence@{QUOTED_FIRST}"] == 3 / 5
    assert found["answer@1"] == found["evidence@1"] == 1 / 5


# The sample archive with the real model


@pytest.fixture(scope="module")
def seeded(
    real_encoder: SentenceTransformerEncoder, tmp_path_factory: pytest.TempPathFactory
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
    real_encoder: SentenceTransformerEncoder, tmp_path_factory: pytest.TempPathFactory
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
