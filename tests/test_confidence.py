"""Confidence: a probability of signals that mean the same for any list of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import confidence as module
from rag.archive import Archive
from rag.confidence import (
    ALONE,
    COEFFICIENTS,
    RIVAL,
    THRESHOLD,
    UNMET,
    Signals,
    confidence,
    cues_met,
    signals,
    sure,
)
from rag.models import DEFAULT_MODEL
from rag.searcher import NO_FILTERS, Searcher
from rag.types import Article, Filters
from tests.fakes import FakeEncoder, add

NAMES = [field.name for field in fields(Signals)]
TOPICS = ["storm", "levee", "budget", "vote", "harvest", "railway", "strike", "glacier"]
QUESTION = "who warned of the storm at place7 and when"
QUESTIONS = [QUESTION, "storm levee", "who lost the vote at place3?", "glacier xylophone", "zebra"]


def news(number: int) -> Article:
    one, two, three = (TOPICS[(number * step) % 8] for step in (1, 3, 5))
    text = f"Mayor{number} of place{number} warned of the {one} on 3 May. The {two} met a {three}."
    return Article(id=f"n{number}", title=f"{one.title()} news", text=text)


def encoder() -> FakeEncoder:
    """Passes for the model that confidence was fitted to."""
    return FakeEncoder(name=DEFAULT_MODEL)


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with closing(Archive(tmp_path_factory.mktemp("index"))) as archive:
        made = [news(number) for number in range(40)]
        report = add(archive, encoder(), *made, passage_tokens=100)
        assert report.passages == len(made)
        yield archive


def signals_of(archive: Archive, question: str, filters: Filters = NO_FILTERS) -> Signals | None:
    with archive.snapshot() as snapshot:
        return signals(snapshot, Searcher(archive, encoder()).rank(snapshot, question, filters))


def fitted(monkeypatch: pytest.MonkeyPatch, coefficients: dict[str, float]) -> None:
    """As if these had been fitted."""
    every = dict.fromkeys(NAMES, 0.0) | coefficients
    monkeypatch.setattr(module, "COEFFICIENTS", every)
    monkeypatch.setattr(module, "INTERCEPT", 0.0)


# What it is made of


def test_each_signal_has_its_coefficient() -> None:
    assert sorted(COEFFICIENTS) == sorted(NAMES)
    assert 0 < THRESHOLD < 1


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.tuples(*[NUMBERS] * len(NAMES)), st.tuples(*[st.floats(-90, 90)] * len(NAMES)))
def test_absurd_signals_have_a_probability(
    values: tuple[float, ...], coefficients: tuple[float, ...]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        fitted(monkeypatch, dict(zip(NAMES, coefficients, strict=True)))
        assert 0 <= confidence(Signals(*values)) <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_more_of_a_good_signal_is_never_less_sure(
    name: str, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(monkeypatch, {name: 2.0 * sign})
    plain = Signals(*[0.5] * len(NAMES))
    found = [
        confidence(replace(plain, **{name: value * sign})) for value in (-9.0, -1.0, 0.0, 0.4, 3.0)
    ]
    assert all(before < after for before, after in pairwise(found))
    assert confidence(replace(plain, **{name: 0.0})) == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_coefficients_that_ship_decide_the_direction(name: str) -> None:
    plain = Signals(*[0.5] * len(NAMES))
    less, more = (confidence(replace(plain, **{name: value})) for value in (0.4, 0.6))
    assert (more > less) == (COEFFICIENTS[name] > 0)
    assert (more < less) == (COEFFICIENTS[name] < 0)


# The signals


@pytest.mark.parametrize("question", QUESTIONS)
def test_signals_do_not_depend_on_other_results_but_for_the_margin(
    question: str, archive: Archive
) -> None:
    with archive.snapshot() as snapshot:
        searcher = Searcher(archive, encoder())
        ranking = searcher.rank(snapshot, question)
        found = signals(snapshot, ranking)
        best = ranking.read[int(ranking.order[0])].article.id
        rival = ranking.read[int(ranking.order[1])].article.id
        alone = signals(snapshot, searcher.rank(snapshot, question, Filters(article_id=(best,))))
        beside = Filters(article_id=(best, rival))
        two = signals(snapshot, searcher.rank(snapshot, question, beside))
    assert found is not None
    assert alone is not None
    assert two is not None
    whole, of_one, of_two = asdict(found), asdict(alone), asdict(two)
    for name in NAMES:
        if name != "margin":
            assert of_one[name] == pytest.approx(whole[name], abs=1e-6), name
            assert of_two[name] == pytest.approx(whole[name], abs=1e-6), name
    assert alone.margin == ALONE


def test_signals_are_those_of_the_quote_and_of_its_lead(archive: Archive) -> None:
    with archive.snapshot() as snapshot:
        ranking = Searcher(archive, encoder()).rank(snapshot, QUESTION)
        found = signals(snapshot, ranking)
        place = int(ranking.order[0])
        best, terms = ranking.read[place], ranking.weights.keys()
        assert best.article.id == "n7"
        # Each article of these has one passage.
        others = [at for at in ranking.order.tolist() if at != place]
        scores = [float(ranking.max_sims[at]) for at in others]
        margin = float(ranking.max_sims[place]) - sorted(scores, reverse=True)[3]
    assert RIVAL * len(scores) == pytest.approx(3.9)
    (sentence,) = (each for each in best.found if (each.start, each.end) == best.quoted)
    assert found is not None
    assert found.meaning == pytest.approx(sentence.meaning)
    base = best.passage.span.start
    text = best.passage.text[sentence.start - base : sentence.end - base]
    assert text.startswith("Mayor7 of place7 warned")
    assert best.article.title == "Glacier news"
    assert terms >= {"warn", "place7", "storm"}  # the storm hit another place
    assert found.covered == pytest.approx(2 / len(terms))
    assert found.late == pytest.approx(float(ranking.max_sims[place]))
    assert found.margin == pytest.approx(margin, abs=1e-6)


def test_what_the_title_says_need_not_be_said_again(tmp_path: Path) -> None:
    text = "Mayor7 warned of it on 3 May. Nobody listened to him."
    found = []
    for title in ("Storm at place7", "News"):
        with closing(Archive(tmp_path / title)) as archive:
            add(archive, encoder(), Article(id="a", title=title, text=text))
            found.append(signals_of(archive, "who warned of the storm?"))
    titled, untitled = found
    assert titled is not None
    assert untitled is not None
    assert titled.covered == 1
    assert untitled.covered < 0.7


def test_copies_of_the_best_take_nothing_from_its_margin(tmp_path: Path) -> None:
    copies = [replace(news(7), id=f"copy{number}", source="Agency") for number in range(3)]
    found = []
    for folder, more in (("once", []), ("copied", copies)):
        with closing(Archive(tmp_path / folder)) as archive:
            made = [*(news(number) for number in range(0, 40, 4)), news(7), *more]
            add(archive, encoder(), *made, passage_tokens=100)
            found.append(signals_of(archive, "who warned at place7"))
    once, copied = found
    assert once is not None
    assert copied is not None
    assert copied.margin == pytest.approx(once.margin, abs=0.05)
    assert copied.margin > 0.2


def test_a_title_without_a_text_can_answer(tmp_path: Path) -> None:
    with closing(Archive(tmp_path)) as archive:
        add(archive, encoder(), Article(id="t", title="Mayor7 warned of the storm", text=""))
        found = signals_of(archive, "who warned of the storm")
    assert found is not None
    assert found.covered == 1
    assert found.meaning > 0


def test_words_that_name_a_day_need_not_be_quoted(archive: Archive) -> None:
    question = "who warned at place7 in March 2025"
    with archive.snapshot() as snapshot:
        ranking = Searcher(archive, encoder()).rank(snapshot, question)
        found = signals(snapshot, ranking)
        best = ranking.read[int(ranking.order[0])]
    wanted = ranking.weights.keys() - {"march", "2025"}
    assert len(wanted) == len(ranking.weights) - 2
    assert best.quoted is not None
    base = best.passage.span.start
    start, end = best.quoted
    text = (best.article.title + best.passage.text[start - base : end - base]).lower()
    assert found is not None
    assert found.covered == sum(term in text for term in wanted) / len(wanted)


WHEN = "The mayor resigned over the storm"
"""A title without a date; articles below were published on 2025-03-03."""


@pytest.mark.parametrize(
    ("question", "met"),
    [
        ("who resigned over the storm?", True),
        ("who resigned over the storm in March 2025?", True),
        ("who resigned over the storm in February 2025?", True),  # reported soon after it
        ("who resigned over the storm in 1987?", False),
        ("who resigned over the storm in April 2025?", False),
        ("who resigned over the storm last week?", False),
        ("who resigned in 1987 or in March 2025 over the storm?", True),
        ("according to the Herald, who resigned over the storm?", True),
        ("according to the Courier, who resigned over the storm?", False),
        ("according to the Herald, who resigned over the storm in 1987?", False),
        ("who resigned over the storm in 2019?", True),  # the text says so
        ("who resigned over the storm of 4 July 2019?", False),
        ("according to the Tribune, who resigned over the storm?", True),  # which is cited
    ],
)
def test_a_day_or_source_that_is_another_makes_an_answer_improbable(
    question: str, met: bool, tmp_path: Path
) -> None:
    text = "Mayor7 resigned over the storm, the Tribune said. The levee of 2019 had broken."
    held = [
        Article("a", WHEN, text, source="The Herald", published_at="2025-03-03"),
        Article("b", "Glacier", "Bread met milk.", source="The Courier", published_at="1987-02-02"),
        Article("c", "Bread", "Milk met a glacier.", source="The Tribune"),
    ]
    with closing(Archive(tmp_path)) as archive:
        add(archive, encoder(), *held, passage_tokens=100)
        searcher = Searcher(archive, encoder()).on("2025-11-23")
        with archive.snapshot() as snapshot:
            ranking = searcher.rank(snapshot, question)
            found = signals(snapshot, ranking)
            assert ranking.read[int(ranking.order[0])].article.id == "a"
            assert cues_met(snapshot, ranking) is met
            assert found is not None
            expected = confidence(found) * (1 if met else UNMET)
            assert sure(snapshot, ranking) == pytest.approx(expected)
        assert searcher.ask(question).confidence == pytest.approx(expected, abs=1e-4)


def test_nothing_of_words_that_are_nowhere_is_quoted(archive: Archive) -> None:
    half, nothing = signals_of(archive, "glacier xylophone"), signals_of(archive, "zebra quagga")
    assert half is not None
    assert nothing is not None
    assert half.covered < 1
    assert nothing.covered == 0


@pytest.mark.parametrize("question", ["???", "🦠", "who was it", "x" * 4000])
def test_any_question_has_signals(question: str, archive: Archive) -> None:
    found = signals_of(archive, question)
    assert found is not None
    assert all(abs(value) < 100 for value in asdict(found).values())


def test_nothing_found_has_no_signals(archive: Archive, tmp_path: Path) -> None:
    assert signals_of(archive, QUESTION, Filters(article_id=())) is None
    with closing(Archive(tmp_path)) as empty:
        assert signals_of(empty, QUESTION) is None


def test_nothing_is_known_of_a_first_passage_that_lost_its_token_vectors(archive: Archive) -> None:
    with archive.snapshot() as snapshot:
        ranking = Searcher(archive, encoder()).rank(snapshot, QUESTION)
        first = int(ranking.order[0])
        read = {at: each for at, each in ranking.read.items() if at != first}
        max_sims = ranking.max_sims.copy()
        max_sims[first] = np.nan
        lost = replace(ranking, read=read, max_sims=max_sims)
        assert signals(snapshot, lost) is None
        assert signals(snapshot, replace(lost, order=ranking.order[1:])) is not None


# In an answer


def test_it_does_not_depend_on_how_many_are_asked_for(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(monkeypatch, {"meaning": 3.0, "margin": 5.0, "late": 1.0})
    searcher = Searcher(archive, encoder())
    for question in QUESTIONS:
        found = {searcher.ask(question, top_k=top_k).confidence for top_k in (1, 2, 5, 20, 100)}
        assert len(found) == 1
        assert None not in found
        assert searcher.ask(question, token_budget=1).confidence in found


def test_the_threshold_decides_whether_a_question_is_answered(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(monkeypatch, {"meaning": 0.7})
    sure = Searcher(archive, encoder()).ask(QUESTION).confidence
    assert sure is not None
    for threshold, answered in ((0.0, True), (sure, True), (sure + 0.001, False), (1.0, False)):
        answer = Searcher(archive, encoder(), threshold=threshold).ask(QUESTION)
        assert answer.answered == answered
        assert len(answer.citations) == 5
        assert answer.confidence == sure
    nothing = Searcher(archive, encoder(), threshold=0.0).ask(
        QUESTION, filters=Filters(article_id=())
    )
    assert (nothing.answered, nothing.confidence) == (False, None)


def test_another_model_has_no_confidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted(monkeypatch, {"meaning": 0.7})
    with closing(Archive(tmp_path)) as archive:
        add(archive, FakeEncoder(), news(1))
        answer = Searcher(archive, FakeEncoder(), threshold=1.0).ask(QUESTION)
    assert answer.confidence is None
    assert answer.answered
