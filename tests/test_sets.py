"""Evaluation sets: read whole or refused by file and line; our own questions are sound."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rag.chunk import sentences
from rag.errors import InvalidRequest
from rag.interpret import interpret
from rag.naming import source_names
from rag.read import read_paths
from rag.sets import (
    QuestionType,
    SetQuestion,
    beir_articles,
    beir_qrels,
    beir_queries,
    open_beir,
    open_set,
    parse_where,
    read_questions,
)
from rag.types import Article, Unreadable

HERE = Path(__file__).parent.parent
SEEDS, QUESTIONS = HERE / "seeds", HERE / "eval" / "questions.jsonl"
CUES = HERE / "eval" / "cues.jsonl"
LIMIT = 10_000

CORPUS: list[dict[str, Any]] = [
    {
        "_id": "MED-10",
        "title": "Rain",
        "text": "It rained.",
        "metadata": {"url": "https://n.example", "date": "2024/01/05"},
    },
    {"_id": "2", "title": "", "text": "It snowed.\r\nA lot."},
    {"_id": "empty", "title": "", "text": " "},
    {"_id": "<dbpedia:Café>", "title": "Café", "text": ""},
]
QUERIES: list[dict[str, Any]] = [
    {"_id": "q1", "text": "was there rain"},
    {"_id": "q2", "text": "was there snow"},
    {"_id": "q3", "text": "nobody judged this"},
]
QRELS = "q1\tMED-10\t2\nq1\t2\t0\nq2\t2\t1\n"
HEADER = "query-id\tcorpus-id\tscore\n"

QUESTION: dict[str, Any] = {
    "id": "one",
    "type": "who",
    "question": "who spoke",
    "answers": [["Vera Okafor", "Okafor"]],
    "evidence": [{"article": "a", "quote": "Vera Okafor spoke."}],
}


def lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def beir_folder(folder: Path, *, gz: bool = False, **parts: bytes) -> Path:
    """A BEIR folder; `parts` replaces what is in one of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "corpus.jsonl": parts.get("corpus", lines(CORPUS)),
        "queries.jsonl": parts.get("queries", lines(QUERIES)),
        "qrels.tsv": parts.get("qrels", (HEADER + QRELS).encode()),
    }
    for name, content in contents.items():
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        call()
    return str(caught.value)


# BEIR form

ABOUT = [
    {"split": "dev", "answerable": True, "n": 1, "date": "2024/01/05"},
    {"split": "dev", "answerable": False, "n": True, "asked_at": "2024-02-01T08:00:00+01:00"},
    {"split": "test", "answerable": "true", "date": "last week"},
]


def told(folder: Path) -> Path:
    """A BEIR folder whose queries, all judged, say something of themselves."""
    queries = [{**q, "metadata": m} for q, m in zip(QUERIES, ABOUT, strict=True)]
    return beir_folder(folder, queries=lines(queries), qrels=(QRELS + "q3\t2\t1\n").encode())


@pytest.mark.parametrize(
    ("conditions", "queries"),
    [
        (["split=dev"], ["q1", "q2"]),
        (['split="dev"'], ["q1", "q2"]),
        (["answerable=true"], ["q1"]),
        (['answerable="true"'], ["q3"]),
        (["split=dev", "answerable=false"], ["q2"]),
        (["n=1"], ["q1"]),  # 1 is not true
        (["n=true"], ["q2"]),
    ],
)
def test_a_set_narrowed_by_what_its_queries_say(
    conditions: list[str], queries: list[str], tmp_path: Path
) -> None:
    where = parse_where(conditions)
    found = open_set(told(tmp_path / "weather"), None, max_text_bytes=LIMIT, where=where)
    assert list(found.queries) == list(found.qrels) == queries
    assert found.name.startswith("weather,")
    whole = open_set(told(tmp_path / "weather"), None, max_text_bytes=LIMIT)
    assert (whole.name, len(whole.queries)) == ("weather", 3)
    assert whole.sha256 != found.sha256


def test_the_name_of_a_part_says_which(tmp_path: Path) -> None:
    where = parse_where(["split=dev", "answerable=true"])
    found = open_set(told(tmp_path / "weather"), None, max_text_bytes=LIMIT, where=where)
    assert found.name == "weather,answerable=true,split=dev"


@pytest.mark.parametrize("condition", ["answerable", "=true", ""])
def test_a_condition_that_is_none_is_refused(condition: str) -> None:
    assert "is not KEY=VALUE" in refusal(lambda: parse_where([condition]))


def test_a_condition_given_twice_is_refused() -> None:
    assert "each key once" in refusal(lambda: parse_where(["a=1", "a=2"]))


def test_a_condition_that_no_query_meets_is_refused(tmp_path: Path) -> None:
    folder = told(tmp_path / "weather")
    call = lambda: open_set(folder, None, max_text_bytes=LIMIT, where={"split": "train"})  # noqa: E731
    assert 'has split = "train"' in refusal(call)


def test_when_a_query_was_asked(tmp_path: Path) -> None:
    found = open_set(told(tmp_path / "weather"), None, max_text_bytes=LIMIT)
    assert found.asked_at == {"q1": "2024-01-05", "q2": "2024-02-01T08:00:00+01:00"}


def test_equal_questions_and_judgements_have_equal_digests(tmp_path: Path) -> None:
    one = open_set(beir_folder(tmp_path / "one"), None, max_text_bytes=LIMIT)
    corpus = beir_folder(tmp_path / "two", corpus=lines(CORPUS[:2]))
    two = open_set(corpus, None, max_text_bytes=LIMIT)
    assert one.sha256 == two.sha256  # of what is asked, whatever it is asked of
    other = beir_folder(tmp_path / "three", qrels=QRELS.replace("\t2\t0", "\t2\t1").encode())
    assert open_set(other, None, max_text_bytes=LIMIT).sha256 != one.sha256
    dated = [{**query, "metadata": {"date": "2024-01-05"}} for query in QUERIES]
    of_a_day = beir_folder(tmp_path / "four", queries=lines(dated))
    assert open_set(of_a_day, None, max_text_bytes=LIMIT).sha256 != one.sha256


def test_documents_have_the_date_of_their_metadata(tmp_path: Path) -> None:
    found = list(open_set(beir_folder(tmp_path), None, max_text_bytes=LIMIT).articles)
    dates = [each.published_at for each in found if isinstance(each, Article)]
    assert dates == ["2024-01-05", None, None, None]


def test_the_day_of_asking(tmp_path: Path) -> None:
    queries: list[dict[str, Any]] = [
        {"_id": "q1", "text": "rain", "metadata": {"date": "2024/01/05"}},
        {"_id": "q2", "text": "snow", "metadata": {"date": "2024", "asked_at": "2024-01-06"}},
        {"_id": "q3", "text": "sun", "metadata": {"date": "soon"}},
        {"_id": "q4", "text": "sun", "metadata": None},
        {"_id": "q5", "text": "sun", "metadata": {"date": 5}},
    ]
    folder = beir_folder(tmp_path, queries=lines(queries))
    found = open_set(folder, None, max_text_bytes=LIMIT)
    assert found.asked_at == {"q1": "2024-01-05", "q2": "2024-01-06"}


@pytest.mark.parametrize("gz", [False, True])
def test_a_folder_in_beir_form(gz: bool, tmp_path: Path) -> None:
    folder = beir_folder(tmp_path / "weather", gz=gz)
    found = open_set(folder, None, max_text_bytes=LIMIT)
    assert found.name == "weather"
    assert found.queries == {"q1": "was there rain", "q2": "was there snow"}
    assert found.qrels == {"q1": {"MED-10": 2, "2": 0}, "q2": {"2": 1}}
    assert found.questions == ()
    articles = list(found.articles)
    assert [item.text for item in articles if isinstance(item, Article)] == [
        "It rained.",
        "It snowed.\nA lot.",
        "",
        "",
    ]
    first = articles[0]
    assert isinstance(first, Article)
    assert (first.id, first.title, first.url) == ("MED-10", "Rain", "https://n.example")


@pytest.mark.parametrize(
    "name", ["qrels.tsv", "qrels.tsv.gz", "qrels/test.tsv", "qrels/test.tsv.gz"]
)
@pytest.mark.parametrize("header", ["", HEADER])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_judgements_in_every_form(name: str, header: str, end: str, tmp_path: Path) -> None:
    folder = beir_folder(tmp_path)
    (folder / "qrels.tsv").unlink()
    content = (header + QRELS).replace("\n", end).encode()
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    beir = open_beir(folder)
    assert beir.qrels == file
    assert beir_qrels(beir) == {"q1": {"MED-10": 2, "2": 0}, "q2": {"2": 1}}


def test_no_document_is_dropped(tmp_path: Path) -> None:
    beir = open_beir(beir_folder(tmp_path))
    articles = list(beir_articles(beir, max_text_bytes=LIMIT))
    assert len(articles) == len(CORPUS)
    empty = articles[2]
    assert isinstance(empty, Article)
    assert (empty.id, empty.title, empty.text) == ("empty", "empty", "")


def test_a_document_that_cannot_be_taken_is_named(tmp_path: Path) -> None:
    records = [CORPUS[0], {"_id": "long", "text": "x" * (LIMIT + 1)}, {"_id": "odd", "text": 5}]
    beir = open_beir(beir_folder(tmp_path, corpus=lines(records)))
    first, *others = beir_articles(beir, max_text_bytes=LIMIT)
    assert isinstance(first, Article)
    assert [item.item for item in others if isinstance(item, Unreadable)] == [
        "corpus.jsonl:2",
        "corpus.jsonl:3",
    ]


def test_a_document_is_judged_under_the_id_that_it_gets(tmp_path: Path) -> None:
    qrels = HEADER + "q1\t<dbpedia:Café>\t1\nq1\tMED-10\t2\n"
    beir = open_beir(beir_folder(tmp_path, qrels=qrels.encode()))
    ids = [
        item.id for item in beir_articles(beir, max_text_bytes=LIMIT) if isinstance(item, Article)
    ]
    assert beir_qrels(beir) == {"q1": {ids[3]: 1, ids[0]: 2}}
    assert ids[0] == "MED-10"


@pytest.mark.parametrize("part", ["corpus", "queries", "qrels"])
def test_a_part_that_is_missing_is_named(part: str, tmp_path: Path) -> None:
    folder = beir_folder(tmp_path)
    (file,) = folder.glob(f"{part}.*")
    file.unlink()
    assert f"has no {part} in BEIR form" in refusal(lambda: open_beir(folder))


def test_a_judged_query_without_a_text_is_named(tmp_path: Path) -> None:
    beir = open_beir(beir_folder(tmp_path, qrels=b"q7\t2\t1\nq1\t2\t1\n"))
    assert "lacks the judged query q7" in refusal(lambda: beir_queries(beir))


@pytest.mark.parametrize(
    ("qrels", "place"),
    [
        ("q1\t2\t1\nq1\t2\n", "qrels.tsv:2"),
        ("q1\t2\t1\nq1\t2\tmuch\n", "qrels.tsv:2"),
        (HEADER + "q1\t2\t1\t1\n", "qrels.tsv:2"),
        ("q1\t2\t1\n\nq1 2 1\n", "qrels.tsv:3"),
        ("q1\t2\t1\nq1\t2\t1.5\n", "qrels.tsv:2"),
        ("", "qrels.tsv"),
        ("\n", "qrels.tsv"),
        (HEADER, "qrels.tsv"),
        ("q1\t2\t\udcff\n", "qrels.tsv"),
    ],
)
def test_broken_judgements_are_named(qrels: str, place: str, tmp_path: Path) -> None:
    content = qrels.encode("utf-8", "surrogateescape")
    beir = open_beir(beir_folder(tmp_path, qrels=content))
    assert place in refusal(lambda: beir_qrels(beir))


@pytest.mark.parametrize(
    ("third", "problem"),
    [
        (b'{"_id": "3", "text": "x"', "JSON"),
        (b"[1, 2]", "JSON object"),
        (b'"text"', "JSON object"),
        (b"nothing", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"_id": "3", "text": "\xff"}', "queries.jsonl"),
        (b'{"text": "x"}', "_id"),
        (b'{"_id": "3"}', "text"),
        (b'{"_id": "3", "text": null}', "text"),
        (b'{"_id": "3", "text": " "}', "text"),
    ],
)
def test_a_broken_line_of_the_queries_is_named(third: bytes, problem: str, tmp_path: Path) -> None:
    content = lines(QUERIES[:2]) + third + b"\n"
    beir = open_beir(beir_folder(tmp_path, queries=content))
    found = refusal(lambda: beir_queries(beir))
    assert problem in found
    if b"\xff" not in third:
        assert "queries.jsonl:3" in found


def test_a_broken_line_of_the_corpus_is_named(tmp_path: Path) -> None:
    content = lines(CORPUS[:1]) + b"\n{\n"
    beir = open_beir(beir_folder(tmp_path, corpus=content))
    found = refusal(lambda: list(beir_articles(beir, max_text_bytes=LIMIT)))
    assert "corpus.jsonl:3" in found


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "queries.jsonl.gz", "qrels.tsv.gz"])
@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped"])
def test_a_torn_archive_is_named(name: str, damage: str, tmp_path: Path) -> None:
    folder = beir_folder(tmp_path, gz=True)
    content = bytearray((folder / name).read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"plain text\n")
    (folder / name).write_bytes(content)

    def read() -> object:
        found = open_set(folder, None, max_text_bytes=LIMIT)
        return list(found.articles)

    assert name in refusal(read)


# Question sets


def write(file: Path, *records: Mapping[str, Any]) -> Path:
    file.write_bytes(lines(records))
    return file


def test_a_question_set(tmp_path: Path) -> None:
    none = {"id": "two", "type": "unanswerable", "question": "who", "answers": [], "evidence": []}
    file = write(tmp_path / "own.jsonl", QUESTION, none)
    first, second = read_questions(file)
    assert first.type is QuestionType.WHO
    assert first.answers == (("Vera Okafor", "Okafor"),)
    assert (first.evidence[0].article, first.evidence[0].quote) == ("a", "Vera Okafor spoke.")
    assert second == SetQuestion("two", QuestionType.UNANSWERABLE, "who", (), ())
    found = open_set(file, None, max_text_bytes=LIMIT)
    assert found.name == "own"
    assert found.queries == {"one": "who spoke"}
    assert found.qrels == {"one": {"a": 1}}
    assert found.questions == [first, second]
    assert list(found.articles) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "whose"},
        {"answers": None},
        {"evidence": [{"article": "a"}]},
        {"evidence": ["a"]},
        {"evidence": []},
        {"type": "unanswerable"},
        {"answers": ["Vera Okafor"]},
        {"answers": "Vera Okafor"},
        {"id": "first"},
        {"asked_at": "yesterday"},
        {"asked_at": None},
    ],
)
def test_a_broken_question_is_named(changed: dict[str, Any], tmp_path: Path) -> None:
    file = write(tmp_path / "own.jsonl", QUESTION | {"id": "first"}, QUESTION | changed)
    assert "own.jsonl:2" in refusal(lambda: read_questions(file))


@pytest.mark.parametrize("field", sorted(QUESTION))
def test_a_question_that_lacks_a_field_is_named(field: str, tmp_path: Path) -> None:
    lacking = {key: value for key, value in QUESTION.items() if key != field}
    file = write(tmp_path / "own.jsonl", QUESTION | {"id": "first"}, lacking)
    assert f"own.jsonl:2 lacks the field '{field}'" in refusal(lambda: read_questions(file))


def test_an_unanswerable_question_needs_neither_answers_nor_evidence(tmp_path: Path) -> None:
    lines = {"id": "two", "type": "unanswerable", "question": "who"}
    file = write(tmp_path / "own.jsonl", lines)
    assert read_questions(file) == [SetQuestion("two", QuestionType.UNANSWERABLE, "who", (), ())]


@pytest.mark.parametrize("given", ["2025-11-23", "2025/11/23"])
def test_a_question_may_say_when_it_was_asked(given: str, tmp_path: Path) -> None:
    file = write(tmp_path / "own.jsonl", QUESTION | {"asked_at": given})
    (question,) = read_questions(file)
    assert question.asked_at == "2025-11-23"
    assert open_set(file, None, max_text_bytes=LIMIT).asked_at == {"one": "2025-11-23"}


def test_a_set_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "empty.jsonl" in refusal(lambda: read_questions(tmp_path / "empty.jsonl"))
    assert "no.jsonl" in refusal(lambda: read_questions(tmp_path / "no.jsonl"))
    file = write(tmp_path / "own.jsonl", QUESTION)
    about = tmp_path / "nowhere"
    assert "nowhere" in refusal(lambda: open_set(file, about, max_text_bytes=LIMIT))


def test_a_set_without_an_answer_in_it_is_refused(tmp_path: Path) -> None:
    none = {"id": "two", "type": "unanswerable", "question": "who", "answers": [], "evidence": []}
    file = write(tmp_path / "own.jsonl", none)
    assert "own.jsonl" in refusal(lambda: open_set(file, None, max_text_bytes=LIMIT))


# Our own


@pytest.fixture(scope="module")
def own() -> list[SetQuestion]:
    return read_questions(QUESTIONS)


@pytest.fixture(scope="module")
def every(own: list[SetQuestion]) -> list[SetQuestion]:
    return own + read_questions(CUES)


@pytest.fixture(scope="module")
def seeds() -> dict[str, Article]:
    files = sorted(file for file in SEEDS.glob("*.md") if file.name != "SOURCES.md")
    found = list(read_paths(files))
    assert all(isinstance(item, Article) for item in found)
    return {item.id: item for item in found if isinstance(item, Article)}


def test_our_questions_are_many_and_of_every_type(own: list[SetQuestion]) -> None:
    assert len(own) >= 120
    types = Counter(question.type for question in own)
    assert set(types) == set(QuestionType)
    assert min(types.values()) >= 5
    assert len({question.id for question in own}) == len(own)
    assert len({question.text.lower() for question in own}) == len(own)


def test_our_evidence_is_whole_sentences_of_the_seeds(
    every: list[SetQuestion], seeds: dict[str, Article]
) -> None:
    for question in every:
        for evidence in question.evidence:
            text = seeds[evidence.article].text
            assert text.count(evidence.quote) == 1, question.id
            start = text.index(evidence.quote)
            bounds = sentences(text)
            assert start in {each for each, _ in bounds}, question.id
            assert start + len(evidence.quote) in {each for _, each in bounds}, question.id


def test_every_fact_is_in_its_evidence(every: list[SetQuestion]) -> None:
    for question in every:
        assert all(spellings and all(spellings) for spellings in question.answers), question.id
        for evidence in question.evidence:
            for spellings in question.answers:
                assert any(each in evidence.quote for each in spellings), question.id


def test_what_is_answered_has_answers_and_evidence(every: list[SetQuestion]) -> None:
    for question in every:
        answered = question.type is not QuestionType.UNANSWERABLE
        assert bool(question.answers) == bool(question.evidence) == answered, question.id


def test_our_set_is_asked_of_the_seeds(own: list[SetQuestion], seeds: dict[str, Article]) -> None:
    found = open_set(QUESTIONS, SEEDS, max_text_bytes=LIMIT)
    articles = list(found.articles)
    assert {item.id for item in articles if isinstance(item, Article)} == seeds.keys()
    assert len(articles) == len(seeds)
    assert found.queries.keys() == found.qrels.keys()
    assert len(found.questions) == len(own)
    assert {article for judged in found.qrels.values() for article in judged} <= seeds.keys()


def test_own_questions_are_narrowed_by_their_fields_and_carry_their_date(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    dated = QUESTION | {"id": "dated", "type": "when", "asked_at": "2025-11-23"}
    file.write_bytes(lines([QUESTION, dated]))
    whole = open_set(file, None, max_text_bytes=LIMIT)
    assert whole.asked_at == {"dated": "2025-11-23"}
    part = open_set(file, None, max_text_bytes=LIMIT, where={"type": "when"})
    assert (part.name, list(part.queries)) == ("mine,type=when", ["dated"])
    assert "no judged query" in refusal(
        lambda: open_set(file, None, max_text_bytes=LIMIT, where={"type": "why"})
    )


def test_a_date_of_a_question_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(lines([QUESTION | {"asked_at": "yesterday"}]))
    assert "is not an ISO date" in refusal(lambda: read_questions(file))


def test_every_cue_of_our_questions_is_read(
    every: list[SetQuestion], seeds: dict[str, Article]
) -> None:
    names = source_names(frozenset(article.source or "" for article in seeds.values()))
    assert len({question.id for question in every}) == len(every)
    for question in read_questions(CUES):
        read = interpret(question.text, asked_at=question.asked_at or "2026-01-01", sources=names)
        assert read.periods or read.sources, question.id
        dates = [seeds[evidence.article].published_at or "" for evidence in question.evidence]
        for period in read.periods:
            assert dates >= [period.published_from or ""], question.id
        sources = {seeds[evidence.article].source for evidence in question.evidence}
        assert {each.source for each in read.sources} <= sources, question.id
