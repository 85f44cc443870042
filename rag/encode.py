"""The encoder of a model: its exported copy if there can be one, else sentence-transformers.

The copy is looked for in the archive's folder and in the user's cache; where there is none it is
made, once, in a process of its own. A model that cannot be exported runs through
sentence-transformers, and that is said.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rag.cores import blas_threads
from rag.encoder import ModelEncoder, projection_name
from rag.exported import CANNOT, FORMAT, IN_INDEX, Unusable, opened
from rag.models import DEFAULT_MODEL, ModelFiles, locate_model
from rag.process import command, environment
from rag.types import EncodedQuestion, Encoding, Floats

logger = logging.getLogger(__name__)

LEAN, REFERENCE = "onnxruntime", "sentence-transformers"

MADE_WITH = ("torch", "transformers", "sentence-transformers", "onnx", "onnxruntime")
"""Another version of one of these may be able to export what an earlier one could not."""


def user_cache() -> Path:
    """Where exported models are kept unless the caller says otherwise."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rag"
    except RuntimeError:  # the user has no home
        return Path("/nonexistent")


def load_encoder(
    model: str = DEFAULT_MODEL,
    *,
    index: Path | None = None,
    cache: Path | None = None,
    tell: Callable[[str], None] = logger.warning,
) -> LazyEncoder:
    """The encoder for `model`; its weights are checked now and loaded at the first use.

    `index`: the archive whose folder may hold the exported model; `cache`: where else it is, or is
    put; by default the user's. `tell` is told what the user should know. Raises ModelNotFound and
    ModelRefused.
    """
    return LazyEncoder(locate_model(model), Places(index, cache or user_cache()), tell)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs a model, and, where it is not the lean one, the reason. `prepared`: nothing has to
    be made before its first use."""

    runtime: str
    prepared: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where exported models are looked for."""

    index: Path | None
    cache: Path

    def folders(self, fingerprint: str) -> list[Path]:
        """Of one model, the first to be preferred."""
        here = [self.index / IN_INDEX] if self.index else []
        return [*here, self.exported(fingerprint)]

    def exported(self, fingerprint: str) -> Path:
        """The folder in the cache."""
        return self.cache / "models" / f"{fingerprint}.{FORMAT}"

    def failure(self, fingerprint: str) -> str | None:
        """Why this model could not be exported by what is installed; None if it was not tried."""
        try:
            known = json.loads(self._failure(fingerprint).read_bytes())
            return str(known["reason"]) if known["versions"] == _versions() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note_failure(self, fingerprint: str, reason: str) -> None:
        """Remember it, so that it is not tried at every start. Raises OSError."""
        file = self._failure(fingerprint)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"reason": reason, "versions": _versions()}))
        temporary.replace(file)

    def _failure(self, fingerprint: str) -> Path:
        return self.exported(fingerprint).with_suffix(f".{FORMAT}.failed")


def runtime(files: ModelFiles, places: Places) -> Runtime:
    """What will run a model here, by what there is; nothing is loaded, and no large file read."""
    for folder in places.folders(files.fingerprint):
        export = opened(folder)
        if export and export.fingerprint == files.fingerprint:
            return Runtime(LEAN, prepared=True)
    reason = places.failure(files.fingerprint)
    return Runtime(REFERENCE if reason else LEAN, prepared=bool(reason), reason=reason)


class LazyEncoder:
    """An `Encoder` that is loaded at its first use; until then only its files are known."""

    def __init__(self, files: ModelFiles, places: Places, tell: Callable[[str], None]) -> None:
        self._files = files
        self._places = places
        self._tell = tell
        self._loading = threading.Lock()
        self._loaded: ModelEncoder | None = None

    @property
    def name(self) -> str:
        """The model's name or path, as it was asked for."""
        return self._files.name

    @property
    def fingerprint(self) -> str:
        """Hash of the model's files."""
        return self._files.fingerprint

    @property
    def projection(self) -> str:
        """Name of what token vectors are compressed with."""
        return projection_name(self._files.name)

    @property
    def window(self) -> int:
        """Tokens of a passage the model sees, special ones and its own prompt left out."""
        return self._ready().window

    @property
    def exported(self) -> Path | None:
        """The folder of the exported model that runs; None if none does."""
        return self._ready().exported

    def warm(self) -> None:
        """Load the model now instead of at the first use."""
        self.encode_question("warm")

    def count(self, texts: Sequence[str]) -> list[int]:
        """See Encoder."""
        return self._ready().count(texts)

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        """See Encoder. The graph for passages is loaded at its first use: where it has gone since
        the model was loaded, the model is looked for again."""
        loaded = self._ready()
        try:
            return loaded.encode_passages(texts)
        except Unusable as error:
            self._tell(str(error))
            with self._loading:
                if self._loaded is loaded:
                    self._loaded = None
            return self._ready().encode_passages(texts)

    def encode_question(self, text: str) -> EncodedQuestion:
        """See Encoder."""
        return self._ready().encode_question(text)

    def uncompressed(self, texts: Sequence[str]) -> Floats:
        """Token vectors of texts as the model gives them, a row each: to fit a projection to."""
        return self._ready().uncompressed(texts)

    def _ready(self) -> ModelEncoder:
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self._files, self._places, self._tell)
            return self._loaded


def _load(files: ModelFiles, places: Places, tell: Callable[[str], None]) -> ModelEncoder:
    lean = _lean(files, places, tell)
    reason = places.failure(files.fingerprint)
    if lean is None and reason is None:
        tell(f"Preparing the model {files.name} (once, takes about 20 s)")
        reason = _export(files, places) or "its exported copy cannot be used"
        lean = _lean(files, places, tell)
    if lean is None:
        tell(f"{files.name} runs through {REFERENCE}, slower and larger: {reason}")
        from rag.reference import SentenceTransformerEncoder

        return SentenceTransformerEncoder(files)
    return lean


def _lean(files: ModelFiles, places: Places, tell: Callable[[str], None]) -> ModelEncoder | None:
    """The exported model from the first place that has it whole."""
    for folder in places.folders(files.fingerprint):
        export = opened(folder)
        if export is None or export.fingerprint != files.fingerprint:
            continue
        with ThreadPoolExecutor(1) as thread:
            changed = thread.submit(export.changed)
            from rag.lean import LeanEncoder

            try:
                lean = LeanEncoder(files.name, export)
            except Unusable as error:
                tell(str(error))
                continue
        if changed.result() is None:
            blas_threads(1)
            return lean
        tell(f"{folder} is damaged and is not used")
    return None


def _export(files: ModelFiles, places: Places) -> str | None:
    """Have the model exported into the cache; why that cannot be done, None if it is."""
    destination = places.exported(files.fingerprint)
    given = [files.name, str(files.folder), files.fingerprint, str(destination)]
    done = subprocess.run(  # noqa: S603 - our own module
        command("rag.export", *given),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if not done.returncode:
        return None
    said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    if done.returncode != CANNOT:
        return f"it was not exported this time: {said[-1]} (RAG_CACHE names the folder for it)"
    reason = f"it cannot be exported: {said[-1]}"
    with suppress(OSError):
        places.note_failure(files.fingerprint, reason)
    return reason


def _versions() -> dict[str, str]:
    found = {}
    for package in MADE_WITH:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
