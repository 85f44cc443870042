"""The page: a question in a field, answers as cards, and an article opened at a quote.

All of it is made here and works without a script; nothing is loaded from anywhere.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import quote as percent_encoded
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from rag.cite import web_address
from rag.errors import ArticleNotFound, InvalidRequest, RagError, http_status
from rag.logs import note
from rag.marks import Paragraph, paragraphs
from rag.problems import retry_header
from rag.searcher import TOP_K
from rag.service import Service, Serving
from rag.types import Answer, Citation, Filters, Interpreted
from rag.wire import Offset, Revision

AtRevision = Annotated[Revision | None, Query()]
Place = Annotated[Offset, Query()]

# so that a page needs one request, and no style but this one is taken
STYLE = "".join(
    files("rag").joinpath("pages", name).read_text(encoding="utf-8")
    for name in ("colours.css", "style.css")
)
STYLE_HASH = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; "
    "img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

PAGES = Environment(
    loader=PackageLoader("rag", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.globals["style"] = Markup(STYLE)  # noqa: S704 - our own files, which hold no `<`

FIELDS = {
    "question": "The question",
    "published_from": "The first date",
    "published_to": "The last date",
}
"""What people call the fields that an error may name."""


class PageQuery(BaseModel):
    """The parameters of the page's form. Others are passed over: a link that was passed on may have
    some added."""

    q: str | None = None
    first: str = Field(default="", alias="from")
    last: str = Field(default="", alias="to")


@dataclass(frozen=True, slots=True)
class Form:
    """What stands in the form; a question of None was not asked."""

    question: str | None = None
    first: str = ""
    last: str = ""

    @property
    def filters(self) -> Filters:
        """The dates as a condition; a field left empty is none."""
        return Filters(published_from=self.first or None, published_to=self.last or None)

    @property
    def as_json(self) -> str:
        """Where the same answer is as JSON."""
        dates = {"from": self.first, "to": self.last}
        fields = {"q": self.question or ""} | {name: day for name, day in dates.items() if day}
        return f"/ask?{urlencode(fields)}"


@dataclass(frozen=True, slots=True)
class Day:
    """A date as a machine has it and as people read it."""

    iso: str
    shown: str


@dataclass(frozen=True, slots=True)
class Card:
    """One citation as it is shown."""

    title: str
    source: str | None
    author: str | None
    day: Day | None
    here: str
    original: str | None
    paragraphs: list[Paragraph]


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing that the question was read as: a source, or days of which the first may lack."""

    source: str | None = None
    first: Day | None = None
    last: Day | None = None


@router.get("/")
async def ask(asked: Annotated[PageQuery, Query()], request: Request) -> Response:
    """The field, and under it the answer if there is a question."""
    service: Service = request.app.state.service
    form = Form(asked.q, asked.first.strip(), asked.last.strip())
    try:
        if asked.q is None:
            return await run_in_threadpool(_ask_page, service, form)
        await service.loaded()
        answered = partial(_answered, service, form, asked.q)
        return await service.in_turn(answered, request.is_disconnected)
    except RagError as error:
        return await run_in_threadpool(_not_answered, service, form, error)


@router.get("/read/{article_id}")
def read(
    article_id: str,
    service: Serving,
    revision: AtRevision = None,
    start: Place = 0,
    end: Place = 0,
) -> Response:
    """An article, with what stands from `start` to `end` marked."""
    try:
        with service.archive.reading() as reading:
            head = reading.head(article_id, revision) if reading else None
            if reading is None or head is None:
                raise ArticleNotFound(article_id, revision)
            text = reading.text(head.id, head.revision)
            today = reading.head(article_id)
    except RagError as error:
        return _page("message.html", http_status(error), title=error.title, message=str(error))
    marked = start < end <= len(text)
    return _page(
        "read.html",
        head=head,
        title=head.title,
        day=day(head.published_at),
        original=web_address(head.url),
        paragraphs=paragraphs(text, (start, end) if marked else (0, 0)),
        place=(start, end) if marked else None,
        misplaced=end > 0 and not marked,
        revised=today is not None and today.revision != head.revision,
    )


def _answered(service: Service, form: Form, question: str) -> Response:
    answer = service.ask(question, top_k=TOP_K, filters=form.filters)
    return _ask_page(service, form, answer=answer)


def _not_answered(service: Service, form: Form, error: RagError) -> Response:
    problem = str(error)
    if isinstance(error, InvalidRequest):
        problem = f"{FIELDS.get(error.field, error.field)}: {error.problem}"
    note(error=type(error).__name__)
    page = _ask_page(service, form, http_status(error), problem=problem)
    page.headers.update(retry_header(error))
    return page


def _ask_page(
    service: Service,
    form: Form,
    status: int = 200,
    *,
    answer: Answer | None = None,
    problem: str | None = None,
) -> Response:
    try:
        articles: int | None = service.counts()[1]
    except RagError:  # the question's own error has said why
        articles = None
    return _page(
        "ask.html",
        status,
        form=form,
        answer=answer,
        problem=problem,
        cards=[card(each) for each in answer.citations] if answer else [],
        readings=readings(answer.interpreted) if answer else [],
        articles=articles,
        longest=service.limits.question_characters,
    )


def card(citation: Citation) -> Card:
    """A citation as it is shown: its passage, the quote in it, the question's words in that."""
    article, passage = citation.hit.article, citation.hit.passage
    base = passage.span.start
    words = [(start - base, end - base) for start, end in citation.highlights]
    place = {"revision": article.revision, "start": citation.start, "end": citation.end}
    return Card(
        title=article.title,
        source=article.source,
        author=article.author,
        day=day(article.published_at),
        here=f"/read/{percent_encoded(article.id, safe='')}?{urlencode(place)}#quote",
        original=citation.link,
        paragraphs=paragraphs(passage.text, (citation.start - base, citation.end - base), words),
    )


def readings(interpreted: Interpreted) -> list[Reading]:
    """What the question was read as, for people."""
    periods = [
        Reading(first=day(each.published_from), last=day(each.published_to))
        for each in interpreted.periods
    ]
    return periods + [Reading(source=each.source) for each in interpreted.sources]


def day(published_at: str | None) -> Day | None:
    """An ISO date or date-time for people: 23 November 2025, 08:30 UTC."""
    if published_at is None:
        return None
    moment = datetime.fromisoformat(published_at)
    shown = f"{moment.day} {moment:%B} {moment.year}"
    if len(published_at) > len("2025-11-23"):
        offset = "UTC" if not moment.utcoffset() else moment.isoformat()[-6:]
        shown += f", {moment:%H:%M} {offset}"
    return Day(published_at, shown)


def _page(template: str, status: int = 200, **values: Any) -> Response:
    return HTMLResponse(PAGES.get_template(template).render(values), status, HEADERS)
