"""Dense search: an immutable FAISS base on the disk and an exact tail in memory.

The base `dense.<generation>.<sha256>.faiss` holds the passages that were alive at its generation,
ordered by number; what was born later is the tail, what died later is masked out. Both are exact: a
filtered search scans just the vectors that pass. Masks are indexed by passage number.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from rag.errors import StorageFailed
from rag.types import Floats, Mask, Numbers

TAIL_PART = 0.25
TAIL_MOST = 50_000
"""The base is written anew when the tail is over this part of it, or over this many passages:
writing costs as much as the base is large, so the cost of an added passage stays level."""


# One question is one thread's work. With two, a search of 40,000 vectors took 5.6 ms and with one
# 2.5 ms, on two idle cores; where others are at work the second thread costs far more.
faiss.omp_set_num_threads(1)


class VectorIndex(Protocol):
    """The seam to dense search; higher scores are better, ties go to the smaller number."""

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
        passing = np.flatnonzero(mask[self.numbers])
        return best(self.numbers[passing], dots(self.matrix[passing], vector), depth)

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
    """What the manifest says of the base file; `last` is the greatest passage number it covers."""

    file: str
    generation: int
    count: int
    last: int
    size_bytes: int
    sha256: str

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
            self._index = _mapped(file)
            self.numbers: Numbers = faiss.vector_to_array(self._index.id_map)
        except (OSError, RuntimeError, AttributeError) as error:
            raise ValueError(f"{record.file} cannot be opened: {error}") from error
        if len(self.numbers) != record.count:
            raise ValueError(f"{record.file} holds {len(self.numbers)} vectors, not {record.count}")
        self._all = int(record.count)

    def search(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """See VectorIndex."""
        passing = int(np.count_nonzero(mask[self.numbers]))
        if not passing:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        parameters = None
        if passing < self._all:
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        row, wanted = vector.reshape(1, -1), min(depth + 1, passing)
        scores, numbers = self._index.search(row, wanted, params=parameters)
        found = numbers[0]
        if wanted > depth and scores[0, depth - 1] == scores[0, depth]:
            # FAISS keeps any of the equal scores at the cut; take them all, the best are chosen.
            below = np.nextafter(scores[0, depth], np.float32(-np.inf))
            _, _, found = self._index.range_search(row, float(below), params=parameters)
        found = found[found >= 0]
        return best(found, self.score(vector, found), depth)

    def score(self, vector: Floats, numbers: Numbers) -> Floats:
        """See VectorIndex."""
        return dots(self.stored(numbers), vector)

    def stored(self, numbers: Numbers) -> Floats:
        """The vectors of these passages, a row each, as the file has them."""
        if not len(numbers):
            return np.empty((0, self._index.d), np.float32)
        positions = np.searchsorted(self.numbers, numbers)
        return np.asarray(self._index.index.reconstruct_batch(positions))


class Vectors:
    """Base and tail as one index."""

    def __init__(self, base: FaissBase | None, tail: ExactVectors) -> None:
        self.base = base
        self.tail = tail

    def search(self, vector: Floats, depth: int, mask: Mask) -> tuple[Numbers, Floats]:
        """See VectorIndex."""
        numbers, scores = self.tail.search(vector, depth, mask)
        if self.base is not None:
            base_numbers, base_scores = self.base.search(vector, depth, mask)
            numbers = np.concatenate([base_numbers, numbers])
            scores = np.concatenate([base_scores, scores])
        return best(numbers, scores, depth)

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


def dots(matrix: Floats, vector: Floats) -> Floats:
    """Dot product of each row with `vector`, row by row: equal rows get equal scores wherever they
    stand, which the blocks of a matrix product do not give."""
    return np.asarray(np.vecdot(matrix, vector))


def best(numbers: Numbers, scores: Floats, depth: int) -> tuple[Numbers, Floats]:
    """The `depth` greatest scores, best first, equal ones by number."""
    order = np.lexsort((numbers, -scores))[:depth]
    return numbers[order], scores[order]


def tail_too_long(record: BaseRecord | None, tail: int) -> bool:
    """Whether the base should be written anew when `tail` passages came after it."""
    return tail > min(TAIL_PART * (record.count if record else 0), TAIL_MOST)


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
    sync_folder(folder)
    return BaseRecord(file.name, generation, index.ntotal, last, size, digest)


def file_fault(folder: Path, record: BaseRecord) -> str | None:
    """What is wrong with the bytes of a base file, read whole; None if nothing is."""
    try:
        with (folder / record.file).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"{record.file} cannot be read: {error.strerror}"
    return None if digest == record.sha256 else f"{record.file} has changed since it was written"


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
