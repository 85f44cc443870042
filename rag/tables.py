"""What `rag eval` prints for people: a report as tables, the figures to look at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rag.abstention import why_not_measured
from rag.compare import AUROC, BETTER, SIGNIFICANT, WORSE, notes
from rag.report import Report, best
from rag.show import err, in_one_line, out, pairs, size

CHANGED_SHOWN, CONFIDENCES_SHOWN = 10, 5
"""Questions of a comparison that are printed, those of which a measure changed and those of which
confidence did; the JSON and the page have them all."""

LOST_SHOWN = 5
"""Questions named for each significant loss."""

ANSWER_HEADS = {"answered_right": "and\nright", "answered_wrong": "and\nwrong"}
"""Of columns that would not fit beside the others on 80 characters."""

VERDICT_STYLES = {BETTER: "bold green", WORSE: "bold red", None: ""}

BEST = "bold green"


def report(report: Report) -> None:
    """Everything worth reading on a terminal."""
    _stages(report)
    if "answers" in report:
        _answers(report["answers"])
    _abstention(report)
    if "comparison" in report:
        _comparison(report["comparison"], report)


def bench(report: Report) -> None:
    """What `rag bench` measured."""
    _rates(report)
    _questions(report["questions"])
    _while_adding(report["while_adding"])
    if report["growth"]:
        _growth(report["growth"])


def _rates(report: Report) -> None:
    encode, ingest, start, disk = (report[part] for part in ("encode", "ingest", "start", "disk"))
    part = encode["of_product_rate"]
    of_product = "" if part is None else f", {part:.0%} of the matrix-product rate"
    memory = start["resident_bytes"]
    stages = ", ".join(f"{name} {took:.1f} s" for name, took in ingest["stages_s"].items())
    each = disk["bytes_per_passage"]
    pairs(
        [
            ("set", report["set"]),
            ("archive", f"{disk['articles']:,} articles, {disk['passages']:,} passages"),
            ("encoding", f"{encode['tokens_per_s']:,.0f} tokens/s{of_product}"),
            (
                "adding",
                f"{ingest['articles_per_s']:.1f} articles/s, {ingest['tokens_per_s']:,.0f} tokens/s"
                f" ({stages})",
            ),
            ("start to answer", f"serve {start['serve_s']:.2f} s, ask {start['ask_s']:.2f} s"),
            ("memory at first", "not known" if memory is None else size(int(memory))),
            (
                "disk a passage",
                f"{sum(each.values()):,.0f} bytes ("
                + ", ".join(f"{name} {count:,.0f}" for name, count in each.items())
                + ")",
            ),
        ]
    )
    out.print()


def _questions(measured: Sequence[Mapping[str, Any]]) -> None:
    columns = ("clients", "p50 ms", "p95 ms", "p99 ms", "a second", "memory")
    table = _table("Questions", "", *columns)
    for each in measured:
        memory = each.get("resident_bytes")
        table.add_row(
            f"{each['length']}, {each['where']}",
            str(each["clients"]),
            *(f"{each[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms", "per_s")),
            "" if memory is None else size(int(memory)),
        )
    out.print(table, "")
    least = min(each["clients"] for each in measured)
    few = [each for each in measured if each["clients"] == least]
    names = [f"{each['length']}, {each['where']}" for each in few]
    table = _table(f"Its steps, {least} at a time: median ms", "", *names)
    for step in dict.fromkeys(step for each in few for step in each["steps_ms"]):
        table.add_row(step, *(f"{each['steps_ms'].get(step, 0):.2f}" for each in few))
    out.print(table, "")


def _while_adding(measured: Mapping[str, Any]) -> None:
    table = _table(
        "Over HTTP, one client, while articles come in", "", "p50 ms", "p95 ms", "p99 ms"
    )
    beside = f"{measured['articles_per_s']:.1f} articles a second"
    for name, each in (("nothing else", measured["alone"]), (beside, measured)):
        table.add_row(name, *(f"{each[part]:.1f}" for part in ("p50_ms", "p95_ms", "p99_ms")))
    out.print(table, "")


def _growth(measured: Sequence[Mapping[str, Any]]) -> None:
    columns = ("built", "opened", "process p50", "http p50", "p95", "memory", "a passage")
    table = _table("Made-up archives: one client", "passages", *columns)
    for each in measured:
        process, http = each["asked"]
        memory = http["resident_bytes"]
        table.add_row(
            f"{each['passages']:,}",
            f"{each['built_s']:.1f} s",
            f"{each['opened_s']:.2f} s",
            *(f"{ms:.1f} ms" for ms in (process["p50_ms"], http["p50_ms"], http["p95_ms"])),
            "" if memory is None else size(int(memory)),
            size(round(sum(each["disk"]["bytes_per_passage"].values()))),
        )
    out.print(table, "")


def _stages(report: Report) -> None:
    table = _table(
        f"{report['set']}: {report['queries']} questions", "stage", *report["measures"], "ms"
    )
    known = report["latency_ms"]["stages"]
    for stage, values in report["stages"].items():
        cells = [_score(values[name], best(report, name, stage)) for name in report["measures"]]
        took = known[stage]
        table.add_row(Text(stage), *cells, "" if took is None else f"{took:.1f}")
    table.add_section()
    low = [Text(f"{report['intervals'][m][0]:.4f}", style="dim") for m in report["measures"]]
    high = [Text(f"{report['intervals'][m][1]:.4f}", style="dim") for m in report["measures"]]
    table.add_row(Text(f"{report['stage']}, 95% from", style="dim"), *low, "")
    table.add_row(Text("to", style="dim"), *high, "")
    out.print(table, "")
    took = report["latency_ms"]
    out.print(
        f"Answers are made from {report['stage']}; ms is the median until a stage is known.",
        f"A whole question in this process: p50 {took['p50']:.1f} ms, p95 {took['p95']:.1f} ms.\n",
        sep="\n",
    )


def _answers(answers: Mapping[str, Any]) -> None:
    columns = list(answers["all"])
    heads = [ANSWER_HEADS.get(name, name.replace("@", "\n@")) for name in columns]
    table = _table("Answers: parts of the questions", "type", *heads)
    for name, parts in answers["by_type"].items():
        table.add_row(in_one_line(name), *_parts(parts, columns))
    table.add_section()
    table.add_row("all", *_parts(answers["all"], columns))
    out.print(table, "")
    unanswerable = answers["unanswerable"]
    length = answers["median_quote_characters"]
    quoted = (
        "" if length is None else f" The first quote has {length:.0f} characters at the median."
    )
    out.print(
        "answer: the quote holds every fact asked for; evidence: it holds the sentences that",
        "answer; @3: one of the first three quotes does; right: the first one does either.",
        f"Unanswerable questions withheld: {unanswerable['withheld']} of "
        f"{unanswerable['questions']}.{quoted}\n",
        sep="\n",
    )


def _abstention(report: Report) -> None:
    abstention = report["abstention"]
    if abstention is None:
        out.print(f"Abstention: not measured, since {why_not_measured(report)}.\n")
        return
    correctness, asked = abstention["correctness"], abstention["questions"]
    ways = {"as_asked": "unanswerable as asked", "left_out": "with the answer left out"}
    withheld = [
        f"{found['withheld']} of {found['questions']} {told}"
        for way, told in ways.items()
        if (found := abstention["not_answerable"][way])["questions"]
    ]
    unknown = abstention["without_confidence"]
    table = _table("Does confidence tell?", "", "AUROC", "coverage at precision .95")
    names = {"the archive holds the answer": abstention, "the best citation is right": correctness}
    for name, found in names.items():
        table.add_row(name, *map(_cell, (found["auroc"], found["coverage_at_precision_0.95"])))
    out.print(table, "")
    out.print(
        f"Of {asked['answerable']} questions as they are {_cell(abstention['answered'])} were "
        f"answered, at a threshold of {report['confidence_model']['threshold']}.",
        f"Withheld: {', '.join(withheld)}.",
        *([f"Without a confidence, and not among these: {unknown}."] if unknown else []),
        f"Expected calibration error {_cell(correctness['expected_calibration_error'])}, "
        f"Brier score {_cell(correctness['brier'])}.\n",
        sep="\n",
    )


def _comparison(comparison: Mapping[str, Any], report: Report) -> None:
    before = comparison["with"]
    title = f"Compared with {before['commit'] or 'a report'} ({before['stage']})"
    columns = ("before", "now", "difference", "p", "won", "lost", "equal")
    table = _table(title, "measure", *columns)
    for name, found in comparison["measures"].items():
        table.add_row(name, *_compared(found, f"{found['p']:.4f}"))
    abstention = comparison["abstention"]
    if abstention:
        table.add_row(AUROC, *_compared(abstention["auroc"], ""))
    out.print(table, "")
    if comparison["median_quote_characters"]:
        then, now = comparison["median_quote_characters"]
        out.print(f"Median characters of the first quote: {then:.0f} before, {now:.0f} now.")
    out.print(f"p: {comparison['test']}. Below {SIGNIFICANT:.2f} it stands out.")
    if abstention:
        ends = _ends(abstention["auroc"]["interval"])
        out.print(f"{AUROC}: 95% of the difference {ends}; {abstention['test']}.")
    for note in notes(comparison):
        out.print(note)
    out.print()
    _changes(comparison["changed"], CHANGED_SHOWN)
    if abstention and abstention["changed"]:
        out.print("Confidence changed most for:")
        _changes(abstention["changed"], CONFIDENCES_SHOWN)
    _losses(comparison, report)


def _compared(found: Mapping[str, Any], p: str) -> list[Text | str]:
    style = VERDICT_STYLES[found["verdict"]]
    return [
        f"{found['before']:.4f}",
        f"{found['mean']:.4f}",
        Text(f"{found['difference']:+.4f}", style=style),
        Text(p, style=style),
        *(str(found[name]) for name in ("wins", "losses", "ties")),
    ]


def _changes(changed: Sequence[Mapping[str, Any]], shown: int) -> None:
    for each in changed[:shown]:
        moves = ", ".join(
            f"{name} {then:.2f} → {now:.2f}" for name, (then, now) in each["measures"].items()
        )
        out.print(Text(f"{each['id']}: {each['question']}"))
        out.print(Text(f"   {moves}", style="dim"))
    if len(changed) > shown:
        out.print(f"and {len(changed) - shown} more; --html and --out have them all.")


def _losses(comparison: Mapping[str, Any], report: Report) -> None:
    """What made `--fail-on-loss` fail, on standard error."""
    for name in comparison["significant_losses"]:
        found = comparison["abstention"]["auroc"] if name == AUROC else comparison["measures"][name]
        verb = "fell" if found["difference"] < 0 else "rose"
        sure = f"p = {found['p']:.4f}" if "p" in found else f"95% {_ends(found['interval'])}"
        err.print(
            f"Significant loss: {name} {verb} from {found['before']:.4f} to {found['mean']:.4f} "
            f"({sure}); {found['losses']} questions lost, among them:"
        )
        for query_id in found["lost"][:LOST_SHOWN]:
            question = report["per_query"][query_id]["question"]
            err.print(f"   {query_id}: {question}", markup=False)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(
        title=Text(in_one_line(title), style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _parts(parts: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [f"{parts[c]}" if c == "questions" else f"{parts[c]:.3f}" for c in columns]


def _ends(interval: Sequence[float]) -> str:
    return f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _score(value: float, is_best: bool) -> Text:
    return Text(f"{value:.4f}", style=BEST if is_best else "")


def _cell(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
