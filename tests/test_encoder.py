"""What encoders make of texts, the lean one and the reference alike: nothing cut in silence, the
same vector for the same text, each token at its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace

from rag.encode import LazyEncoder
from rag.encoder import ModelEncoder, trimmed
from rag.ingest import encoder_input
from rag.models import DEFAULT_MODEL, locate_model
from rag.project import expand, shipped_projection
from rag.types import TokenVectors
from tests.vectors import NEWS, PLACED, cosines

if TYPE_CHECKING:
    from rag.reference import SentenceTransformerEncoder

AnyEncoder = LazyEncoder | ModelEncoder


@pytest.fixture(params=["real_encoder", "reference"])
def encoder(request: pytest.FixtureRequest) -> AnyEncoder:
    """The default model, run by onnxruntime and by sentence-transformers."""
    found: AnyEncoder = request.getfixturevalue(request.param)
    return found


@pytest.mark.model
def test_it_is_an_encoder(encoder: AnyEncoder) -> None:
    assert encoder.name == DEFAULT_MODEL
    assert encoder.fingerprint == locate_model().fingerprint
    assert encoder.window == 254


@pytest.mark.model
@pytest.mark.parametrize("tokens", [0, 1, 127, 128, 129, 255, 256, 257, 512, 513, 5_000])
def test_tokens_are_counted_to_the_end(tokens: int, encoder: AnyEncoder) -> None:
    assert encoder.count(["peace " * tokens, "war", "peace " * tokens]) == [tokens, 1, tokens]


@pytest.mark.model
def test_the_model_sees_the_last_word_of_a_full_window(
    encoder: AnyEncoder,
) -> None:
    whole = "peace " * encoder.window
    other = "peace " * (encoder.window - 1) + "war"
    first, second = encoder.encode_passages([whole, other])
    assert first.tokens == second.tokens == encoder.window + 2
    assert np.abs(first.vector - second.vector).max() > 1e-3


@pytest.mark.model
def test_no_passage_is_cut(encoder: AnyEncoder) -> None:
    over = "peace " * (encoder.window + 1)
    with pytest.raises(ValueError, match=r"255 tokens .* 254"):
        encoder.encode_passages(["peace", over])
    assert encoder.encode_passages([]) == []


@pytest.mark.model
def test_of_a_long_question_the_start_is_seen_and_the_numbers_are_said(
    encoder: AnyEncoder,
) -> None:
    window = encoder.window
    long = encoder.encode_question("peace " * (window + 46))
    assert (long.tokens, long.tokens_seen) == (window + 46, window)
    seen = encoder.encode_question("peace " * window)
    assert (seen.tokens, seen.tokens_seen) == (window, window)
    assert np.allclose(long.vector, seen.vector, atol=1e-6)


@pytest.mark.model
@pytest.mark.parametrize(
    "text", ["x" * 8_000, "한국의" * 2_600, "👩\u200d👩\u200d👧" * 1_600, "?" * 8_000]
)
def test_of_any_long_question_no_more_is_seen_than_the_window(
    text: str, encoder: AnyEncoder
) -> None:
    asked = encoder.encode_question(text)
    assert asked.tokens == encoder.count([text])[0]
    assert asked.tokens_seen == min(asked.tokens, encoder.window)


@pytest.mark.model
def test_a_text_has_the_same_vector_in_any_company(
    encoder: AnyEncoder,
) -> None:
    alone = [encoder.encode_passages([text])[0] for text in NEWS]
    together = encoder.encode_passages(NEWS * 9)
    for at, encoding in enumerate(together):
        assert np.abs(encoding.vector - alone[at % len(NEWS)].vector).max() < 1e-5
        assert encoding.tokens == alone[at % len(NEWS)].tokens
    question = encoder.encode_question(NEWS[0])
    assert float(question.vector @ alone[0].vector) > 0.998


@pytest.mark.model
def test_vectors_have_unit_length(encoder: AnyEncoder) -> None:
    for encoding in encoder.encode_passages(NEWS):
        assert encoding.vector.dtype == np.float32
        assert encoding.vector.shape == (384,)
        assert abs(float(np.linalg.norm(encoding.vector)) - 1) < 1e-5
    assert encoder.encode_passages([""])[0].tokens == 2


@pytest.mark.model
def test_what_is_near_in_meaning_has_near_vectors(
    encoder: AnyEncoder,
) -> None:
    question = encoder.encode_question("who warned of spillover").vector
    near, far = encoder.encode_passages([NEWS[0], "She won the marathon in record time."])
    assert question @ near.vector > question @ far.vector + 0.3


# Token vectors

ANIMALS = ["giraffe", "volcano", "parliament", "saxophone", "marathon"]


def pieces(text: str, found: TokenVectors) -> list[str]:
    """What stands at the place of each token."""
    return [text[len(text) - start : len(text) - end] for start, end in found.places.tolist()]


@pytest.mark.model
def test_a_text_has_the_same_token_vectors_in_any_company(
    encoder: AnyEncoder,
) -> None:
    texts = [*NEWS, *PLACED]
    alone = np.concatenate([encoder.uncompressed([text]) for text in texts])
    together = encoder.uncompressed(texts)
    assert together.shape == alone.shape
    assert cosines(together, alone).min() >= 0.9999
    encodings = encoder.encode_passages(texts)
    same = total = 0
    for text, encoding in zip(texts, encodings, strict=True):
        (single,) = encoder.encode_passages([text])
        assert encoding.token_vectors.places.tolist() == single.token_vectors.places.tolist()
        levels = expand(encoding.token_vectors.codes) == expand(single.token_vectors.codes)
        same, total = same + int(levels.sum()), total + levels.size
    assert total > 256 * 200
    assert same / total > 0.9995


@pytest.mark.model
def test_what_is_stored_is_what_the_model_gave(encoder: AnyEncoder) -> None:
    found = encoder.encode_passages(NEWS)
    given = encoder.uncompressed(NEWS)
    codes = np.concatenate([encoding.token_vectors.codes for encoding in found])
    assert codes.shape == (len(given), 64)
    assert np.mean(codes == shipped_projection().compress(given)) > 0.999
    # Of its products with a question's words, enough stays to rank by.
    asked = encoder.encode_question("who warned that bread and coffee get dearer?")
    again = encoder.uncompressed(["who warned that bread and coffee get dearer?"])
    true = (again / np.linalg.norm(again, axis=1, keepdims=True)) @ (
        given / np.linalg.norm(given, axis=1, keepdims=True)
    ).T
    products = asked.token_vectors @ expand(codes).T
    assert np.corrcoef(products.ravel(), true.ravel())[0, 1] > 0.95


@pytest.mark.model
def test_the_mean_of_all_tokens_is_the_vector_of_the_text(
    encoder: AnyEncoder, reference: SentenceTransformerEncoder
) -> None:
    for text in NEWS:
        given = reference.model.encode_document([text], output_value=None)[0]
        every = given["token_embeddings"].numpy()[given["attention_mask"].numpy().astype(bool)]
        (encoding,) = encoder.encode_passages([text])
        assert len(every) == encoding.tokens
        mean = every.mean(axis=0)
        assert np.abs(mean / np.linalg.norm(mean) - encoding.vector).max() < 1e-5
        tokens = reference.tokenizer.encode(text, add_special_tokens=False)
        words = [at for at, piece in enumerate(tokens.offsets) if is_word(text, piece)]
        inner = every[1:-1][words]
        assert np.abs(inner - encoder.uncompressed([text])).max(initial=0.0) < 1e-4


def is_word(text: str, offsets: tuple[int, int]) -> bool:
    return any(character.isalnum() for character in text[slice(*offsets)])


@pytest.mark.model
@pytest.mark.parametrize("text", PLACED)
@pytest.mark.parametrize("title", ["", "A day in the news: 👩\u200d👧 قال"])
def test_each_token_is_at_the_place_of_its_word(text: str, title: str, encoder: AnyEncoder) -> None:
    whole = encoder_input(title, text)
    (encoding,) = encoder.encode_passages([whole])
    found = encoding.token_vectors
    assert all(any(map(str.isalnum, piece)) for piece in pieces(whole, found))
    letters = [character for character in "".join(pieces(whole, found)) if character.isalnum()]
    assert letters == [character for character in whole if character.isalnum()]
    # The place is counted from the end, so that a title before the passage moves nothing.
    for animal in ANIMALS:
        asked = encoder.encode_question(animal)
        near = (asked.token_vectors @ expand(found.codes).T).max(axis=0)
        start, end = found.places[int(near.argmax())].tolist()
        word = text[len(text) - start : len(text) - end].lower()
        assert word in animal
        assert len(word) > 1


@pytest.mark.model
def test_special_tokens_and_marks_have_no_vectors(
    encoder: AnyEncoder,
) -> None:
    for text, count in (("", 0), ("?!...", 0), ("👩\u200d👧 🔥", 0), ("war, peace.", 2)):
        (encoding,) = encoder.encode_passages([text])
        found = encoding.token_vectors
        assert found.codes.shape == (count, 64)
        assert found.places.shape == (count, 2)
        assert found.codes.dtype == np.uint8
        assert found.places.dtype == np.uint16


@pytest.mark.model
def test_a_full_window_has_a_vector_for_each_token(
    encoder: AnyEncoder,
) -> None:
    peace = ["peace"] * (encoder.window - 1)
    texts = [" ".join([*peace, last]) for last in ("war", "peace")]
    one, other = (each.token_vectors for each in encoder.encode_passages(texts))
    assert len(one.codes) == len(other.codes) == encoder.window
    assert pieces(texts[0], one) == texts[0].split()
    changed = (one.codes != other.codes).mean(axis=1)
    assert changed[-1] > 2 * changed[:-1].mean()


@pytest.mark.model
def test_a_word_too_long_for_its_place_ends_where_it_ends(
    encoder: AnyEncoder,
) -> None:
    text = "Storm " + "x" * 70_000 + " ended"
    (encoding,) = encoder.encode_passages([text])
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
    text: str, words: list[str], encoder: AnyEncoder
) -> None:
    asked = encoder.encode_question(text)
    assert [text[start:end] for start, end in asked.offsets] == words
    assert asked.token_vectors.shape == (len(words), 256)
    assert asked.token_vectors.dtype == asked.whole.dtype == np.float32
    whole = shipped_projection().question(asked.vector[None])[0]
    assert np.allclose(asked.whole, whole, atol=1e-6)


@pytest.mark.model
def test_of_a_long_question_the_words_seen_have_vectors(
    encoder: AnyEncoder,
) -> None:
    text = "peace, " * 400
    asked = encoder.encode_question(text)
    assert asked.tokens == 800
    assert asked.tokens_seen == encoder.window
    assert len(asked.offsets) == len(asked.token_vectors) == encoder.window / 2
    assert {text[start:end] for start, end in asked.offsets} == {"peace"}
    assert asked.offsets[-1][1] <= 7 * encoder.window / 2


def test_a_token_begins_where_its_word_does() -> None:
    """Models with SentencePiece have the space before a word in its token."""
    text = "war  and\npeace"
    vocabulary = {piece: at for at, piece in enumerate(["▁war", "▁and", "▁", "▁peace", "?"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = Metaspace()
    given = tokenizer.encode(text).offsets
    assert any(text[start].isspace() for start, _ in given)
    found = trimmed(text, given)
    assert len(found) == len(given)
    for (start, end), (before, after) in zip(found, given, strict=True):
        assert text[start:end] == (text[before:after].lstrip() or text[before:after])
        assert end == after
