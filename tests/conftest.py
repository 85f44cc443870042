"""What all tests share: the real model, loaded once, a command line, no deadline for a property."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from rag import cli, encode
from rag.encode import SentenceTransformerEncoder, load_encoder
from tests.called import STORY, Called, WarmFake

settings.register_profile("rag", deadline=None)
settings.load_profile("rag")


@pytest.fixture(scope="session")
def real_encoder() -> SentenceTransformerEncoder:
    """The default model, for tests marked `model`."""
    encoder = load_encoder()
    encoder.warm()
    return encoder


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A file to be added."""
    file = tmp_path / "story.md"
    file.write_text(STORY, encoding="utf-8")
    return file


@pytest.fixture
def rag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the command line with a fake model, in a folder of its own."""
    monkeypatch.setattr(encode, "load_encoder", lambda _: WarmFake())
    monkeypatch.setenv("RAG_INDEX", str(tmp_path / "index"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Called:
        monkeypatch.setattr("sys.argv", ["rag", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        captured = capsys.readouterr()
        code = exit_info.value.code
        assert isinstance(code, int)
        return Called(code, captured.out, captured.err)

    return call
