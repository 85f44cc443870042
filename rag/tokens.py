"""Token counts for readers who pay by the token; which encoding counted is always named.

`rag_news_v1` comes with this package. The well-known encodings of tiktoken count too, where their
files lie in tiktoken's cache. Left alone, tiktoken would fetch a missing file, so it is only asked
for an encoding whose file is there and whole: nothing here opens a connection.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import tiktoken

from rag.errors import InvalidRequest

DEFAULT_ENCODING = "rag_news_v1"

# Measured with tiktoken 0.14: between 250,000 and 1,000,000 white spaces in a row it panics, and a
# run of one letter costs more per letter the longer it is. Ordinary text has no run of this length.
LONGEST_RUN = 16_384

# The look-behind has each run tried once, at its start, so that the search takes linear time.
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{LONGEST_RUN}}}\S*|(?<!\s)\s{{{LONGEST_RUN}}}\s*")


@dataclass(frozen=True, slots=True)
class CachedFile:
    """The one file of an encoding in tiktoken's cache folder: its name there and its SHA-256."""

    name: str
    sha256: str

    def is_in(self, folder: Path) -> bool:
        """Whether it is there with just these bytes; tiktoken fetches any other one again."""
        try:
            with (folder / self.name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


_P50K = CachedFile(
    "ec7223a39ce59f226a68acc30dc1af2788490e15",
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
)
_O200K = CachedFile(
    "fb374d419588a4632f3f557e76b4b70aebbca790",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
)

# Every encoding of tiktoken but gpt2, which is kept in two files and counts as r50k_base does.
WELL_KNOWN: dict[str, CachedFile] = {
    "r50k_base": CachedFile(
        "0ea1e91bbb3a60f729a8dc8f777fd2fc07cd8df4",
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    ),
    "p50k_base": _P50K,
    "p50k_edit": _P50K,
    "cl100k_base": CachedFile(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": _O200K,
    "o200k_harmony": _O200K,
}


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts the tokens of a text in the encoding that it names."""

    encoding: str
    _tiktoken: tiktoken.Encoding = field(repr=False)

    def count(self, text: str) -> int:
        """Tokens in `text`, any text at all; what looks like a special token is plain text.

        A run of more than `LONGEST_RUN` characters with or without white space is counted in
        blocks of that length, which may add a token for each block.
        """
        return sum(len(self._tiktoken.encode_ordinary(block)) for block in _blocks(text))


def token_counter(name: str = DEFAULT_ENCODING) -> TokenCounter:
    """The counter of an encoding. Raises InvalidRequest for one that is not on this machine."""
    if name != DEFAULT_ENCODING:
        _require(name)
    return TokenCounter(name, tiktoken.get_encoding(name))


def available_encodings() -> list[str]:
    """Names of the encodings that count on this machine, our own first."""
    folder = _cache_folder()
    cached = [name for name, file in WELL_KNOWN.items() if folder and file.is_in(folder)]
    return [DEFAULT_ENCODING, *cached]


def _require(name: str) -> None:
    """Raise InvalidRequest unless the file of the encoding `name` is in tiktoken's cache."""
    file, folder = WELL_KNOWN.get(name), _cache_folder()
    if file is None:
        problem = f"{name!r} is not known"
    elif folder is None:
        problem = f"{name!r} needs tiktoken's cache: set TIKTOKEN_CACHE_DIR to a folder, not to ''"
    elif not file.is_in(folder):
        place = f"put its file, of sha256 {file.sha256}, at {folder / file.name}"
        problem = f"{name!r} is not on this machine: {place}"
    else:
        return
    available = ", ".join(available_encodings())
    raise InvalidRequest("token encoding", f"{problem}; available here: {available}")


def _cache_folder() -> Path | None:
    """Where tiktoken looks for its files, by the rules of `tiktoken.load`; None where nowhere."""
    default = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    return Path(folder) if folder else None


def _blocks(text: str) -> Iterator[str]:
    """`text` in order and whole, cut only inside of runs that are too long."""
    cuts = [0]
    for run in _LONG_RUN.finditer(text):
        cuts.extend(range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN))
    cuts.append(len(text))
    return (text[start:end] for start, end in pairwise(cuts))
