"""Names of persons, places and organisations in a sentence, by rule.

A name is a run of words with capitals. Titles, given names, verbs of speech and the words that
names of places and organisations end in decide what it names; where they do not, it is left out
or taken for a person, by its shape. Scripts without capitals hold nothing for this module.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from rag.gazetteer import (
    FUNCTION_WORDS,
    GIVEN_NAMES,
    NO_ORGANISATION,
    ORDINARY,
    ORGANISATION_WORDS,
    ORGANISATIONS,
    PERSON_VERBS,
    PLACE_WORDS,
    PLACES,
    ROLES,
    TITLES,
)
from rag.types import Kind

Found = tuple[Kind, int, int]

LONGEST_NAME_WORDS = 7
"""A longer run of capitals is a headline: only the names known by heart are believed in it."""

_LATIN_GREEK_CYRILLIC = 0x530
_UPPER = "".join(
    chr(code)
    for code in (*range(_LATIN_GREEK_CYRILLIC), *range(0x1E00, 0x1F00))
    if chr(code).isupper() and code < sys.maxunicode
)
_WORD = (
    rf"(?:(?:al|el|as|an|ul)-)?(?:(?:[{_UPPER}]\.){{1,4}}"
    r"|(?:Mrs?|Ms|Dr|Gen|Sen|Rep|Prof|Lt|Col|Sgt|Gov|Rev|Maj|Capt|St)\."
    rf"|[{_UPPER}]\w*(?:['’](?!s\b)\w+|-\w+)*)"
)
_PARTICLE = (
    r"(?:of|for|the|al|bin|ibn|bint|ben|abu|el|ul|van|von|der|den|de|del|della|di|da|dos|das|du"
    r"|la|le|zu|y|e)"
)
_RUN = re.compile(rf"(?<!\w){_WORD}(?: (?:{_PARTICLE} ){{0,3}}{_WORD})*")
_BEFORE = re.compile(r"([\w-]+),? (?:the )?$")
_AFTER = re.compile(r"(?:,? (?:who |has |had |also |later |first )?([a-z]+))?")
_INITIAL = re.compile(rf"[{_UPPER}]\.")
_PLACE_CUES = frozenset({"in", "near", "at", "from", "around", "outside", "across"})
_PARTICLES = frozenset(_PARTICLE[3:-1].split("|")) - {"of", "for", "the"}


def names(text: str) -> Iterator[Found]:
    """Kind, start and end of each name, in order; ends are code points of `text`, half-open."""
    for run in _RUN.finditer(text):
        words = [(each[0], each.start(), each.end()) for each in _WORDS.finditer(text, *run.span())]
        initial = not text[: run.start()].strip("\"'“”‘’([ ")
        yield from _run(text, words, initial=initial)


_WORDS = re.compile(r"[^ ]+")
Words = list[tuple[str, int, int]]


def _run(text: str, words: Words, *, initial: bool) -> Iterator[Found]:
    """The names in one run of capitals."""
    while words and words[0][0].lower() in FUNCTION_WORDS:
        words = words[1:]
        initial = False
    while words and words[0][0] in ("of", "for", "the"):
        words = words[1:]
    if not words:
        return
    lower = [word.lower() for word, _, _ in words]
    start, end = words[0][1], words[-1][2]
    if kind := _known(" ".join(lower)):
        yield kind, start, end
    elif len(words) > LONGEST_NAME_WORDS and "of" not in lower:
        yield from _parts(words, lower)
    elif kind := _by_head(lower):
        yield kind, start, end
    elif kind := _by_title(lower):
        yield from _titled(words, lower)
    elif "of" in lower or "for" in lower:
        yield from _parts(words, lower)
    elif kind := _single(text, words[0], initial) if len(words) == 1 else _several(words, lower):
        yield kind, start, end
    else:
        yield from _parts(words, lower)


def _known(name: str) -> Kind | None:
    if name in PLACES:
        return Kind.PLACE
    return Kind.ORGANISATION if name in ORGANISATIONS else None


def _by_head(lower: list[str]) -> Kind | None:
    """By the word that says what the name is of: the last, or the last before "of" or "for"."""
    ends = [at for at, word in enumerate(lower) if word in ("of", "for")]
    head = lower[(ends[0] if ends else len(lower)) - 1]
    if len(lower) == 1 or (lower[0] in TITLES and not ends):
        return None
    if head in ORGANISATION_WORDS:
        return Kind.ORGANISATION
    return Kind.PLACE if head in PLACE_WORDS else None


def _by_title(lower: list[str]) -> Kind | None:
    titled = any(word in TITLES for word in lower[:-1])
    return Kind.PERSON if titled or (lower[0] in GIVEN_NAMES and "of" in lower) else None


def _titled(words: Words, lower: list[str]) -> Iterator[Found]:
    """What a title stands before: "Russian Foreign Minister Sergei Lavrov", "Duke of Normandy"."""
    last = max((at for at, word in enumerate(lower[:-1]) if word in TITLES), default=-1) + 1
    if lower[last] == "of":
        if "state" in lower[last:-1]:  # Secretary of State Mike Pompeo
            last = lower.index("state") + 1
        else:
            last = max(last - 1, 0)
    yield from _parts(words[:last], lower[:last])
    yield Kind.PERSON, words[last][1], words[-1][2]


def _parts(words: Words, lower: list[str]) -> Iterator[Found]:
    """The names known by heart inside a run that is nothing as a whole, the longest first."""
    at = 0
    while at < len(words):
        for size in range(min(4, len(words) - at), 0, -1):
            if kind := _known(" ".join(lower[at : at + size])):
                yield kind, words[at][1], words[at + size - 1][2]
                at += size - 1
                break
        at += 1


def _single(text: str, word: tuple[str, int, int], initial: bool) -> Kind | None:
    """What one word with a capital names, by the words around it."""
    name, start, end = word
    lower = name.lower()
    if name.isupper() and len(name) > 1:
        acronym = len(name) <= 6 and name.isalnum() and lower not in NO_ORGANISATION
        return Kind.ORGANISATION if acronym else None
    if lower in ORDINARY or lower in ROLES:
        return None
    before = _BEFORE.search(text, max(0, start - 30), start)
    cue = before[1].lower() if before else ""
    if lower in GIVEN_NAMES or cue in ROLES:
        return Kind.PERSON
    after = _AFTER.match(text, end)
    if after and after[1] in PERSON_VERBS:
        return Kind.PERSON
    return Kind.PLACE if cue in _PLACE_CUES and not initial else None


def _several(words: Words, lower: list[str]) -> Kind | None:
    """What several words with capitals name, by their shape."""
    if lower[0] in GIVEN_NAMES or any(_INITIAL.fullmatch(word) for word, _, _ in words):
        return Kind.PERSON
    if not ORDINARY.isdisjoint(lower) or not ORGANISATION_WORDS.isdisjoint(lower):
        return None
    if not _PARTICLES.isdisjoint(lower):
        return Kind.PERSON
    capitals = all(word.isupper() for word, _, _ in words)
    known = any(word in PLACES for word in lower)
    return None if capitals or known or len(words) > 4 else Kind.PERSON
