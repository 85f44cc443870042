"""What the commands open: settings, an archive, a searcher."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.archive import Archive
    from rag.config import Settings
    from rag.encode import LazyEncoder
    from rag.searcher import Searcher


def settings(index: Path | None, **given: Any) -> Settings:
    """The settings, what was given on the command line before the environment. A variable that is
    none of them is told of on standard error."""
    from rag import show
    from rag.config import load_settings, unknown_variables

    for line in unknown_variables(os.environ):
        show.err.print(line, markup=False)
    values = {name: value for name, value in given.items() if value is not None}
    if index is not None:
        values["index"] = index
    return load_settings(**values)


@contextmanager
def archive(settings: Settings) -> Iterator[Archive]:
    """The archive, closed at the end."""
    from rag.archive import Archive

    archive = Archive(settings.index, lock_timeout_s=settings.lock_timeout_s)
    try:
        yield archive
    finally:
        archive.close()


def encoder(settings: Settings) -> LazyEncoder:
    """The encoder of the model; what the user should know of it goes to standard error."""
    from rag import show
    from rag.encode import load_encoder

    return load_encoder(
        settings.model,
        index=settings.index,
        cache=settings.cache,
        tell=lambda line: show.err.print(line, markup=False),
    )


@contextmanager
def searcher(settings: Settings) -> Iterator[Searcher]:
    """A searcher of the archive, its model loaded."""
    from rag import show
    from rag.searcher import Searcher

    with archive(settings) as opened:
        model = encoder(settings)
        searcher = Searcher(
            opened,
            model,
            lexical_weight=settings.lexical_weight,
            threshold=settings.answer_threshold,
            question_characters=settings.max_question_characters,
        )
        with show.waiting("Loading the model"):
            model.warm()
        yield searcher


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, ensure_ascii=False))
