"""Every error as RFC 9457 has it: application/problem+json, whoever raised it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from rag.errors import (
    ArchiveBusy,
    Crowded,
    InvalidRequest,
    NotReady,
    NoTurn,
    RagError,
    http_status,
)
from rag.logs import note
from rag.wire import Problem

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:rag:error:"
"""Before the name of an error of ours; what is only a status is about:blank."""

RETRY_AFTER_S = {ArchiveBusy: 5, NotReady: 5, Crowded: 1, NoTurn: 5}

STOPPING = "the server is being stopped"

ERRORS_NAMED = 20
"""Of the mistakes in one request."""

FIELD_CHARACTERS = 100

DETAILS = {
    404: "there is nothing at this address",
    405: "this address does not know that method",
}
SAYINGS = {
    "extra_forbidden": "it is not known here",
    "missing": "it is required",
    "model_type": "it must be an object",
}


class Refusal(HTTPException):
    """An error of ours with more members, to be raised where a call is handled."""

    def __init__(self, error: RagError, **members: object) -> None:
        super().__init__(http_status(error), str(error))
        self.error = error
        self.members = members


def problem_of(error: RagError, **members: object) -> Problem:
    """An error of ours, with what else there is to say of it."""
    fields = {
        "type": TYPE + type(error).__name__,
        "title": error.title,
        "status": http_status(error),
        "detail": str(error),
    }
    return Problem.model_validate({**fields, **members})


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The response that says it."""
    # In ASCII, so that half of a surrogate pair in what is complained of does no harm.
    body = json.dumps(problem.model_dump(), ensure_ascii=True)
    return Response(body, problem.status, headers, MEDIA_TYPE)


def error_response(error: RagError, **members: object) -> Response:
    """The response to an error of ours."""
    if isinstance(error, InvalidRequest):
        members.setdefault("errors", [{"field": error.field, "detail": error.problem}])
    note(error=type(error).__name__)
    return problem_response(problem_of(error, **members), retry_header(error))


def retry_header(error: RagError) -> dict[str, str]:
    """The header that says when to try again, where that may help."""
    seconds = RETRY_AFTER_S.get(type(error))
    return {"Retry-After": str(seconds)} if seconds else {}


def status_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object
) -> Response:
    """The response to what is no error of ours: the title is the status's own."""
    fields = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return problem_response(Problem.model_validate({**fields, **members}), headers)


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Have `app` answer so to all that is raised on purpose. `routes`: all that it has."""

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(routes, request))
        return _http_response(error, headers)

    app.add_exception_handler(RagError, _on_rag_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def openapi_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these statuses."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content} for s in statuses}


async def _on_rag_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RagError)
    return error_response(error)


def _http_response(error: HTTPException, headers: Mapping[str, str]) -> Response:
    if isinstance(error, Refusal):
        return error_response(error.error, **error.members)
    detail = DETAILS.get(error.status_code, str(error.detail))
    return status_response(error.status_code, detail, headers)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    errors = [{"field": _field(e["loc"]), "detail": _saying(e)} for e in found[:ERRORS_NAMED]]
    first, *others = errors
    rest = "".join(f"; {each['field']}: {each['detail']}" for each in others)
    return error_response(InvalidRequest(first["field"], first["detail"] + rest), errors=errors)


def _methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """What can be asked of the address: each of its methods has a route of its own."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found | {"HEAD"}) if "GET" in found else sorted(found)


def _field(location: Sequence[int | str]) -> str:
    """The field's name as the caller wrote it: `filters.source.0`, without `body` or `query`."""
    name = ".".join(str(part) for part in (location[1:] or location))
    return name if len(name) <= FIELD_CHARACTERS else name[:FIELD_CHARACTERS] + "…"


def _saying(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return SAYINGS.get(error["type"], str(error["msg"]))
