"""What `rag bench` measures. Durations are never compared: only what is counted, and the shape."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rag import benching, benchmark
from rag.archive import Archive
from rag.benchmark import (
    Served,
    disk,
    encoding_rate,
    grown,
    in_process,
    ingest_rate,
    lengths,
    product_rate,
    resident_bytes,
    served,
    start_up,
    stored_texts,
)
from rag.errors import InvalidRequest, NotReady
from rag.ingest import encoder_input
from rag.models import DEFAULT_MODEL
from rag.searcher import Searcher
from rag.types import Article, Encoding
from tests.fakes import FakeEncoder

ARTICLES = [
    Article(
        id=f"a{number}",
        title=f"Storm {number}",
        text=f"Mayor{number} warned of the storm on 3 May. The levee at place{number} held.",
    )
    for number in range(12)
]
QUESTIONS = [f"who warned of the storm at place{number} and when" for number in range(12)]


@pytest.fixture(name="index")
def _index(tmp_path: Path) -> Path:
    ingest_rate(tmp_path / "index", FakeEncoder(), ARTICLES)
    return tmp_path / "index"


def test_ingest_is_measured_on_a_real_archive(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    found = ingest_rate(tmp_path, encoder, ARTICLES)
    with closing(Archive(tmp_path)) as archive:
        assert archive.check() == []
        with archive.reading() as reading:
            assert reading is not None
            assert reading.counts() == (found["articles"], found["passages"])
    assert found["articles"] == len(ARTICLES)
    texts = [encoder_input(each.title, each.text) for each in ARTICLES]
    assert found["tokens"] == sum(each.tokens for each in encoder.encode_passages(texts))
    assert set(found["stages_s"]) == {"encode", "publish", "chunk and rest"}
    assert sum(found["stages_s"].values()) == pytest.approx(found["seconds"])
    assert found["articles_per_s"] == pytest.approx(len(ARTICLES) / found["seconds"])


class Slow(FakeEncoder):
    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        time.sleep(0.05)
        return super().encode_passages(texts)


def test_the_rate_of_encoding_counts_tokens_and_whole_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "product_rate", lambda: 21.3e9)
    found = encoding_rate(Slow(name=DEFAULT_MODEL), ["one two", "three"], 3)
    tokens = sum(e.tokens for e in FakeEncoder().encode_passages(["one two", "three"]))
    assert (found["texts"], found["rounds"], found["tokens"]) == (2, 3, tokens)
    assert 0 < found["tokens_per_s"] <= tokens / 0.05
    assert found["of_product_rate"] == pytest.approx(found["tokens_per_s"] / 1000)
    assert encoding_rate(FakeEncoder(), ["one"], 1)["of_product_rate"] is None


def test_the_rate_of_products_is_that_of_a_machine() -> None:
    assert 1e8 < product_rate(0.01) < 1e14


def test_questions_are_timed_one_by_one(index: Path) -> None:
    with closing(Archive(index)) as archive:
        found = in_process(Searcher(archive, FakeEncoder()), QUESTIONS, 3)
    assert (found["clients"], found["questions"]) == (3, len(QUESTIONS))
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert {"encode", "retrieve", "rerank", "total"} <= set(found["steps_ms"])
    assert found["steps_ms"]["total"] <= found["p99_ms"]


def test_short_questions_are_the_beginnings_of_whole_ones() -> None:
    found = lengths([*QUESTIONS, "who"])
    assert found["whole"] == [*QUESTIONS, "who"]
    assert found["short"][0] == "who warned of the storm at"
    assert found["short"][-1] == "who"


def test_disk_is_counted_a_passage(index: Path) -> None:
    found = disk(index)
    assert (found["articles"], found["passages"]) == (12, 12)
    (base,) = index.glob("dense.*.faiss")
    assert found["bytes_per_passage"]["dense"] * 12 == pytest.approx(base.stat().st_size)
    assert found["bytes_per_passage"]["library"] > 1000


def test_texts_are_what_the_model_was_given(index: Path) -> None:
    every = stored_texts(index, 100)
    assert every == [encoder_input(each.title, each.text) for each in ARTICLES]
    assert stored_texts(index, 3) == [every[0], every[5], every[11]]


def test_memory_is_that_of_the_process() -> None:
    mine = resident_bytes(os.getpid())
    assert mine is not None
    assert 10_000_000 < mine < 100_000_000_000
    assert resident_bytes(2**22 + 1) is None


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "library.db").write_text("no database")
    with pytest.raises(NotReady, match="did not start"), served(tmp_path, "who"):
        pass


def test_made_up_archives_are_asked(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "served", answering)
    monkeypatch.setattr(benchmark, "_load", answers)
    found = grown(index, tmp_path / "made", FakeEncoder(), QUESTIONS, 40)
    assert found["passages"] == found["disk"]["passages"] == 40
    assert [each["where"] for each in found["asked"]] == ["process", "http"]
    assert found["asked"][1]["resident_bytes"] > 10_000_000


@contextmanager
def answering(index: Path, question: str) -> Iterator[Served]:
    yield Served(str(index), os.getpid(), 0.5)


def answers(url: str, questions: Sequence[str], clients: int) -> dict[str, Any]:
    number = len(questions)
    return {"seconds": 2.0, "latency_ms": [3.0] * number, "took_ms": [{"total": 2.0}] * number}


@pytest.mark.model
def test_a_real_server_is_started_and_measured(tmp_path: Path, real_encoder: Any) -> None:
    ingest_rate(tmp_path, real_encoder, ARTICLES[:3])
    found = start_up(tmp_path, QUESTIONS[0], 1)
    assert found["serve_s"] > 0
    assert found["ask_s"] > 0
    assert found["resident_bytes"] > 10_000_000
    with served(tmp_path, QUESTIONS[0]) as server:
        http = benchmark.over_http(server.url, QUESTIONS, 4)
        assert server.first_answer_s > 0
    assert (http["clients"], http["questions"]) == (4, len(QUESTIONS))
    assert http["steps_ms"]["total"] < http["p99_ms"]
    assert http["per_s"] > 0


@pytest.mark.model
def test_questions_are_timed_while_articles_come_in(tmp_path: Path, real_encoder: Any) -> None:
    ingest_rate(tmp_path, real_encoder, ARTICLES[:3])
    found = benchmark.while_adding(tmp_path, QUESTIONS, ARTICLES)
    with closing(Archive(tmp_path)) as archive, archive.reading() as reading:
        assert reading is not None
        assert reading.counts()[0] == 3  # what was added is removed
        assert reading.generation == 2 + found["articles"]
    assert found["questions"] == found["alone"]["questions"] == len(QUESTIONS)
    assert found["articles"] > 0
    assert found["articles_per_s"] > 0


class Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"detail": "full"}')

    def log_message(self, *arguments: object) -> None:
        pass


def test_an_article_that_is_not_taken_ends_the_measurement() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(NotReady, match="did not take an article"):
            benchmark._add(url, ARTICLES, threading.Event())
        server.shutdown()


# The command


@pytest.mark.parametrize("given", ["x", "0", "1000,-1", "1.5"])
def test_sizes_that_are_no_numbers_are_refused(given: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a list of numbers"):
        benching._numbers("passages", given)
    assert benching._numbers("passages", "") == []


def test_what_cannot_be_done_is_said_before_anything_is_measured(rag: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "other.json").write_text('{"growth": []}')
    (tmp_path / "empty.json").write_text(json.dumps({name: [] for name in benching.REPORTED}))
    plot, empty = ("--plot", str(tmp_path / "growth.svg")), ("--from", str(tmp_path / "empty.json"))
    for field, *given in (
        ("clients", "--clients", ""),
        ("out", "--out", str(tmp_path / "file" / "out.json")),
        ("plot", "--plot", str(tmp_path / "file" / "growth.svg")),
        ("plot", *plot, "--passages", ""),
        ("plot", *plot, *empty),
        ("from", "--from", str(tmp_path / "none.json")),
        ("from", "--from", str(tmp_path / "file")),
        ("from", "--from", str(tmp_path / "other.json")),
        ("from", *empty, "--index", str(tmp_path / "index")),
        ("from", *empty, str(tmp_path)),
    ):
        done = rag("bench", *given, "--json")
        assert done.code == 2
        assert done.json["error"]["type"] == "InvalidRequest"
        assert done.json["error"]["detail"].startswith(f"{field}: ")
        assert "adding" not in done.err


def test_a_folder_that_is_not_empty_is_left_alone(rag: Any, index: Path, tmp_path: Path) -> None:
    before = sorted(index.iterdir())
    done = rag("bench", "--index", str(index), "--json")
    assert done.code == 2
    assert done.json["error"]["type"] == "InvalidRequest"
    assert sorted(index.iterdir()) == before


def test_the_command_prints_tables_and_writes_json(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "served", answering)
    monkeypatch.setattr(benchmark, "_load", answers)
    monkeypatch.setattr(benchmark, "product_rate", lambda: 1e9)
    monkeypatch.setattr(
        benchmark, "start_up", lambda *_: {"serve_s": 1.5, "ask_s": 1.2, "resident_bytes": 2e8}
    )
    monkeypatch.setattr(benchmark, "_add", lambda *_: {"ids": ["a0"], "articles_per_s": 6.25})
    corpus = "\n".join(
        json.dumps({"_id": a.id, "title": a.title, "text": a.text}) for a in ARTICLES
    )
    (tmp_path / "corpus.jsonl").write_text(corpus)
    queries = [json.dumps({"_id": str(at), "text": q}) for at, q in enumerate(QUESTIONS)]
    (tmp_path / "queries.jsonl").write_text("\n".join(queries))
    rows = "\n".join(f"{at}\ta{at}\t1" for at in range(len(QUESTIONS)))
    (tmp_path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}\n")
    out = tmp_path / "bench.json"
    files = ("--out", str(out), "--plot", str(tmp_path / "growth.svg"))
    done = rag("bench", str(tmp_path), "--passages", "20", "--clients", "1,2", *files)
    assert done.code == 0
    for words in (
        "12 articles, 12 passages",
        "tokens/s",
        "serve 1.50 s",
        "short, http",
        "rerank",
        "6.2 articles",
    ):
        assert words in done.out
    report = json.loads(out.read_text())
    assert [(q["length"], q["where"], q["clients"]) for q in report["questions"]] == [
        (length, where, clients)
        for length in ("short", "whole")
        for where in ("process", "http")
        for clients in (1, 2)
    ]
    assert report["growth"][0]["passages"] == 20
    assert "12 articles" in done.err
    assert report.keys() == benching.REPORTED
    drawn = (tmp_path / "growth.svg").read_text()
    assert "20 passages: " in drawn
    again = rag("bench", "--from", str(out), "--plot", str(tmp_path / "again.svg"))
    assert (again.code, again.out, again.err) == (0, done.out, "")
    assert (tmp_path / "again.svg").read_text() == drawn
    (tmp_path / "torn.json").write_text(json.dumps(report | {"encode": {}}))
    shown = rag("bench", "--from", str(tmp_path / "torn.json"))
    assert shown.code == 2
    assert "torn.json cannot be shown" in shown.err
