"""The kind of answer that a question asks for, and what of it a sentence holds.

Rules over words, nothing learned: what they tell was measured (eval/README.md).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Mapping

from rag.names import names
from rag.types import Kind

ALSO: Mapping[Kind, tuple[Kind, ...]] = {
    Kind.PERSON: (Kind.ORGANISATION, Kind.PLACE),
    Kind.ORGANISATION: (Kind.PLACE,),
    Kind.DURATION: (Kind.NUMBER, Kind.DATE),
}
"""What else may answer, the likelier first: "who claimed responsibility" a group, "who invaded" a
country, "how long is the wall" a number, "how long did it last" two years."""

Span = tuple[int, int]

# --- questions ------------------------------------------------------------------------------------

_HEADS: Mapping[Kind, str] = {
    Kind.PERSON: r"person|people|man|men|woman|women|leaders?|generals?|presidents?|ministers?"
    r"|kings?|queens?|emperors?|dukes?|popes?|bishops?|officials?|commanders?|authors?|writers?"
    r"|poets?|scientists?|inventors?|founders?|actors?|actress|singers?|players?|politicians?"
    r"|journalists?|spokes(?:man|woman|person)|ambassadors?|envoys?|diplomats?|senators?"
    r"|governors?|mayors?|philosophers?|mathematicians?|historians?|scholars?|engineers?|rulers?"
    r"|lawyers?|judges?|chancellors?|chairm[ae]n|analysts?|experts?|individuals?|theologians?"
    r"|explorers?|researchers?|premier|secretary|chief|winners?|victims?|suspects?|captain"
    r"|monarchs?|successors?|doctors?|artists?|representatives?|candidates?",
    Kind.ORGANISATION: r"organi[sz]ations?|compan(?:y|ies)|groups?|part(?:y|ies)|agenc(?:y|ies)"
    r"|teams?|ministr(?:y|ies)|militias?|universit(?:y|ies)|institutions?|institutes?|courts?"
    r"|councils?|bod(?:y|ies)|banks?|firms?|networks?|channels?|clubs?|unions?|associations?"
    r"|newspapers?|broadcasters?|publishers?|committees?|commissions?|movements?|entit(?:y|ies)"
    r"|department|government|alliance|army",
    Kind.PLACE: r"places?|countr(?:y|ies)|nations?|cit(?:y|ies)|towns?|villages?|provinces?"
    r"|regions?|states?(?! that\b)|districts?|count(?:y|ies)|continents?|areas?|locations?"
    r"|capitals?(?! (?:punishment|gains))|islands?|rivers?|mountains?|lakes?|seas?|oceans?"
    r"|colon(?:y|ies)|territor(?:y|ies)|streets?|neighbou?rhoods?|suburbs?|airports?|venues?"
    r"|sites?|kingdoms?|empires?|deserts?|ports?|birthplace|headquarters",
    Kind.DATE: r"years?|dates?|days?|months?|decades?|centur(?:y|ies)|time|eras?|period|weekday"
    r"|season|week|hour",
    Kind.DURATION: r"duration|length of time|timespan",
    Kind.NUMBER: r"numbers?|percentages?|percent|proportion|share|amounts?|population|price|costs?"
    r"|rate|age|speed|temperature|size|height|depth|distance|length|width|ratio|weight|fraction"
    r"|sum|total|quantity|majority|margin|score|salary|budget|death toll|toll|magnitude|pressure"
    r"|revenue|fine|ransom|turnout",
    Kind.REASON: r"reasons?|causes?|motives?|motivations?|purposes?|rationale|justification"
    r"|explanation|grounds|pretext|goal",
}
# What ends the noun phrase after "what" or "which", so that "what made the country" asks for none.
_BREAK = (
    r"(?:is|are|was|were|be|been|do|does|did|has|have|had|can|could|will|would|should|may|might"
    r"|must|of|in|on|at|to|for|from|by|with|that|who|which|what|and|or|as|about|after|before"
    r"|between|outside|inside|under|over|when|where|why|how|made|makes|caused|causes|led|gave"
    r"|took|came|became|means|meant|happens|happened|besides|said|says|helped|ended|it|they|he"
    r"|she|we|i|not|the|his|her|its|their|this|these|there|type|kind|sort|name|names|a|an)"
)
# A plural ends it too: "what parts raise the temperature". Not the -s of "famous" or "Texas".
_PLURAL = r"(?!(?:news|sports|nations|states|forces|rights|games|arts)\b)\w{2,}[^\W_aius]s"
_FILL = rf"(?:(?!(?:{_BREAK}|{_PLURAL}) )[\w'’.-]+ ){{0,3}}"
_NAME_OF = r"(?:(?:the )?(?:full |last |first )?(?:names?|identity|kinds?|types?) of )?"
_OF = rf"{_NAME_OF}(?:(?:an?|the|all|one|its|his|her|their|some|any|these|those) )*"
_HEAD = "|".join(rf"(?P<{kind}>(?:{heads})(?![\w-]))" for kind, heads in _HEADS.items())
_WHICH = re.compile(rf"\b(?:what|which)(?:['’]s the)? (?:of the )?{_FILL}(?:{_HEAD})")
# Here the noun must end its phrase: "what was the year of the war", not "the Seven Years War".
_IS = re.compile(
    rf"(?:\b(?:what|which)(?:['’]s| is| are| was| were| would be| has been| had been) {_OF}"
    r"|(?:^|[,;.] |\band )(?:please )?(?:name|list|identify|give|find|tell me|give me|show me)"
    rf" {_OF}){_FILL}(?:{_HEAD})"
    rf"(?! (?!{_BREAK}\b|given|needed|used|required|during|since|until)\w|['’])"
)
# A query without a verb: "date of the coup", "number of killed in the attack".
_FRAGMENT = re.compile(
    rf"^(?:the )?{_FILL}(?:{_HEAD})(?= (?:of|for|behind|who|whose|when|where|that|killed|in)\b|$)"
)
_QUESTION_WORD = re.compile(r"\b(?:what|which|how|who|whom|whose|when|where|why|did|does|is|was)\b")
# A question word after one of these, or at the start, asks; after another word it rather relates.
_ASKING = (
    r"(?:^|[^\w\s'’]\s*|\b(?:and|or|but|by|to|with|of|from|for|on|at|about|against|me|us|know|tell"
    r"|say|explain|is|was|were|are|exactly|just|also|show|find|remember|identify|name|list|than"
    r"|guess|wonder|see|learn|understand|ask|until|since|in|did|do|does|under|into|as|s|so|then) )"
)
_AUXILIARY = (
    r"(?:is|are|was|were|did|does|do|has|have|had|will|would|can|could|should|might|must|may)"
)
_MEASURES = r"(?:seconds|minutes|hours|days|nights|weeks|months|years|decades|centuries)"
_WORDED = (
    (Kind.PERSON, re.compile(rf"{_ASKING}(?:who|whom|whose)\b")),
    (
        Kind.DATE,
        re.compile(
            rf"^when(?= {_AUXILIARY}\b|(?!.*\b(?:what|which|who|how|where)\b))"
            r"|(?:[^\w\s'’]\s*|\b(?:and|or|but|by|since|until|till|from|know|tell|me|us|explain|say"
            r"|exactly|just|remember|ask|is|was|then|so) )when\b|\bwhen[ ?]*$"
            r"|\bhow (?:long ago|recently|early|late|soon)\b"
        ),
    ),
    (Kind.PLACE, re.compile(rf"{_ASKING}(?:where(?:abouts)?|whence)\b|\bwhere[ ?]*$")),
    (Kind.DURATION, re.compile(rf"\bhow (?:long(?! ago\b)|(?:many|much) (?:{_MEASURES}|time)\b)")),
    (
        Kind.NUMBER,
        re.compile(
            rf"\bhow (?:many(?! {_MEASURES}\b)|much(?! time\b)|far|old|tall|big|large|fast|often"
            r"|high|deep|wide|heavy|hot|cold|few|small|frequently|populous|expensive)\b"
        ),
    ),
    (
        Kind.REASON,
        re.compile(
            r"\b(?:why|how come|what (?:caused|causes|led (?:\w+ )?to|leads to|prompt(?:s|ed)"
            r"|triggered|provoked|motivate[sd]|made|drove|sparked|forced|resulted in)"
            r"|(?:because of|due to) (?:what|which)|what for)\b"
        ),
    ),
)


def wanted(question: str) -> tuple[Kind, ...]:
    """The kinds that a question asks for, in the order it asks for them, each once; () if none.

    "Who" asks for a person though a group or a country may answer: `ALSO` says so.
    """
    lower = _lower(" ".join(question.split()))
    found = [(match.end(), kind) for kind, cue in _WORDED for match in cue.finditer(lower)]
    for asked in (_WHICH, _IS):
        found += [(match.end(), Kind(str(match.lastgroup))) for match in asked.finditer(lower)]
    if not found and not _QUESTION_WORD.search(lower) and (match := _FRAGMENT.match(lower)):
        found.append((match.end(), Kind(str(match.lastgroup))))
    return tuple(dict.fromkeys(kind for _, kind in sorted(found)))


# --- sentences ------------------------------------------------------------------------------------

_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
)
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_ONES = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    r"|sixteen|seventeen|eighteen|nineteen"
)
_TENS = r"twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_SCALES = r"hundreds?|thousands?|millions?|billions?|trillions?|dozens?"
_ORDINAL = (
    r"(?:\d{1,2}(?:st|nd|rd|th)|(?:twenty-)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth"
    r"|ninth)|tenth|eleventh|twelfth|(?:thir|four|fif|six|seven|eigh|nine)teenth|twentieth)"
)
_YEAR = r"(?:1\d{3}|20\d{2})"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_UNIT = r"(?:second|minute|hour|day|night|week|month|year|decade|centur(?:y|ie)|generation)s?"
_COUNT = (
    rf"(?:\d+(?:[.,:]\d+)*(?:[- ](?:{_SCALES}))?"
    rf"|(?:(?:{_TENS})(?:-(?:{_ONES}))?|(?:{_ONES})(?! of\b| another\b))(?: (?:{_SCALES}))?"
    rf"|(?:{_SCALES}))"
)
_NO_YEAR = (
    r"(?! ?[°%]| (?:people|men|women|per ?cent|troops|soldiers|fighters|deaths|miles|km|kilomet|met"
    r"|feet|tons|tonnes|dollars|euros|pounds|members|years|days|hours)|[,.]\d|\d)"
)
_NAMED_DATE = re.compile(
    rf"\b(?:(?:{_WEEKDAY},? )?(?:the )?(?:{_DAY}(?:[-–]{_DAY})? (?:of )?)?{_MONTH}\b"
    rf"(?: {_DAY}(?:[-–]\d\d?)?(?!\d))?(?:,? (?:of )?{_YEAR}\b)?"
    rf"|{_WEEKDAY}\b|(?:yesterday|today|tomorrow|tonight|noon|midnight)\b"
    r"|(?:last|next|this|past|previous|following|same) (?:week(?:end)?|month|year|decade|spring"
    r"|summer|autumn|fall|winter|morning|evening|night|afternoon)\b)"
)
_DATE_IN_FIGURES = re.compile(
    r"(?<![\w$€£¥.,/-])(?=\d)(?:\d{4}-\d\d?-\d\d?\b|\d{1,2}[/.]\d{1,2}[/.](?:\d{4}|\d\d)\b"
    rf"|{_YEAR}(?:s\b|[-–/](?:{_YEAR}|\d\d)\b|\b){_NO_YEAR}|\d{{1,4}} (?:ad|bce?|ce)\b"
    r"|(?:(?<=\b(?:ad|in|by) )|(?<=\b(?:since|until) )|(?<=\byear ))[1-9]\d\d"
    r"(?![\w%$°]|[,.]\d| ?%| \w{3,}s\b)"
    r"|\d{1,2}(?::\d\d)? ?(?:[ap]\.m\.|[ap]m\b)|\d\d:\d\d\b)"
)
_CENTURY = re.compile(
    rf"\b(?:{_ORDINAL}|this|last|next)[- ](?:(?:and|to) {_ORDINAL}[- ])?"
    r"(?:centur(?:y|ies)|millennium)\b(?: bce?| ad)?"
)
_DURATION = re.compile(
    rf"\b(?:(?:{_COUNT}|several|a few|many|a couple of|an?(?! second\b)|half an?)[- ]"
    rf"(?:and a half )?{_UNIT}|decades|centuries)\b(?: (ago|later|earlier|before|after)\b)?"
)
_YEARS = re.compile(
    rf"\bfrom {_YEAR} (?:to|until|through) {_YEAR}\b|\bbetween {_YEAR} and {_YEAR}\b"
    rf"|\b{_YEAR}[-–](?:{_YEAR}|\d\d)\b(?!-\d)"
)
_SHARE = r"(?:[ -](?:percent|per cent)|%|(?!\w))"
_NUMBER = re.compile(
    r"(?:[$€£¥] ?|(?<![\w.,-])(?<!article )(?<!section )(?<!resolution )(?<!chapter )(?=\d)"
    r"|\b(?=[a-z]))(?:half|a quarter|twice|(?:one|two|three)[- ](?:thirds?|quarters?|fifths?)"
    rf"|{_COUNT}){_SHARE}"
)
_REASON = re.compile(
    r"\b(?:because|due to|owing to|thanks to|as a (?:result|consequence)"
    r"|result(?:ed|ing|s)? (?:of|from|in)|in (?:response|retaliation|reaction|protest|revenge"
    r"|order|an effort|an attempt|a bid) (?:to|for|against|at)"
    r"|so (?:that|as to)|on account of|for fear|(?:over|amid|out of) (?:fears?|concerns?|worries)"
    r"|citing|caus(?:ed?|es|ing)|prompt(?:ed|ing)|(?:led|leads|leading) to|driven by|motivated"
    r"|blam(?:ed|ing)|attributed|reasons?|therefore|thus|hence|aim(?:ed|ing) (?:to|at)"
    r"|since(?! (?:\d|the |jan|feb|mar|apr|may|ju|aug|sep|oct|nov|dec|then|its ))"
    r"|in the hope|hoping|fear(?:ed|ing|s)|after(?! (?:\d|noon|midnight))"
    r"|for \w+ing|forc(?:ed|ing)|enabl(?:es|ed|ing)"
    r"|to (?:prevent|avoid|protect|stop|ensure|protest|reduce|secure|help|escape|force|defend"
    r"|support|gain|counter|deter|end|allow|save|punish|pressure|encourage|promote|restore"
    r"|recover|obtain|improve|achieve|enable|combat|fight|curb|preserve))\b[^.;]*"
)
_TOKEN = re.compile(r"[a-z]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNITS = _words("""
second seconds minute minutes hour hours day days night nights week weeks month months year years
decade decades century centuries generation generations millennium
""")
_NUMBER_WORDS = frozenset(f"{_ONES}|{_TENS}".split("|")) | _words("""
hundred hundreds thousand thousands million millions billion billions trillion trillions dozen
dozens half quarter twice
""")
_DATE_WORDS = _words("""
january february march april may june july august september october november december jan feb mar
apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday
mondays tuesdays wednesdays thursdays fridays saturdays sundays yesterday today tomorrow tonight
noon midnight last next this past previous following same
""")
_DIGIT = re.compile(r"\d")
_NAMED = frozenset({Kind.PERSON, Kind.PLACE, Kind.ORGANISATION})
_TIMED = frozenset({Kind.DATE, Kind.DURATION, Kind.NUMBER})


def held(text: str, kinds: Collection[Kind] = tuple(Kind)) -> dict[Kind, tuple[Span, ...]]:
    """What a sentence holds of `kinds`: by kind, the (start, end) of each, in code points of
    `text`, sorted.

    Kinds that it does not hold are left out. Spans of one kind do not overlap; those of two may:
    "three years" is a duration and a number. A number inside a date is none. Any text is fine; one
    without capitals holds no names.
    """
    found: dict[Kind, list[Span]] = {}
    lower = _lower(text)
    if Kind.REASON in kinds:
        found[Kind.REASON] = [match.span() for match in _REASON.finditer(lower)]
    named = () if _NAMED.isdisjoint(kinds) else [n for n in names(text) if n[0] in kinds]
    if named or not _TIMED.isdisjoint(kinds):
        words = frozenset(_TOKEN.findall(lower))
        digits = _DIGIT.search(lower) is not None
        dates, durations = _times(text, lower, words, digits=digits)
        found |= {Kind.DATE: dates, Kind.DURATION: durations}
        if Kind.NUMBER in kinds and (digits or not words.isdisjoint(_NUMBER_WORDS)):
            numbers = [match.span() for match in _NUMBER.finditer(lower)]
            found[Kind.NUMBER] = [span for span in numbers if not _touches(span, dates)]
        for kind, start, end in named:
            if not _touches((start, end), dates):
                found.setdefault(kind, []).append((start, end))
    return {kind: tuple(spans) for kind, spans in found.items() if spans and kind in kinds}


def _times(
    text: str, lower: str, words: frozenset[str], *, digits: bool
) -> tuple[list[Span], list[Span]]:
    """Dates and durations. Each search is dear, so only those are made that have their words."""
    dates: list[Span] = []
    durations: list[Span] = []
    if not words.isdisjoint(_UNITS):
        for match in _DURATION.finditer(lower):
            durations.append(match.span())
            if match[1]:  # "two days ago" says when, and how long
                dates.append(match.span())
        dates += [match.span() for match in _CENTURY.finditer(lower)] if "centur" in lower else []
    if digits:
        durations += [match.span() for match in _YEARS.finditer(lower)]
        dates += [match.span() for match in _DATE_IN_FIGURES.finditer(lower)]
    if not words.isdisjoint(_DATE_WORDS):
        dates += [match.span() for match in _NAMED_DATE.finditer(lower) if _is_date(match, text)]
    return _apart(dates), _apart(durations)


def _apart(spans: list[Span]) -> list[Span]:
    """The spans in order; of two that overlap the longer."""
    kept: list[Span] = []
    for span in sorted(spans):
        if kept and span[0] < kept[-1][1]:
            if span[1] - span[0] > kept[-1][1] - kept[-1][0]:
                kept[-1] = span
        else:
            kept.append(span)
    return kept


def _touches(span: Span, others: list[Span]) -> bool:
    """Whether a span overlaps one of `others`, which are in order and apart."""
    at = bisect_left(others, (span[1], 0))
    return at > 0 and others[at - 1][1] > span[0]


def _is_date(match: re.Match[str], text: str) -> bool:
    """Whether it is no verb: "may" and "march" alone are months only with a capital, and not as the
    first word."""
    if match[0] not in ("may", "march"):
        return True
    return text[match.start()].isupper() and match.start() > 0


def _lower(text: str) -> str:
    """In small letters, character for character: those that would become two stay."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := each.lower()) == 1 else each for each in text)
