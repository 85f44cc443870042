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
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from filelock import FileLock
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor
from transformers import PreTrainedModel

from rag.encoder import ModelEncoder
from rag.exported import (
    CANNOT,
    GRAPH,
    QUESTION_WEIGHTS,
    QUESTIONS,
    TOKENIZER,
    WEIGHTS,
    Unusable,
    appearing,
    describe,
    opened,
)
from rag.lean import INPUTS, OUTPUTS, LeanEncoder
from rag.models import ModelFiles
from rag.reference import SentenceTransformerEncoder
from rag.types import Floats

OPSET = 17

LEAST_COSINE = 0.9999
"""Between what the two encoders give for a text, and for each of its tokens."""

LEAST_QUESTION_COSINE, LEAST_QUESTION_TOKEN_COSINE = 0.998, 0.99
"""The same between a question's vectors computed with bytes and those of the model. The default
model's have .9995 and .9984 at least over 260 texts, and .9996 at the median."""

BLOCK = 32
"""Numbers of a matrix's column that share a scale. With 16 the default model's questions have a
cosine of .9998 and take a fifth longer; with 128, .9991 and a quarter less, but then a text's
vectors depend on whether it is alone in its pass."""

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


OUT_OF_MEMORY = "allocate memory"
"""What torch's error says where there is none: another day there may be."""


class NotEqual(Exception):
    """An exported model gives other vectors than the model itself."""


def export(files: ModelFiles, destination: Path) -> None:
    """Export a model into the folder `destination`, unless that is there already.

    Raises NotEqual, OSError, and whatever torch finds; nothing is there then.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{destination}.lock"):
        there = opened(destination)
        if there is None or there.changed():
            _export(files, destination)


def require_equal(expected: Iterable[Sequence[Floats]], found: Iterable[Sequence[Floats]]) -> None:
    """Raise NotEqual unless all vectors have the same shapes and nearly the same directions."""
    for one, other in zip(expected, found, strict=True):
        for first, second in zip(one, other, strict=True):
            require_near(first, second, LEAST_COSINE)


def require_near(expected: Floats, found: Floats, least_cosine: float) -> None:
    """Raise NotEqual unless the rows have the same shape and such cosines."""
    if expected.shape != found.shape:
        raise NotEqual(f"the shape of its vectors is {found.shape}, not {expected.shape}")
    least = float(cosines(expected, found).min(initial=1))
    if not least >= least_cosine:  # nor is it if that is no number
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
        lean = _described(files, reference, folder)
        require_equal(expected, _given(lean, texts))
        for text, one in zip(texts, expected, strict=True):
            require_equal([one], _given(lean, [text]))
        _write_questions(folder)
        try:
            _require_questions(lean, _described(files, reference, folder), texts)
        except (NotEqual, Unusable):  # then questions are encoded as passages are
            for name in (QUESTIONS, QUESTION_WEIGHTS):
                (folder / name).unlink()
            _described(files, reference, folder)


def _described(
    files: ModelFiles, reference: SentenceTransformerEncoder, folder: Path
) -> LeanEncoder:
    """The encoder of what stands in `folder`, which is described there."""
    describe(folder, files.name, files.fingerprint, reference.shape)
    made = opened(folder)
    assert made is not None
    return LeanEncoder(files.name, made)


def _require_questions(whole: LeanEncoder, made: LeanEncoder, texts: Sequence[str]) -> None:
    """Raise NotEqual unless `made` gives for questions nearly what `whole` does, and for a question
    among others what it gives for it alone."""
    for text, among in zip(texts, made.together(texts), strict=True):
        (known,), (alone,) = whole.together([text]), made.together([text])
        require_near(known.vector[None], alone.vector[None], LEAST_QUESTION_COSINE)
        require_near(known.tokens, alone.tokens, LEAST_QUESTION_TOKEN_COSINE)
        require_equal([[alone.vector[None], alone.tokens]], [[among.vector[None], among.tokens]])


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


def _write_questions(folder: Path) -> None:
    """The graph of `folder` again for questions, whose few tokens take less time than to read all
    weights: matrices in bytes, which are multiplied with the rows' numbers in bytes. A row has
    scales of its own, so that no text's vectors depend on another's.

    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
    """
    model = onnx.load(folder / GRAPH, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        matrix = tensors.get(node.input[1]) if node.op_type == "MatMul" else None
        if matrix is None or len(matrix.dims) != 2:
            continue
        load_external_data_for_tensor(matrix, str(folder))
        rows, columns = matrix.dims
        codes, scales = in_bytes(numpy_helper.to_array(matrix))
        made = [f"{node.name}.codes", f"{node.name}.scales"]
        arrays: list[npt.NDArray[Any]] = [codes, scales]
        for name, array in zip(made, arrays, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        node.op_type, node.domain = "MatMulNBits", "com.microsoft"
        node.input[:] = [node.input[0], *made]
        node.attribute.extend(
            helper.make_attribute(name, value)
            for name, value in {
                "K": rows,
                "N": columns,
                "bits": 8,
                "block_size": BLOCK,
                "accuracy_level": 4,  # multiply bytes with bytes
            }.items()
        )
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    # The tensors that were left alone still point to where they stand.
    file, weights = folder / QUESTIONS, QUESTION_WEIGHTS
    onnx.save_model(model, file, save_as_external_data=True, location=weights)


def in_bytes(matrix: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """A matrix of shape (rows, columns) as codes of shape (columns, blocks, BLOCK) and the blocks'
    scales, of shape (columns, blocks): a number is (code - 128) times its scale."""
    rows, columns = matrix.shape
    blocks = -(-rows // BLOCK)
    padded = np.zeros((columns, blocks * BLOCK), dtype=np.float32)
    padded[:, :rows] = matrix.T
    parts = padded.reshape(columns, blocks, BLOCK)
    scales = np.abs(parts).max(axis=2) / 127
    codes = np.rint(parts / np.where(scales > 0, scales, 1)[:, :, None]) + 128
    return codes.astype(np.uint8), scales


def main(name: str, folder: str, fingerprint: str, destination: str) -> int:
    """Export; the exit code. Why it cannot be done is the last line of standard error."""
    try:
        export(ModelFiles(name, Path(folder), fingerprint), Path(destination))
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        print(said[0], file=sys.stderr)
        of_today = isinstance(error, OSError | MemoryError) or OUT_OF_MEMORY in str(error)
        return 1 if of_today else CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
