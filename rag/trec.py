"""Run and qrels files as trec_eval and ir_measures read them, so that others can measure too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rag.errors import InvalidRequest
from rag.measures import Qrels, Run

QRELS_FILE = "qrels.txt"


def require_names(query_ids: Iterable[str]) -> None:
    """Raise InvalidRequest for a query id that would not be one word of a line."""
    for query_id in query_ids:
        if len(query_id.split()) != 1 or query_id != query_id.strip():
            problem = f"the query id {query_id!r} is not one word, which lines of TREC files are of"
            raise InvalidRequest("trec", problem)


def write_trec(folder: Path, runs: Mapping[str, Run], qrels: Qrels) -> list[Path]:
    """Write `qrels.txt` and `<stage>.run` for every stage into `folder`; what was written.

    A line of a run is `query Q0 article rank score stage`; the score is the rank turned round,
    since scores before and behind a deepening cannot be compared. Raises InvalidRequest.
    """
    require_names(qrels)
    judgements = [
        f"{query_id} 0 {article} {relevance}"
        for query_id, articles in qrels.items()
        for article, relevance in articles.items()
    ]
    files = {QRELS_FILE: judgements}
    for stage, run in runs.items():
        files[f"{stage}.run"] = [
            f"{query_id} Q0 {article} {rank} {len(articles) - rank + 1} {stage}"
            for query_id, articles in run.items()
            for rank, article in enumerate(articles, start=1)
        ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [folder / name for name in files]
