"""Names of sources in a question: "according to Eurasia Review", "what did Reuters report".

A name counts only beside words that make it a source. Without them, and most of all where it is
also an ordinary word, it is what the question is about.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rag.types import AskedSource

CONTEXT_CHARACTERS = 40
"""How far before and after a name the words are looked at that make it a source."""

LONGEST_NAME_WORDS = 20
"""A source of more words is not looked for: one of 4,000, in a question of as many, took two
minutes to be found."""

_REPORT = (
    "(?:report|say|write|publish|claim|tell|quote|cite|describe|mention|reveal|cover|call|reported"
    "|said|written|published|claimed|told|quoted|cited|described|mentioned|revealed|covered)"
)
_WORK = "(?:article|story|report|interview|piece|brief|coverage|account|investigation|editorial)s?"
_GATE = re.compile(rf"\b(?:according\s+to|{_REPORT}s?|{_WORK}|wrote|by|in|from)\b", re.IGNORECASE)
_STRONG = re.compile(
    r"(?<!\w)(?:according to|as per|(?:reported|published|written|quoted|cited|carried|covered)"
    rf" (?:by|in)|{_WORK} (?:in|from|by|of)) (?:the )?$".replace(" ", r"\s+"),
    re.IGNORECASE,
)
_ASKING = re.compile(r"(?<!\w)(?:did|does|do|has|have|had)\s+(?:the\s+)?$", re.IGNORECASE)
_ANSWERING = re.compile(rf"\s+(?:\w+ly\s+)?{_REPORT}\b", re.IGNORECASE)
_WEAK = re.compile(r"(?<!\w)(?:in|from)\s+(?:[Tt]he\s+)?$")
_ABOUT_WRITING = re.compile(
    r"\b(?:writes?|wrote|written|reports?|reported|publish(?:es|ed)?|articles?|story|stories"
    r"|read|appeared|printed)\b",
    re.IGNORECASE,
)
_TELLING = re.compile(
    rf"(?:['’]s)?\s+(?:(?:has|had|have)\s+)?(?:reports?|reported|says?|said|writes?|wrote"
    rf"|publish(?:es|ed)|claims?|claimed|{_WORK})\b"
)
_GOES_ON = re.compile(r"[-‐]\w|\s+(?:&\s+)?[A-Z]|\s+of\b|\.(?!com\b|org\b|net\b)\w")
_LONGER_NAME = re.compile(r"(?:^|\s)(?!(?:The|What|Who|When|Where|Which|Why|How)\s)[A-Z]\S*\s+$")
_QUOTE = "[\"'‘’‚“”„«»‹›「」『』]"
_QUOTE_BEFORE = re.compile(rf"{_QUOTE}\s?((?:the\s+)?)$", re.IGNORECASE)
_QUOTE_AFTER = re.compile(rf"[,.?!]?\s?{_QUOTE}")
_WORD = re.compile(r"[\w\u0300-\u036f]+")
_HOST = re.compile(r"(?:www\.)?(([\w-]{2,})(?:\.[a-z]{2,5}){1,2})", re.IGNORECASE)

_ORDINARY_WORDS = """
economist express fortune herald history law life mail mirror nation nature news people police
post reason science standard star sun time times today variety week wired world
"""

_ORDINARY = frozenset(_ORDINARY_WORDS.split())
"""Names that in small letters are rather the word."""


@dataclass(frozen=True, slots=True)
class SourceNames:
    """The sources of an archive by the words of their names, folded, and the most words of one."""

    by_words: Mapping[tuple[str, ...], tuple[str, ...]]
    longest: int


NO_NAMES = SourceNames({}, 0)


@lru_cache(maxsize=4)  # a source is rarely new: most changes of an archive bring none
def source_names(sources: frozenset[str]) -> SourceNames:
    """The names to look for. A host such as "www.example.com" is also called "example"."""
    by_words: dict[tuple[str, ...], tuple[str, ...]] = {}
    for source in sorted(sources):
        host = _HOST.fullmatch(source)
        for name in dict.fromkeys([source, *(host.groups() if host else [])]):
            words = tuple(word for word, _, _ in _words(name))
            words = words[1:] if words[:1] == ("the",) else words
            is_name = len("".join(words)) > 1 and not "".join(words).isdigit()
            if is_name and len(words) <= LONGEST_NAME_WORDS:
                by_words[words] = (*by_words.get(words, ()), source)
    return SourceNames(by_words, max(map(len, by_words), default=0))


def find_sources(question: str, names: SourceNames) -> tuple[AskedSource, ...]:
    """The sources that `question` names as such, in the order of the text. Any text is safe."""
    if not names.longest or not _GATE.search(question):
        return ()
    return tuple(_found(question, _words(question), names))


def _found(
    question: str, words: Sequence[tuple[str, int, int]], names: SourceNames
) -> Iterator[AskedSource]:
    at = free_from = 0
    while at < len(words):
        for count in range(min(names.longest, len(words) - at), 0, -1):
            key = tuple(word for word, _, _ in words[at : at + count])
            meant = names.by_words.get(key, ())
            start, end = words[at][1], words[at + count - 1][2]
            for source in meant:
                start, end = _with_signs(question, start, end, free_from, source)
            if meant and _is_source(question, start, end, meant):
                for source in meant:
                    yield AskedSource(question[start:end], start, end, source)
                at, free_from = at + count - 1, end
                break
        at += 1


def _with_signs(
    question: str, start: int, end: int, free_from: int, source: str
) -> tuple[int, int]:
    """Where the words of a name stand, with the signs that it begins and ends with in `source`, if
    they stand there too: "+972 Magazine", "Yahoo!"."""
    words = _words(source)
    opening, closing = source[: words[0][1]].strip(), source[words[-1][2] :].rstrip()
    before = question[max(free_from, start - CONTEXT_CHARACTERS) : start].rstrip()
    if opening and before.endswith(opening):
        start = question.rindex(opening, free_from, start)
    if question.startswith(closing, end):
        end += len(closing)
    return start, end


def _is_source(question: str, start: int, end: int, meant: Sequence[str]) -> bool:
    """Whether the words around a name make it a source."""
    begin = max(0, start - CONTEXT_CHARACTERS)
    lead, rest = _unquoted(question[begin:start], question[end : end + CONTEXT_CHARACTERS])
    text = question[start:end]
    exact = any(text in source for source in meant) and text != text.lower()
    if _GOES_ON.match(rest) and not (exact and " " in text):
        return False
    if _STRONG.search(lead) or (_ASKING.search(lead) and _ANSWERING.match(rest)):
        return text != text.lower() or text not in _ORDINARY
    if not exact:
        return False
    if _TELLING.match(rest):
        return not _LONGER_NAME.search(lead)
    return _WEAK.search(lead) is not None and _ABOUT_WRITING.search(question) is not None


def _unquoted(lead: str, rest: str) -> tuple[str, str]:
    """What stands before and after a name, without its quotation marks. Marks around more than the
    name are those of another one: "Nature Walks"."""
    before, after = _QUOTE_BEFORE.search(lead), _QUOTE_AFTER.match(rest)
    if before is None or after is None:
        return lead, rest
    return lead[: before.start()] + before[1], rest[after.end() :]


def _words(text: str) -> list[tuple[str, int, int]]:
    """Words in lower case without accents, with where they stand."""
    return [(_folded(match[0]), match.start(), match.end()) for match in _WORD.finditer(text)]


def _folded(word: str) -> str:
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))
