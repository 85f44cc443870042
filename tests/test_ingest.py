"""Writing: everything offered is settled, nothing is encoded twice, nothing is left half done."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag.archive import Archive, EncodingsGone
from rag.chunk import PASSAGE_TOKENS
from rag.errors import IndexMismatch, InvalidRequest
from rag.ingest import ATTEMPTS, HEADER_TOKENS, IngestReport, Progress, encoder_input, ingest
from rag.searcher import Searcher
from rag.types import Article, Encoding, IdentifiedBy, Unreadable
from tests.fakes import FakeEncoder, add, assert_holds

MODULE = sys.modules[ingest.__module__]  # `rag.ingest` is the function

PARAGRAPHS = [
    f"Paragraph {number} says that {topic} was spoken of at great length by everyone there."
    for number, topic in enumerate(["bread", "rain", "the vote", "a bridge", "the strike"])
]
LONG = Article("long", "Five things", "\n\n".join(PARAGRAPHS), source="Coast Wire")
SHORT = Article("short", "Rain", "It rained. Nobody went out.")
TITLE = Article("title", "Harbour reopens", "")


class Recording(FakeEncoder):
    """Remembers every text that it encoded."""

    def __init__(self, *, window: int = 256) -> None:
        super().__init__(window=window)
        self.texts: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        encodings = super().encode_passages(texts)
        self.texts += texts
        return encodings


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with closing(Archive(tmp_path / "index")) as archive:
        yield archive


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.unchanged, len(report.failed)


def at_path(path: str, text: str, title: str = "A title") -> Article:
    return Article(path, title, text, identified_by=IdentifiedBy.PATH)


def at_address(number: int, text: str) -> Article:
    url = f"https://news.example/{number}"
    return Article(f"{number}", "A title", text, url=url, identified_by=IdentifiedBy.ADDRESS)


# What a run does


def test_articles_are_added_once(archive: Archive) -> None:
    encoder = Recording()
    first = add(archive, encoder, LONG, SHORT, TITLE)
    assert counts(first) == (3, 0, 0, 0)
    assert first.generation == 1
    assert first.passages == len(encoder.texts) == len(PARAGRAPHS) + 1 + 1
    assert first.truncated == 0
    second = add(archive, encoder, TITLE, LONG, SHORT)
    assert counts(second) == (0, 0, 3, 0)
    assert (second.generation, second.passages) == (1, 0)
    assert_holds(archive.folder, [LONG, SHORT, TITLE])


def test_a_run_of_nothing_makes_nothing(archive: Archive) -> None:
    report = ingest(archive, FakeEncoder(), [Unreadable("a.txt", "is empty")])
    assert counts(report) == (0, 0, 0, 1)
    assert report.generation == 0
    assert not archive.folder.exists()


def test_what_cannot_be_read_is_passed_on_and_the_rest_goes_in(archive: Archive) -> None:
    unreadable = [Unreadable("a.txt", "is empty"), Unreadable("b.txt", "is binary")]
    report = ingest(archive, FakeEncoder(), [unreadable[0], SHORT, unreadable[1], LONG])
    assert report.failed == unreadable
    assert counts(report) == (2, 0, 0, 2)
    assert_holds(archive.folder, [SHORT, LONG])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["", "It rained.", "It snowed. A lot."])),
        max_size=8,
    )
)
def test_every_article_offered_is_in_the_archive_or_in_the_report(
    tmp_path_factory: pytest.TempPathFactory, offered: list[tuple[str, str]]
) -> None:
    items = [Article(name, "T", text) for name, text in offered]
    folder = tmp_path_factory.mktemp("index")
    with closing(Archive(folder)) as archive:
        report = add(archive, FakeEncoder(), *items)
        again = add(archive, FakeEncoder(), *{item.id: item for item in reversed(items)}.values())
    assert sum(counts(report)) == len(items)
    kept = {item.id: item for item in reversed(items)}
    assert report.added == len(kept)
    assert len(report.failed) == sum(item != kept[item.id] for item in items)
    assert counts(again) == (0, 0, len(kept), 0)
    assert_holds(folder, kept.values())


def test_progress_is_told_to_the_end(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "ENCODE_AT_ONCE", 2)
    told: list[Progress] = []
    add(archive, FakeEncoder(), SHORT)
    encoder = Recording()
    report = ingest(archive, encoder, [LONG, SHORT, TITLE, Unreadable("x", "y")], tell=told.append)
    assert counts(report) == (2, 0, 1, 1)
    assert told[-1].articles == 3
    assert told[-1].passages == report.passages == len(encoder.texts)
    assert told[-1].tokens == sum(encoder.count(encoder.texts))
    for before, after in pairwise(told):
        assert after.articles >= before.articles
        assert after.passages >= before.passages
    assert max(progress.batch_part for progress in told) == 1
    assert len({progress.batch_part for progress in told}) > 2


# Nothing is encoded twice


def test_no_text_is_encoded_twice(archive: Archive) -> None:
    encoder = Recording()
    add(archive, encoder, LONG, SHORT, TITLE)
    add(archive, encoder, LONG, SHORT, TITLE)
    twin = replace(LONG, id="twin", source="The Daily Test")
    report = add(archive, encoder, twin)
    assert (report.added, report.passages) == (1, len(PARAGRAPHS))
    assert len(encoder.texts) == len(set(encoder.texts)) == len(PARAGRAPHS) + 2
    assert_holds(archive.folder, [LONG, SHORT, TITLE, twin])


def test_twins_in_one_run_are_encoded_once(archive: Archive) -> None:
    encoder = Recording()
    twin = replace(LONG, id="twin")
    assert add(archive, encoder, LONG, twin).added == 2
    assert len(encoder.texts) == len(PARAGRAPHS)
    assert_holds(archive.folder, [LONG, twin])


@pytest.mark.parametrize(
    "changed",
    [
        replace(LONG, source="Coast Wire, corrected"),
        replace(LONG, source=None),
        replace(LONG, author="Ann Other"),
        replace(LONG, url="https://news.example/long"),
        replace(LONG, published_at="2025-11-23"),
    ],
)
def test_a_change_beside_the_text_encodes_nothing(changed: Article, archive: Archive) -> None:
    add(archive, FakeEncoder(), LONG)
    encoder = Recording()
    report = add(archive, encoder, changed)
    assert counts(report) == (0, 1, 0, 0)
    assert report.generation == 2
    assert encoder.texts == []
    assert_holds(archive.folder, [changed])
    with archive.snapshot() as snapshot:
        assert snapshot.head("long").revision == 2


def test_only_the_paragraph_that_changed_is_encoded(archive: Archive) -> None:
    add(archive, FakeEncoder(), LONG)
    encoder = Recording()
    revised = replace(LONG, text=LONG.text.replace("the vote", "the ballot"))
    assert counts(add(archive, encoder, revised)) == (0, 1, 0, 0)
    assert encoder.texts == [encoder_input(LONG.title, PARAGRAPHS[2].replace("vote", "ballot"))]
    assert_holds(archive.folder, [revised])
    back = Recording()
    assert counts(add(archive, back, LONG)) == (0, 1, 0, 0)
    assert back.texts == [encoder_input(LONG.title, PARAGRAPHS[2])]
    with archive.snapshot() as snapshot:
        assert snapshot.head("long").revision == 3


def test_another_title_is_another_text(archive: Archive) -> None:
    add(archive, FakeEncoder(), LONG)
    encoder = Recording()
    renamed = replace(LONG, title="Six things")
    assert counts(add(archive, encoder, renamed)) == (0, 1, 0, 0)
    assert len(encoder.texts) == len(PARAGRAPHS)
    assert_holds(archive.folder, [renamed])


def test_nothing_is_encoded_after_a_rebuild(archive: Archive) -> None:
    encoder = Recording()
    add(archive, encoder, LONG, SHORT)
    encoded = len(encoder.texts)
    archive.rebuild()
    for file in archive.folder.glob("dense.*"):
        file.unlink()
    archive.rebuild()
    report = add(archive, encoder, LONG, SHORT, replace(SHORT, id="twin"))
    assert counts(report) == (1, 0, 2, 0)
    assert len(encoder.texts) == encoded
    assert_holds(archive.folder, [LONG, SHORT, replace(SHORT, id="twin")])


# Which article an item is


def test_another_content_at_the_same_address_is_refused_by_name(archive: Archive) -> None:
    first, second = at_address(1, "It rained."), at_address(1, "It snowed.")
    other = at_address(2, "It hailed.")
    report = add(archive, FakeEncoder(), first, replace(second, title="Snow"), other)
    assert counts(report) == (2, 0, 0, 1)
    (failed,) = report.failed
    assert failed.item == "Snow"
    assert "address https://news.example/1" in failed.reason
    assert_holds(archive.folder, [first, other])
    again = add(archive, FakeEncoder(), first, second)
    assert counts(again) == (0, 0, 1, 1)
    assert_holds(archive.folder, [first, other])
    assert counts(add(archive, FakeEncoder(), second)) == (0, 1, 0, 0)


@pytest.mark.parametrize("batch", [1, 512])
def test_the_same_content_at_the_same_address_is_unchanged(
    batch: int, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_ARTICLES", batch)
    article = at_address(1, "It rained.")
    assert counts(add(archive, FakeEncoder(), article, article)) == (1, 0, 1, 0)
    assert_holds(archive.folder, [article])


def test_the_same_id_with_other_content_is_refused_by_name(archive: Archive) -> None:
    changed = [replace(SHORT, text="It snowed."), replace(SHORT, source="Coast Wire")]
    report = add(archive, FakeEncoder(), SHORT, *changed)
    assert counts(report) == (1, 0, 0, 2)
    assert all("id short" in failed.reason for failed in report.failed)
    assert_holds(archive.folder, [SHORT])


@pytest.mark.parametrize("batch", [1, 512])
def test_the_same_text_from_another_path_is_unchanged(
    batch: int, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_ARTICLES", batch)
    here, there = at_path("here", "It rained."), at_path("there", "It rained.")
    assert counts(add(archive, FakeEncoder(), here, there)) == (1, 0, 1, 0)
    assert counts(add(archive, FakeEncoder(), there)) == (0, 0, 1, 0)
    assert_holds(archive.folder, [here])
    given = replace(SHORT, text="It rained.")
    assert counts(add(archive, FakeEncoder(), given)) == (1, 0, 0, 0)
    assert_holds(archive.folder, [here, given])


def test_a_text_at_a_path_is_unchanged_where_another_article_has_it(archive: Archive) -> None:
    add(archive, FakeEncoder(), SHORT)
    assert counts(add(archive, FakeEncoder(), at_path("file", SHORT.text))) == (0, 0, 1, 0)
    archive.remove([SHORT.id])
    assert counts(add(archive, FakeEncoder(), at_path("file", SHORT.text))) == (1, 0, 0, 0)


def test_a_file_that_changes_is_a_revision(archive: Archive) -> None:
    add(archive, FakeEncoder(), at_path("file", "It rained."))
    changed = at_path("file", "It snowed.")
    assert counts(add(archive, FakeEncoder(), changed)) == (0, 1, 0, 0)
    assert_holds(archive.folder, [changed])


@pytest.mark.parametrize("batch", [1, 512])
def test_a_text_that_moved_to_another_file_is_kept(
    batch: int, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_ARTICLES", batch)
    add(archive, FakeEncoder(), at_path("latest", "It rained."))
    latest, older = at_path("latest", "It snowed."), at_path("older", "It rained.")
    assert counts(add(archive, FakeEncoder(), latest, older)) == (1, 1, 0, 0)
    assert_holds(archive.folder, [latest, older])


@pytest.mark.parametrize("batch", [1, 512])
@pytest.mark.parametrize("text", ["It rained.", ""])
def test_a_text_that_moved_to_a_file_before_its_own_is_kept(
    text: str, batch: int, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_ARTICLES", batch)
    add(archive, FakeEncoder(), at_path("latest", text))
    copies = [at_path("copy", text), at_path("older", text)]
    latest = at_path("latest", "It snowed.")
    encoder = FakeEncoder()
    told: list[Progress] = []
    report = ingest(archive, encoder, [*copies, latest], passage_tokens=12, tell=told.append)
    assert counts(report) == (1, 1, 1, 0)
    assert encoder.passages_encoded == 1
    assert told[-1].articles == 3
    assert_holds(archive.folder, [latest, copies[0]])


def test_a_text_is_unchanged_as_long_as_one_of_its_holders_is(archive: Archive) -> None:
    add(archive, FakeEncoder(), SHORT, replace(SHORT, id="copy"))
    revised = replace(SHORT, text="It snowed.")
    again = at_path("file", SHORT.text)
    assert counts(add(archive, FakeEncoder(), revised, again)) == (0, 1, 1, 0)
    assert_holds(archive.folder, [revised, replace(SHORT, id="copy")])


@pytest.mark.parametrize("batch", [1, 512])
def test_articles_without_a_text_are_told_apart_by_their_titles(
    batch: int, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_ARTICLES", batch)
    one, two = at_path("one", "", "Rain"), at_path("two", "", "Snow")
    again = at_path("again", "", "Rain")
    assert counts(add(archive, FakeEncoder(), one, two, again)) == (2, 0, 1, 0)
    assert counts(add(archive, FakeEncoder(), again, two)) == (0, 0, 2, 0)
    assert_holds(archive.folder, [one, two])


# Batches


class Failing(FakeEncoder):
    """Gives up at a text that holds a word."""

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        if any("strike" in text for text in texts):
            raise MemoryError("no room")
        return super().encode_passages(texts)


def test_batches_are_published_one_by_one(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_ARTICLES", 2)
    fillers = [replace(SHORT, id=f"filler-{number}") for number in range(3)]
    with pytest.raises(MemoryError):
        add(archive, Failing(), *fillers[:2], fillers[2], LONG)
    assert_holds(archive.folder, fillers[:2])
    assert [c.hit.article.id for c in Searcher(archive, FakeEncoder()).ask("rain").citations]
    report = add(archive, FakeEncoder(), *fillers, LONG)
    assert counts(report) == (2, 0, 2, 0)
    assert report.generation == 2
    assert_holds(archive.folder, [*fillers, LONG])


def test_a_batch_ends_with_the_passage_that_fills_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_PASSAGES", 5)
    articles = [replace(SHORT, id=f"short-{number}") for number in range(4)]
    report = add(archive, FakeEncoder(), LONG, *articles)
    assert counts(report) == (5, 0, 0, 0)
    assert (report.generation, report.passages) == (2, 9)
    assert_holds(archive.folder, [LONG, *articles])


def test_a_run_that_is_broken_off_keeps_what_was_published(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "BATCH_ARTICLES", 1)

    def items() -> Iterator[Article]:
        yield SHORT
        yield LONG
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(archive, FakeEncoder(), items())
    assert_holds(archive.folder, [SHORT, LONG])


class Erasing(Recording):
    """Another process removes an article while this one encodes, so many times."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__()
        self.folder = folder
        self.times = times

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        if self.times:
            self.times -= 1
            with closing(Archive(self.folder)) as other:
                other.remove([LONG.id])
        return super().encode_passages(texts)


def test_encodings_that_another_process_erased_are_made_anew(archive: Archive) -> None:
    add(archive, FakeEncoder(), LONG, SHORT)
    longer = replace(LONG, id="longer", text=f"{LONG.text}\n\n{PARAGRAPHS[0].upper()}")
    encoder = Erasing(archive.folder, 1)
    report = add(archive, encoder, longer)
    assert counts(report) == (1, 0, 0, 0)
    assert report.generation == 3
    assert len(set(encoder.texts)) == len(PARAGRAPHS) + 1
    assert_holds(archive.folder, [SHORT, longer])


def test_encodings_that_are_erased_again_and_again_end_the_run(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def publish(*_: object) -> None:
        tried.append(1)
        raise EncodingsGone

    add(archive, FakeEncoder(), SHORT)
    monkeypatch.setattr(archive, "publish", publish)
    with pytest.raises(EncodingsGone):
        add(archive, FakeEncoder(), LONG)
    assert len(tried) == ATTEMPTS
    assert_holds(archive.folder, [SHORT])


# What an archive is built with


def test_another_passage_budget_is_refused_by_name(archive: Archive) -> None:
    add(archive, FakeEncoder(), SHORT, passage_tokens=12)
    with pytest.raises(IndexMismatch, match="passage_tokens is '12', but '50' is at hand"):
        add(archive, FakeEncoder(), LONG, passage_tokens=50)
    assert_holds(archive.folder, [SHORT])


def test_the_budget_is_the_archives_own_unless_another_is_named(archive: Archive) -> None:
    add(archive, FakeEncoder(), SHORT, passage_tokens=12)
    report = ingest(archive, FakeEncoder(), [LONG])
    assert report.passages == len(PARAGRAPHS)
    assert archive.manifest()["passage_tokens"] == "12"


def test_a_new_archive_has_the_default_budget(archive: Archive) -> None:
    ingest(archive, FakeEncoder(), [SHORT])
    assert archive.manifest()["passage_tokens"] == str(PASSAGE_TOKENS)
    assert archive.manifest()["encoder"] == FakeEncoder().fingerprint


def test_another_model_is_refused_before_anything_is_encoded(archive: Archive) -> None:
    add(archive, FakeEncoder(), SHORT)
    other = FakeEncoder(seed=1)
    with pytest.raises(IndexMismatch, match="encoder"):
        add(archive, other, LONG)
    assert other.passages_encoded == 0
    assert_holds(archive.folder, [SHORT])


# What the encoder is given


def test_the_title_stands_before_every_passage(archive: Archive) -> None:
    encoder = Recording()
    add(archive, encoder, LONG, TITLE)
    titled = [f"{LONG.title}\n{text}" for text in PARAGRAPHS]
    assert sorted(encoder.texts) == sorted([*titled, TITLE.title])


@pytest.mark.parametrize("window", [128, 256, 512])
def test_no_text_is_over_the_window(window: int, tmp_path: Path) -> None:
    title = " ".join(f"word{number}" for number in range(200))
    article = Article("a", title, " ".join(f"term{number}" for number in range(5_000)))
    encoder = Recording(window=window)
    with closing(Archive(tmp_path)) as archive:
        report = ingest(archive, encoder, [article], passage_tokens=10_000)
        assert counts(report) == (1, 0, 0, 0)
        with archive.snapshot() as snapshot:
            assert snapshot.head("a").title == title
        assert archive.check() == []
    assert max(encoder.count(encoder.texts)) <= window
    header = " ".join(title.split()[: min(HEADER_TOKENS, window // 4)])
    assert all(text.startswith(f"{header}\n") for text in encoder.texts)
    passages = [text.removeprefix(f"{header}\n") for text in encoder.texts]
    assert " ".join(sorted(passages, key=article.text.index)) == article.text


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_title_of_one_endless_word_fits_or_is_left_out(tokens: int, archive: Archive) -> None:
    class Letters(Recording):
        def count(self, texts: Sequence[str]) -> list[int]:
            return [tokens * sum(not letter.isspace() for letter in text) for text in texts]

    encoder = Letters()
    endless = replace(SHORT, title="x" * 900)
    assert counts(add(archive, encoder, endless, passage_tokens=100)) == (1, 0, 0, 0)
    header = f"{'x' * HEADER_TOKENS}\n" if tokens == 1 else ""
    assert encoder.texts == [header + SHORT.text]
    assert archive.check() == []


def test_a_model_with_a_small_window_gets_short_passages(tmp_path: Path) -> None:
    encoder = FakeEncoder(window=32)
    text = " ".join(f"Sentence number {n} says a little." for n in range(20))
    article = Article(id="a", title="A title of words " * 10, text=text)
    with closing(Archive(tmp_path)) as archive:
        report = ingest(archive, encoder, [article])
        assert (report.added, report.failed) == (1, [])
        assert report.passages > 5


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_nothing_is_refused(budget: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="passage_tokens"):
        ingest(Archive(tmp_path), FakeEncoder(), [], passage_tokens=budget)


def test_what_is_left_out_is_named_by_where_it_was_read(tmp_path: Path) -> None:
    url = "https://news.example/a"
    items = [
        Article("a", f"Title {n}", f"Text {n}.", url=url, origin=f"file{n}.md") for n in range(2)
    ]
    with closing(Archive(tmp_path)) as archive:
        report = ingest(archive, FakeEncoder(), items)
    assert [each.item for each in report.failed] == ["file1.md"]
