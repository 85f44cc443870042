"""Expressions of time in a question, and whether the words around them leave no doubt.

A misreading is worse than a miss. A word that is also something else ("may", "march", "2000") is
clear only where nothing else can be meant. Dates come in English and in digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rag.days import ANY_MONTH, COUNT, DAY, MONTH, PARTS, SAID_YEAR, SEASON, TO, UNIT, WEEKDAY, YEAR

LEAD_CHARACTERS = 48
"""How far before a date the words that belong to it may begin."""

_GATE = re.compile(
    rf"[0-9]{{4}}|\b(?:{ANY_MONTH}|{WEEKDAY}|yesterday|today|tonight|weekend"
    r"|ago|this|last|past|previous|recent)\b",
    re.IGNORECASE,
)
"""What every expression holds one of; a question without it is not looked at further."""

_MONTH_DAY, _DAY_MONTH = rf"{ANY_MONTH} (?:the )?{DAY}", rf"{DAY} (?:of )?{ANY_MONTH}"
_KINDS = {
    "iso": rf"{YEAR}(?P<sign>[-/.])[01]?[0-9](?P=sign)[0-3]?[0-9]",
    "numeric": rf"[0-3]?[0-9](?P<mark>[-/.])[0-3]?[0-9](?P=mark){YEAR}",
    "iso_week": rf"{YEAR}-?w[0-5][0-9]|week [0-5]?[0-9],? (?:of )?{YEAR}",
    "iso_month": rf"{YEAR}-(?:0[1-9]|1[0-2])",
    "run": rf"(?:{DAY}{TO}{_DAY_MONTH}|{_MONTH_DAY}(?:(?! and){TO}{DAY}| and {DAY}(?! [a-z]))"
    rf"|{ANY_MONTH}\s?[-–—]\s?{ANY_MONTH})(?:,? {SAID_YEAR})?|{YEAR}[-–]{YEAR}",
    "dated": rf"(?:{_MONTH_DAY}|{_DAY_MONTH}),? {SAID_YEAR}",
    "monthly": rf"{ANY_MONTH},? (?:of )?{SAID_YEAR}",
    "day": rf"{_MONTH_DAY}|{_DAY_MONTH}",
    "season": rf"winter (?:of )?{YEAR}[-–/](?:[0-9]{{2}}){{1,2}}|{SEASON} (?:of )?{SAID_YEAR}",
    "decade": "(?:1[89][1-9]|20[0-9])0['’]?s",
    "year": YEAR,
    "ago": rf"(?:(?:an? )?{COUNT}|an?) {UNIT}s? ago",
    "span": rf"(?:this past|(?<=\bthe\s)(?:last|past|previous)) {UNIT}"
    rf"|(?:last|past|previous) {COUNT} {UNIT}s?|recent {UNIT}s",
    "nearest": rf"(?:last|this past|this) (?:{MONTH}|{WEEKDAY}|{SEASON}(?! (?:olympi|game)))",
    "unit": "(?:this|last) (?:week|month|quarter|year)|(?:this|this past|last) weekend",
    "weekend": r"(?<=\bthe\s)weekend",
    "near": "(?:day before )?yesterday|today|now",
    "hours": "last night|tonight|this (?:morning|afternoon|evening)",
    "weekday": WEEKDAY,
    "month": MONTH,
}
"""In the order in which they are tried."""


def _english(pattern: str) -> str:
    """Letters are those of English alone, where Python takes a long s for an s; a space is up to
    four of any kind."""
    spaced = pattern.replace(" ", r"(?u:\s){1,4}")
    return f"(?a:{spaced})"


_POINT = re.compile(
    # no part of a greater number, an amount, an address or a compound
    r"(?=\w)(?<![\w$€£¥#/@.])(?<!(?<!mid)(?<!early)(?<!late)-)(?<![0-9],)(?:"
    + "|".join(f"(?P<{kind}>{_english(pattern)})" for kind, pattern in _KINDS.items())
    + r")(?![\w%°€/]|[,.:][0-9]|-\w|–[0-9]{2}\b)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    _english(
        r"(?<!\w)(?:(?P<cue>in|on|at|of|over|since|before|prior to|after|during|within|throughout"
        r"|until|till|up to|through|by|from|between) )?"
        rf"(?:(?:the )?(?P<part>{'|'.join(PARTS)})(?: (?:of|in|on))?[\s-]{{1,4}})?"
        rf"(?:{WEEKDAY},? )?"
        r"(?P<the>(?:the|these|those) )?$"
    ),
    re.IGNORECASE,
)
_OWNER = re.compile(r"\b(?:the|his|her|its|their|my|our|your|that)\s+$", re.IGNORECASE)
_COUNTED = re.compile(
    r"\s*-?\s*(?:(?!was|is|has|does|as|this|its|his|us|thus|onwards)[a-z]+s|people|men|women|children"
    r"|police|dead|more|other|new|feet|km|kg|m|percent|per|euro|million|billion|or|of)\b"
)
"""After a number that counts something: "in 2000 villages" names no year."""

_NUMBER_FOLLOWS = re.compile(r",?\s+(?:of\s+)?[0-9]")
_DATE_FOLLOWS = re.compile(rf",?\s+(?:the\s+)?(?:{ANY_MONTH}|[0-9])", re.IGNORECASE)
_OF_FOLLOWS = re.compile(r"\s+of\b", re.IGNORECASE)
_GOES_ON = re.compile(r"\s+[A-Z]|['’]s\b")
_ENDS = re.compile(
    r"\s*(?:[?.,;:!)]|$)|\s+(?:in|at|near|when|after|before|during|and|or|did|was|were|who|what)\b"
)
_STOPS = re.compile(r"\s*(?:[?.!]|$)")
_SENTENCE_START = re.compile(r"(?:^|[.?!:]\s)\W*$")
_POSSESSIVE = re.compile(r"['’]s\b")
_ONWARDS = re.compile(r"\s+onwards?\b", re.IGNORECASE)
_AGO = re.compile(r"\bago\s+$", re.IGNORECASE)
_AFTER_NAME = re.compile(r"\b[A-Z][\w'’]*\s+$")
_AFTER_STATEMENT = re.compile(
    r"\w\s+(?!(?:is|was|be|an?|the|every|each|one|any|some|that|next|and|or|nor|of|to|for|than|as"
    r"|like|with|about|called|named|plays|played|directed|wrote)\s)[a-z]+\s+$"
)

_WORDS = frozenset(["march", "may"])
"""Months that are other words too."""

_NAMES = frozenset(["april", "june", "august"])
"""Months that are names of people too."""

_COMPARED = re.compile(r"(?:\b(?:time|first|most|worst|ever)|est)\s+since\s+", re.IGNORECASE)
"""Before "since" in "for the first time since 2020", which is no period."""

_PAST = re.compile(r"\b(?:did|was|were|has|have|had|said|[a-z]+ed)\b", re.IGNORECASE)
_PRESENT = re.compile(r"\b(?:is|are|am|does|do|can|still|than)\b|['’](?:s|re)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression of time, and what leads to it.

    `words` are in lower case, their words parted by single spaces, `kind` is what they are read as
    (days.readings). `cue` is a preposition and `part` what days.part_of takes, each may be empty;
    `start` is where what leads to it begins.
    """

    kind: str
    words: str
    match: re.Match[str]
    cue: str
    part: str
    the: bool
    start: int

    @property
    def question(self) -> str:
        """The text that it stands in."""
        return self.match.string

    @property
    def end(self) -> int:
        """Where it ends in the question."""
        return self.match.end()

    @property
    def counts(self) -> bool:
        """Whether it may as well say how many there are of what follows."""
        return self.kind in ("year", "run") and self.follows(_COUNTED) is not None

    @property
    def before(self) -> str:
        """What stands before it, as far as it can belong to it."""
        return self.question[_lead_start(self.match) : self.match.start()]

    @property
    def capital(self) -> bool:
        """Whether it is written with one."""
        return self.match[0][0].isupper()

    def follows(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What of a pattern stands right after it."""
        return pattern.match(self.question, self.end)


def find_expressions(question: str, taken: Sequence[tuple[int, int]] = ()) -> Iterator[Expression]:
    """All that may be expressions of time, clear or not, in the order of the text; what overlaps a
    place in `taken` is passed over. Any text is safe."""
    if not _GATE.search(question):
        return
    for match in _POINT.finditer(question):
        if all(match.end() <= start or end <= match.start() for start, end in taken):
            yield _expression(match)


def _expression(match: re.Match[str]) -> Expression:
    lead = _LEAD.search(match.string, _lead_start(match), match.start())
    assert lead is not None  # it may be empty
    cue, part, the = (" ".join((text or "").lower().split()) for text in lead.groups())
    onwards = cue == "from" and _ONWARDS.match(match.string, match.end())
    return Expression(
        kind=match.lastgroup or "",
        words=" ".join(match[0].lower().split()),
        match=match,
        cue="since" if onwards else cue,
        part=part,
        the=bool(the),
        start=lead.start(),
    )


def _lead_start(match: re.Match[str]) -> int:
    return max(0, match.start() - LEAD_CHARACTERS)


def is_clear(one: Expression) -> bool:
    """Whether the words around an expression leave no doubt that it says when something was
    published. The ends of a range are clear by being two."""
    if one.cue == "since" and _COMPARED.search(one.before):
        return False
    if one.cue == "between" and one.kind != "run":
        return False
    # "how many died by May" is told afterwards; "two years ago this week" is not this week
    if (one.cue == "by" and not one.part) or _AGO.search(one.before):
        return False
    return _CLEAR[one.kind](one)


def _clear_run(one: Expression) -> bool:
    if re.fullmatch(YEAR, one.words[:4]):
        return _clear_year(one)
    if re.search(SAID_YEAR, one.words):
        return True
    other_word = re.search(r"\b(?:march|may)\b", one.match[0]) and not one.follows(_ENDS)
    return one.cue not in ("", "of", "at", "over") and not other_word


def _clear_iso_month(one: Expression) -> bool:
    """Not "room 2024-05", nor 2009-10, which may be the season that ends in 2010."""
    year, month = map(int, one.words.split("-"))
    led = one.part or one.cue not in ("", "on", "at", "over")
    return bool(led) and (year + 1 - month) % 100 != 0


def _clear_monthly(one: Expression) -> bool:
    if one.words.split()[0] not in (*_WORDS, *_NAMES, "mar"):
        return True
    return bool(one.cue or one.part) or (one.capital and not _starts_sentence(one))


def _clear_day(one: Expression) -> bool:
    # "the March 23 Movement", but "on the 20th of November"
    ordinal = one.words[0].isdigit() and not one.words.split()[0].isdigit()
    if (one.the and not ordinal) or one.follows(_NUMBER_FOLLOWS):
        return False
    return bool(one.part) or one.cue not in ("", "of", "in", "over")


def _clear_season(one: Expression) -> bool:
    """Not "the Arab Spring of 2011", "the Winter 2022 Olympics", "a fall of 2000 points"."""
    if one.words.startswith("fall of"):
        return one.the
    named = one.capital and not one.cue and _AFTER_NAME.search(one.before)
    return not (named or one.cue == "at")


def _clear_decade(one: Expression) -> bool:
    return (one.the or bool(one.part)) and one.cue not in ("", "of", "on", "at", "over", "by")


def _clear_year(one: Expression) -> bool:
    if one.part and not one.part.startswith("month"):
        return True
    return not (one.the or one.counts or one.cue in ("", "of", "on", "at", "over", "within"))


def _clear_month(one: Expression) -> bool:
    if not one.part and (one.the or one.cue in ("", "of", "on", "at", "over")):
        return False
    if one.follows(_NUMBER_FOLLOWS):
        return False
    named = one.capital and one.cue in ("in", "during", "throughout", "since", "until")
    if (one.words in _WORDS and not named) or (one.words == "august" and not one.capital):
        return one.follows(_ENDS) is not None
    return not (one.words in (*_WORDS, *_NAMES) and one.follows(_GOES_ON))


def _clear_weekday(one: Expression) -> bool:
    if one.the or one.follows(_DATE_FOLLOWS):
        return False
    if one.cue in ("on", "since", "until", "till", "before", "after") or one.part:
        return True
    if one.follows(_POSSESSIVE):  # but "Bloody Sunday's"
        return bool(one.cue) or not _AFTER_NAME.search(one.before)
    stated = _AFTER_STATEMENT.search(one.before) and one.follows(_STOPS)
    return not one.cue and stated is not None


def _clear_ago(one: Expression) -> bool:
    return (
        not one.before.rstrip().lower().endswith((" than", " over", " nearly", " almost", " and"))
    )


def _clear_span(one: Expression) -> bool:
    """ "in the past three days"; not "in the last week of the war"."""
    led = one.cue in ("in", "over", "during", "within") or one.words.startswith("this")
    return led and not (one.follows(_OF_FOLLOWS) or _is_title(one))


def _clear_unit(one: Expression) -> bool:
    owned = _OWNER.search(one.before)
    return not (one.follows(_OF_FOLLOWS) or owned or _is_title(one))


def _clear_nearest(one: Expression) -> bool:
    other_word = one.words.endswith((*_WORDS, "fall")) and not one.follows(_ENDS)
    return _clear_unit(one) and not other_word


def _clear_weekend(one: Expression) -> bool:
    return one.cue in ("over", "during", "on", "at") and not one.follows(_OF_FOLLOWS)


def _clear_near(one: Expression) -> bool:
    if _is_title(one) or one.words == "now":
        return False
    if one.words.endswith("yesterday"):
        return True
    # Where nothing has happened yet, "today" is "in our time".
    return _PAST.search(one.question) is not None and not _PRESENT.search(one.question)


_CLEAR: Mapping[str, Callable[[Expression], bool]] = {
    "iso": lambda _: True,
    "numeric": lambda _: True,
    "iso_week": lambda _: True,
    "iso_month": _clear_iso_month,
    "run": _clear_run,
    "dated": lambda _: True,
    "monthly": _clear_monthly,
    "day": _clear_day,
    "season": _clear_season,
    "decade": _clear_decade,
    "year": _clear_year,
    "ago": _clear_ago,
    "span": _clear_span,
    "nearest": _clear_nearest,
    "unit": _clear_unit,
    "weekend": _clear_weekend,
    "near": _clear_near,
    "hours": _clear_unit,
    "weekday": _clear_weekday,
    "month": _clear_month,
}


def _starts_sentence(one: Expression) -> bool:
    return _SENTENCE_START.search(one.before) is not None


def _is_title(one: Expression) -> bool:
    """Whether it is written as a name is: "USA Today", "Last Week Tonight"."""
    first, *others = one.match[0].split()
    if any(word[0].isupper() for word in others if word.lower() not in _CAPITAL):
        return True
    return first[0].isupper() and not _starts_sentence(one)


_CAPITAL = frozenset(re.findall(r"[a-z]+", f"{MONTH} {WEEKDAY}"))
"""Words that English writes with a capital."""
