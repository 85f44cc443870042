"""Cut a text into passages: runs of whole sentences up to a budget of the encoder's own tokens.

Every offset is a code point of the text. Passages never overlap and together hold every sentence.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from sentencex import get_sentence_boundaries

from rag.types import Span

CHUNKER = "sentences-1"

Counter = Callable[[Sequence[str]], list[int]]
"""Tokens of each text, special ones left out."""

PASSAGE_TOKENS = 100
"""The budget. By vectors alone, 100 and 140 gave a Success@1 of .706 and .669 on a third of SQuAD's
answerable questions, and an nDCG@10 of .377 and .389 on Cranfield."""

COUNT_AT_ONCE = 512
"""Sentences tokenised in one call: a tokenizer's result is a hundred times its text in memory."""

LONG_SENTENCE_CHARACTERS = 4_000
"""Longer ones are cut before they are counted, for the same reason."""

PASSAGE_CHARACTERS = 2 * LONG_SENTENCE_CHARACTERS
"""That no passage exceeds, however few tokens it has: a million characters that do not show have
none, and an answer brings its passages along."""

SEGMENT_CHARACTERS = 8_000
"""A longer paragraph is segmented a part at a time: where nothing parts its words, as in Chinese,
sentencex takes time square in its length."""

ZERO_WIDTH_JOINER = "\u200d"

WRAP_WIDTHS = range(40, 121)
"""Widths of line, in characters, at which running text is wrapped by hand or by mail programs."""

_BLANK_LINES = re.compile(r"\n\s*\n")
_CLAUSE_END = re.compile(r"[;:,.!?)\]—–](?=\s)|[。、，；：！？]")
_SPACE = re.compile(r"\s+")
# sentencex 1.0.32 panics on "A\u00a0.-": it takes every space for one byte.
_PLAIN_SPACES = {code: " " for code in range(0x80, 0x3001) if chr(code).isspace()}
_CONTINUE = ("Mn", "Mc", "Me", "Cf", "Sk")


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, in order, white space around it left out.

    A paragraph's end always ends a sentence; a single line break does where it is not the wrapping
    of running text. Segmentation within a paragraph is sentencex's.
    """
    return [
        trimmed
        for paragraph in _paragraphs(text)
        for start, end in _segmented(text, *paragraph)
        if (trimmed := _trim(text, start, end))
    ]


def chunk(text: str, count: Counter, *, budget: int, limit: int) -> list[Span]:
    """Passages of `text`, in order and of about equal length.

    `budget`: tokens that a passage has at most on average. `limit`: tokens that none exceeds, at
    least `budget`; a longer sentence is split. None has more than `PASSAGE_CHARACTERS`. A text
    without a sentence gives one empty span.
    """
    if not 0 < budget <= limit:
        raise ValueError(f"budget {budget} must be positive and at most limit {limit}")
    units = list(_counted(text, count, limit))
    total = sum(unit.tokens for unit in units)
    share = total / max(1, math.ceil(total / budget))
    spans: list[Span] = []
    before, place = 0, -1
    for unit in units:
        # A sentence belongs to the share of the text that its middle falls into.
        its_place = int((before + unit.tokens / 2) / share) if share else 0
        before += unit.tokens
        if its_place == place and _fits(whole := _joined(spans[-1], unit), limit):
            spans[-1] = whole
        else:
            spans.append(unit)
        place = its_place
    return spans or [Span(0, 0, 0, ())]


def clip_words(text: str, count: Counter, limit: int) -> str:
    """The longest run of whole words from the start of `text` with at most `limit` tokens."""
    if count([text])[0] <= limit:
        return text
    ends = [match.start() for match in _SPACE.finditer(text)] or [limit]
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count([text[: ends[middle]]])[0] <= limit:
            low = middle
        else:
            high = middle - 1
    clipped = text[: ends[low]]
    return clipped if count([clipped])[0] <= limit else ""


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in [*_BLANK_LINES.finditer(text), None]:
        end = len(text) if gap is None else gap.start()
        yield from _lines(text, start, end)
        start = len(text) if gap is None else gap.end()


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    lines = text[start:end].split("\n")
    if _is_wrapped(lines):
        yield start, end
        return
    for line in lines:
        yield start, start + len(line)
        start += len(line) + 1


def _segmented(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Sentences of one paragraph, white space around them included."""
    while start < end:
        stop = end
        if end - start > SEGMENT_CHARACTERS:
            half = SEGMENT_CHARACTERS // 2
            stop = _best_boundary(text, start + half, start + SEGMENT_CHARACTERS)
        plain = text[start:stop].translate(_PLAIN_SPACES)
        found = [each["end_index"] for each in get_sentence_boundaries("en", plain)]
        if stop < end and len(found) > 1:
            found.pop()  # it may go on
        for left, right in pairwise([0, *found]):
            yield start + left, start + right
        start += found[-1]


def _is_wrapped(lines: Sequence[str]) -> bool:
    """Whether each line was broken because the next word did not fit into the widest line."""
    width = max(map(len, lines))
    if len(lines) < 2 or width not in WRAP_WIDTHS:
        return False
    following = [line.split(maxsplit=1) for line in lines[1:]]
    if len(lines) == 2 and not (following[0] and following[0][0][:1].islower()):
        return False
    return all(
        words and len(line) + 1 + len(words[0]) > width
        for line, words in zip(lines, following, strict=False)
    )


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None


def _counted(text: str, count: Counter, limit: int) -> Iterator[Span]:
    """Each sentence as a span; what is over `limit` comes in pieces that are not."""
    pieces = [
        piece
        for start, end in sentences(text)
        for piece in _cut(text, start, end, LONG_SENTENCE_CHARACTERS)
    ]
    for at in range(0, len(pieces), COUNT_AT_ONCE):
        some = pieces[at : at + COUNT_AT_ONCE]
        counts = count([text[start:end] for start, end in some])
        for (start, end), tokens in zip(some, counts, strict=True):
            yield from _split(text, Span(start, end, tokens, ((start, end),)), count, limit)


def _cut(text: str, start: int, end: int, characters: int) -> Iterator[tuple[int, int]]:
    while end - start > characters:
        at = _best_boundary(text, start + characters // 2, start + characters)
        if left := _trim(text, start, at):
            yield left
        start = at
    if right := _trim(text, start, end):
        yield right


def _split(text: str, piece: Span, count: Counter, limit: int) -> Iterator[Span]:
    start, end = piece.start, piece.end
    if piece.tokens <= limit or end - start < 2:
        yield piece
        return
    quarter = max((end - start) // 4, 1)
    at = _best_boundary(text, start + quarter, end - quarter)
    halves = [half for half in (_trim(text, start, at), _trim(text, at, end)) if half]
    counts = count([text[left:right] for left, right in halves])
    for (left, right), tokens in zip(halves, counts, strict=True):
        yield from _split(text, Span(left, right, tokens, ((left, right),)), count, limit)


def _best_boundary(text: str, low: int, high: int) -> int:
    """Where to cut between `low` and `high`: after a clause, else between words, else anywhere."""
    middle = (low + high) // 2
    for pattern in (_CLAUSE_END, _SPACE):
        ends = [match.end() for match in pattern.finditer(text, low, high)]
        if ends:
            return min(ends, key=lambda end: abs(end - middle))
    at = middle
    while at < high - 1 and _is_inside(text[at - 1], text[at]):
        at += 1
    return at


def _is_inside(before: str, after: str) -> bool:
    """Whether a cut between these characters would fall inside what a reader sees as one."""
    return before == ZERO_WIDTH_JOINER or unicodedata.category(after) in _CONTINUE


def _fits(span: Span, limit: int) -> bool:
    return span.tokens <= limit and span.end - span.start <= PASSAGE_CHARACTERS


def _joined(left: Span, right: Span) -> Span:
    return Span(left.start, right.end, left.tokens + right.tokens, left.sentences + right.sentences)
