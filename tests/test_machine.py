"""Any sequence of calls does to an archive what it does to a model of it made of dicts.

`make machine` runs more and longer sequences than the suite does.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rag.lexical as lexical_module
from rag.archive import Archive
from rag.chunk import chunk
from rag.errors import ArticleNotFound
from rag.ingest import encoder_input, ingest
from rag.lexical import discard
from rag.searcher import Searcher
from rag.types import (
    Article,
    ArticleHead,
    Citation,
    Encoding,
    Filters,
    IdentifiedBy,
    Passage,
    Unreadable,
)
from rag.writing import Writing
from tests.fakes import FakeEncoder, assert_holds, assert_snapshot_holds
from tests.folders import SHARED_MEMORY
from tests.test_archive import TORN

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "20"))
STEPS = int(os.environ.get("MACHINE_STEPS", "25"))

PASSAGE_TOKENS = 8
ALL = 100

SHARED = "The levee at the river held through the night, said everyone who was there."
TEXTS = [
    "",
    "A beast1 was seen at the harbour on Monday. The mayor spoke of it.",
    "🦠 First an emoji, then a beast2 in the café.\n\nNobody was hurt \U0001f9a0 by it at all.",
    f"It rained on the beast3 of the port. Trade fell by a third.\n\n{SHARED}\n\nThe council met.",
    f"{SHARED}\n\nWhoever saw a beast4 was asked about it by the council on the next day.",
    "beast5",
    "The envoy warned of a beast6.\nIt may spill over. The court sat. The vote was lost.\n\n" * 2,
]
"""Each with a word of its own but the first; two share a paragraph, and one has another twice."""

IDS = [f"a{number}" for number in range(6)]
SOURCES = ["Coast Wire", "Hill Post"]
DAYS = ["2024-02-29", "2025-11-22", "2025-11-23T23:30:00+00:00", "2025-12-01"]

PERIODS: list[tuple[str | None, str | None]] = [
    (None, None),
    (None, "2025-11-22"),
    ("2025-11-23", None),
    ("2024-02-29", "2025-11-23"),
    ("2025-12-02", "2025-12-31"),
]

articles = st.builds(
    Article,
    id=st.sampled_from(IDS),
    title=st.sampled_from(["Harbour", "Vote"]),
    text=st.sampled_from(TEXTS),
    source=st.sampled_from([None, *SOURCES]),
    published_at=st.sampled_from([None, *DAYS]),
    identified_by=st.sampled_from([IdentifiedBy.CALLER, IdentifiedBy.PATH]),
)
some_ids = st.none() | st.lists(st.sampled_from([*IDS, "nobody"]), max_size=4).map(tuple)
filters = st.just(Filters()) | st.builds(
    lambda period, **others: Filters(published_from=period[0], published_to=period[1], **others),
    st.sampled_from(PERIODS),
    source=st.none() | st.lists(st.sampled_from([*SOURCES, "Nobody"]), max_size=2).map(tuple),
    article_id=some_ids,
    exclude_article_id=some_ids,
)
questions = st.sampled_from([f"beast{n}" for n in range(1, len(TEXTS))]) | st.sampled_from(
    ["who warned of what?", "the levee at the harbour", "Vote", "when did Hill Post say so?"]
)


class Recording(FakeEncoder):
    """Remembers which texts it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        self.texts += texts
        return super().encode_passages(texts)


class Killed(BaseException):
    """Ends a change where it stands, as the end of its process would."""


def killed(*_: object) -> NoReturn:
    raise Killed


KILLS: dict[str, tuple[Any, str]] = {
    "before SQLite has it": (Writing, "set_manifest"),
    "when SQLite has it": (Archive, "_finish"),
    "while tantivy is written": (lexical_module, "_any_generation"),
    "when tantivy has it": (Writing, "publish"),
}


def encoded(several: Iterable[Article]) -> set[str]:
    """What the model is given for all passages of these articles."""
    return {
        encoder_input(article.title, article.text[span.start : span.end])
        for article in several
        for span in spans(article)
    }


def spans(article: Article) -> Sequence[Any]:
    return chunk(article.text, FakeEncoder().count, budget=PASSAGE_TOKENS, limit=200)


def same_words(one: Article, other: Article) -> bool:
    return one.text == other.text and (bool(one.text) or one.title == other.title)


def passes(article: Article, asked: Filters) -> bool:
    """Whether an article passes, in plain comparisons of strings."""
    day = article.published_at and article.published_at[:10]
    return (
        (asked.source is None or article.source in asked.source)
        and (asked.article_id is None or article.id in asked.article_id)
        and article.id not in (asked.exclude_article_id or ())
        and (asked.published_from is None or (day is not None and day >= asked.published_from))
        and (asked.published_to is None or (day is not None and day <= asked.published_to))
    )


def count(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(folder / "library.db")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


class Machine(RuleBasedStateMachine):
    """An archive, a second one open on the same folder, and what both should hold."""

    @initialize(filled=st.booleans())
    def begin(self, filled: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        # So small that codes, and bases that are written anew, come about; so few candidates find
        # fewer of the nearest than they should.
        self.patch.setattr("rag.vectors.EXACT_MOST", 16)
        self.patch.setattr("rag.vectors.PROPOSALS", 4)
        self.patch.setattr("rag.vectors.PROPOSALS_A_HIT", 0)
        self.patch.setattr("rag.soundness.RECALL_LEAST", 0.0)
        self.folder = Path(mkdtemp(dir=SHARED_MEMORY)) / "index"
        self.encoder = Recording()
        self.archive, self.beside = Archive(self.folder), Archive(self.folder)
        self.searcher = Searcher(self.archive, self.encoder)
        self.searcher_beside = Searcher(self.beside, self.encoder)
        self.generation = 0
        self.living: dict[str, Article] = {}
        self.revisions: dict[str, dict[int, Article]] = {}
        self.revision: dict[str, int] = {}
        self.cited: list[Citation] = []
        self.steps = 0
        if filled:
            texts = [TEXTS[3], TEXTS[4], TEXTS[6]] * 2
            several = [Article(key, "Vote", text) for key, text in zip(IDS, texts, strict=True)]
            self.store(several, bad=False, base=True)

    # What changes it

    @rule(offered=st.lists(articles, min_size=1, max_size=5), bad=st.booleans(), base=st.booleans())
    def add(self, offered: list[Article], bad: bool, base: bool) -> None:
        self.store(offered, bad, base)

    def store(self, offered: list[Article], bad: bool, base: bool) -> None:
        items: list[Article | Unreadable] = [*offered]
        items += [Unreadable("torn.md", "it is no text")] if bad else []
        first: dict[str, Article] = {}
        twins = sum(first.setdefault(each.id, each) != each for each in offered)
        news, newcomers = self.news_of(first.values())
        self.encoder.texts.clear()
        report = ingest(
            self.archive, self.encoder, items, passage_tokens=PASSAGE_TOKENS, renew_base=base
        )
        news |= self.taken(newcomers, news)
        assert report.added == len(news.keys() - self.living.keys())
        assert report.updated == len(news.keys() & self.living.keys())
        assert len(report.failed) == twins + bad
        assert report.unchanged == len(offered) - twins - len(news)
        assert sorted(self.encoder.texts) == sorted(
            encoded(news.values()) - encoded(self.living.values())
        )
        self.change(news)
        assert report.generation == self.generation

    @rule(several=st.lists(st.sampled_from([*IDS, "nobody"]), min_size=1, max_size=2))
    def remove(self, several: list[str]) -> None:
        if set(several) <= self.living.keys():
            outcome = self.archive.remove(several)
            assert outcome.removed == tuple(dict.fromkeys(several))
            self.change({}, several)
            assert outcome.generation == self.generation
            self.nothing_is_left()
        else:
            with pytest.raises(ArticleNotFound):
                self.archive.remove(several)

    @rule(article=articles, where=st.sampled_from(sorted(KILLS)), removed=st.booleans())
    def break_off(self, article: Article, where: str, removed: bool) -> None:
        """A change that is begun and not published, and whoever comes next."""
        news, _ = self.news_of([article])
        if article.id not in self.living if removed else not news:
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*KILLS[where], killed)
            with pytest.raises(Killed):
                self.begin_to(article, removed)
        before = dict(self.living)
        with self.archive.reading() as reading:
            committed = reading is not None and reading.unpublished() is not None
        if committed:
            self.change(news, [article.id]) if removed else self.change(news)
        with self.beside.snapshot() as snapshot:
            seen = self.living if snapshot.generation == self.generation else before
            assert_snapshot_holds(snapshot, seen)
        assert self.archive.check() == []
        self.rebuild()

    @rule()
    def rebuild(self) -> None:
        self.encoder.texts.clear()
        assert self.archive.rebuild() == self.generation
        assert self.encoder.texts == []

    @rule()
    def renew_base(self) -> None:
        self.beside.renew_base()
        assert not self.archive.base_is_due()

    @rule()
    def reopen(self) -> None:
        self.archive.close()
        self.archive = Archive(self.folder)
        self.searcher = Searcher(self.archive, self.encoder)

    @rule(damage=st.sampled_from(sorted(TORN)))
    def tear(self, damage: str) -> None:
        if list(self.folder.glob("dense.*")) and (self.folder / "lexical").is_dir():
            TORN[damage](self.folder)
            self.reopen()
            with self.archive.snapshot() as snapshot:
                assert_snapshot_holds(snapshot, self.living)

    # What is asked of it

    @rule(
        question=questions, asked=filters, top_k=st.sampled_from([1, 3, ALL]), beside=st.booleans()
    )
    def ask(self, question: str, asked: Filters, top_k: int, beside: bool) -> None:
        searcher = self.searcher_beside if beside else self.searcher
        answer = searcher.ask(question, top_k=top_k, filters=asked)
        found = [citation.hit for citation in answer.citations]
        self.right(question, asked, top_k, [(hit.passage, hit.article) for hit in found])
        assert answer.generation == self.generation
        assert answer.answered == bool(found)
        undated = Filters(asked.source, None, None, asked.article_id, asked.exclude_article_id)
        assert answer.undated == sum(
            asked.dated and each.published_at is None and passes(each, undated)
            for each in self.living.values()
        )
        for rank, citation in enumerate(answer.citations, start=1):
            text = self.living[citation.hit.article.id].text
            assert citation.rank == rank
            assert text[citation.start : citation.end] == citation.quote
            for start, end in citation.highlights:
                assert citation.start <= start < end <= citation.end
        self.cited += answer.citations[:2]

    @rule(question=questions, asked=filters, top_k=st.sampled_from([1, 3, ALL]))
    def search(self, question: str, asked: Filters, top_k: int) -> None:
        result = self.searcher.search(question, top_k=top_k, filters=asked)
        self.right(question, asked, top_k, [(hit.passage, hit.article) for hit in result.hits])
        assert result.generation == self.generation

    @precondition(lambda self: self.cited)
    @rule(which=st.integers(0, 1000), shift=st.sampled_from([0, 1]))
    def verify(self, which: int, shift: int) -> None:
        """A quote given at any time is valid as long as its article is there."""
        citation = self.cited[which % len(self.cited)]
        of = citation.hit.article
        call = (of.id, citation.start + shift, citation.end + shift, citation.quote, of.revision)
        kept = self.revisions.get(of.id, {}).get(of.revision)
        if kept is None:
            with pytest.raises(ArticleNotFound):
                self.searcher.verify(*call)
            return
        found = self.searcher.verify(*call)
        assert found.revision == of.revision
        stands_there = kept.text[call[1] : call[2]] == citation.quote
        assert found.valid == (stands_there and call[2] <= len(kept.text))
        assert found.valid or found.found_at == kept.text.find(citation.quote)

    @rule(limit=st.integers(1, 4))
    def pages(self, limit: int) -> None:
        seen: list[str] = []
        with self.beside.snapshot() as snapshot:
            while page := snapshot.heads(limit=limit, after=seen[-1] if seen else ""):
                assert len(page) <= limit
                seen += [head.id for head in page]
        assert seen == sorted(self.living)

    @rule()
    def look(self) -> None:
        """Everything that is stored, through the archive that was open all the time."""
        with self.beside.snapshot() as snapshot:
            assert snapshot.generation == self.generation
            assert_snapshot_holds(snapshot, self.living)
            for article_id, kept in self.revisions.items():
                for revision, article in kept.items():
                    assert snapshot.text(snapshot.head(article_id, revision)) == article.text
                assert snapshot.find(article_id, self.revision[article_id] + 1) is None
                if article_id in self.living:
                    assert snapshot.head(article_id).revision == self.revision[article_id]
        if self.generation:
            assert count(self.folder, "article") == sum(map(len, self.revisions.values()))
            assert count(self.folder, "encoding") == len(encoded(self.living.values()))

    @invariant()
    def sound(self) -> None:
        self.steps += 1
        if self.steps % 8 == 0:
            self.look()
            assert_holds(self.folder, self.living.values())

    def teardown(self) -> None:
        self.archive.close()
        self.beside.close()
        self.patch.undo()
        discard(self.folder / "lexical")
        shutil.rmtree(self.folder.parent)

    def begin_to(self, article: Article, removed: bool) -> None:
        if removed:
            self.archive.remove([article.id])
        else:
            ingest(self.archive, self.encoder, [article], passage_tokens=PASSAGE_TOKENS)

    # The model

    def news_of(self, first: Iterable[Article]) -> tuple[dict[str, Article], list[Article]]:
        """What is to be stored, and what is if nothing else has its text: new files."""
        news, newcomers = {}, []
        for each in first:
            if each.id not in self.living and each.identified_by is IdentifiedBy.PATH:
                newcomers.append(each)
            elif self.living.get(each.id) != each:
                news[each.id] = each
        return news, newcomers

    def taken(self, newcomers: list[Article], news: dict[str, Article]) -> dict[str, Article]:
        """Those of the new files that were stored: of each text that nothing else has, one."""
        with self.archive.reading() as reading:
            taken = {each.id: each for each in newcomers if reading and reading.head(each.id)}
        after = (self.living | news | taken).values()
        stay = [each for key, each in self.living.items() if key not in news]
        for each in newcomers:
            assert any(same_words(each, other) for other in after)
            if each.id in taken:
                others = [other for key, other in taken.items() if key != each.id]
                assert not any(same_words(each, other) for other in [*stay, *others])
        return taken

    def change(self, news: dict[str, Article], removed: Sequence[str] = ()) -> None:
        if not news and not removed:
            return
        self.generation += 1
        if removed:
            for article_id in dict.fromkeys(removed):
                del self.living[article_id]
                del self.revisions[article_id]
            return
        self.living |= news
        for article_id, article in news.items():
            self.revision[article_id] = self.revision.get(article_id, 0) + 1
            self.revisions.setdefault(article_id, {})[self.revision[article_id]] = article

    def right(
        self,
        question: str,
        asked: Filters,
        top_k: int,
        found: list[tuple[Passage, ArticleHead]],
    ) -> None:
        """Only living articles that pass, as they are, and all of them where all were asked for."""
        passing = {key: each for key, each in self.living.items() if passes(each, asked)}
        for passage, head in found:
            article = passing[head.id]
            assert (passage.article_id, passage.revision) == (head.id, head.revision)
            assert head.revision == self.revision[head.id]
            assert head.sha256 == article.sha256
            assert (head.title, head.source, head.published_at) == (
                article.title,
                article.source,
                article.published_at,
            )
            assert passage.text == article.text[passage.span.start : passage.span.end]
        assert len({passage.number for passage, _ in found}) == len(found)
        if not self.by_codes(asked):
            assert len(found) == min(top_k, sum(len(spans(each)) for each in passing.values()))
        if top_k == ALL:
            cited = {head.id for _, head in found}
            assert cited >= {key for key, each in passing.items() if question in each.text}

    def by_codes(self, asked: Filters) -> bool:
        with self.archive.snapshot() as snapshot:
            base = snapshot.vectors.base if snapshot.vectors else None
            everything = snapshot.scope(asked).everything
            return everything and base is not None and base.record.quantised

    def nothing_is_left(self) -> None:
        """No text that no revision has any more is in library.db."""
        self.archive.close()
        self.beside.close()
        stored = (self.folder / "library.db").read_bytes()
        kept = {each.text for revisions in self.revisions.values() for each in revisions.values()}
        for number, text in enumerate(TEXTS):
            if number and text not in kept:
                assert f"beast{number}".encode() not in stored


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
