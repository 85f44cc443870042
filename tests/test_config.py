"""Settings: where they come from, and what a bad one says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rag.config import Settings, load_settings
from rag.errors import InvalidRequest, exit_code
from rag.models import DEFAULT_MODEL
from rag.tokens import DEFAULT_ENCODING


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAG_")]:
        monkeypatch.delenv(name)


def test_the_defaults() -> None:
    settings = load_settings()
    assert (settings.index, settings.model) == (Path("index"), DEFAULT_MODEL)
    assert (settings.host, settings.port, settings.allowed_hosts) == ("127.0.0.1", 8000, ())
    assert (settings.max_text_bytes, settings.max_body_bytes) == (10 * 2**20, 32 * 2**20)
    assert (settings.max_question_characters, settings.max_articles_per_call) == (8000, 1000)
    assert (settings.lock_timeout_s, settings.passage_tokens) == (30, None)
    assert (settings.load_timeout_s, settings.shutdown_timeout_s) == (60, 10)
    assert (settings.allow_anyone, settings.max_wrong_keys_per_minute) == (False, 10)
    assert settings.token_encoding == DEFAULT_ENCODING
    assert 0 <= settings.lexical_weight <= 1


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_sets_and_a_given_value_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_PORT", "9000")
    monkeypatch.setenv("RAG_INDEX", "elsewhere")
    monkeypatch.setenv("RAG_PASSAGE_TOKENS", "80")
    settings = load_settings(index=Path("given"), port=None)
    assert (settings.index, settings.port, settings.passage_tokens) == (Path("given"), 9000, 80)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_PORT", "")
    assert load_settings().port == 8000


def test_another_programs_variable_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_STORE", "somewhere")
    monkeypatch.setenv("PORT", "1")
    assert load_settings().port == 8000


def test_a_variable_that_is_no_setting_is_told_of(
    rag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_MAX_BODYBYTES", "1")
    monkeypatch.setenv("RAG_ZZZ", "1")
    monkeypatch.setenv("rag_port", "8001")
    done = rag("status", "--json")
    assert done.code == 0
    assert done.json
    assert done.err.splitlines() == [
        "RAG_MAX_BODYBYTES is no setting; RAG_MAX_BODY_BYTES is one",
        "RAG_ZZZ is no setting",
    ]


def test_no_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RAG_PORT=1234\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().port == 8000


def test_allowed_hosts_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ALLOWED_HOSTS", " archive.example., 10.0.0.7 ,::1,[::2],.")
    assert load_settings().allowed_hosts == ("archive.example", "10.0.0.7", "::1", "[::2]")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RAG_PORT", "80a", "80a"),
        ("RAG_PORT", "70000", "65535"),
        ("RAG_PORT", "-1", "0"),
        ("RAG_MAX_TEXT_BYTES", "0", "greater"),
        ("RAG_MAX_BODY_BYTES", "ten", "integer"),
        ("RAG_MAX_QUESTION_CHARACTERS", "0", "greater"),
        ("RAG_MAX_ARTICLES_PER_CALL", "1.5", "integer"),
        ("RAG_MAX_REQUESTS_AT_ONCE", "0", "greater"),
        ("RAG_LOCK_TIMEOUT_S", "nan", "finite"),
        ("RAG_LOCK_TIMEOUT_S", "-1", "greater"),
        ("RAG_LOAD_TIMEOUT_S", "inf", "finite"),
        ("RAG_SHUTDOWN_TIMEOUT_S", "-1", "greater"),
        ("RAG_KEEP_ALIVE_S", "never", "integer"),
        ("RAG_PASSAGE_TOKENS", "0", "greater"),
        ("RAG_LEXICAL_WEIGHT", "1.01", "less"),
        ("RAG_TOKEN_ENCODING", "nonsense", DEFAULT_ENCODING),
        ("RAG_ALLOWED_HOSTS", "https://archive.example", "host name"),
        ("RAG_ALLOWED_HOSTS", "archive.example:80", "without a port"),
        ("RAG_ALLOWED_HOSTS", "*", "host name"),
    ],
)
def test_a_bad_value_names_its_variable(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidRequest) as caught:
        load_settings()
    assert caught.value.field == variable
    assert said in caught.value.problem
    assert exit_code(caught.value) == 2


def test_all_bad_values_are_in_the_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_PORT", "x" * 500)
    monkeypatch.setenv("RAG_LEXICAL_WEIGHT", "2")
    with pytest.raises(InvalidRequest) as caught:
        load_settings()
    assert "RAG_PORT" in str(caught.value)
    assert "RAG_LEXICAL_WEIGHT" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_setting_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="RAG_PROT"):
        load_settings(prot=1)
