"""Exports a model for the lean encoder, and proves that it gives what the reference gives.

    python -m rag.export NAME FOLDER FINGERPRINT DESTINATION

It is run as a process of its own, so that the one which needs the model never imports torch; with
others that do the same it agrees by a lock. The
graph holds the whole model, pooling and normalisation included, and is made by tracing
(`torch.onnx` with dynamo=False): that needs the package onnx alone and takes three seconds, the
other way needs onnxscript too, takes ten, and gives a graph that is no faster.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from filelock import FileLock
from transformers import PreTrainedModel

from rag.encoder import ModelEncoder
from rag.exported import CANNOT, GRAPH, TOKENIZER, WEIGHTS, appearing, describe, opened
from rag.lean import INPUTS, OUTPUTS, LeanEncoder
from rag.models import ModelFiles
from rag.reference import SentenceTransformerEncoder
from rag.types import Floats

OPSET = 17

LEAST_COSINE = 0.9999
"""Between what the two encoders give for a text, and for each of its tokens."""

LONGEST_TOKENS = 2_048
"""Of the longest text compared, which is as long as the window: attention takes memory square in
it. Passages are far shorter, and few questions have as many."""

SAMPLE = (
    "Rain.",
    "The envoy warned the Security Council on 20 November that terrorism may spill over.",
    "who WARNED of spillover, and when?",
    "Preço do café subiu; o governo não comentou. Łódź, Ærøskøbing, Straße, e\u0323a.",
    "他说了这句话。政府没有评论。",
    "قال الرئيس إن الأمطار هطلت بغزارة.",
    "Министр опроверг сообщения; газеты писали об этом ещё вчера.",
    "👩\u200d👩\u200d👧 🇺🇸 🔥 42 % – “quoted”",
    "[SEP] [CLS] [MASK] [PAD] <s> </s>",
    "The ministry said that the price of bread would not rise before the harvest. " * 9,
    "",
)


class NotEqual(Exception):
    """An exported model gives other vectors than the model itself."""


def export(files: ModelFiles, destination: Path) -> None:
    """Export a model into the folder `destination`, unless that is there already.

    Raises NotEqual, OSError, and whatever torch finds; nothing is there then.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{destination}.lock"):
        there = opened(destination)
        if there is None or not there.weights_whole():
            _export(files, destination)


def require_equal(expected: Iterable[Sequence[Floats]], found: Iterable[Sequence[Floats]]) -> None:
    """Raise NotEqual unless all vectors have the same shapes and nearly the same directions."""
    for one, other in zip(expected, found, strict=True):
        for first, second in zip(one, other, strict=True):
            if first.shape != second.shape:
                raise NotEqual(f"the shape of its vectors is {second.shape}, not {first.shape}")
            least = float(cosines(first, second).min(initial=1))
            if not least >= LEAST_COSINE:  # nor is it if that is no number
                raise NotEqual(f"its vectors differ: the least cosine is {least:.6f}")


def cosines(one: Floats, other: Floats) -> npt.NDArray[np.float64]:
    """Cosines between the rows of two matrices; two rows of nothing are alike."""
    first, second = np.float64(one), np.float64(other)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found = (first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    alike = (first == second).all(axis=1)
    return np.asarray(np.where(alike, 1.0, found))


def _export(files: ModelFiles, destination: Path) -> None:
    reference = SentenceTransformerEncoder(files)
    longest = min(reference.window, LONGEST_TOKENS)
    texts = [*SAMPLE, reference.head("peace and war, " * longest, longest)]
    texts = [text for text in texts if reference.count([text])[0] <= reference.window]
    expected = _given(reference, texts)
    with appearing(destination) as folder:
        _write(reference, folder)
        describe(folder, files.name, files.fingerprint, reference.shape)
        made = opened(folder)
        assert made is not None
        lean = LeanEncoder(files.name, made)
        require_equal(expected, _given(lean, texts))
        for text, one in zip(texts, expected, strict=True):
            require_equal([one], _given(lean, [text]))


def _given(encoder: ModelEncoder, texts: Sequence[str]) -> list[list[Floats]]:
    """For each text all that the encoder gives for it, as a passage and as a question."""
    passages = encoder.encode_passages(texts)
    tokens = np.split(
        encoder.uncompressed(texts),
        np.cumsum([len(each.token_vectors.codes) for each in passages])[:-1],
    )
    asked = [encoder.encode_question(text) for text in texts]
    return [
        [passage.vector[None], rows, question.vector[None], question.token_vectors]
        for passage, rows, question in zip(passages, tokens, asked, strict=True)
    ]


class _Whole(torch.nn.Module):
    """The model from ids to vectors."""

    def __init__(self, encoder: SentenceTransformerEncoder) -> None:
        super().__init__()
        self.model = encoder.model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        given = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return given["token_embeddings"], given["sentence_embedding"]


def _write(encoder: SentenceTransformerEncoder, folder: Path) -> None:
    """Graph, weights and tokenizer into `folder`."""
    for module in encoder.model.modules():
        if isinstance(module, PreTrainedModel):
            # Traced, the fused attention becomes a slower graph than the plain one.
            module.set_attn_implementation("eager")
    ids = torch.tensor([encoder.tokenizer.encode("war and peace").ids] * 2)
    axes = {name: {0: "texts", 1: "tokens"} for name in (*INPUTS, *OUTPUTS)}
    axes[OUTPUTS[1]] = {0: "texts"}
    traced = folder / "traced.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it is the older way, and the trace fixes what is fixed
        torch.onnx.export(
            _Whole(encoder).eval(),
            (ids, torch.ones_like(ids)),
            traced,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(traced)
    traced.unlink()
    # Weights in a file of their own are mapped into memory, not read: rare words take no room.
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location=WEIGHTS)
    encoder.tokenizer.save(str(folder / TOKENIZER), pretty=False)


def main(name: str, folder: str, fingerprint: str, destination: str) -> int:
    """Export; the exit code. Why it cannot be done is the last line of standard error."""
    try:
        export(ModelFiles(name, Path(folder), fingerprint), Path(destination))
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        print(said[0], file=sys.stderr)
        return 1 if isinstance(error, OSError) else CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
