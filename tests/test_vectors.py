"""Dense search: one contract for every index, against brute force; the base file, whole or not."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import NoReturn

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import StorageFailed
from rag.types import Floats, Mask, Numbers
from rag.vectors import (
    TAIL_MOST,
    TAIL_PART,
    BaseRecord,
    ExactVectors,
    FaissBase,
    VectorIndex,
    Vectors,
    file_fault,
    tail_too_long,
    write_base,
)

Builder = Callable[[Path, Numbers, Floats], VectorIndex]


def base(folder: Path, numbers: Numbers, matrix: Floats) -> FaissBase:
    return FaissBase(folder, write_base(folder, 1, matrix.shape[1], in_parts(numbers, matrix)))


def in_parts(numbers: Numbers, matrix: Floats) -> Iterator[tuple[Numbers, Floats]]:
    for at in range(0, len(numbers), 7):
        yield numbers[at : at + 7], matrix[at : at + 7]


def with_tail(part: float) -> Builder:
    def build(folder: Path, numbers: Numbers, matrix: Floats) -> VectorIndex:
        at = round(len(numbers) * (1 - part))
        tail = ExactVectors(numbers[at:], matrix[at:])
        return Vectors(base(folder, numbers[:at], matrix[:at]), tail)

    return build


BUILDERS: dict[str, Builder] = {
    "exact": lambda _, numbers, matrix: ExactVectors(numbers, matrix),
    "base": base,
    "base and tail": with_tail(0.4),
    "base and empty tail": with_tail(0.0),
    "empty base and tail": with_tail(1.0),
    "tail alone": lambda _, numbers, matrix: Vectors(None, ExactVectors(numbers, matrix)),
}


@pytest.fixture(params=BUILDERS, name="build", scope="module")
def _build(request: pytest.FixtureRequest) -> Builder:
    return BUILDERS[request.param]


@pytest.fixture(autouse=True, scope="module")
def _unsynced() -> Iterator[None]:
    """Files here need not outlive a power cut, and hundreds of them are written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@contextmanager
def built(build: Builder, numbers: Numbers, matrix: Floats) -> Iterator[VectorIndex]:
    with tempfile.TemporaryDirectory() as folder:
        yield build(Path(folder), numbers, matrix)


def brute_force(
    numbers: Numbers, matrix: Floats, vector: Floats, depth: int, mask: Mask
) -> tuple[list[int], list[float]]:
    scores = matrix.astype(np.float64) @ vector.astype(np.float64)
    passing = [
        (-score, number) for number, score in zip(numbers, scores, strict=True) if mask[number]
    ]
    ranked = sorted(passing)[:depth]
    return [int(number) for _, number in ranked], [float(-score) for score, _ in ranked]


@st.composite
def searches(draw: st.DrawFn) -> tuple[Numbers, Floats, Floats, int, Mask]:
    """Small whole numbers as components: every dot product is exact, and many are equal."""
    row = st.lists(st.integers(-2, 2), min_size=4, max_size=4)
    gaps = draw(st.lists(st.integers(1, 3), max_size=40))
    numbers = np.cumsum(np.array(gaps, dtype=np.int64))
    rows = draw(st.lists(row, min_size=len(gaps), max_size=len(gaps)))
    matrix = np.array(rows, dtype=np.float32).reshape(-1, 4)
    size = int(numbers[-1] if len(numbers) else 0) + draw(st.integers(1, 20))
    mask = draw(
        st.one_of(
            st.just([True] * size),
            st.just([False] * size),
            st.lists(st.booleans(), min_size=size, max_size=size),
        )
    )
    vector = np.array(draw(row), dtype=np.float32)
    return numbers, matrix, vector, draw(st.integers(1, 60)), np.array(mask)


@settings(max_examples=60, deadline=None)
@given(case=searches())
def test_a_search_equals_brute_force(
    build: Builder, case: tuple[Numbers, Floats, Floats, int, Mask]
) -> None:
    numbers, matrix, vector, depth, mask = case
    with built(build, numbers, matrix) as index:
        found, scores = index.search(vector, depth, mask)
        assert (found.tolist(), scores.tolist()) == brute_force(*case)
        assert found.dtype == np.int64
        assert scores.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(case=searches(), order=st.randoms())
def test_scores_come_in_the_order_asked_for(
    build: Builder, case: tuple[Numbers, Floats, Floats, int, Mask], order: Random
) -> None:
    numbers, matrix, vector, depth, _ = case
    places = [order.randrange(len(numbers)) for _ in range(depth)] if len(numbers) else []
    with built(build, numbers, matrix) as index:
        scores = index.score(vector, numbers[places])
    assert scores.tolist() == (matrix[places] @ vector).tolist()


@cache
def unit_vectors(count: int, dimension: int, seed: int) -> Floats:
    matrix = np.random.default_rng(seed).standard_normal((count, dimension))
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), dtype=np.float32)


def test_unit_vectors_of_the_models_size(build: Builder, tmp_path: Path) -> None:
    numbers = np.arange(1, 1001) * 3
    matrix, vector = unit_vectors(1000, 384, seed=1), unit_vectors(1, 384, seed=2)[0]
    index = build(tmp_path, numbers, matrix)
    for part in (0.0, 0.002, 0.05, 0.5, 0.98, 1.0):
        mask = np.zeros(3001, dtype=np.bool_)
        mask[numbers] = np.random.default_rng(3).random(1000) < part
        for depth in (1, 99, 100, 200, 5000):
            found, scores = index.search(vector, depth, mask)
            expected, expected_scores = brute_force(numbers, matrix, vector, depth, mask)
            assert len(found) == min(depth, np.count_nonzero(mask))
            assert np.allclose(scores, expected_scores, atol=1e-6)
            # No two of these scores are equal to six digits but a few neighbours.
            assert np.count_nonzero(found != np.array(expected)) <= len(found) // 50
            assert mask[found].all()


@pytest.mark.parametrize("depth", [1, 7, 50, 120, 150, 299, 300])
@pytest.mark.parametrize("dimension", [32, 383, 384])
def test_equal_vectors_have_equal_scores_and_go_by_number(
    build: Builder, depth: int, dimension: int, tmp_path: Path
) -> None:
    numbers = np.arange(1, 301) * 2
    kinds = np.random.default_rng(4).integers(0, 5, 300)
    matrix = unit_vectors(5, dimension, seed=5)[kinds]
    vector = unit_vectors(1, dimension, seed=6)[0]
    mask = np.ones(601, dtype=np.bool_)
    found, scores = build(tmp_path, numbers, matrix).search(vector, depth, mask)
    best_first = np.argsort(-(matrix.astype(np.float64) @ vector), kind="stable")[:depth]
    assert found.tolist() == numbers[best_first].tolist()
    assert len(set(scores.tolist())) == len(set(kinds[best_first].tolist()))


def test_a_search_and_a_score_agree_to_the_last_bit(build: Builder, tmp_path: Path) -> None:
    numbers, matrix = np.arange(1, 501), unit_vectors(500, 384, seed=7)
    vector, mask = unit_vectors(1, 384, seed=8)[0], np.ones(501, dtype=np.bool_)
    index = build(tmp_path, numbers, matrix)
    found, scores = index.search(vector, 200, mask)
    assert index.score(vector, found).tolist() == scores.tolist()
    reference = ExactVectors(numbers, matrix).search(vector, 200, mask)
    assert (found.tolist(), scores.tolist()) == (reference[0].tolist(), reference[1].tolist())


def test_what_died_is_not_found_and_the_next_best_takes_its_place(
    build: Builder, tmp_path: Path
) -> None:
    numbers, matrix = np.arange(1, 101), unit_vectors(100, 16, seed=9)
    vector, mask = unit_vectors(1, 16, seed=10)[0], np.ones(101, dtype=np.bool_)
    index = build(tmp_path, numbers, matrix)
    ranking = index.search(vector, 100, mask)[0].tolist()
    for deaths in range(1, 100, 9):
        mask[ranking[:deaths]] = False
        assert index.search(vector, 5, mask)[0].tolist() == ranking[deaths : deaths + 5]


def test_a_tail_grows_at_its_end_and_the_one_before_stays_as_it_is() -> None:
    numbers, matrix = np.arange(1, 11), unit_vectors(10, 4, seed=11)
    short = ExactVectors(numbers[:6], matrix[:6])
    long = short.extended(numbers[6:], matrix[6:])
    assert long.numbers.tolist() == numbers.tolist()
    assert np.array_equal(long.matrix, matrix)
    assert short.numbers.tolist() == numbers[:6].tolist()
    assert short.extended(numbers[:0], matrix[:0]) is short


@pytest.mark.parametrize(
    ("count", "tail", "due"),
    [
        (None, 0, False),
        (None, 1, True),
        (100, int(100 * TAIL_PART), False),
        (100, int(100 * TAIL_PART) + 1, True),
        (10 * TAIL_MOST, TAIL_MOST, False),
        (10 * TAIL_MOST, TAIL_MOST + 1, True),
    ],
)
def test_when_the_base_is_due(count: int | None, tail: int, due: bool) -> None:
    record = None if count is None else BaseRecord("dense.1.faiss", 1, count, count, 0, "")
    assert tail_too_long(record, tail) is due


@pytest.fixture(name="record")
def _record(tmp_path: Path) -> BaseRecord:
    return base(tmp_path, np.arange(1, 41) * 2, unit_vectors(40, 8, seed=12)).record


def test_the_record_says_what_was_written(record: BaseRecord, tmp_path: Path) -> None:
    assert (record.generation, record.count, record.last) == (1, 40, 80)
    assert record.size_bytes == (tmp_path / record.file).stat().st_size
    assert BaseRecord.from_json(record.to_json()) == record
    assert [file.name for file in tmp_path.iterdir()] == [record.file]


def test_the_stored_vectors_are_those_given(record: BaseRecord, tmp_path: Path) -> None:
    stored = FaissBase(tmp_path, record).stored(np.array([80, 2, 40]))
    assert np.array_equal(stored, unit_vectors(40, 8, seed=12)[[39, 0, 19]])


def test_the_base_is_mapped_and_outlives_its_name(record: BaseRecord, tmp_path: Path) -> None:
    index = FaissBase(tmp_path, record)
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert record.file in mapped.read_text()
    (tmp_path / record.file).unlink()
    assert len(index.search(np.ones(8, np.float32), 40, np.ones(81, np.bool_))[0]) == 40


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda data: data[:-1], "bytes, not"),
        (lambda data: data + b"\0", "bytes, not"),
        (lambda data: b"", "bytes, not"),
        (lambda data: b"\0" * len(data), "cannot be opened"),
        (lambda data: flipped(data, 0), "cannot be opened"),
    ],
)
def test_a_torn_base_is_refused_and_named(
    record: BaseRecord, tmp_path: Path, damage: Callable[[bytes], bytes], named: str
) -> None:
    file = tmp_path / record.file
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=named) as caught:
        FaissBase(tmp_path, record)
    assert record.file in str(caught.value)
    assert file_fault(tmp_path, record) == f"{record.file} has changed since it was written"


def test_a_base_that_is_not_there_is_refused_and_named(record: BaseRecord, tmp_path: Path) -> None:
    (tmp_path / record.file).unlink()
    with pytest.raises(ValueError, match=record.file):
        FaissBase(tmp_path, record)
    assert str(file_fault(tmp_path, record)).startswith(f"{record.file} cannot be read")


def test_a_base_of_another_count_is_refused(record: BaseRecord, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="40 vectors, not 41"):
        FaissBase(tmp_path, dataclasses.replace(record, count=41))


def test_any_flipped_bit_is_a_fault_of_the_file(record: BaseRecord, tmp_path: Path) -> None:
    file = tmp_path / record.file
    data = file.read_bytes()
    assert file_fault(tmp_path, record) is None
    for at in range(0, len(data), 97):
        file.write_bytes(flipped(data, at))
        assert file_fault(tmp_path, record) == f"{record.file} has changed since it was written"


def test_a_base_that_cannot_be_written_leaves_the_folder_as_it_was(
    record: BaseRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(index: object, writer: object) -> NoReturn:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(StorageFailed, match="No space left on device"):
        write_base(tmp_path, 2, 8, in_parts(np.arange(1, 3), unit_vectors(2, 8, seed=13)))
    assert [file.name for file in tmp_path.iterdir()] == [record.file]
    assert file_fault(tmp_path, record) is None
