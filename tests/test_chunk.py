"""Passages: whole sentences, none lost, none twice, whatever the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.chunk import (
    PASSAGE_TOKENS,
    SEGMENT_CHARACTERS,
    Counter,
    chunk,
    clip_words,
    sentences,
)
from rag.encode import LazyEncoder
from rag.read import read_paths
from rag.types import Article, Span

SEEDS = Path(__file__).parent.parent / "seeds"
WORD = re.compile(r"\w+|[^\w\s]")

ANY_TEXT = st.one_of(
    st.text(max_size=300),
    st.text(
        st.sampled_from("aAb .!?\n\n\t\"'。！؟é\u0301👩\u200d\u00a0\u3000x1,;:()—-"), max_size=400
    ),
    st.lists(
        st.sampled_from(["Yes. ", "U.S. ", "word ", "\n", "\n\n", "Dr. A. B. ", "a" * 70])
    ).map("".join),
)


def words(texts: Sequence[str]) -> list[int]:
    """Words and marks: as a word tokenizer counts, so that parts of a text add up."""
    return [len(WORD.findall(text)) for text in texts]


def signs(texts: Sequence[str]) -> list[int]:
    """Characters other than white space: as a tokenizer without a word for anything counts."""
    return [sum(not sign.isspace() for sign in text) for text in texts]


COUNTERS = st.sampled_from([words, signs])


def said(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def check(text: str, spans: Sequence[Span], limit: int) -> None:
    """All that every reader of spans relies on, but for the number of tokens."""
    at = 0
    for span in spans:
        assert at <= span.start <= span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        assert span.tokens <= limit or span.end - span.start == 1
        if span.sentences:
            assert span.start == span.sentences[0][0]
            assert span.end == span.sentences[-1][1]
        for start, end in span.sentences:
            assert at <= start < end
            assert not text[start].isspace()
            assert not text[end - 1].isspace()
            assert not text[at:start].strip(), "words between two sentences"
            at = end
    assert not text[at:].strip(), "words after the last sentence"


@given(ANY_TEXT, st.integers(1, 12), st.integers(0, 12), COUNTERS)
@example("A\u3000.-", 1, 0, words)  # the segmenter took the space for one byte
@example("1。", 1, 0, words)  # the only place to cut after a clause was the end of the text
def test_spans_hold_every_word_once_in_order_and_within_the_limit(
    text: str, budget: int, more: int, count: Counter
) -> None:
    spans = chunk(text, count, budget=budget, limit=budget + more)
    check(text, spans, budget + more)
    for span in spans:
        (whole,) = count([text[span.start : span.end]])
        # A word that was cut counts once for each part of it, and once where they are together.
        assert whole == span.tokens if count is signs else whole <= span.tokens


@given(ANY_TEXT, st.integers(1, 12))
def test_the_same_text_gives_the_same_spans(text: str, budget: int) -> None:
    first = chunk(text, words, budget=budget, limit=20)
    assert first == chunk(text, words, budget=budget, limit=20)
    assert bool(text.strip()) == bool(first[0].sentences)


@given(ANY_TEXT)
def test_sentences_cover_all_that_is_not_white_space(text: str) -> None:
    at = 0
    for start, end in sentences(text):
        assert at <= start < end
        assert not text[at:start].strip()
        assert text[start:end] == text[start:end].strip()
        at = end
    assert not text[at:].strip()


@pytest.mark.parametrize("text", ["", " ", "\n\n\t \u3000\n"])
def test_a_text_without_a_word_has_one_empty_span(text: str) -> None:
    assert sentences(text) == []
    assert chunk(text, words, budget=5, limit=9) == [Span(0, 0, 0, ())]


@pytest.mark.parametrize(("budget", "limit"), [(0, 5), (-1, 5), (6, 5)])
def test_a_budget_must_be_positive_and_within_the_limit(budget: int, limit: int) -> None:
    with pytest.raises(ValueError, match=f"budget {budget} .* limit {limit}"):
        chunk("Anything.", words, budget=budget, limit=limit)


@pytest.mark.parametrize(
    "wanted",
    [
        ["U.S. forces left in 2021.", "The Taliban took over Kabul."],
        ["Gen. K. Jones spoke first.", "Dr. A. B. Smith followed."],
        ["It was signed on Nov. 20, 2025, in Geneva.", "Nobody from Mr. Lee's side came."],
        ["Prices rose by 3.5 percent.", "The yen fell to 151.2 a dollar."],
        ['He said: "It is over."', "Nobody asked him why."],
        ['"We are ready," she said.', '"Are you?"'],
        ["He called the risk “very real.”", "The council listened."],
        ["What now?", "Nobody knew!", "They waited..."],
        ["قال الرئيس ذلك.", "ثم غادر؟", "نعم."],
        ["他说了这句话。", "然后走了！", "为什么？"],
        ["🇺🇸 A flag.", "👩\u200d👩\u200d👧 A family!"],
        ["Cafe\u0301 owners protested.", "E\u0301lise spoke for them."],
    ],
)
def test_sentences_of_one_paragraph(wanted: list[str]) -> None:
    space = "" if "。" in wanted[0] else " "
    assert said(space.join(wanted)) == wanted


def test_a_sentence_wrapped_by_a_mail_program_stays_one() -> None:
    text = (
        "The ministry said on Monday that it would not take part in the talks\n"
        "which its neighbours had called for the end of the month, and that it\n"
        "saw no reason to change its mind. Its spokesman would not say whether\n"
        "others had been told of the decision before."
    )
    first, second = said(text)
    assert first.startswith("The ministry")
    assert first.endswith("its mind.")
    assert second.startswith("Its spokesman")
    assert second.endswith("before.")


def test_two_lines_are_wrapped_text_where_the_second_goes_on_in_lower_case() -> None:
    text = "The ministry said on Monday that it would not take part in\ntalks of any kind."
    assert said(text) == [text]
    apart = "The ministry said on Monday that it would not take part in\nTalks of any kind."
    assert len(said(apart)) == 2


def test_lines_of_a_list_are_sentences_of_their_own() -> None:
    items = ["- Germany 4", "- Ghana 2", "- South Korea 1", "- none"]
    assert said("\n".join(items)) == items


def test_a_headline_is_apart_from_the_text_below_it() -> None:
    headline = "Talks end without a result"
    body = "The two sides met for the last time on Friday."
    assert said(f"{headline}\n\n{body}") == [headline, body]
    assert said(f"{headline}\n{body}") == [headline, body]
    assert said(f"{headline}\n \t\n\n{body}") == [headline, body]


def test_passages_are_of_about_the_same_length() -> None:
    text = " ".join("One two three four five six seven eight nine." for _ in range(23))
    spans = chunk(text, words, budget=100, limit=150)
    tokens = [span.tokens for span in spans]
    assert sum(tokens) == 230
    assert len(tokens) == 3
    assert min(tokens) >= 60
    assert max(tokens) <= 100
    assert all(text[span.start : span.end].endswith("nine.") for span in spans)


def test_a_short_text_is_one_passage() -> None:
    text = "One two. Three four.\n\nFive six."
    (span,) = chunk(text, words, budget=100, limit=150)
    assert (span.start, span.end, span.tokens) == (0, len(text), 9)
    assert [text[a:b] for a, b in span.sentences] == ["One two.", "Three four.", "Five six."]


def test_a_sentence_over_the_limit_is_cut_after_a_clause() -> None:
    clauses = [f"the clause of number {number} is like the others" for number in range(12)]
    text = "; ".join(clauses) + "."
    spans = chunk(text, words, budget=30, limit=40)
    check(text, spans, 40)
    assert len(spans) > 2
    assert all(text[span.end - 1] in ";." for span in spans)


def test_five_thousand_words_without_a_full_stop() -> None:
    text = " ".join(f"word{number}" for number in range(5_000))
    spans = chunk(text, words, budget=100, limit=150)
    check(text, spans, 150)
    assert 5_000 / 150 <= len(spans) <= 5_000 / 40
    assert " ".join(text[span.start : span.end] for span in spans) == text


def test_a_hundred_thousand_characters_without_a_space() -> None:
    text = "x" * 100_000
    spans = chunk(text, signs, budget=100, limit=150)
    check(text, spans, 150)
    assert "".join(text[span.start : span.end] for span in spans) == text


@pytest.mark.parametrize(
    "one", ["e" + "\u0301" * 3, "👩\u200d👩\u200d👧", "👍\U0001f3fd", "කෝ", "❤\ufe0f"]
)
def test_nothing_is_cut_inside_of_what_a_reader_sees_as_one(one: str) -> None:
    text = unicodedata.normalize("NFC", one) * 3_000
    whole = unicodedata.normalize("NFC", one)
    spans = chunk(text, signs, budget=40, limit=50)
    check(text, spans, 50)
    assert len(spans) > 100
    assert {text[span.start : span.end].replace(whole, "") for span in spans} == {""}


def test_marks_without_end_are_cut_all_the_same() -> None:
    text = "e" + "\u0301" * 2_000
    spans = chunk(text, signs, budget=40, limit=50)
    check(text, spans, 50)
    assert "".join(text[span.start : span.end] for span in spans) == text


@pytest.mark.parametrize("filling", ["\u200b", " ", "\n", ". ", "\u202e", "\u200b\n"])
def test_no_passage_is_long_however_few_tokens_it_has(filling: str) -> None:
    text = unicodedata.normalize("NFC", f"A kea. {filling * 50_000} A kea.")

    def visible(texts: Sequence[str]) -> list[int]:
        return [each.count("kea") for each in texts]

    spans = chunk(text, visible, budget=40, limit=50)
    check(text, spans, 50)
    assert max(span.end - span.start for span in spans) <= 8_000


def test_a_paragraph_of_any_length_has_the_sentences_of_its_parts() -> None:
    some = [f"The U.S. envoy no. {number} met Gen. K. Jones on Nov. 20." for number in range(400)]
    text = " ".join(some)
    assert len(text) > 2 * SEGMENT_CHARACTERS
    assert said(text) == [said(each)[0] for each in some]


def test_a_long_paragraph_without_spaces_is_segmented_in_linear_time() -> None:
    # In one piece, this takes sentencex about two minutes.
    text = "他说了这句话然后走了。" * 70_000
    assert len(sentences(text)) == 70_000


@given(st.lists(st.sampled_from(["one", "two,", "Three", "a" * 9, "é"])), st.integers(1, 12))
def test_clipped_at_the_last_word_that_fits(chosen: list[str], limit: int) -> None:
    text = " ".join(chosen)
    clipped = clip_words(text, words, limit)
    assert text.startswith(clipped)
    assert words([clipped])[0] <= limit
    rest = text[len(clipped) :]
    if rest:
        following = rest.split()[0]
        assert words([f"{clipped} {following}"])[0] > limit


def test_a_title_that_has_more_tokens_than_characters_is_clipped() -> None:
    def three_a_character(texts: Sequence[str]) -> list[int]:
        return [3 * signs([text])[0] for text in texts]

    assert clip_words("가나 다라 마바", three_a_character, 14) == "가나 다라"
    assert clip_words("가나다라마바", three_a_character, 14) == ""


def seed_articles() -> list[Article]:
    files = sorted(file for file in SEEDS.glob("*.md") if file.name != "SOURCES.md")
    articles = [item for item in read_paths(files) if isinstance(item, Article)]
    assert len(articles) == len(files) >= 30
    return articles


@pytest.mark.model
def test_the_seeds_with_the_real_tokenizer(real_encoder: LazyEncoder) -> None:
    limit = real_encoder.window - 64
    for article in seed_articles():
        spans = chunk(article.text, real_encoder.count, budget=PASSAGE_TOKENS, limit=limit)
        check(article.text, spans, limit)
        texts = [article.text[span.start : span.end] for span in spans]
        assert [span.tokens for span in spans] == real_encoder.count(texts)
        assert all(text[-1] in '.?!"”)' for text in texts), "no passage ends within a sentence"
        assert max(span.tokens for span in spans) <= 1.5 * PASSAGE_TOKENS


@pytest.mark.model
@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "a/b_c+d=" * 12_000,
        "그는한국의대통령이라고말했다" * 3_000,
        "他说了这句话然后走了" * 3_000,
        "👩\u200d👩\u200d👧" * 5_000,
        "word " * 5_000,
    ],
    ids=["letters", "marks", "korean", "chinese", "emoji", "words"],
)
def test_no_passage_is_over_the_real_window(text: str, real_encoder: LazyEncoder) -> None:
    limit = real_encoder.window - 64
    spans = chunk(text, real_encoder.count, budget=PASSAGE_TOKENS, limit=limit)
    check(text, spans, limit)
    texts = [text[span.start : span.end] for span in spans]
    assert max(real_encoder.count(texts)) <= limit
