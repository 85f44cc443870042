"""What all tests share: the real model, loaded once, a command line, no deadline for a property."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import settings

from rag import cli, encode
from rag.encode import LazyEncoder, load_encoder
from rag.models import locate_model
from tests.called import STORY, Called, WarmFake

if TYPE_CHECKING:
    from rag.reference import SentenceTransformerEncoder

# The same examples each time, so that a change is judged by what it changes; others by chance with
# pytest --hypothesis-profile=chance.
settings.register_profile("rag", deadline=None, derandomize=True)
settings.register_profile("chance", deadline=None, print_blob=True)
settings.load_profile("rag")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache of these tests, also of the processes that they start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAG_CACHE", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "rag"


@pytest.fixture(scope="session")
def real_encoder() -> LazyEncoder:
    """The default model as it is run, for tests marked `model`."""
    encoder = load_encoder()
    encoder.warm()
    return encoder


@pytest.fixture(scope="session")
def reference() -> SentenceTransformerEncoder:
    """The default model through sentence-transformers."""
    from rag.reference import SentenceTransformerEncoder

    return SentenceTransformerEncoder(locate_model())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt at a connection fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        pytest.fail("a socket was opened")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.call(mount, stderr=subprocess.DEVNULL):
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A file to be added."""
    file = tmp_path / "story.md"
    file.write_text(STORY, encoding="utf-8")
    return file


@pytest.fixture
def rag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the command line with a fake model, in a folder of its own."""
    monkeypatch.setattr(encode, "load_encoder", lambda *_, **__: WarmFake())
    monkeypatch.setenv("RAG_INDEX", str(tmp_path / "index"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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
