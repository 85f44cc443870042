"""Token counts: right, safe on any text, and without a network."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiktoken
import tiktoken.load
import tiktoken.registry
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import InvalidRequest
from rag.tokens import (
    DEFAULT_ENCODING,
    LONGEST_RUN,
    WELL_KNOWN,
    CachedFile,
    _blocks,
    available_encodings,
    token_counter,
)

# What eval/train_encoding.py prints. Another file needs another name than rag_news_v1.
SHA256 = "792dbd82b449ee304113d5d736b245ef808a2deaebeb7c407a4c0c6fa68e0ab8"

ADDRESS = "https://example.invalid/tiny.tiktoken"
RANKS = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
TINY = CachedFile(
    hashlib.sha1(ADDRESS.encode()).hexdigest(),
    hashlib.sha256(RANKS).hexdigest(),
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt at a connection fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of tiktoken's, and a registry that forgets what it loads."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    return tmp_path


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """A well-known encoding of one token a byte, made as tiktoken makes its own."""

    def construct() -> dict[str, Any]:
        ranks = tiktoken.load.load_tiktoken_bpe(ADDRESS, expected_hash=TINY.sha256)
        return {
            "name": "tiny",
            "pat_str": r"\S+|\s+",
            "mergeable_ranks": ranks,
            "special_tokens": {},
        }

    assert "rag_news_v1" in tiktoken.list_encoding_names()  # fills the table of constructors
    constructors = tiktoken.registry.ENCODING_CONSTRUCTORS
    assert constructors is not None
    monkeypatch.setitem(constructors, "tiny", construct)
    monkeypatch.setitem(WELL_KNOWN, "tiny", TINY)
    return "tiny"


def test_tiktoken_finds_our_encoding_beside_its_own() -> None:
    assert {DEFAULT_ENCODING, *WELL_KNOWN} <= set(tiktoken.list_encoding_names())


def test_the_encoding_never_changes_under_its_name() -> None:
    data = files("rag").joinpath("news_bpe.tiktoken").read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256


def test_every_byte_is_a_token() -> None:
    encoding = tiktoken.get_encoding(DEFAULT_ENCODING)
    assert set(range(256)) <= {
        token[0] for token in encoding.token_byte_values() if len(token) == 1
    }


@given(st.text())
@settings(deadline=None)
def test_any_text_comes_back_whole(text: str) -> None:
    encoding = tiktoken.get_encoding(DEFAULT_ENCODING)
    assert encoding.decode(encoding.encode_ordinary(text)) == text
    assert token_counter().count(text) == len(encoding.encode_ordinary(text))


@given(st.text(st.characters(codec=None), max_size=50))
@settings(deadline=None)
def test_lone_surrogates_are_counted(text: str) -> None:
    assert token_counter().count(text) >= (1 if text else 0)


def test_no_text_has_no_tokens() -> None:
    assert token_counter().count("") == 0


def test_special_tokens_are_plain_text(cache: Path, tiny: str) -> None:
    (cache / TINY.name).write_bytes(RANKS)
    assert token_counter(tiny).count("<|endoftext|>") == len("<|endoftext|>")
    assert token_counter().count("<|endoftext|>") > 1


LENGTHS = [1, 2, LONGEST_RUN - 1, LONGEST_RUN, LONGEST_RUN + 1, 2 * LONGEST_RUN + 3]


@given(st.lists(st.tuples(st.sampled_from(["a", "é", " ", "\n"]), st.sampled_from(LENGTHS))))
@settings(max_examples=30, deadline=None)
def test_text_is_cut_only_inside_long_runs(parts: list[tuple[str, int]]) -> None:
    text = "".join(letter * length for letter, length in parts)
    blocks = list(_blocks(text))
    assert "".join(blocks) == text
    assert max(map(_longest_run, blocks)) <= LONGEST_RUN
    assert (len(blocks) == 1) == (_longest_run(text) <= LONGEST_RUN)


def _longest_run(text: str) -> int:
    return max((len(list(run)) for _, run in groupby(text, str.isspace)), default=0)


@pytest.mark.parametrize(
    "part",
    ["a", " ", "\n", "!", "7", "語", "\u0301", "aB", " \n", "🦊", "a" * (LONGEST_RUN - 1) + " "],
    ids=lambda part: ascii(part[-9:]),
)
def test_a_megabyte_of_one_thing_is_counted_in_time(part: str) -> None:
    text = part * (1_000_000 // len(part.encode())) + "x"
    began = time.perf_counter()
    assert 0 < token_counter().count(text) <= len(text.encode())
    assert time.perf_counter() - began < 5  # seconds; at most 0.1 measured


@pytest.mark.usefixtures("offline")
def test_counting_needs_no_network(cache: Path) -> None:
    assert token_counter().count("Who warned of spillover?") > 0
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", [*WELL_KNOWN, "gpt2"])
def test_a_missing_encoding_is_refused(name: str, cache: Path) -> None:
    with pytest.raises(InvalidRequest, match=name) as refused:
        token_counter(name)
    assert refused.value.field == "token encoding"
    assert refused.value.problem.endswith("available here: rag_news_v1")
    if name in WELL_KNOWN:
        assert str(cache / WELL_KNOWN[name].name) in refused.value.problem


@pytest.mark.usefixtures("offline")
def test_a_torn_file_is_refused_and_left_alone(cache: Path, tiny: str) -> None:
    (cache / TINY.name).write_bytes(RANKS[:-1])
    with pytest.raises(InvalidRequest, match="not on this machine"):
        token_counter(tiny)
    assert (cache / TINY.name).read_bytes() == RANKS[:-1]


@pytest.mark.usefixtures("offline")
def test_a_cached_encoding_counts(cache: Path, tiny: str) -> None:
    (cache / TINY.name).write_bytes(RANKS)
    counter = token_counter(tiny)
    assert (counter.encoding, counter.count("für")) == (tiny, 4)
    assert available_encodings() == [DEFAULT_ENCODING, tiny]


@pytest.mark.usefixtures("offline")
def test_a_cache_switched_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with pytest.raises(InvalidRequest, match="TIKTOKEN_CACHE_DIR"):
        token_counter("cl100k_base")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", "TMPDIR"])
def test_files_are_looked_for_where_tiktoken_does(
    variable: str, cache: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv(variable, str(cache))
    folder = cache / "data-gym-cache" if variable == "TMPDIR" else cache
    folder.mkdir(exist_ok=True)
    (folder / TINY.name).write_bytes(RANKS)
    assert token_counter(tiny).count("abc") == 3


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_the_table_names_the_files_that_tiktoken_asks_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def record(address: str, expected_hash: str | None = None) -> bytes:
        asked.append((hashlib.sha1(address.encode()).hexdigest(), expected_hash))
        return b""

    monkeypatch.setattr(tiktoken.load, "read_file_cached", record)
    assert name in tiktoken.list_encoding_names()
    constructors = tiktoken.registry.ENCODING_CONSTRUCTORS
    assert constructors is not None
    constructors[name]()
    assert asked == [(WELL_KNOWN[name].name, WELL_KNOWN[name].sha256)]
