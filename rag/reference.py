"""The reference encoder: sentence-transformers, which loads any model.

Importing it takes seconds and hundreds of megabytes, so that the program runs an exported copy of
the model (`rag.lean`) wherever there is one that gives the same.
"""

from __future__ import annotations

import os

# Torch reads this when it is imported. With another process at work on two cores, a question took
# 31 ms (p95 265) while its threads waited by spinning, and 15 ms (p95 16) without.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers.utils import logging

from rag.encoder import ModelEncoder, Pass, Shape, Tokenised
from rag.models import ModelFiles, loadable

BATCH = 32
"""Texts in one forward pass; longer batches gain nothing on two cores and take more memory."""

LONGEST = 8_192
"""Tokens in one text, for models that name no limit of their own."""

_ENCODE: dict[str, Any] = {
    "batch_size": BATCH,
    "output_value": None,  # everything that the pass gives
    "show_progress_bar": False,
}


class SentenceTransformerEncoder(ModelEncoder):
    """An `Encoder` over any sentence-transformers model on this machine, on the CPU."""

    runtime = "sentence-transformers"

    def __init__(self, files: ModelFiles) -> None:
        """Load the model, without the network and without code or pickles of its own."""
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        with loadable(files) as folder:
            self.model = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        # A copy of its own: the library sets truncation and padding on its tokenizer at every
        # call, and the default model's file comes with both switched on.
        tokenizer = Tokenizer.from_str(self.model.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        super().__init__(files.name, files.fingerprint, _shape(self.model), tokenizer)

    def _document_passes(self, texts: Sequence[Tokenised]) -> list[Pass]:
        given = self.model.encode_document([each.text for each in texts], **_ENCODE)
        return [_pass(one) for one in given]

    def _question_pass(self, text: Tokenised) -> Pass:
        return _pass(self.model.encode_query([text.text], **_ENCODE)[0])


def _shape(model: SentenceTransformer) -> Shape:
    prompts = model.prompts or {}
    return Shape(
        dimension=model.get_embedding_dimension(),
        longest=min(model.get_max_seq_length() or LONGEST, LONGEST),
        pad=model.tokenizer.pad_token_id or 0,
        query=prompts.get("query") or "",
        document=prompts.get("document") or "",
    )


def _pass(given: Mapping[str, Any]) -> Pass:
    seen = given["attention_mask"].numpy().astype(np.bool_)
    tokens = given["token_embeddings"].float().numpy()[seen]
    return Pass(given["sentence_embedding"].float().numpy(), tokens)
