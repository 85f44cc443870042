"""From ranked passages to citations: which passages, which sentences, which words, which link."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit

from rag.lexical import Analyzer
from rag.types import ArticleHead, Citation, Hit, Passage

PER_ARTICLE = 2
"""Passages of one article among the citations, unless fewer than asked for would remain."""

WHOLE_QUOTE_CHARACTERS = 300
"""A text fragment names a longer quote by its first and last words."""

FRAGMENT_WORDS = 5


def collapse(articles: Sequence[object], top_k: int) -> list[int]:
    """Places of the passages to cite, given the article of each passage, best first.

    At most `PER_ARTICLE` of one article; where that leaves fewer than `top_k`, the best of the
    others fill up. The order is kept.
    """
    seen: Counter[object] = Counter()
    chosen: list[int] = []
    spare: list[int] = []
    for place, article in enumerate(articles):
        seen[article] += 1
        (chosen if seen[article] <= PER_ARTICLE else spare).append(place)
        if len(chosen) == top_k:
            break
    return sorted(chosen + spare[: top_k - len(chosen)])


def term_weights(
    terms: Iterable[str], frequency: Callable[[str], int], count: int
) -> dict[str, float]:
    """How much each term tells: its inverse document frequency as BM25 has it, never below 0."""
    found = {term: min(frequency(term), count) for term in terms}
    return {term: math.log1p((count - n + 0.5) / (n + 0.5)) for term, n in found.items()}


def cite(
    rank: int, hit: Hit, quoted: tuple[int, int], highlights: Sequence[tuple[int, int]]
) -> Citation:
    """The citation of one hit: its text from `quoted[0]` to `quoted[1]`, verbatim.

    `highlights`, in order, are left out where they are outside of it and made one where they
    overlap. All are code points of the article.
    """
    start, end = quoted
    base = hit.passage.span.start
    quote = hit.passage.text[start - base : end - base]
    inside: list[tuple[int, int]] = []
    for first, last in highlights:
        if not (start <= first and last <= end):
            continue
        if inside and first < inside[-1][1]:
            inside[-1] = (inside[-1][0], max(last, inside[-1][1]))
        else:
            inside.append((first, last))
    return Citation(rank, hit, quote, start, end, tuple(inside), link(hit.article, quote))


def sentence_of_weight(
    passage: Passage, weights: Mapping[str, float], analyzer: Analyzer
) -> tuple[int, int]:
    """Start and end of the sentence with the greatest weight of distinct terms, the first of
    equals; of the whole passage where no sentence has any."""
    span = passage.span
    best, chosen = 0.0, (span.start, span.end)
    for start, end in span.sentences:
        text = passage.text[start - span.start : end - span.start]
        weight = sum(weights.get(term, 0.0) for term in {t.text for t in analyzer.terms(text)})
        if weight > best:
            best, chosen = weight, (start, end)
    return chosen


def words_asked(
    passage: Passage, weights: Mapping[str, float], analyzer: Analyzer, within: tuple[int, int]
) -> list[tuple[int, int]]:
    """Where the question's terms stand in a part of a passage, in code points of the article."""
    start, end = within
    text = passage.text[start - passage.span.start : end - passage.span.start]
    return [(start + first, start + last) for first, last in analyzer.places(text, weights)]


def link(article: ArticleHead, quote: str) -> str | None:
    """The article's address with a text fragment that opens it at the quote, where it has one.

    https://wicg.github.io/scroll-to-text-fragment/
    """
    if web_address(article.url) is None or article.url is None:
        return None
    address, _, fragment = article.url.partition("#")
    fragment = fragment.partition(":~:")[0]
    if not quote:
        return article.url
    words = quote.split()
    # A text fragment cannot run over the end of a paragraph, but its two ends can lie apart.
    short = len(quote) <= WHOLE_QUOTE_CHARACTERS and "\n" not in quote
    if short or len(words) < 2 * FRAGMENT_WORDS:
        text = _directive(quote)
    else:
        first, last = words[:FRAGMENT_WORDS], words[-FRAGMENT_WORDS:]
        text = f"{_directive(' '.join(first))},{_directive(' '.join(last))}"
    return f"{address}#{fragment}:~:text={text}"


def web_address(url: str | None) -> str | None:
    """`url` if it is a page's address that a reader can be sent to; a script's is not one."""
    try:
        parts = urlsplit(url or "")
        return url if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def _directive(text: str) -> str:
    return percent_encoded(" ".join(text.split()), safe="").replace("-", "%2D")
