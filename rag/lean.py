"""The lean encoder: an exported model run by onnxruntime, its texts cut by tokenizers.

Neither torch nor transformers is imported. What it gives is what the reference encoder gives, but
for the last bits, whatever the company a text is encoded in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from rag.encoder import ModelEncoder, Pass, Tokenised
from rag.exported import GRAPH, TOKENIZER, Export
from rag.turns import Turns

PASS_TOKENS = 500
"""Tokens in one pass, padding included. On two cores a question waits 80 ms for such a pass to end,
and larger ones gain nothing: 250, 500, 1,000, 2,000 and 4,000 gave 3,700, 3,300, 3,300, 3,000 and
2,500 tokens a second of processor time, and a process of 191, 199, 216, 243 and 341 MB."""

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("token_embeddings", "sentence_embedding")


class LeanEncoder(ModelEncoder):
    """An `Encoder` over an exported model, on the CPU. Passes take turns, questions first."""

    runtime = "onnxruntime"

    def __init__(self, name: str, export: Export) -> None:
        """Raises ValueError for files that onnxruntime cannot use."""
        tokenizer = Tokenizer.from_file(str(export.folder / TOKENIZER))
        super().__init__(name, export.fingerprint, export.shape, tokenizer)
        self.exported = export.folder
        try:
            self._session = onnxruntime.InferenceSession(
                str(export.folder / GRAPH), _options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it has many, and they share no base of its own
            raise ValueError(f"onnxruntime cannot use {export.folder}: {error}") from error
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._turns: Turns[Tokenised, Pass] = Turns(self._run, _fitting)

    def _document_passes(self, texts: Sequence[Tokenised]) -> list[Pass]:
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place].ids))
        given: dict[int, Pass] = {}
        for places in _batches(order, texts):
            with self._turns.alone():
                passes = self._run([texts[place] for place in places])
            given.update(zip(places, passes, strict=True))
        return [given[place] for place in range(len(texts))]

    def _question_pass(self, text: Tokenised) -> Pass:
        return self._turns.share(text)

    def _run(self, texts: Sequence[Tokenised]) -> list[Pass]:
        """One pass over texts, the shorter ones filled up."""
        shape = len(texts), max(len(each.ids) for each in texts)
        ids, mask = np.full(shape, self.shape.pad, np.int64), np.zeros(shape, np.int64)
        for row, each in enumerate(texts):
            ids[row, : len(each.ids)], mask[row, : len(each.ids)] = each.ids, 1
        given: Any = self._session.run(
            OUTPUTS, dict(zip(INPUTS, (ids, mask), strict=True)), self._run_options
        )
        return [
            Pass(vector, tokens[: len(each.ids)])
            for each, tokens, vector in zip(texts, *given, strict=True)
        ]


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    # A thread that waits by spinning takes a core from whoever else is at work on this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena is given back at the end of each pass (`_run_options`). Without it the many large
    # pieces fragment the process's heap: passes of 4,000 tokens took 25% longer, and the process
    # grew to 671 MB instead of 371.
    options.enable_cpu_mem_arena = True
    return options


def _threads() -> int:
    """As many as the process has cores, or as the environment says."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fitting(texts: Sequence[Tokenised]) -> int:
    """How many of these, from the first on, go into one pass: one at least."""
    longest = 0
    for count, each in enumerate(texts):
        longest = max(longest, len(each.ids))
        if count and longest * (count + 1) > PASS_TOKENS:
            return count
    return len(texts)


def _batches(order: Sequence[int], texts: Sequence[Tokenised]) -> Iterator[Sequence[int]]:
    """`order`, which goes by length, pass by pass."""
    while order:
        count = _fitting([texts[place] for place in order])
        yield order[:count]
        order = order[count:]
