"""What a reader sees: filters by brute force, and one generation brought to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag.archive import Archive
from rag.dates import EPOCH, MICROSECOND, UNDATED, parse_iso
from rag.errors import ArticleNotFound, IndexMismatch, InvalidRequest
from rag.lexical import LexicalIndex, Scope
from rag.snapshot import (
    Columns,
    Fingerprint,
    Snapshot,
    advanced,
    base_record,
    compare,
    empty_state,
)
from rag.types import Article, Filters
from tests.fakes import FakeEncoder, add

FINGERPRINT = Fingerprint({"encoder": "abc", "chunker": "one"}, "the model")


# Fingerprints


def test_what_both_name_must_be_equal() -> None:
    built = {"encoder": "abc", "chunker": "one", "encoder_name": "the model"}
    compare(built, FINGERPRINT)
    compare({}, FINGERPRINT)
    compare({"normaliser": "another"}, FINGERPRINT)
    compare(built, Fingerprint({"encoder": "abc", "projection": "new"}, "whatever its name"))


def test_another_model_is_named_with_both_names() -> None:
    built = {"encoder": "d" * 40, "encoder_name": "old model", "chunker": "two"}
    with pytest.raises(IndexMismatch) as caught:
        compare(built, FINGERPRINT)
    assert caught.value.part == "encoder"
    assert caught.value.built_with == f"old model ({'d' * 12})"
    assert caught.value.at_hand == "the model (abc)"


def test_another_chunker_is_named() -> None:
    with pytest.raises(IndexMismatch, match="chunker is 'two', but 'one' is at hand"):
        compare({"encoder": "abc", "chunker": "two"}, FINGERPRINT)


@pytest.mark.parametrize("text", [None, "", "not json", "[]", '{"file": "x"}'])
def test_a_record_of_the_base_that_cannot_be_read_is_none(text: str | None) -> None:
    assert base_record({} if text is None else {"dense_base": text}) is None


# Columns


@st.composite
def columns_and_scope(draw: st.DrawFn) -> tuple[Columns, Scope]:
    articles = draw(st.integers(1, 8))
    numbers = st.integers(1, articles)
    passages = draw(st.lists(st.tuples(numbers, st.booleans()), max_size=20))
    moments = st.integers(-5, 5)
    rows = draw(
        st.lists(
            st.tuples(st.integers(-1, 2), st.none() | st.tuples(moments, st.integers(0, 4))),
            min_size=articles,
            max_size=articles,
        )
    )
    dates = [(UNDATED, UNDATED) if d is None else (d[0], d[0] + d[1]) for _, d in rows]
    columns = Columns(
        alive=np.array([False, *[alive for _, alive in passages]]),
        article=np.array([0, *[article for article, _ in passages]], dtype=np.int64),
        source=np.array([-1, *[source for source, _ in rows]], dtype=np.int64),
        first=np.array([UNDATED, *[first for first, _ in dates]], dtype=np.int64),
        last=np.array([UNDATED, *[last for _, last in dates]], dtype=np.int64),
        sources={"x": 0, "y": 1, "z": 2},
    )
    some = st.lists(st.integers(1, articles + 2), max_size=3).map(tuple)
    scope = Scope(
        source=draw(st.none() | st.lists(st.sampled_from("xyz?"), max_size=2).map(tuple)),
        first=draw(st.none() | moments),
        last=draw(st.none() | moments),
        article=draw(st.none() | some),
        exclude_article=draw(some),
    )
    return columns, scope


def lets_through(columns: Columns, scope: Scope, article: int) -> bool:
    names = {number: name for name, number in columns.sources.items()}
    first, last = int(columns.first[article]), int(columns.last[article])
    return (
        (scope.source is None or names.get(int(columns.source[article])) in scope.source)
        and (scope.first is None or (first != UNDATED and last >= scope.first))
        and (scope.last is None or (first != UNDATED and first <= scope.last))
        and (scope.article is None or article in scope.article)
        and article not in scope.exclude_article
    )


@given(columns_and_scope())
def test_just_what_is_alive_and_in_scope_passes(case: tuple[Columns, Scope]) -> None:
    columns, scope = case
    expected = [
        bool(alive) and lets_through(columns, scope, article)
        for alive, article in zip(columns.alive, columns.article.tolist(), strict=True)
    ]
    assert columns.passing(scope).tolist() == expected


@given(columns_and_scope())
def test_undated_are_the_articles_that_only_their_want_of_a_date_keeps_out(
    case: tuple[Columns, Scope],
) -> None:
    columns, scope = case
    dateless = replace(scope, first=None, last=None)
    expected = {
        article
        for alive, article in zip(columns.alive, columns.article.tolist(), strict=True)
        if alive and lets_through(columns, dateless, article) and columns.first[article] == UNDATED
    }
    dated = scope.first is not None or scope.last is not None
    assert columns.undated(scope) == (len(expected) if dated else 0)


def test_the_newest_day_is_that_of_a_living_article(tmp_path: Path) -> None:
    days = ["2025-11-23", None, "2025-11-24T01:30:00+02:00", "2025-11-25", "1969-07-20"]
    articles = [
        Article(f"n{at}", "Rain", "It rained.", published_at=day) for at, day in enumerate(days)
    ]
    with closing(Archive(tmp_path)) as archive:
        found = []
        for gone in ([], ["n3"], ["n0", "n2"], ["n4"], ["n1"]):
            if gone:
                archive.remove(gone)
            else:
                add(archive, FakeEncoder(), *articles)
            with archive.snapshot() as snapshot:
                found.append(snapshot.columns.newest())
    assert found == ["2025-11-25", "2025-11-23", "1969-07-20", None, None]
    assert empty_state().columns.newest() is None


def test_a_scope_of_nothing_is_not_everything() -> None:
    assert Scope().everything
    for scope in (Scope(source=()), Scope(article=()), Scope(first=0), Scope(exclude_article=(1,))):
        assert not scope.everything


# Filters over an archive, by words and by vectors alike

DAY = datetime(2025, 6, 15, 12, tzinfo=UTC)
SOURCES = ["Herald", "herald", "Courier", "", None, "Ünïcode \U0001f4f0"]
DATES = [
    None,
    "2025-06-15",
    "2025-06-15T12:00:00+00:00",
    "2025-06-15T23:59:59.999999+00:00",
    "2025-06-16T00:00:00+14:00",
    "2025-06-14T23:30:00-02:00",
    "1969-07-20T20:17:40+00:00",
    "0001-01-01",
    "9999-12-31",
]
NEWS = [
    Article(
        id=f"f{number}",
        title="Storm",
        text=f"The storm passed place{number}. It did no harm, said voice{number}.",
        source=SOURCES[number % len(SOURCES)],
        published_at=DATES[number % len(DATES)],
    )
    for number in range(40)
]


@pytest.fixture(name="snapshot", scope="module")
def _snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    encoder = FakeEncoder()
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        add(archive, encoder, *[replace(article, source="Old", author="A") for article in NEWS])
        add(archive, encoder, *NEWS)
        add(archive, encoder, replace(NEWS[0], id="gone"))
        archive.remove(["gone"])
        with archive.snapshot() as snapshot:
            yield snapshot


BOUNDS = st.none() | st.one_of(
    st.sampled_from([date for date in DATES if date]),
    st.sampled_from(["2025-06-14", "2025-06-16", "2025-06-15T12:00:00.000001Z", "1970-01-01"]),
    st.integers(-40, 40).map(lambda hours: (DAY + timedelta(hours=hours)).isoformat()),
)
IDS = st.lists(st.sampled_from([f"f{number}" for number in range(0, 44, 3)] + ["gone"])).map(tuple)
FILTERS = st.builds(
    Filters,
    source=st.none() | st.lists(st.sampled_from(["Herald", "", "Old", SOURCES[-1]])).map(tuple),
    published_from=BOUNDS,
    published_to=BOUNDS,
    article_id=st.none() | IDS,
    exclude_article_id=st.none() | IDS,
)


def in_filters(filters: Filters, article: Article) -> bool:
    """By dates as such, not by numbers."""

    def ends(iso: str) -> tuple[datetime, datetime]:
        if len(iso) == 10:
            day = datetime.fromisoformat(iso).replace(tzinfo=UTC)
            return day, day + timedelta(hours=23, minutes=59, seconds=59, microseconds=999_999)
        return datetime.fromisoformat(iso), datetime.fromisoformat(iso)

    dated = article.published_at
    return (
        (filters.source is None or article.source in filters.source)
        and (filters.article_id is None or article.id in filters.article_id)
        and article.id not in (filters.exclude_article_id or ())
        and not (filters.dated and dated is None)
        and not (
            dated and filters.published_from and ends(dated)[1] < ends(filters.published_from)[0]
        )
        and not (dated and filters.published_to and ends(dated)[0] > ends(filters.published_to)[1])
    )


@settings(max_examples=200)
@given(filters=FILTERS)
def test_filters_are_exact_by_words_and_by_vectors(snapshot: Snapshot, filters: Filters) -> None:
    bounds = (filters.published_from, filters.published_to)
    if all(bounds) and parse_iso(str(bounds[0])).first > parse_iso(str(bounds[1])).last:
        with pytest.raises(InvalidRequest, match="published_from"):
            snapshot.scope(filters)
        return
    scope = snapshot.scope(filters)
    assert snapshot.lexical is not None
    assert snapshot.vectors is not None
    by_words, _ = snapshot.lexical.search(["storm"], 1000, scope)
    mask = snapshot.columns.passing(scope)
    by_vectors, _ = snapshot.vectors.search(np.ones(32, np.float32), 1000, mask)
    assert sorted(by_words.tolist()) == sorted(by_vectors.tolist()) == np.flatnonzero(mask).tolist()
    found = {head.id for _, head in snapshot.passages(by_words.tolist()).values()}
    assert found == {article.id for article in NEWS if in_filters(filters, article)}
    without_dates = replace(filters, published_from=None, published_to=None)
    assert snapshot.columns.undated(scope) == sum(
        filters.dated and article.published_at is None and in_filters(without_dates, article)
        for article in NEWS
    )


@pytest.mark.parametrize("field", ["published_from", "published_to"])
@pytest.mark.parametrize("value", ["", "soon", "2025-13-01", "\ud800"])
def test_a_date_that_is_none_is_refused_by_field(
    snapshot: Snapshot, field: str, value: str
) -> None:
    bounds: dict[str, Any] = {field: value}
    with pytest.raises(InvalidRequest) as caught:
        snapshot.scope(Filters(**bounds))
    assert caught.value.field == field


def test_bounds_are_whole_days_in_microseconds(snapshot: Snapshot) -> None:
    scope = snapshot.scope(Filters(published_from="2025-06-15", published_to="2025-06-15"))
    day = datetime(2025, 6, 15, tzinfo=UTC)
    assert scope.first == (day - EPOCH) // MICROSECOND
    assert scope.last == (day + timedelta(days=1) - EPOCH) // MICROSECOND - 1
    assert scope.article is None
    assert scope.exclude_article == ()


@given(name=st.text(st.characters(exclude_categories=()), max_size=5), other=st.sampled_from("ab"))
@example(name="\ud800", other="a")
@example(name="\0", other="a")
@example(name="%_*'\"", other="a")
@example(name="x" * 100_000, other="a")
def test_any_text_is_a_safe_filter(snapshot: Snapshot, name: str, other: str) -> None:
    assert snapshot.lexical is not None
    for filters in (
        Filters(source=(name, other)),
        Filters(article_id=(name, other)),
        Filters(exclude_article_id=(name, other)),
    ):
        scope = snapshot.scope(filters)
        numbers, _ = snapshot.lexical.search(["storm"], 1000, scope)
        assert sorted(numbers.tolist()) == np.flatnonzero(snapshot.columns.passing(scope)).tolist()
        known = filters.source is not None and name == ""
        assert (len(numbers) > 0) == (filters.exclude_article_id is not None or known)
    assert snapshot.find(name) is None
    assert snapshot.ids_at(name) == []
    assert snapshot.heads(limit=1, after="g" + name) == []


# What is there


def test_articles_by_id_and_revision(snapshot: Snapshot) -> None:
    assert snapshot.head("f1").revision == 2
    assert snapshot.head("f1", 1).source == "Old"
    assert snapshot.text(snapshot.head("f1", 1)) == NEWS[1].text
    assert snapshot.find("gone") is None
    for article_id, revision in (("gone", None), ("gone", 1), ("f1", 3), ("nobody", None)):
        with pytest.raises(ArticleNotFound, match=article_id):
            snapshot.head(article_id, revision)
    assert [head.id for head in snapshot.heads(limit=3, after="f1")] == ["f10", "f11", "f12"]
    assert snapshot.counts()[0] == 40
    numbers = snapshot.columns.article[snapshot.columns.alive].tolist()
    assert sorted(snapshot.article_ids(numbers).values()) == sorted(each.id for each in NEWS)


def test_a_snapshot_is_of_one_make(snapshot: Snapshot) -> None:
    snapshot.require(Fingerprint({"encoder": FakeEncoder().fingerprint}, "fake"))
    with pytest.raises(IndexMismatch, match="fake"):
        snapshot.require(Fingerprint({"encoder": "another"}, "another"))


# From one generation to the next

STEPS = st.lists(
    st.tuples(st.dictionaries(st.integers(0, 5), st.integers(0, 3)), st.sets(st.integers(0, 5))),
    min_size=1,
    max_size=6,
)


@settings(max_examples=12)
@given(steps=STEPS)
def test_stepping_ends_where_starting_anew_ends(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[dict[int, int], set[int]]]
) -> None:
    folder, encoder = tmp_path_factory.mktemp("index"), FakeEncoder()
    with closing(Archive(folder)) as archive, closing(Archive(folder)) as stepping:
        for changes, removals in steps:
            add(
                archive,
                encoder,
                *[
                    replace(NEWS[number], source=f"Paper {version}", published_at=DATES[version])
                    for number, version in changes.items()
                ],
            )
            with archive.snapshot() as before:
                there = [f"f{number}" for number in removals if before.find(f"f{number}")]
            if there:
                archive.remove(there)
            with (
                closing(Archive(folder)) as fresh,
                stepping.snapshot() as one,
                fresh.snapshot() as other,
            ):
                assert view(one) == view(other)


def view(snapshot: Snapshot) -> list[object]:
    columns = snapshot.columns
    alive = np.flatnonzero(columns.alive)
    articles = columns.article[alive]
    names = {number: name for name, number in columns.sources.items()}
    found = []
    if snapshot.vectors is not None:
        ones = np.ones(32, np.float32)
        numbers, scores = snapshot.vectors.search(ones, 1000, columns.alive)
        found = list(zip(numbers.tolist(), scores.tolist(), strict=True))
    return [
        snapshot.generation,
        snapshot.manifest,
        alive.tolist(),
        articles.tolist(),
        [names.get(int(source)) for source in columns.source[articles]],
        columns.first[articles].tolist(),
        columns.last[articles].tolist(),
        found,
    ]


def test_derived_files_of_another_generation_are_not_taken(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), NEWS[0])
        lexical = LexicalIndex(tmp_path / "lexical")
        old = lexical.searcher()
        with archive.reading() as before:
            assert before is not None
            state = advanced(empty_state(), before, old, tmp_path)
            assert state.generation == 1
            add(archive, FakeEncoder(), NEWS[1])
            with pytest.raises(ValueError, match="lexical index is at 2, not 1"):
                advanced(empty_state(), before, lexical.searcher(), tmp_path)
        with archive.reading() as after:
            assert after is not None
            with pytest.raises(ValueError, match="lexical index is at 1, not 2"):
                advanced(state, after, old, tmp_path)
            for file in tmp_path.glob("dense.*"):
                file.unlink()
            with pytest.raises(ValueError, match="dense"):
                advanced(empty_state(), after, lexical.searcher(), tmp_path)
