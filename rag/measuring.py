"""The command `rag eval`: opens a set, has it evaluated, compares, writes and prints."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag import opening
from rag.errors import EXIT_FAILED, InvalidRequest
from rag.options import AsJson, Index

if TYPE_CHECKING:
    from rag.archive import Archive
    from rag.config import Settings
    from rag.evaluate import Evaluation
    from rag.searcher import Searcher
    from rag.sets import EvaluationSet

OWN_SET = Path("eval/questions.jsonl")
OWN_ARTICLES = Path("seeds")

QuestionSet = Annotated[
    Path | None,
    typer.Argument(help=f"A BEIR folder or a question set (default: {OWN_SET}).", metavar="SET"),
]
Articles = Annotated[
    Path | None,
    typer.Option(help=f"Articles that a question set is about ({OWN_ARTICLES}).", metavar="DIR"),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Only queries whose metadata has this JSON value, as in answerable=true; repeatable.",
        metavar="KEY=VALUE",
    ),
]
Stages = Annotated[
    str | None,
    typer.Option(help="Rank by these stages and the last, as in lexical,dense.", metavar="NAMES"),
]
Compare = Annotated[
    Path | None,
    typer.Option(help="Test what changed since this report or baseline.", metavar="REPORT"),
]
FailOnLoss = Annotated[
    bool,
    typer.Option("--fail-on-loss", help="Exit 1 if --compare finds a significant loss."),
]
Out = Annotated[
    str | None,
    typer.Option(
        help="Write the report as JSON; into a folder, by set and commit.", metavar="FILE.json|DIR/"
    ),
]
Html = Annotated[
    str | None,
    typer.Option(help="Write the report as one page to read.", metavar="FILE.html|DIR/"),
]
Trec = Annotated[
    Path | None,
    typer.Option(help="Write a TREC run for each stage, and the qrels.", metavar="DIR"),
]
WriteBaseline = Annotated[
    Path | None,
    typer.Option(help="Write what a later --compare needs, and no more.", metavar="FILE.json"),
]


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files that are asked for."""

    out: str | None
    html: str | None
    trec: Path | None
    baseline: Path | None

    def require_writable(self, opened: EvaluationSet) -> None:
        """Raise InvalidRequest for what could not be written, before hours of measuring."""
        from rag.trec import require_names

        folders = {"out": self.out, "html": self.html, "write-baseline": self.baseline}
        for field, given in folders.items():
            if given is not None:
                require_folder(field, Path(given).parent)
        if self.trec is not None:
            require_folder("trec", self.trec)
            require_names(opened.queries)

    def write(self, evaluation: Evaluation, opened: EvaluationSet) -> list[Path]:
        """Write them all; where they are."""
        from rag.report import report_file, write_baseline, write_report
        from rag.report_page import write_page
        from rag.trec import write_trec

        report, written = evaluation.report, []
        if self.out is not None:
            written.append(report_file(self.out, report, ".json"))
            write_report(report, written[-1])
        if self.html is not None:
            written.append(report_file(self.html, report, ".html"))
            write_page(report, written[-1])
        if self.baseline is not None:
            written.append(self.baseline)
            write_baseline(report, self.baseline)
        if self.trec is not None:
            written += write_trec(self.trec, evaluation.runs, opened.qrels)
        return written


def require_folder(field: str, folder: Path) -> None:
    """Raise InvalidRequest unless the folder can be written to, or made."""
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InvalidRequest(field, f"nothing can be written to {folder}")


def evaluate(
    question_set: QuestionSet = None,
    index: Index = None,
    articles: Articles = None,
    where: WhereOption = None,
    stages: Stages = None,
    compare: Compare = None,
    fail_on_loss: FailOnLoss = False,
    out: Out = None,
    html: Html = None,
    trec: Trec = None,
    write_baseline: WriteBaseline = None,
    as_json: AsJson = False,
) -> None:
    """Measure how good the answers are, and what changed.

    Without --index the set is indexed into a temporary folder.
    """
    from rag.report import read_report

    if fail_on_loss and compare is None:
        raise InvalidRequest("fail-on-loss", "it needs a report to --compare with")
    before = read_report(compare) if compare else None
    # Nothing is added to an archive that is named alone.
    about = articles or (None if index else OWN_ARTICLES)
    call = _Call(question_set or OWN_SET, about, where or (), stages, before, fail_on_loss)
    report = call.run(index, Outputs(out, html, trec, write_baseline))
    _print(report, as_json)
    if fail_on_loss and not _passes(report):
        raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True, slots=True)
class _Call:
    """What is to be measured, and what it is compared with."""

    path: Path
    articles: Path | None
    where: Sequence[str]
    stages: str | None
    before: dict[str, Any] | None
    fail_on_loss: bool

    def run(self, index: Path | None, outputs: Outputs) -> dict[str, Any]:
        """Measure, compare and write; the report. The set is indexed where the index is kept, or
        into a temporary folder. What was measured is written even where it cannot be compared."""
        from rag import evaluate, show

        # A thread of tantivy's that looks at the index to the last is no reason to fail.
        with tempfile.TemporaryDirectory(
            prefix="rag-eval-", ignore_cleanup_errors=True
        ) as temporary:
            settings = opening.settings(index or Path(temporary))
            opened = self._opened(settings)
            stages = self._stages()
            outputs.require_writable(opened)
            with opening.archive(settings) as archive:
                _index(opened, archive, settings)
            with opening.searcher(settings) as searcher:
                _require_judged(searcher, opened)
                if self.before is not None and self.fail_on_loss:
                    _require_gate(searcher, opened, self.before)
                evaluation = evaluate.evaluate(
                    searcher, opened, stages=stages, counting=show.counting
                )
        try:
            if self.before is not None:
                from rag.compare import comparison

                evaluation.report["comparison"] = comparison(evaluation.report, self.before)
        finally:
            for file in outputs.write(evaluation, opened):
                show.err.print(f"Wrote {file}", markup=False)
        return evaluation.report

    def _opened(self, settings: Settings) -> EvaluationSet:
        """The set, after everything that can be wrong with the call was looked at."""
        from rag import sets
        from rag.compare import require_comparable

        opened = sets.open_set(
            self.path,
            self.articles,
            max_text_bytes=settings.max_text_bytes,
            where=sets.parse_where(self.where),
        )
        if self.before is not None:
            require_comparable(self.before, opened.name, opened.sha256, opened.texts)
        return opened

    def _stages(self) -> Sequence[str]:
        from rag import evaluate

        names = evaluate.STAGES if self.stages is None else self.stages.split(",")
        return evaluate.chosen(name.strip() for name in names)


def _index(opened: EvaluationSet, archive: Archive, settings: Settings) -> None:
    """Add the articles of the set. Raises InvalidRequest for one that cannot be: all count."""
    from rag import show
    from rag.ingest import ingest

    encoder, tokens = opening.encoder(settings), settings.passage_tokens
    with show.waiting("Indexing the set"):
        ingested = ingest(archive, encoder, opened.articles, passage_tokens=tokens)
    if ingested.failed:
        first = ingested.failed[0]
        raise InvalidRequest("set", f"{first.item} cannot be indexed: {first.reason}")


def _require_judged(searcher: Searcher, opened: EvaluationSet) -> None:
    """Warn where the archive lacks articles that are judged right, which no stage can find then.
    Raises InvalidRequest where it has none of them."""
    from rag import show

    judged = {
        article
        for grades in opened.qrels.values()
        for article, grade in grades.items()
        if grade > 0
    }
    with searcher.archive.snapshot() as snapshot:
        held = sum(snapshot.find(article) is not None for article in judged)
    if judged and not held:
        problem = f"the archive holds none of the {len(judged)} articles that answer its questions"
        raise InvalidRequest("set", f"{problem}; add them, or name their folder with --articles")
    if held < len(judged):
        show.err.print(
            f"Warning: the archive holds {held} of the {len(judged)} articles that answer the "
            "questions; the others count as not found."
        )


def _require_gate(searcher: Searcher, opened: EvaluationSet, before: dict[str, Any]) -> None:
    """Raise InvalidRequest where `--fail-on-loss` could not tell a loss of some measure."""
    from rag.compare import require_measures

    first = next(iter(opened.queries))
    answer = searcher.ask(opened.queries[first], asked_at=opened.asked_at.get(first))
    require_measures(before, opened, has_confidence=answer.confidence is not None)


def _passes(report: dict[str, Any]) -> bool:
    """Whether nothing was lost; where that is not known, what was not compared is told."""
    from rag import show
    from rag.compare import not_gated

    if untold := not_gated(report):
        show.err.print(f"Not compared, so a loss cannot be ruled out: {', '.join(untold)}.")
    return not untold and not report["comparison"]["significant_losses"]


def _print(report: dict[str, Any], as_json: bool) -> None:
    from rag import tables

    if as_json:
        opening.print_json(report)
    else:
        tables.report(report)
