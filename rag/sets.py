"""Evaluation sets: a folder in BEIR form, or a question set of one's own.

BEIR form (Thakur and others 2021, arXiv:2104.08663): `corpus.jsonl`, `queries.jsonl` and
`qrels.tsv` or `qrels/test.tsv`, plain or gzipped. A question set is one JSON Lines file; the README
of `eval/` gives its fields. Either can be narrowed by what its queries say of themselves.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from rag.dates import parse_iso
from rag.errors import InvalidRequest, UnreadableItem
from rag.normalise import article_from_fields
from rag.read import read_paths
from rag.types import Article, Unreadable

Where = Mapping[str, Any]
"""Conditions on queries: by key, the JSON value that it must have."""

NOWHERE: Where = {}


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
class SetQuestion:
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
    by the id of a query or question, the ISO date on which it was asked, where that is known.
    """

    name: str
    articles: Iterable[Article | Unreadable]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    questions: Sequence[SetQuestion] = ()
    asked_at: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> Mapping[str, str]:
        """All that is asked, by id: the queries, and the unanswerable questions of an own set."""
        return {question.id: question.text for question in self.questions} or self.queries

    @property
    def sha256(self) -> str:
        """Hex digest of what is asked, when, and what is right; equal digests, comparable
        figures."""
        own = [(q.id, q.text, q.answers) for q in self.questions]
        asked = [self.queries, self.qrels, own, self.asked_at]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def open_set(
    path: Path, about: Path | None, *, max_text_bytes: int, where: Where = NOWHERE
) -> EvaluationSet:
    """The set at `path`: a BEIR folder, or a question set about the articles in folder `about`.

    Without `about` the articles are taken to be in the archive. `where` takes only the queries that
    have these values: in their `metadata` in BEIR form, in their own fields in a question set.
    Raises InvalidRequest.
    """
    if path.is_dir():
        return _beir_set(open_beir(path), max_text_bytes, where)
    if about is not None and not about.is_dir():
        raise InvalidRequest("articles", f"there is no folder {about}")
    questions = read_questions(path, where)
    qrels = {q.id: {e.article: 1 for e in q.evidence} for q in questions if q.evidence}
    queries = {q.id: q.text for q in questions if q.evidence}
    if not queries:
        raise InvalidRequest("set", f"{path} holds no question that has evidence")
    found = read_paths([about] if about else [], max_text_bytes=max_text_bytes)
    dates = {q.id: q.asked_at for q in questions if q.asked_at}
    return EvaluationSet(_named(path.stem, where), found, queries, qrels, questions, dates)


def parse_where(conditions: Iterable[str]) -> dict[str, Any]:
    """Conditions such as `answerable=true` or `split=dev` by key; the value is JSON, or else text.

    Raises InvalidRequest.
    """
    where: dict[str, Any] = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not key or not equals or key in where:
            raise InvalidRequest("where", f"{condition!r} is not KEY=VALUE, each key once")
        try:
            where[key] = json.loads(value)
        except (ValueError, RecursionError):
            where[key] = value
    return where


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
        day = _date(_metadata(record), "date")
        if day and "published_at" not in fields:
            fields = fields | {"published_at": day}
        try:
            yield article_from_fields(fields, item=item, max_text_bytes=max_text_bytes)
        except UnreadableItem as error:
            yield Unreadable(error.item, error.reason)


def beir_queries(beir: BeirSet, where: Where = NOWHERE) -> dict[str, str]:
    """Query texts by query id, those that are judged and have the values of `where`."""
    return {query_id: text for query_id, text, _ in _beir_queries(beir, beir_qrels(beir), where)}


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


def read_questions(file: Path, where: Where = NOWHERE) -> list[SetQuestion]:
    """A question set. Raises InvalidRequest naming the line that is wrong."""
    questions: dict[str, SetQuestion] = {}
    for at, fields in _records(file):
        if not _has(fields, where):
            continue
        try:
            question = _question(fields)
            if question.id in questions:
                raise ValueError(f"the id {question.id} is another's too")
        except KeyError as error:
            raise InvalidRequest("set", f"{file}:{at} lacks the field {error}") from None
        except (TypeError, ValueError) as error:
            raise InvalidRequest("set", f"{file}:{at} is not a question: {error}") from None
        questions[question.id] = question
    if not questions:
        raise _none_chosen(file, where) if where else InvalidRequest("set", f"{file} is empty")
    return list(questions.values())


def _beir_set(beir: BeirSet, max_text_bytes: int, where: Where) -> EvaluationSet:
    qrels = beir_qrels(beir)
    queries = list(_beir_queries(beir, qrels, where))
    return EvaluationSet(
        _named(beir.name, where),
        beir_articles(beir, max_text_bytes=max_text_bytes),
        {query_id: text for query_id, text, _ in queries},
        {query_id: qrels[query_id] for query_id, _, _ in queries},
        asked_at={query_id: date for query_id, _, date in queries if date},
    )


def _beir_queries(
    beir: BeirSet, judged: Mapping[str, object], where: Where
) -> Iterator[tuple[str, str, str | None]]:
    """Id, text and date of the judged queries that are chosen, in the order of the file."""
    chosen: dict[str, tuple[str, str | None] | None] = {}
    for at, fields in _records(beir.queries):
        query_id, text = fields.get("_id"), fields.get("text")
        if query_id is None or not (isinstance(text, str) and text.strip()):
            raise InvalidRequest("set", f"{beir.queries}:{at} has no _id or no text")
        metadata = _metadata(fields)
        asked_at = _date(metadata, "asked_at", "date")
        chosen[str(query_id)] = (text, asked_at) if _has(metadata, where) else None
    missing = judged.keys() - chosen.keys()
    if missing:
        raise InvalidRequest("set", f"{beir.queries} lacks the judged query {min(missing)}")
    found = [(name, *each) for name, each in chosen.items() if each and name in judged]
    if not found:
        raise _none_chosen(beir.queries, where)
    yield from found


def _has(fields: Mapping[str, Any], where: Where) -> bool:
    """Whether the fields have these values, as JSON compares them: 1 is not true."""
    return all(
        key in fields and json.dumps(fields[key], sort_keys=True) == json.dumps(v, sort_keys=True)
        for key, v in where.items()
    )


def _none_chosen(file: Path, where: Where) -> InvalidRequest:
    wanted = " and ".join(f"{key} = {json.dumps(value)}" for key, value in where.items())
    return InvalidRequest("where", f"no judged query in {file} has {wanted}")


def _named(name: str, where: Where) -> str:
    """The name of a set, with what it was narrowed by: figures of a part are not those of all."""
    told = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in sorted(where.items())
    ]
    return ",".join([name, *told])


def _metadata(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a document or query in BEIR form says of itself."""
    told = record.get("metadata")
    return told if isinstance(told, dict) else {}


def _date(metadata: Mapping[str, Any], *names: str) -> str | None:
    """The first of `names` that is told, as an ISO date; None where that is no date."""
    told = next((metadata[name] for name in names if metadata.get(name)), None)
    try:
        return _iso(told) if isinstance(told, str) else None
    except ValueError:
        return None


def _iso(told: str) -> str:
    """An ISO date or date-time; "2024/01/05" is one too. ValueError otherwise."""
    return parse_iso(told.replace("/", "-")).iso


def _question(fields: dict[str, Any]) -> SetQuestion:
    if fields.get("type") == QuestionType.UNANSWERABLE:
        fields = {"answers": [], "evidence": []} | fields
    if not all(isinstance(spellings, list) for spellings in fields["answers"]):
        raise TypeError("each of the answers is a list of spellings")
    question = SetQuestion(
        id=str(fields["id"]),
        type=QuestionType(fields["type"]),
        text=str(fields["question"]),
        answers=tuple(tuple(str(s) for s in spellings) for spellings in fields["answers"]),
        evidence=tuple(Evidence(str(e["article"]), str(e["quote"])) for e in fields["evidence"]),
        asked_at=_iso(str(fields["asked_at"])) if "asked_at" in fields else None,
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
