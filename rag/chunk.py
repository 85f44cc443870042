"""Cut a text into passages: runs of whole sentences up to a budget of the encoder's own tokens.

Every offset is a code point of the text. Passages never overlap and together hold every sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from sentencex import get_sentence_boundaries

from rag.types import Span

CHUNKER = "sentences-1"

Counter = Callable[[Sequence[str]], list[int]]
"""Tokens of each text, special ones left out."""

PASSAGE_TOKENS = 100
"""The budget. About 100 did better than 180 on long news articles (DESIGN's table, README's)."""

MERGE_BELOW = 0.25
"""A last passage smaller than this part of the budget joins the one before it."""

COUNT_AT_ONCE = 512
"""Sentences tokenised in one call: a tokenizer's result is a hundred times its text in memory."""

LONG_SENTENCE_CHARACTERS = 4_000
"""Longer ones are cut before they are counted, for the same reason."""

WRAP_WIDTHS = range(40, 121)
"""Widths of line, in characters, at which running text is wrapped by hand or by mail programs."""

_BLANK_LINES = re.compile(r"\n\s*\n")
_CLAUSE_END = re.compile(r"[;:,.!?)\]—–](?=\s)|[。、，；：！？]")
_SPACE = re.compile(r"\s+")


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, in order, white space around it left out.

    A paragraph's end always ends a sentence; a single line break does where it is not the wrapping
    of running text. Segmentation within a paragraph is sentencex's.
    """
    return [
        trimmed
        for start, end in _paragraphs(text)
        for boundary in get_sentence_boundaries("en", text[start:end])
        if (trimmed := _trim(text, start + boundary["start_index"], start + boundary["end_index"]))
    ]


def chunk(text: str, count: Counter, *, budget: int, limit: int) -> list[Span]:
    """Passages of `text`, in order.

    `budget`: tokens a passage should not exceed. `limit`: tokens that it cannot exceed, at least
    `budget`; a longer sentence is split. A text without a sentence gives one empty span.
    """
    if not 0 < budget <= limit:
        raise ValueError(f"budget {budget} must be positive and at most limit {limit}")
    spans: list[Span] = []
    open_span: Span | None = None
    for start, end, tokens in _counted(text, count, limit):
        if open_span is not None and open_span.tokens + tokens <= budget:
            open_span = _joined(open_span, Span(start, end, tokens, ((start, end),)))
            continue
        if open_span is not None:
            spans.append(open_span)
        open_span = Span(start, end, tokens, ((start, end),))
    if open_span is None:
        return [Span(0, 0, 0, ())]
    if spans and _belongs_to(spans[-1], open_span, budget, limit):
        open_span = _joined(spans.pop(), open_span)
    return [*spans, open_span]


def clip_words(text: str, count: Counter, limit: int) -> str:
    """The longest run of whole words from the start of `text` with at most `limit` tokens."""
    if len(text) <= limit or count([text])[0] <= limit:
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


def _counted(text: str, count: Counter, limit: int) -> Iterator[tuple[int, int, int]]:
    """Each sentence with its tokens; what is over `limit` comes in pieces that are not."""
    pieces = [
        piece
        for start, end in sentences(text)
        for piece in _cut(text, start, end, LONG_SENTENCE_CHARACTERS)
    ]
    for at in range(0, len(pieces), COUNT_AT_ONCE):
        some = pieces[at : at + COUNT_AT_ONCE]
        counts = count([text[start:end] for start, end in some])
        for (start, end), tokens in zip(some, counts, strict=True):
            yield from _split(text, (start, end, tokens), count, limit)


def _cut(text: str, start: int, end: int, characters: int) -> Iterator[tuple[int, int]]:
    while end - start > characters:
        at = _best_boundary(text, start + characters // 2, start + characters)
        if left := _trim(text, start, at):
            yield left
        start = at
    if right := _trim(text, start, end):
        yield right


def _split(
    text: str, piece: tuple[int, int, int], count: Counter, limit: int
) -> Iterator[tuple[int, int, int]]:
    start, end, tokens = piece
    if tokens <= limit or end - start < 2:
        yield piece
        return
    quarter = (end - start) // 4
    at = _best_boundary(text, start + max(quarter, 1), end - quarter)
    halves = [half for half in (_trim(text, start, at), _trim(text, at, end)) if half]
    counts = count([text[left:right] for left, right in halves])
    for (left, right), half_tokens in zip(halves, counts, strict=True):
        yield from _split(text, (left, right, half_tokens), count, limit)


def _best_boundary(text: str, low: int, high: int) -> int:
    """Where to cut between `low` and `high`: after a clause, else between words, else anywhere."""
    middle = (low + high) // 2
    for pattern in (_CLAUSE_END, _SPACE):
        ends = [match.end() for match in pattern.finditer(text, low, high)]
        if ends:
            return min(ends, key=lambda end: abs(end - middle))
    at = middle
    while at < high - 1 and _continues(text[at]):
        at += 1
    return at


def _continues(character: str) -> bool:
    """Whether a cut before this character would fall inside what a reader sees as one."""
    return unicodedata.combining(character) != 0 or unicodedata.category(character) in (
        "Mn",
        "Me",
        "Cf",
        "Sk",
    )


def _belongs_to(previous: Span, last: Span, budget: int, limit: int) -> bool:
    return last.tokens < MERGE_BELOW * budget and previous.tokens + last.tokens <= limit


def _joined(left: Span, right: Span) -> Span:
    return Span(left.start, right.end, left.tokens + right.tokens, left.sentences + right.sentences)
