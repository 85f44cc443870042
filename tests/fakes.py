"""Stand-ins for the parts that are slow: an encoder that is words hashed into a small vector."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from rag.types import EncodedQuestion, Encoding, Floats

DIMENSION = 32

_WORD = re.compile(r"\w+|[^\w\s]")


class FakeEncoder:
    """An `Encoder` without a model: equal words give near vectors, equal seeds equal ones.

    A token is a word or a mark. Safe for threads, but for the counters `passages_encoded` and
    `questions_encoded`.
    """

    def __init__(self, *, name: str = "fake", seed: int = 0, window: int = 256) -> None:
        self._name = name
        self._seed = seed
        self._window = window
        self.passages_encoded = 0
        self.questions_encoded = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def fingerprint(self) -> str:
        return f"{self._name}-{self._seed}-{DIMENSION}"

    @property
    def window(self) -> int:
        return self._window

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) for text in texts]

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        counts = self.count(texts)
        if counts and max(counts) > self._window:
            raise ValueError(f"{max(counts)} tokens are over the window of {self._window}")
        self.passages_encoded += len(texts)
        return [
            Encoding(self._vector(text), count) for text, count in zip(texts, counts, strict=True)
        ]

    def encode_question(self, text: str) -> EncodedQuestion:
        self.questions_encoded += 1
        words = _WORD.findall(text)
        seen = words[: self._window]
        encoding = Encoding(self._vector(" ".join(seen)), len(seen))
        return EncodedQuestion(encoding, len(words), len(seen))

    def _vector(self, text: str) -> Floats:
        vector = np.zeros(DIMENSION, dtype=np.float32)
        vector[0] = 0.1  # a text without a word has a direction too
        for word in _WORD.findall(text.lower()):
            number = zlib.crc32(f"{self._seed} {word}".encode())
            vector[number % DIMENSION] += 1.0 if number & 0x10000 else -1.0
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length)
