"""A writer killed at random moments: what it acknowledged is there, whole, and nothing is half so.

`make torture` kills hundreds. RAG_TORTURE_KILLS says how many, RAG_TORTURE_SEED which.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from rag import vectors
from rag.archive import Archive
from rag.chunk import chunk
from rag.ingest import encoder_input
from rag.searcher import Searcher
from rag.types import Article
from tests.fakes import FakeEncoder, assert_snapshot_holds, orphans
from tests.folders import temporary_folder
from tests.writer import Change, Done, change_as_told, make_small

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("RAG_TORTURE_KILLS") or 20)
SEED = int(os.environ.get("RAG_TORTURE_SEED") or random.SystemRandom().randrange(10**6))

LONGEST_LIFE_S = 0.3
"""A few changes long: a kill comes within one, anywhere in it."""

AT_THE_BASE = 0.25
"""Part of the kills that wait for the base to be written, which takes too little time to be met."""

LOOK_EVERY_S = 0.0005
PATIENCE_S = 60.0
NUMBERS = range(14)
KINDS = ("add", "add", "add", "remove", "rebuild")


def story(number: int, version: int) -> Article:
    text = (
        f"A storm hit town{number} on Monday, said the mayor. "
        f"Nobody was hurt in flood{number}x{version} of the year.\n\n"
        f"The levee at river{number} held through the night {version}."
    )
    return Article(id=f"a{number}", title=f"Storm {number}", text=text, source=f"S{number % 3}")


def texts_encoded_for(held: Mapping[str, Article]) -> set[str]:
    """What the model is given for the passages of these articles."""
    count = FakeEncoder().count
    return {
        encoder_input(article.title, article.text[span.start : span.end])
        for article in held.values()
        for span in chunk(article.text, count, budget=12, limit=100)
    }


def after(held: Mapping[str, Article], change: Change) -> dict[str, Article]:
    """What an archive of `held` holds when the change is made."""
    left = {key: article for key, article in held.items() if key not in change.ids}
    return left | {article.id: article for article in change.articles}


class Torture:
    """An archive, what it has to hold, and a reader that has it open all the while."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.reader = Archive(folder)
        self.killed: Counter[str] = Counter()
        self.acknowledged = 0
        self._chosen = random.Random(seed)
        self._held: dict[str, Article] = {}
        self._version = 0
        self._pending = self._another()
        self._generation = 0
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["tests.writer"])

    def kill_one(self) -> None:
        """Start a writer, have it work for a moment, kill it, and look at what it has left."""
        mine, theirs = self._processes.Pipe()
        writer = self._processes.Process(target=change_as_told, args=(self.folder, theirs))
        writer.start()
        theirs.close()
        with mine:
            try:
                self._work(mine)
            finally:
                writer.kill()
                writer.join(PATIENCE_S)
            with suppress(
                EOFError, ConnectionResetError
            ):  # it may have been killed just after it said so
                while mine.poll():
                    self._acknowledge(mine.recv())
        assert writer.exitcode == -signal.SIGKILL
        self._look()

    def _work(self, writer: Connection) -> None:
        """One change after the other, until it is time."""
        assert writer.poll(PATIENCE_S)
        assert writer.recv() == "ready"
        lives_s = self._chosen.uniform(0, LONGEST_LIFE_S)
        base = self.folder / "dense.faiss.tmp" if self._chosen.random() < AT_THE_BASE else None
        until = time.monotonic() + (PATIENCE_S if base else lives_s)
        writer.send(self._pending)
        while time.monotonic() < until:
            if writer.poll(LOOK_EVERY_S):
                self._acknowledge(writer.recv())
                writer.send(self._pending)
            if base and base.exists():
                base, until = None, time.monotonic() + lives_s / 20

    def _acknowledge(self, done: Done) -> None:
        logger.info("acknowledged at %d: %s", done.generation, self._pending)
        held, self._held = self._held, after(self._held, self._pending)
        assert not texts_encoded_for(held).intersection(done.encoded), "encoded again"
        assert texts_encoded_for(self._held).issuperset(done.encoded)
        assert done.generation >= self._generation
        self._generation = done.generation
        self._pending = self._another()
        self.acknowledged += 1

    def _another(self) -> Change:
        """A change that can be made to what is held."""
        kind = self._chosen.choice(KINDS)
        if kind == "rebuild" and self._held:
            return Change(kind)
        if kind == "remove" and len(self._held) > 3:
            return Change(kind, ids=tuple(self._chosen.sample(sorted(self._held), 2)))
        self._version += 1
        numbers = self._chosen.sample(NUMBERS, self._chosen.randint(1, 4))
        return Change("add", tuple(story(number, self._version) for number in numbers))

    def _look(self) -> None:
        """All that was acknowledged is there, and of what was not, all or nothing."""
        at = "(half a base)" if list(self.folder.glob("*.tmp")) else ""
        with closing(Archive(self.folder)) as archive:
            assert archive.check() == []
            seen = self._seen(self.reader)
            self._seen(archive)  # which publishes a change where words are indexed with it already
            assert archive.check() == []
            archive.recover()  # as the next writer does, to whom a change may have been left
            done = self._seen(self.reader)
            assert self._seen(archive) == done
            assert archive.check() == []
            self._ask(archive, done)
        assert orphans(self.folder) == 0
        logger.info("killed in %s: %s, then %s", self._pending, sorted(seen), sorted(done))
        left = "left" if seen != done else "done" if self._is_done(done) else "undone"
        self.killed[f"{self._pending.kind} {left} {at}".strip()] += 1
        again = not self._is_done(done) or self._pending.kind == "add"
        self._held = done
        if not again:  # who was adding adds again, and what is there is not encoded again
            self._pending = self._another()

    def _is_done(self, seen: Mapping[str, Article]) -> bool:
        return seen == after(self._held, self._pending)

    def _seen(self, archive: Archive) -> dict[str, Article]:
        """What a reader sees: what was acknowledged, with the change after it or without."""
        with archive.snapshot() as snapshot:
            assert snapshot.generation >= self._generation
            self._generation = snapshot.generation
            hashes = {head.id: head.sha256 for head in snapshot.heads(limit=100)}
            changed = after(self._held, self._pending)
            there = hashes == {key: article.sha256 for key, article in changed.items()}
            expected = changed if there else self._held
            assert_snapshot_holds(snapshot, expected)
            return expected

    def _ask(self, archive: Archive, expected: Mapping[str, Article]) -> None:
        searcher = Searcher(archive, FakeEncoder())
        for article in expected.values():
            question = next(word for word in article.text.split() if word.startswith("flood"))
            quotes = [
                article.text[each.start : each.end]
                for each in searcher.ask(question).citations
                if each.hit.article.id == article.id
            ]
            assert question in " ".join(quotes)


@pytest.fixture(name="torture")
def _torture(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Torture]:
    caplog.set_level(logging.INFO)
    for name in ("EXACT_MOST", "TAIL_MOST"):
        monkeypatch.setattr(vectors, name, getattr(vectors, name))  # put back at the end
    make_small()
    with temporary_folder() as folder:
        torture = Torture(Path(folder) / "index", SEED)
        with closing(torture.reader):
            yield torture


def test_what_was_acknowledged_survives_a_kill_at_any_moment(torture: Torture) -> None:
    print(f"seed {SEED}, {KILLS} kills")  # RAG_TORTURE_SEED has the same changes come again
    for _ in range(KILLS):
        torture.kill_one()
    print(f"{torture.acknowledged} changes acknowledged; killed: {dict(torture.killed)}")
