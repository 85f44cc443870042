"""The work of run.py as this package does it, every stage of the ranking included."""

import tempfile
import time
from collections.abc import Mapping
from typing import Any

BEGAN = time.perf_counter()
from rag.archive import Archive  # noqa: E402 - the imports are timed
from rag.encode import load_encoder  # noqa: E402
from rag.ingest import ingest  # noqa: E402
from rag.searcher import Searcher  # noqa: E402
from rag.types import Article  # noqa: E402

ENCODER = load_encoder()
ENCODER.warm()
IMPORTED_S = time.perf_counter() - BEGAN

from measured import asked, main  # noqa: E402


def work(given: Mapping[str, Any]) -> dict[str, Any]:
    """Add, then ask."""
    articles = [Article(**each) for each in given["articles"]]
    with tempfile.TemporaryDirectory(prefix="rag-peers-") as folder:
        archive = Archive(folder)
        began = time.perf_counter()
        ingest(archive, ENCODER, articles)
        indexed_s = time.perf_counter() - began
        searcher = Searcher(archive, ENCODER)

        def ask(question: str) -> list[str]:
            answer = searcher.ask(question, top_k=given["depth"])
            found = [citation.hit.article.id for citation in answer.citations]
            return list(dict.fromkeys(found))

        measured = asked(ask, given["questions"])
        archive.close()
    return {"import_s": IMPORTED_S, "index_s": indexed_s, **measured}


if __name__ == "__main__":
    main(work)
