"""What the server counts and times, for Prometheus. No metric holds a word of what was asked."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag import logs

MEDIA_TYPE = CONTENT_TYPE_LATEST

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Bounds of the histograms: a question takes some 10 ms, adding articles up to minutes."""

METHODS = frozenset(["GET", "POST", "DELETE"])
OTHER = "other"
"""The label of methods and addresses that are not ours: a stranger must not make up labels."""

SHED = {"Crowded": "crowd", "NoTurn": "queue", "TooSlow": "slow_body", "ClientGone": "client_gone"}
"""Why a request was turned away, by the error that says so."""


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "rag_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "rag_request_seconds",
            "Time from a request's head to the end of its response.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "rag_question_stage_seconds",
            "Time that a question took, by stage.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "rag_errors",
            "Requests answered with an error of a named type.",
            ["type"],
            registry=self.registry,
        )
        self._shed = Counter(
            "rag_requests_shed",
            "Requests turned away for the load, or that nobody waited for any more.",
            ["reason"],
            registry=self.registry,
        )
        for reason in SHED.values():
            self._shed.labels(reason)  # so that there is a rate from the first one on
        self.waiting = Gauge(
            "rag_questions_waiting", "Questions waiting for their turn.", registry=self.registry
        )
        self.answering = Gauge(
            "rag_questions_answering", "Questions being answered.", registry=self.registry
        )
        self._generation = Gauge(
            "rag_generation", "Generation of the archive.", registry=self.registry
        )
        self._articles = Gauge("rag_articles", "Articles in the archive.", registry=self.registry)
        self._sound = Gauge(
            "rag_sound",
            "1 if the last check found the archive sound, 0 if not or if damage was met since, "
            "NaN if nobody knows.",
            registry=self.registry,
        )
        self._checked = Gauge(
            "rag_checked_timestamp_seconds",
            "When the last check began, in Unix time; NaN if there was none.",
            registry=self.registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def error(self, name: str) -> None:
        """Count an error by the name of its type."""
        self._errors.labels(name).inc()
        if name in SHED:
            self._shed.labels(SHED[name]).inc()

    def question(self, took_ms: Mapping[str, float]) -> None:
        """Take the times of a question, in milliseconds by stage."""
        for stage, milliseconds in took_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def archive(
        self, generation: int, articles: int, sound: bool | None, checked_s: float | None
    ) -> None:
        """Take how the archive is; `checked_s`: when it was checked last, in Unix time."""
        self._generation.set(generation)
        self._articles.set(articles)
        self._sound.set(math.nan if sound is None else sound)
        self._checked.set(math.nan if checked_s is None else checked_s)

    def archive_damaged(self) -> None:
        """Take that the archive cannot be read; the rest is what it was."""
        self._sound.set(0)

    def exposition(self) -> bytes:
        """All metrics in the text format of `MEDIA_TYPE`."""
        return generate_latest(self.registry)


class Metered:
    """Counts, times and logs every request, by the route that took it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            logs.note(error=type(error).__name__)
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            route = getattr(scope.get("route"), "path", OTHER)
            took_s = time.perf_counter() - began
            self._metrics.request(method, route, status, took_s)
            if error_name := logs.notes().get("error"):
                self._metrics.error(str(error_name))
            ms = round(took_s * 1000, 1)
            logs.answered({"method": method, "route": route, "status": status, "ms": ms})
