"""A process that changes an archive as it is told, and says when a call has returned."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rag import vectors
from rag.archive import Archive
from rag.types import Article, Encoding
from tests.fakes import FakeEncoder, add

FSYNC_S = 0.005


@dataclass(frozen=True, slots=True)
class Change:
    """What to do: `add` (which revises too) these articles, `remove` these ids, `rebuild`."""

    kind: str
    articles: tuple[Article, ...] = ()
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The call has returned: which generation it said, and what it had to encode."""

    generation: int
    encoded: tuple[str, ...]


class NotingEncoder(FakeEncoder):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def encode_passages(self, texts: list[str]) -> list[Encoding]:  # type: ignore[override]
        self.noted += texts
        return super().encode_passages(texts)


def make_small() -> None:
    """Have a small archive do what large ones do: a base with codes, written every few changes."""
    vectors.EXACT_MOST = 16
    vectors.TAIL_MOST = 4


def take_as_long_as_a_disk() -> None:
    """Have files that the kernel only keeps in memory take their time to last."""
    fsync = os.fsync

    def slowly(descriptor: int) -> None:
        time.sleep(FSYNC_S)
        fsync(descriptor)

    os.fsync = slowly  # type: ignore[assignment]


def change_as_told(folder: Path, told: Connection) -> None:
    """Until it is killed."""
    make_small()
    take_as_long_as_a_disk()
    with closing(Archive(folder)) as archive:
        told.send("ready")
        while True:
            change: Change = told.recv()
            encoder = NotingEncoder()
            generation = apply(archive, encoder, change)
            told.send(Done(generation, tuple(encoder.noted)))


def apply(archive: Archive, encoder: FakeEncoder, change: Change) -> int:
    """Make one change; the generation it is published as."""
    if change.kind == "add":
        return add(archive, encoder, *change.articles).generation
    if change.kind == "remove":
        generation = archive.remove(change.ids).generation
        archive.renew_base()
        return generation
    return archive.rebuild()
