"""The lean encoder against the reference: the same for each text and token, in any company, under
any load; and how its passes are filled."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import lean
from rag.encode import LazyEncoder
from rag.encoder import Tokenised
from rag.exported import WEIGHTS, opened
from rag.lean import PASS_TOKENS, LeanEncoder
from rag.read import read_paths
from rag.types import Article, EncodedQuestion, Encoding
from tests.vectors import NEWS, PLACED, cosines

if TYPE_CHECKING:
    from rag.reference import SentenceTransformerEncoder

SEEDS = Path(__file__).parents[1] / "seeds"
LEAST = 0.9999
LEAST_QUESTION, LEAST_TOKEN = 0.998, 0.99
"""Of what is computed with bytes."""


@pytest.fixture(name="encoder", scope="module")
def _encoder(real_encoder: LazyEncoder) -> LeanEncoder:
    encoder = real_encoder._ready()
    assert isinstance(encoder, LeanEncoder)
    return encoder


@pytest.fixture(name="texts", scope="module")
def _texts() -> list[str]:
    """Texts of every length that fits and of several scripts."""
    read = [each for each in read_paths([str(SEEDS)]) if isinstance(each, Article)]
    paragraphs = [part for each in read[:5] for part in each.text.split("\n\n")]
    cut = [part[: 40 + 97 * at % 800] for at, part in enumerate(paragraphs)]
    full = ["peace " * 254, "war and peace, " * 63]
    return [*NEWS, *PLACED, *full, *cut]


def tokenised(*lengths: int) -> list[Tokenised]:
    return [Tokenised("", range(length), []) for length in lengths]


# Equal to the reference


@pytest.mark.model
def test_every_text_has_the_references_vector(
    encoder: LeanEncoder, reference: SentenceTransformerEncoder, texts: list[str]
) -> None:
    found, known = encoder.encode_passages(texts), reference.encode_passages(texts)
    vectors = [np.stack([each.vector for each in some]) for some in (found, known)]
    assert cosines(*vectors).min() >= LEAST
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-5
    assert [each.tokens for each in found] == [each.tokens for each in known]
    for one, other in zip(found, known, strict=True):
        assert one.token_vectors.places.tolist() == other.token_vectors.places.tolist()


@pytest.mark.model
def test_every_token_has_the_references_vector(
    encoder: LeanEncoder, reference: SentenceTransformerEncoder, texts: list[str]
) -> None:
    found, known = encoder.uncompressed(texts), reference.uncompressed(texts)
    assert len(found) > 2_000
    assert cosines(found, known).min() >= LEAST


@pytest.mark.model
def test_every_question_has_nearly_the_references_vectors(
    encoder: LeanEncoder, reference: SentenceTransformerEncoder, texts: list[str]
) -> None:
    near = []
    for text in [*texts, "peace, " * 300]:
        found, known = encoder.encode_question(text), reference.encode_question(text)
        near.append(float(cosines(found.vector[None], known.vector[None]).min()))
        assert cosines(found.token_vectors, known.token_vectors).min(initial=1) >= LEAST_TOKEN
        assert (found.tokens, found.tokens_seen) == (known.tokens, known.tokens_seen)
        assert found.offsets == known.offsets
    assert min(near) >= LEAST_QUESTION
    assert np.median(near) >= 0.9995


@pytest.mark.model
def test_without_a_graph_of_their_own_questions_have_the_references_vectors(
    encoder: LeanEncoder, reference: SentenceTransformerEncoder, texts: list[str]
) -> None:
    assert encoder.exported is not None
    export = opened(encoder.exported)
    assert export is not None
    alike = replace(export, weights={WEIGHTS: export.weights[WEIGHTS]})
    whole = LeanEncoder("whole", alike)
    whole._projection = encoder._projection
    for text in [*texts, "peace, " * 300]:
        found, known = whole.encode_question(text), reference.encode_question(text)
        assert_same_question(found, known)


@pytest.mark.model
def test_a_graph_is_loaded_when_it_is_needed(encoder: LeanEncoder) -> None:
    assert encoder.exported is not None
    export = opened(encoder.exported)
    assert export is not None
    fresh = LeanEncoder("fresh", export)
    fresh.encode_question("who warned of war?")
    assert fresh._graph._session is None
    fresh.encode_passages(["The envoy warned of war."])
    assert fresh._graph._session is not None


@pytest.mark.model
@pytest.mark.parametrize("seed", range(4))
def test_company_changes_nothing_of_a_question(
    seed: int, encoder: LeanEncoder, texts: list[str]
) -> None:
    drawn = random.Random(seed)
    company = drawn.sample(texts, drawn.randint(2, 30))
    together = encoder.together(company)
    for text, one in zip(company, together, strict=True):
        (alone,) = encoder.together([text])
        assert cosines(one.vector[None], alone.vector[None]).min() >= LEAST
        assert cosines(one.tokens, alone.tokens).min() >= LEAST


@pytest.mark.model
@pytest.mark.parametrize("seed", range(4))
def test_company_changes_nothing(
    seed: int, encoder: LeanEncoder, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = random.Random(seed)
    company = drawn.choices(texts, k=drawn.randint(2, 150))
    monkeypatch.setattr(lean, "PASS_TOKENS", drawn.choice([1, 300, 1_000, 4_000]))
    together = encoder.encode_passages(company)
    for at in drawn.sample(range(len(company)), min(12, len(company))):
        (alone,) = encoder.encode_passages([company[at]])
        assert_same(together[at], alone)
    alone_tokens = np.concatenate([encoder.uncompressed([text]) for text in company[:12]])
    assert cosines(encoder.uncompressed(company)[: len(alone_tokens)], alone_tokens).min() >= LEAST


def assert_same(one: Encoding, other: Encoding) -> None:
    assert cosines(one.vector[None], other.vector[None]).min() >= LEAST
    assert one.tokens == other.tokens
    assert one.token_vectors.places.tolist() == other.token_vectors.places.tolist()
    codes = one.token_vectors.codes
    assert np.count_nonzero(codes != other.token_vectors.codes) <= 0.01 * codes.size


# Under load


@pytest.mark.model
def test_under_load_each_caller_gets_its_own(encoder: LeanEncoder, texts: list[str]) -> None:
    texts = [text for text in texts if len(text) < 400]
    passages = encoder.encode_passages(texts)
    questions = [encoder.encode_question(text) for text in texts]
    together = 0
    run, turns = encoder._asked, encoder._turns

    def counted(some: Sequence[Tokenised]) -> object:
        nonlocal together
        together = max(together, len(some))
        return run(some)

    turns._run = counted  # type: ignore[assignment]
    start = threading.Barrier(17)

    def ask(caller: int) -> None:
        start.wait(30)
        for at in range(caller, caller + 3 * len(texts) // 2, 3):
            found = encoder.encode_question(texts[at % len(texts)])
            assert_same_question(found, questions[at % len(texts)])

    def load() -> None:
        start.wait(30)
        for found, known in zip(encoder.encode_passages(texts), passages, strict=True):
            assert_same(found, known)

    try:
        with ThreadPoolExecutor(17) as threads:
            calls = [threads.submit(load), *(threads.submit(ask, at) for at in range(16))]
            for each in calls:
                each.result(300)
    finally:
        turns._run = run
    assert together > 1  # else the questions had no company


def assert_same_question(one: EncodedQuestion, other: EncodedQuestion) -> None:
    assert cosines(one.vector[None], other.vector[None]).min() >= LEAST
    assert cosines(one.token_vectors, other.token_vectors).min(initial=1) >= LEAST
    assert (one.tokens, one.tokens_seen) == (other.tokens, other.tokens_seen)
    assert one.offsets == other.offsets


# Passes


@given(st.lists(st.integers(1, 1_200), max_size=60))
def test_a_pass_is_filled_and_not_over_filled(lengths: list[int]) -> None:
    texts = tokenised(*sorted(lengths, reverse=True))
    batches = [list(each) for each in lean._batches(range(len(texts)), texts)]
    assert [place for each in batches for place in each] == list(range(len(texts)))
    for at, places in enumerate(batches):
        longest = len(texts[places[0]].ids)
        assert len(places) == 1 or longest * len(places) <= PASS_TOKENS
        if at + 1 < len(batches):
            assert longest * (len(places) + 1) > PASS_TOKENS


@pytest.mark.parametrize(
    ("lengths", "count"),
    [([12, 30, 8], 3), ([400, 10], 1), ([10, 400], 1), ([900, 900], 1), ([10] * 70, 50)],
)
def test_questions_share_a_pass_in_the_order_of_their_coming(
    lengths: list[int], count: int
) -> None:
    assert lean._fitting(tokenised(*lengths)) == count
