"""The write path: read → chunk → encode → publish, a batch at a time.

What a batch publishes is safe when the next one begins. Texts are encoded before the lock is
taken, and a text that the archive has encoded before is not encoded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from rag.archive import Archive, EncodingsGone
from rag.chunk import CHUNKER, PASSAGE_TOKENS, chunk, clip_words
from rag.errors import InvalidRequest
from rag.normalise import NORMALISER
from rag.reading import Reading
from rag.schema import ArticleDraft, PassageDraft, same_record
from rag.snapshot import Fingerprint
from rag.types import Article, Encoder, Encoding, IdentifiedBy, Unreadable

BATCH_PASSAGES = 512
"""A batch is published when it holds so many passages: some ten seconds of encoding. That bounds
what a killed process has to do again, and the memory."""

BATCH_ARTICLES = 512

ENCODE_AT_ONCE = 128
"""Texts handed to the encoder in one call; progress is told after each."""

HEADER_TOKENS = 64
"""The title stands before each passage in what is encoded; a longer one is clipped at a word."""

HEADER_PART = 4
"""Of a small model's window the title takes at most one part in so many."""

JOINT_TOKENS = 8
"""Room for what some tokenizers add where title and sentences are joined."""

ATTEMPTS = 3
"""How often a batch is encoded anew because another writer erased encodings it counted on."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come: articles settled, passages and tokens encoded, since its start.

    `batch_part`: how much of the batch at hand is encoded, 0 to 1.
    """

    articles: int = 0
    passages: int = 0
    tokens: int = 0
    batch_part: float = 0.0


@dataclass(slots=True)
class IngestReport:
    """What a run did. `truncated` counts the passages that the model did not see whole: none, as
    the encoder refuses them."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: list[Unreadable] = field(default_factory=list)
    generation: int = 0
    passages: int = 0
    truncated: int = 0


def ingest(
    archive: Archive,
    encoder: Encoder,
    items: Iterable[Article | Unreadable],
    *,
    passage_tokens: int | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
    renew_base: bool = True,
) -> IngestReport:
    """Add articles to the archive, or revise those that it has under the same id.

    `passage_tokens`: the budget of a passage; by default the archive's own. `renew_base`: write the
    dense base where it is due, which takes long in a large archive; else the caller sees to it.
    Items that could not be read are passed on in the report. Raises IndexMismatch, ArchiveBusy and
    StorageFailed; the batches published before that stay.
    """
    if passage_tokens is not None and passage_tokens < 1:
        raise InvalidRequest("passage_tokens", "it must be at least 1")
    run = _Run(archive, encoder, passage_tokens, tell, renew_base)
    for item in items:
        if isinstance(item, Unreadable):
            run.report.failed.append(item)
        else:
            run.offer(item)
    return run.finish()


def passage_budget(archive: Archive, passage_tokens: int | None) -> int:
    """The budget that is asked for, else the archive's own, else the default; in tokens."""
    return passage_tokens or int(archive.manifest().get("passage_tokens", PASSAGE_TOKENS))


def fingerprint(encoder: Encoder, passage_tokens: int) -> Fingerprint:
    """What an archive built by this code with this encoder says of itself."""
    values = {
        "encoder": encoder.fingerprint,
        "projection": encoder.projection,
        "chunker": CHUNKER,
        "normaliser": NORMALISER,
        "passage_tokens": str(passage_tokens),
    }
    return Fingerprint(values, encoder.name)


class _Run:
    """One call of `ingest`: what it did, and the batch being filled."""

    def __init__(
        self,
        archive: Archive,
        encoder: Encoder,
        passage_tokens: int | None,
        tell: Callable[[Progress], None],
        renew_base: bool,
    ) -> None:
        archive.finish_left()
        self.report = IngestReport()
        self._renew_base = renew_base
        self._archive = archive
        self._encoder = encoder
        self._tell = tell
        self._progress = Progress()
        self._budget = passage_budget(archive, passage_tokens)
        self._fingerprint = fingerprint(encoder, self._budget)
        archive.require(self._fingerprint)
        self._seen: dict[str, str] = {}
        self._passed_over: dict[str, list[Article]] = {}
        self._drafts: list[ArticleDraft] = []
        self._draft_texts: set[str] = set()
        self._texts: dict[bytes, str] = {}
        self._passages = 0

    def offer(self, article: Article) -> None:
        """Take an article into the batch, unless the archive or this run has it already."""
        earlier = self._seen.setdefault(article.id, _record(article))
        with self._archive.reading() as reading:
            holder = self._holder(reading, article)
        if earlier != _record(article):
            self._refuse(article)
        elif holder or any(draft.article.id == article.id for draft in self._drafts):
            if holder is not None and holder != article.id:
                self._passed_over.setdefault(holder, []).append(replace(article, text=""))
            self.report.unchanged += 1
            self._advance(articles=1)
        else:
            self._draft(article)
            if article.id in self._passed_over:
                self._offer_again(article.id)
            if self._passages >= BATCH_PASSAGES or len(self._drafts) >= BATCH_ARTICLES:
                self._publish()

    def finish(self) -> IngestReport:
        """Publish what is left."""
        self._publish()
        with self._archive.reading() as reading:
            self.report.generation = reading.generation if reading else 0
        return self.report

    def _refuse(self, article: Article) -> None:
        what = (
            f"address {article.url}"
            if article.identified_by is IdentifiedBy.ADDRESS
            else f"id {article.id}"
        )
        reason = f"another article of this run has the same {what} and other content; it was taken"
        item = article.origin or article.title or article.id
        self.report.failed.append(Unreadable(item, reason))

    def _offer_again(self, holder: str) -> None:
        """Offer what was passed over because `holder` had its text, which is revised now."""
        passed_over = self._passed_over.pop(holder)
        with self._archive.reading() as reading:
            head = reading.head(holder) if reading else None
            text = reading.text(holder, head.revision) if reading and head else ""
        for article in passed_over:
            self.report.unchanged -= 1
            self._advance(articles=-1)
            self.offer(replace(article, text=text))

    def _holder(self, reading: Reading | None, article: Article) -> str | None:
        """The id by which this run or the archive has this very article, or, where only a path
        names it, its text."""
        head = reading.head(article.id) if reading else None
        if head is not None:
            return article.id if same_record(article, head) else None
        if article.identified_by is not IdentifiedBy.PATH:
            return None
        if _words(article) in self._draft_texts:
            return article.id
        title = None if article.text else article.title
        holders = reading.ids_of_text(article.sha256, title) if reading else []
        # A holder that this batch revises will not have the text any more.
        revised = {draft.article.id for draft in self._drafts}
        return next((holder for holder in holders if holder not in revised), None)

    def _draft(self, article: Article) -> None:
        window = self._encoder.window
        header_tokens = min(HEADER_TOKENS, window // HEADER_PART)
        header = clip_words(article.title, self._encoder.count, header_tokens)
        limit = window - header_tokens - JOINT_TOKENS
        budget = min(self._budget, limit)
        passages = []
        for span in chunk(article.text, self._encoder.count, budget=budget, limit=limit):
            text = encoder_input(header, article.text[span.start : span.end])
            key = hashlib.sha256(text.encode()).digest()
            self._texts[key] = text
            passages.append(PassageDraft(span, key))
        self._drafts.append(ArticleDraft(article, tuple(passages)))
        self._draft_texts.add(_words(article))
        self._passages += len(passages)

    def _publish(self) -> None:
        if not self._drafts:
            return
        for attempt in range(ATTEMPTS):
            try:
                encodings = self._encoded()
                outcome = self._archive.publish(self._drafts, encodings, self._fingerprint)
                break
            except EncodingsGone:
                if attempt == ATTEMPTS - 1:
                    raise
        self._archive.keep_model(self._encoder.exported)
        self.report.added += len(outcome.added)
        self.report.updated += len(outcome.updated)
        self.report.unchanged += len(outcome.unchanged)
        self.report.passages += self._passages
        self._advance(articles=len(self._drafts))
        self._drafts, self._draft_texts, self._texts, self._passages = [], set(), {}, 0
        if self._renew_base:
            self._archive.renew_base()

    def _encoded(self) -> dict[bytes, Encoding]:
        """Encodings of the batch's texts that the archive does not have."""
        with self._archive.reading() as reading:
            known = reading.known(self._texts) if reading else set()
        missing = [key for key in self._texts if key not in known]
        missing.sort(key=lambda key: len(self._texts[key]))  # little is filled up in a pass
        encodings: dict[bytes, Encoding] = {}
        for at in range(0, len(missing), ENCODE_AT_ONCE):
            keys = missing[at : at + ENCODE_AT_ONCE]
            some = self._encoder.encode_passages([self._texts[key] for key in keys])
            encodings.update(zip(keys, some, strict=True))
            tokens = sum(encoding.tokens for encoding in some)
            self._advance(passages=len(keys), tokens=tokens, part=len(encodings) / len(missing))
        return encodings

    def _advance(
        self, *, articles: int = 0, passages: int = 0, tokens: int = 0, part: float = 0.0
    ) -> None:
        before = self._progress
        self._progress = Progress(
            before.articles + articles, before.passages + passages, before.tokens + tokens, part
        )
        self._tell(self._progress)


def encoder_input(header: str, passage: str) -> str:
    """What the model is given for a passage: the title before it."""
    return f"{header}\n{passage}".strip()


def _record(article: Article) -> str:
    """A digest of all that is stored of an article."""
    fields = (
        article.title,
        article.source,
        article.author,
        article.url,
        article.published_at,
        article.sha256,
    )
    return hashlib.sha256(repr(fields).encode()).hexdigest()


def _words(article: Article) -> str:
    """What makes two texts the same word for word; the title of one that has no text."""
    return article.sha256 if article.text else f"title {article.title}"
