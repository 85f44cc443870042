"""Processes at one archive: every answer is of one generation, and nobody waits for an encoder."""

from __future__ import annotations

import http.client
import io
import json
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, redirect_stdout
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rag import cli, encode
from rag.archive import Archive
from rag.errors import ArticleNotFound
from rag.lexical import LexicalIndex
from rag.searcher import Searcher
from rag.types import Answer, Article, Encoding, Filters
from tests.called import WarmFake
from tests.fakes import FakeEncoder, add, assert_holds
from tests.folders import temporary_folder
from tests.served import JSON, running, server
from tests.test_archive import PATIENCE_S, SPAWN, AnotherWriter, story

CHANGES = 12
READERS = 2
QUESTION = "who said that the levee held in the storm?"

Held = dict[str, tuple[int, str]]
"""Revision and text of each living article."""


class Cited(NamedTuple):
    article: str
    revision: int
    start: int
    end: int
    quote: str


class Asked(NamedTuple):
    """An answer, the source it was asked for, and whether its first quote was valid afterwards:
    None where the article was gone."""

    generation: int
    source: str | None
    cited: list[Cited]
    valid: bool | None


@pytest.fixture(name="tmp_path")
def _tmp_path() -> Iterator[Path]:
    """In memory where there is such a place: there, waiting for the disk costs nothing."""
    with temporary_folder() as folder:
        yield Path(folder)


def assert_right(answers: list[Asked], held: dict[int, Held], sources: dict[str, str]) -> None:
    """Each of a reader's answers is of one generation, all of it, and none is older than the one
    before."""
    generations = [answer.generation for answer in answers]
    assert generations == sorted(generations)
    for answer in answers:
        there = held[answer.generation]
        passing = {key for key in there if answer.source in (None, sources[key])}
        assert {each.article for each in answer.cited} == passing
        for each in answer.cited:
            revision, text = there[each.article]
            assert each.revision == revision
            assert text[each.start : each.end] == each.quote
        if answer.valid is None:
            first = answer.cited[0]
            later = [held[g] for g in held if g > answer.generation]
            assert any(first.article not in each for each in later)
        else:
            assert answer.valid


def asked(searcher: Searcher, source: str | None) -> Asked:
    filters = Filters(source=None if source is None else (source,))
    answer: Answer = searcher.ask(QUESTION, top_k=100, filters=filters)
    cited = [
        Cited(each.hit.article.id, each.hit.article.revision, each.start, each.end, each.quote)
        for each in answer.citations
    ]
    valid: bool | None = True
    if cited:
        one = cited[0]
        try:
            found = searcher.verify(one.article, one.start, one.end, one.quote, one.revision)
            valid = found.valid
        except ArticleNotFound:
            valid = None
    return Asked(answer.generation, source, cited, valid)


def read(folder: Path, ready: Event, stop: Event, answer: Connection) -> None:
    answers: list[Asked] = []
    with closing(Archive(folder)) as archive:
        searcher = Searcher(archive, FakeEncoder())
        while not stop.is_set():
            answers.append(asked(searcher, [None, "Paper 0", "Paper 1"][len(answers) % 3]))
            ready.set()
    answer.send(answers)


def write(folder: Path, readers: list[Event], parent: Connection) -> None:
    """Change the archive all the time, and tell what it held in each generation."""
    chance = random.Random(7)
    articles: dict[str, Article] = {}
    revisions: dict[str, int] = {}
    held: dict[int, Held] = {}
    with closing(Archive(folder)) as archive:
        for change in range(1, CHANGES + 1):
            if change % 5 == 4:
                gone = chance.sample(sorted(articles), 2)
                generation = archive.remove(gone).generation
                for article_id in gone:
                    del articles[article_id]
            else:
                news = [story(number, version=change) for number in chance.sample(range(12), 4)]
                generation = add(archive, FakeEncoder(), *news).generation
                articles |= {each.id: each for each in news}
                for each in news:
                    revisions[each.id] = revisions.get(each.id, 0) + 1
            held[generation] = {key: (revisions[key], each.text) for key, each in articles.items()}
            if change == 1:
                parent.send("begun")
            if change % 4 == 0:
                archive.rebuild()
                # The first may have begun before; the second began after.
                for ready in [*readers, *readers]:
                    ready.clear()
                    assert ready.wait(PATIENCE_S)
    parent.send(held)


def test_readers_elsewhere_get_answers_of_one_generation(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    stop, readies = SPAWN.Event(), [SPAWN.Event() for _ in range(READERS)]
    told, theirs = SPAWN.Pipe()
    writer = SPAWN.Process(target=write, args=(folder, readies, theirs), daemon=True)
    writer.start()
    assert told.poll(PATIENCE_S)
    assert told.recv() == "begun"
    readers = []
    for ready in readies:
        mine, theirs = SPAWN.Pipe()
        child = SPAWN.Process(target=read, args=(folder, ready, stop, theirs), daemon=True)
        child.start()
        readers.append((child, mine))
    try:
        assert told.poll(PATIENCE_S)
        held = told.recv()
    finally:
        stop.set()
    assert sorted(held) == list(range(1, CHANGES + 1))
    sources = {f"a{number}": f"Paper {number % 3}" for number in range(12)}
    for child, mine in readers:
        assert mine.poll(PATIENCE_S)
        answers = mine.recv()
        child.join(PATIENCE_S)
        assert child.exitcode == 0
        assert len({answer.generation for answer in answers}) >= CHANGES // 4
        assert_right(answers, held, sources)
    writer.join(PATIENCE_S)
    assert_holds_texts(folder, held[CHANGES])


def assert_holds_texts(folder: Path, held: Held) -> None:
    with closing(Archive(folder)) as archive:
        assert archive.check() == []
        with archive.snapshot() as snapshot:
            heads = snapshot.heads(limit=100)
            assert {h.id: (h.revision, snapshot.text(h)) for h in heads} == held


# A server and the command line


def command_line(folder: Path, calls: Connection) -> None:
    """Runs the calls it is sent, with a fake model, and sends back exit codes and documents."""
    encode.load_encoder = lambda *_, **__: WarmFake()  # type: ignore[assignment]
    while call := calls.recv():
        sys.argv = ["rag", *call, "--index", str(folder), "--json"]
        out, code = io.StringIO(), None
        try:
            with redirect_stdout(out):
                cli.main()
        except SystemExit as end:
            code = end.code
        calls.send((code, json.loads(out.getvalue())))


class CommandLine:
    """A process that runs `rag`, one call after the other."""

    def __init__(self, folder: Path) -> None:
        self._mine, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=command_line, args=(folder, theirs), daemon=True)

    def __enter__(self) -> CommandLine:
        self._process.start()
        return self

    def __call__(self, *call: str) -> dict[str, Any]:
        self._mine.send(call)
        assert self._mine.poll(PATIENCE_S)
        code, document = self._mine.recv()
        assert code == 0, document
        return dict(document)

    def __exit__(self, *_: object) -> None:
        self._mine.send(())
        self._process.join(PATIENCE_S)
        assert self._process.exitcode == 0


class Client:
    """One connection to a server, kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, address: str, body: Any = None) -> tuple[int, str]:
        self._connection.request(method, address, body and json.dumps(body), JSON if body else {})
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def ask(self, source: str | None = None) -> Asked:
        filters = {} if source is None else {"filters": {"source": [source]}}
        body = {"question": QUESTION, "top_k": 100, **filters}
        status, answer = self.call("POST", "/ask", body)
        assert status == 200, answer
        document = json.loads(answer)
        cited = [
            Cited(
                each["article"]["id"],
                each["article"]["revision"],
                each["start"],
                each["end"],
                each["quote"],
            )
            for each in document["citations"]
        ]
        return Asked(document["generation"], source, cited, self._valid(cited))

    def _valid(self, cited: list[Cited]) -> bool | None:
        if not cited:
            return True
        asked = cited[0]._asdict()
        asked["article_id"] = asked.pop("article")
        status, found = self.call("POST", "/verify", asked)
        return None if status == 404 else bool(json.loads(found)["valid"])


def line(article: Article) -> str:
    fields = ("id", "title", "text", "source")
    return json.dumps({name: getattr(article, name) for name in fields})


def test_a_server_answers_of_one_generation_while_the_command_line_writes(tmp_path: Path) -> None:
    held: dict[int, Held] = {0: {}}
    sources = {f"a{number}": f"Paper {number % 3}" for number in range(9)}
    revisions: dict[str, int] = {}
    done = threading.Event()

    def ask_on(port: int) -> list[Asked]:
        with closing(Client(port)) as client:
            answers = [client.ask()]
            while not done.is_set():
                answers.append(client.ask([None, "Paper 2"][len(answers) % 2]))
            return answers

    with (
        running(tmp_path / "index") as (_, port),
        CommandLine(tmp_path / "index") as rag,
        ThreadPoolExecutor(2) as threads,
        closing(Client(port)) as client,
    ):
        reading = [threads.submit(ask_on, port) for _ in range(2)]
        try:
            for version in range(8):
                there = dict(held[max(held)])
                if version % 4 == 3:
                    gone = sorted(there)[0]
                    generation = rag("remove", gone)["generation"]
                    del there[gone]
                else:
                    news = [story(number, version) for number in range(version, version + 2)]
                    file = tmp_path / f"{version}.jsonl"
                    file.write_text("\n".join(map(line, news)), encoding="utf-8")
                    generation = rag("add", str(file))["generation"]
                    for each in news:
                        revisions[each.id] = revisions.get(each.id, 0) + 1
                        there[each.id] = (revisions[each.id], each.text)
                held[generation] = there
                assert client.ask().generation == generation
                assert {each.article for each in client.ask().cited} == set(there)
        finally:
            done.set()
        answers = [each.result(PATIENCE_S) for each in reading]
        assert rag("check") == {"sound": True, "faults": []}
    assert sorted(held) == list(range(9))
    for several in answers:
        assert_right(several, held, sources)


# While one encodes


class Waiting(FakeEncoder):
    """Says when it is given passages, and gives them back when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def encode_passages(self, texts: Any) -> list[Encoding]:
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        return super().encode_passages(texts)


def add_slowly(folder: Path, begun: Event, go_on: Event) -> None:
    encoder = Waiting()
    encoder.begun, encoder.go_on = begun, go_on  # type: ignore[assignment]
    with closing(Archive(folder, lock_timeout_s=0)) as archive:
        add(archive, encoder, story(0, version=1), story(7))


def test_while_another_process_encodes_one_writes_and_reads(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    begun, go_on = SPAWN.Event(), SPAWN.Event()
    child = SPAWN.Process(target=add_slowly, args=(folder, begun, go_on), daemon=True)
    with closing(Archive(folder, lock_timeout_s=0)) as archive:
        add(archive, FakeEncoder(), *[story(number) for number in range(4)])
        child.start()
        assert begun.wait(PATIENCE_S)
        assert add(archive, FakeEncoder(), story(8), story(1, version=2)).generation == 2
        assert archive.remove(["a3"]).generation == 3
        assert archive.rebuild() == 3
        answer = asked(Searcher(archive, FakeEncoder()), None)
        assert {each.article for each in answer.cited} == {"a0", "a1", "a2", "a8"}
        go_on.set()
        child.join(PATIENCE_S)
        assert child.exitcode == 0
    expected = [story(0, version=1), story(1, version=2), story(2), story(7), story(8)]
    assert_holds(folder, expected)


def test_while_a_server_encodes_it_answers_and_others_write(tmp_path: Path) -> None:
    encoder = Waiting()
    folder = tmp_path / "index"
    with server(folder, encoder=encoder) as client, ThreadPoolExecutor(1) as threads:
        with closing(Archive(folder, lock_timeout_s=0)) as archive:
            add(archive, FakeEncoder(), story(0))
            adding = threads.submit(client.post, "/articles", json=[json.loads(line(story(1)))])
            try:
                assert encoder.begun.wait(PATIENCE_S)
                add(archive, FakeEncoder(), story(2))
                answer = client.post("/ask", json={"question": QUESTION}).json()
                assert {each["article"]["id"] for each in answer["citations"]} == {"a0", "a2"}
                assert client.delete("/articles/a0").status_code == 200
            finally:
                encoder.go_on.set()
        assert adding.result(PATIENCE_S).json()["added"] == 1
    assert_holds(folder, [story(1), story(2)])


# While one writes


@contextmanager
def held_by_another(folder: Path) -> Iterator[str]:
    """An archive that a process is writing; how that process is named."""
    with closing(Archive(folder)) as archive:
        add(archive, FakeEncoder(), story(0))
    with AnotherWriter(folder, (LexicalIndex, "commit")) as first:
        yield f"process {first.process.pid} on "


def test_over_http_a_second_writer_is_told_who_writes_and_when_to_come_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "index"
    with (
        held_by_another(folder) as holder,
        running(folder, lock_timeout_s=0.1) as (_, port),
        closing(Client(port)) as client,
    ):
        for method, address, body in (
            ("POST", "/articles", json.loads(line(story(1)))),
            ("DELETE", "/articles/a0", None),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            with closing(connection):
                connection.request(method, address, json.dumps(body) if body else None, JSON)
                response = connection.getresponse()
                found = json.loads(response.read())
            assert response.status == found["status"] == 503
            assert int(response.headers["retry-after"]) > 0
            assert holder in found["detail"]
            assert "0.1 s" in found["detail"]
        assert {each.article for each in client.ask().cited} == {"a0"}
    assert_holds(folder, [story(0), story(30)])


def test_at_the_end_of_a_server_nobody_waits_for_another_writer(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    article = json.dumps(json.loads(line(story(1))))
    settings = {"lock_timeout_s": 10 * PATIENCE_S, "shutdown_timeout_s": round(10 * PATIENCE_S)}
    with (
        held_by_another(folder) as holder,
        running(folder, **settings) as (process, port),
        closing(Client(port)) as client,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as adding,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as removing,
    ):
        assert client.ask().generation == 1
        adding.request("POST", "/articles", article, JSON)
        removing.request("DELETE", "/articles/a0")
        for _ in range(10):
            assert client.ask().generation == 1
        process.terminate()
        for connection in (adding, removing):
            response = connection.getresponse()
            found = json.loads(response.read())
            assert (response.status, bool(response.headers["retry-after"])) == (503, True)
            assert holder in found["detail"]
        out, err = process.communicate(timeout=PATIENCE_S)
        assert out + err == ""
    assert_holds(folder, [story(0), story(30)])


def test_the_command_line_says_who_writes(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_LOCK_TIMEOUT_S", "0.1")
    file = tmp_path / "more.jsonl"
    file.write_text(line(story(1)), encoding="utf-8")
    folder = tmp_path / "index"
    with held_by_another(folder) as holder:
        for call in (["add", str(file)], ["remove", "a0"], ["rebuild"]):
            refused = rag(*call, "--json")
            assert refused.code == 1
            assert refused.json["error"]["type"] == "ArchiveBusy"
            assert holder in refused.json["error"]["detail"]
            for_people = rag(*call)
            assert for_people.code == 1
            assert holder in " ".join(for_people.err.split())
        assert rag("ask", QUESTION, "--json").json["citations"][0]["article"]["id"] == "a0"
    assert rag("add", str(file), "--json").json["added"] == 1
    assert_holds(folder, [story(0), story(1), story(30)])
