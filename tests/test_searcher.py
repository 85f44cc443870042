"""Questions: what is found, what a filter lets through, and what bad input gets."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag.archive import Archive
from rag.cite import PER_ARTICLE, collapse
from rag.errors import ArchiveDamaged, ArticleNotFound, IndexMismatch, InvalidRequest
from rag.lexical import STOP_WORDS
from rag.normalise import normalise_text
from rag.retrieve import DEPTH
from rag.searcher import QUESTION_CHARACTERS, TOP_K_MOST, Searcher
from rag.tokens import DEFAULT_ENCODING, token_counter
from rag.types import Answer, Article, EncodedQuestion, Filters, Hit, Scores
from tests.fakes import FakeEncoder, add

TOPICS = ["spillover", "harbour", "bread", "flood", "vote", "metro", "bridge", "strike", "mink"]
SOURCES = ["Coast Wire", "The Daily Test", "Courier: North", "coast wire", None]
DATES = [
    "2025-11-23",
    "2025-11-23T23:30:00-05:00",
    "2025-11-24T00:30:00+01:00",
    "2025-11-24",
    "2025-11-23T00:00:00+00:00",
    "2025-11-23T23:59:59.999999+00:00",
    "2024-02-29",
    None,
    None,
]
QUESTION = "who warned of spillover at the harbour and when"


def story(number: int) -> Article:
    """One of many articles, each of several passages."""
    topics = [TOPICS[(number * step + step) % len(TOPICS)] for step in range(1, 8)]
    lines = [
        f"Envoy {number} warned of the {topic} at the {topics[at - 1]} again on day {at}."
        for at, topic in enumerate(topics)
    ]
    return Article(
        id=f"story-{number:02}",
        title=f"Report {number} on the {topics[0]}",
        text=" ".join(lines),
        source=SOURCES[number % len(SOURCES)],
        url=f"https://news.example/{number}" if number % 2 else None,
        published_at=DATES[number % len(DATES)],
    )


STORIES = [story(number) for number in range(60)]
TEXTS = {article.id: article.text for article in STORIES}


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    """An archive of more passages than either signal takes for a question."""
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        report = add(archive, FakeEncoder(), *STORIES)
        assert report.added == len(STORIES)
        assert report.passages > 1.5 * DEPTH
        yield Searcher(archive, FakeEncoder())


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with closing(Archive(tmp_path / "index")) as archive:
        yield archive


def asked_of(archive: Archive, *articles: Article) -> Searcher:
    add(archive, FakeEncoder(), *articles)
    return Searcher(archive, FakeEncoder())


def articles_of(answer: Answer) -> list[str]:
    return [citation.hit.article.id for citation in answer.citations]


def check(answer: Answer, texts: dict[str, str]) -> None:
    scores = [citation.hit.score for citation in answer.citations]
    assert scores == sorted(scores, reverse=True)
    assert [citation.rank for citation in answer.citations] == list(range(1, len(scores) + 1))
    assert len({citation.hit.passage.number for citation in answer.citations}) == len(scores)
    for citation in answer.citations:
        text = texts[citation.hit.article.id]
        assert text[citation.start : citation.end] == citation.quote


# What the question says of date and source

NEWS = [
    Article("may", "Vote", "The vote was lost.", source="Coast Wire", published_at="2025-05-06"),
    Article("june", "Vote", "The vote was lost.", source="Hill Post", published_at="2025-06-07"),
    Article("undated", "Vote", "The vote was lost.", source="Bay Times"),
]


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("was the vote lost in May 2025?", "may"),
        ("was the vote lost in June 2025?", "june"),
        ("was the vote lost since June 1, 2025?", "june"),
        ("was the vote lost before June 2025?", "may"),
        ("was the vote lost, according to Hill Post?", "june"),
        ("was the vote lost, according to coast wire?", "may"),
        ("was the vote lost, according to Bay Times?", "undated"),
    ],
)
def test_what_the_question_says_is_preferred_and_not_required(
    question: str, first: str, archive: Archive
) -> None:
    answer = asked_of(archive, *NEWS).ask(question)
    assert articles_of(answer)[0] == first
    assert set(articles_of(answer)) == {article.id for article in NEWS}
    read = answer.interpreted
    places = [(each.start, each.end, each.text) for each in read.periods]
    places += [(each.start, each.end, each.text) for each in read.sources]
    ((start, end, text),) = places
    assert question[start:end] == text


def test_relative_dates_count_from_the_day_of_asking(archive: Archive) -> None:
    searcher = asked_of(archive, *NEWS)
    question = "was the vote lost last week?"
    for asked_at, first in (("2025-05-14", "may"), ("2025-06-12T08:00:00+02:00", "june")):
        answer = searcher.ask(question, asked_at=asked_at)
        assert articles_of(answer)[0] == first
        assert searcher.search(question, asked_at=asked_at).hits[0].article.id == first
        assert answer.interpreted.asked_at == asked_at
    today = datetime.now(UTC).date()
    unsaid = searcher.ask(question).interpreted
    assert today <= datetime.fromisoformat(unsaid.asked_at).date() <= today + timedelta(days=1)


@pytest.mark.parametrize("asked_at", ["", "tomorrow", "2025-02-30"])
def test_a_day_of_asking_that_is_no_date_is_refused(asked_at: str, searcher: Searcher) -> None:
    for call in (searcher.ask, searcher.search):
        with pytest.raises(InvalidRequest, match=r"asked_at: .* is not an ISO date"):
            call(QUESTION, asked_at=asked_at)


@pytest.mark.parametrize(
    ("question", "asks"),
    [
        (QUESTION, True),
        ("bread", False),
        ("Envoy 7 and the metro", False),
        ("when may the metro open", True),
    ],
)
def test_a_question_without_a_cue_is_ranked_by_its_words_alone(
    question: str, asks: bool, searcher: Searcher
) -> None:
    with searcher.archive.snapshot() as snapshot:
        ranking = searcher.rank(snapshot, question)
    read = ranking.question.interpreted
    assert (read.periods, read.sources, read.recent) == ((), (), False)
    assert ranking.understood.dtype == ranking.late.dtype
    raised = np.flatnonzero(ranking.understood != ranking.late).tolist()
    assert set(raised) <= set(ranking.read)  # for what their sentences say
    assert bool(raised) == asks
    expected = np.lexsort((ranking.candidates.numbers, -ranking.understood))
    assert ranking.order.tolist() == expected.tolist()


def test_a_question_of_a_day_prefers_the_news_before_it(archive: Archive) -> None:
    searcher = asked_of(archive, *NEWS)
    question = "was the vote lost"
    for asked_at, first in (("2025-06-30", "june"), ("2025-05-07", "may")):
        answer = searcher.ask(question, asked_at=asked_at)
        assert answer.interpreted.recent
        assert articles_of(answer)[0] == first
        assert set(articles_of(answer)) == {article.id for article in NEWS}
    dated = searcher.ask("was the vote lost in May 2025", asked_at="2025-06-30")
    assert not dated.interpreted.recent
    filtered = searcher.ask(
        question, asked_at="2025-06-30", filters=Filters(published_from="2025-01-01")
    )
    assert not filtered.interpreted.recent
    assert filtered.citations[0].hit.score == filtered.citations[1].hit.score


def test_a_searcher_may_stay_on_a_day(archive: Archive) -> None:
    searcher = asked_of(archive, *NEWS)
    staying = searcher.on("2025-05-14")
    answer = staying.ask("was the vote lost last week?")
    assert articles_of(answer)[0] == "may"
    assert answer.interpreted.asked_at == "2025-05-14"
    plain = staying.ask("was the vote lost")
    assert not plain.interpreted.recent
    assert len({citation.hit.score for citation in plain.citations}) == 1
    given = staying.ask("was the vote lost last week?", asked_at="2025-06-12")
    assert articles_of(given)[0] == "june"
    assert searcher.ask("was the vote lost").interpreted.asked_at > "2025-05-14"


def test_a_filter_goes_before_what_the_question_says_of_the_same(archive: Archive) -> None:
    searcher = asked_of(archive, *NEWS)
    question = "was the vote lost in June 2025, according to Hill Post?"
    dated = searcher.ask(question, filters=Filters(published_to="2025-05-31"))
    assert articles_of(dated) == ["may"]
    assert dated.interpreted.periods == ()
    assert [each.source for each in dated.interpreted.sources] == ["Hill Post"]
    of_source = searcher.ask(question, filters=Filters(source=("Coast Wire", "Bay Times")))
    assert articles_of(of_source) == ["may", "undated"]
    assert of_source.interpreted.sources == ()
    assert [each.text for each in of_source.interpreted.periods] == ["in June 2025"]
    assert of_source.citations[0].hit.score == of_source.citations[1].hit.score  # none was raised


def test_a_source_is_known_as_long_as_it_has_an_article(archive: Archive) -> None:
    searcher = asked_of(archive, *NEWS[:1])
    question = "was the vote lost, according to Hill Post?"
    assert searcher.ask(question).interpreted.sources == ()
    add(archive, FakeEncoder(), NEWS[1])
    assert [s.source for s in searcher.ask(question).interpreted.sources] == ["Hill Post"]
    archive.remove(["june"])
    assert searcher.ask(question).interpreted.sources == ()


# Ranking


@pytest.mark.parametrize("question", [QUESTION, "bread", "Envoy 7 and the metro", "zebra"])
def test_scores_do_not_depend_on_how_many_are_asked_for(question: str, searcher: Searcher) -> None:
    with searcher.archive.snapshot() as snapshot:
        ranking = searcher.rank(snapshot, question)
        ranked = ranking.candidates.numbers[ranking.order].tolist()
        of_article = ranking.articles[ranking.order].tolist()
    scores: dict[int, tuple[float, Scores]] = {}
    for top_k in (TOP_K_MOST, 1, 2, 3, 5, 10, 37, 99):
        answer = searcher.ask(question, top_k=top_k)
        check(answer, TEXTS)
        numbers = [citation.hit.passage.number for citation in answer.citations]
        assert numbers == [ranked[place] for place in collapse(of_article, top_k)]
        assert len(numbers) == top_k
        for hit in (citation.hit for citation in answer.citations):
            own = (hit.score, hit.scores)
            assert scores.setdefault(hit.passage.number, own) == own
    assert len(scores) >= TOP_K_MOST


def test_the_same_question_is_answered_the_same_way(searcher: Searcher) -> None:
    first, second = (searcher.ask(QUESTION, top_k=20) for _ in range(2))
    assert first.citations == second.citations
    found = searcher.search(QUESTION, top_k=20)
    assert found.hits == tuple(citation.hit for citation in first.citations)
    assert (found.generation, found.tokens) == (first.generation, first.tokens)


def test_at_most_two_passages_of_an_article(searcher: Searcher) -> None:
    found = articles_of(searcher.ask("Envoy 7 warned of the bread", top_k=50))
    assert len(found) == 50
    assert max(found.count(article) for article in found) == PER_ARTICLE
    alone = searcher.ask(QUESTION, top_k=5, filters=Filters(article_id=("story-07",)))
    assert articles_of(alone) == ["story-07"] * 5
    check(alone, TEXTS)


def test_what_an_answer_says_of_itself(searcher: Searcher) -> None:
    answer = searcher.ask(QUESTION)
    assert answer.question == QUESTION
    assert answer.answered
    assert answer.confidence is None
    assert len(answer.citations) == 5
    assert answer.generation == 1
    assert answer.tokens == answer.tokens_seen == len(QUESTION.split())
    assert answer.undated == 0
    assert answer.budget is None
    parts = [ms for stage, ms in answer.took_ms.items() if stage != "total"]
    assert all(ms >= 0 for ms in parts)
    assert sum(parts) <= answer.took_ms["total"]
    for citation in answer.citations:
        article = next(each for each in STORIES if each.id == citation.hit.article.id)
        assert citation.hit.article.sha256 == article.sha256
        assert (citation.link is None) == (article.url is None)


# Filters


def brute_force(
    searcher: Searcher, question: str, passes: Callable[[Article], bool]
) -> dict[str, tuple[float, float]]:
    """Both signals of every passage that may be found, by the passage's id."""
    passing = {article.id for article in STORIES if passes(article)}
    with searcher.archive.snapshot() as snapshot:
        numbers = np.flatnonzero(snapshot.columns.alive)
        stored = snapshot.passages(numbers.tolist())
        assert snapshot.lexical is not None
        assert snapshot.vectors is not None
        terms = snapshot.analyzer.question_terms(question)
        vector = FakeEncoder().encode_question(question).vector
        lexical = snapshot.lexical.score(terms, numbers).tolist()
        dense = snapshot.vectors.score(vector, numbers).tolist()
    return {
        stored[number][0].id: (by_words, by_vectors)
        for number, by_words, by_vectors in zip(numbers.tolist(), lexical, dense, strict=True)
        if stored[number][1].id in passing
    }


def period(value: str) -> tuple[datetime, datetime]:
    """The first and last microsecond, read without the code under test."""
    if "T" in value:
        moment = datetime.fromisoformat(value).astimezone(UTC)
        return moment, moment
    first = datetime.fromisoformat(value).replace(tzinfo=UTC)
    return first, first + timedelta(days=1) - timedelta(microseconds=1)


def dated(article: Article, first: str | None, last: str | None) -> bool:
    if article.published_at is None:
        return False
    begin, end = period(article.published_at)
    return (first is None or end >= period(first)[0]) and (last is None or begin <= period(last)[1])


FILTERS: list[tuple[Filters, Callable[[Article], bool]]] = [
    (Filters(source=("Coast Wire",)), lambda a: a.source == "Coast Wire"),
    (Filters(source=("Courier: North", "x")), lambda a: a.source == "Courier: North"),
    (Filters(article_id=("story-03", "nobody")), lambda a: a.id == "story-03"),
    (
        Filters(source=("Coast Wire",), exclude_article_id=("story-00", "story-05", "nobody")),
        lambda a: a.source == "Coast Wire" and a.id not in ("story-00", "story-05"),
    ),
    (
        Filters(published_from="2025-11-24", published_to="2025-11-24"),
        lambda a: dated(a, "2025-11-24", "2025-11-24"),
    ),
    (Filters(published_to="2024-12-31"), lambda a: dated(a, None, "2024-12-31")),
    (
        Filters(published_from="2025-11-24T05:30:00+01:00", source=("The Daily Test",)),
        lambda a: a.source == "The Daily Test" and dated(a, "2025-11-24T05:30:00+01:00", None),
    ),
]


def check_scores(answer: Answer, expected: dict[str, tuple[float, float]]) -> None:
    for hit in (citation.hit for citation in answer.citations):
        by_words, by_vectors = expected[hit.passage.id]
        assert hit.scores.lexical == pytest.approx(by_words, abs=1e-5)
        assert hit.scores.dense == pytest.approx(by_vectors, abs=1e-5)


@pytest.mark.parametrize("question", [QUESTION, "zebra", "report 7"])
@pytest.mark.parametrize(("filters", "passes"), FILTERS)
def test_a_filter_lets_through_just_what_brute_force_does(
    question: str, filters: Filters, passes: Callable[[Article], bool], searcher: Searcher
) -> None:
    expected = brute_force(searcher, question, passes)
    assert 0 < len(expected) <= TOP_K_MOST
    answer = searcher.ask(question, top_k=TOP_K_MOST, filters=filters)
    check(answer, TEXTS)
    assert {citation.hit.passage.id for citation in answer.citations} == expected.keys()
    check_scores(answer, expected)


@pytest.mark.parametrize("question", [QUESTION, "zebra", "report 7", "Envoy 7 and the metro"])
def test_both_signals_score_every_passage_cited(question: str, searcher: Searcher) -> None:
    expected = brute_force(searcher, question, lambda _: True)
    answer = searcher.ask(question, top_k=TOP_K_MOST)
    check_scores(answer, expected)
    best_by_words = max(by_words for by_words, _ in expected.values())
    best_by_vectors = max(by_vectors for _, by_vectors in expected.values())
    with searcher.archive.snapshot() as snapshot:
        found = searcher.rank(snapshot, question).candidates
    assert found.lexical.max() == pytest.approx(best_by_words, abs=1e-5)
    assert found.dense.max() == pytest.approx(best_by_vectors, abs=1e-5)


def test_an_article_excluded_is_not_found_and_the_others_are(searcher: Searcher) -> None:
    without = {article.id for article in STORIES[:10]}
    answer = searcher.ask(QUESTION, top_k=100, filters=Filters(exclude_article_id=tuple(without)))
    assert len(answer.citations) == 100
    assert not without & set(articles_of(answer))
    everything = Filters(exclude_article_id=tuple(TEXTS))
    assert searcher.ask(QUESTION, filters=everything).citations == ()


@pytest.mark.parametrize(
    "filters",
    [
        Filters(source=("Coast",)),
        Filters(source=("COAST WIRE",)),
        Filters(source=("",)),
        Filters(source=()),
        Filters(source=("*", "a OR b", "Coast Wire\0")),
        Filters(article_id=()),
        Filters(article_id=("nobody", "story", "\0", "x" * 100_000)),
        Filters(published_from="2026-01-01"),
        Filters(published_to="0001-01-01"),
        Filters(source=("Coast Wire",), article_id=("story-01",)),
    ],
)
def test_a_filter_that_nothing_passes(filters: Filters, searcher: Searcher) -> None:
    answer = searcher.ask(QUESTION, filters=filters)
    assert answer.citations == ()
    assert not answer.answered
    assert searcher.search(QUESTION, filters=filters).hits == ()


def test_undated_articles_that_a_date_filter_keeps_out_are_counted(searcher: Searcher) -> None:
    undated = [article for article in STORIES if article.published_at is None]
    answer = searcher.ask(QUESTION, filters=Filters(published_from="2000-01-01"))
    assert answer.undated == len(undated) > 5
    of_one = Filters(published_from="2000-01-01", source=("Coast Wire",))
    assert searcher.ask(QUESTION, filters=of_one).undated == len(
        [article for article in undated if article.source == "Coast Wire"]
    )
    none = replace(of_one, exclude_article_id=tuple(article.id for article in undated))
    assert searcher.ask(QUESTION, filters=none).undated == 0
    assert searcher.search(QUESTION, filters=of_one).undated > 0


@pytest.mark.parametrize(
    ("published", "first", "last", "passes"),
    [
        ("2025-11-23", "2025-11-23", "2025-11-23", True),
        ("2025-11-23", "2025-11-24", None, False),
        ("2025-11-23", None, "2025-11-22", False),
        ("2025-11-23", "2025-11-23T23:59:59.999999Z", None, True),
        ("2025-11-23", "2025-11-24T00:00:00Z", None, False),
        ("2025-11-23", None, "2025-11-23T00:00:00Z", True),
        ("2025-11-23", None, "2025-11-22T23:59:59.999999Z", False),
        ("2025-11-23", "2025-11-24T00:59:59+01:00", None, True),
        ("2025-11-23", "2025-11-24T01:00:00+01:00", None, False),
        ("2025-11-23T23:30:00-05:00", None, "2025-11-23", False),
        ("2025-11-23T23:30:00-05:00", "2025-11-24", "2025-11-24", True),
        ("2025-11-24T00:30:00+01:00", "2025-11-23", "2025-11-23", True),
        ("2025-11-23T12:00:00", "2025-11-23T12:00:00Z", "2025-11-23T12:00:00Z", True),
        ("2025-11-23T12:00:00", "2025-11-23T12:00:00.000001Z", None, False),
        ("1969-12-31", "1969-12-31", "1969-12-31", True),
        ("0001-01-01", None, "0001-01-01", True),
        ("9999-12-31", "9999-12-31", None, True),
    ],
)
def test_dates_are_inclusive_and_in_utc(
    published: str, first: str | None, last: str | None, passes: bool, archive: Archive
) -> None:
    searcher = asked_of(archive, Article("a", "T", "It rained.", published_at=published))
    for question in ("rain", "zebra"):  # one finds it by words, the other by vectors alone
        answer = searcher.ask(question, filters=Filters(published_from=first, published_to=last))
        assert articles_of(answer) == (["a"] if passes else [])
        assert answer.undated == 0


@pytest.mark.parametrize("value", ["", "yesterday", "2025-02-30", "2025-13-01", "23/11/2025", "0"])
@pytest.mark.parametrize("field", ["published_from", "published_to"])
def test_a_date_that_is_none_is_refused(field: str, value: str, searcher: Searcher) -> None:
    asked = (
        Filters(published_from=value) if field == "published_from" else Filters(None, None, value)
    )
    with pytest.raises(InvalidRequest, match="is not an ISO date") as caught:
        searcher.ask(QUESTION, filters=asked)
    assert caught.value.field == field


def test_a_period_that_ends_before_it_begins_is_refused(searcher: Searcher) -> None:
    with pytest.raises(InvalidRequest, match="after published_to"):
        searcher.ask(QUESTION, filters=Filters(None, "2025-11-24", "2025-11-23"))


# Questions


@pytest.mark.parametrize("question", ["", " ", "\n\t \u3000", "\u00a0", "\0", "\x1f\x85", "\ufeff"])
def test_a_question_without_a_sign_is_refused(question: str, searcher: Searcher) -> None:
    for call in (searcher.ask, searcher.search):
        with pytest.raises(InvalidRequest, match="empty") as caught:
            call(question)
        assert caught.value.field == "question"


@pytest.mark.parametrize("length", [QUESTION_CHARACTERS + 1, 100_000])
def test_a_question_that_is_too_long_is_refused(length: int, searcher: Searcher) -> None:
    for call in (searcher.ask, searcher.search):
        with pytest.raises(InvalidRequest, match=f"{length} characters; the limit is 8000"):
            call("a" * length)


@pytest.mark.parametrize("length", [2_000, QUESTION_CHARACTERS])
def test_a_long_question_is_asked_in_full_by_words(length: int, searcher: Searcher) -> None:
    question = ("of " * length)[: length - 10] + " spillover"
    assert len(question) == length
    answer = searcher.ask(question, top_k=20)
    assert answer.question == question
    assert answer.tokens == len(question.split())
    assert answer.tokens_seen == FakeEncoder().window < answer.tokens
    assert any("spillover" in citation.quote for citation in answer.citations)
    assert any(citation.hit.scores.lexical > 0 for citation in answer.citations)


@pytest.mark.parametrize("top_k", [0, -1, TOP_K_MOST + 1, 1_000_000])
def test_more_than_a_hundred_or_less_than_one_is_refused(top_k: int, searcher: Searcher) -> None:
    for call in (searcher.ask, searcher.search):
        with pytest.raises(InvalidRequest, match=f"{top_k} is not between 1 and 100") as caught:
            call(QUESTION, top_k=top_k)
        assert caught.value.field == "top_k"


@pytest.mark.parametrize(
    "question",
    [
        "who was it and why",
        " ".join(sorted(STOP_WORDS)),
        "🦠🔥",
        "👩\u200d👩\u200d👧",
        "؟",
        "???",
        "من حذر من انتشار الخطر؟",
        "谁警告过？",
        "Wer warnte vor einem Übergreifen, und wann?",
        "x" * QUESTION_CHARACTERS,
        "\ud800 spillover",
    ],
)
def test_any_words_are_a_question(question: str, searcher: Searcher) -> None:
    answer = searcher.ask(question)
    assert len(answer.citations) == 5
    check(answer, TEXTS)


def test_stop_words_are_asked_for_where_there_is_nothing_else(archive: Archive) -> None:
    nothing = Article("a", "T", "Snow fell.")
    pronoun = Article("b", "T", "It was they who fell.")
    searcher = asked_of(archive, nothing, pronoun)
    asked = searcher.ask("who was it", top_k=2)
    scores = {c.hit.article.id: c.hit.scores.lexical for c in asked.citations}
    assert scores["b"] > scores["a"] == 0
    beside = searcher.ask("who was it that fell", top_k=2)
    lexical = {c.hit.article.id: c.hit.scores.lexical for c in beside.citations}
    assert lexical["a"] > 0


@pytest.mark.parametrize(
    "question",
    [
        "title:spillover AND (harbour OR -bread)",
        '"spillover" +harbour -bread ~2 ^3 [a TO z] {a TO b} \\ / * ?',
        "spillover:*",
        "((((",
        "NOT",
        "AND OR NOT",
        'words:"',
        "IN [spillover]",
        "<script>alert('spillover')</script>",
        "'; DROP TABLE article; -- spillover",
        "%00 spillover \\u0000",
    ],
)
def test_marks_in_a_question_are_no_syntax(question: str, searcher: Searcher) -> None:
    answer = searcher.ask(question)
    assert len(answer.citations) == 5
    check(answer, TEXTS)
    if "spillover" in question:
        assert any("spillover" in citation.quote for citation in answer.citations)
    excluded = searcher.ask("spillover -bread NOT bread", top_k=100)
    assert any("bread" in citation.quote for citation in excluded.citations)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=60), st.integers(1, 100))
def test_any_text_is_a_safe_question(searcher: Searcher, question: str, top_k: int) -> None:
    if not normalise_text(question):
        with pytest.raises(InvalidRequest):
            searcher.ask(question, top_k=top_k)
        return
    answer = searcher.ask(question, top_k=top_k)
    assert len(answer.citations) == top_k
    check(answer, TEXTS)


def test_an_accent_is_one_sign_or_two(archive: Archive) -> None:
    searcher = asked_of(
        archive,
        Article("a", "T", "The résumé of Élodie Crépon was published."),
        Article("b", "T", "The minister resumed work."),
        Article("c", "T", "The price of bread rose again."),
    )
    question = "Élodie Crépon résumé"
    apart = unicodedata.normalize("NFD", question)
    assert apart != question
    answer, same = searcher.ask(question), searcher.ask(apart)
    assert same.question == apart
    assert same.citations == answer.citations
    lit = [answer.citations[0].quote[start:end] for start, end in answer.citations[0].highlights]
    assert lit == ["résumé", "Élodie", "Crépon"]


# Token budgets


def test_a_budget_holds_and_is_used_up(searcher: Searcher) -> None:
    full = searcher.ask(QUESTION, top_k=20)
    counter = token_counter()
    tokens = [counter.count(citation.hit.passage.text) for citation in full.citations]
    for limit in (1, min(tokens) - 1, min(tokens), tokens[0], 50, 150, sum(tokens), 10**9):
        answer = searcher.ask(QUESTION, top_k=20, token_budget=limit)
        assert answer.budget is not None
        assert (answer.budget.limit, answer.budget.encoding) == (limit, DEFAULT_ENCODING)
        used, kept = 0, []
        for citation, count in zip(full.citations, tokens, strict=True):
            if used + count <= limit:
                used += count
                kept.append(citation.hit)
        assert [citation.hit for citation in answer.citations] == kept
        assert answer.budget.used == used <= limit
        assert answer.answered  # a budget too small for any passage is no want of an answer
        check(answer, TEXTS)
        found = searcher.search(QUESTION, top_k=20, token_budget=limit)
        assert (list(found.hits), found.budget) == (kept, answer.budget)


def test_a_text_that_has_changed_on_the_disk_is_never_quoted(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        article = Article("a", "T", "The envoy warned of spillover on Monday.")
        add(archive, FakeEncoder(), article)
        database = sqlite3.connect(tmp_path / "library.db")
        database.execute("UPDATE article SET text = replace(text, 'Monday', 'Sunday')")
        database.commit()
        database.close()
        searcher = Searcher(archive, FakeEncoder())
        for call in (
            lambda: searcher.ask("who warned"),
            lambda: searcher.search("who warned"),
            lambda: searcher.verify("a", 0, 3, "The"),
            archive.rebuild,
        ):
            with pytest.raises(ArchiveDamaged, match="the text of article a at revision 1"):
                call()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_budget_of_nothing_is_refused(limit: int, searcher: Searcher) -> None:
    for call in (searcher.ask, searcher.search):
        with pytest.raises(InvalidRequest, match="at least 1") as caught:
            call(QUESTION, token_budget=limit)
        assert caught.value.field == "token_budget"


def test_a_budget_in_an_unknown_encoding_is_refused(searcher: Searcher) -> None:
    for call in (searcher.ask, searcher.search):
        with pytest.raises(InvalidRequest, match="'morse' is not known"):
            call(QUESTION, token_budget=50, budget_encoding="morse")


# Archives that are unlike others


def test_an_archive_that_is_not_there_answers_nothing(archive: Archive) -> None:
    searcher = Searcher(archive, FakeEncoder())
    answer = searcher.ask(QUESTION, filters=Filters(published_from="2025-01-01"), token_budget=9)
    assert not answer.answered
    assert answer.citations == ()
    assert (answer.generation, answer.undated) == (0, 0)
    assert answer.budget is not None
    assert answer.budget.used == 0
    assert searcher.search(QUESTION, filters=Filters(source=("x",), article_id=("y",))).hits == ()
    with pytest.raises(ArticleNotFound, match="'a'"):
        searcher.verify("a", 0, 0, "")
    with pytest.raises(InvalidRequest):
        searcher.ask(QUESTION, filters=Filters(published_from="never"))
    assert not archive.folder.exists()


def without_late(answer: Answer) -> set[int]:
    return {c.hit.passage.number for c in answer.citations if c.hit.scores.late is None}


def test_a_passage_that_lost_its_token_vectors_is_cited_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = FakeEncoder()
    with closing(Archive(tmp_path)) as archive:
        before = asked_of(archive, *STORIES[:20]).ask(QUESTION, top_k=TOP_K_MOST)
        assert not caplog.records
        best = before.citations[0].hit
        with closing(sqlite3.connect(tmp_path / "library.db", isolation_level=None)) as library:
            library.execute(
                "DELETE FROM token_vectors WHERE encoding ="
                " (SELECT encoding FROM passage WHERE number = ?)",
                (best.passage.number,),
            )
        assert len(archive.check()) == 1
        searcher = Searcher(archive, encoder)
        for _ in range(2):
            answer = searcher.ask(QUESTION, top_k=TOP_K_MOST)
            check(answer, TEXTS)
            assert without_late(answer) - without_late(before) == {best.passage.number}
            cited = next(c for c in answer.citations if c.hit.passage == best.passage)
            assert (cited.start, cited.end) in best.passage.span.sentences
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f": {best.passage.number};" in record.getMessage()

        caplog.clear()
        article = next(each for each in STORIES if each.id == best.article.id)
        archive.remove([article.id])
        add(archive, encoder, article)
        assert archive.check() == []
        healed = searcher.ask(QUESTION)
        assert healed.citations[0].quote == before.citations[0].quote
        assert healed.citations[0].hit.scores.late is not None
        assert not caplog.records


def test_a_title_without_a_text_is_found(archive: Archive) -> None:
    titled = Article("a", "Envoy warns of spillover", "", url="https://news.example/a#top")
    searcher = asked_of(archive, titled, Article("b", "Bread", "It got dearer."))
    first = searcher.ask("who warned of spillover").citations[0]
    assert first.hit.article.id == "a"
    assert first.hit.scores.lexical > 0
    assert (first.start, first.end, first.quote, first.highlights) == (0, 0, "", ())
    assert first.hit.passage.text == ""
    assert first.link == titled.url
    assert searcher.verify("a", 0, 0, "").valid


def test_an_article_that_is_removed_is_not_found_any_more(archive: Archive) -> None:
    searcher = asked_of(archive, *STORIES[:3])
    assert set(articles_of(searcher.ask(QUESTION, top_k=20))) == {a.id for a in STORIES[:3]}
    archive.remove(["story-01"])
    answer = searcher.ask(QUESTION, top_k=20)
    assert set(articles_of(answer)) == {"story-00", "story-02"}
    assert answer.generation == 2
    assert searcher.ask(QUESTION, filters=Filters(article_id=("story-01",))).citations == ()
    with pytest.raises(ArticleNotFound):
        searcher.verify("story-01", 0, 5, TEXTS["story-01"][:5])
    archive.remove(["story-00", "story-02"])
    assert searcher.ask(QUESTION).citations == ()


class Removing(FakeEncoder):
    """Another process removes an article while the question is being encoded."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def encode_question(self, text: str) -> EncodedQuestion:
        with closing(Archive(self.folder)) as other, other.reading() as reading:
            held = reading is not None and reading.head("story-01") is not None
            if held:
                other.remove(["story-01"])
        return super().encode_question(text)


def test_a_question_sees_one_generation_from_start_to_end(archive: Archive) -> None:
    add(archive, FakeEncoder(), *STORIES[:3])
    searcher = Searcher(archive, Removing(archive.folder))
    meanwhile = searcher.ask(QUESTION, top_k=20)
    assert meanwhile.generation == 1
    assert "story-01" in articles_of(meanwhile)
    check(meanwhile, TEXTS)
    after = searcher.ask(QUESTION, top_k=20)
    assert after.generation == 2
    assert "story-01" not in articles_of(after)


def test_an_archive_of_another_model_is_refused(archive: Archive) -> None:
    early = Searcher(archive, FakeEncoder(seed=1))
    add(archive, FakeEncoder(), *STORIES[:2])
    with pytest.raises(IndexMismatch, match="encoder"):
        Searcher(archive, FakeEncoder(seed=1))
    with pytest.raises(IndexMismatch, match="encoder"):
        early.ask(QUESTION)


# Verification


def hits(searcher: Searcher) -> list[Hit]:
    return list(searcher.search(QUESTION, top_k=50).hits)


def test_a_quote_that_was_given_is_valid(searcher: Searcher) -> None:
    for hit in hits(searcher):
        span, text = hit.passage.span, hit.passage.text
        for revision in (None, 1):
            found = searcher.verify(hit.article.id, span.start, span.end, text, revision)
            assert (found.valid, found.revision, found.found_at) == (True, 1, span.start)


def test_a_quote_at_another_place_says_where_it_stands(archive: Archive) -> None:
    searcher = asked_of(archive, Article("a", "T", "🦠 It rained. It rained. It snowed."))
    moved = searcher.verify("a", 0, 9, "It snowed.")
    assert (moved.valid, moved.revision, moved.found_at) == (False, 1, 24)
    first = searcher.verify("a", 1, 3, "It rained.")
    assert (first.valid, first.found_at) == (False, 2)
    assert searcher.verify("a", 13, 23, "It rained.").valid
    changed = searcher.verify("a", 2, 12, "It poured.")
    assert (changed.valid, changed.found_at) == (False, None)
    other_case = searcher.verify("a", 2, 12, "it rained.")
    assert (other_case.valid, other_case.found_at) == (False, None)


@pytest.mark.parametrize(
    ("start", "end"),
    [(-11, -1), (0, 10**30), (-(10**30), 10**30), (10**30, 10**30), (11, 0), (0, 12), (-11, 11)],
)
def test_absurd_offsets_are_not_valid(start: int, end: int, archive: Archive) -> None:
    searcher = asked_of(archive, Article("a", "T", "It rained. "[:10]))
    found = searcher.verify("a", start, end, "It rained.")
    assert (found.valid, found.found_at) == (False, 0)
    assert searcher.verify("a", 0, 10, "It rained.").valid


def test_a_revision_that_was_superseded_is_verified_all_the_same(archive: Archive) -> None:
    article = Article("a", "T", "It rained. Nobody voted.")
    searcher = asked_of(archive, article)
    asked_of(archive, replace(article, text="It snowed. Nobody voted, it says."))
    now = searcher.verify("a", 0, 10, "It rained.")
    assert (now.valid, now.revision, now.found_at) == (False, 2, None)
    then = searcher.verify("a", 0, 10, "It rained.", revision=1)
    assert (then.valid, then.revision) == (True, 1)
    assert searcher.verify("a", 0, 10, "It snowed.", revision=2).valid
    assert not searcher.verify("a", 0, 10, "It snowed.", revision=1).valid


@pytest.mark.parametrize("revision", [0, -1, 2, 2**63 - 1])
def test_a_revision_that_is_not_there_is_not_found(revision: int, searcher: Searcher) -> None:
    with pytest.raises(ArticleNotFound, match="story-01"):
        searcher.verify("story-01", 0, 0, "", revision=revision)


@pytest.mark.parametrize("article_id", ["nobody", "", "story", "STORY-01", "\0", "%"])
def test_an_unknown_article_is_not_found(article_id: str, searcher: Searcher) -> None:
    with pytest.raises(ArticleNotFound):
        searcher.verify(article_id, 0, 1, "x")


@given(st.sampled_from(STORIES), st.integers(-3, 400), st.integers(-3, 400), st.text(max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verifying_is_comparing_with_the_text(
    searcher: Searcher, article: Article, start: int, end: int, other: str
) -> None:
    inside = 0 <= start <= end <= len(article.text)
    quote = article.text[max(start, 0) : max(end, 0)]
    for claimed in (quote, other, quote + other):
        found = searcher.verify(article.id, start, end, claimed)
        assert found.valid == (inside and article.text[start:end] == claimed)
        assert (found.found_at is None) == (claimed not in article.text)
        if found.found_at is not None:
            assert article.text[found.found_at :].startswith(claimed)
