"""What recognising the kind of answer tells, on a set whose questions have answer spans.

For each kind that questions ask for: how often the sentences that hold an answer hold the kind
(recall), hold it over the answer itself (overlap), and how often the other sentences of the same
passage hold it. Their quotient is the likelihood ratio of a sentence that holds it, and of one
that does not. `unasked` is the first of these for questions that ask for no kind: what is left is
due to asking. Articles are split by the hash of their title; rules are made by reading one half.

    python eval/measure_kind.py FOLDER develop|report
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag.chunk import sentences
from rag.kind import held, wanted
from rag.types import Kind

HALVES = ("develop", "report")
Sentence = tuple[int, int, dict[Kind, tuple[tuple[int, int], ...]]]


@dataclass(slots=True)
class Tally:
    """Sentences of one kind of question: those with an answer, and the others."""

    questions: int = 0
    answering: int = 0
    others: int = 0
    held: Counter[tuple[Kind, bool]] = field(default_factory=Counter)
    over: Counter[Kind] = field(default_factory=Counter)

    def add(self, passage: list[Sentence], answers: list[tuple[int, int]]) -> None:
        """Count the sentences of one question's passage."""
        self.questions += 1
        over: set[Kind] = set()
        for start, end, spans in passage:
            answering = any(a < end and start < b for a, b in answers)
            self.answering += answering
            self.others += not answering
            self.held.update((kind, answering) for kind in spans)
            for kind, found in spans.items():
                if any(a < start + y and start + x < b for x, y in found for a, b in answers):
                    over.add(kind)
        self.over.update(over)

    def shares(self, kind: Kind) -> tuple[float, float]:
        """How many of the answering sentences, and of the others, hold `kind`."""
        with_answer = self.held[kind, True] / max(1, self.answering)
        return with_answer, self.held[kind, False] / max(1, self.others)


def half(title: str) -> str:
    """Which half an article belongs to."""
    return HALVES[int(hashlib.sha256(title.encode()).hexdigest(), 16) % 2]


def records(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def tallies(folder: Path, which: str) -> dict[Kind | None, Tally]:
    """By kind asked for, None for questions that ask for none."""
    passages = {
        each["_id"]: [(start, end, held(each["text"][start:end])) for start, end in found]
        for each in records(folder / "corpus.jsonl.gz")
        if half(each["title"]) == which and (found := sentences(each["text"]))
    }
    counts: dict[Kind | None, Tally] = {None: Tally()} | {kind: Tally() for kind in Kind}
    for query in records(folder / "queries.jsonl.gz"):
        about = query["metadata"]
        if not about["answerable"] or about["passage"] not in passages:
            continue
        spans = [(a["answer_start"], a["answer_start"] + len(a["text"])) for a in about["answers"]]
        for kind in wanted(query["text"]) or (None,):
            counts[kind].add(passages[about["passage"]], spans)
    return counts


def table(counts: dict[Kind | None, Tally]) -> list[str]:
    rows = [f"{'asked for':14}{'n':>5}{'recall':>8}{'overlap':>9}{'others':>8}{'LR+':>7}{'LR-':>7}"]
    rows[0] += f"{'unasked':>9}"
    for kind in Kind:
        tally = counts[kind]
        recall, others = tally.shares(kind)
        base = counts[None].shares(kind)
        rows.append(
            f"{kind:14}{tally.questions:5}{recall:8.3f}"
            f"{tally.over[kind] / max(1, tally.questions):9.3f}{others:8.3f}"
            f"{recall / max(others, 1e-3):7.2f}{(1 - recall) / max(1 - others, 1e-3):7.2f}"
            f"{base[0] / max(base[1], 1e-3):9.2f}"
        )
    return [*rows, f"no kind {counts[None].questions}"]


if __name__ == "__main__":
    print("\n".join(table(tallies(Path(sys.argv[1]), sys.argv[2]))))
