"""The commands as a caller sees them: what they print, on which stream, and their exit code."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rag import vectors
from rag.encode import Places, user_cache
from rag.models import locate_model
from tests.called import STORY
from tests.fakes import fake_export


def test_add_then_ask_gives_a_quote_that_stands_in_the_article(rag: Any, story: Path) -> None:
    added = rag("add", str(story), "--json")
    assert added.code == 0
    assert {k: added.json[k] for k in ("added", "updated", "unchanged", "failed")} == {
        "added": 1,
        "updated": 0,
        "unchanged": 0,
        "failed": [],
    }
    answer = rag("ask", "who warned of spillover and when", "--json")
    assert answer.code == 0
    first = answer.json["citations"][0]
    text = STORY.split("---\n")[2].strip()
    assert text[first["start"] : first["end"]] == first["quote"]
    assert "Ada Berg" in first["quote"]
    assert first["article"]["published_at"] == "2025-11-23"


def test_add_again_changes_nothing(rag: Any, story: Path) -> None:
    rag("add", str(story))
    again = rag("add", str(story), "--json").json
    assert (again["added"], again["updated"], again["unchanged"]) == (0, 0, 1)
    assert again["generation"] == 1


def test_add_names_what_it_leaves_out_and_says_so_with_its_exit_code(
    rag: Any, story: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    called = rag("add", str(story), str(tmp_path / "empty.txt"))
    assert called.code == 1
    assert "empty.txt" in called.err
    assert "1 added" in called.out
    assert rag("status", "--json").json["articles"] == 1


def test_ask_for_people_prints_quote_source_date_and_link(rag: Any, story: Path) -> None:
    rag("add", str(story))
    called = rag("ask", "who warned of spillover")
    assert called.code == 0
    assert "Ada Berg warned on November 20, 2025" in called.out
    assert "Briefs" in called.out
    assert "2025-11-23" in called.out
    assert "https://example.org/story#" in called.out


def test_ask_of_an_empty_archive_exits_with_zero(rag: Any, tmp_path: Path) -> None:
    called = rag("ask", "anything there?", "--json")
    assert called.code == 0
    assert called.json["answered"] is False
    assert called.json["citations"] == []
    assert "rag add" in rag("ask", "anything there?").out
    assert not (tmp_path / "index").exists()


def test_search_lists_passages_without_quotes(rag: Any, story: Path) -> None:
    rag("add", str(story))
    hit = rag("search", "spill", "--json").json["hits"][0]
    assert "quote" not in hit
    assert "spill over" in hit["passage"]["text"]
    assert "spill over" in rag("search", "spill").out


def test_filters_of_the_command_line_are_exact(rag: Any, story: Path) -> None:
    rag("add", str(story))
    assert rag("ask", "who warned", "--to", "2025-11-22", "--json").json["citations"] == []
    assert rag("ask", "who warned", "--to", "2025-11-23", "--json").json["citations"]
    assert rag("ask", "who warned", "--source", "Others", "--json").json["citations"] == []
    assert rag("ask", "who warned", "--source", "Briefs", "--json").json["citations"]


def test_undated_articles_left_out_are_told_of(rag: Any, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("A note\n\nThe bridge was closed.", encoding="utf-8")
    rag("add", str(tmp_path / "note.txt"))
    called = rag("ask", "bridge", "--from", "2020-01-01")
    assert "1 undated" in called.err


@pytest.mark.parametrize("command", ["ask", "search"])
def test_how_the_question_was_read_is_told(command: str, rag: Any, story: Path) -> None:
    rag("add", str(story))
    question = "who warned in the past three days, according to Briefs?"
    called = rag(command, question, "--asked-at", "2025-11-24")
    assert called.err == (
        "read as: published 2025-11-22 to 2025-11-24; source Briefs (preferred, not required)\n"
    )
    assert "read as" not in called.out
    read = rag(command, question, "--asked-at", "2025-11-24", "--json").json["interpreted"]
    assert read["asked_at"] == "2025-11-24"
    assert [each["text"] for each in read["periods"]] == ["in the past three days"]
    assert [each["source"] for each in read["sources"]] == ["Briefs"]
    open_start = rag(command, "who warned before the end of 2025")
    assert open_start.err.startswith("read as: published up to 2025-12-31 (")
    either = rag(command, "who warned on 03/04/2025 or in spring 2024?")
    days = "2025-03-04 or 2025-04-03 or 2024-03-01 to 2024-05-31"
    assert either.err == f"read as: published {days} (preferred, not required)\n"
    assert rag(command, "who warned and when").err == ""
    recent = rag(command, "who warned and when", "--asked-at", "2025-11-24")
    assert recent.err.startswith("read as: published shortly before 2025-11-24 (preferred")


def test_token_budget_is_reported_with_its_encoding(rag: Any, story: Path) -> None:
    rag("add", str(story))
    budget = rag("ask", "who warned", "--token-budget", "1000", "--json").json["budget"]
    assert budget["limit"] == 1000
    assert 0 < budget["used"] <= 1000
    assert budget["encoding"] == "rag_news_v1"
    small = rag("ask", "who warned", "--token-budget", "1", "--json").json
    assert (small["answered"], small["citations"], small["budget"]["used"]) == (True, [], 0)
    assert "fits" in rag("search", "who warned", "--token-budget", "1").out


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("ask", ""), "question"),
        (("ask", "x" * 8001), "question"),
        (("ask", "who", "--top-k", "0"), "top_k"),
        (("ask", "who", "--top-k", "1000000"), "top_k"),
        (("ask", "who", "--from", "yesterday"), "published_from"),
        (("search", "who", "--to", "2025-13-01"), "published_to"),
        (("ask", "who", "--token-budget", "0"), "token_budget"),
        (("ask", "who", "--asked-at", "today"), "asked_at"),
        (("search", "who", "--asked-at", ""), "asked_at"),
    ],
)
def test_a_wrong_value_exits_with_two_and_is_named(
    rag: Any, arguments: tuple[str, ...], field: str
) -> None:
    called = rag(*arguments)
    assert called.code == 2
    assert field in called.err
    assert called.out == ""
    as_json = rag(*arguments, "--json")
    assert as_json.code == 2
    assert set(as_json.json["error"]) == {"type", "title", "detail"}
    assert field in as_json.json["error"]["detail"]
    assert as_json.err == ""


@pytest.mark.parametrize(
    "arguments", [("ask",), ("nonsense",), ("ask", "who", "--top-k", "many"), ("add",)]
)
def test_a_wrong_call_exits_with_two(rag: Any, arguments: tuple[str, ...]) -> None:
    assert rag(*arguments).code == 2
    assert rag(*arguments, "--json").json["error"]["type"] == "InvalidCall"


def test_bytes_that_are_no_text_are_refused(rag: Any, story: Path) -> None:
    rag("add", str(story))
    for arguments in (
        ("ask", "who \udce9"),
        ("ask", "who", "--source", "\udce9"),
        ("search", "\udce9"),
        ("remove", "\udce9"),
    ):
        called = rag(*arguments)
        assert called.code == 2
        assert "UTF-8" in called.err


def test_a_bad_setting_is_named(rag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_PORT", "many")
    called = rag("status")
    assert called.code == 2
    assert "RAG_PORT" in called.err


def test_status_counts(rag: Any, story: Path) -> None:
    assert rag("status", "--json").json["articles"] == 0
    rag("add", str(story))
    status = rag("status", "--json").json
    assert status["articles"] == 1
    assert status["passages"] == 1
    assert status["generation"] == 1
    assert status["model"] == "fake"
    assert status["size_bytes"]["library"] > 0
    assert (status["recall_at_10"], status["recall_method"]) == (1.0, "exact search")
    assert "articles" in rag("status").out
    assert "1.000 (exact search)" in rag("status").out


def test_status_says_when_recall_is_not_known(
    rag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "EXACT_MOST", 16)
    file = tmp_path / "many.jsonl"
    texts = [{"id": f"a{n}", "text": f"Mayor{n} spoke of the flood."} for n in range(20)]
    file.write_text("\n".join(map(json.dumps, texts)))
    rag("add", str(file))
    assert rag("status", "--json").json["recall_at_10"] is None
    assert "unknown (approximate search, not measured" in rag("status").out
    assert rag("check").code == 0
    assert rag("status", "--json").json["recall_at_10"] == 1.0


def test_status_says_what_runs_the_model(rag: Any, tmp_path: Path) -> None:
    encoder = rag("status", "--json").json["encoder"]
    assert encoder == {"runtime": "onnxruntime", "prepared": False, "reason": None}
    assert "run by           onnxruntime, once the model is prepared" in rag("status").out
    places = Places(None, user_cache())
    files = locate_model()
    fake_export(places.exported(files.fingerprint), files.fingerprint)
    assert rag("status", "--json").json["encoder"]["prepared"] is True
    assert "run by           onnxruntime\n" in rag("status").out


def test_status_says_why_a_model_is_not_run_lean(rag: Any) -> None:
    Places(None, user_cache()).note_failure(locate_model().fingerprint, "no such operator")
    encoder = rag("status", "--json").json["encoder"]
    assert encoder["runtime"] == "sentence-transformers"
    assert encoder["reason"] == "no such operator"
    assert "run by           sentence-transformers: no such operator" in rag("status").out


def test_status_says_that_a_model_is_not_there(rag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_MODEL", "./no-such-model")
    status = rag("status", "--json")
    assert status.code == 0
    assert status.json["encoder"]["runtime"] is None
    assert "was not found" in status.json["encoder"]["reason"]


def test_status_says_what_an_archive_of_before_lacks(rag: Any, story: Path, tmp_path: Path) -> None:
    rag("add", str(story))
    assert "token vectors" not in rag("status").err
    (file,) = tmp_path.rglob("library.db")
    with sqlite3.connect(file) as library:
        library.execute("DELETE FROM manifest WHERE key IN ('projection', 'checksum')")
    library.close()
    assert "Build it anew" in rag("status").err


def test_check_names_a_fault_and_rebuild_mends_a_derived_one(
    rag: Any, story: Path, tmp_path: Path
) -> None:
    rag("add", str(story))
    assert rag("check", "--json").json == {"sound": True, "faults": []}
    base = next((tmp_path / "index").glob("dense.*.faiss"))
    data = bytearray(base.read_bytes())
    data[-5] ^= 1
    base.write_bytes(data)
    broken = rag("check", "--json")
    assert broken.code == 1
    assert broken.json["sound"] is False
    assert broken.json["faults"][0]["part"] == "dense"
    assert rag("check").code == 1
    assert rag("rebuild").code == 0
    assert rag("check").code == 0


@pytest.mark.parametrize("there", ["nothing", "an empty folder"])
def test_a_folder_without_an_archive_is_called_that_and_stays_as_it_is(
    rag: Any, tmp_path: Path, there: str
) -> None:
    index = tmp_path / "index"
    if there == "an empty folder":
        index.mkdir()
    checked = rag("check", "--json")
    assert (checked.code, checked.json) == (0, {"sound": True, "faults": []})
    assert "there is no archive in this folder" in " ".join(checked.err.split())
    rebuilt = rag("rebuild", "--json")
    assert rebuilt.code == 1
    assert "there is no archive in this folder" in rebuilt.json["error"]["detail"]
    assert rag("backup", "b.db").code == rag("remove", "a").code == 1
    assert rag("status", "--json").json["articles"] == 0
    assert rag("ask", "anything there?", "--json").json["answered"] is False
    assert [*tmp_path.rglob("*")] == ([index] if index.exists() else [])
    assert index.exists() == (there != "nothing")


def test_check_names_a_changed_text(rag: Any, story: Path, tmp_path: Path) -> None:
    rag("add", str(story))
    with sqlite3.connect(tmp_path / "index" / "library.db") as connection:
        connection.execute("UPDATE article SET text = replace(text, 'Berg', 'Barg')")
    connection.close()
    called = rag("check", "--json")
    assert called.code == 1
    assert "text" in called.json["faults"][0]["problem"]


def test_remove_takes_an_id_or_an_address(rag: Any, story: Path) -> None:
    rag("add", str(story))
    assert rag("remove", "https://example.org/story").code == 0
    assert rag("status", "--json").json["articles"] == 0
    missing = rag("remove", "https://example.org/story", "--json")
    assert missing.code == 1
    assert missing.json["error"]["type"] == "ArticleNotFound"


def test_version_and_help(rag: Any) -> None:
    assert rag("--version").out.startswith("rag ")
    listed = rag("--help").out
    for command in ("add", "ask", "search", "serve", "eval", "status", "check", "rebuild"):
        assert command in listed
