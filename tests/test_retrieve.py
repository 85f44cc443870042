"""Candidates: the union of both searches, each scored by both, against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.archive import Archive
from rag.lexical import Scope
from rag.retrieve import DEPTH, Candidates, by_words, retrieve
from rag.snapshot import Snapshot
from rag.types import Article, Filters, Floats
from tests.fakes import FakeEncoder, add

TOPICS = ["storm", "levee", "budget", "vote", "harvest", "railway", "strike", "glacier"]
ENCODER = FakeEncoder()


def news(number: int, version: int = 0) -> Article:
    words = [TOPICS[(number * step + version) % 8] for step in (1, 3, 5)]
    return Article(
        id=f"n{number}",
        title=f"{words[0]} news",
        text=f"The {words[1]} of place{number} met the {words[2]}. It was {version} days long.\n\n"
        f"After the {words[0]} came another {words[1]}, said voice{number % 7}.",
        source=f"Paper {number % 4}",
        published_at=None if number % 5 == 0 else f"2025-0{number % 9 + 1}-10",
    )


@pytest.fixture(name="snapshot", scope="module")
def _snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """Some hundred passages in base and tail, after revisions and removals."""
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        add(archive, ENCODER, *[news(number) for number in range(50)])
        add(archive, ENCODER, *[news(number, version=1) for number in range(3, 9)])
        archive.remove(["n1", "n4", "n49"])
        with archive.snapshot() as snapshot:
            assert snapshot.vectors is not None
            assert snapshot.vectors.base is not None
            assert len(snapshot.vectors.tail.numbers) > 0
            yield snapshot


FILTERS = st.builds(
    Filters,
    source=st.none() | st.lists(st.sampled_from(["Paper 0", "Paper 2", "?"])).map(tuple),
    published_from=st.none() | st.sampled_from(["2025-03-01", "2025-06-10"]),
    published_to=st.none() | st.sampled_from(["2025-06-10", "2025-08-01T00:00:00Z"]),
    article_id=st.none() | st.lists(st.sampled_from(["n2", "n3", "n4", "n5", "n50"])).map(tuple),
    exclude_article_id=st.none() | st.just(("n3", "n7", "n50")),
)
QUESTIONS = st.lists(st.sampled_from([*TOPICS, "place9", "nobody"]), max_size=4).map(" ".join)


def asked(snapshot: Snapshot, question: str) -> tuple[list[str], Floats]:
    vector = ENCODER.encode_question(question).vector
    return snapshot.analyzer.question_terms(question), vector


def retrieved(
    snapshot: Snapshot, terms: list[str], vector: Floats, scope: Scope, depth: int = DEPTH
) -> Candidates:
    return retrieve(snapshot, terms, by_words(snapshot, terms, scope, depth), vector, scope, depth)


def scores(found: Candidates) -> dict[int, tuple[float, float]]:
    values = zip(found.lexical.tolist(), found.dense.tolist(), strict=True)
    return dict(zip(found.numbers.tolist(), values, strict=True))


@settings(max_examples=80)
@given(question=QUESTIONS, filters=FILTERS, depth=st.integers(1, 300))
def test_candidates_are_the_best_of_either_signal_scored_by_both(
    snapshot: Snapshot, question: str, filters: Filters, depth: int
) -> None:
    terms, vector = asked(snapshot, question)
    scope = snapshot.scope(filters)
    found = retrieved(snapshot, terms, vector, scope, depth)
    assert len(found) == len(found.numbers)
    assert found.numbers.tolist() == sorted(set(found.numbers.tolist()))

    passing = np.flatnonzero(snapshot.columns.passing(scope)).tolist()
    everything = scores(retrieved(snapshot, terms, vector, Scope(), 10_000))
    dense = {number: -everything[number][1] for number in passing}
    lexical = {number: -everything[number][0] for number in passing if everything[number][0] > 0}
    by_vectors = sorted(passing, key=lambda number: (dense[number], number))[:depth]
    assert set(by_vectors) <= set(found.numbers.tolist()) <= set(passing)
    # Of passages with equal scores by words, any may be among the best.
    least = max(sorted(lexical.values())[:depth], default=0.0)
    extra = set(found.numbers.tolist()) - set(by_vectors)
    assert all(lexical[number] <= least for number in extra)
    assert {number for number in lexical if lexical[number] < least} <= set(found.numbers.tolist())
    assert scores(found) == {number: everything[number] for number in found.numbers.tolist()}


def test_every_living_passage_is_scored_as_by_hand(snapshot: Snapshot) -> None:
    terms, vector = asked(snapshot, "storm levee")
    found = scores(retrieved(snapshot, terms, vector, Scope(), 10_000))
    stored = snapshot.passages(list(found))
    assert len(stored) == snapshot.counts()[1] == len(found)
    for number, (lexical, dense) in found.items():
        passage, head = stored[number]
        text = f"{head.title}\n{passage.text}"
        assert (lexical > 0) == any(term in text.lower() for term in ("storm", "leve"))
        by_hand = np.dot(ENCODER.encode_passages([text])[0].vector, vector)
        assert dense == pytest.approx(float(by_hand), abs=1e-6)


def test_a_question_without_a_word_is_asked_by_vectors_alone(snapshot: Snapshot) -> None:
    _, vector = asked(snapshot, "storm")
    found = retrieved(snapshot, [], vector, Scope(), 5)
    assert len(found) == 5
    assert found.lexical.tolist() == [0.0] * 5


def test_words_that_are_nowhere_score_0(snapshot: Snapshot) -> None:
    terms, vector = asked(snapshot, "nobody nowhere")
    found = retrieved(snapshot, terms, vector, Scope(), 5)
    assert len(found) == 5
    assert found.lexical.tolist() == [0.0] * 5


@pytest.mark.parametrize("scope", [Scope(source=()), Scope(article=()), Scope(source=("?",))])
def test_a_scope_that_lets_nothing_through_has_no_candidates(
    snapshot: Snapshot, scope: Scope
) -> None:
    terms, vector = asked(snapshot, "storm levee")
    assert len(retrieved(snapshot, terms, vector, scope)) == 0


def test_the_depth_is_fixed_and_of_each_signal(snapshot: Snapshot) -> None:
    assert DEPTH == 200
    terms, _ = asked(snapshot, "storm")
    _, vector = asked(snapshot, "railway strike")
    found = retrieved(snapshot, terms, vector, Scope(), 10)
    assert 10 < len(found) <= 20


def test_an_empty_archive_has_no_candidates(tmp_path_factory: pytest.TempPathFactory) -> None:
    vector = ENCODER.encode_question("storm").vector
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        with archive.snapshot() as snapshot:
            assert len(retrieved(snapshot, ["storm"], vector, Scope())) == 0
        add(archive, ENCODER, news(1))
        archive.remove(["n1"])
        with archive.snapshot() as snapshot:
            assert snapshot.generation == 2
            assert len(retrieved(snapshot, ["storm"], vector, Scope())) == 0


def test_only_unfiltered_questions_are_approximate(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert snapshot.vectors is not None
    asked_so: list[str] = []

    def noted(name: str) -> None:
        original = getattr(snapshot.vectors, name)

        def search(*arguments: object) -> object:
            asked_so.append(name)
            return original(*arguments)

        monkeypatch.setattr(snapshot.vectors, name, search)

    noted("search")
    noted("approximate")
    terms, vector = asked(snapshot, "storm")
    for filters in (Filters(), Filters(source=("Paper 0",)), Filters(exclude_article_id=("n2",))):
        retrieved(snapshot, terms, vector, snapshot.scope(filters))
    assert asked_so == ["approximate", "search", "search"]
