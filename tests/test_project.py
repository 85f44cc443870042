"""Token vectors made small: what is kept of their inner products, and what may go in."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import project
from rag.project import (
    DIRECTIONS,
    LEVELS,
    PER_BYTE,
    Projection,
    expand,
    fitted_projection,
    random_projection,
    shipped_projection,
)
from rag.types import Floats

DIMENSIONS = [2, 3, 4, 7, 30, 100, 255, 256, 258, 384, 768]

KEPT = 0.8825
"""Of a normal distribution's power, by four levels (Max 1960): so much of a product is kept."""


def drawn(rows: int, dimension: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)


def units(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def skewed(rows: int, seed: int = 1) -> Floats:
    """384 numbers a row of which few directions hold most, as in a model's vectors."""
    spread = np.exp(-np.arange(384) / 60)
    turn = np.linalg.qr(drawn(384, 384, seed=9))[0]
    return np.asarray((drawn(rows, 384, seed) * spread) @ turn, dtype=np.float32)


# Inner products


@pytest.mark.parametrize("dimension", [64, 100, 256])
def test_products_are_those_of_the_vectors_within_a_bound(dimension: int) -> None:
    projection = random_projection(dimension)
    asked, passage = drawn(40, dimension, seed=1), drawn(300, dimension, seed=2)
    passage[:40] += asked  # some of every similarity
    found = projection.question(asked) @ expand(projection.compress(passage)).T
    true = units(asked) @ units(passage).T
    off = found - KEPT * true
    # An unbiased error of a quantised coordinate, spread over all of them.
    assert np.abs(off).max() < 3 / dimension**0.5
    assert np.abs(off).mean() < 0.4 / dimension**0.5
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("kind", ["random", "fitted"])
def test_the_nearest_vector_stays_the_nearest(kind: str) -> None:
    asked, others = skewed(60, seed=2), skewed(500, seed=3)
    projection = fitted_projection(skewed(2000)) if kind == "fitted" else random_projection(384)
    noise = skewed(60, seed=4)
    others[:60] = units(asked) + 0.5 * units(noise)
    found = projection.question(asked) @ expand(projection.compress(others)).T
    assert (units(asked) @ units(others).T).argmax(axis=1).tolist() == list(range(60))
    assert found.argmax(axis=1).tolist() == list(range(60))


def test_fitted_directions_keep_more_than_random_ones() -> None:
    asked, passage = skewed(50, seed=2), skewed(400, seed=3)
    true = units(asked) @ units(passage).T

    def correlation(projection: Projection) -> float:
        found = projection.question(asked) @ expand(projection.compress(passage)).T
        return float(np.corrcoef(found.ravel(), true.ravel())[0, 1])

    fitted = correlation(fitted_projection(skewed(2000), directions=64))
    assert fitted > 0.9
    shorter = random_projection(384)
    cut = replace(shorter, basis=shorter.basis[:, :64], deviation=shorter.deviation[:64])
    assert fitted > correlation(cut) + 0.1


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([-8, -1, 0, 3, 20]),
    st.sampled_from([4, 30, 384]),
)
def test_length_does_not_count(seed: int, power: int, dimension: int) -> None:
    projection, vectors = random_projection(dimension), drawn(3, dimension, seed)
    longer = vectors * np.float32(2.0**power)
    assert np.array_equal(projection.compress(vectors), projection.compress(longer))
    assert np.allclose(projection.question(vectors), projection.question(longer), atol=1e-6)


# Packing


@given(st.integers(0, 2**32 - 1), st.sampled_from(DIMENSIONS))
def test_each_coordinate_becomes_the_nearest_level(seed: int, dimension: int) -> None:
    projection, vectors = random_projection(dimension), drawn(5, dimension, seed)
    scaled = (units(vectors) - projection.mean) @ projection.basis / projection.deviation
    away = np.abs(scaled[:, :, None] - LEVELS)
    chosen = expand(projection.compress(vectors))
    assert set(np.unique(chosen)) <= set(LEVELS)
    assert np.all(np.abs(scaled - chosen) <= away.min(axis=2) + 1e-5)


def test_every_byte_is_expanded_to_the_levels_packed_in_it() -> None:
    everything = np.arange(256, dtype=np.uint8).reshape(4, 64)
    found = expand(everything)
    assert found.shape == (4, 256)
    assert found.dtype == np.float32
    by_hand = [
        [float(LEVELS[byte >> shift & 3]) for byte in row for shift in (0, 2, 4, 6)]
        for row in everything.tolist()
    ]
    assert found.tolist() == by_hand


def test_levels_are_in_order_even_and_parted_in_the_middle() -> None:
    assert LEVELS.tolist() == sorted(LEVELS.tolist())
    assert LEVELS.tolist() == (-LEVELS[::-1]).tolist()
    assert pytest.approx(float(LEVELS[2] + LEVELS[3]) / 2, abs=1e-4) == project.DECISION_LEVEL


# Shapes


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_any_number_of_dimensions_and_tokens(dimension: int, rows: int) -> None:
    projection, vectors = random_projection(dimension), drawn(rows, dimension)
    codes = projection.compress(vectors)
    directions = codes.shape[1] * PER_BYTE
    assert codes.dtype == np.uint8
    assert codes.shape[0] == rows
    assert projection.question(vectors).shape == expand(codes).shape == (rows, directions)
    assert projection.question(vectors).dtype == np.float32
    assert directions <= max(PER_BYTE, min(dimension, DIRECTIONS))
    assert directions > min(dimension, DIRECTIONS) - PER_BYTE


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_random_directions_are_orthogonal_and_always_the_same(dimension: int) -> None:
    basis = random_projection(dimension).basis.astype(np.float64)
    less = basis.T @ basis if dimension >= basis.shape[1] else basis @ basis.T
    assert np.allclose(less, np.eye(len(less)), atol=1e-5)
    again = random_projection(dimension)
    assert np.array_equal(again.basis, random_projection(dimension).basis)
    assert again.fingerprint == random_projection(dimension).fingerprint


def test_a_vector_of_nothing_is_no_error() -> None:
    for projection in (random_projection(30), shipped_projection()):
        nothing = np.zeros((2, len(projection.mean)), dtype=np.float32)
        assert np.isfinite(expand(projection.compress(nothing))).all()
        assert np.isfinite(projection.question(nothing)).all()


def test_fitted_directions_are_orthogonal_the_greatest_first() -> None:
    projection = fitted_projection(skewed(2000))
    assert projection.basis.shape == (384, DIRECTIONS)
    basis = projection.basis.astype(np.float64)
    assert np.allclose(basis.T @ basis, np.eye(DIRECTIONS), atol=1e-4)
    assert np.all(np.diff(projection.deviation) <= 1e-6)
    levels, counts = np.unique(expand(projection.compress(skewed(500, 5))), return_counts=True)
    assert np.array_equal(levels, LEVELS)
    parts = counts / counts.sum()
    assert np.allclose(parts, [0.163, 0.337, 0.337, 0.163], atol=0.02)  # of a normal distribution


# What is shipped


def test_the_shipped_projection_is_data_alone_and_orthonormal() -> None:
    with (
        files("rag").joinpath("projection.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as parts,
    ):
        assert sorted(parts.files) == ["basis", "deviation", "mean"]
    projection = shipped_projection()
    assert projection.mean.shape == (384,)
    assert projection.basis.shape == (384, DIRECTIONS)
    basis = projection.basis.astype(np.float64)
    assert np.allclose(basis.T @ basis, np.eye(DIRECTIONS), atol=2e-3)
    assert (projection.deviation > 0).all()
    for part in (projection.mean, projection.basis, projection.deviation):
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
    assert projection.compress(drawn(3, 384)).nbytes == 3 * 64
    assert shipped_projection() is projection


@pytest.mark.parametrize("part", ["mean", "basis", "deviation"])
def test_every_part_decides_the_fingerprint(part: str) -> None:
    projection = shipped_projection()
    changed = getattr(projection, part).copy()
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(np.inf))
    assert replace(projection, **{part: changed}).fingerprint != projection.fingerprint
    same = replace(projection, **{part: getattr(projection, part).copy()})
    assert same.fingerprint == projection.fingerprint
