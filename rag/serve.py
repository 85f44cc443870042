"""The server: the calls, the page, and what stands around them, put together and run."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from starlette.middleware import Middleware
from starlette.types import Scope

from rag import api, page, problems
from rag.access import Access, WrongKeys, needed_right
from rag.archive import Archive
from rag.bodies import Bodies
from rag.config import Settings
from rag.connection import connection_class
from rag.encode import load_encoder
from rag.errors import EXIT_FAILED, NotReady, Unguarded
from rag.guard import (
    Crowd,
    Ending,
    Envelope,
    Guard,
    Identified,
    Refused,
    is_loopback,
    own_names,
)
from rag.keys import KeyFile, Right
from rag.logs import configure
from rag.metrics import Metered
from rag.service import Limits, Service
from rag.types import Encoder
from rag.wire import READING_POSTS

logger = logging.getLogger(__name__)

LAST_S = 2
"""How long after the requests' own time a thread that cannot be ended, as one in the model, keeps
the process alive. The archive takes no harm: it is made to be killed."""

BODIES_AT_ONCE = 8
"""Of the largest size that may be held in memory together, small ones apart."""

WAITING_CONNECTIONS = 128
"""As many are accepted in one turn of the loop, before it is seen how many there are by then."""

OTHER_FILES = 256
"""That a server has open besides its connections, at most: the archive's, the model's, its log."""

HEAD_BYTES = 64 * 1024
"""The longest head of a request, without the question that may stand in its address."""

CHARACTER_BYTES = 12
"""A character of four bytes as it stands in an address, %F0%9F%A6%A0; JSON takes no more for it."""

FILTERS_BYTES = 4 * 1024 * 1024
"""The longest body of a question, without the question: three filters of 10,000 ids."""

UNCROWDED = ("/health/", "/metrics")

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`."},
    "basic": {"type": "http", "scheme": "basic", "description": "The key as the password."},
}

DESCRIPTION = """Search and question answering over an archive of articles. Every quote can be
checked: `/articles/{id}/text` from `start` to `end`, in code points, is the quote."""


LARGE_BYTES = 8 * 1024 * 1024
"""Of memory that is given back as soon as it is free. Left to itself glibc raises that to 32 MiB:
400 clients that were sent a text of 10 MB left 4.4 GB with the server, where 0.4 were in use."""

MALLOPT = {-3: LARGE_BYTES, -1: 8 * LARGE_BYTES}
"""M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of <malloc.h>; to set one stops glibc from moving both."""


class _Described(FastAPI):
    """An application whose description says how a key is sent."""

    def openapi(self) -> dict[str, Any]:
        """See FastAPI. The empty requirement: where there is no key, none is asked for."""
        schema = super().openapi()
        bodies = jsonable_encoder(api.BODY_SCHEMAS["$defs"], exclude_none=True)
        schema["components"]["schemas"] |= bodies
        schema["components"]["securitySchemes"] = SECURITY_SCHEMES
        schema["security"] = [{name: []} for name in SECURITY_SCHEMES] + [{}]
        return schema


def create_app(settings: Settings, *, encoder: Encoder | None = None) -> FastAPI:
    """The application over the archive that `settings` name; `encoder` takes the model's place.

    Raises Unguarded, KeysDamaged, ModelNotFound, ModelRefused, IndexMismatch and what is wrong
    with the archive.
    """
    keys, keys_required = _keys(settings)
    service = Service(
        Archive(settings.index, lock_timeout_s=settings.lock_timeout_s),
        encoder or load_encoder(settings.model, index=settings.index, cache=settings.cache),
        _limits(settings),
        lexical_weight=settings.lexical_weight,
        answer_threshold=settings.answer_threshold,
        passage_tokens=settings.passage_tokens,
        log_questions=settings.log_questions,
        check_hours=settings.check_hours,
    )
    hosts = own_names(settings.host, settings.allowed_hosts)
    at_once = settings.max_requests_at_once
    app = _Described(
        title="rag",
        description=DESCRIPTION,
        version=version("rag-archive"),
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        # Spans would hold the questions, and could be sent to wherever the environment says.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=_lifespan,
        middleware=[
            Middleware(Identified),
            Middleware(Envelope),
            Middleware(Metered, metrics=service.metrics),
            Middleware(Ending),
            Middleware(Refused, counts=_is_work),
            Middleware(Guard, hosts=hosts),
            Middleware(
                Access,
                keys=keys,
                required=keys_required,
                wrong_keys=WrongKeys(settings.max_wrong_keys_per_minute),
            ),
            Middleware(
                Bodies,
                limits=_body_limits(settings),
                timeout_s=settings.body_timeout_s,
                most_bytes=BODIES_AT_ONCE * settings.max_body_bytes,
            ),
            # However many add articles, there is room for who reads.
            Middleware(Crowd, at_once=max(1, at_once // 2), counts=_is_change),
            Middleware(Crowd, at_once=at_once, counts=_is_work),
        ],
    )
    app.state.service = service
    problems.install(app, [*api.router.routes, *api.health.routes, *page.router.routes])
    app.include_router(api.router)
    app.include_router(api.health)
    app.include_router(page.router)
    return app


def serve(
    settings: Settings,
    *,
    encoder: Encoder | None = None,
    announce: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> None:
    """Serve until told to stop; `announce` is told the address once it is being listened at.

    Raises what `create_app` raises, and NotReady if the address, or enough open files, cannot be
    had, before it listens.
    """
    app = create_app(settings, encoder=encoder)
    configure(settings.log)
    most_connections = _most_connections(settings.max_connections)
    listener = _listen(settings.host, settings.port)
    _give_back_large_memory()
    config = uvicorn.Config(
        app,
        http=connection_class(
            settings.body_timeout_s,
            most_connections,
            head_bytes=HEAD_BYTES + CHARACTER_BYTES * settings.max_question_characters,
            body_bytes=settings.max_body_bytes,
        ),
        backlog=WAITING_CONNECTIONS,
        log_config=None,
        log_level=logging.ERROR,  # it warns of each request that is none, which strangers send
        access_log=False,  # its lines would hold the questions
        server_header=False,
        proxy_headers=False,
        ws="none",  # what looks at requests looks at HTTP
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    announce(f"listening on {_address(settings.host, listener)}")
    with suppress(KeyboardInterrupt), listener:
        _Server(config, app.state.service, settings.shutdown_timeout_s).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's, whose service knows at once that it is about to end, and which does end."""

    def __init__(self, config: uvicorn.Config, service: Service, shutdown_timeout_s: int) -> None:
        super().__init__(config)
        self._service = service
        self._shutdown_timeout_s = shutdown_timeout_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.begin_to_end()
        last = threading.Timer(self._shutdown_timeout_s + LAST_S, os._exit, [EXIT_FAILED])
        last.daemon = True
        last.start()
        await super().shutdown(sockets)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.start()
    yield
    service.stop()


def _most_connections(wanted: int) -> int:
    """As many as are `wanted`, or as many as the system lets this process have files for; it is
    told to allow what it may. Where none is left, asyncio writes to the log without end.
    """
    others = 3 * WAITING_CONNECTIONS + OTHER_FILES
    needed = wanted * 3 // 2 + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == needed:
        return wanted
    most = (allowed - others) * 2 // 3
    told = f"{wanted} connections (RAG_MAX_CONNECTIONS) take {needed} open files, of which the "
    told += f"system allows {hard} (ulimit -Hn)"
    if most < 1:
        raise NotReady(told)
    logger.warning("%s: no more than %d connections are taken", told, most)
    return most


def _give_back_large_memory() -> None:
    with suppress(OSError, AttributeError):  # as where there is no glibc
        libc = ctypes.CDLL(None)
        for parameter, value in MALLOPT.items():
            libc.mallopt(parameter, value)


def _keys(settings: Settings) -> tuple[KeyFile, bool]:
    """The archive's keys, and whether one is needed even while there is none."""
    keys = KeyFile(settings.index)
    required = not (is_loopback(settings.host) or settings.allow_anyone)
    if not keys.keys() and required:
        raise Unguarded(settings.host)
    return keys, required


def _is_work(scope: Scope) -> bool:
    return not scope["path"].startswith(UNCROWDED)


def _is_change(scope: Scope) -> bool:
    return needed_right(scope["method"], scope["path"]) is Right.WRITE


def _body_limits(settings: Settings) -> dict[str, int]:
    """The longest body of each call that reads one, in bytes."""
    question = FILTERS_BYTES + CHARACTER_BYTES * settings.max_question_characters
    limits = dict.fromkeys(READING_POSTS, min(question, settings.max_body_bytes))
    # A quote may be as long as a text.
    return {**limits, **dict.fromkeys(("/verify", "/articles"), settings.max_body_bytes)}


def _limits(settings: Settings) -> Limits:
    return Limits(
        text_bytes=settings.max_text_bytes,
        articles_per_call=settings.max_articles_per_call,
        question_characters=settings.max_question_characters,
        token_encoding=settings.token_encoding,
        queue_timeout_s=settings.queue_timeout_s,
        load_timeout_s=settings.load_timeout_s,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        made = socket.create_server(address[:2], family=family, backlog=WAITING_CONNECTIONS)
        # asyncio sends at once only where a socket names its protocol, which that one does not: a
        # client that kept its connection waited 44 ms more for each answer.
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotReady(
            f"cannot listen on {host}, port {port}: {reason}. Name another with --host or --port"
        ) from error


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
