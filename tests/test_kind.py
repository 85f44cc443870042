from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.kind import ALSO, held, wanted
from rag.types import Kind

PERSON, ORGANISATION, PLACE, DATE, DURATION, NUMBER, REASON = Kind


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("who warned of spillover and when", (PERSON, DATE)),
        ("Who claimed responsibility for the bombing?", (PERSON,)),
        ("Tell me who led the delegation.", (PERSON,)),
        ("The treaty was signed by whom?", (PERSON,)),
        ("Whose signature stands under the treaty?", (PERSON,)),
        ("Name the general who took the capital", (PERSON,)),
        ("Which foreign minister resigned?", (PERSON,)),
        ("What was the name of the king's successor?", (PERSON,)),
        ("how many people died in the flood and where", (NUMBER, PLACE)),
        ("How many people who fled came back?", (NUMBER,)),
        ("How much did the bridge cost?", (NUMBER,)),
        ("What percentage of the vote did the party win?", (NUMBER,)),
        ("What was the population of the town?", (NUMBER,)),
        ("number of killed in the earthquake", (NUMBER,)),
        ("in which city was the summit held", (PLACE,)),
        ("Which country's troops crossed the border?", (PLACE,)),
        ("What is the capital of the province?", (PLACE,)),
        ("Near what modern day coastal city was the wreck found?", (PLACE,)),
        ("Where did they meet, and why?", (PLACE, REASON)),
        ("the ship sank where?", (PLACE,)),
        ("When did the war end?", (DATE,)),
        ("on what date was the pact signed", (DATE,)),
        ("What year was the dam finished?", (DATE,)),
        ("date of the coup", (DATE,)),
        ("The war ended when?", (DATE,)),
        ("How long ago did the volcano erupt?", (DATE,)),
        ("how long did the siege last", (DURATION,)),
        ("How many years did she serve?", (DURATION,)),
        ("Why was the bridge closed?", (REASON,)),
        ("What caused the blackout?", (REASON,)),
        ("What was the reason for the delay?", (REASON,)),
        ("Which company built the tunnel?", (ORGANISATION,)),
        ("Which militia holds the airport, and since when?", (ORGANISATION, DATE)),
    ],
)
def test_wanted(question: str, kinds: tuple[Kind, ...]) -> None:
    assert wanted(question) == kinds
    assert wanted(question.upper()) == kinds


@pytest.mark.parametrize(
    "question",
    [
        "",
        "   ",
        "What is a stablecoin?",
        "How did the talks begin?",
        "What happened when the bridge fell?",
        "When the bridge fell, what did the crowd do?",
        "What did the men who fled take along?",
        "Describe the ceasefire",
        "What was the Seven Years War?",
        "What is union law?",
        "What parts raise the temperature?",
        "Does the WHO know?",
        "谁警告了溢出",
        "¿Qué es un tratado?",
    ],
)
def test_wanted_says_nothing_where_no_kind_is_asked_for(question: str) -> None:
    assert wanted(question) == ()


def texts(sentence: str, kind: Kind) -> list[str]:
    return [sentence[start:end] for start, end in held(sentence).get(kind, ())]


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("It began on March 3, 2021, at dawn.", ["March 3, 2021"]),
        ("It began on 3 March 2021.", ["3 March 2021"]),
        ("It began on Tuesday, 2 July.", ["Tuesday, 2 July"]),
        ("They met from 4-6 May 2019.", ["4-6 May 2019"]),
        ("The order of 2021-03-05 was void.", ["2021-03-05"]),
        ("The order of 05/03/2021 was void.", ["05/03/2021"]),
        ("Since 1998 and in the 1970s it flourished.", ["1998", "1970s"]),
        ("The war of 1914–18 was long.", ["1914–18"]),
        ("In the late 19th century it closed.", ["19th century"]),
        ("In the sixteenth century it opened.", ["sixteenth century"]),
        ("Rain is expected last week and tomorrow.", ["last week", "tomorrow"]),
        ("She left two days ago.", ["two days ago"]),
        ("It fell in 476 when the last of them left.", ["476"]),
        ("The doors open at 6:30 p.m. for guests.", ["6:30 p.m."]),
        ("He resigned in May.", ["May"]),
        ("They may march again.", []),
        ("May they prosper.", []),
        ("Some 1500 people and 1200 soldiers came.", []),
        ("The oven reached 1500 °C.", []),
        ("It cost $1999 and weighed 1,800 tons.", []),
        ("The runner finished in 2:11.", []),
        ("A second man came.", []),
    ],
)
def test_dates(sentence: str, found: list[str]) -> None:
    assert texts(sentence, DATE) == found


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("At least 13 died and 1,204 fled.", ["13", "1,204"]),
        ("Thirteen died, two million fled.", ["Thirteen", "two million"]),
        ("Dozens died and twenty-two were hurt.", ["Dozens", "twenty-two"]),
        ("It cost $4.5 million, or €30.", ["$4.5 million", "€30"]),
        ("Some 12% agreed, 40 percent did not.", ["12%", "40 percent"]),
        ("Half of them and two-thirds of us agree.", ["Half", "two-thirds"]),
        ("It happened in 1998.", []),
        ("It happened on March 3, 2021.", []),
        ("One of them spoke of resolution 2593.", []),
        ("The F-16 and the G20 are no amounts.", []),
        ("Nobody spoke.", []),
    ],
)
def test_numbers(sentence: str, found: list[str]) -> None:
    assert texts(sentence, NUMBER) == found


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("The siege lasted three years.", ["three years"]),
        ("He waited for several hours, then a week.", ["several hours", "a week"]),
        ("She ruled from 1951 to 1960.", ["from 1951 to 1960"]),
        ("A 20-minute walk.", ["20-minute"]),
        ("It took a second vote on 2023-07-04.", []),
        ("It took time.", []),
    ],
)
def test_durations(sentence: str, found: list[str]) -> None:
    assert texts(sentence, DURATION) == found


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("Schools closed because of snow; trains ran.", ["because of snow"]),
        ("It was cancelled due to fog.", ["due to fog"]),
        ("Troops came in response to the raid.", ["in response to the raid"]),
        ("Gates were shut to prevent a rush.", ["to prevent a rush"]),
        ("The bank closed, citing fraud.", ["citing fraud"]),
        ("Shares fell over fears of a war.", ["over fears of a war"]),
        ("She has lived there since 1998.", []),
        ("The parade went on.", []),
    ],
)
def test_reasons(sentence: str, found: list[str]) -> None:
    assert texts(sentence, REASON) == found


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("Angela Merkel spoke.", ["Angela Merkel"]),
        ("The deal was signed by Ulla Brandvold.", ["Ulla Brandvold"]),
        ("Russian Foreign Minister Sergei Lavrov left.", ["Sergei Lavrov"]),
        ("Secretary of State Ulla Brandvold left.", ["Ulla Brandvold"]),
        ("Gen. Otieno Wambua and Mr. Ho met.", ["Otieno Wambua", "Ho"]),
        ("Yesterday Brandvold said little.", ["Brandvold"]),
        ("In Brandvold's view it failed.", ["Brandvold"]),
        ("The analyst Brandvold disagrees.", ["Brandvold"]),
        ("Then Brandvold, a retired judge, rose.", ["Brandvold"]),
        ("It was J. R. Harkness who won.", ["J. R. Harkness"]),
        ("Aides of Bashar al-Assad fled.", ["Bashar al-Assad"]),
        ("They met Ludwig van Beethoven.", ["Ludwig van Beethoven"]),
        ("The Duke of Normandy sailed.", ["Duke of Normandy"]),
        ("Carlos O'Brien-Smith's horse won.", ["Carlos O'Brien-Smith"]),
        ("They paid the British Landgrave Edmund Brandvold.", ["Edmund Brandvold"]),
        ("Later Ulrik de Forest sailed.", ["Ulrik de Forest"]),
        ("In Italy the Court of Auditors met.", []),
        ("Arab-friendly ports stayed open.", []),
        ("Residents told of floods.", []),
        ("The Prime Minister spoke.", []),
        ("However, the Ministry of Foreign Affairs waited.", []),
        ("Everything went well.", []),
        ("The Security Council met in New York.", []),
        ("On Monday the Treaty of Rome was signed.", []),
        ("the mayor said so to angela", []),
    ],
)
def test_persons(sentence: str, found: list[str]) -> None:
    assert texts(sentence, PERSON) == found


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("Floods hit Pakistan and New South Wales.", ["Pakistan", "New South Wales"]),
        ("They left the U.S. for Kabul.", ["U.S.", "Kabul"]),
        ("It lies on the Skarv River near Lake Ulm.", ["Skarv River", "Lake Ulm"]),
        ("The village of Przysucha burned.", ["Przysucha"]),
        ("They live in Brandvold.", ["Brandvold"]),
        ("The Savanes region voted.", ["Savanes"]),
        ("The Gulf of Guinea is calm.", ["Gulf of Guinea"]),
        ("The University of Oxford is old.", []),
        ("In August they left.", []),
    ],
)
def test_places(sentence: str, found: list[str]) -> None:
    assert texts(sentence, PLACE) == found


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("The University of Oxford is old.", ["University of Oxford"]),
        ("However, the Ministry of Foreign Affairs waited.", ["Ministry of Foreign Affairs"]),
        ("NATO and the Taliban talked; IS-K did not.", ["NATO", "Taliban", "IS-K"]),
        ("The National Salvation Front split.", ["National Salvation Front"]),
        ("He went to the Commission.", ["Commission"]),
        ("GDP fell, said the CEO on TV.", []),
        ("The group went home.", []),
    ],
)
def test_organisations(sentence: str, found: list[str]) -> None:
    assert texts(sentence, ORGANISATION) == found


def test_person_and_day_in_one_sentence() -> None:
    sentence = "The envoy, Ulla Brandvold, warned on 20 November 2025 that it might spread."
    assert {PERSON, DATE} <= held(sentence).keys()


@pytest.mark.parametrize(
    "sentence",
    ["", " ", "🙂", "он сказал", "警告した", "قال الرئيس", "A" * 5000, "Zork of " * 5000],
)
def test_any_script_is_safe(sentence: str) -> None:
    assert not held(sentence).keys() - {PERSON, PLACE, ORGANISATION}


def test_less_is_found_without_small_letters() -> None:
    headline = "ULLA BRANDVOLD WARNS OF FLOODS IN PAKISTAN ON MARCH 3, 2021"
    assert texts(headline, DATE) == ["MARCH 3, 2021"]
    assert texts(headline, PLACE) == ["PAKISTAN"]
    assert not texts(headline, PERSON)


def test_offsets_hold_where_small_letters_are_longer() -> None:
    sentence = "İİİ: three died on March 3, 2021."
    assert texts(sentence, DATE) == ["March 3, 2021"]
    assert texts(sentence, NUMBER) == ["three"]


def test_what_else_answers_is_another_kind() -> None:
    assert all(kind not in others for kind, others in ALSO.items())


WORDS = st.sampled_from(
    [
        "the",
        "of",
        "for",
        "in",
        "and",
        "al-",
        "bin",
        "de",
        "Ulla",
        "Brandvold",
        "President",
        "Minister",
        "State",
        "U.S.",
        "IS-K",
        "J.",
        "Lake",
        "River",
        "Ministry",
        "Council",
        "March",
        "May",
        "3",
        "2021",
        "1,204",
        "$4.5",
        "million",
        "two",
        "days",
        "ago",
        "Tuesday",
        "because",
        "after",
        "to",
        "prevent",
        ",",
        ".",
        ";",
        "(",
        ")",
        "'",
        "’s",
        "–",
        "İ",
        "ﬀ",
        "Ж",
        "警告",
        "\n",
        "\x00",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(WORDS).map(" ".join), st.lists(WORDS).map("".join))


@given(TEXTS)
def test_spans_lie_inside_in_order_and_apart(text: str) -> None:
    for spans in held(text).values():
        assert spans
        ends = [0]
        for start, end in spans:
            assert ends[-1] <= start < end <= len(text)
            ends.append(end)


@given(TEXTS, st.frozensets(st.sampled_from(Kind)))
def test_a_kind_is_held_whatever_else_is_asked_for(text: str, kinds: frozenset[Kind]) -> None:
    every = held(text)
    assert held(text, kinds) == {kind: every[kind] for kind in every if kind in kinds}


@given(TEXTS)
def test_any_question_is_safe(text: str) -> None:
    kinds = wanted(text)
    assert len(set(kinds)) == len(kinds)
