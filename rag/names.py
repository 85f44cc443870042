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
    PEOPLES,
    PERSON_VERBS,
    PLACE_FIRST_WORDS,
    PLACE_WORDS,
    PLACES,
    ROLES,
    TITLES,
)
from rag.types import Kind

Found = tuple[Kind, int, int]

LONGEST_NAME_WORDS = 7
"""A longer run of capitals is a headline: only the names known by heart are believed in it."""

LONGEST_SPLIT_WORDS = 30  # each part is looked at by itself, one call inside the other
LONGEST_KNOWN_WORDS = 4
LONGEST_PERSON_WORDS = 4
LONGEST_ACRONYM = 6
CUE_CHARACTERS = 24  # before a name, enough for the word before it

_LATIN_GREEK_CYRILLIC = 0x530
_UPPER = "".join(
    chr(code)
    for code in (*range(_LATIN_GREEK_CYRILLIC), *range(0x1E00, 0x1F00))
    if chr(code).isupper() and code < sys.maxunicode
)
_WORD = (
    rf"(?:(?:al|el|as|an|ul)-)?(?:(?:[{_UPPER}]\.){{1,4}}"
    r"|(?:Mrs?|Ms|Dr|Gen|Sen|Rep|Prof|Lt|Col|Sgt|Gov|Rev|Maj|Capt|St)\."
    rf"|[{_UPPER}]\w*(?:['’](?!s\b)\w+|(?:-[a-z]{{1,3}})?-(?:[{_UPPER}]\w*|\d+))*)"
)
_PARTICLE = (
    r"(?:of|for|the|al|bin|ibn|bint|ben|abu|el|ul|van|von|der|den|de|del|della|di|da|dos|das|du"
    r"|la|le|zu|y|e)"
)
_RUN = re.compile(rf"(?<!\w){_WORD}(?: (?:{_PARTICLE} ){{0,3}}{_WORD})*")
_AFTER = re.compile(
    r"(?=,? (?P<next>[a-z]+))?(?=,? (?:who |has |had |also |later |first )?(?P<verb>[a-z]+))?"
    r"(?:, (?:an?|the|his|her|\w+['’]s?) (?P<role>[\w -]{1,40}))?"
)
_POSSESSIVE = re.compile(r"['’]s\b")
_INITIAL = re.compile(rf"[{_UPPER}]\.")
_WORDS = re.compile(r"[^ ]+")
_PLACE_CUES = frozenset({"in", "near", "around", "outside", "across"})
_PERSON_CUES = frozenset({"by", "with", "under", "against", "said", "says", "told"})
_PERSON_PARTICLES = frozenset(_PARTICLE[3:-1].split("|")) - {"of", "for", "la", "le", "el"}
_NOBLE = frozenset({"de", "van", "von", "bin", "ibn", "der", "den"})
_NO_SURNAMES = frozenset({"river", "county", "island", "islands", "valley", "bay", "airport"})
_OF_AND_THE = frozenset({"of", "for", "the"})
_NOT_FIRST = FUNCTION_WORDS | _OF_AND_THE
_NO_PERSON = ORDINARY | ORGANISATION_WORDS | PLACE_WORDS | PEOPLES

Words = list[tuple[str, int, int]]


def names(text: str) -> Iterator[Found]:
    """Kind, start and end of each name, in order; ends are code points of `text`, half-open."""
    for run in _RUN.finditer(text):
        words = [(each[0], each.start(), each.end()) for each in _WORDS.finditer(text, *run.span())]
        initial = not text[: run.start()].strip("\"'“”‘’([ ")
        yield from _run(text, words, initial=initial)


def _run(text: str, words: Words, *, initial: bool) -> Iterator[Found]:
    """The names in one run of capitals."""
    first = next((at for at, word in enumerate(words) if word[0].lower() not in _NOT_FIRST), None)
    if first is None:
        return
    words, initial = words[first:], initial and not first
    lower = [word.lower() for word, _, _ in words]
    if kind := _whole(text, words, lower, initial=initial):
        yield kind, words[0][1], words[-1][2]
    elif any(word in TITLES for word in lower[:-1]) and len(words) <= LONGEST_NAME_WORDS:
        yield from _titled(words, lower)
    elif len(words) <= LONGEST_SPLIT_WORDS and (split := _OF_AND_THE.intersection(lower)):
        at = min(lower.index(word) for word in split)
        yield from _run(text, words[:at], initial=initial)
        yield from _run(text, words[at:], initial=False)
    else:
        yield from _parts(words, lower)


def _whole(text: str, words: Words, lower: list[str], *, initial: bool) -> Kind | None:
    """What the whole run names."""
    known = _known(" ".join(lower)) if len(words) <= LONGEST_KNOWN_WORDS else None
    if known or len(words) == 1:
        return known or _single(text, words[0], initial=initial)
    if len(words) > LONGEST_NAME_WORDS or _joined_by_the(lower):
        return None
    if kind := _by_head(lower):
        return kind
    return None if any(word in TITLES for word in lower[:-1]) else _several(words, lower)


def _joined_by_the(lower: list[str]) -> bool:
    """Whether the run is two names: "in Italy the Court of Justice", not "William the Silent"."""
    at = lower.index("the") if "the" in lower else 0
    epithet = at == 1 and len(lower) == 3 and lower[2] not in _NO_PERSON
    return at > 0 and lower[at - 1] not in ("of", "for") and not epithet


def _known(name: str) -> Kind | None:
    if name in PLACES:
        return Kind.PLACE
    return Kind.ORGANISATION if name in ORGANISATIONS else None


def _by_head(lower: list[str]) -> Kind | None:
    """By the word that says what the name is of: the last, or the last before "of" or "for"."""
    end = next((at for at, word in enumerate(lower) if word in ("of", "for")), len(lower))
    head = lower[end - 1]
    given = lower[0] in GIVEN_NAMES and end == 2 and head not in _NO_SURNAMES
    if lower[0] in TITLES or given:
        return None
    if head in ORGANISATION_WORDS:
        return Kind.ORGANISATION
    if not _PERSON_PARTICLES.isdisjoint(lower):
        return None
    return Kind.PLACE if head in PLACE_WORDS or lower[0] in PLACE_FIRST_WORDS else None


def _titled(words: Words, lower: list[str]) -> Iterator[Found]:
    """What a title stands before: "Russian Foreign Minister Sergei Lavrov", "Duke of Normandy"."""
    start = max(at for at, word in enumerate(lower[:-1]) if word in TITLES) + 1
    if lower[start] == "of" and "state" in lower[start:-1]:  # Secretary of State Mike Pompeo
        start = lower.index("state") + 1
    elif lower[start] == "of":
        start -= 1
    name = lower[-1] not in TITLES and lower[start] not in _NO_PERSON and lower[start] != "for"
    yield from _parts(words if not name else words[:start], lower if not name else lower[:start])
    if name:
        yield Kind.PERSON, words[start][1], words[-1][2]


def _parts(words: Words, lower: list[str]) -> Iterator[Found]:
    """The names inside a run that is nothing as a whole: those known by heart, the longest first,
    and what begins with a given name."""
    at = 0
    while at < len(words):
        kind, size = _known_at(lower, at)
        if kind is None and at and lower[at] in GIVEN_NAMES and _ends_a_name(words, lower, at):
            kind, size = Kind.PERSON, len(words) - at
        if kind:
            yield kind, words[at][1], words[at + size - 1][2]
        at += size


def _known_at(lower: list[str], at: int) -> tuple[Kind | None, int]:
    """Kind and words of the longest name known by heart that begins at a word; None and 1."""
    for size in range(min(LONGEST_KNOWN_WORDS, len(lower) - at), 0, -1):
        if kind := _known(" ".join(lower[at : at + size])):
            return kind, size
    return None, 1


def _ends_a_name(words: Words, lower: list[str], at: int) -> bool:
    rest = len(words) - at
    capitals = all(word.isupper() for word, _, _ in words[at:])
    return 2 <= rest <= LONGEST_PERSON_WORDS and not capitals and _NO_PERSON.isdisjoint(lower[at:])


def _single(text: str, word: tuple[str, int, int], *, initial: bool) -> Kind | None:
    """What one word with a capital names, by itself or by the words around it."""
    name, start, end = word
    lower = name.lower()
    if name.isupper() and len(name) > 1:
        plain = len(name) <= LONGEST_ACRONYM and name.replace("-", "").isalpha()
        return Kind.ORGANISATION if plain and lower not in NO_ORGANISATION else None
    if lower in ORGANISATION_WORDS:
        return None if initial else Kind.ORGANISATION
    if lower in PEOPLES or lower[:-1] in PEOPLES:
        return None
    if lower in ORDINARY or lower in ROLES:
        return None
    if lower in GIVEN_NAMES:
        return Kind.PERSON
    return _by_context(text, start, end, initial=initial)


def _by_context(text: str, start: int, end: int, *, initial: bool) -> Kind | None:
    """What one unknown word with a capital names, by the words before and after it."""
    *_, before, cue = ("", "", *text[max(0, start - CUE_CHARACTERS) : start].split())
    after = _AFTER.match(text, end)
    if (cue == "of" and before in PLACE_WORDS) or (after and after["next"] in PLACE_WORDS):
        return Kind.PLACE
    if cue.rpartition("-")[2] in ROLES or _acts(after, plural=initial and text[end - 1] == "s"):
        return Kind.PERSON
    if end - start == 1 or text[start:end].endswith("ly"):
        return None
    if cue in _PLACE_CUES:
        return Kind.PLACE
    return Kind.PERSON if cue in _PERSON_CUES or _POSSESSIVE.match(text, end) else None


def _acts(after: re.Match[str] | None, *, plural: bool) -> bool:
    """Whether what follows a name says that it is a person's."""
    if after is None:
        return False
    if after["role"] and not ROLES.isdisjoint(after["role"].split()[:3]):
        return True
    return after["verb"] in PERSON_VERBS and not plural


def _several(words: Words, lower: list[str]) -> Kind | None:
    """What several words with capitals name, by their shape."""
    if lower[-1][:-1] in PEOPLES:
        return None
    if lower[0] in GIVEN_NAMES or any(_INITIAL.fullmatch(word) for word, _, _ in words):
        return Kind.PERSON
    if lower[1] in _NOBLE and lower[0] not in _NO_PERSON and len(words) <= LONGEST_PERSON_WORDS:
        return Kind.PERSON
    if any(word in _NO_PERSON for word in lower):
        return None
    if "of" in lower:
        return Kind.PERSON if lower[1] == "of" and len(lower) == 3 else None
    plain = [word for word in lower if word not in _PERSON_PARTICLES]
    if "for" in lower or len(plain) > LONGEST_PERSON_WORDS:
        return None
    if len(plain) < len(lower):
        return Kind.PERSON
    if any(word in PLACES for word in lower) or all(word.isupper() for word, _, _ in words):
        return None
    return Kind.PERSON
