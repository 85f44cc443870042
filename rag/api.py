"""The calls over HTTP, JSON in and out. Each runs in a thread, so that none holds up the others;
questions run a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from rag.adding import add
from rag.errors import ArticleNotFound
from rag.metrics import MEDIA_TYPE as METRICS_TYPE
from rag.parsing import validated
from rag.problems import openapi_responses
from rag.reading import Reading
from rag.searcher import TOP_K
from rag.service import Asking, Behind, Service, Serving
from rag.types import ArticleHead
from rag.wire import (
    ASKED_AT,
    DATE,
    AddOut,
    AnswerOut,
    ArticleIn,
    ArticleOut,
    ArticlesPage,
    AskRequest,
    FiltersModel,
    HitsOut,
    RemovedOut,
    Revision,
    Text,
    TokenBudget,
    TopK,
    VerifyOut,
    VerifyRequest,
    answer_json,
    article_json,
    hits_json,
    verification_json,
)

_ARTICLE = ArticleIn.model_json_schema()
ARTICLES = {"title": "Articles", "anyOf": [_ARTICLE, {"type": "array", "items": _ARTICLE}]}

BODIES, BODY_SCHEMAS = models_json_schema(
    [(AskRequest, "validation"), (VerifyRequest, "validation")],
    ref_template="#/components/schemas/{model}",
)
"""What bodies say, for OpenAPI. The calls take them as bytes: what is waiting for its turn is not
parsed yet."""

AtRevision = Annotated[Revision | None, Query(description="Of the article; none: today's.")]


class AskQuery(BaseModel):
    """The parameters of `GET /ask`."""

    model_config = ConfigDict(extra="forbid")

    q: Text = Field(description="In plain words.", json_schema_extra={"minLength": 1})
    top_k: TopK = TOP_K
    source: list[Text] | None = Field(
        default=None, description="Published by this source; repeatable."
    )
    published_from: Text | None = Field(default=None, alias="from", description=DATE)
    published_to: Text | None = Field(default=None, alias="to", description=DATE)
    token_budget: TokenBudget | None = None
    asked_at: Text | None = Field(default=None, description=ASKED_AT)

    def request(self) -> AskRequest:
        """The same as a body."""
        filters = FiltersModel(
            source=self.source, published_from=self.published_from, published_to=self.published_to
        )
        return AskRequest(
            question=self.q,
            top_k=self.top_k,
            filters=filters,
            token_budget=self.token_budget,
            asked_at=self.asked_at,
        )


class ListQuery(BaseModel):
    """The parameters of `GET /articles`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=1000, description="Articles in one answer.")
    cursor: Text = Field(
        default="", description="`next_cursor` of the page before; none: the start."
    )


class HealthOut(BaseModel):
    """`live`: the process answers. `ready`: it answers questions."""

    status: str


class ReadyOut(HealthOut):
    """`generation`: of the archive. `behind`: what of it is not up to date, which loses nothing.
    `sound`: what the last check found, which began at `checked_at`; false, where damage was met
    since; null, where nobody knows."""

    generation: int
    behind: list[Behind]
    sound: bool | None
    checked_at: str | None


router = APIRouter(responses=openapi_responses(401, 403, 422, 429, 500, 503))
health = APIRouter(prefix="/health", responses=openapi_responses(403, 422, 500, 503))


def _sent(schema: object) -> dict[str, Any]:
    """What OpenAPI says of a body."""
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"content": content, "required": True}}


QUESTION = _sent(BODIES[AskRequest, "validation"])
CLAIM = _sent(BODIES[VerifyRequest, "validation"])


@router.post(
    "/ask",
    response_model=AnswerOut,
    responses=openapi_responses(400, 408, 413, 415),
    openapi_extra=QUESTION,
)
async def ask(service: Asking, request: Request) -> Response:
    """The best citations for a question, each with the place where it can be checked."""
    body = await request.body()
    return await _in_turn(request, service, lambda: _answer(service, validated(AskRequest, body)))


@router.get("/ask", response_model=AnswerOut)
async def ask_by_address(
    asked: Annotated[AskQuery, Query()], service: Asking, request: Request
) -> Response:
    """The same for a browser or curl."""
    return await _in_turn(request, service, partial(_answer, service, asked.request()))


@router.post(
    "/search",
    response_model=HitsOut,
    responses=openapi_responses(400, 408, 413, 415),
    openapi_extra=QUESTION,
)
async def search(service: Asking, request: Request) -> Response:
    """The best passages for a query, without the decision to answer."""
    body = await request.body()
    return await _in_turn(request, service, lambda: _hits(service, validated(AskRequest, body)))


@router.post(
    "/articles", responses=openapi_responses(400, 408, 413, 415), openapi_extra=_sent(ARTICLES)
)
async def add_articles(service: Asking, request: Request) -> AddOut:
    """Add articles, or revise those of the same id; what cannot be taken is listed in `failed`."""
    return await service.in_line(partial(add, service, await request.body()))


@router.get("/articles")
def list_articles(page: Annotated[ListQuery, Query()], service: Serving) -> ArticlesPage:
    """The articles in the order of their ids."""
    with service.archive.reading() as reading:
        heads = reading.heads(limit=page.limit + 1, after=page.cursor) if reading else []
    more = len(heads) > page.limit
    return ArticlesPage(
        articles=[article_json(head) for head in heads[: page.limit]],
        next_cursor=heads[page.limit - 1].id if more else None,
    )


@router.get("/articles/{article_id}", responses=openapi_responses(404))
def show_article(article_id: str, service: Serving, revision: AtRevision = None) -> ArticleOut:
    """One article, without its text."""
    with service.archive.reading() as reading:
        return article_json(_head(reading, article_id, revision))


@router.get(
    "/articles/{article_id}/text",
    response_class=PlainTextResponse,
    responses=openapi_responses(404),
)
def show_text(article_id: str, service: Serving, revision: AtRevision = None) -> Response:
    """The normalised text, which all offsets refer to."""
    with service.archive.reading() as reading:
        head = _head(reading, article_id, revision)
        assert reading is not None
        return PlainTextResponse(reading.text(head.id, head.revision))


@router.delete("/articles/{article_id}", responses=openapi_responses(404))
async def remove_article(article_id: str, service: Serving) -> RemovedOut:
    """Remove an article with all its revisions."""
    outcome = await service.in_line(partial(service.archive.remove, [article_id]))
    service.renew_base()
    return RemovedOut(removed=article_id, generation=outcome.generation)


@router.post(
    "/verify",
    response_model=VerifyOut,
    responses=openapi_responses(400, 404, 408, 413, 415),
    openapi_extra=CLAIM,
)
async def verify(service: Serving, request: Request) -> Response:
    """Whether a quote stands in an article, and there."""
    body = await request.body()
    return await _in_turn(
        request, service, lambda: _verification(service, validated(VerifyRequest, body))
    )


@health.get("/live", openapi_extra={"security": []})
async def live() -> HealthOut:
    """Whether the process answers."""
    return HealthOut(status="live")


@health.get("/ready", openapi_extra={"security": []})
async def ready(service: Serving) -> ReadyOut:
    """Whether it answers questions."""
    found = await service.aside(service.readiness)
    return ReadyOut(status="ready", **asdict(found))


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Serving) -> Response:
    """What is counted and timed, for Prometheus."""
    body = await service.aside(service.exposition)
    return Response(body, media_type=METRICS_TYPE)


async def _in_turn(request: Request, service: Service, work: Callable[[], BaseModel]) -> Response:
    """What `work` gives as JSON. It is written in the same thread, once, and nothing is checked a
    second time, which would take longer than HTTP does."""
    body = await service.in_turn(lambda: work().model_dump_json(), request.is_disconnected)
    return Response(body, media_type="application/json")


def _answer(service: Service, asked: AskRequest) -> AnswerOut:
    answer = service.ask(asked.question, **asked.bounds())
    return answer_json(answer, encoder=service.encoder.name)


def _hits(service: Service, asked: AskRequest) -> HitsOut:
    result = service.search(asked.question, **asked.bounds())
    return hits_json(result, encoder=service.encoder.name)


def _verification(service: Service, claim: VerifyRequest) -> VerifyOut:
    verification = service.searcher.verify(
        claim.article_id, claim.start, claim.end, claim.quote, claim.revision
    )
    return verification_json(verification)


def _head(reading: Reading | None, article_id: str, revision: int | None) -> ArticleHead:
    head = reading.head(article_id, revision) if reading else None
    if head is None:
        raise ArticleNotFound(article_id, revision)
    return head
