"""The kind of answer that a question asks for, and what of it a sentence holds.

Rules over words, nothing learned: what they tell was measured (eval/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rag.names import Found, names
from rag.types import Kind

ALSO: Mapping[Kind, tuple[Kind, ...]] = {
    Kind.PERSON: (Kind.ORGANISATION, Kind.PLACE),
    Kind.DURATION: (Kind.NUMBER,),
    Kind.ORGANISATION: (Kind.PLACE,),
}
"""What else may answer, less likely: "who claimed responsibility" a group, "who invaded" a country,
"how long is the wall" a number."""

Spans = Mapping[Kind, tuple[tuple[int, int], ...]]

# --- questions ------------------------------------------------------------------------------------

_HEADS: Mapping[Kind, str] = {
    Kind.PERSON: r"person|people|man|men|woman|women|leaders?|generals?|presidents?|ministers?|kings?"
    r"|queens?|emperors?|dukes?|popes?|bishops?|officials?|commanders?|authors?|writers?|poets?"
    r"|scientists?|inventors?|founders?|actors?|actress|singers?|players?|politicians?|journalists?"
    r"|spokes(?:man|woman|person)|ambassadors?|envoys?|diplomats?|senators?|governors?|mayors?"
    r"|philosophers?|mathematicians?|historians?|scholars?|engineers?|rulers?|lawyers?|judges?"
    r"|chancellors?|chairmen|chairman|analysts?|experts?|individuals?|theologians?|explorers?"
    r"|figures?|researchers?|premier|secretary|chief|head|winners?|victims?|suspects?",
    Kind.ORGANISATION: r"organi[sz]ations?|compan(?:y|ies)|groups?|part(?:y|ies)|agenc(?:y|ies)"
    r"|teams?|ministr(?:y|ies)|militias?|universit(?:y|ies)|institutions?|institutes?|courts?"
    r"|councils?|bod(?:y|ies)|banks?|firms?|networks?|channels?|clubs?|unions?|associations?"
    r"|newspapers?|broadcasters?|publishers?|committees?|commissions?|movements?|entit(?:y|ies)"
    r"|publications?|department|government",
    Kind.PLACE: r"places?|countr(?:y|ies)|nations?|cit(?:y|ies)|towns?|villages?|provinces?|regions?"
    r"|states?|districts?|count(?:y|ies)|continents?|areas?|locations?|capitals?|islands?|rivers?"
    r"|mountains?|lakes?|seas?|oceans?|colon(?:y|ies)|territor(?:y|ies)|street|neighbou?rhood"
    r"|suburbs?|airport|venue|site|kingdom|empire|desert|port",
    Kind.DATE: r"years?|dates?|days?|months?|decades?|centur(?:y|ies)|time|era|period|weekday|season"
    r"|week|hour",
    Kind.DURATION: r"duration|length of time|timespan|term length",
    Kind.NUMBER: r"numbers?|percentages?|percent|proportion|share|amounts?|population|price|costs?"
    r"|rate|age|speed|temperature|size|height|depth|distance|length|width|area|value|ratio"
    r"|fraction|sum|total|quantity|majority|margin|score|salary|budget|death toll|toll|magnitude"
    r"|pressure|efficiency|revenue|fine|ransom|turnout|figure",
    Kind.REASON: r"reasons?|causes?|motives?|motivations?|purposes?|rationale|justification"
    r"|explanation|grounds|pretext|aim|goal",
}
_HEAD = "|".join(rf"(?P<{kind}>(?:{heads})(?!['’\w-]))" for kind, heads in _HEADS.items())
_VERB = (
    r"(?:is|are|was|were|be|been|do|does|did|has|have|had|can|could|will|would|should|may|might|must"
    r"|of|in|on|at|to|for|from|by|with|that|who|which|and|or)"
)
_FILL = rf"(?:(?!{_VERB}\b)[\w'’.-]+ ){{0,3}}?"
_OF = r"(?:(?:the )?(?:names?|identity|kind|type|sort)s? of )?(?:an? |the |all |one |its |his |their )?"
_ASKED_HEAD = re.compile(
    rf"\b(?:(?:what|which)(?:['’]s)? |(?:what|which) (?:of the |(?:is|are|was|were) ){_OF}"
    rf"|(?:^|[,;] |\band )(?:please )?(?:name|list|identify|give|state|find|tell me|show me) {_OF}"
    rf"|^(?:the )?){_FILL}(?:{_HEAD})"
)
# A question word after one of these, or at the start, asks; after another word it rather relates.
_ASKING = (
    r"(?:^|[^\w\s'’]\s*|\b(?:and|or|but|by|to|with|of|from|for|on|at|about|against|me|us|know|tell|say"
    r"|explain|is|was|were|are|exactly|just|also|show|find|remember|identify|name|list|than|guess"
    r"|wonder|see|learn|understand|ask|until|since|in|did|do|does|during|under|into|as) )"
)
_WORDED = (
    (Kind.PERSON, re.compile(rf"{_ASKING}(?:who|whom|whose)\b(?!['’]?s name)")),
    (
        Kind.DATE,
        re.compile(rf"{_ASKING}when\b|\bwhen[ ?]*$|\bhow (?:long ago|recently|early|late)\b"),
    ),
    (Kind.PLACE, re.compile(rf"{_ASKING}where(?:abouts)?\b|\bwhere[ ?]*$")),
    (
        Kind.DURATION,
        re.compile(r"\bhow (?:long(?! ago\b)|many (?:years|days|months|weeks|hours))\b"),
    ),
    (
        Kind.NUMBER,
        re.compile(
            r"\bhow (?:many(?! (?:years|days|months|weeks|hours)\b)|much|far|old|tall|big|large|fast"
            r"|often|high|deep|wide|heavy|hot|cold|few|strong|small|frequently|populous)\b"
        ),
    ),
    (
        Kind.REASON,
        re.compile(
            r"\b(?:why|how come|what(?:ever)? (?:for|caused|causes|led to|prompted|triggered|provoked"
            r"|motivated|made|drove|sparked)|(?:is|was|were|are) .{1,40} caused by what)\b"
        ),
    ),
)


def wanted(question: str) -> tuple[Kind, ...]:
    """The kinds that a question asks for, in the order it names them, each once; () if none."""
    lower = _lower(" ".join(question.split()))
    found = [(match.start(), kind) for kind, cue in _WORDED for match in cue.finditer(lower)]
    for match in _ASKED_HEAD.finditer(lower):
        found.append((match.start(), Kind(str(match.lastgroup))))
    return tuple(dict.fromkeys(kind for _, kind in sorted(found)))


# --- sentences ------------------------------------------------------------------------------------

_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
)
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_ORDINAL = (
    r"(?:\d{1,2}(?:st|nd|rd|th)|(?:twenty-)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth"
    r"|ninth)|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth"
    r"|eighteenth|nineteenth|twentieth)"
)
_YEAR = r"(?:1\d{3}|20\d{2})"
_DAY = r"(?:\d{1,2}(?:st|nd|rd|th)?)"
_UNIT = r"(?:second|minute|hour|day|night|week|month|year|decade|centur(?:y|ie)|generation)s?"
_UNITS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen"
)
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_SCALE = "hundreds?|thousands?|millions?|billions?|trillions?|dozens?"
_COUNT = (
    rf"(?:[$€£¥]? ?\d+(?:[.,]\d+)*(?:[- ](?:{_SCALE}))?"
    rf"|(?:(?:{_TENS})(?:-(?:{_UNITS}))?|{_UNITS})(?: (?:{_SCALE}))?|(?:{_SCALE}))"
)
_DATE = re.compile(
    rf"\b(?:{_WEEKDAY},? )?(?:(?:{_DAY} (?:of )?)?{_MONTH}(?: {_DAY}(?!\d))?(?:,? (?:of )?{_YEAR})?)\b"
    r"|\b\d{4}-\d\d?-\d\d?\b|\b\d{1,2}[/.]\d{1,2}[/.](?:\d{4}|\d\d)\b"
    rf"|\b(?:{_WEEKDAY}|yesterday|today|tomorrow|tonight)\b"
    rf"|\b(?:{_ORDINAL}|this|last|next)[- ](?:and {_ORDINAL} )?(?:half of the )?(?:centur(?:y|ies)|millennium)\b(?: bce?| ad)?"
    r"|\b(?:last|next|this|past|previous|following|same) (?:week(?:end)?|month|year|decade|spring"
    r"|summer|autumn|fall|winter|morning|evening|night|afternoon)\b"
    rf"|\b{_COUNT} {_UNIT} (?:ago|later|earlier|before|after)\b"
    rf"|(?<![\w$€£.,/-])(?:(?:early|late|mid|spring|summer|autumn|fall|winter)[- ](?:of |the )?)?{_YEAR}"
    rf"(?:s\b|[-–/](?:{_YEAR}|\d\d)\b|\b)(?![,.]?\d| (?:people|men|percent|troops|soldiers|miles|km))"
    r"|\b\d{1,4} (?:ad|bce?|ce)\b|\b(?:in|since|by|until|from|around|year) [1-9]\d\d(?! ?[\w%$])"
)
_DURATION = re.compile(
    rf"\b(?:{_COUNT}|several|a few|many|a couple of|an?|half an?)[- ](?:and a half )?{_UNIT}\b"
    rf"(?! (?:ago|later|earlier))|\b(?:decades|centuries)\b"
    rf"|\bfrom {_YEAR} (?:to|until) {_YEAR}\b|\b{_YEAR}[-–](?:{_YEAR}|\d\d)\b"
)
_NUMBER = re.compile(
    rf"(?:(?<![\w.,-])(?=[$€£¥\d])|\b(?=[a-z])){_COUNT}\b(?:[ -](?:percent|per cent)\b|%)?"
    r"|\b(?:half|one[- ]third|two[- ]thirds|three[- ]quarters|a quarter|twice|double|dozens)\b"
)
_REASON = re.compile(
    r"\b(?:because|due to|owing to|thanks to|as a result|result(?:ed|ing)? (?:of|from|in)"
    r"|in (?:response|retaliation|reaction|protest|order|an effort|an attempt|a bid) (?:to|for|against)"
    r"|so (?:that|as to)|on account of|for fear|(?:over|amid|out of) (?:fears?|concerns?|worries)"
    r"|citing|caused|causing|prompt(?:ed|ing)|led to|leading to|driven by|motivated|blamed|attributed"
    r"|reasons?|therefore|thus|hence|since(?! (?:\d|the |january|then))|aim(?:ed|ing) (?:to|at)"
    r"|in the hope|hoping|fear(?:ed|ing|s)|after"
    r"|to (?:prevent|avoid|protect|stop|ensure|protest|reduce|secure|help|escape|force|defend"
    r"|support|gain|make|keep|counter|deter|end|allow|save|show|punish|pressure))\b[^.;]*"
)
_CUE_CASE = re.compile(r"may|march|sun")


def held(text: str) -> Spans:
    """What a sentence holds: by kind, the (start, end) of each, in code points of `text`, sorted.

    Kinds it does not hold are left out. Spans of one kind do not overlap; those of two kinds may:
    "three years" is a duration and a number. A number inside a date is none. Any text is fine;
    one without capitals holds no names.
    """
    lower = _lower(text)
    found: dict[Kind, list[tuple[int, int]]] = {}
    dates = [match.span() for match in _DATE.finditer(lower) if _is_date(match, text)]
    if dates:
        found[Kind.DATE] = dates
    for kind, cue in ((Kind.DURATION, _DURATION), (Kind.NUMBER, _NUMBER), (Kind.REASON, _REASON)):
        spans = [match.span() for match in cue.finditer(lower)]
        if kind is Kind.NUMBER:
            spans = [span for span in spans if not _inside(span, dates)]
        if spans:
            found[kind] = spans
    for kind, start, end in _names_outside(text, dates):
        found.setdefault(kind, []).append((start, end))
    return {kind: tuple(spans) for kind, spans in found.items()}


def _names_outside(text: str, dates: list[tuple[int, int]]) -> Iterator[Found]:
    for kind, start, end in names(text):
        if not _inside((start, end), dates):
            yield kind, start, end


def _inside(span: tuple[int, int], others: list[tuple[int, int]]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in others)


def _is_date(match: re.Match[str], text: str) -> bool:
    """Whether it is no verb: "may" and "march" alone are months only with a capital."""
    if match[0] not in ("may", "march"):
        return True
    return text[match.start()].isupper() and match.start() > 0


def _lower(text: str) -> str:
    """In small letters, character for character: those that would become two stay."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := each.lower()) == 1 else each for each in text)
