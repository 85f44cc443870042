"""The server: the calls, the page, and what stands around them, put together and run."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from rag import api, page, problems
from rag.archive import Archive
from rag.config import Settings
from rag.encode import load_encoder
from rag.errors import NotReady
from rag.guard import Crowd, Envelope, Guard, own_names
from rag.metrics import Metered
from rag.service import Limits, Service
from rag.types import Encoder

SHUTDOWN_S = 10
"""How long requests may take to end once the server is told to."""

KEEP_ALIVE_S = 5
WAITING_CONNECTIONS = 1024
UNCROWDED = ("/health/", "/metrics")

DESCRIPTION = """Search and question answering over an archive of articles. Every quote can be
checked: `/articles/{id}/text` from `start` to `end`, in code points, is the quote."""


def create_app(settings: Settings, *, encoder: Encoder | None = None) -> FastAPI:
    """The application over the archive that `settings` name; `encoder` takes the model's place.

    Raises ModelNotFound, ModelRefused, IndexMismatch and what is wrong with the archive.
    """
    service = Service(
        Archive(settings.index, lock_timeout_s=settings.lock_timeout_s),
        encoder or load_encoder(settings.model, index=settings.index, cache=settings.cache),
        _limits(settings),
        lexical_weight=settings.lexical_weight,
        answer_threshold=settings.answer_threshold,
        passage_tokens=settings.passage_tokens,
    )
    hosts = own_names(settings.host, settings.allowed_hosts)
    app = FastAPI(
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
            Middleware(Envelope),
            Middleware(Metered, metrics=service.metrics),
            Middleware(
                Guard,
                hosts=hosts,
                max_body_bytes=settings.max_body_bytes,
                max_body_s=settings.max_body_s,
            ),
            Middleware(Crowd, at_once=settings.max_requests_at_once, exempt=UNCROWDED),
        ],
    )
    app.state.service = service
    problems.install(app, [*api.router.routes, *page.router.routes])
    app.include_router(api.router)
    app.include_router(page.router)
    return app


def serve(
    settings: Settings,
    *,
    encoder: Encoder | None = None,
    announce: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> None:
    """Serve until told to stop; `announce` is told the address once it is being listened at.

    Raises what `create_app` raises, and NotReady if the address cannot be had, before it listens.
    """
    app = create_app(settings, encoder=encoder)
    listener = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        log_level=logging.WARNING,
        access_log=False,  # its lines would hold the questions
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    announce(f"listening on {_address(settings.host, listener)}")
    with suppress(KeyboardInterrupt), listener:
        uvicorn.Server(config).run(sockets=[listener])


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.start()
    yield
    service.stop()


def _limits(settings: Settings) -> Limits:
    return Limits(
        text_bytes=settings.max_text_bytes,
        articles_per_call=settings.max_articles_per_call,
        question_characters=settings.max_question_characters,
        token_encoding=settings.token_encoding,
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
