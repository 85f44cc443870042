"""An exported model's folder: there whole or not at all, and any torn file noticed."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rag import exported
from rag.exported import (
    ABOUT,
    GRAPH,
    QUESTION_WEIGHTS,
    QUESTIONS,
    TOKENIZER,
    WEIGHTS,
    appearing,
    carry,
    describe,
    fault,
    opened,
)
from tests.fakes import EXPORT_SHAPE, fake_export

FILES = (GRAPH, WEIGHTS, TOKENIZER, ABOUT)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return fake_export(tmp_path / "one" / "export", "f" * 64)


def usable(folder: Path) -> bool:
    """Whether it would be run."""
    export = opened(folder)
    return export is not None and export.changed() is None


def test_what_was_written_is_read(folder: Path) -> None:
    export = opened(folder)
    assert export is not None
    assert (export.folder, export.fingerprint, export.shape) == (folder, "f" * 64, EXPORT_SHAPE)
    assert export.changed() is None
    assert fault(folder, "f" * 64) is None
    assert json.loads((folder / ABOUT).read_text())["name"] == "fake"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert not usable(folder)
    assert fault(folder, "f" * 64)
    assert opened(folder.parent / "nothing") is None


@pytest.mark.parametrize("name", FILES)
def test_any_changed_byte_is_noticed(name: str, folder: Path) -> None:
    file = folder / name
    content = file.read_bytes()
    for at in range(len(content) - 1):  # about.json ends with a line end that says nothing
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert not usable(folder), at
        assert fault(folder, "f" * 64), at
    file.write_bytes(content)
    assert usable(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_torn_file_is_noticed(name: str, part: float, folder: Path) -> None:
    size = (folder / name).stat().st_size
    os.truncate(folder / name, min(int(part * size), size - 2))
    assert not usable(folder)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"sha256": 7}', '"x"', "\x00"])
def test_anything_else_is_no_export(text: str, folder: Path) -> None:
    (folder / ABOUT).write_text(text)
    assert opened(folder) is None


def test_other_files_than_there_should_be_are_no_export(folder: Path) -> None:
    for name in (QUESTIONS, "more"):
        (folder / name).write_text("x")
        describe(folder, "fake", "f" * 64, EXPORT_SHAPE)
        assert opened(folder) is None
        (folder / name).unlink()
    for name in (QUESTIONS, QUESTION_WEIGHTS):
        (folder / name).write_text("x")
    describe(folder, "fake", "f" * 64, EXPORT_SHAPE)
    assert usable(folder)
    (folder / QUESTION_WEIGHTS).write_text("y")
    assert not usable(folder)
    assert "questions.weights has changed" in str(fault(folder, "f" * 64))


def test_another_format_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "FORMAT", exported.FORMAT + 1)
    assert opened(folder) is None


def test_another_models_export_is_a_fault(folder: Path) -> None:
    assert "another model" in str(fault(folder, "e" * 64))


def test_after_an_error_what_was_there_is_there(folder: Path) -> None:
    def fail() -> NoReturn:
        with appearing(folder) as new:
            (new / GRAPH).write_text("half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert usable(folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_new_one_takes_the_place_of_the_old_with_all_its_files(folder: Path) -> None:
    (folder / "more").touch()
    fake_export(folder, "e" * 64)
    export = opened(folder)
    assert export is not None
    assert export.fingerprint == "e" * 64
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    assert list(folder.parent.iterdir()) == [folder]


def test_what_a_killed_process_left_is_cleared_away(folder: Path) -> None:
    left = folder.parent / "export.x1y2.tmp" / "new"
    left.mkdir(parents=True)
    (left / WEIGHTS).write_text("half")
    other = folder.parent / "exports"
    other.mkdir()
    fake_export(folder, "f" * 64)
    assert sorted(folder.parent.iterdir()) == [folder, other]


def test_a_carried_export_is_the_same_files(folder: Path, tmp_path: Path) -> None:
    carry(folder, tmp_path / "index" / "model")
    assert usable(tmp_path / "index" / "model")
    for name in FILES:
        assert os.path.samefile(folder / name, tmp_path / "index" / "model" / name)


def test_it_is_copied_where_files_cannot_be_shared(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    carry(folder, tmp_path / "model")
    assert usable(tmp_path / "model")
    assert not os.path.samefile(folder / WEIGHTS, tmp_path / "model" / WEIGHTS)


def test_whoever_may_read_the_folder_may_read_its_weights(tmp_path: Path) -> None:
    with appearing(tmp_path / "export") as new:
        for name in (GRAPH, WEIGHTS, TOKENIZER):
            (new / name).touch()
        (new / WEIGHTS).chmod(0o600)
        describe(new, "fake", "", EXPORT_SHAPE)
    modes = {stat.S_IMODE((tmp_path / "export" / name).stat().st_mode) for name in FILES}
    assert len(modes) == 1
