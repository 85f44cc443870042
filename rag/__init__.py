"""Search and question answering over a news archive, with quotes that can be checked."""

from rag.archive import Archive
from rag.encode import load_encoder
from rag.ingest import ingest
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
