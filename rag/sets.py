"""Evaluation sets: a folder in BEIR form, or a question set of one's own.

BEIR form (Thakur and others 2021, arXiv:2104.08663): `corpus.jsonl`, `queries.jsonl` and
`qrels.tsv` or `qrels/test.tsv`, plain or gzipped. A question set is one JSON Lines file; the README
of `eval/` gives its fields.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from rag.dates import parse_iso
from rag.errors import InvalidRequest, UnreadableItem
from rag.normalise import article_from_fields
from rag.read import read_paths
from rag.types import Article, Unreadable


class QuestionType(StrEnum):
    """What a question asks for."""

    WHO = "who"
    WHEN = "when"
    WHERE = "where"
    HOW_MANY = "how_many"
    WHAT = "what"
    WHY = "why"
    SEVERAL = "several"
    UNANSWERABLE = "unanswerable"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Whole sentences of an article that answer a question, verbatim."""

    article: str
    quote: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what answers it: every fact of `answers`, in one of its spellings, stands in
    each evidence. One that the archive does not answer has neither. `asked_at` is the ISO date
    that "last week" counts from."""

    id: str
    type: QuestionType
    text: str
    answers: tuple[tuple[str, ...], ...]
    evidence: tuple[Evidence, ...]
    asked_at: str | None = None


@dataclass(frozen=True, slots=True)
class BeirSet:
    """Where the parts of a set in BEIR form are."""

    name: str
    corpus: Path
    queries: Path
    qrels: Path


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What is asked, and of which articles. `qrels`: by query id, the relevance of each article.

    `questions` are those of an own set, the unanswerable ones included; none for BEIR. `asked_at`:
    by query id, the ISO date on which it was asked, where that is known.
    """

    name: str
    articles: Iterable[Article | Unreadable]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    questions: Sequence[Question] = ()
    asked_at: Mapping[str, str] = field(default_factory=dict)


def open_set(path: Path, about: Path | None, *, max_text_bytes: int) -> EvaluationSet:
    """The set at `path`: a BEIR folder, or a question set about the articles in folder `about`.

    Without `about` the articles are taken to be in the archive. Raises InvalidRequest.
    """
    if path.is_dir():
        beir = open_beir(path)
        articles = beir_articles(beir, max_text_bytes=max_text_bytes)
        queries, qrels = beir_queries(beir), beir_qrels(beir)
        return EvaluationSet(beir.name, articles, queries, qrels, asked_at=beir_asked_at(beir))
    if about is not None and not about.is_dir():
        raise InvalidRequest("articles", f"there is no folder {about}")
    questions = read_questions(path)
    qrels = {q.id: {e.article: 1 for e in q.evidence} for q in questions if q.evidence}
    queries = {q.id: q.text for q in questions if q.evidence}
    if not queries:
        raise InvalidRequest("set", f"{path} holds no question that has evidence")
    found = read_paths([about] if about else [], max_text_bytes=max_text_bytes)
    asked_at = {q.id: q.asked_at for q in questions if q.asked_at}
    return EvaluationSet(path.stem, found, queries, qrels, questions, asked_at)


def open_beir(folder: Path) -> BeirSet:
    """The set in `folder`. Raises InvalidRequest naming the part that is missing."""
    parts = {
        "corpus": _part(folder, "corpus.jsonl"),
        "queries": _part(folder, "queries.jsonl"),
        "qrels": _part(folder, "qrels.tsv") or _part(folder, "qrels/test.tsv"),
    }
    for name, file in parts.items():
        if file is None:
            raise InvalidRequest("set", f"{folder} has no {name} in BEIR form")
    return BeirSet(folder.resolve().name, **{name: file for name, file in parts.items() if file})


def beir_articles(beir: BeirSet, *, max_text_bytes: int) -> Iterator[Article | Unreadable]:
    """The documents of the corpus as articles. None is dropped: one that has neither a title nor a
    text is judged all the same, and gets its id for a title. One that has no `published_at` was
    published at `metadata.date`."""
    for at, record in _records(beir.corpus):
        item = f"{beir.corpus.name}:{at}"
        words = f"{record.get('title') or ''}{record.get('text') or ''}".strip()
        fields = record if words else record | {"title": str(record.get("_id"))}
        if "published_at" not in fields and (day := _metadata_date(record, "date")):
            fields = fields | {"published_at": day}
        try:
            yield article_from_fields(fields, item=item, max_text_bytes=max_text_bytes)
        except UnreadableItem as error:
            yield Unreadable(error.item, error.reason)


def beir_queries(beir: BeirSet) -> dict[str, str]:
    """Query texts by query id, those that are judged."""
    judged = beir_qrels(beir)
    texts: dict[str, str] = {}
    for at, fields in _records(beir.queries):
        query_id, text = fields.get("_id"), fields.get("text")
        if query_id is None or not (isinstance(text, str) and text.strip()):
            raise InvalidRequest("set", f"{beir.queries}:{at} has no _id or no text")
        texts[str(query_id)] = text
    missing = judged.keys() - texts.keys()
    if missing:
        raise InvalidRequest("set", f"{beir.queries} lacks the judged query {min(missing)}")
    return {query_id: text for query_id, text in texts.items() if query_id in judged}


def beir_asked_at(beir: BeirSet) -> dict[str, str]:
    """By query id, the ISO date of `metadata.asked_at` or `metadata.date`, where it is one."""
    found = {
        str(fields.get("_id")): _metadata_date(fields, "asked_at", "date")
        for _, fields in _records(beir.queries)
    }
    return {query_id: day for query_id, day in found.items() if day}


def _metadata_date(record: Mapping[str, Any], *names: str) -> str | None:
    """The first of `names` in a record's metadata, if that is a date; "2024/01/05" is one too."""
    metadata = record.get("metadata")
    values = [metadata.get(name) for name in names] if isinstance(metadata, dict) else []
    with suppress(ValueError):
        return parse_iso(str(next(filter(None, values), "")).replace("/", "-")).iso
    return None


def beir_qrels(beir: BeirSet) -> dict[str, dict[str, int]]:
    """Judgements: by query id, the relevance of each document by its article's id."""
    qrels: dict[str, dict[str, int]] = {}
    with _text(beir.qrels) as stream:
        for at, row in enumerate(csv.reader(stream, delimiter="\t"), start=1):
            if not row or (at == 1 and not row[-1].lstrip("-").isdigit()):
                continue
            try:
                query_id, document_id, relevance = row
                qrels.setdefault(query_id, {})[_article_id(document_id)] = int(relevance)
            except ValueError:
                problem = f"{beir.qrels}:{at} is not query id, document id, relevance"
                raise InvalidRequest("set", problem) from None
    if not qrels:
        raise InvalidRequest("set", f"{beir.qrels} holds no judgement")
    return qrels


def read_questions(file: Path) -> list[Question]:
    """A question set. Raises InvalidRequest naming the line that is wrong."""
    questions: dict[str, Question] = {}
    for at, fields in _records(file):
        try:
            question = _question(fields)
            if question.id in questions:
                raise ValueError(f"the id {question.id} is another's too")
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequest("set", f"{file}:{at} is not a question: {error!r}") from None
        questions[question.id] = question
    if not questions:
        raise InvalidRequest("set", f"{file} holds no question")
    return list(questions.values())


def _question(fields: dict[str, Any]) -> Question:
    if not all(isinstance(spellings, list) for spellings in fields["answers"]):
        raise TypeError("each of the answers is a list of spellings")
    question = Question(
        id=str(fields["id"]),
        type=QuestionType(fields["type"]),
        text=str(fields["question"]),
        answers=tuple(tuple(str(s) for s in spellings) for spellings in fields["answers"]),
        evidence=tuple(Evidence(str(e["article"]), str(e["quote"])) for e in fields["evidence"]),
        asked_at=parse_iso(str(fields["asked_at"])).iso if "asked_at" in fields else None,
    )
    if (question.type is QuestionType.UNANSWERABLE) == bool(question.evidence):
        raise ValueError("evidence goes with every type but unanswerable")
    return question


def _article_id(document_id: str) -> str:
    """The id that `beir_articles` gives the article of a document."""
    fields = {"_id": document_id, "title": "any"}
    return article_from_fields(fields, item=document_id, max_text_bytes=0).id


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and fields of each line."""
    with _text(file) as stream:
        for at, line in enumerate(stream, start=1):
            if line.strip():
                yield at, _fields(line, f"{file}:{at}")


def _fields(line: str, place: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("set", f"{place} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("set", f"{place} is not a JSON object")
    return fields


@contextmanager
def _text(file: Path) -> Iterator[TextIO]:
    """The text in a file, plain or gzipped. Raises InvalidRequest where it cannot be read."""
    try:
        with (
            gzip.open(file, "rt", encoding="utf-8", newline="")
            if file.suffix == ".gz"
            else file.open(encoding="utf-8", newline="")
        ) as stream:
            yield stream
    except (OSError, EOFError, UnicodeError, zlib.error, csv.Error) as error:
        raise InvalidRequest("set", f"{file} cannot be read: {error}") from None


def _part(folder: Path, name: str) -> Path | None:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    return None
