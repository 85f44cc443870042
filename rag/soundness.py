"""Everything that can be wrong with an index folder, looked for one part after the other."""

from __future__ import annotations

import json
import zlib
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

VECTORS_AT_ONCE = 20_000

RECALL_LEAST = 0.98
"""Recall@10 under which the base is at fault. It is .999 and more as measured."""


def key_faults(folder: Path) -> list[Fault]:
    """What is wrong with the file of keys, which need not be there."""
    try:
        KeyFile(folder).keys()
    except KeysDamaged as error:
        return [Fault(KEY_FILE, error.fault)]
    return []


def remains(folder: Path) -> list[Fault]:
    """Faults of a folder without a database: derived files that have lost their truth."""
    derived = [*folder.glob("dense.*"), *folder.glob("lexical/meta.json")]
    if not derived:
        return []
    return [Fault("library.db", f"is missing, while {derived[0].name} is there")]


def faults(folder: Path, reading: Reading, report: Callable[[str], None]) -> Iterator[Fault]:
    """Every fault; `report` is told which part is being looked at."""
    report("library.db")
    truth = [Fault("library.db", problem) for problem in reading.faults()]
    yield from truth
    if not reading.generation:
        return
    report("lexical")
    yield from (Fault("lexical", problem) for problem in _lexical_faults(folder, reading))
    report("dense")
    yield from (Fault("dense", problem) for problem in _dense_faults(folder, reading))
    report("model")
    if (folder / IN_INDEX).exists():
        problem = fault(folder / IN_INDEX, reading.manifest().get("encoder", ""))
        yield from [Fault("model", problem)] if problem else []


def recall(folder: Path, reading: Reading) -> Recall | None:
    """Recall@10 of unfiltered questions, measured on a sound archive; None where it is exact."""
    record = base_record(reading.manifest())
    if record is None or not record.quantised:
        return None
    numbers, _ = reading.passage_columns(0)
    alive = np.zeros(max(record.last, int(numbers.max(initial=0))) + 1, dtype=np.bool_)
    alive[numbers] = True
    return measured_recall(FaissBase(folder, record), alive)


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


def _lexical_faults(folder: Path, reading: Reading) -> Iterator[str]:
    try:
        searcher = LexicalIndex(folder / "lexical").searcher()
        changed = list(_changed_files(folder / "lexical"))
    except ValueError as error:
        yield str(error)
        return
    yield from (f"{name} has changed since it was written" for name in changed)
    if changed:
        return
    if searcher.archive != reading.archive():
        yield "it belongs to another library.db"
    # Being behind, or ahead of a change not yet published, is no fault: whoever takes the lock
    # next brings the two together.
    elif searcher.generation == reading.generation:
        numbers, _ = reading.passage_columns(0)
        if not np.array_equal(searcher.passage_numbers(), numbers):
            yield "it does not hold just the living passages"


def _changed_files(folder: Path) -> Iterator[str]:
    """Names of the newest commit's files that are not as they were written."""
    for segment in json.loads((folder / "meta.json").read_bytes())["segments"]:
        name = segment["segment_id"].replace("-", "")
        deletes = f"{name}.{(segment.get('deletes') or {}).get('opstamp')}.del"
        for file in sorted(folder.glob(f"{name}.*")):
            if (file.suffix != ".del" or file.name == deletes) and not _as_written(file):
                yield file.name


def _as_written(file: Path) -> bool:
    """Whether a file has the checksum that tantivy put into its footer: JSON, whose length stands
    in the four bytes after it, before the last four."""
    try:
        data = np.memmap(file, mode="r").data
        end = len(data) - 8
        start = end - int.from_bytes(data[end : end + 4], "little")
        return bool(zlib.crc32(data[:start]) == json.loads(bytes(data[start:end]))["crc"])
    except FileNotFoundError:
        return True  # a writer has merged it into another meanwhile
    except (ValueError, LookupError, TypeError):
        return False


def _dense_faults(folder: Path, reading: Reading) -> Iterator[str]:
    manifest: Mapping[str, str] = reading.manifest()
    record = base_record(manifest)
    if record is None:
        return
    fault = file_fault(folder, record)
    if fault:
        yield fault
        return
    base = FaissBase(folder, record)
    dimension, after = int(manifest.get("dimension", 0)), 0
    while True:
        numbers, matrix = reading.vectors(after, dimension, limit=VECTORS_AT_ONCE)
        covered = numbers <= record.last
        if not covered.any():
            return
        if not np.isin(numbers[covered], base.numbers).all():
            yield f"{record.file} lacks passages that it should hold"
            return
        if not np.array_equal(base.stored(numbers[covered]), matrix[covered]):
            yield f"{record.file} holds other vectors than library.db"
            return
        after = int(numbers[-1])
