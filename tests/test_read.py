from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag import read
from rag.normalise import normalise_text
from rag.read import read_paths, size_of
from rag.types import Article, IdentifiedBy, Unreadable

MARKDOWN = """---
id: spill-1
title: "Spill: the strait"
source: Daily
authors: [Ann Example, Ben Sample]
url: https://example.org/spill
published_at: 2025-11-23
unknown: [1, {2: 3}]
---

# Heading

The strait is **closed**.
"""
SENTENCE = "The council of the river towns met on Tuesday to hear the report about the flood. "

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def article(path: Path, limit: int = read.MAX_TEXT_BYTES) -> Article:
    (found,) = read_paths([path], max_text_bytes=limit)
    assert isinstance(found, Article), found
    return found


def reason(path: Path | str, limit: int = read.MAX_TEXT_BYTES) -> str:
    (found,) = read_paths([path], max_text_bytes=limit)
    assert isinstance(found, Unreadable), found
    assert found.item == str(path)
    return found.reason


def outcomes(path: Path, limit: int = read.MAX_TEXT_BYTES) -> list[tuple[str, str]]:
    """Title of each article, item (without the folder) and reason of what is none."""
    return [
        ("article", found.title)
        if isinstance(found, Article)
        else (found.item.removeprefix(str(path)), found.reason)
        for found in read_paths([path], max_text_bytes=limit)
    ]


def digest(place: str) -> str:
    return hashlib.sha256(place.encode()).hexdigest()[:32]


# Markdown


def test_markdown_with_front_matter(write: Write) -> None:
    assert article(write("a.md", MARKDOWN)) == Article(
        id="spill-1",
        title="Spill: the strait",
        text="# Heading\n\nThe strait is **closed**.",
        source="Daily",
        author="Ann Example, Ben Sample",
        url="https://example.org/spill",
        published_at="2025-11-23",
    )


@pytest.mark.parametrize("ends", ["\r\n", "\r", "\u2028"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_front_matter_with_other_line_ends(write: Write, ends: str, mark: str) -> None:
    found = article(write("a.markdown", mark + MARKDOWN.replace("\n", ends)))
    assert (found.id, found.text) == ("spill-1", "# Heading\n\nThe strait is **closed**.")


def test_markdown_without_front_matter_is_plain_text(write: Write) -> None:
    path = write("README.md", "# The strait\n\nNovember 20, 2025\n\nIt is *closed*.\n")
    found = article(path)
    assert (found.title, found.published_at) == ("The strait", "2025-11-20")
    assert found.text == "November 20, 2025\n\nIt is *closed*."
    assert (found.id, found.identified_by) == (digest(str(path)), IdentifiedBy.PATH)


def test_front_matter_of_nothing_and_body_of_nothing(write: Write) -> None:
    found = article(write("a.md", "---\n---\nThe title\n\nThe text."))
    assert (found.title, found.text) == ("The title", "The text.")
    found = article(write("b.md", "---\ntitle: Only a title\n---\n"))
    assert (found.title, found.text) == ("Only a title", "")
    assert reason(write("c.md", "---\nid: x\n---\n")) == "has neither a title nor a text"


@pytest.mark.parametrize(
    ("front", "wanted"),
    [
        ("title: [", "expected the node content, but found '<stream end>' in line 3"),
        ("title: a: b", "mapping values are not allowed here in line 2"),
        ("just words", "it has no lines of the form name: value"),
        ("- a\n- b", "it has no lines of the form name: value"),
        ("a: " + "[" * 2_000, "recursion depth"),
        (
            "title: !!python/object/apply:os.system ['touch pwned']",
            "could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system' in line 2",
        ),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}", "tag:yaml.org,2002:merge"),
        ("title: \x07bell: x: y", "mapping values are not allowed here"),
        ("title: !!python/name:os.system", "constructor for the tag"),
        ("title: !!python/object/new:os.system [touch pwned]", "constructor for the tag"),
        ("title: !<tag:yaml.org,2002:python/module:os> x", "constructor for the tag"),
        ("title: A\nsource: B\ntitle: C", "'title' stands there twice, the second time in line 4"),
        ("title: A\nx: {y: 1, y: 2}", "'y' stands there twice"),
        ("x: !!bool perhaps", "perhaps"),
        ('x: !!int ""', "out of range"),
        ("x: !!timestamp soon", "NoneType"),
        (f"x: 1{':1' * 300}.5", "too large"),
        (f"id: {'9' * 5_000}", "4300 digits"),
    ],
)
def test_broken_front_matter(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, front: str, wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = reason(write("a.md", f"---\n{front}\n---\nText."))
    assert found.startswith("its front matter is not YAML: ")
    assert wanted in found
    assert [path.name for path in tmp_path.iterdir()] == ["a.md"]


def test_front_matter_of_aliases_within_aliases_is_as_small_as_it_is_written(
    write: Write,
) -> None:
    laughs = "a0: &a0 [ha]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
    )
    found = article(write("a.md", f"---\ntitle: T\n{laughs}---\nText."))
    assert (found.title, found.text) == ("T", "Text.")
    last = f"{laughs}title: T\nauthors: *a39\n"
    assert "its authors must be text" in reason(write("b.md", f"---\n{last}---\nText."))
    named = f"{laughs}title: T\n? *a39\n: x\n? *a39\n: x\n"
    assert "unhashable key" in reason(write("d.md", f"---\n{named}---\nText."))
    assert article(write("c.md", "---\ntitle: T\nx: &x [*x]\n---\nText.")).text == "Text."


def test_front_matter_without_end(write: Write) -> None:
    wanted = "its front matter is not YAML: no line --- ends it in the first 65,536 characters"
    assert reason(write("a.md", "---\ntitle: T\n\nText.")) == wanted
    assert reason(write("b.md", "---\n" + "a: b\n" * 20_000 + "---\nText.")) == wanted


@pytest.mark.parametrize(
    ("front", "wanted"),
    [
        ("title: 1984", "its title must be text, not a number"),
        ("title: T\npublished_at: 2025-13-45", "its published_at '2025-13-45' is not an ISO date"),
        ("title: T\npublished_at: 2023-02-30", "its published_at '2023-02-30' is not an ISO date"),
        ("title: T\ndate: soon", "its date 'soon' is not an ISO date such as 2025-11-23"),
        ("title: T\nauthor: {name: A}", "its author must be text, not an object"),
    ],
)
def test_wrong_values_in_front_matter(write: Write, front: str, wanted: str) -> None:
    assert reason(write("a.md", f"---\n{front}\n---\nText.")).startswith(wanted)


def test_files_about_a_folder_are_read_only_when_they_are_named(tmp_path: Path) -> None:
    for name in ("README.md", "SOURCES.md", "license.txt", "sources-of-the-nile.md"):
        (tmp_path / name).write_text("A title\n\nA text.", encoding="utf-8")
    found = [each for each in read_paths([tmp_path]) if isinstance(each, Article)]
    assert [Path(each.origin).name for each in found] == ["sources-of-the-nile.md"]
    (named,) = read_paths([tmp_path / "SOURCES.md"])
    assert isinstance(named, Article)


def test_numbers_and_times_in_front_matter(write: Write) -> None:
    found = article(write("a.md", "---\nid: 12\ntitle: T\ndate: 2025-11-23T08:30:00+01:00\n---\n"))
    assert (found.id, found.published_at) == ("12", "2025-11-23T08:30:00+01:00")


# Plain text


@pytest.mark.parametrize(
    "data",
    [
        "Título 👍\n\nשלום, العالم. café".encode(),
        b"\xef\xbb\xbf" + "Título 👍\r\n\r\nשלום, العالم. cafe\u0301 ".encode(),
        "Título 👍\n\nשלום, العالم. café".encode("utf-16"),
        b"\xfe\xff" + "Título 👍\n\nשלום, العالم. café".encode("utf-16-be"),
    ],
)
def test_plain_text_in_its_encodings(write: Write, data: bytes) -> None:
    found = article(write("2025-11-23 a.txt", data))
    assert (found.title, found.text) == ("Título 👍", "שלום, العالم. café")
    assert found.published_at == "2025-11-23"


@pytest.mark.parametrize("suffix", ["txt", "md", "json", "jsonl", "html"])
@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", "\ufeff \n".encode("utf-16")])
def test_an_empty_file(write: Write, suffix: str, data: bytes) -> None:
    found = reason(write(f"a.{suffix}", data))
    assert found == ("no article text was found in the page" if suffix == "html" else "is empty")


@pytest.mark.parametrize("suffix", ["txt", "md", "json", "jsonl"])
def test_a_binary_file(write: Write, suffix: str) -> None:
    data = b"%PDF-1.7\n\x00\x01\x02\xff\xfe\n" * 50
    assert reason(write(f"a.{suffix}", data)) == "looks like a binary file"


def test_latin_1_is_named_with_the_byte_and_the_way_out(write: Write) -> None:
    assert reason(write("a.txt", "Le café est fermé".encode("latin-1"))) == (
        "is not UTF-8 (byte 0xe9 at 6); convert it first, for example: "
        "iconv -f WINDOWS-1252 -t UTF-8"
    )


def test_a_text_over_the_limit_and_a_file_far_over_it(write: Write) -> None:
    assert article(write("a.txt", "Title\n" + "x" * 100), limit=100).text == "x" * 100
    assert reason(write("b.txt", "Title\n" + "x" * 101), limit=100) == (
        "its text is 101 bytes, over the limit of 100 bytes (RAG_MAX_TEXT_BYTES)"
    )
    assert reason(write("c.txt", "x" * 401), limit=100) == (
        "is 401 bytes, over the limit of 400 bytes (4 times RAG_MAX_TEXT_BYTES)"
    )


def test_a_file_far_over_the_limit_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "sparse.txt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    read_bytes: list[int] = []
    (found,) = read_paths([path], on_bytes=read_bytes.append)
    assert isinstance(found, Unreadable)
    assert "over the limit of 40.0 MB" in found.reason
    assert read_bytes == [1 << 40]


# JSON


def test_front_matter_without_a_title_takes_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("---\nsource: X\n---\n\n# The headline\n\nThe story.\n", encoding="utf-8")
    (found,) = read_paths([file])
    assert isinstance(found, Article)
    assert (found.title, found.text, found.source) == ("The headline", "The story.", "X")


def test_json_lines(write: Write) -> None:
    lines = [
        '{"_id": "d1", "title": "One", "text": "First.", "metadata": {"url": "https://e.org"}}',
        "",
        '{"_id": 2, "title": "", "text": "Second \\ud83d\\ude00 \\ud800.", "x": NaN}',
        '{"title": "Three"}\r',
        '  {"text": "Last, without a line end"}',
    ]
    path = write("a.jsonl", "\ufeff" + "\n".join(lines))
    first, second, third, last = read_paths([path])
    assert isinstance(first, Article)
    assert (first.id, first.url) == ("d1", "https://e.org")
    assert isinstance(second, Article)
    assert (second.id, second.text) == ("2", "Second 😀 \ufffd.")
    assert isinstance(third, Article)
    assert (third.id, third.identified_by) == (digest(f"{path}:4"), IdentifiedBy.PATH)
    assert isinstance(last, Article)
    assert (last.id, last.text) == (digest(f"{path}:5"), "Last, without a line end")


def test_a_bad_line_does_not_stop_the_rest(write: Write) -> None:
    lines = [
        b'{"title": "One"}',
        b'{"title": "cut',
        b"[1, 2]",
        b'"text"',
        b'{"title": NaN}',
        b'{"title": "T", "date": "03/04/2025"}',
        b'{"id": "x"}',
        '{"title": "café"}'.encode("latin-1"),
        b'{"title": "a\x00b"}',
        b"[" * 100_000,
        b'{"id": 1' + b"0" * 5_000 + b', "title": "T"}',
        b'{"title": "Two"}',
    ]
    found = outcomes(write("a.ndjson", b"\n".join(lines)))
    assert [item for item, _ in found] == [
        "article",
        *(f":{number}" for number in range(2, 12)),
        "article",
    ]
    reasons = [words for _, words in found]
    assert reasons[1].startswith("is not JSON: Invalid control character at")
    assert reasons[2] == reasons[3] == "is not a JSON object"
    assert reasons[4] == "its title must be text, not a number"
    assert reasons[5].startswith("its date '03/04/2025' is not an ISO date")
    assert reasons[6] == "has neither a title nor a text"
    assert reasons[7].startswith("is not UTF-8 (byte 0xe9 at ")
    assert reasons[8] == "looks like a binary file"
    assert reasons[9] == "is not JSON that can be read: nested too deeply"
    assert reasons[10].startswith("is not JSON: Exceeds the limit")


def test_a_line_over_the_bound_is_passed_over(write: Write) -> None:
    long_line = json.dumps({"title": "x" * 3_000_000})
    content = f'{{"title": "One"}}\n{long_line}\n{{"title": "Two"}}\n{long_line}'
    wanted = "the line is longer than 1.1 MB"
    assert outcomes(write("a.jsonl", content), limit=1000) == [
        ("article", "One"),
        (":2", wanted),
        ("article", "Two"),
        (":4", wanted),
    ]
    assert outcomes(write("a.jsonl.gz", gzip.compress(content.encode())), limit=1000) == [
        ("article", "One"),
        (":2", f"{wanted}; the rest of the file is not read"),
    ]


@pytest.mark.parametrize("margin", [-1, 0, 1, 2])
def test_a_line_at_the_bound_does_not_swallow_the_next(
    write: Write, monkeypatch: pytest.MonkeyPatch, margin: int
) -> None:
    monkeypatch.setattr(read, "UNPACKED_MARGIN_BYTES", 0)
    line = json.dumps({"title": "One"}).ljust(400 + margin)
    found = outcomes(write("a.jsonl", f'{line}\n{{"title": "Two"}}\n'), limit=100)
    assert found[1:] == [("article", "Two")]
    assert found[0][0] == ("article" if margin <= 0 else ":1")


def test_json_lines_are_streamed(write: Write) -> None:
    path = write("a.jsonl", b'{"title": "T"}\n' * 30_000)
    seen: list[int] = []
    reading = read_paths([path], on_bytes=seen.append)
    next(reading)
    assert sum(seen) < path.stat().st_size / 10
    assert sum(1 for _ in reading) == 29_999
    assert sum(seen) == path.stat().st_size


def test_json_lines_in_utf_16(write: Write) -> None:
    content = '{"title": "Üß 😀"}\r\n\n{"title": "Two"'
    found = outcomes(write("a.jsonl", content.encode("utf-16")))
    assert found[0] == ("article", "Üß 😀")
    assert found[1][0] == ":3"
    torn = outcomes(write("b.jsonl", content.encode("utf-16")[:-1]))
    assert [item for item, _ in torn] == ["article", ""]
    assert torn[1][1].startswith("is not UTF-16 (byte 0x22 at ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_are_counted_through_blank_ones(write: Write, encoding: str) -> None:
    blank = "\n \r\n\t\n" * 5_000 + " " * 20_000 + "\n  "
    content = f'{{"title": "Ü"}}\n{blank}{{"title": 1}}\n\n{blank}{{"title": "Two"}}\n{blank}'
    assert outcomes(write("a.jsonl", content.encode(encoding))) == [
        ("article", "Ü"),
        (":15003", "its title must be text, not a number"),
        ("article", "Two"),
    ]


def test_json_of_one_and_of_many(write: Write) -> None:
    path = write("one.json", '{"title": "One",\n "text": "First."}')
    found = article(path)
    assert (found.id, found.text) == (digest(str(path)), "First.")
    path = write("many.json", '[{"title": "One"}, 5, {"title": 1}, {"title": "Two"}]')
    assert outcomes(path) == [
        ("article", "One"),
        (":2", "is not a JSON object"),
        (":3", "its title must be text, not a number"),
        ("article", "Two"),
    ]
    (*_, last) = read_paths([path])
    assert isinstance(last, Article)
    assert last.id == digest(f"{path}:4")


def test_json_that_is_none(write: Write) -> None:
    assert reason(write("a.json", "{'title': 1}")).startswith("is not JSON: Expecting property")
    assert "line 2 column 1" in reason(write("b.json", '{"title": "One"}\n{"title": "Two"}'))
    assert reason(write("c.json", "[" * 100_000)).endswith("nested too deeply")
    assert reason(write("d.json", "[]")) == "is empty"
    assert reason(write("e.json", "5")) == "is not a JSON object"


# Gzip


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.json", "a.jsonl", "A.TXT"])
def test_gzip_of_each_format(write: Write, name: str) -> None:
    contents = {"json": '{"title": "T", "text": "One."}', "md": "---\ntitle: T\n---\nOne."}
    content = contents.get(name[2:6].rstrip("l"), "T\n\nOne.").encode()
    plain, packed = write(name, content), write(f"{name}.gz", gzip.compress(content))
    assert article(packed).text == article(plain).text == "One."


def test_a_bomb_is_not_unpacked(write: Write) -> None:
    bomb = gzip.compress(b"a" * 30_000_000, 1)
    assert len(bomb) < 400_000
    wanted = "unpacks to more than 1.4 MB"
    for suffix in ("txt", "md", "json", "html"):
        assert reason(write(f"a.{suffix}.gz", bomb), limit=100_000) == wanted
    assert "longer than 1.4 MB" in outcomes(write("a.jsonl.gz", bomb), limit=100_000)[0][1]


# What is no article

STOPS = "too much of it is blank or no article; the rest of the file is not read"


def test_a_packed_file_of_blank_lines_is_not_read_to_its_end(write: Write) -> None:
    # 16 GB of them, packed to a thousandth; one by one they take most of an hour.
    blank = gzip.compress(b"\n" * 160_000_000, 9) * 100
    first, last = gzip.compress(b'{"title": "One"}\n'), gzip.compress(b'{"title": "Two"}\n')
    found = outcomes(write("a.jsonl.gz", first + blank + last))
    assert found == [("article", "One"), ("", STOPS)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json"])
def test_a_file_of_records_that_say_nothing_is_not_read_to_its_end(
    write: Write, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "WASTE_BYTES", 1024 * 1024)
    lines = b"{}\n" * 500_000
    content = b"[%s{}]" % lines.replace(b"\n", b",") if name == "a.json" else lines
    found = list(read_paths([write(name, gzip.compress(content) if "gz" in name else content)]))
    assert len(found) == read.MAX_NAMED + 2
    first, *_, stopped, more = (each for each in found if isinstance(each, Unreadable))
    assert first.reason == "has neither a title nor a text"
    assert stopped.reason == STOPS
    looked_at = read.MAX_NAMED + more.records
    assert more.reason == f"{more.records:,} more of its records could not be taken"
    assert 1024 <= looked_at <= 1024 + 1 + 32 * len(content) // 1024


def test_many_records_that_are_wrong_stop_nothing(write: Write) -> None:
    wrong = [b'{"title": %d, "text": "%032x"}' % (n, n**9) for n in range(40_000)]
    content = b"\n".join([*wrong, b'{"title": "Last"}'])
    for name, data in (("a.jsonl", content), ("a.jsonl.gz", gzip.compress(content))):
        *named, last, more = read_paths([write(name, data)])
        assert isinstance(last, Article)
        assert isinstance(more, Unreadable)
        assert len(named) + more.records == 40_000


def test_articles_are_read_however_well_they_are_packed(write: Write) -> None:
    body = "The river rose. " * 2_000
    lines = (json.dumps({"id": n, "title": "Flood", "text": body}) for n in range(2_000))
    content = "\n".join(lines).encode()
    packed = gzip.compress(content, 9)
    assert len(content) > 200 * len(packed)
    found = read_paths([write("a.jsonl.gz", packed)])
    assert sum(isinstance(each, Article) for each in found) == 2_000


def test_articles_are_read_though_as_many_records_are_none(write: Write) -> None:
    lines = b"".join(b'{"title": "Flood %d"}\n{"id": %d}\n' % (n, n) for n in range(40_000))
    found = list(read_paths([write("a.jsonl.gz", gzip.compress(lines, 9))]))
    assert sum(isinstance(each, Article) for each in found) == 40_000
    assert found[-1].records == 39_000  # type: ignore[union-attr]


def test_torn_and_false_gzip(write: Write) -> None:
    packed = gzip.compress(b"".join(b'{"title": "%d"}\n' % n for n in range(20_000)))
    assert reason(write("a.txt.gz", b"plain text")).startswith(
        "is not a sound gzip file: Not a gzipped file"
    )
    found = outcomes(write("a.jsonl.gz", packed[:-9]))
    assert found[0] == ("article", "0")
    assert found[-1][0] == ""
    assert found[-1][1].startswith("is not a sound gzip file: ")
    flipped = bytearray(gzip.compress(os.urandom(5000).hex().encode()))
    flipped[2000] ^= 0xFF
    assert reason(write("b.txt.gz", bytes(flipped))).startswith("is not a sound gzip file: ")


# Pages


def web_page(head: str = "", body: str = "") -> str:
    paragraphs = (
        f"<p>{SENTENCE * 3}</p><p>It ended on 3 March 2019 with a <b>vote</b>, 2018-05-05.</p>"
    )
    return (
        f"<!DOCTYPE html><html><head><title>The flood</title>{head}</head><body>"
        f"<nav><a href='/'>Home</a></nav><article><h1>The flood</h1>{body}{paragraphs}</article>"
        "<footer>© 2017 Example</footer></body></html>"
    )


def test_a_page(write: Write) -> None:
    head = (
        '<meta property="og:title" content="The flood">'
        '<meta property="og:site_name" content="Daily Post">'
        '<meta name="author" content="Ann Example; Ben Sample">'
        '<meta property="article:published_time" content="2025-11-20T10:30:00Z">'
        '<link rel="canonical" href="https://example.org/flood">'
    )
    found = article(write("a.html", web_page(head)))
    assert found == Article(
        id=digest("https://example.org/flood"),
        title="The flood",
        text=f"{(SENTENCE * 3).strip()}\n\nIt ended on 3 March 2019 with a vote, 2018-05-05.",
        source="Daily Post",
        author="Ann Example, Ben Sample",
        url="https://example.org/flood",
        published_at="2025-11-20T10:30:00+00:00",
    )
    assert found.identified_by is IdentifiedBy.ADDRESS


def test_a_page_without_marks_is_undated_and_known_by_its_place(write: Write) -> None:
    path = write("a.htm", web_page())
    found = article(path)
    assert (found.published_at, found.url, found.source) == (None, None, None)
    assert found.id == digest(str(path))


def test_a_page_with_a_dateline(write: Write) -> None:
    found = article(write("a.html", web_page(body="<p>KABUL, November 20, 2025</p>")))
    assert found.published_at == "2025-11-20"


def test_a_page_in_its_declared_charset(write: Write) -> None:
    page = web_page('<meta charset="windows-1251">').replace("river towns", "городов")
    assert "городов" in article(write("a.html", page.encode("cp1251"))).text


def test_a_page_that_declares_nothing_is_not_guessed(write: Write) -> None:
    page = web_page().replace("river towns", "villes près de la forêt")
    assert reason(write("a.html", page.encode("cp1252"))).startswith("is not UTF-8 (byte 0xe8 at")


@pytest.mark.parametrize(
    "page",
    [
        "<html><body></body></html>",
        "<html><head><title>T</title></head><body><script>x()</script></body></html>",
        "<" * 1000,
    ],
)
def test_a_page_without_an_article(write: Write, page: str) -> None:
    assert reason(write("a.html", page)) == "no article text was found in the page"


DEEP = 100_000


@pytest.mark.parametrize("tag", ["div", "b", "span", "font", "section", "ul><li", "table><tr><td"])
def test_a_page_nested_without_end_is_refused_whole(write: Write, tag: str) -> None:
    page = f"<html><body><article><p>{SENTENCE}</p>" + f"<{tag}>" * DEEP + SENTENCE
    assert reason(write("a.html", page)) == (
        "cannot be read to its end: Excessive depth in document: 256"
    )


def test_a_page_is_not_cut_where_the_parser_gives_up(write: Write) -> None:
    page = web_page(body=f"<p>{SENTENCE}</p><p>{'word ' * 2_500_000}</p><p>The end.</p>")
    assert reason(write("a.html", page), limit=20_000_000).startswith(
        "cannot be read to its end: Resource limit exceeded"
    )


def test_a_page_of_too_many_parts_is_refused_before_it_takes_minutes(write: Write) -> None:
    attributes = " ".join(f"a{number}='>'" for number in range(1_000_000))
    assert reason(write("a.html", web_page(body=f"<p {attributes}>x</p>"))) == (
        "a tag has more than 1,000 attributes"
    )
    assert reason(write("b.html", web_page(body="<br>" * 100_001))).endswith(
        " elements, over the limit of 100,000"
    )


def test_a_tag_of_many_attributes_is_read(write: Write) -> None:
    attributes = " ".join(f'a{number}="<p x=1>"' for number in range(read.MAX_TAG_ATTRIBUTES))
    assert (
        SENTENCE.strip() in article(write("a.html", web_page(body=f"<p {attributes}>x</p>"))).text
    )


def test_a_page_cannot_bring_in_other_files_or_grow(write: Write, tmp_path: Path) -> None:
    secret = write("secret.txt", "the secret")
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    doctype = f'<!DOCTYPE html [<!ENTITY x SYSTEM "file://{secret}"><!ENTITY a0 "ha">{entities}]>'
    page = web_page(body="<p>&x; and &a11; and no more of it.</p>")
    found = article(write("a.html", page.replace("<!DOCTYPE html>", doctype)))
    assert SENTENCE.strip() in found.text
    assert "secret" not in found.text.replace(str(secret), "")
    assert len(found.text) < 2_000


LIMITED = """
import resource, sys
from rag.read import read_paths
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + int(sys.argv[2]),) * 2)
for found in read_paths([sys.argv[1]]):
    print(type(found).__name__, getattr(found, "reason", ""))
"""


def test_small_files_that_grow_to_gigabytes_are_refused_in_little_memory(write: Write) -> None:
    packed = gzip.compress(bytes(50_000_000).replace(b"\0", b"a"), 1) * 60  # 3 GB unpacked
    deep = gzip.compress(b"[" * 30_000_000, 1)
    for suffix in ("txt", "md", "json", "jsonl", "html"):
        write(f"in/bomb.{suffix}.gz", packed)
    path = write("in/deep.json.gz", deep)
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 100_000_000
    command = [sys.executable, "-c", LIMITED, str(path.parent), str(400_000_000)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert sum("unpacks to more than 41.0 MB" in line for line in lines) == 4
    assert sum("longer than 41.0 MB; the rest of the file is not read" in line for line in lines)
    assert "Unreadable is not JSON that can be read: nested too deeply" in lines


def test_a_page_that_is_binary(write: Write) -> None:
    assert reason(write("a.html", b"<html>\x00\xff")) == "looks like a binary file"


# Finding files


def test_a_folder_is_walked_by_name(write: Write, tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/deep.txt", "c.md", "B.txt", "a.txt"):
        write(name, f"Title {name}\n\nText.")
    for name in (".hidden.txt", ".git/x.txt", "a/.x/y.txt", "d.pdf", "README", "e.txt~", "f.gz"):
        write(name, "Passed over\n\nText.")
    (tmp_path / "empty").mkdir()
    titles = [found.title for found in read_paths([tmp_path]) if isinstance(found, Article)]
    assert titles == [
        f"Title {name}" for name in ("B.txt", "a/b/deep.txt", "a/z.txt", "a.txt", "b.txt", "c.md")
    ]
    assert len(list(read_paths([tmp_path]))) == len(titles)


def test_items_are_named_as_the_caller_wrote_them(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in/a.txt", "")
    write("in/b.jsonl", "5\n")
    monkeypatch.chdir(tmp_path)
    items = [
        found.item
        for found in read_paths(["in", Path("in/a.txt")])
        if isinstance(found, Unreadable)
    ]
    assert items == ["in/a.txt", "in/b.jsonl:1", "in/a.txt"]


def test_the_id_of_a_place_does_not_depend_on_how_it_is_written(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("in/a.txt", "Title\n\nText.")
    monkeypatch.chdir(tmp_path / "in")
    assert article(Path("../in/./a.txt")).id == article(path).id == digest(str(path))


def test_links(write: Write, tmp_path: Path) -> None:
    write("far/a.txt", "Far\n\nText.")
    write("in/b.txt", "Near\n\nText.")
    (tmp_path / "in/folder").symlink_to(tmp_path / "far")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/named.txt").symlink_to(tmp_path / "far")
    (tmp_path / "in/self").symlink_to(tmp_path / "in/self")
    (tmp_path / "in/c.txt").symlink_to("b.txt")
    (tmp_path / "in/f.txt").symlink_to(tmp_path / "far/a.txt")
    (tmp_path / "in/g.txt").symlink_to("../inner.txt")
    (tmp_path / "in/h.txt").symlink_to(tmp_path / "in/folder/a.txt")
    write("inner.txt", "Beside\n\nText.")
    (tmp_path / "in/d.txt").symlink_to(tmp_path / "gone.txt")
    (tmp_path / "in/e.txt").symlink_to(tmp_path / "in/e.txt")
    assert outcomes(tmp_path / "in") == [
        ("article", "Near"),
        ("article", "Near"),
        ("/d.txt", read.LEADS_OUT),
        ("/e.txt", "Too many levels of symbolic links"),
        ("/f.txt", read.LEADS_OUT),
        ("/g.txt", read.LEADS_OUT),
        ("/h.txt", read.LEADS_OUT),
    ]
    assert outcomes(tmp_path / "in/folder") == [("article", "Far")]
    assert outcomes(tmp_path / "in/f.txt") == [("article", "Far")]
    assert size_of([tmp_path / "in"]) == 2 * size_of([tmp_path / "in/b.txt"])


def test_a_folder_that_is_reached_by_a_link_or_relatively_is_itself(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in/b.txt", "Near\n\nText.")
    (tmp_path / "in/c.txt").symlink_to(tmp_path / "in/b.txt")
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path / "in")
    for folder in (".", "../link", "/" + str(tmp_path / "link/../in")):
        assert [type(found) for found in read_paths([folder])] == [Article, Article]


def test_what_is_not_there_or_has_no_reader(write: Write, tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.txt") == "no such file or folder"
    assert reason(tmp_path / "gone") == "no such file or folder"
    assert reason("") == "no such file or folder"
    assert reason(write("a.pdf", "x")).startswith("no reader for '.pdf'; known: .md, .markdown, ")
    assert reason(write("a.pdf.gz", "x")).startswith("no reader for '.pdf'; known: ")
    assert reason(write("README", "x")).startswith("no reader for a name without a suffix; known")
    os.mkfifo(tmp_path / "pipe.txt")
    assert reason(tmp_path / "pipe.txt") == "is not a regular file"
    assert reason("a\0b.txt") == "embedded null byte"


@pytest.mark.parametrize("address", ["https://example.org/a.html", "HTTP://example.org"])
def test_addresses_are_not_read(address: str) -> None:
    assert reason(address) == "addresses are not read yet; save the page and add the file"
    (found,) = read_paths([Path(address)])
    assert isinstance(found, Unreadable)
    assert found.reason.startswith("addresses are not read yet")


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:
        file.write(b"")
    (found,) = read_paths([tmp_path])
    assert found == Unreadable(f"{tmp_path}/caf?.txt", "is empty")
    with open(path, "wb") as file:
        file.write(b"Title")
    (readable,) = read_paths([os.fsdecode(path)])
    assert isinstance(readable, Article)
    assert readable.id == hashlib.sha256(path).hexdigest()[:32]
    (none,) = read_paths(["\ud800.txt"])
    assert isinstance(none, Unreadable)
    assert none.item == "?.txt"


def test_a_folder_and_a_file_that_may_not_be_read(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("closed/a.txt", "Title")
    denied = write("denied.txt", "Title")
    write("open.txt", "Open")
    scandir, metered = os.scandir, read._Metered

    def scan(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def opened(path: str, on_bytes: Callable[[int], None]) -> object:
        if path == str(denied):
            raise PermissionError(13, "Permission denied", path)
        return metered(path, on_bytes)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(read, "_Metered", opened)
    assert outcomes(tmp_path) == [
        ("/closed", "Permission denied"),
        ("/denied.txt", "Permission denied"),
        ("article", "Open"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_systems_own_refusal(write: Write, tmp_path: Path) -> None:
    path = write("a.txt", "Title")
    path.chmod(0)
    assert reason(path) == "Permission denied"


def test_a_parser_that_breaks_is_the_fault_of_one_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trafilatura

    def breaks(*_: object, **__: object) -> object:
        raise KeyError("inner\nworkings")

    monkeypatch.setattr(trafilatura, "bare_extraction", breaks)
    write("a.html", web_page())
    write("b.txt", "Title\n\nText.")
    assert outcomes(tmp_path) == [
        ("/a.html", "cannot be parsed (KeyError: 'inner\\nworkings')"),
        ("article", "Title"),
    ]


def test_progress_adds_up_to_the_size(write: Write, tmp_path: Path) -> None:
    write("a.txt", "Title\n\nText.")
    write("b.jsonl.gz", gzip.compress(b'{"title": "T"}\n' * 10_000))
    write("c.txt.gz", b"no gzip at all")
    write("d.html", web_page())
    write("e.jsonl", b"\x00" * 100_000)
    write("f.pdf", "x" * 1000)
    write("g.txt.gz", gzip.compress(b"a" * 20_000_000))
    seen: list[int] = []
    paths: list[str | Path] = [tmp_path, tmp_path / "gone", "https://example.org"]
    list(read_paths(paths, max_text_bytes=100_000, on_bytes=seen.append))
    wanted = sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".pdf")
    assert sum(seen) == size_of(paths) == wanted
    assert min(seen) >= 0


@pytest.mark.parametrize("suffix", sorted(read.READERS))
@given(data=st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_bytes_give_articles_or_reasons(suffix: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    found = list(read_paths([path]))
    assert found
    for each in found:
        if isinstance(each, Article):
            assert each.title or each.text
            assert normalise_text(each.text) == each.text
        else:
            assert each.item.startswith(str(path))
            assert "cannot be parsed" not in each.reason


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0")), front=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_body_comes_through_as_it_is(text: str, front: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(f"---\ntitle: T\n---\n{text}".encode())
    assert article(path).text == normalise_text(text)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"title": "T", "text": text}, ensure_ascii=front), "utf-8")
    assert article(path).text == normalise_text(text)
