"""Dense search: an immutable FAISS base on the disk and an exact tail in memory.

The base `dense.<generation>.<sha256>.faiss` holds the passages that were alive at its generation,
ordered by number; what was born later is the tail, what died later is masked out. A search scans
just the vectors that pass, exactly. Over `EXACT_MOST` passages the base also has a quantised copy
(product quantisation, Jégou et al. 2011, doi:10.1109/TPAMI.2010.57; scanned in registers, André et
al. 2015, doi:10.14778/2856318.2856324) that proposes candidates to an approximate search, which
scores them exactly. Masks are indexed by passage number.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from rag.errors import StorageFailed
from rag.files import sha256, sync
from rag.types import Floats, Mask, Numbers

TAIL_PART = 0.25
TAIL_MOST = 20_000
"""The base is written anew when the tail, or what died in it, is over this part of it, or when the
tail is over this many passages: writing costs as much as the base is large, so the cost of an added
passage stays level, and a question compares the tail one by one, 20,000 in 2 ms."""

EXACT_MOST = 10_000
"""Passages up to which the base is exact alone. Comparing so many takes one thread .5 ms, by their
codes a tenth less; 20,000 take 1.7 and .6 ms beside a question's other work, which leaves nothing
of them in the cache, 100,000 take 10 and 1 ms, a million 90 and 4 ms."""

DIMENSIONS_A_CODE = 2
CODE_BITS = 4
"""A code of four bits for every two dimensions. ARCHITECTURE.md has what else was measured."""

TRAINED_ON = 20_000
"""Vectors, evenly spread over the base, that the codes are trained on: more than FAISS uses."""

PROPOSALS = 1000
PROPOSALS_A_HIT = 5
"""Candidates by their codes that are scored exactly: so many for each hit asked for, and at least
so many. Of a million passages 1000 hold .998 of the best 200, and all of the best 10."""


def _alone() -> None:
    """Have FAISS use this thread alone from now on; each thread has a setting of its own.

    One question is one thread's work. With two, a search of 40,000 vectors took 5.6 ms and with one
    2.5 ms, on two idle cores; where others are at work the second thread costs far more.
    """
    faiss.omp_set_num_threads(1)


RECALL_SAMPLE = 200
RECALL_AT = 10
"""Recall is measured with so many stored vectors as questions, for so many neighbours of each."""


class VectorIndex(Protocol):
    """The seam to exact search; higher scores are better, ties go to the smaller number."""

    def search(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """The `depth` best passages that the mask lets through, best first, with dot products."""

    def score(self, vector: Floats, numbers: Numbers) -> Floats:
        """Dot products with the passages of these numbers, all of them present."""


class ExactVectors:
    """Vectors in memory, compared one by one: the tail, and the reference for every other index."""

    def __init__(self, numbers: Numbers, matrix: Floats) -> None:
        self.numbers = numbers
        self.matrix = matrix

    def search(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """See VectorIndex."""
        passing = mask[self.numbers]
        # A row that is copied costs more than one that is compared for nothing.
        if 2 * np.count_nonzero(passing) < len(passing):
            return best(self.numbers[passing], dots(self.matrix[passing], vector), depth)
        return best(self.numbers[passing], dots(self.matrix, vector)[passing], depth)

    def score(self, vector: Floats, numbers: Numbers) -> Floats:
        """See VectorIndex."""
        return dots(self.matrix[np.searchsorted(self.numbers, numbers)], vector)

    def extended(self, numbers: Numbers, matrix: Floats) -> ExactVectors:
        """A copy with later passages at its end."""
        if not len(numbers):
            return self
        return ExactVectors(
            np.concatenate([self.numbers, numbers]), np.concatenate([self.matrix, matrix])
        )


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """What the manifest says of the base file; `last` is the greatest passage number it covers.

    `quantised`: whether unfiltered questions are answered from its codes.
    """

    file: str
    generation: int
    count: int
    last: int
    size_bytes: int
    sha256: str
    quantised: bool = False

    def to_json(self) -> str:
        """As the manifest keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BaseRecord:
        """From the manifest."""
        return cls(**json.loads(text))


class FaissBase:
    """The base file, mapped into memory, not read."""

    def __init__(self, folder: Path, record: BaseRecord) -> None:
        """Open the file of `record`; ValueError if it is not there or not what was written."""
        self.record = record
        file = folder / record.file
        try:
            size = file.stat().st_size
            if size != record.size_bytes:
                raise ValueError(f"{record.file} has {size} bytes, not {record.size_bytes}")
            descriptor = os.open(file, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            self._descriptor = descriptor
            self._index = _mapped(file)
            self.numbers: Numbers = faiss.vector_to_array(self._index.id_map)
            self._flat, self._codes = _parts(self._index)
            self._matrix = _rows_of(self._flat)
        except (OSError, RuntimeError, AttributeError) as error:
            raise ValueError(f"{record.file} cannot be opened: {error}") from error
        if len(self.numbers) != record.count:
            raise ValueError(f"{record.file} holds {len(self.numbers)} vectors, not {record.count}")
        if len(self.numbers) and not 0 < self.numbers.min() <= self.numbers.max() <= record.last:
            raise ValueError(f"{record.file} holds passages that it cannot")

    def whole(self) -> bool:
        """Whether the mapped file still has its size. One that was cut in its place must not be
        searched: whoever touches what is gone gets SIGBUS, which ends the process."""
        return os.fstat(self._descriptor).st_size == self.record.size_bytes

    def search(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """See VectorIndex."""
        _alone()
        passes = mask[self.numbers]
        passing = int(np.count_nonzero(passes))
        if not passing:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        parameters = None
        if passing < len(passes):
            bits = np.packbits(passes, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        row, wanted = vector.reshape(1, -1), min(depth + 1, passing)
        scores, places = self._flat.search(row, wanted, params=parameters)
        found = places[0]
        if wanted > depth and scores[0, depth - 1] == scores[0, depth]:
            # FAISS keeps any of the equal scores at the cut; take them all, the best are chosen.
            below = np.nextafter(scores[0, depth], np.float32(-np.inf))
            _, _, found = self._flat.range_search(row, float(below), params=parameters)
        return self._best(vector, found[found >= 0], depth)

    def approximate(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """As `search`, but one of the best may be missing; for masks that keep out few.

        The scores are exact. Where few of the candidates pass, more are taken, and where that
        would be a good part of the base, all.
        """
        _alone()
        row, least = vector.reshape(1, -1), max(PROPOSALS, PROPOSALS_A_HIT * depth)
        wanted = least
        while self._codes is not None and 4 * wanted < len(self.numbers):
            places = self._codes.search(row, wanted)[1][0]
            places = places[places >= 0]
            passing = np.sort(places[mask[self.numbers[places]]])  # in the order of the file
            if 4 * len(passing) >= 3 * least:
                return self._best(vector, passing, depth)
            wanted *= 2
        return self.search(vector, depth, mask)

    def score(self, vector: Floats, numbers: Numbers) -> Floats:
        """See VectorIndex."""
        return dots(self.stored(numbers), vector)

    def stored(self, numbers: Numbers) -> Floats:
        """The vectors of these passages, a row each, as the file has them."""
        return self._matrix[np.searchsorted(self.numbers, numbers)]

    def _best(self, vector: Floats, places: Numbers, depth: int) -> tuple[Numbers, Floats]:
        return best(self.numbers[places], dots(self._matrix[places], vector), depth)


class Vectors:
    """Base and tail as one index."""

    def __init__(self, base: FaissBase | None, tail: ExactVectors) -> None:
        self.base = base
        self.tail = tail

    def search(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """See VectorIndex."""
        tail = self.tail.search(vector, depth, mask)
        return _together(self.base.search(vector, depth, mask), tail, depth) if self.base else tail

    def approximate(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """See FaissBase; the tail is exact."""
        tail = self.tail.search(vector, depth, mask)
        if not self.base:
            return tail
        return _together(self.base.approximate(vector, depth, mask), tail, depth)

    def score(self, vector: Floats, numbers: Numbers) -> Floats:
        """See VectorIndex."""
        if self.base is None:
            return self.tail.score(vector, numbers)
        scores = np.empty(len(numbers), dtype=np.float32)
        in_base = numbers <= self.base.record.last
        scores[in_base] = self.base.score(vector, numbers[in_base])
        scores[~in_base] = self.tail.score(vector, numbers[~in_base])
        return scores


def _mapped(file: Path) -> Any:
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)


def _parts(index: Any) -> tuple[Any, Any | None]:
    """The flat index of a base file, and the codes if it has them."""
    inner = faiss.downcast_index(index.index)
    if not isinstance(inner, faiss.IndexRefine):
        return inner, None
    return faiss.downcast_index(inner.refine_index), faiss.downcast_index(inner.base_index)


def _rows_of(flat: Any) -> Floats:
    """The vectors of a flat index where they are mapped, a row each; not to outlive it."""
    if not flat.ntotal:
        return np.empty((0, flat.d), np.float32)
    data = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    return np.asarray(data.reshape(flat.ntotal, flat.d))


def _together(
    one: tuple[Numbers, Floats], other: tuple[Numbers, Floats], depth: int
) -> tuple[Numbers, Floats]:
    return best(np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]]), depth)


def dots(matrix: Floats, vector: Floats) -> Floats:
    """Dot product of each row with `vector`, row by row: equal rows get equal scores wherever they
    stand, which the blocks of a matrix product do not give."""
    return np.asarray(np.vecdot(matrix, vector))


def best(numbers: Numbers, scores: Floats, depth: int) -> tuple[Numbers, Floats]:
    """The `depth` greatest scores, best first, equal ones by number."""
    if len(scores) > depth:  # all that are equal at the cut stay in, which costs less than sorting
        kept = scores >= np.partition(scores, -depth)[-depth]
        numbers, scores = numbers[kept], scores[kept]
    order = np.lexsort((numbers, -scores))[:depth]
    return numbers[order], scores[order]


def base_is_due(record: BaseRecord | None, tail: int, dead: int) -> bool:
    """Whether the base should be written anew when `tail` passages came after it, and `dead` of its
    own have died."""
    part = TAIL_PART * (record.count if record else 0)
    return tail > min(part, TAIL_MOST) or dead > part


def write_base(
    folder: Path, generation: int, dimension: int, parts: Iterable[tuple[Numbers, Floats]]
) -> BaseRecord:
    """Write a base file so that it is there whole or not at all; what the manifest is to say.

    `parts`: numbers, ascending throughout, and their vectors of shape (n, dimension).
    """
    index = faiss.IndexIDMap(faiss.IndexFlatIP(dimension))
    last = 0
    for numbers, matrix in parts:
        index.add_with_ids(np.ascontiguousarray(matrix, dtype=np.float32), numbers)
        last = int(numbers[-1])
    quantised = index.ntotal > EXACT_MOST
    inner = _quantised(index.index) if quantised else index.index
    index.index = inner  # which does not keep it alive: `inner` does
    temporary = folder / "dense.faiss.tmp"
    try:
        with temporary.open("w+b") as stream:
            # Through Python's file: FAISS's own says nothing of an error when it is closed.
            writer = faiss.PyCallbackIOWriter(stream.write)  # type: ignore[attr-defined]
            faiss.write_index(index, writer)
            stream.flush()
            os.fsync(stream.fileno())
            size = stream.tell()
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise StorageFailed(str(folder), f"the base cannot be written: {error}") from error
    # Named by what it holds: no file of another archive is taken for it.
    file = temporary.replace(folder / f"dense.{generation}.{digest[:12]}.faiss")
    sync(folder)
    return BaseRecord(file.name, generation, index.ntotal, last, size, digest, quantised)


def _quantised(flat: Any) -> Any:
    """`flat` with codes before it. Equal vectors give equal codes: training is seeded, and one
    thread's work."""
    codes = faiss.IndexPQFastScan(
        flat.d, _codes_a_vector(flat.d), CODE_BITS, faiss.METRIC_INNER_PRODUCT
    )
    codes.train(flat.reconstruct_batch(np.arange(0, flat.ntotal, -(-flat.ntotal // TRAINED_ON))))
    for at in range(0, flat.ntotal, TRAINED_ON):
        codes.add(flat.reconstruct_n(at, min(TRAINED_ON, flat.ntotal - at)))
    return faiss.IndexRefine(codes, flat)


def _codes_a_vector(dimension: int) -> int:
    return dimension if dimension % DIMENSIONS_A_CODE else dimension // DIMENSIONS_A_CODE


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@10 of the base `file`: the mean over `sample` questions."""

    file: str
    recall_at_10: float
    sample: int


def measured_recall(base: FaissBase, alive: Mask) -> Recall:
    """How many of the nearest neighbours of stored vectors the approximate search finds.

    The questions are passages evenly spread over the base, each asking for others than itself. What
    is as near as the last of the exact neighbours counts as one of them.
    """
    living = base.numbers[alive[base.numbers]]
    sample = living[:: -(-len(living) // RECALL_SAMPLE)] if len(living) else living
    parts = []
    for number, vector in zip(sample.tolist(), base.stored(sample), strict=True):
        others = alive.copy()
        others[number] = False
        _, exact = base.search(vector, RECALL_AT, others)
        _, found = base.approximate(vector, RECALL_AT, others)
        parts.append(np.count_nonzero(found >= exact[-1]) / len(exact) if len(exact) else 1.0)
    return Recall(base.record.file, float(np.mean(parts)) if parts else 1.0, len(sample))


def file_fault(folder: Path, record: BaseRecord) -> str | None:
    """What is wrong with the bytes of a base file, read whole; None if nothing is."""
    try:
        digest = sha256(folder / record.file)
    except OSError as error:
        return f"{record.file} cannot be read: {error.strerror}"
    return None if digest == record.sha256 else f"{record.file} has changed since it was written"
