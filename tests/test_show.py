"""What a terminal is sent: the words of others, and nothing that it would obey."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from rag import show
from rag.ingest import ingest
from rag.types import Article
from tests.fakes import FakeEncoder

RED, TITLE, BELL = "\x1b[31m", "\x1b]0;owned\x07", "\x9b2J"
COMMANDS = f"{RED}{TITLE}{BELL}\b\r\x7f"


def obeyed(text: str) -> list[str]:
    """The characters of `text` that are more than letters to a terminal."""
    return [
        each
        for each in text
        if (unicodedata.category(each) == "Cc" and each not in "\n\t")
        or unicodedata.bidirectional(each)
        in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]


def test_an_article_gives_the_terminal_no_commands(rag: Any, tmp_path: Path) -> None:
    turned = "Quokka \u202etitle\u2066 seen"
    lines = {
        "id": "a",
        "title": f"{turned}{COMMANDS}",
        "text": f"A quokka{COMMANDS} was \u202eseen\u202c. [bold]It[/bold] ran.",
        "source": f"Wire{COMMANDS}\u202e",
        "url": f"https://news.example/\u202e{COMMANDS}",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(lines), encoding="utf-8")
    assert rag("add", "a.jsonl").code == 0
    for command in ("ask", "search"):
        called = rag(command, f"according to Wire{COMMANDS}, was a quokka seen?")
        assert "quokka" in called.out
        assert obeyed(called.out + called.err) == []
    assert "[bold]It[/bold] ran." in called.out


def test_an_article_from_python_gives_none_either(
    rag: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from rag.archive import Archive

    archive = Archive(tmp_path / "index")
    ingest(archive, FakeEncoder(), [Article("a", f"T{COMMANDS}", f"A quokka{COMMANDS}.")])
    archive.close()
    called = rag("ask", "quokka")
    assert "quokka\ufffd[31m" in called.out
    assert obeyed(called.out) == []


def test_a_files_name_and_an_error_give_none(rag: Any, tmp_path: Path) -> None:
    (tmp_path / f"a{RED}\x9b.txt").write_text("", encoding="utf-8")
    added = rag("add", str(tmp_path))
    assert "a\ufffd[31m\ufffd.txt: is empty" in added.err
    assert obeyed(added.err) == []
    (tmp_path / f"set{RED}").mkdir()
    wrong = rag("eval", str(tmp_path / f"set{RED}"))
    assert wrong.code == 2
    assert "\ufffd[31m" in wrong.err
    assert obeyed(wrong.err) == []


FORGED = "left out: else.txt: is empty"


def test_a_name_cannot_begin_a_line(rag: Any, tmp_path: Path) -> None:
    folder = tmp_path / f"in\n{FORGED}"
    folder.mkdir()
    for end in ("\n", "\r", "\x0b", "\x85", "\u2028", "\u2029"):
        (folder / f"a{end}{FORGED}{end}.txt").write_text("", encoding="utf-8")
    added = rag("add", str(folder), f"gone\n{FORGED}\n")
    lines = added.err.splitlines()
    assert len(lines) == 7
    assert FORGED not in lines
    assert f"in↵{FORGED}/a↵{FORGED}↵.txt: is empty" in added.err
    for command in (
        ("restore", f"x\n{FORGED}"),
        ("remove", f"x\n{FORGED}"),
    ):
        called = rag(*command)
        assert called.code != 0
        assert FORGED in called.err
        assert FORGED not in called.err.splitlines()
    status = rag("status", "--index", f"x\n{FORGED}")
    assert f"x↵{FORGED}" in status.out


def test_a_text_cannot_begin_a_line(rag: Any, tmp_path: Path) -> None:
    forged = "2. Nobody was seen.\n   Another title · Another source · 2025-11-23"
    article = {"id": "a", "title": "T", "text": f"A quokka was seen\n{forged}"}
    (tmp_path / "a.jsonl").write_text(json.dumps(article), encoding="utf-8")
    assert rag("add", "a.jsonl").code == 0
    for command in ("ask", "search"):
        called = rag(command, "was a quokka seen?")
        assert "1. A quokka was seen" in called.out
        assert not [line for line in called.out.splitlines() if line in forged.splitlines()]
    assert "seen↵2. Nobody was seen.↵   Another title" in called.out


def test_the_question_words_stand_out_beyond_a_line_end() -> None:
    words = Text("One\nquokka")
    words.stylize("bold", 4, 10)
    console = show.Terminal(force_terminal=True, color_system="standard", highlight=False)
    with console.capture() as captured:
        console.print(words, "two", sep="\n")
    assert captured.get() == "One↵\x1b[1mquokka\x1b[0m\ntwo\n"
    assert words.plain == "One\nquokka"


def test_colours_of_our_own_are_sent(monkeypatch: Any) -> None:
    console = show.Terminal(force_terminal=True, color_system="standard", highlight=False)
    with console.capture() as captured:
        console.print(Text(f"a{RED}b", style="bold"))
    assert captured.get() == "\x1b[1ma\ufffd[31mb\x1b[0m\n"


@given(st.text())
def test_one_character_stands_for_one(text: str) -> None:
    shown = text.translate(show.HARMLESS)
    assert len(shown) == len(text)
    assert obeyed(shown) == []
    assert all(a == b or b == "\ufffd" for a, b in zip(text, shown, strict=True))
