"""The same work done by this package and by its peers, each in an environment of its own.

    python eval/peers/run.py SET [--articles N] [--rounds N] [--out FILE]

SET is a folder in BEIR form. Every round starts each of them anew, one after the other; figures
are medians over the rounds, ratios are of figures of one round. All use the same model's weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from rag.encode import load_encoder, locate_model
from rag.measures import MEASURES, means, measure
from rag.report import commit, machine
from rag.sets import EvaluationSet, open_set
from rag.types import Article

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "peers"
PEERS = ("txtai",)
DEPTH = 10
WINDOW = 256
"""Word pieces that peers read of a document."""

err = Console(stderr=True)


def environment(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made at its first use."""
    folder = BUILD / peer
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        err.print(f"setting up {peer} in {folder}")
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / f"{peer}.txt")]
        subprocess.run(pip, check=True)  # noqa: S603
        (folder / "ready").touch()
    return python


def workload(opened: EvaluationSet, most: int | None) -> dict[str, Any]:
    """The first articles of a set, and the questions that these answer."""
    articles = [each for each in islice(opened.articles, most) if isinstance(each, Article)]
    there = {article.id for article in articles}
    known = {q: text for q, text in opened.queries.items() if there.issuperset(opened.qrels[q])}
    fields = [{"id": a.id, "title": a.title, "text": a.text} for a in articles]
    model = str(locate_model().folder)
    return {"articles": fields, "questions": known, "model": model, "depth": DEPTH}


def done(python: Path | str, script: str, work: Mapping[str, Any]) -> dict[str, Any]:
    """What one of them measured of itself, in a process of its own."""
    finished = subprocess.run(  # noqa: S603
        [str(python), str(HERE / script)],
        input=json.dumps(work),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def figures(
    measured: Mapping[str, Any], opened: EvaluationSet, tokens: int, count: int
) -> dict[str, float]:
    """By name, what is compared."""
    found = measured["found"]
    judged = {q: opened.qrels[q] for q in found}
    ndcg = means(measure(found, judged))[MEASURES.index("nDCG@10")]
    took = measured["question_ms"]
    return {
        "import and load, s": measured["import_s"],
        "documents/s": count / measured["index_s"],
        "tokens/s": tokens / measured["index_s"],
        "question p50, ms": median(took),
        "question p95, ms": quantiles(took, n=20)[-1],
        "peak memory, MB": measured["peak_bytes"] / 1e6,
        "nDCG@10": ndcg,
    }


def compared(opened: EvaluationSet, most: int | None, rounds: int) -> dict[str, Any]:
    """Rounds of the same work by each; medians, and medians of the ratios within a round."""
    work = workload(opened, most)
    lengths = load_encoder().count([f"{a['title']}\n{a['text']}" for a in work["articles"]])
    read = {"rag": sum(lengths), **{peer: sum(min(n, WINDOW) for n in lengths) for peer in PEERS}}
    interpreters = {"rag": Path(sys.executable), **{peer: environment(peer) for peer in PEERS}}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in interpreters}
    for at in range(rounds):
        for name, python in interpreters.items():
            err.print(f"round {at + 1} of {rounds}: {name}")
            measured = done(python, f"by_{name}.py", work)
            taken[name].append(figures(measured, opened, read[name], len(work["articles"])))
    names = list(taken["rag"][0])
    return {
        "set": opened.name,
        "articles": len(work["articles"]),
        "questions": len(work["questions"]),
        "rounds": rounds,
        "commit": commit(),
        "machine": machine(),
        "versions": {peer: (HERE / f"{peer}.txt").read_text().split() for peer in PEERS},
        "figures": {
            name: {each: median(row[each] for row in rows) for each in names}
            for name, rows in taken.items()
        },
        "ratios": {
            peer: {
                each: median(
                    a[each] / b[each] for a, b in zip(taken["rag"], taken[peer], strict=True)
                )
                for each in names
            }
            for peer in PEERS
        },
    }


def show(report: Mapping[str, Any]) -> None:
    """The table, for people."""
    title = f"{report['set']}: {report['articles']} articles, {report['questions']} questions"
    table = Table(
        "", "rag", *[column for peer in PEERS for column in (peer, f"rag / {peer}")], title=title
    )
    for name, value in report["figures"]["rag"].items():
        cells = []
        for peer in PEERS:
            cells += [
                f"{report['figures'][peer][name]:,.3g}",
                f"{report['ratios'][peer][name]:.2f}",
            ]
        table.add_row(name, f"{value:,.3g}", *cells)
    Console().print(table)


def main(arguments: Sequence[str]) -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("set", type=Path, help="a folder in BEIR form")
    parser.add_argument("--articles", type=int, help="take the first N articles", metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    opened = open_set(given.set, None, max_text_bytes=20_000_000)
    report = compared(opened, given.articles, given.rounds)
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


if __name__ == "__main__":
    main(sys.argv[1:])
