"""Everything that can be wrong with an index folder, looked for one part after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from rag.checked import Checked
from rag.errors import KeysDamaged
from rag.exported import IN_INDEX, fault
from rag.keys import FILE as KEY_FILE
from rag.keys import KeyFile
from rag.lexical import LexicalIndex
from rag.reading import Reading
from rag.snapshot import base_record
from rag.types import Fault
from rag.vectors import FaissBase, Recall, file_fault, measured_recall

RECALL_LEAST = 0.98
"""Recall@10 under which the base is at fault. It is .999 and more as measured."""


def unreadable(folder: Path) -> str:
    """Says which file this user may not read, which tells nothing of the file; "" if there is none.
    The keys are not among them, which are their owner's alone, nor what tantivy has for itself."""
    for pattern in ("library.db", "lexical", "lexical/*", "dense.*", IN_INDEX, f"{IN_INDEX}/*"):
        for file in sorted(folder.glob(pattern)):
            wanted = os.R_OK | (os.X_OK if file.is_dir() else 0)
            if file.name.startswith("."):
                continue
            if not os.access(file, wanted) and os.access(file, os.F_OK):  # it is still there
                return f"{file.relative_to(folder)} may not be read by this user"
    return ""


def key_faults(folder: Path) -> list[Fault]:
    """What is wrong with the file of keys, which need not be there, or be for this user."""
    file = folder / KEY_FILE
    if os.access(file, os.F_OK) and not os.access(file, os.R_OK):
        return []
    try:
        KeyFile(folder).keys()
    except KeysDamaged as error:
        return [Fault(KEY_FILE, error.fault)]
    return []


def lost(folder: Path) -> str:
    """The fault of a folder whose database is missing or empty; "" where there was none ever."""
    derived = [*folder.glob("dense.*.faiss"), *folder.glob("lexical/meta.json")]
    how = "empty" if (folder / "library.db").exists() else "missing"
    return f"library.db: it is {how}, while {derived[0].name} is there" if derived else ""


def truth_faults(reading: Reading, report: Callable[[str], None]) -> Iterator[Fault]:
    """Every fault of the database, until it is too damaged to look on; `report` is told which part
    is being looked at."""
    report("library.db")
    for problem in reading.faults():
        yield Fault("library.db", problem)


def derived_faults(
    folder: Path, reading: Reading, report: Callable[[str], None] = lambda _: None
) -> list[Fault]:
    """Every fault of what is made from the database, and of the model."""
    if not reading.generation:
        return []
    found: list[Fault] = []
    for part, looked in PARTS.items():
        report(part)
        found.extend(Fault(part, problem) for problem in looked(folder, reading))
    return found


def recall(folder: Path, reading: Reading) -> Recall | None:
    """Recall@10 of unfiltered questions, measured on a sound archive; None where it is exact,
    or another base is there by now."""
    record = base_record(reading.manifest())
    if record is None or not record.quantised:
        return None
    numbers, _ = reading.passage_columns(0)
    alive = np.zeros(max(record.last, int(numbers.max(initial=0))) + 1, dtype=np.bool_)
    alive[numbers] = True
    try:
        return measured_recall(FaissBase(folder, record), alive)
    except ValueError:  # another took its place meanwhile
        return None


def known_recall(
    manifest: Mapping[str, str], last_check: Checked | None
) -> tuple[float | None, str]:
    """Recall@10 of unfiltered questions as far as it is known, and how it is known."""
    record = base_record(manifest)
    if record is None or not record.quantised:
        return 1.0, "exact search"
    measured = last_check.recall if last_check else None
    if measured is None or measured.file != record.file:
        return None, "approximate search, not measured since the base was written; see rag check"
    return measured.recall_at_10, f"approximate search, rag check on {measured.sample} passages"


def lexical_faults(folder: Path, reading: Reading) -> Iterator[str]:
    """Every fault of the index of words. Raises StorageFailed where tantivy cannot search it."""
    index = LexicalIndex(folder / "lexical")
    try:
        searcher = index.searcher()
        damaged = index.damaged()
    except (OSError, ValueError) as error:
        yield str(error)
        return
    yield from damaged
    if damaged:
        return
    if searcher.archive != reading.archive():
        yield "it belongs to another library.db"
    # Being behind, or ahead of a change not yet published, is no fault: whoever takes the lock
    # next brings the two together.
    elif searcher.generation == reading.generation:
        numbers, _ = reading.passage_columns(0)
        if searcher.documents != len(numbers) or not np.array_equal(
            searcher.passage_numbers(), numbers
        ):
            yield "it does not hold just the living passages"


def _dense_faults(folder: Path, reading: Reading) -> Iterator[str]:
    manifest: Mapping[str, str] = reading.manifest()
    record = base_record(manifest)
    if record is None:
        return
    fault = file_fault(folder, record)
    if fault:
        yield fault
        return
    try:
        base = FaissBase(folder, record)
    except ValueError as error:  # another took its place meanwhile
        yield str(error)
        return
    for numbers, matrix in reading.all_vectors(int(manifest.get("dimension", 0))):
        covered = numbers <= record.last
        if not covered.any():
            return
        if not np.isin(numbers[covered], base.numbers).all():
            yield f"{record.file} lacks passages that it should hold"
            return
        if not np.array_equal(base.stored(numbers[covered]), matrix[covered]):
            yield f"{record.file} holds other vectors than library.db"
            return


def _model_faults(folder: Path, reading: Reading) -> Iterator[str]:
    if (folder / IN_INDEX).exists():
        problem = fault(folder / IN_INDEX, reading.manifest().get("encoder", ""))
        yield from [problem] if problem else []


PARTS = {"lexical": lexical_faults, "dense": _dense_faults, "model": _model_faults}
