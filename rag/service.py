"""What the calls of one server share: the archive, the model that is loading, the limits."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, TypeVar, Unpack

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from rag.archive import Archive
from rag.checked import moment
from rag.confidence import THRESHOLD
from rag.cores import cores
from rag.errors import ArchiveDamaged, ClientGone, NotReady, NoTurn, RagError, StorageFailed
from rag.ingest import fingerprint, passage_budget
from rag.logs import note
from rag.metrics import Metrics
from rag.problems import STOPPING
from rag.process import Beside
from rag.searcher import Bounds, Searcher
from rag.types import Answer, Encoder, SearchResult
from rag.vectors import EXACT_MOST

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

ADDED_AT_ONCE = 2
"""Calls that change the archive at a time: one is at the model, one at the disk."""

RENEW_AGAIN_S = 600
"""How long after a large base could not be written it is tried again; the tail does meanwhile."""

FIRST_CHECK_S = 600.0
"""How long after its start a server checks an archive whose check is due, at the earliest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may bring, and the token encoding that budgets are counted in."""

    text_bytes: int
    articles_per_call: int
    question_characters: int
    token_encoding: str
    queue_timeout_s: float
    load_timeout_s: float


class Behind(StrEnum):
    """What may not be up to date while questions are answered all the same."""

    CHANGE = "change"
    """A change that was committed, and is not published yet."""
    DENSE = "dense"
    """The file of vectors lacks so much that it is due to be written anew."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """`behind`: what whoever writes next brings up if nobody did. `sound`: what the last check
    found, which began at `checked_at`; False where damage was met since; None: nobody knows."""

    generation: int
    behind: list[Behind]
    sound: bool | None
    checked_at: str | None


class Service:
    """One archive being served. The model is loaded in the background, once, after `start`."""

    def __init__(
        self,
        archive: Archive,
        encoder: Encoder,
        limits: Limits,
        *,
        lexical_weight: float,
        answer_threshold: float = THRESHOLD,
        passage_tokens: int | None,
        log_questions: bool = False,
        check_hours: float = 0,
    ) -> None:
        """Raises IndexMismatch if the archive was built with anything else than this."""
        self.archive = archive
        self.encoder = encoder
        self.limits = limits
        self.passage_tokens = passage_tokens
        self.metrics = Metrics()
        self.searcher = Searcher(
            archive,
            encoder,
            lexical_weight=lexical_weight,
            threshold=answer_threshold,
            question_characters=limits.question_characters,
        )
        together = cores() + 1  # one waits for the disk, or for the model
        self._turns = asyncio.Semaphore(together)
        self._answering = CapacityLimiter(together)
        self._changing = CapacityLimiter(ADDED_AT_ONCE)
        self._watching = CapacityLimiter(1)
        self._log_questions = log_questions
        self._ending = threading.Event()
        self._loaded: Future[None] = Future()
        self._starting = threading.Lock()
        self._started = False
        self._counted = ("", 0, 0)
        folder = str(archive.folder.resolve())
        self._renewing = Beside("rag.chores", "renew", folder)
        self._renew_from = 0.0
        self._checking = Beside("rag.chores", "check", folder)
        self._check_every_s = check_hours * 3600
        self.require()

    def require(self) -> None:
        """Raise IndexMismatch unless questions and new articles fit the archive as it is now."""
        budget = passage_budget(self.archive, self.passage_tokens)
        self.archive.require(fingerprint(self.encoder, budget))

    def start(self) -> None:
        """Begin to load the model, unless that has begun."""
        with self._starting:
            if not self._started:
                self._started = True
                # A daemon: who ends the server need not wait for a model.
                threading.Thread(target=self._load, name="load model", daemon=True).start()
                if self._check_every_s:
                    check = self._check_regularly
                    threading.Thread(target=check, name="check", daemon=True).start()

    async def in_turn(
        self, work: Callable[[], Made], is_gone: Callable[[], Awaitable[bool]]
    ) -> Made:
        """What `work` gives, which answers a question, in a thread: few at a time, in their order.

        Raises NoTurn where that takes too long, and ClientGone if `is_gone` by then: neither is
        computed. More threads than cores gain nothing and fight for their caches: sixteen at a time
        answered 60 questions a second on two cores where three answered 93.
        """
        await self._wait_for_turn()
        try:
            if await is_gone():
                raise ClientGone("the client went before its question's turn came")
            with self.metrics.answering.track_inprogress():
                return await to_thread.run_sync(work, limiter=self._answering)
        finally:
            self._turns.release()

    async def aside(self, work: Callable[[], Made]) -> Made:
        """What `work` gives, which looks at the server, in a thread that no other call takes."""
        return await to_thread.run_sync(work, limiter=self._watching)

    def begin_to_end(self) -> None:
        """From now on articles are taken no further than the batch that is being published, and
        nobody waits for another writer."""
        self._ending.set()
        self.archive.stop_waiting()

    def require_time(self) -> None:
        """Raise NotReady if the server is about to end."""
        if self._ending.is_set():
            raise NotReady(STOPPING)

    async def in_line(self, work: Callable[[], Made]) -> Made:
        """What `work` gives, which changes the archive, in a thread. However many wait, they leave
        threads to all who only read."""
        return await to_thread.run_sync(work, limiter=self._changing)

    async def loaded(self) -> None:
        """Wait for the model, without holding a thread. Raises NotReady if it cannot be loaded, or
        is not loaded in time."""
        self.start()
        try:
            async with asyncio.timeout(self.limits.load_timeout_s):
                await asyncio.shield(asyncio.wrap_future(self._loaded))
        except TimeoutError:
            waited = f"{self.limits.load_timeout_s:g} s (RAG_LOAD_TIMEOUT_S)"
            raise NotReady(f"the model is still loading after {waited}") from None

    def check_ready(self) -> None:
        """Raise what keeps the server from answering questions now, if anything does."""
        if not self._loaded.done():
            raise NotReady("the model is loading")
        self._loaded.result()
        self.require()

    def readiness(self) -> Readiness:
        """How the archive is, as far as that is known without reading it all.

        Raises what keeps the server from answering questions now.
        """
        self.check_ready()
        with self.archive.reading() as reading:
            generation = reading.generation if reading else 0
            unpublished = reading is not None and reading.unpublished() is not None
        behind = [Behind.CHANGE] if unpublished else []
        behind += [Behind.DENSE] if self.archive.base_is_due() else []
        last = self.archive.last_check()
        return Readiness(generation, behind, self.archive.is_sound(), last.at if last else None)

    def ask(self, question: str, **bounds: Unpack[Bounds]) -> Answer:
        """Ask, and note how long it took."""
        self._note(question)
        encoding = self.limits.token_encoding
        answer = self.searcher.ask(question, budget_encoding=encoding, **bounds)
        self.metrics.question(answer.took_ms)
        return answer

    def search(self, question: str, **bounds: Unpack[Bounds]) -> SearchResult:
        """Search, and note how long it took."""
        self._note(question)
        encoding = self.limits.token_encoding
        result = self.searcher.search(question, budget_encoding=encoding, **bounds)
        self.metrics.question(result.took_ms)
        return result

    def counts(self) -> tuple[int, int]:
        """Generation and number of articles, which is counted once a generation."""
        with self.archive.reading() as reading:
            if reading is None:
                return 0, 0
            archive, generation, articles = self._counted
            if (archive, generation) != (reading.archive(), reading.generation):
                generation, articles = reading.generation, reading.counts()[0]
                self._counted = (reading.archive(), generation, articles)
            return generation, articles

    def exposition(self) -> bytes:
        """All metrics, for Prometheus; of a damaged archive too."""
        try:
            generation, articles = self.counts()
            last, sound = self.archive.last_check(), self.archive.is_sound()
        except (ArchiveDamaged, StorageFailed):
            self.metrics.archive_damaged()
        else:
            checked_s = moment(last.at).timestamp() if last else None
            self.metrics.archive(generation, articles, sound, checked_s)
        return self.metrics.exposition()

    def renew_base(self) -> None:
        """Have the dense base written in the background if a change has made it due."""
        # A daemon: the next change does what the end of the process cuts off.
        threading.Thread(target=self._renew_base, name="renew base", daemon=True).start()

    def until_check_s(self) -> float:
        """How long after the start the archive is to be checked."""
        ago_s = math.inf
        with suppress(RagError):
            last = self.archive.last_check()
            if last:
                ago_s = max(0.0, (datetime.now(UTC) - moment(last.at)).total_seconds())
        return max(min(self._check_every_s, FIRST_CHECK_S), self._check_every_s - ago_s)

    def stop(self) -> None:
        """End what runs beside the calls, and let go of the archive."""
        self._ending.set()
        self._renewing.stop()
        self._checking.stop()
        self.archive.close()

    async def _wait_for_turn(self) -> None:
        with self.metrics.waiting.track_inprogress():
            try:
                async with asyncio.timeout(self.limits.queue_timeout_s):
                    await self._turns.acquire()
            except TimeoutError:
                raise NoTurn(self.limits.queue_timeout_s) from None

    def _note(self, question: str) -> None:
        if self._log_questions:
            note(question=question)

    def _renew_base(self) -> None:
        try:
            if not self.archive.base_is_due():
                return
            with self.archive.snapshot() as snapshot:
                passages = len(snapshot.columns.alive)
            if passages > EXACT_MOST:
                self._renew_base_apart()
            else:
                self.archive.renew_base()
        except RagError as error:
            logger.error("the dense base cannot be renewed: %s", error)

    def _renew_base_apart(self) -> None:
        if time.monotonic() < self._renew_from:
            return
        said = self._renewing.run()  # the next change does what this one comes too late for
        if said:
            self._renew_from = time.monotonic() + RENEW_AGAIN_S
            logger.error("the dense base cannot be renewed: %s", said)

    def _check_regularly(self) -> None:
        wait_s = self.until_check_s()
        while not self._ending.wait(wait_s):
            said = self._checking.run()
            if said:
                logger.error("the archive is not sound: %s", said)
            wait_s = self._check_every_s

    def _load(self) -> None:
        try:
            self.encoder.encode_question("Is the model there?")
        except RagError as error:
            self._loaded.set_exception(error)
            return
        except Exception as error:
            logger.exception("the model cannot be loaded")
            self._loaded.set_exception(NotReady(f"the model cannot be loaded: {error}"))
            return
        try:
            # The first question need not wait for the indexes to be opened. What is wrong with them
            # each is told, for as long as it is so.
            with suppress(RagError), self.archive.snapshot():
                pass
        finally:
            self._loaded.set_result(None)


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _loaded_service(request: Request) -> Service:
    service = await _service(request)
    await service.loaded()
    return service


Serving = Annotated[Service, Depends(_service)]
"""The service at once, for what needs no model."""

Asking = Annotated[Service, Depends(_loaded_service)]
"""The service once its model is loaded."""
