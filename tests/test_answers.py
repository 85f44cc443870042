"""Answers to own questions: what counts as quoted, answered, withheld."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rag.answers import ANSWER_MEASURES, QUOTED_FIRST, Judged, answers_report, judge
from rag.archive import Archive
from rag.searcher import Searcher
from rag.sets import Evidence, SetQuestion
from rag.types import Answer, Article, Interpreted
from tests.evaluated import question
from tests.fakes import FakeEncoder, add


def judge_all(searcher: Searcher, questions: Iterable[SetQuestion]) -> list[Judged]:
    return [judge(each, searcher.ask(each.text)) for each in questions]


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
        judged = judge_all(Searcher(archive, FakeEncoder()), questions)
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
    assert report["median_quote_characters"] == len(said)
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
        judged = judge_all(searcher, questions)
    assert [each.answer_rank for each in judged] == [1, 2, 3, 4, 5]
    assert [each.evidence_rank for each in judged] == [1, 2, 3, 4, 5]
    found = answers_report(judged)["all"]
    assert found[f"answer@{QUOTED_FIRST}"] == found[f"evidence@{QUOTED_FIRST}"] == 3 / 5
    assert found["answer@1"] == found["evidence@1"] == 1 / 5


@pytest.mark.parametrize(
    ("evidence", "quoted"),
    [
        ("Ada Berg spoke. It was May 4.", True),
        ("Ada Berg spoke.\n\nIt was May 4.", True),
        ("It was May 4. The hall was full.", False),
    ],
)
def test_evidence_of_several_sentences_is_quoted_where_the_quote_covers_it(
    evidence: str, quoted: bool, tmp_path: Path
) -> None:
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), Article("a", "", "Ada Berg spoke. It was May 4."))
        answer = Searcher(archive, FakeEncoder()).ask("who spoke")
    both = replace(answer.citations[0], quote="Ada Berg spoke. It was May 4.")
    answer = replace(answer, citations=(both,))
    found = judge(question("q", "who spoke", [["May 4"]], Evidence("a", evidence)), answer)
    assert (found.evidence_rank == 1) is quoted
    assert found.correct  # the facts are there in any case


@pytest.mark.parametrize(
    ("ranks", "answered", "right", "wrong"),
    [
        ((1, 1), True, 1, 0),
        ((1, None), True, 1, 0),  # every fact is in the first quote
        ((3, 1), True, 1, 0),  # the evidence is
        ((2, 2), True, 0, 1),
        ((None, None), True, 0, 1),
        ((1, 1), False, 0, 0),
        ((None, None), False, 0, 0),
    ],
)
def test_what_is_answered_is_answered_right_or_wrong(
    ranks: tuple[int | None, int | None], answered: bool, right: float, wrong: float
) -> None:
    answer = Answer("q", answered, 0.5, (), 1, 0, 1, 1, {}, Interpreted("2025-11-23", (), ()))
    asked = question("q", "who spoke", [["Ada"]], Evidence("a", "Ada Berg spoke."))
    values = Judged(asked, answer, *ranks).values
    assert (values["answered_right"], values["answered_wrong"]) == (right, wrong)
    assert values["answered"] == right + wrong
    report = answers_report([Judged(asked, answer, *ranks)])
    assert (report["all"]["answered_right"], report["all"]["answered_wrong"]) == (right, wrong)


def test_every_question_has_values_to_be_compared(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), Article("a", "", "Ada Berg spoke."))
        searcher = Searcher(archive, FakeEncoder())
        asked = question("q", "who spoke", [["Ada"]], Evidence("a", "Ada Berg spoke."))
        (there, gone) = judge_all(searcher, [asked, question("none", "why", [])])
    assert there.values == dict.fromkeys(ANSWER_MEASURES, 1.0) | {"answered_wrong": 0.0}
    assert gone.values == {"withheld": 0.0}
    withheld = replace(gone, answer=replace(gone.answer, answered=False))
    assert withheld.values == {"withheld": 1.0}
    assert not withheld.answerable
    held_back = replace(there, answer=replace(there.answer, answered=False))
    assert held_back.values == there.values | {"answered": 0.0, "answered_right": 0.0}
    report = answers_report([held_back, withheld])
    assert report["all"]["answered"] == 0
    assert report["intervals"]["evidence@1"] == (1.0, 1.0)
    assert report["unanswerable"] == {"questions": 1, "withheld": 1}
