"""An exported model as files: what there is, whether it is whole, how it gets to its place.

A folder has `model.onnx` (the graph), `model.weights`, `tokenizer.json` and `about.json`, which
says of which model's files it was made (their fingerprint), what else must be known of the model,
and the size and sha256 of each file and of itself. Most have `questions.onnx` and
`questions.weights` too, the same model with its matrices in bytes; what is no matrix stands in
`model.weights` alone. It appears whole, by a rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rag.encoder import Shape
from rag.files import sha256, sync

FORMAT = 2

IN_INDEX = "model"
"""Name of the folder in an archive's."""

CANNOT = 3
"""Exit code of `rag.export` for a model that cannot be exported; after others it is tried again."""

GRAPH, WEIGHTS, TOKENIZER, ABOUT = "model.onnx", "model.weights", "tokenizer.json", "about.json"
QUESTIONS, QUESTION_WEIGHTS = "questions.onnx", "questions.weights"
ALWAYS = frozenset([GRAPH, WEIGHTS, TOKENIZER])
FOR_QUESTIONS = frozenset([QUESTIONS, QUESTION_WEIGHTS])
LARGE = frozenset([WEIGHTS, QUESTION_WEIGHTS])


class Unusable(Exception):
    """Files of an exported model cannot be used, or are not there any more."""


@dataclass(frozen=True, slots=True)
class Export:
    """An exported model of this format whose small files are whole; `weights` are the sha256 that
    the large ones should have, by name."""

    folder: Path
    fingerprint: str
    shape: Shape
    weights: Mapping[str, str]

    @property
    def for_questions(self) -> bool:
        """Whether there is a graph for questions alone."""
        return QUESTION_WEIGHTS in self.weights

    def changed(self) -> str | None:
        """The first large file that is not as it was written, None if all are; reads all."""
        for name, digest in self.weights.items():
            try:
                if sha256(self.folder / name) != digest:
                    return name
            except OSError:
                return name
        return None


def opened(folder: Path) -> Export | None:
    """The exported model in `folder`; None if there is none that can be used."""
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        checksum = about.pop("sha256")
        if checksum != _checksum(about) or about["format"] != FORMAT:
            return None
        if about["files"].keys() not in (ALWAYS, ALWAYS | FOR_QUESTIONS):
            return None
        for name, (size, digest) in about["files"].items():
            file = folder / name
            if file.stat().st_size != size or (name not in LARGE and sha256(file) != digest):
                return None
        weights = {name: about["files"][name][1] for name in LARGE & about["files"].keys()}
        return Export(folder, about["fingerprint"], Shape(**about["shape"]), weights)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def fault(folder: Path, fingerprint: str) -> str | None:
    """What is wrong with the exported model in `folder`, read whole, which should be that of the
    model's files of this fingerprint; None if nothing is."""
    export = opened(folder)
    if export is None:
        return "is not whole"
    if export.fingerprint != fingerprint:
        return "is another model's"
    changed = export.changed()
    return f"{changed} has changed since it was written" if changed else None


def describe(folder: Path, name: str, fingerprint: str, shape: Shape) -> None:
    """Write `about.json` for the other files of `folder`, which are all there."""
    files = {}
    for file in sorted({*folder.iterdir()} - {folder / ABOUT}):
        file.chmod((folder / GRAPH).stat().st_mode)  # onnx keeps weights from other users
        files[file.name] = [file.stat().st_size, sha256(file)]
    about = {
        "format": FORMAT,
        "name": name,
        "fingerprint": fingerprint,
        "shape": asdict(shape),
        "files": files,
    }
    text = json.dumps({**about, "sha256": _checksum(about)}, indent=1)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A new folder to be filled that takes the place of `folder` at the end, unless there is an
    error. The caller holds a lock. Raises OSError, after which what was there is there, or
    nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{folder.name}.*.tmp"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        made, old = Path(temporary) / "new", Path(temporary) / "old"
        made.mkdir()
        yield made
        for file in made.iterdir():
            sync(file)
        sync(made)
        with suppress(FileNotFoundError):
            folder.rename(old)
        made.rename(folder)
        sync(folder.parent)


def carry(export: Path, folder: Path) -> None:
    """Have `folder` hold the same as `export`: the very files where the file system can, else
    copies. Raises OSError."""
    with appearing(folder) as made:
        for name in (ABOUT, *json.loads((export / ABOUT).read_bytes())["files"]):
            try:
                os.link(export / name, made / name)
            except OSError:
                shutil.copyfile(export / name, made / name)


def _checksum(about: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
