"""Speed, memory and start-up on this machine: what `rag bench` measures.

Everything is measured as a user would have it: the server is a process of its own, its clients
another one. Rates that depend on the machine are given as ratios to the rate of a matrix product
that was measured in the same run. Durations are medians unless they are called otherwise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from rag.archive import Archive, Outcome
from rag.cores import blas_threads, cores
from rag.errors import NotReady
from rag.ingest import encoder_input, fingerprint, ingest, passage_budget
from rag.load import ask, connected
from rag.models import DEFAULT_MODEL
from rag.schema import ArticleDraft
from rag.searcher import Searcher
from rag.snapshot import Fingerprint
from rag.synthetic import fill, stock
from rag.types import Answer, Article, Encoder, Encoding

FLOP_A_TOKEN = {DEFAULT_MODEL: 21.3e6}
"""Of the products with weights in one forward pass; attention is not counted."""

PRODUCT = 2048
"""Rows and columns of the square matrices that the machine's rate is measured with."""

START_S = 120
"""How long a server may take to end."""

WARM_UP = 20
"""Questions asked before time is taken."""

TITLE_CHARACTERS = 200
"""Of a title that are put before a passage; the archive keeps no tokens of it."""

SHORT_WORDS = 6
"""Words of a short question: about eight tokens."""

Measured = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is done: articles to add, questions to ask."""

    name: str
    articles: Sequence[Article]
    questions: Sequence[str]


def product_rate(seconds: float = 0.5) -> float:
    """Floating-point operations a second in float32 matrix products of numpy, with all cores."""
    some = np.random.default_rng(0)
    left, right = (some.standard_normal((PRODUCT, PRODUCT), dtype=np.float32) for _ in range(2))
    took: list[float] = []
    until = time.perf_counter() + seconds
    with blas_threads(cores()):  # elsewhere it has one
        while not took or time.perf_counter() < until:
            began = time.perf_counter()
            np.matmul(left, right)
            took.append(time.perf_counter() - began)
    return 2 * PRODUCT**3 / float(np.median(took))


def encoding_rate(encoder: Encoder, texts: Sequence[str], rounds: int) -> Measured:
    """Tokens a second of whole passes over `texts`, token vectors included, and that in parts of
    the machine's rate, which is measured before each pass."""
    rates, parts, tokens = [], [], 0
    for _ in range(rounds):
        flops = product_rate()
        began = time.perf_counter()
        tokens = sum(encoding.tokens for encoding in encoder.encode_passages(texts))
        rates.append(tokens / (time.perf_counter() - began))
        parts.append(rates[-1] * FLOP_A_TOKEN.get(encoder.name, float("nan")) / flops)
    return {
        "texts": len(texts),
        "tokens": tokens,
        "rounds": rounds,
        "tokens_per_s": float(np.median(rates)),
        "of_product_rate": None if encoder.name not in FLOP_A_TOKEN else float(np.median(parts)),
    }


class _TimedEncoder:
    """An encoder that notes how long it took, and what it saw."""

    def __init__(self, encoder: Encoder, took_s: dict[str, float]) -> None:
        self._encoder = encoder
        self._took_s = took_s
        self.tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        """As the encoder does."""
        with _timed(self._took_s, "encode"):
            found = self._encoder.encode_passages(texts)
        self.tokens += sum(encoding.tokens for encoding in found)
        return found


class _TimedArchive(Archive):
    """An archive that notes how long publishing took."""

    def __init__(self, folder: Path, took_s: dict[str, float]) -> None:
        super().__init__(folder)
        self._took_s = took_s

    def publish(
        self,
        drafts: Sequence[ArticleDraft],
        encodings: Mapping[bytes, Encoding],
        fingerprint: Fingerprint,
    ) -> Outcome:
        """As the archive does."""
        with _timed(self._took_s, "publish"):
            return super().publish(drafts, encodings, fingerprint)

    def renew_base(self) -> None:
        """As the archive does; a part of publishing to whoever waits for it."""
        with _timed(self._took_s, "publish"):
            super().renew_base()


def ingest_rate(folder: Path, encoder: Encoder, articles: Sequence[Article]) -> Measured:
    """Add all articles to a new archive at `folder`; how long each stage took."""
    took_s: dict[str, float] = defaultdict(float)
    timed = _TimedEncoder(encoder, took_s)
    with closing(_TimedArchive(folder, took_s)) as archive:
        began = time.perf_counter()
        report = ingest(archive, timed, articles)
        seconds = time.perf_counter() - began
    return {
        "articles": report.added,
        "passages": report.passages,
        "tokens": timed.tokens,
        "seconds": seconds,
        "articles_per_s": report.added / seconds,
        "tokens_per_s": timed.tokens / seconds,
        "stages_s": {**took_s, "chunk and rest": seconds - sum(took_s.values())},
    }


@dataclass(frozen=True, slots=True)
class Served:
    """A server that has answered once, so many seconds after its process was started."""

    url: str
    process: int
    first_answer_s: float

    def resident_bytes(self) -> int | None:
        """Memory of the process that is in use now; None where `ps` does not tell."""
        return resident_bytes(self.process)


def resident_bytes(process: int) -> int | None:
    """Resident memory of a process in bytes; None where `ps` does not tell."""
    try:
        told = subprocess.run(  # noqa: S603
            ["ps", "-o", "rss=", "-p", str(process)],  # noqa: S607 - whichever ps there is
            capture_output=True,
            text=True,
            check=True,
        )
        return int(told.stdout) * 1024
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


@contextmanager
def served(index: Path, question: str) -> Iterator[Served]:
    """`rag serve` over an archive, in a process of its own, once it has answered `question`."""
    command = [sys.executable, "-m", "rag.cli", "serve", "--index", str(index), "--port", "0"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert process.stderr is not None
        told = next((line for line in process.stderr if "listening on" in line), None)
        if told is None:
            raise NotReady("the server that was to be measured did not start")
        url = told.split()[-1]
        connection = connected(url)
        ask(connection, question)
        first = time.perf_counter() - began
        connection.close()
        yield Served(url, process.pid, first)
    finally:
        process.terminate()
        process.wait(START_S)
        if process.stderr is not None:
            process.stderr.close()


def start_up(index: Path, question: str, rounds: int) -> Measured:
    """Seconds from the start of a process to its first answer, and the server's memory then."""
    answers, commands, memory = [], [], []
    for _ in range(rounds):
        with served(index, question) as server:
            answers.append(server.first_answer_s)
            memory.append(server.resident_bytes())
        began = time.perf_counter()
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "rag.cli", "ask", "--index", str(index), "--json", question],
            capture_output=True,
            check=True,
        )
        commands.append(time.perf_counter() - began)
    known = [each for each in memory if each is not None]
    return {
        "rounds": rounds,
        "serve_s": float(np.median(answers)),
        "ask_s": float(np.median(commands)),
        "resident_bytes": float(np.median(known)) if known else None,
    }


def in_process(searcher: Searcher, questions: Sequence[str], clients: int) -> Measured:
    """Ask all questions in this process, from so many threads at a time."""

    def timed(question: str) -> tuple[float, Answer]:
        began = time.perf_counter()
        answer = searcher.ask(question)
        return (time.perf_counter() - began) * 1000, answer

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(timed, questions[:WARM_UP]))
        began = time.perf_counter()
        found = list(pool.map(timed, questions))
        seconds = time.perf_counter() - began
    return _latencies(
        [took for took, _ in found], [answer.took_ms for _, answer in found], clients, seconds
    )


def over_http(url: str, questions: Sequence[str], clients: int) -> Measured:
    """Have clients of another process ask all questions."""
    _load(url, questions[:WARM_UP], clients)
    found = _load(url, questions, clients)
    return _latencies(found["latency_ms"], found["took_ms"], clients, found["seconds"])


def _load(url: str, questions: Sequence[str], clients: int) -> Measured:
    command = [sys.executable, "-m", "rag.load", url, str(clients), str(len(questions))]
    told = subprocess.run(  # noqa: S603
        command, input=json.dumps(list(questions)), capture_output=True, text=True, check=True
    )
    found: Measured = json.loads(told.stdout)
    if found["failed"]:
        raise NotReady(f"the server did not answer: {found['failed'][0]}")
    return found


def _latencies(
    took_ms: Sequence[float], steps: Sequence[Mapping[str, float]], clients: int, seconds: float
) -> Measured:
    p50, p95, p99 = np.percentile(took_ms, (50, 95, 99)).tolist()
    names = list(dict.fromkeys(name for each in steps for name in each))
    return {
        "clients": clients,
        "questions": len(took_ms),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "per_s": len(took_ms) / seconds,
        "steps_ms": {
            name: float(np.median([each.get(name, 0) for each in steps])) for name in names
        },
    }


def disk(index: Path) -> Measured:
    """Bytes on the disk a passage, by part."""
    with closing(Archive(index)) as archive:
        with archive.reading() as reading:
            articles, passages = reading.counts() if reading else (0, 0)
        sizes = archive.sizes()
    return {
        "articles": articles,
        "passages": passages,
        "bytes_per_passage": {part: size / max(1, passages) for part, size in sizes.items()},
    }


def lengths(questions: Sequence[str]) -> dict[str, list[str]]:
    """The questions cut to their first words, and as they are; by what to call them."""
    short = [" ".join(question.split()[:SHORT_WORDS]) for question in questions]
    return {"short": short, "whole": list(questions)}


def questions(
    index: Path, encoder: Encoder, asked: Sequence[str], clients: Sequence[int]
) -> Iterator[Measured]:
    """Ask in this process and over HTTP, by so many clients at a time."""
    with closing(Archive(index)) as archive:
        searcher = Searcher(archive, encoder)
        for count in clients:
            yield {"where": "process", **in_process(searcher, asked, count)}
    with served(index, asked[0]) as server:
        for count in clients:
            found = over_http(server.url, asked, count)
            yield {"where": "http", **found, "resident_bytes": server.resident_bytes()}


def while_adding(index: Path, asked: Sequence[str], articles: Sequence[Article]) -> Measured:
    """Ask over HTTP, one question at a time, first alone and then while another client adds one
    article after the other; these are removed afterwards."""
    with served(index, asked[0]) as server:
        alone = over_http(server.url, asked, 1)
        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            adding = pool.submit(_add, server.url, articles, ended)
            try:
                found = over_http(server.url, asked, 1)
            finally:
                ended.set()
        added = adding.result()
    with closing(Archive(index)) as archive:
        archive.remove(added.pop("ids"))
    return {**found, **added, "alone": alone}


def _add(url: str, articles: Iterable[Article], ended: threading.Event) -> Measured:
    """Add articles one by one until told to end, under other ids and titles."""
    took_s: list[float] = []
    ids: list[str] = []
    with closing(connected(url)) as connection:
        for number, article in enumerate(cycle(articles)):
            if ended.is_set():
                break
            other = {"id": f"{article.id} {number}", "title": f"{article.title} {number}"}
            body = json.dumps({**other, "text": article.text})
            began = time.perf_counter()
            connection.request("POST", "/articles", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            took_s.append(time.perf_counter() - began)
            if response.status != HTTPStatus.OK or answer["failed"]:
                raise NotReady(f"the server did not take an article: {answer}")
            ids += answer["ids"]
    return {"ids": ids, "articles": len(ids), "articles_per_s": len(ids) / sum(took_s)}


def grown(
    index: Path, folder: Path, encoder: Encoder, asked: Sequence[str], passages: int
) -> Measured:
    """An archive of so many made-up passages, drawn from the one at `index`: one client at a time.

    It is built at `folder`.
    """
    with closing(Archive(index)) as real, closing(Archive(folder)) as archive:
        with real.reading() as reading:
            assert reading is not None
            drawn_from = stock(reading)
        began = time.perf_counter()
        fill(archive, drawn_from, passages, fingerprint(encoder, passage_budget(real, None)))
        built_s = time.perf_counter() - began
    began = time.perf_counter()
    with closing(Archive(folder)) as archive, archive.snapshot():
        opened_s = time.perf_counter() - began
    found = list(questions(folder, encoder, asked, [1]))
    measured = {"passages": passages, "built_s": built_s, "opened_s": opened_s, "asked": found}
    measured["disk"] = disk(folder)
    return measured


def stored_texts(index: Path, count: int) -> list[str]:
    """What the model was given for some of the archive's passages, spread over all of them."""
    with closing(Archive(index)) as archive, archive.snapshot() as snapshot:
        alive = np.flatnonzero(snapshot.columns.alive)
        some = alive[np.linspace(0, len(alive) - 1, min(count, len(alive))).astype(int)]
        stored = snapshot.passages(some.tolist()).values()
    return [encoder_input(head.title[:TITLE_CHARACTERS], passage.text) for passage, head in stored]


@contextmanager
def _timed(took_s: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    took_s[stage] += time.perf_counter() - began
