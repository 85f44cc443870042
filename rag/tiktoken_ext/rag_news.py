"""The token encoding that this package adds to tiktoken, which finds it by this folder's name.

`tiktoken_ext` is a namespace shared with tiktoken and every other plug-in, so this folder must
never hold an `__init__.py`. The ranks lie in the package: nothing is fetched on first use.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RANKS_FILE = "news_bpe.tiktoken"

# Tokens never reach across these pieces: contractions, words, numbers and runs of marks, each with
# the space before it, line ends, and white space but for the space that the next word takes.
PATTERN = (
    r"['’](?i:[sdmt]|ll|re|ve)(?!\p{L})"
    r"| ?[\p{L}\p{M}]+"
    r"| ?\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


def ranks_path() -> Path:
    """Where the ranks lie: beside the modules of `rag`, none of which is imported to find them."""
    package = find_spec("rag")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name(RANKS_FILE)


def read_ranks(data: bytes) -> dict[bytes, int]:
    """Tokens with their ranks, from lines of a base64 token, a space and a rank."""
    pairs = (line.split() for line in data.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def rag_news_v1() -> dict[str, Any]:
    """What tiktoken builds the encoding from: byte-level, so any text comes back whole."""
    return {
        "name": "rag_news_v1",
        "pat_str": PATTERN,
        "mergeable_ranks": read_ranks(ranks_path().read_bytes()),
        "special_tokens": {},
    }


ENCODING_CONSTRUCTORS: dict[str, Callable[[], dict[str, Any]]] = {"rag_news_v1": rag_news_v1}
