"""The command line. Every command takes --index; with --json, stdout holds one JSON document."""

from __future__ import annotations

import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from rag import benching, keying, measuring, opening
from rag.errors import EXIT_FAILED, InvalidRequest, RagError, UnreadableItem, exit_code
from rag.opening import print_json
from rag.options import AsJson, AskedAt, From, Index, Source, To, TokenBudget, TopK

if TYPE_CHECKING:
    from rag.config import Settings
    from rag.types import Filters

NO_ARCHIVE = "there is no archive in this folder (is its disk there?); `rag add` begins one"

# What a command alone needs is imported in it: `rag ask` must not wait for the server's parts.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Ask a news archive questions; every answer is a quote that can be checked.",
)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 the call is wrong."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except RagError as error:
        _complain(type(error).__name__, error.title, str(error))
        sys.exit(exit_code(error))
    except TyperException as error:
        _complain("InvalidCall", "The call is not valid", error.format_message())
        sys.exit(error.exit_code)
    except typer.Abort:
        _complain("Interrupted", "Interrupted", "what was published before is kept")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        _complain("Interrupted", "Interrupted", "what was published before is kept")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_FAILED)


@app.callback(invoke_without_command=True)
def _options(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(f"rag {version('rag-archive')}")
        raise typer.Exit


@app.command()
def add(
    paths: Annotated[list[str], typer.Argument(help="Files and folders.", metavar="PATH...")],
    index: Index = None,
    as_json: AsJson = False,
) -> None:
    """Add files and folders, or revise what has changed in them.

    Markdown with front matter, plain text, JSON and JSON Lines, HTML; the text formats also
    gzipped. What cannot be read is named, and the rest goes in.
    """
    from rag import show, wire
    from rag.ingest import ingest
    from rag.read import read_paths, size_of

    settings = opening.settings(index)
    progress = show.IngestProgress(size_of(paths))
    with opening.archive(settings) as archive, progress.running():
        report = ingest(
            archive,
            opening.encoder(settings),
            read_paths(paths, max_text_bytes=settings.max_text_bytes, on_bytes=progress.read),
            passage_tokens=settings.passage_tokens,
            tell=progress.tell,
        )
    if as_json:
        typer.echo(wire.added_json(report).model_dump_json())
    else:
        for each in report.failed:
            show.err.print(f"left out: {each.item}: {each.reason}", markup=False)
        left_out = sum(each.records for each in report.failed)
        show.out.print(
            f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged, "
            f"{left_out} left out; {report.passages} new passages, "
            f"{report.truncated} truncated"
        )
    raise typer.Exit(EXIT_FAILED if report.failed else 0)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question, in plain words.")],
    index: Index = None,
    top_k: TopK = 5,
    published_from: From = None,
    published_to: To = None,
    source: Source = None,
    token_budget: TokenBudget = None,
    asked_at: AskedAt = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question with quotes from the archive."""
    from rag import show, wire

    settings = opening.settings(index)
    with opening.searcher(settings) as searcher:
        answer = searcher.ask(
            _whole("question", question),
            top_k=top_k,
            filters=_filters(published_from, published_to, source),
            token_budget=token_budget,
            budget_encoding=settings.token_encoding,
            asked_at=asked_at,
        )
    if as_json:
        typer.echo(wire.answer_json(answer, encoder=settings.model).model_dump_json())
    else:
        show.answer(answer)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="Words, or a question.")],
    index: Index = None,
    top_k: TopK = 5,
    published_from: From = None,
    published_to: To = None,
    source: Source = None,
    token_budget: TokenBudget = None,
    asked_at: AskedAt = None,
    as_json: AsJson = False,
) -> None:
    """List the best passages, without the decision to answer."""
    from rag import show, wire

    settings = opening.settings(index)
    with opening.searcher(settings) as searcher:
        result = searcher.search(
            _whole("query", query),
            top_k=top_k,
            filters=_filters(published_from, published_to, source),
            token_budget=token_budget,
            budget_encoding=settings.token_encoding,
            asked_at=asked_at,
        )
    if as_json:
        typer.echo(wire.hits_json(result, encoder=settings.model).model_dump_json())
    else:
        show.hits(result)


@app.command()
def serve(
    index: Index = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (RAG_HOST).", metavar="HOST")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on (RAG_PORT).", metavar="PORT")
    ] = None,
) -> None:
    """Answer over HTTP, and show the page."""
    from rag import serve as server

    server.serve(opening.settings(index, host=host, port=port))


app.command(name="eval")(measuring.evaluate)
app.command()(benching.bench)
app.add_typer(keying.app, name="key")


@app.command()
def status(index: Index = None, as_json: AsJson = False) -> None:
    """Say what the archive holds."""
    from rag import show
    from rag.soundness import known_recall

    settings = opening.settings(index)
    with opening.archive(settings) as archive:
        with archive.reading() as reading:
            articles, passages = reading.counts() if reading else (0, 0)
            generation = reading.generation if reading else 0
        manifest, sizes, last = archive.manifest(), archive.sizes(), archive.last_check()
    model = manifest.get("encoder_name", settings.model)
    encoder = _encoder(settings)
    counts = {"articles": articles, "passages": passages, "generation": generation}
    recall, method = known_recall(manifest, last)
    if as_json:
        kept = {"at": last.at, "sound": last.sound, "generation": last.generation} if last else None
        known = {"last_check": kept, "recall_at_10": recall, "recall_method": method}
        print_json({**counts, "model": model, "encoder": encoder, "size_bytes": sizes, **known})
        return
    rows = [("archive", str(settings.index)), *((k, f"{v:,}") for k, v in counts.items())]
    found = "unknown" if recall is None else f"{recall:.3f}"
    rows += [("recall@10", f"{found} ({method})"), ("model", model)]
    rows += [("run by", show.encoder(**encoder))]
    rows += [("last check", show.last_check(last))]
    rows += [(f"{part} on disk", show.size(n)) for part, n in sizes.items()]
    show.pairs(rows)
    if articles and "projection" not in manifest:
        show.err.print(
            "This archive was built before there were token vectors: it answers by words and "
            "passage vectors alone, without confidence. Build it anew to have them."
        )


@app.command()
def check(index: Index = None, as_json: AsJson = False) -> None:
    """Look for everything that can be wrong with the archive; exit 1 if something is."""
    from rag import show

    settings = opening.settings(index)
    with opening.archive(settings) as archive, show.waiting("Checking"):
        faults = archive.check()
        is_there = bool(faults or archive.manifest())
    if not is_there:
        show.err.print(f"{settings.index}: {NO_ARCHIVE}", markup=False)
    if as_json:
        listed = [{"part": fault.part, "problem": fault.problem} for fault in faults]
        print_json({"sound": not faults, "faults": listed})
    else:
        for fault in faults:
            show.out.print(f"{fault.part}: {fault.problem}", markup=False)
        if faults:
            show.err.print(
                "Faults in lexical, dense or model are mended by `rag rebuild`; for one in "
                "library.db put a backup in its place: `rag restore FILE --replace`. A damaged "
                "keys.json lets nobody in: remove it and make keys anew."
            )
        else:
            show.out.print("sound")
    raise typer.Exit(EXIT_FAILED if faults else 0)


@app.command()
def rebuild(index: Index = None, as_json: AsJson = False) -> None:
    """Make the lexical and dense indexes anew from library.db, encoding nothing."""
    from rag import show

    settings = opening.settings(index)
    with opening.archive(settings) as archive, show.waiting("Rebuilding"):
        if not archive.manifest():
            raise UnreadableItem(str(settings.index), NO_ARCHIVE)
        generation = archive.rebuild()
    if as_json:
        print_json({"generation": generation})
    else:
        show.out.print(f"rebuilt at generation {generation}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    index: Index = None,
    as_json: AsJson = False,
) -> None:
    """Write the archive to one file, checked, while it may be at work; its keys are not in it."""
    from rag import show

    settings = opening.settings(index)
    with opening.archive(settings) as archive, show.waiting("Writing the backup"):
        contents = archive.back_up(file)
    if as_json:
        print_json({"file": str(file), **asdict(contents)})
    else:
        show.out.print(
            f"wrote {file}: {contents.articles:,} articles, generation {contents.generation}, "
            f"{show.size(contents.size_bytes)}, sound",
            markup=False,
        )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `rag backup` wrote.")],
    index: Index = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the archive that is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the archive what a backup holds, and its indexes anew, encoding nothing."""
    from rag import show

    settings = opening.settings(index)
    with opening.archive(settings) as archive, show.waiting("Restoring"):
        archive.restore(file, replace=replace)
        with archive.reading() as reading:
            articles, passages = reading.counts() if reading else (0, 0)
            generation = reading.generation if reading else 0
    if as_json:
        print_json({"articles": articles, "passages": passages, "generation": generation})
    else:
        show.out.print(f"restored {articles:,} articles, at generation {generation}")


@app.command()
def remove(
    article: Annotated[str, typer.Argument(help="Id or address.", metavar="ID|URL")],
    index: Index = None,
    as_json: AsJson = False,
) -> None:
    """Remove an article with all its revisions."""
    from rag import show

    settings = opening.settings(index)
    article = _whole("article", article)
    with opening.archive(settings) as archive:
        with archive.reading() as reading:
            by_address = reading.ids_at(article) if reading else []
            by_id = reading.head(article) if reading else None
        outcome = archive.remove([by_id.id] if by_id else by_address or [article])
        archive.renew_base()
    if as_json:
        print_json({"removed": list(outcome.removed), "generation": outcome.generation})
    else:
        show.out.print(f"removed {', '.join(outcome.removed)}", markup=False)


def _encoder(settings: Settings) -> dict[str, Any]:
    """What runs the model on this machine."""
    from rag.encode import Places, runtime
    from rag.models import locate_model

    try:
        files = locate_model(settings.model)
    except RagError as error:
        return {"runtime": None, "prepared": False, "reason": str(error)}
    return asdict(runtime(files, Places(settings.index, settings.cache)))


def _filters(published_from: str | None, published_to: str | None, source: Any) -> Filters:
    from rag.types import Filters

    return Filters(
        source=tuple(_whole("source", name) for name in source) if source else None,
        published_from=published_from,
        published_to=published_to,
    )


def _whole(field: str, text: str) -> str:
    """An argument as it was given, unless its bytes are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(field, "it is not UTF-8") from None
    return text


def _complain(kind: str, title: str, detail: str) -> None:
    """Say what went wrong: as JSON on standard output where JSON was asked for."""
    if "--json" in sys.argv[1:]:
        print_json({"error": {"type": kind, "title": title, "detail": detail}})
    else:
        from rag import show

        show.err.print(f"rag: {detail}", markup=False)


if __name__ == "__main__":
    main()
