"""Search and question answering over a news archive, with quotes that can be checked."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Libraries read these when they are imported, and whatever of ours imports one is imported after
# this. onnxruntime would keep a record of each process in the user's cache and send it away; its
# own call to stop that, disable_telemetry_events, comes too late for what an import records.
os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1")

from rag.ingest import ingest  # now, since its module has the same name

if TYPE_CHECKING:
    from rag.archive import Archive
    from rag.encode import load_encoder
    from rag.read import read_paths
    from rag.searcher import Searcher
    from rag.types import Answer, Article, Citation, Filters

__all__ = [
    "Answer",
    "Archive",
    "Article",
    "Citation",
    "Filters",
    "Searcher",
    "ingest",
    "load_encoder",
    "read_paths",
]

_MODULES = {
    "Archive": "archive",
    "Searcher": "searcher",
    "load_encoder": "encode",
    "read_paths": "read",
}


def __getattr__(name: str) -> object:
    """Import a part when it is asked for: reading pages, say, is not needed to ask a question."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"rag.{_MODULES.get(name, 'types')}"), name)
