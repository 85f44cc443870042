"""The command `rag bench`: measures this machine, prints tables, writes JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag import opening
from rag.errors import InvalidRequest
from rag.measuring import OWN_ARTICLES, OWN_SET, require_folder
from rag.options import AsJson, Index

if TYPE_CHECKING:
    from rag.benchmark import Workload

ENCODED = 256
"""Passages of one round of encoding."""

ROUNDS = 5
STARTS = 3

ASKED = 300
"""Questions of one measurement."""

REPORTED = {
    *("commit", "machine", "model", "set"),
    *("encode", "ingest", "start", "questions", "while_adding", "disk", "growth"),
}
"""Entries of a report."""

Set = Annotated[
    Path | None,
    typer.Argument(
        help=f"A BEIR folder to take articles and questions from (default: {OWN_SET}).",
        metavar="SET",
    ),
]
Sizes = Annotated[
    str,
    typer.Option(
        "--passages",
        help="Sizes of made-up archives, drawn from the set; '' for none.",
        metavar="N,...",
    ),
]
Clients = Annotated[str, typer.Option(help="Clients that ask at a time.", metavar="N,...")]
Out = Annotated[
    Path | None, typer.Option(help="Write everything as JSON.", metavar="FILE", dir_okay=False)
]
Plot = Annotated[
    Path | None,
    typer.Option(
        help="Draw time, memory and disk by passages as SVG.", metavar="FILE.svg", dir_okay=False
    ),
]
Earlier = Annotated[
    Path | None,
    typer.Option("--from", help="Measure nothing: take what --out wrote before.", metavar="FILE"),
]


def bench(
    workload_set: Set = None,
    index: Index = None,
    sizes: Sizes = "1000,10000",
    clients: Clients = "1,4,16",
    out: Out = None,
    plot: Plot = None,
    earlier: Earlier = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed, memory and start-up on this machine; takes minutes.

    --index names a new folder where the archive is kept, instead of a temporary one.
    """
    numbers = _numbers("passages", sizes), _numbers("clients", clients)
    if not numbers[1]:
        raise InvalidRequest("clients", "name at least one number")
    if earlier is not None and (workload_set is not None or index is not None):
        raise InvalidRequest("from", "nothing is measured then: leave out SET and --index")
    report = None if earlier is None else _read(earlier)
    _require_writable(out, plot, numbers[0] if report is None else report["growth"])
    if report is None:
        report = _measured(_workload(workload_set), index, *numbers)
    try:
        _told(report, out, plot, as_json=as_json)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if earlier is None:
            raise
        raise InvalidRequest("from", f"{earlier} cannot be shown: {error!r}") from None


def _told(report: dict[str, Any], out: Path | None, plot: Path | None, *, as_json: bool) -> None:
    from rag import tables
    from rag.growth import write_plot
    from rag.report import write_report

    if out is not None:
        write_report(report, out)
    if plot is not None:
        write_plot(report, plot)
    if as_json:
        opening.print_json(report)
    else:
        tables.bench(report)


def _numbers(field: str, text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise InvalidRequest(field, f"{text!r} is not a list of numbers, as in 1000,10000")
    return found


def _read(file: Path) -> dict[str, Any]:
    """A report that was written before. Raises InvalidRequest."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest("from", f"{file} cannot be read: {error}") from None
    if not isinstance(report, dict) or not report.keys() >= REPORTED:
        raise InvalidRequest("from", f"{file} is no report of this version's rag bench")
    return report


def _require_writable(out: Path | None, plot: Path | None, grown: Sequence[object]) -> None:
    """Raise InvalidRequest for what could not be written, before anything is measured."""
    for field, file in (("out", out), ("plot", plot)):
        if file is not None:
            require_folder(field, file.parent)
    if plot is not None and not grown:
        raise InvalidRequest("plot", "it shows made-up archives: name their sizes by --passages")


def _workload(path: Path | None) -> Workload:
    """The articles and questions of the set at `path`, or of the own set without one."""
    from rag import sets
    from rag.benchmark import Workload
    from rag.types import Article

    about = OWN_ARTICLES if path is None else None
    most = opening.settings(None).max_text_bytes
    opened = sets.open_set(path or OWN_SET, about, max_text_bytes=most)
    articles = [each for each in opened.articles if isinstance(each, Article)]
    if not articles:
        raise InvalidRequest("set", f"{path} has no articles; name a folder in BEIR form")
    return Workload(opened.name, articles, list(opened.queries.values()))


def _temporary() -> tempfile.TemporaryDirectory[str]:
    """A new folder. A thread of tantivy's that looks at it to the last is no reason to fail."""
    return tempfile.TemporaryDirectory(prefix="rag-bench-", ignore_cleanup_errors=True)


@contextmanager
def _folder(index: Path | None) -> Iterator[Path]:
    """The folder to build in: a new one, or one that is named and has no archive yet."""
    if index is None:
        with _temporary() as temporary:
            yield Path(temporary)
        return
    if index.exists() and (not index.is_dir() or any(index.iterdir())):
        raise InvalidRequest("index", f"{index} is not an empty folder; a new one is needed")
    yield index


def _measured(
    workload: Workload, index: Path | None, sizes: Sequence[int], clients: Sequence[int]
) -> dict[str, Any]:
    from rag import benchmark
    from rag.report import commit, machine
    from rag.show import steps

    encoder = opening.encoder(opening.settings(index))
    with _folder(index) as folder, steps() as step:
        step("loading the model")
        encoder.warm()
        step(f"adding {len(workload.articles):,} articles")
        ingested = benchmark.ingest_rate(folder, encoder, workload.articles)
        step("encoding")
        texts = benchmark.stored_texts(folder, ENCODED)
        encoded = benchmark.encoding_rate(encoder, texts, ROUNDS)
        step("starting")
        started = benchmark.start_up(folder, workload.questions[0], STARTS)
        asked = []
        for length, questions in benchmark.lengths(workload.questions[:ASKED]).items():
            step(f"asking {len(questions)} {length} questions")
            found = benchmark.questions(folder, encoder, questions, clients)
            asked += [{"length": length, **each} for each in found]
        whole = workload.questions[:ASKED]
        disk = benchmark.disk(folder)
        growth = []
        for passages in sizes:
            step(f"building and asking {passages:,} made-up passages")
            with _temporary() as place:
                made = Path(place) / "index"
                growth.append(benchmark.grown(folder, made, encoder, whole, passages))
        step("asking while articles come in")
        adding = benchmark.while_adding(folder, whole, workload.articles)
        return {
            "commit": commit(),
            "machine": machine(),
            "model": encoder.name,
            "set": workload.name,
            "encode": encoded,
            "ingest": ingested,
            "start": started,
            "questions": asked,
            "while_adding": adding,
            "disk": disk,
            "growth": growth,
        }
