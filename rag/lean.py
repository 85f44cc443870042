"""The lean encoder: an exported model run by onnxruntime, its texts cut by tokenizers.

Neither torch nor transformers is imported. What it gives for a passage is what the reference
encoder gives, but for the last bits, and what it gives for a question nearly that, whatever the
company a text is encoded in: questions have a graph of their own, with the matrices in bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from rag.cores import cores
from rag.encoder import ModelEncoder, Pass, Tokenised
from rag.exported import GRAPH, QUESTIONS, TOKENIZER, Export, Unusable
from rag.turns import Turns
from rag.types import Numbers

PASS_TOKENS = 500
"""Tokens in one pass, padding included: 80 ms on two cores. Larger ones gain nothing: 250, 500,
1,000, 2,000 and 4,000 gave 3,700, 3,300, 3,300, 3,000 and 2,500 tokens a second of processor time,
and a process of 191, 199, 216, 243 and 341 MB."""

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("token_embeddings", "sentence_embedding")


class LeanEncoder(ModelEncoder):
    """An `Encoder` over an exported model, on the CPU. Questions share passes."""

    runtime = "onnxruntime"

    def __init__(self, name: str, export: Export) -> None:
        """Raises Unusable for files that cannot be used; later uses of it do too."""
        try:
            tokenizer = Tokenizer.from_file(str(export.folder / TOKENIZER))
        except Exception as error:  # it raises no other
            raise Unusable(f"tokenizers cannot use {export.folder}: {error}") from error
        super().__init__(name, export.fingerprint, export.shape, tokenizer)
        self.exported = export.folder
        self._graph = _Graph(export.folder / GRAPH)
        self._questions = _Graph(export.folder / QUESTIONS) if export.for_questions else self._graph
        self._questions.session()  # the other one when it is needed: most who ask add nothing
        self._turns: Turns[Tokenised, Pass] = Turns(self._asked, _fitting)

    def together(self, questions: Sequence[str]) -> list[Pass]:
        """One pass over several questions, as they share it under load."""
        return self._asked(self._tokenised(questions, self.shape.query))

    def _document_passes(self, texts: Sequence[Tokenised]) -> list[Pass]:
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place].ids))
        given: dict[int, Pass] = {}
        for places in _batches(order, texts):
            with self._turns.alone():
                passes = self._run(self._graph, [texts[place] for place in places])
            given.update(zip(places, passes, strict=True))
        return [given[place] for place in range(len(texts))]

    def _question_pass(self, text: Tokenised) -> Pass:
        return self._turns.share(text)

    def _asked(self, texts: Sequence[Tokenised]) -> list[Pass]:
        return self._run(self._questions, texts)

    def _run(self, graph: _Graph, texts: Sequence[Tokenised]) -> list[Pass]:
        """One pass over texts, the shorter ones filled up."""
        shape = len(texts), max(len(each.ids) for each in texts)
        ids, mask = np.full(shape, self.shape.pad, np.int64), np.zeros(shape, np.int64)
        for row, each in enumerate(texts):
            ids[row, : len(each.ids)], mask[row, : len(each.ids)] = each.ids, 1
        given = graph.run(ids, mask)
        return [
            Pass(vector, tokens[: len(each.ids)])
            for each, tokens, vector in zip(texts, *given, strict=True)
        ]


class _Graph:
    """One graph of an exported model, loaded at its first use."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._loading = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = None
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, ids: Numbers, mask: Numbers) -> Any:
        """What `OUTPUTS` names, for ids of shape (texts, tokens)."""
        inputs = dict(zip(INPUTS, (ids, mask), strict=True))
        return self.session().run(OUTPUTS, inputs, self._options)

    def session(self) -> onnxruntime.InferenceSession:
        """The graph, loaded. Raises Unusable."""
        with self._loading:
            if self._session is None:
                self._session = self._loaded()
            return self._session

    def _loaded(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        # A thread that waits by spinning takes a core from whoever else is at work on this machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena is given back at the end of each pass. Without it the many large pieces fragment
        # the process's heap: passes of 4,000 tokens took 25% longer, and the process grew to 671 MB
        # instead of 371.
        options.enable_cpu_mem_arena = True
        try:
            return onnxruntime.InferenceSession(
                str(self._file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it has many, and they share no base of its own
            raise Unusable(f"onnxruntime cannot use {self._file}: {error}") from error


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
