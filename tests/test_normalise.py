from __future__ import annotations

import hashlib
import time
import unicodedata
from datetime import UTC, date, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.errors import UnreadableItem
from rag.normalise import (
    MAX_CHARACTERS,
    MAX_REASON_CHARACTERS,
    article_from_fields,
    decode,
    decode_page,
    megabytes,
    normalise_line,
    normalise_text,
    short_reason,
)
from rag.types import Article, IdentifiedBy

LIMIT = 10_000
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
AWKWARD = st.text(
    st.sampled_from("aé\u0301\u0316\u0344\u0f73\u034f \t\n\r\x00\x1c\x85\u2028\ufeff\ud800\u3000e"),
    max_size=90,
)


def article(**fields: object) -> Article:
    return article_from_fields(fields, item="here", max_text_bytes=LIMIT)


def refusal(**fields: object) -> str:
    with pytest.raises(UnreadableItem) as caught:
        article(**fields)
    assert caught.value.item == "here"
    return caught.value.reason


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a\r\nb\rc\u2028d\u2029e\x85f", "a\nb\nc\nd\ne\nf"),
        ("cafe\u0301", "café"),
        ("a\x00b\x0bc\x7fd\x9fe\x1bf", "a b c d e f"),
        ("a\tb", "a\tb"),
        ("\ufeffTitle", "Title"),
        ("\ufeff\ufeff \n\ufeff  Title", "  Title"),
        ("one\ufefftwo", "one\ufefftwo"),
        ("a  \nb\u00a0\t\n\n", "a\nb"),
        ("\n \n  indented", "  indented"),
        ("a\n\n\n\nb", "a\n\n\n\nb"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
        ("שלום עולם \u200f!", "שלום עולם \u200f!"),
        ("👩‍👩‍👧 👍🏽", "👩‍👩‍👧 👍🏽"),
        (" \ufeff\n", ""),
        ("", ""),
    ],
)
def test_text_has_one_form(given: str, wanted: str) -> None:
    assert normalise_text(given) == wanted


@given(ANY_TEXT | AWKWARD)
@example("\n\ufeffx")
@example(" \ufeff \ufeffx")
@example("a" + "\u0344" * 40)
@example("\u1e1d" + "\u0323" * 30 + "\u0316" * 3)
def test_normalising_again_changes_nothing(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert once.encode().decode() == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.rstrip()
    assert not any(line != line.rstrip() for line in once.split("\n"))
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in once)


@given(ANY_TEXT | AWKWARD)
def test_no_letter_is_lost_added_or_moved(text: str) -> None:
    def letters(text: str) -> str:
        return "".join(c for c in unicodedata.normalize("NFD", text) if c.isalnum())

    assert letters(normalise_text(text)) == letters(text)


@given(ANY_TEXT | AWKWARD)
def test_a_line_is_one_line_and_stays_it(text: str) -> None:
    line = normalise_line(text)
    assert line == " ".join(line.split())
    assert normalise_line(line) == line


def test_a_line_keeps_single_spaces_only() -> None:
    assert normalise_line("  one\n\ttwo\u00a0 three ") == "one two three"


def test_thousands_of_marks_on_a_letter_take_no_longer_than_letters() -> None:
    text = "a" + "\u0301\u0316" * 200_000  # minutes, were they sorted as one run
    started = time.process_time()
    found = normalise_text(text)
    assert time.process_time() - started < 10
    assert found.count("\u034f") == pytest.approx(400_000 / 30, abs=2)
    assert found.replace("\u034f", "").count("\u0316") == 200_000


def test_marks_as_languages_use_them_are_not_touched() -> None:
    stacked = unicodedata.normalize("NFC", "a" + "\u0301" * 30)
    assert normalise_text(stacked) == stacked
    emoji = "😀" * 100
    assert normalise_text(emoji) == emoji


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"caf\xc3\xa9", "café"),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "café"),
        ("café 👍".encode("utf-16"), "café 👍"),
        (b"\xfe\xff" + "é".encode("utf-16-be"), "é"),
    ],
)
def test_bytes_in_the_known_encodings(data: bytes, wanted: str) -> None:
    assert decode(data, "x").lstrip("\ufeff") == wanted


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            "na\u00efve".encode("latin-1"),
            "is not UTF-8 (byte 0xef at 2); convert it first, for example: "
            "iconv -f WINDOWS-1252 -t UTF-8",
        ),
        (b"\x7fELF\x00\x01\xff", "looks like a binary file"),
        (b"text\x00text", "looks like a binary file"),
        ("text".encode("utf-32"), "looks like a binary file"),
        (b"\xff\xfea", "is not UTF-16 (byte 0x61 at 2)"),
    ],
)
def test_bytes_in_no_known_encoding(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableItem) as caught:
        decode(data, "x")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ('<meta charset="windows-1251">Мир'.encode("cp1251"), "Мир"),
        ("<meta charset=iso-8859-1>“naïve” – 5 €".encode("cp1252"), "“naïve” – 5 €"),
        ("<meta charset=iso-2022-jp>東京".encode("iso2022_jp"), "東京"),
        ("<meta charset=Shift_JIS>東京".encode("shift_jis"), "東京"),
        ("<?xml version='1.0' encoding='ISO-8859-2'?>Łódź".encode("iso-8859-2"), "Łódź"),
        ("<meta charset=iso-8859-1>東京".encode(), "東京"),
        ("<meta charset=punycode>東京".encode(), "東京"),
        ("<p>東京".encode("utf-16"), "東京"),
    ],
)
def test_a_page_is_read_in_the_charset_it_declares(data: bytes, wanted: str) -> None:
    assert decode_page(data, "x").endswith(wanted)


@pytest.mark.parametrize("charset", [b"", b"zlib", b"punycode", b"unicode_escape", b"gb123"])
def test_a_page_in_an_unknown_charset_is_not_guessed(charset: bytes) -> None:
    with pytest.raises(UnreadableItem) as caught:
        decode_page(b"<meta charset=" + charset + b">na\xefve", "x")
    assert caught.value.reason.startswith("is not UTF-8 (byte 0xef at ")


def test_a_declared_charset_of_seven_bits_has_to_fit() -> None:
    with pytest.raises(UnreadableItem) as caught:
        decode_page("<meta charset=iso-2022-jp>東京".encode(), "x")
    assert caught.value.reason == "is not in the charset it declares, iso-2022-jp"


def test_a_stray_byte_in_a_page_is_marked_and_many_are_refused() -> None:
    page = "<meta charset=utf-8>" + "é" * 200
    assert decode_page(page.encode() + b"\x93", "x") == page + "\ufffd"
    with pytest.raises(UnreadableItem) as caught:
        decode_page("<meta charset=utf-8>Où est la forêt ?".encode("cp1252"), "x")
    assert caught.value.reason.startswith("is not UTF-8 (byte 0xf9 at 21)")


def test_all_fields() -> None:
    found = article(
        id="a-1",
        title=" The\n title ",
        text="First.\r\nSecond. ",
        source="Daily",
        author=["Ann Example", " Ben\tSample ", ""],
        url=" https://example.org/a ",
        published_at="2025-11-23T08:30:00+01:00",
        shoe_size=43,
    )
    assert found == Article(
        id="a-1",
        title="The title",
        text="First.\nSecond.",
        source="Daily",
        author="Ann Example, Ben Sample",
        url="https://example.org/a",
        published_at="2025-11-23T08:30:00+01:00",
    )
    assert found.identified_by is IdentifiedBy.CALLER


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("_id", "id", "x"),
        ("body", "text", "x"),
        ("content", "text", "x"),
        ("authors", "author", "x"),
        ("link", "url", "x"),
        ("date", "published_at", "2025-11-23"),
        ("published", "published_at", "2025-11-23"),
    ],
)
def test_other_names_of_fields(name: str, field: str, value: str) -> None:
    assert getattr(article(title="T", **{name: value}), field) == value
    assert getattr(article(title="T", **{name: value, field: " \n"}), field) == value


@pytest.mark.parametrize("empty", [None, "", "  \n"])
def test_empty_fields_are_as_if_missing(empty: object) -> None:
    names = ("id", "text", "source", "author", "url", "published_at")
    found = article(title="T", **dict.fromkeys(names, empty))
    assert (found.source, found.author, found.url, found.published_at) == (None,) * 4
    assert found.text == ""
    assert found.identified_by is IdentifiedBy.PATH
    assert article(title="T", author=[]).author is None
    assert article(title="T", author=[" "]).author is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"title": 5}, "its title must be text, not a number"),
        ({"title": float("nan")}, "its title must be text, not a number"),
        ({"title": date(2025, 1, 1)}, "its title must be text, not a date"),
        ({"text": "", "body": ["a"]}, "its body must be text, not a list"),
        ({"text": {"a": 1}}, "its text must be text, not an object"),
        ({"source": True}, "its source must be text, not true or false"),
        ({"author": {"name": "A"}}, "its author must be text, not an object"),
        ({"authors": ["A", None]}, "its authors must be text or a list of texts"),
        ({"link": 1}, "its link must be text, not a number"),
        ({"id": True}, "its id must be text or a whole number, not true or false"),
        ({"_id": 1.5}, "its _id must be text or a whole number, not a number"),
        ({"published_at": 20251123}, "its published_at must be a date, not a number"),
        (
            {"date": "last week"},
            "its date 'last week' is not an ISO date such as 2025-11-23 or "
            "2025-11-23T08:30:00+01:00",
        ),
        ({"published_at": "2025-02-30"}, "its published_at '2025-02-30' is not an ISO date"),
        ({"published_at": "2025-11-23" + " " * 90 + "x"}, "is not an ISO date"),
    ],
)
def test_wrong_values_are_refused_by_name(fields: dict[str, object], reason: str) -> None:
    assert reason in refusal(**{"title": "T", "text": "t", **fields})


def test_a_date_that_is_endless_makes_no_endless_reason() -> None:
    assert len(refusal(title="T", date="9" * 100_000)) < 200


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        (date(2025, 11, 23), "2025-11-23"),
        (datetime(2025, 11, 23, 8, 30, tzinfo=UTC), "2025-11-23T08:30:00+00:00"),
        (datetime(2025, 11, 23, 8, 30), "2025-11-23T08:30:00+00:00"),
        (" 2025-11-23 ", "2025-11-23"),
        ("2025-11-23 08:30", "2025-11-23T08:30:00+00:00"),
    ],
)
def test_dates_as_text_and_as_yaml_gives_them(value: object, iso: str) -> None:
    assert article(title="T", published_at=value).published_at == iso


def test_an_article_needs_words() -> None:
    assert refusal() == "has neither a title nor a text"
    assert refusal(title=" \u2028", text="\ufeff\n", url="https://example.org") == (
        "has neither a title nor a text"
    )


def test_a_title_alone_is_an_article() -> None:
    assert article(title="T").text == ""


def test_a_record_without_a_title_keeps_its_text_whole() -> None:
    found = article(text="The headline\n\nThe story.")
    assert (found.title, found.text) == ("", "The headline\n\nThe story.")


def test_the_limit_is_counted_in_bytes_and_told_in_words() -> None:
    assert article(title="T", text="é" * (LIMIT // 2)).text == "é" * (LIMIT // 2)
    assert refusal(title="T", text="é" * (LIMIT // 2) + "a") == (
        "its text is 10,001 bytes, over the limit of 10,000 bytes (RAG_MAX_TEXT_BYTES)"
    )
    # eleven bytes as given, and more than the limit once composed by the rules of NFC
    assert "over the limit of 12 bytes" in _reason_at_limit("\u0958" * 4, 12)


def _reason_at_limit(text: str, limit: int) -> str:
    with pytest.raises(UnreadableItem) as caught:
        article_from_fields({"title": "T", "text": text}, item="x", max_text_bytes=limit)
    return caught.value.reason


def test_sizes_for_people() -> None:
    assert megabytes(10 * 1024 * 1024) == "10.0 MB"
    assert megabytes(10 * 1024 * 1024 + 1) == "10.1 MB"
    assert megabytes(1024) == "1,024 bytes"


@pytest.mark.parametrize(("field", "limit"), MAX_CHARACTERS.items())
def test_what_every_answer_brings_along_has_a_limit(field: str, limit: int) -> None:
    given: dict[str, object] = {"title": "T", "text": "One."}
    assert getattr(article(**given | {field: "x" * limit}), field) == "x" * limit
    over = f"its {field} has {limit + 1:,} characters, over the limit of {limit:,}"
    assert refusal(**given | {field: "x" * (limit + 1)}) == over
    assert refusal(**given | {"metadata": {field: "x" * (limit + 1)}, "title": None}) == over
    grows = "\ufb2c" * limit  # NFC takes it apart into three
    assert "characters, over the limit of" in refusal(**given | {field: grows})


def test_many_authors_have_a_limit_together() -> None:
    assert article(title="T", author=["A" * 1999, "B" * 1999]).author is not None
    reason = refusal(title="T", author=["A" * 2000, "B" * 1999])
    assert reason == "its author has 4,001 characters, over the limit of 4,000"


def test_an_id_of_any_length_is_kept_short() -> None:
    assert len(article(id="x" * 5_000_000, title="T").id) == 32


@pytest.mark.parametrize("id_", ["a", "A-b_c.d~9", "..a", "x" * 128, "0"])
def test_an_id_that_fits_is_kept(id_: str) -> None:
    found = article(id=id_, title="T", url="https://example.org")
    assert (found.id, found.identified_by) == (id_, IdentifiedBy.CALLER)


@pytest.mark.parametrize("id_", [".", "..", "a b", "a/b", "é", "x" * 129, "a\n", "12%"])
def test_an_id_that_does_not_fit_is_hashed(id_: str) -> None:
    found = article(id=id_, title="T", url="https://example.org")
    assert (found.id, found.identified_by) == (digest(id_), IdentifiedBy.CALLER)


def test_numbers_and_broken_text_as_ids() -> None:
    assert article(id=0, title="T").id == "0"
    assert article(id=-12, title="T").id == "-12"
    assert len(article(id=10**5000, title="T").id) == 32
    assert len(article(id="\ud800", title="T").id) == 32
    assert article(id="\ud800", title="T").id != article(id="\ud801", title="T").id


def test_an_address_gives_the_same_id_however_it_is_written() -> None:
    wanted = digest("https://example.org/Path?q=1")
    for url in (
        "https://example.org/Path?q=1",
        " HTTPS://Example.ORG/Path?q=1#part-2 ",
        "https://example.org/Path?q=1#",
    ):
        found = article(title="T", url=url)
        assert (found.id, found.identified_by) == (wanted, IdentifiedBy.ADDRESS)
    assert article(title="T", url="https://example.org/path?q=1").id != wanted
    assert article(title="T", url="https://Me:Pw@example.org/").id == digest(
        "https://Me:Pw@example.org/"
    )


def test_an_address_that_breaks_the_rules_still_names_the_article() -> None:
    found = article(title="T", url="http://[::1/a")
    assert (found.id, found.identified_by) == (digest("http://[::1/a"), IdentifiedBy.ADDRESS)


def test_a_fragment_alone_is_no_address() -> None:
    found = article(title="T", url="#top")
    assert (found.id, found.identified_by) == (digest("T\n"), IdentifiedBy.PATH)


def test_without_id_and_address_the_place_or_the_words_decide() -> None:
    placed = article_from_fields(
        {"title": "T"}, item="here", fallback_id="p" * 32, max_text_bytes=LIMIT
    )
    assert (placed.id, placed.identified_by) == ("p" * 32, IdentifiedBy.PATH)
    found = article(title="T", text="words")
    assert (found.id, found.identified_by) == (digest("T\nwords"), IdentifiedBy.PATH)
    assert article(title="T", text="words", source="S").id == found.id
    assert article(title="T", text="other").id != found.id


def test_metadata_fills_gaps_but_never_the_date() -> None:
    metadata = {
        "title": "From metadata",
        "source": "S",
        "author": ["A", "B"],
        "url": "https://example.org/m",
        "date": "2020-01-01",
        "id": "no",
        "text": "no",
    }
    found = article(_id="1", title="", text="", link="https://example.org/top", metadata=metadata)
    assert found == Article(
        id="1",
        title="From metadata",
        text="",
        source="S",
        author="A, B",
        url="https://example.org/top",
    )
    found = article(title="T", metadata={"published_at": "2020-01-01"})
    assert found.published_at == "2020-01-01"


@pytest.mark.parametrize(
    "metadata",
    [
        "text",
        ["url"],
        None,
        {},
        {"url": 5, "author": [1], "source": None, "published_at": "soon", "title": {}},
        {"published_at": 2020, "author": {}},
    ],
)
def test_metadata_of_no_use_is_passed_over(metadata: object) -> None:
    plain = article(title="T", text="t")
    assert article(title="T", text="t", metadata=metadata) == plain


@given(st.text(max_size=2000))
def test_a_reason_is_one_short_line(text: str) -> None:
    reason = short_reason(text)
    assert len(reason) <= MAX_REASON_CHARACTERS
    assert "\n" not in reason


_names = st.sampled_from(("id", "_id", "title", "text", "body", "content", "source", "url", "link"))
_names |= st.sampled_from(("author", "authors", "published_at", "date", "published", "metadata"))
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=5,
)


@given(st.dictionaries(_names, _values, max_size=8))
def test_any_fields_give_an_article_or_a_reason(fields: dict[str, object]) -> None:
    try:
        found = article_from_fields(fields, item="x", max_text_bytes=100)
    except UnreadableItem:
        return
    assert found.title or found.text
    assert normalise_text(found.text) == found.text
    assert len(found.text.encode()) <= 100
    assert 1 <= len(found.id) <= 128
    assert found.title == normalise_line(found.title)
    for value in (found.source, found.author, found.url):
        assert value is None or value == normalise_line(value) != ""
