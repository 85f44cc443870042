"""Texts with a quote marked in them, as pieces that a page can show.

Offsets are code points, so this is done here: a browser counts in UTF-16.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a text: a word of the question or not."""

    text: str
    is_word: bool = False


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph: what stands before the quote, what of the quote is in it, what comes after."""

    before: str
    quote: tuple[Piece, ...]
    after: str


def paragraphs(
    text: str, quote: tuple[int, int], words: Sequence[tuple[int, int]] = ()
) -> list[Paragraph]:
    """`text` by paragraphs with a quote marked, and words within the quote.

    `quote` and `words` are half-open places in `text`, the words in order and apart from each
    other. An empty quote marks nothing.
    """
    return [_paragraph(text, start, end, quote, words) for start, end in _spans(text)]


def _paragraph(
    text: str, start: int, end: int, quote: tuple[int, int], words: Sequence[tuple[int, int]]
) -> Paragraph:
    first, last = max(start, quote[0]), min(end, quote[1])
    if first >= last:
        return Paragraph(text[start:end], (), "")
    pieces = tuple(_pieces(text, first, last, words))
    return Paragraph(text[start:first], pieces, text[last:end])


def _pieces(text: str, start: int, end: int, words: Iterable[tuple[int, int]]) -> Iterator[Piece]:
    at = start
    for first, last in words:
        first, last = max(first, at), min(last, end)  # noqa: PLW2901 - what of the word is in here
        if first >= last:
            continue
        if at < first:
            yield Piece(text[at:first])
        yield Piece(text[first:last], is_word=True)
        at = last
    if at < end:
        yield Piece(text[at:end])


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each paragraph, the blank lines between them left out."""
    start = 0
    for blank in _BLANK_LINES.finditer(text):
        if start < blank.start():
            yield start, blank.start()
        start = blank.end()
    if start < len(text):
        yield start, len(text)
