"""The settings: from the environment (`RAG_…`), overridden by the command line. No file is read.

Only the command line and the server import this; everything below takes plain values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rag.confidence import THRESHOLD
from rag.encode import user_cache
from rag.errors import InvalidRequest
from rag.fuse import LEXICAL_WEIGHT
from rag.locks import LOCK_TIMEOUT_S
from rag.logs import Style
from rag.models import DEFAULT_MODEL
from rag.searcher import QUESTION_CHARACTERS
from rag.tokens import DEFAULT_ENCODING, token_counter

PREFIX = "RAG_"
MEBIBYTE = 1024 * 1024
SHOWN_CHARACTERS = 60
"""How much of a bad value is repeated in the error."""

_HOST_NAME = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?"
)
_NAME_AND_PORT = re.compile(r"[^:]*:\d+")


class Settings(BaseSettings):
    """Everything that can be set. An empty variable counts as one that is not set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    index: Path = Field(default=Path("index"), description="Folder of the archive.")
    model: str = Field(
        default=DEFAULT_MODEL,
        description="Name or folder of the sentence-transformers model.",
        min_length=1,
    )
    cache: Path = Field(
        default_factory=user_cache, description="Folder where exported models are kept."
    )
    host: str = Field(default="127.0.0.1", description="Address that the server listens at.")
    port: int = Field(
        default=8000,
        description="Port that the server listens at; 0 takes a free one.",
        ge=0,
        le=65_535,
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names, separated by commas, that the server answers to besides those of "
        "this machine's loopback and its own address.",
    )
    allow_anyone: bool = Field(
        default=False,
        description="Listen beyond loopback while there is no key: everybody may come in.",
    )
    max_wrong_keys_per_minute: int = Field(
        default=10,
        description="Wrong keys that an address may send in a minute; one more gets 429.",
        ge=1,
    )
    max_text_bytes: int = Field(
        default=10 * MEBIBYTE, description="Longest text of an article, in bytes of UTF-8.", ge=1
    )
    max_body_bytes: int = Field(
        default=32 * MEBIBYTE, description="Longest body of an HTTP request, in bytes.", ge=1
    )
    max_question_characters: int = Field(
        default=QUESTION_CHARACTERS, description="Longest question, in characters.", ge=1
    )
    max_articles_per_call: int = Field(
        default=1000, description="Most articles in one call of POST /articles.", ge=1
    )
    max_requests_at_once: int = Field(
        default=128,  # at 100 questions a second the last one waits little more than a second
        description="Requests that the server works on at a time, half of which may change the "
        "archive; one more gets 429.",
        ge=1,
    )
    max_connections: int = Field(
        default=512,
        description="Connections that the server has at a time; for one more it closes that whose "
        "request comes the slowest. If it is at work for all, what comes on that one gets 429.",
        ge=1,
    )
    queue_timeout_s: float = Field(
        default=5,
        description="How long a question waits for its turn before it gets 503, in seconds.",
        ge=0,
        allow_inf_nan=False,
    )
    load_timeout_s: float = Field(
        default=60,
        description="How long a question or articles wait for a model that is loading before they "
        "get 503, in seconds.",
        ge=0,
        allow_inf_nan=False,
    )
    body_timeout_s: float = Field(
        default=30,
        description="How long a client may take to send a request's head, or its body, or to take "
        "the next part of a response, in seconds.",
        gt=0,
        allow_inf_nan=False,
    )
    keep_alive_s: int = Field(
        default=5,
        description="How long a connection is kept for the next request, in seconds; behind a "
        "proxy more than the proxy keeps it.",
        ge=0,
    )
    shutdown_timeout_s: int = Field(
        default=10,
        description="How long requests may take to end once the server is told to, in seconds.",
        ge=0,
    )
    log: Style = Field(
        default=Style.OFF,
        description="Whether each request is logged, and how: off, text or json. Warnings and "
        "errors are logged in each case.",
    )
    log_questions: bool = Field(
        default=False, description="Whether the log of requests holds the questions' text."
    )
    check_hours: float = Field(
        default=24,
        description="How often the server checks its archive, in hours, in a process of its own; "
        "0: never.",
        ge=0,
        le=24 * 366,
        allow_inf_nan=False,
    )
    lock_timeout_s: float = Field(
        default=LOCK_TIMEOUT_S,
        description="How long a writer waits for another one, in seconds.",
        ge=0,
        allow_inf_nan=False,
    )
    passage_tokens: int | None = Field(
        default=None,
        description="Budget of a passage in the model's tokens; by default the archive's own, "
        "else 100.",
        ge=1,
    )
    lexical_weight: float = Field(
        default=LEXICAL_WEIGHT,
        description="Share of the words in a passage's score, the rest being the meaning's.",
        ge=0,
        le=1,
    )
    answer_threshold: float = Field(
        default=THRESHOLD,
        description="Confidence from which a question counts as answered.",
        ge=0,
        le=1,
    )
    token_encoding: str = Field(
        default=DEFAULT_ENCODING, description="tiktoken encoding that a token budget is counted in."
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            names = (name.strip().removesuffix(".") for name in value.split(","))
            return tuple(name for name in names if name)
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if _NAME_AND_PORT.fullmatch(name) or not _HOST_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a host name; give names only, without a port")
        return names

    @field_validator("token_encoding")
    @classmethod
    def _is_at_hand(cls, name: str) -> str:
        if name != DEFAULT_ENCODING:
            try:
                token_counter(name)
            except InvalidRequest as error:
                raise ValueError(error.problem) from None
        return name


def load_settings(**given: Any) -> Settings:
    """The settings: `given` (None is not given), else the environment, else the defaults.

    Raises InvalidRequest, which names the variable of each bad value.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [(_variable(each["loc"]), _problem(each)) for each in error.errors()]
    first, *others = problems
    rest = "".join(f"; {variable}: {problem}" for variable, problem in others)
    raise InvalidRequest(first[0], first[1] + rest)


def unknown_variables(names: Iterable[str]) -> list[str]:
    """What to say of each environment variable that looks like a setting and is none."""
    known = [_variable((name,)) for name in Settings.model_fields]
    said = []
    for name in sorted(names):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = get_close_matches(name.upper(), known, n=1)
            said.append(f"{name} is no setting" + "".join(f"; {each} is one" for each in near))
    return said


def _variable(location: tuple[int | str, ...]) -> str:
    return f"{PREFIX}{location[0]}".upper()


def _problem(error: Any) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    shown = str(error["input"])
    if len(shown) > SHOWN_CHARACTERS:
        shown = shown[:SHOWN_CHARACTERS] + "…"
    return f"{error['msg']}, not {shown!r}"
