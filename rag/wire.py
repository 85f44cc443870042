"""The JSON of HTTP and of `--json`: its shapes, and how the core's nouns fill them.

Offsets are Unicode code points into the article's text. A field that a request does not know is
refused, so that no misspelt filter is passed over in silence; nothing is converted on the way.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rag.cite import link
from rag.ingest import IngestReport
from rag.normalise import MAX_CHARACTERS
from rag.searcher import TOP_K, TOP_K_MOST, Bounds
from rag.types import (
    Answer,
    ArticleHead,
    Citation,
    Filters,
    Hit,
    SearchResult,
    Verification,
)

READING_METHODS = frozenset(["GET", "HEAD", "OPTIONS"])
READING_POSTS = frozenset(["/ask", "/search", "/verify"])
"""What changes nothing."""

DECIMALS = 6
"""Scores come from 32-bit numbers; what is beyond that is noise."""

GREATEST_NUMBER = 2**53 - 1
"""The greatest whole number that every reader of JSON takes as it is."""

FILTER_VALUES_MOST = 10_000
FIELDS_MOST = 100
"""Values of one filter, fields of one object. Each mistake takes a kilobyte and 20 µs in which
nobody else is answered: three million in a body of 5 MB took a minute and 3.6 GB."""


def _whole(text: str) -> str:
    """`text`, unless it holds half of a surrogate pair: no text of an archive does."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the character at {error.start} is half of a surrogate pair, which is no text"
        ) from None
    return text


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _is_none(value: object) -> bool:
    return value is None


def _rounded(score: float) -> float:
    return round(score, DECIMALS)


def _at_most(field: str) -> Any:
    return Field(max_length=MAX_CHARACTERS[field])


Text = Annotated[str, AfterValidator(_whole)]
Values = Annotated[list[Text], Field(max_length=FILTER_VALUES_MOST, fail_fast=True)]
Score = Annotated[float, AfterValidator(_rounded)]
Offset = Annotated[int, Field(ge=0, le=GREATEST_NUMBER)]
Revision = Annotated[int, Field(ge=1, le=GREATEST_NUMBER)]
TopK = Annotated[int, Field(ge=1, le=TOP_K_MOST, description="How many passages at most.")]
TokenBudget = Annotated[
    int,
    Field(
        ge=1,
        le=GREATEST_NUMBER,
        description="Tokens that the cited passages may take together; the answer's `budget` "
        "names the encoding that counted them.",
    ),
]

DATE = "ISO date or date-time, inclusive; a bare date is the whole day in UTC."

ASKED_AT = (
    'ISO date or date-time that "last week" and the like in the question count from; none: today '
    "in UTC. Where it is given and the question names no date, what was published in the weeks "
    "before it is preferred."
)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _is_small(cls, given: object) -> object:
        if isinstance(given, dict) and len(given) > FIELDS_MOST:
            raise ValueError(f"it has {len(given):,} fields, over the limit of {FIELDS_MOST}")
        return given


class FiltersModel(_Request):
    """Exact conditions on articles; one left out is no condition, an empty list lets none pass."""

    source: Values | None = Field(default=None, description="Published by one of these.")
    published_from: Text | None = Field(default=None, description=DATE)
    published_to: Text | None = Field(default=None, description=DATE)
    article_id: Values | None = Field(default=None, description="One of these articles.")
    exclude_article_id: Values | None = Field(default=None, description="None of these articles.")

    def filters(self) -> Filters:
        """As the core has them."""
        return Filters(
            source=_tuple(self.source),
            published_from=self.published_from,
            published_to=self.published_to,
            article_id=_tuple(self.article_id),
            exclude_article_id=_tuple(self.exclude_article_id),
        )


class AskRequest(_Request):
    """A question, and what may answer it."""

    question: Text = Field(description="In plain words.", json_schema_extra={"minLength": 1})
    top_k: TopK = TOP_K
    filters: FiltersModel | None = None
    token_budget: TokenBudget | None = None
    asked_at: Text | None = Field(default=None, description=ASKED_AT)

    def bounds(self) -> Bounds:
        """All but the question, as the core has it."""
        return Bounds(
            top_k=self.top_k,
            filters=(self.filters or FiltersModel()).filters(),
            token_budget=self.token_budget,
            asked_at=self.asked_at,
        )


class ArticleIn(BaseModel):
    """An article to add: a title or a text at least. Fields not named here are left out."""

    model_config = ConfigDict(extra="allow")

    id: str | int | None = Field(default=None, description="Else made from the address or text.")
    title: Annotated[str, _at_most("title")] | None = Field(
        default=None, description="Else a first line that is one."
    )
    text: str | None = None
    source: Annotated[str, _at_most("source")] | None = Field(
        default=None, description="Who published it."
    )
    author: Annotated[str, _at_most("author")] | list[str] | None = Field(
        default=None, description="A list is joined, and as long at most."
    )
    url: Annotated[str, _at_most("url")] | None = Field(
        default=None, description="Where it was published."
    )
    published_at: str | None = Field(default=None, description="ISO date or date-time.")


class VerifyRequest(_Request):
    """A quote to be checked, and where it should stand."""

    article_id: Text
    revision: Revision | None = Field(default=None, description="Of the article; none: today's.")
    start: Offset = Field(description="In code points of the article's text.")
    end: Offset = Field(description="In code points, exclusive.")
    quote: Text


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ScoresOut(_Out):
    """BM25, cosine and MaxSim as they are; higher is better."""

    lexical: Score
    dense: Score
    late: Score | None


class PassageOut(_Out):
    """A run of whole sentences; `encoding` names the model whose `tokens` these are."""

    text: str
    start: int
    end: int
    tokens: int
    encoding: str


class ArticleRef(_Out):
    """What a citation says of its article."""

    id: str
    title: str
    source: str | None
    author: str | None
    url: str | None
    published_at: str | None
    revision: int
    sha256: str


class ArticleOut(ArticleRef):
    """A stored article without its text, which is `characters` code points long."""

    characters: int


class _Ranked(_Out):
    rank: int
    passage_id: str
    score: Score
    scores: ScoresOut


class HitOut(_Ranked):
    """A passage with its scores; `start` and `end` are the passage's."""

    start: int
    end: int
    passage: PassageOut
    article: ArticleRef
    link: str | None


class CitationOut(_Ranked):
    """A quote that can be checked: the article's text from `start` to `end` is `quote`."""

    quote: str
    start: int
    end: int
    highlights: list[tuple[int, int]]
    passage: PassageOut
    article: ArticleRef
    link: str | None


class FilteredOut(_Out):
    """What the filters kept out: articles that have no date, where a date is asked for."""

    undated: int


class QuestionTokens(_Out):
    """How long the question is in tokens of `encoding`, and how much of it the vector saw."""

    tokens: int
    seen: int
    encoding: str


class AskedPeriodOut(_Out):
    """A date or period in the question, `text` at [`start`, `end`) of it. Articles published from
    `published_from` (null: from the beginning) to `published_to`, ISO dates, both inclusive, and
    shortly after are preferred. What may be read in two ways, as 03/04/2025, is two of them."""

    text: str
    start: int
    end: int
    published_from: str | None
    published_to: str


class AskedSourceOut(_Out):
    """A source that the question names, `text` at [`start`, `end`) of it; its articles are
    preferred."""

    text: str
    start: int
    end: int
    source: str


class InterpretedOut(_Out):
    """How the question was read: what is preferred, and never required. What a filter says is left
    out. `asked_at` is what relative dates count from; `recent`: what was published in the weeks
    before it is preferred, since it was given and the question names no date."""

    asked_at: str
    periods: list[AskedPeriodOut]
    sources: list[AskedSourceOut]
    recent: bool


class BudgetOut(_Out):
    """Tokens of the cited passages, counted by the tiktoken encoding named."""

    limit: int
    used: int
    encoding: str


class AnswerOut(_Out):
    """The answer: citations best first. `confidence` is the chance that the first answers the
    question, `answered` whether that is enough; null for models it was not fitted to."""

    question: str
    answered: bool
    confidence: float | None
    citations: list[CitationOut]
    interpreted: InterpretedOut
    filtered: FilteredOut
    took_ms: dict[str, float]
    generation: int
    question_tokens: QuestionTokens
    budget: BudgetOut | None = Field(default=None, exclude_if=_is_none)


class HitsOut(_Out):
    """The passages found, best first."""

    question: str
    hits: list[HitOut]
    interpreted: InterpretedOut
    filtered: FilteredOut
    took_ms: dict[str, float]
    generation: int
    question_tokens: QuestionTokens
    budget: BudgetOut | None = Field(default=None, exclude_if=_is_none)


class VerifyOut(_Out):
    """Whether the quote stands there; `found_at`: where its first stands, null if nowhere."""

    valid: bool
    revision: int
    found_at: int | None


class FailedOut(_Out):
    """What could not be taken and why; `position` in the list that was sent, from 0."""

    item: str
    reason: str
    position: int | None = Field(default=None, exclude_if=_is_none)


class AddOut(_Out):
    """What a call added. `ids` are those of the articles sent, null for one that failed."""

    added: int
    updated: int
    unchanged: int
    failed: list[FailedOut]
    generation: int
    ids: list[str | None] | None = Field(default=None, exclude_if=_is_none)


class RemovedOut(_Out):
    """The article that was removed, and the generation without it."""

    removed: str
    generation: int


class ArticlesPage(_Out):
    """Articles in the order of their ids; `next_cursor` is null on the last page."""

    articles: list[ArticleOut]
    next_cursor: str | None


class Problem(BaseModel):
    """An error as RFC 9457 has it; `errors` and the like are there where they say more."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


def answer_json(answer: Answer, *, encoder: str) -> AnswerOut:
    """An answer. `encoder`: the model's name, in whose tokens passage and question are counted."""
    return AnswerOut(
        question=answer.question,
        answered=answer.answered,
        confidence=answer.confidence,
        citations=[_citation(each, encoder) for each in answer.citations],
        interpreted=InterpretedOut.model_validate(answer.interpreted),
        filtered=FilteredOut(undated=answer.undated),
        took_ms=dict(answer.took_ms),
        generation=answer.generation,
        question_tokens=_question_tokens(answer, encoder),
        budget=BudgetOut.model_validate(answer.budget) if answer.budget else None,
    )


def hits_json(result: SearchResult, *, encoder: str) -> HitsOut:
    """The hits of a search. `encoder` as in `answer_json`."""
    return HitsOut(
        question=result.question,
        hits=[_hit(rank, hit, encoder) for rank, hit in enumerate(result.hits, start=1)],
        interpreted=InterpretedOut.model_validate(result.interpreted),
        filtered=FilteredOut(undated=result.undated),
        took_ms=dict(result.took_ms),
        generation=result.generation,
        question_tokens=_question_tokens(result, encoder),
        budget=BudgetOut.model_validate(result.budget) if result.budget else None,
    )


def article_json(head: ArticleHead) -> ArticleOut:
    """A stored article."""
    return ArticleOut.model_validate(head)


def verification_json(verification: Verification) -> VerifyOut:
    """What became of a check."""
    return VerifyOut.model_validate(verification)


def added_json(report: IngestReport) -> AddOut:
    """What was added."""
    return AddOut.model_validate(report)


def _question_tokens(found: Answer | SearchResult, encoder: str) -> QuestionTokens:
    return QuestionTokens(tokens=found.tokens, seen=found.tokens_seen, encoding=encoder)


def _hit(rank: int, hit: Hit, encoder: str) -> HitOut:
    return HitOut(
        rank=rank,
        passage_id=hit.passage.id,
        score=hit.score,
        scores=ScoresOut.model_validate(hit.scores),
        start=hit.passage.span.start,
        end=hit.passage.span.end,
        passage=_passage(hit, encoder),
        article=ArticleRef.model_validate(hit.article),
        link=link(hit.article, hit.passage.text),
    )


def _citation(citation: Citation, encoder: str) -> CitationOut:
    hit = citation.hit
    return CitationOut(
        rank=citation.rank,
        passage_id=hit.passage.id,
        score=hit.score,
        scores=ScoresOut.model_validate(hit.scores),
        quote=citation.quote,
        start=citation.start,
        end=citation.end,
        highlights=list(citation.highlights),
        passage=_passage(hit, encoder),
        article=ArticleRef.model_validate(hit.article),
        link=citation.link,
    )


def _passage(hit: Hit, encoder: str) -> PassageOut:
    span = hit.passage.span
    return PassageOut(
        text=hit.passage.text,
        start=span.start,
        end=span.end,
        tokens=span.tokens,
        encoding=encoder,
    )
