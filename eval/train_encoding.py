"""Train the token encoding `rag_news_v1` on the articles in seeds/ and write its ranks file.

    .venv/bin/python eval/train_encoding.py

The same articles and the same release of tokenizers give the same file, byte for byte. A name
stands for one way of counting: once an encoding is released, train the next one as `_v2`, and
leave the ranks of the old one in place.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import tiktoken
import yaml
from tiktoken_ext.rag_news import PATTERN, ranks_path
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = 4_000


def read_texts(folder: Path) -> list[str]:
    """Title and body of every article, by file name; what has no header is no article."""
    texts = []
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if text.startswith("---\n"):
            _, head, body = text.split("---\n", 2)
            texts.append(f"{yaml.safe_load(head)['title']}\n\n{body.strip()}\n")
    return texts


def typeset(text: str) -> str:
    """The same text with the curved quotation marks and long dashes of most printed news."""
    text = re.sub(r'(?<!\w)"', "\u201c", text).replace('"', "\u201d")
    return text.replace("'", "\u2019").replace(" - ", "\u2014")


def train(texts: Sequence[str]) -> Tokenizer:
    """A byte-level BPE of `VOCABULARY` tokens over the pieces that `PATTERN` gives."""
    tokenizer = Tokenizer(BPE())
    split = Split(Regex(PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = Steps([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        initial_alphabet=ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def bytes_by_letter() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary, undone."""
    shown = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown}
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def ranks_of(tokenizer: Tokenizer) -> dict[bytes, int]:
    """Tokens as bytes with their ranks: the 256 bytes first, then the merges as learned."""
    letters = bytes_by_letter()
    learned = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [bytes(letters[letter] for letter in token) for token, _ in learned]
    single = [bytes([byte]) for byte in range(256)]
    merged = [token for token in tokens if len(token) > 1]
    return {token: rank for rank, token in enumerate([*single, *merged])}


def differences(tokenizer: Tokenizer, ranks: dict[bytes, int], texts: Sequence[str]) -> int:
    """How many texts tiktoken, merging by rank, cuts in another way than the trainer does."""
    encoding = tiktoken.Encoding(
        "trained", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    letters = bytes_by_letter()
    differing = 0
    for text in texts:
        by_rank = encoding.decode_tokens_bytes(encoding.encode_ordinary(text))
        trained = tokenizer.encode(text, add_special_tokens=False).tokens
        differing += by_rank != [bytes(letters[letter] for letter in token) for token in trained]
    return differing


def main() -> None:
    """Train, compare, write."""
    articles = read_texts(ROOT / "seeds")
    texts = [*articles, *map(typeset, articles)]
    tokenizer = train(texts)
    ranks = ranks_of(tokenizer)
    if differing := differences(tokenizer, ranks, texts):
        sys.exit(f"tiktoken cuts {differing} of {len(texts)} texts differently: nothing written")
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    data = b"".join(lines)
    ranks_path().write_bytes(data)
    words = sum(len(text.split()) for text in articles)
    print(f"{len(articles)} articles, {words} words; {len(ranks)} tokens")
    print(f"{ranks_path().relative_to(ROOT)}: sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
