"""A small own set about a few articles, and a searcher that says how sure it is."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from rag.archive import Archive
from rag.evaluate import Evaluation, evaluate
from rag.searcher import Searcher
from rag.sets import EvaluationSet, Evidence, QuestionType, SetQuestion
from rag.types import Answer, Article
from tests.fakes import FakeEncoder, add

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}"
QUOTED = "<iframe srcdoc=evil></iframe>"

ARTICLES = [
    Article("harbour", "Harbour", "Envoy Ada Berg reopened the harbour on May 4. It rained."),
    Article("bread", "Bread", f"Bread got dearer in Oslo. The minister blamed {QUOTED} rain."),
    Article("bridge", f"Bridge {ATTACK}", "The bridge was closed by engineer Omar Diallo."),
    Article("zoo", "Zoo", "A tiger was born in the zoo of Lund in winter."),
]


def question(name: str, text: str, answers: list[list[str]], *evidence: Evidence) -> SetQuestion:
    kind = QuestionType.WHO if evidence else QuestionType.UNANSWERABLE
    return SetQuestion(name, kind, text, tuple(map(tuple, answers)), evidence)


QUESTIONS = [
    question(
        "who-harbour",
        "who reopened the harbour",
        [["Ada Berg"]],
        Evidence("harbour", "Envoy Ada Berg reopened the harbour on May 4."),
    ),
    question(
        "who-blamed",
        "which minister blamed rain",
        [["Oslo"]],
        Evidence("bread", "Bread got dearer in Oslo."),
    ),
    question(
        "attack",
        f"who closed it {ATTACK}",
        [["Omar"]],
        Evidence("bridge", "The bridge was closed by engineer Omar Diallo."),
    ),
    question("none", "what do the aliens want", []),
]


def own_set(questions: list[SetQuestion] = QUESTIONS) -> EvaluationSet:
    asked = [each for each in questions if each.evidence]
    qrels = {each.id: {e.article: 1 for e in each.evidence} for each in asked}
    return EvaluationSet("own", [], {each.id: each.text for each in asked}, qrels, questions)


class SureSearcher(Searcher):
    """Half sure of everything but what words find well; answers over one half."""

    def ask(self, question: str, **options: Any) -> Answer:
        answer = super().ask(question, **options)
        words = answer.citations[0].hit.scores.lexical if answer.citations else 0.0
        confidence = 1 - 0.5 ** (words / 2)
        return replace(answer, confidence=confidence, answered=confidence > 0.5)


def evaluated(
    folder: Path, asked: EvaluationSet | None = None, kind: type[Searcher] = SureSearcher
) -> Evaluation:
    """The evaluation of `own_set()`, or of another about the same articles."""
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), *ARTICLES)
        return evaluate(kind(archive, FakeEncoder()), asked or own_set())
