"""Token vectors made small: turned, cut to their main directions, two bits a direction.

A token's vector is scaled to unit length, centred, and turned onto 256 directions; each coordinate,
divided by its standard deviation, becomes one of the four levels that lose least of a normal
distribution (Max 1960, doi:10.1109/TIT.1960.1057548). That is 64 bytes a token. A question's
vectors are turned likewise and keep their precision, so that `question(q) @ expand(compress(x)).T`
stands for the inner products of the vectors themselves.

For the default model the directions are principal ones, fitted by `eval/fit.py` and shipped;
another model's are random orthogonal ones, which need no data and keep somewhat less.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from rag.types import Codes, Floats

DIRECTIONS = 256

INNER, OUTER = 0.4528, 1.5104
DECISION_LEVEL = 0.9816
"""Halfway between the two: what is beyond it becomes the outer one."""

LEVELS: Floats = np.array([-OUTER, -INNER, INNER, OUTER], dtype=np.float32)

RANDOM = "random orthogonal, seed 0"
"""Stands for the fingerprint of a projection that only the number of dimensions decides."""

PER_BYTE = 4
_SHIFTS: Codes = np.array([0, 2, 4, 6], dtype=np.uint8)

# The four levels of each byte, as one 16-byte item, so that expanding is a single gather.
_EXPANDED = np.ascontiguousarray(
    LEVELS[(np.arange(256)[:, None] >> _SHIFTS) & 3], dtype=np.float32
).view(np.complex128)[:, 0]


@dataclass(frozen=True)
class Projection:
    """`mean` (dimension,), `basis` (dimension, directions), `deviation` (directions,): float32."""

    mean: Floats
    basis: Floats
    deviation: Floats
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.mean, self.basis, self.deviation)
        together = b"".join(np.ascontiguousarray(part, dtype="<f4").tobytes() for part in parts)
        object.__setattr__(self, "fingerprint", hashlib.sha256(together).hexdigest())

    def compress(self, vectors: Floats) -> Codes:
        """Token vectors, a row each, as bytes: uint8 of shape (tokens, directions / 4)."""
        scaled = self._turned(vectors) / self.deviation
        level = (
            (scaled > 0).astype(np.uint8) + (scaled > DECISION_LEVEL) + (scaled > -DECISION_LEVEL)
        )
        grouped = level.reshape(len(level), level.shape[1] // PER_BYTE, PER_BYTE) << _SHIFTS
        return np.asarray(np.bitwise_or.reduce(grouped, axis=2), dtype=np.uint8)

    def question(self, vectors: Floats) -> Floats:
        """A question's vectors, a row each, for inner products with expanded ones."""
        turned = _unit(self._turned(vectors))
        return np.asarray(turned * self.deviation, dtype=np.float32)

    def _turned(self, vectors: Floats) -> Floats:
        return np.asarray((_unit(vectors) - self.mean) @ self.basis, dtype=np.float32)


def expand(codes: Codes) -> Floats:
    """The levels that `compress` chose: float32 of shape (tokens, directions)."""
    flat = _EXPANDED.take(codes)
    return flat.view(np.float32).reshape(len(codes), codes.shape[1] * PER_BYTE)


@cache
def shipped_projection() -> Projection:
    """The default model's."""
    with files("rag").joinpath("projection.npz").open("rb") as stream:
        parts = np.load(stream, allow_pickle=False)
        return Projection(*(parts[name].astype(np.float32) for name in _PARTS))


_PARTS = ("mean", "basis", "deviation")


def random_projection(dimension: int) -> Projection:
    """Orthogonal directions drawn with a fixed seed, for vectors of any model.

    As many as `dimension` has, 256 at most, and a multiple of four.
    """
    directions = min(DIRECTIONS, max(PER_BYTE, dimension // PER_BYTE * PER_BYTE))
    # RandomState's stream never changes, and with the signs of R the factors are unique.
    drawn = np.random.RandomState(0).normal(size=(max(dimension, directions), directions))
    turned, triangle = np.linalg.qr(drawn)
    basis = (turned * np.sign(np.diag(triangle)))[:dimension].astype(np.float32)
    spread = np.full(directions, dimension**-0.5, dtype=np.float32)
    return Projection(np.zeros(dimension, dtype=np.float32), basis, spread)


def fitted_projection(
    vectors: npt.NDArray[np.floating], directions: int = DIRECTIONS
) -> Projection:
    """Principal directions of a sample of token vectors, a row each."""
    units = _unit(np.asarray(vectors, dtype=np.float32))
    mean = units.mean(axis=0)
    centred = units - mean
    basis = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :directions].astype(np.float32)
    return Projection(mean, basis, (centred @ basis).std(axis=0))


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)
