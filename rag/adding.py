"""Articles that come over HTTP: all are looked at first, then what can be taken goes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rag.errors import InvalidRequest, RagError, UnreadableItem
from rag.ingest import ingest
from rag.normalise import article_from_fields
from rag.parsing import read_json
from rag.problems import Refusal
from rag.reading import Reading
from rag.schema import same_record
from rag.service import Service
from rag.types import Article, Unreadable
from rag.wire import AddOut, FailedOut, added_json

Item = Article | Unreadable


ARTICLE_VALUES = 250
"""Values that an article of a call may have in the mean, those that are left out among them. A
thousand articles of so many take a quarter of a second to read."""


def add(service: Service, body: bytes) -> AddOut:
    """Add the articles that the JSON of `body`, an object or a list of them, describes.

    Raises as `read_json`, and InvalidRequest where there are too many, and where none of them can
    be taken. A Refusal for an error on the way says in `stored` which articles are in the archive
    all the same.
    """
    items = _items(service, body)
    articles = [item for item in items if isinstance(item, Article)]
    failed = [
        FailedOut(item=item.item, reason=item.reason, position=position)
        for position, item in enumerate(items)
        if isinstance(item, Unreadable)
    ]
    if failed and not articles:
        raise _none_taken(failed)
    try:
        service.require_time()
        report = ingest(
            service.archive,
            service.encoder,
            articles,
            passage_tokens=service.passage_tokens,
            tell=lambda _: service.require_time(),
            renew_base=False,
        )
    except RagError as error:
        raise Refusal(error, stored=_stored(service, articles)) from error
    finally:
        service.renew_base()
    outcome = added_json(report)
    outcome.failed = [*failed, *outcome.failed]
    with service.archive.reading() as reading:
        outcome.ids = [_id(reading, item) for item in items]
    return outcome


def _items(service: Service, body: bytes) -> list[Item]:
    limit = service.limits.articles_per_call
    sent = read_json(body, most_values=ARTICLE_VALUES * limit)
    one_by_one = sent if isinstance(sent, list) else [sent]
    if len(one_by_one) > limit:
        raise InvalidRequest(
            "body",
            f"it has {len(one_by_one)} articles; the limit is {limit} a call "
            "(RAG_MAX_ARTICLES_PER_CALL)",
        )
    taken: dict[str, Article] = {}
    return [
        _item(each, position, taken, service.limits.text_bytes)
        for position, each in enumerate(one_by_one)
    ]


def _item(sent: object, position: int, taken: dict[str, Article], max_text_bytes: int) -> Item:
    """The article that was sent, unless it is none or another has its id; added to `taken`."""
    name = f"article {position}"
    if not isinstance(sent, Mapping):
        return Unreadable(name, "it is not an object with a title or a text")
    try:
        article = article_from_fields(sent, item=name, max_text_bytes=max_text_bytes)
    except UnreadableItem as error:
        return Unreadable(name, error.reason)
    if taken.setdefault(article.id, article) != article:
        reason = f"another article of this call has the id {article.id} and other content"
        return Unreadable(name, f"{reason}; that one was taken")
    return article


def _none_taken(failed: Sequence[FailedOut]) -> Refusal:
    count = "the article" if len(failed) == 1 else f"none of the {len(failed)} articles"
    cannot = "cannot" if len(failed) == 1 else "can"
    error = InvalidRequest("body", f"{count} {cannot} be taken: {failed[0].reason}")
    return Refusal(error, failed=[each.model_dump() for each in failed])


def _stored(service: Service, articles: Sequence[Article]) -> list[str] | None:
    """Ids of those articles that the archive holds just so; None if it cannot say."""
    try:
        with service.archive.reading() as reading:
            if reading is None:
                return []
            heads = ((each, reading.head(each.id)) for each in articles)
            held = [each.id for each, head in heads if head and same_record(each, head)]
            return list(dict.fromkeys(held))
    except RagError:
        return None


def _id(reading: Reading | None, item: Item) -> str | None:
    """The id that an article is found by now, which may be that of an equal text."""
    if reading is None or isinstance(item, Unreadable):
        return None
    if reading.head(item.id) is not None:
        return item.id
    return next(iter(reading.ids_of_text(item.sha256, None if item.text else item.title)), None)
