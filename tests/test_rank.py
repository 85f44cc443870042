"""One question's candidates in order: each stage against the same made by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rag.archive import Archive
from rag.fuse import LEXICAL_WEIGHT, convex
from rag.interpret import boost
from rag.rank import BESIDE_SENTENCES, READ, Ranking, Stopwatch, read_closely
from rag.rerank import RERANKED, align, combined, first_copies, max_sim, word_weights
from rag.searcher import Searcher
from rag.snapshot import Snapshot
from rag.types import Article, Filters, Floats
from tests.fakes import FakeEncoder, add

TOPICS = ["storm", "levee", "budget", "vote", "harvest", "railway", "strike", "glacier"]
ASKING = "who warned of the storm at the levee and when"
PLAIN = "storm at the levee"
QUESTIONS = [ASKING, PLAIN, "storm", "zebra", "when was the vote", "?!"]


def news(number: int) -> Article:
    one, two, three = (TOPICS[(number * step) % 8] for step in (1, 3, 5))
    return Article(
        id=f"n{number}",
        title=f"{one.title()} news",
        text=f"The {two} of place{number} met the {three}. Mayor{number} warned of it on 3 May."
        f" It was {number} days long. After the {one} came another {two}.",
        source=f"Paper {number % 4}",
        published_at=None if number % 5 == 0 else f"2025-0{number % 9 + 1}-10",
    )


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        report = add(archive, FakeEncoder(), *[news(number) for number in range(80)])
        assert report.passages > 2 * RERANKED
        yield archive


@pytest.fixture(name="snapshot")
def _snapshot(archive: Archive) -> Iterator[Snapshot]:
    with archive.snapshot() as snapshot:
        yield snapshot


def ranked(snapshot: Snapshot, archive: Archive, question: str) -> Ranking:
    return Searcher(archive, FakeEncoder()).rank(snapshot, question)


def order(ranking: Ranking, scores: Floats) -> list[int]:
    numbers = ranking.candidates.numbers
    return sorted(range(len(numbers)), key=lambda place: (-scores[place], numbers[place]))


# The stages


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_first_are_ranked_by_three_signals(
    question: str, snapshot: Snapshot, archive: Archive
) -> None:
    ranking = ranked(snapshot, archive, question)
    found = ranking.candidates
    assert ranking.fused.tolist() == convex(found.lexical, found.dense, LEXICAL_WEIGHT).tolist()
    top = np.array(order(ranking, ranking.fused)[:RERANKED])
    assert set(top.tolist()) == set(np.flatnonzero(~np.isnan(ranking.max_sims)).tolist())
    numbers = found.numbers[top]
    vectors = snapshot.token_vectors(numbers.tolist())
    alignments = align(ranking.question.encoded, [vectors[number] for number in numbers.tolist()])
    terms = snapshot.analyzer.terms(ranking.question.text)
    weights = word_weights(ranking.question.encoded, terms, ranking.weights)
    first = first_copies(numbers, found.lexical[top], found.dense[top], alignments)
    by_hand = max_sim(alignments, weights)[first]
    assert np.allclose(ranking.max_sims[top], by_hand, atol=1e-6)
    mixed = combined(found.lexical, found.dense, by_hand, top)[first]
    assert np.allclose(ranking.late[top], mixed, atol=1e-6)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_rest_follows_as_it_was_fused(
    question: str, snapshot: Snapshot, archive: Archive
) -> None:
    ranking = ranked(snapshot, archive, question)
    fused, late = order(ranking, ranking.fused), order(ranking, ranking.late)
    assert len(fused) > RERANKED
    assert sorted(late[:RERANKED]) == sorted(fused[:RERANKED])
    assert late[RERANKED:] == fused[RERANKED:]


def test_only_what_was_re_ranked_has_a_late_signal(snapshot: Snapshot, archive: Archive) -> None:
    plain = ranked(snapshot, archive, PLAIN)
    top = set(order(plain, plain.fused)[:RERANKED])
    assert set(np.flatnonzero(~np.isnan(plain.max_sims)).tolist()) == top
    # Where the question names a period, the first with it and the first without it.
    dated = ranked(snapshot, archive, f"{PLAIN} in March 2025")
    columns, articles = snapshot.columns, dated.articles
    of_source = np.zeros(len(articles), dtype=np.bool_)
    gains = boost(
        dated.question.interpreted, columns.first[articles], columns.last[articles], of_source
    )
    assert gains.any()
    with_it = set(order(dated, dated.fused + gains)[:RERANKED])
    without = set(order(dated, dated.fused)[:RERANKED])
    assert with_it != without
    assert set(np.flatnonzero(~np.isnan(dated.max_sims)).tolist()) == with_it | without
    assert set(order(dated, dated.understood)[:RERANKED]) == with_it
    assert set(order(dated, dated.late)[:RERANKED]) == without


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_order_is_by_score_and_then_by_number(
    question: str, snapshot: Snapshot, archive: Archive
) -> None:
    ranking = ranked(snapshot, archive, question)
    assert ranking.order.tolist() == order(ranking, ranking.understood)
    assert ranking.articles.tolist() == [
        snapshot.columns.article[number] for number in ranking.candidates.numbers.tolist()
    ]


# Sentences


def test_a_question_is_answered_by_what_its_best_sentence_says(
    snapshot: Snapshot, archive: Archive
) -> None:
    ranking = ranked(snapshot, archive, ASKING)
    assert ranking.asked is not None
    assert ranking.asked.is_question
    assert list(ranking.read) == order(ranking, ranking.late)[:READ]
    for place, read in ranking.read.items():
        gain = max(each.score for each in read.found)
        assert read.gain == gain > 0
        assert ranking.understood[place] == pytest.approx(ranking.late[place] + gain, abs=1e-6)
        number = int(ranking.candidates.numbers[place])
        assert (read.passage, read.article) == snapshot.passages([number])[number]
        assert [(each.start, each.end) for each in read.found] == list(read.passage.span.sentences)
    others = [place for place in range(len(ranking.candidates)) if place not in ranking.read]
    assert ranking.understood[others].tolist() == ranking.late[others].tolist()


def test_a_period_counts_beside_what_sentences_say(snapshot: Snapshot, archive: Archive) -> None:
    ranking = ranked(snapshot, archive, f"{ASKING} in March 2025")
    columns, articles, found = snapshot.columns, ranking.articles, ranking.candidates
    of_source = np.zeros(len(articles), dtype=np.bool_)
    gains = boost(
        ranking.question.interpreted, columns.first[articles], columns.last[articles], of_source
    )
    boosted = order(ranking, ranking.fused + gains)[:RERANKED]
    mixed = combined(
        found.lexical, found.dense, ranking.max_sims[boosted], np.array(boosted, np.int64)
    )
    plain = dict(zip(boosted, mixed.tolist(), strict=True))
    assert any(gains[place] for place in ranking.read)
    for place, read in ranking.read.items():
        by_hand = plain[place] + BESIDE_SENTENCES * gains[place] + read.gain
        assert ranking.understood[place] == pytest.approx(by_hand, abs=0.01)  # copies share theirs


def test_words_that_ask_nothing_leave_the_order(snapshot: Snapshot, archive: Archive) -> None:
    ranking = ranked(snapshot, archive, PLAIN)
    assert ranking.asked is not None
    assert not ranking.asked.is_question
    assert len(ranking.read) == READ
    assert ranking.understood.tolist() == ranking.late.tolist()


def test_what_was_not_read_never_passes_what_was(tmp_path: Path) -> None:
    """A sentence may speak against itself: the question points away from each of its words."""
    encoder = FakeEncoder()
    asked = encoder.encode_question("who was it?")
    candidates = {word: encoder.encode_question(word).vector for word in map(str, range(200))}
    away = min(candidates, key=lambda word: float(candidates[word] @ asked.vector))
    assert candidates[away] @ asked.vector < -0.1
    with closing(Archive(tmp_path)) as archive:
        add(archive, encoder, *[Article(f"n{at}", away, f"{away}.") for at in range(READ + 3)])
        with archive.snapshot() as snapshot:
            ranking = ranked(snapshot, archive, "who was it?")
    assert ranking.asked is not None
    assert ranking.asked.is_question
    assert any(each.score < 0 for read in ranking.read.values() for each in read.found)
    assert set(ranking.order[:READ].tolist()) == set(ranking.read)


def test_reading_closely_adds_what_is_missing(snapshot: Snapshot, archive: Archive) -> None:
    ranking = ranked(snapshot, archive, ASKING)
    first = list(ranking.read)
    last = ranking.order[[READ, RERANKED, -1]].tolist()
    found = read_closely(snapshot, ranking, [*first, *last])
    assert list(found) == [*first, *last]
    assert all(found[place] is ranking.read[place] for place in first)
    assert ranking.asked is not None
    for place in last:
        number = int(ranking.candidates.numbers[place])
        assert found[place].passage == snapshot.passages([number])[number][0]
        late = max_sim([found[place].alignment], ranking.asked.weights)[0]
        known = ranking.max_sims[place]
        assert np.isnan(known) or known == pytest.approx(late, abs=1e-6)
    assert read_closely(snapshot, ranking, []) == {}


# Copies


def test_copies_have_one_score_and_stay_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    rest = " and ".join(f"place{number}" for number in range(40))
    said = f"The storm broke the levee at noon in {rest}"
    texts = [f"{said}!", f"{said}.", f"{said};", "The vote was lost."]
    with closing(Archive(tmp_path)) as archive:
        for at, text in enumerate(texts):
            add(archive, FakeEncoder(), Article(f"n{at}", "News", text), passage_tokens=200)
        with archive.snapshot() as snapshot:
            ranking = ranked(snapshot, archive, "storm levee noon")
    numbers = ranking.candidates.numbers[ranking.order].tolist()
    assert numbers == sorted(numbers)
    copies = ranking.order[:3]
    assert len(set(ranking.candidates.dense[copies].tolist())) > 1
    for scores in (ranking.max_sims, ranking.late, ranking.understood):
        assert len(set(scores[copies].tolist())) == 1
        assert scores[ranking.order[3]] < scores[copies[0]]


# Archives without them


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_empty_archive_has_no_ranking(question: str, tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive, archive.snapshot() as snapshot:
        ranking = ranked(snapshot, archive, question)
        assert len(ranking.candidates) == len(ranking.order) == len(ranking.read) == 0
        assert read_closely(snapshot, ranking, []) == {}


def test_a_filter_that_nothing_passes_has_no_ranking(archive: Archive, snapshot: Snapshot) -> None:
    nothing = Filters(article_id=("nobody",))
    ranking = Searcher(archive, FakeEncoder()).rank(snapshot, ASKING, nothing)
    assert len(ranking.order) == 0


@pytest.mark.parametrize("question", QUESTIONS)
def test_without_all_token_vectors_two_signals_rank(question: str, tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), *[news(number) for number in range(4)])
    with closing(sqlite3.connect(tmp_path / "library.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM token_vectors WHERE encoding = 2")
    with closing(Archive(tmp_path)) as archive, archive.snapshot() as snapshot:
        ranking = ranked(snapshot, archive, question)
        assert ranking.asked is None
        assert ranking.read == {}
        assert np.isnan(ranking.max_sims).all()
        assert ranking.late.tolist() == ranking.fused.tolist()
        assert read_closely(snapshot, ranking, ranking.order.tolist()) == {}


def test_stages_are_timed_and_add_up() -> None:
    clock = Stopwatch()
    for name in ("one", "two", "one"):
        with clock.stage(name):
            pass
    took = clock.stop()
    assert list(took) == ["one", "two", "total"]
    assert 0 <= took["one"] + took["two"] <= took["total"] + 0.003  # each is rounded
