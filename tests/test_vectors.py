"""Dense search: one contract for every index, against brute force; the base file, whole or not."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

import rag.vectors as vectors_module
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
    base_is_due,
    file_fault,
    measured_recall,
    write_base,
)

Builder = Callable[[Path, Numbers, Floats], VectorIndex]


def base(folder: Path, numbers: Numbers, matrix: Floats) -> FaissBase:
    return FaissBase(folder, write_base(folder, 1, matrix.shape[1], in_parts(numbers, matrix)))


def in_parts(numbers: Numbers, matrix: Floats) -> Iterator[tuple[Numbers, Floats]]:
    for at in range(0, len(numbers), 7):
        yield numbers[at : at + 7], matrix[at : at + 7]


def quantised(folder: Path, numbers: Numbers, matrix: Floats) -> FaissBase:
    """With codes as soon as they can be trained: there are sixteen of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors_module, "EXACT_MOST", 16)
        return base(folder, numbers, matrix)


def with_tail(part: float) -> Builder:
    def build(folder: Path, numbers: Numbers, matrix: Floats) -> VectorIndex:
        at = round(len(numbers) * (1 - part))
        tail = ExactVectors(numbers[at:], matrix[at:])
        return Vectors(base(folder, numbers[:at], matrix[:at]), tail)

    return build


BUILDERS: dict[str, Builder] = {
    "exact": lambda _, numbers, matrix: ExactVectors(numbers, matrix),
    "base": base,
    "quantised base": quantised,
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


def clustered(count: int, dimension: int, seed: int) -> Floats:
    """Unit vectors of which every one has near ones, as passages have."""
    random = np.random.default_rng(seed)
    middles = random.standard_normal((count // 20, dimension))
    matrix = middles[random.integers(len(middles), size=count)]
    matrix = matrix + 0.7 * random.standard_normal((count, dimension))
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(name="few_proposals")
def _few_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "PROPOSALS", 20)
    monkeypatch.setattr(vectors_module, "PROPOSALS_A_HIT", 1)


@pytest.fixture(name="large", scope="module")
def _large(tmp_path_factory: pytest.TempPathFactory) -> FaissBase:
    return quantised(
        tmp_path_factory.mktemp("base"), np.arange(1, 2001) * 2, clustered(2000, 64, 1)
    )


def alive_in(index: FaissBase) -> Mask:
    mask = np.zeros(index.record.last + 1, dtype=np.bool_)
    mask[index.numbers] = True
    return mask


def share_found(index: FaissBase, depth: int, mask: Mask) -> float:
    """Of the exact best, the part that the approximate search finds, with the exact scores."""
    parts = []
    for vector in clustered(2000, 64, 1)[:300:10] + 0.1:
        exact, _ = index.search(vector, depth, mask)
        found, scores = index.approximate(vector, depth, mask)
        assert scores.tolist() == index.score(vector, found).tolist()
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        assert mask[found].all()
        parts.append(len(np.intersect1d(exact, found)) / len(exact))
    return float(np.mean(parts))


@pytest.mark.usefixtures("few_proposals")
def test_an_approximate_search_finds_nearly_all_of_the_best(large: FaissBase) -> None:
    found = share_found(large, 10, alive_in(large))
    assert 0.9 < found < 1  # with so few proposals it is not the exact search


def test_more_proposals_find_more(large: FaissBase, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for proposals in (10, 20, 100):
        monkeypatch.setattr(vectors_module, "PROPOSALS", proposals)
        monkeypatch.setattr(vectors_module, "PROPOSALS_A_HIT", 1)
        found.append(share_found(large, 10, alive_in(large)))
    assert found == sorted(set(found))
    assert found[-1] > 0.99


@pytest.mark.usefixtures("few_proposals")
def test_the_dead_keep_no_living_out_of_an_approximate_search(large: FaissBase) -> None:
    mask = alive_in(large)
    vector = clustered(2000, 64, 1)[7]
    # The nearest hundred are dead: of the first proposals none is left.
    mask[large.search(vector, 100, mask)[0]] = False
    exact, _ = large.search(vector, 10, mask)
    found, _ = large.approximate(vector, 10, mask)
    assert len(found) == 10
    assert len(np.intersect1d(exact, found)) >= 7


@pytest.mark.usefixtures("few_proposals")
def test_where_hardly_anything_passes_an_approximate_search_is_exact(large: FaissBase) -> None:
    mask = np.zeros(large.record.last + 1, dtype=np.bool_)
    mask[large.numbers[::50]] = True
    assert share_found(large, 10, mask) == 1


def test_a_deep_approximate_search_of_few_is_exact(large: FaissBase) -> None:
    assert share_found(large, 200, alive_in(large)) == 1


@pytest.mark.usefixtures("few_proposals")
def test_the_tail_of_an_approximate_search_is_exact(large: FaissBase) -> None:
    vector = clustered(2000, 64, 1)[3]
    later = np.array([4001, 4002])
    both = Vectors(large, ExactVectors(later, np.stack([-vector, vector])))
    mask = np.append(alive_in(large), [True] * 3)
    numbers, scores = both.approximate(vector, 10, mask)
    assert numbers[:2].tolist() == [8, 4002]  # equal ones by number
    assert scores[0] == scores[1]
    assert 4001 not in numbers
    alone = Vectors(None, both.tail).approximate(vector, 10, mask)
    assert alone[0].tolist() == [4002, 4001]


def test_two_builds_of_the_same_vectors_are_equal_to_the_byte(tmp_path: Path) -> None:
    numbers, matrix = np.arange(1, 501), clustered(500, 32, 2)
    one, other = (quantised(tmp_path, numbers, matrix).record for _ in range(2))
    assert one == other
    assert one.quantised


def test_a_base_has_codes_only_over_so_many_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "EXACT_MOST", 40)
    for count in (40, 41):
        built = base(tmp_path, np.arange(1, count + 1), unit_vectors(count, 8, seed=14))
        assert built.record.quantised is (count > 40)
        assert BaseRecord.from_json(built.record.to_json()) == built.record


@pytest.mark.parametrize("dimension", [1, 7, 30])
def test_codes_of_any_dimension(tmp_path: Path, dimension: int) -> None:
    matrix = unit_vectors(200, dimension, seed=15)
    index = quantised(tmp_path, np.arange(1, 201), matrix)
    exact, _ = index.search(matrix[0], 10, alive_in(index))
    found, _ = index.approximate(matrix[0], 10, alive_in(index))
    assert exact.tolist() == found.tolist()


@pytest.mark.usefixtures("few_proposals")
def test_recall_is_that_of_neighbours_of_stored_vectors(
    large: FaissBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = alive_in(large)
    before = alive.copy()
    measured = measured_recall(large, alive)
    assert (measured.file, measured.sample) == (large.record.file, 200)
    assert 0.9 < measured.recall_at_10 < 1
    assert np.array_equal(alive, before)

    def blind(vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        return large.search(-vector, depth, mask)[0], large.search(-vector, depth, mask)[1] * -1

    monkeypatch.setattr(large, "approximate", blind)
    assert measured_recall(large, alive).recall_at_10 == 0


def test_recall_where_nothing_is_alive_or_all_are_equal(tmp_path: Path) -> None:
    numbers, matrix = np.arange(1, 41), np.tile(unit_vectors(1, 8, seed=16), (40, 1))
    index = quantised(tmp_path, numbers, matrix)
    assert measured_recall(index, alive_in(index)).recall_at_10 == 1
    nothing = measured_recall(index, np.zeros(41, dtype=np.bool_))
    assert (nothing.recall_at_10, nothing.sample) == (1, 0)
    one = np.arange(41) == 7
    assert measured_recall(index, one).recall_at_10 == 1


@pytest.mark.parametrize(
    ("count", "tail", "dead", "due"),
    [
        (None, 0, 0, False),
        (None, 1, 0, True),
        (100, int(100 * TAIL_PART), 0, False),
        (100, int(100 * TAIL_PART) + 1, 0, True),
        (10 * TAIL_MOST, TAIL_MOST, 0, False),
        (10 * TAIL_MOST, TAIL_MOST + 1, 0, True),
        (100, 0, int(100 * TAIL_PART), False),
        (100, 0, int(100 * TAIL_PART) + 1, True),
    ],
)
def test_when_the_base_is_due(count: int | None, tail: int, dead: int, due: bool) -> None:
    record = None if count is None else BaseRecord("dense.1.faiss", 1, count, count, 0, "")
    assert base_is_due(record, tail, dead) is due


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


def test_each_thread_searches_alone(tmp_path: Path) -> None:
    matrix = np.eye(8, dtype=np.float32)
    numbers = np.arange(1, 9)
    record = write_base(tmp_path, 1, 8, [(numbers, matrix)])
    base, mask = FaissBase(tmp_path, record), np.ones(9, dtype=np.bool_)

    def threads_after(search: Callable[..., object]) -> int:
        with ThreadPoolExecutor(1) as other:
            other.submit(faiss.omp_set_num_threads, 2).result()
            other.submit(search, matrix[0], 2, mask).result()
            return int(other.submit(faiss.omp_get_max_threads).result())

    assert threads_after(base.search) == 1
    assert threads_after(base.approximate) == 1
