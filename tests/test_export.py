"""Exporting: any model that can be, equal to the reference, or not at all and with the reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from rag.exported import CANNOT, opened
from rag.models import ModelFiles, locate_model
from tests.tiny import tiny_model

pytestmark = pytest.mark.model


def files_of(folder: Path) -> ModelFiles:
    return locate_model(str(folder))


def dense() -> list[Any]:
    import torch
    from sentence_transformers.base.modules import Dense

    return [Dense(16, 16, activation_function=torch.nn.Tanh())]


def normalize() -> list[Any]:
    from sentence_transformers.base.modules import Normalize

    return [Normalize()]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens", "lasttoken"])
def test_every_pooling_is_exported(pooling: str, tmp_path: Path) -> None:
    from rag.export import export

    files = files_of(tiny_model(tmp_path / "model", pooling=pooling))
    export(files, tmp_path / "export")
    found = opened(tmp_path / "export")
    assert found is not None
    assert found.changed() is None
    assert found.fingerprint == files.fingerprint
    assert (found.shape.dimension, found.shape.longest) == (16, 32)


@pytest.mark.parametrize("modules", [dense, normalize])
def test_what_comes_after_the_pooling_is_exported(
    modules: Callable[[], list[Any]], tmp_path: Path
) -> None:
    from rag.export import export
    from rag.lean import LeanEncoder
    from rag.reference import SentenceTransformerEncoder

    files = files_of(tiny_model(tmp_path / "model", modules=modules()))
    export(files, tmp_path / "export")
    found = opened(tmp_path / "export")
    assert found is not None
    text = "the envoy warned that war may spill over"
    (lean,) = LeanEncoder("tiny", found).encode_passages([text])
    (known,) = SentenceTransformerEncoder(files).encode_passages([text])
    assert lean.vector.shape == known.vector.shape == (16,)
    assert np.abs(lean.vector - known.vector).max() < 1e-5
    assert abs(float(np.linalg.norm(lean.vector)) - 1) < 1e-5


def test_prompts_are_exported(tmp_path: Path) -> None:
    from rag.export import export
    from rag.lean import LeanEncoder
    from rag.reference import SentenceTransformerEncoder

    prompts = {"query": "ask one: ", "document": "two: "}
    files = files_of(tiny_model(tmp_path / "model", prompts=prompts))
    export(files, tmp_path / "export")
    found = opened(tmp_path / "export")
    assert found is not None
    lean, known = LeanEncoder("tiny", found), SentenceTransformerEncoder(files)
    assert lean.window == known.window == 32 - 2 - 2
    text = "war, peace"
    assert np.abs(lean.uncompressed([text]) - known.uncompressed([text])).max() < 1e-4
    asked, other = lean.encode_question(text), known.encode_question(text)
    assert np.abs(asked.vector - other.vector).max() < 2e-2
    assert np.abs(asked.vector - lean.encode_passages([text])[0].vector).max() > 1e-3
    assert asked.offsets == other.offsets == ((0, 3), (5, 10))
    assert lean.encode_question("war " * 50).tokens_seen == 32 - 2 - 3


def test_an_export_that_gives_something_else_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rag import export as exporting

    forward = exporting._Whole.forward

    def wrong(self: Any, input_ids: Any, attention_mask: Any) -> Any:
        tokens, vector = forward(self, input_ids, attention_mask)
        return tokens, vector.flip(1)

    monkeypatch.setattr(exporting._Whole, "forward", wrong)
    folder = tiny_model(tmp_path / "model")
    place = tmp_path / "cache" / "export"
    assert exporting.main("tiny", str(folder), "f" * 64, str(place)) == CANNOT
    assert "its vectors differ: the least cosine is" in capsys.readouterr().err
    assert [file.name for file in place.parent.iterdir()] == ["export.lock"]


def test_a_model_whose_vectors_depend_on_their_company_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag import export as exporting

    forward = exporting._Whole.forward

    def mixed(self: Any, input_ids: Any, attention_mask: Any) -> Any:
        tokens, vector = forward(self, input_ids, attention_mask)
        return tokens, vector + 0.1 * vector.mean(0)

    monkeypatch.setattr(exporting._Whole, "forward", mixed)
    with pytest.raises(exporting.NotEqual):
        exporting.export(files_of(tiny_model(tmp_path / "model")), tmp_path / "export")


def test_what_torch_cannot_trace_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rag import export as exporting

    def untraceable(self: Any, *given: Any) -> NoReturn:
        raise RuntimeError("no such operator\nat some line")

    monkeypatch.setattr(exporting._Whole, "forward", untraceable)
    folder = tiny_model(tmp_path / "model")
    assert exporting.main("tiny", str(folder), "", str(tmp_path / "export")) == CANNOT
    assert capsys.readouterr().err.splitlines()[-1] == "no such operator"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_without_memory_it_may_be_tried_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag import export as exporting

    def full(*_: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(exporting, "export", full)
    assert exporting.main("tiny", str(tmp_path), "", str(tmp_path / "e")) not in (0, CANNOT)


def test_where_nothing_can_be_written_it_may_be_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rag import export as exporting

    (tmp_path / "file").touch()
    place = tmp_path / "file" / "export"
    assert exporting.main("tiny", str(tmp_path), "", str(place)) not in (0, CANNOT)
    assert capsys.readouterr().err.strip()


def test_two_at_once_export_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag import export as exporting

    files = files_of(tiny_model(tmp_path / "model"))
    made = []
    once = exporting._export

    def counted(*given: Any) -> None:
        made.append(given)
        once(*given)

    monkeypatch.setattr(exporting, "_export", counted)
    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(exporting.export, files, tmp_path / "e") for _ in range(4)]:
            each.result(60)
    assert len(made) == 1
    found = opened(tmp_path / "e")
    assert found is not None
    assert found.changed() is None


def test_a_damaged_export_is_made_again(tmp_path: Path) -> None:
    from rag.export import export

    files = files_of(tiny_model(tmp_path / "model"))
    export(files, tmp_path / "export")
    weights = tmp_path / "export" / "model.weights"
    content = weights.read_bytes()
    weights.write_bytes(b"\x00" * len(content))
    export(files, tmp_path / "export")
    assert weights.read_bytes() == content


def test_killed_at_any_time_it_leaves_nothing_that_would_be_used(tmp_path: Path) -> None:
    """A process that is killed just before its folder is renamed into place."""
    from rag.export import export

    folder = tiny_model(tmp_path / "model")
    place = tmp_path / "cache" / "export"
    code = (
        "import os, signal, sys; from rag import export, exported\n"
        "exported.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export.main(*sys.argv[1:])"
    )
    call = [sys.executable, "-c", code, "tiny", str(folder), "f" * 64, str(place)]
    done = subprocess.run(call, cwd=Path(__file__).parents[1], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert opened(place) is None
    assert len(list(place.parent.glob("export.*.tmp"))) == 1
    export(files_of(folder), place)
    assert opened(place) is not None
    assert sorted(file.name for file in place.parent.iterdir()) == ["export", "export.lock"]


def test_shapes_and_directions_are_compared() -> None:
    from rag.export import NotEqual, require_equal

    one = np.eye(3, dtype=np.float32)
    require_equal([[one]], [[one * 7]])
    require_equal([[one[:0]]], [[one[:0]]])
    require_equal([[one * 0]], [[one * 0]])
    near = one.copy()
    near[2, 0] = 0.01
    require_equal([[one]], [[near]])
    far = one.copy()
    far[2, 0] = 0.02
    for other in (far, one * 0, -one, one[:2], one[:, :2]):
        with pytest.raises(NotEqual):
            require_equal([[one]], [[other]])
    with pytest.raises(NotEqual):
        require_equal([[one]], [[one * np.nan]])


# Questions


def test_a_number_and_its_code_differ_by_half_a_step_at_most() -> None:
    from rag.export import BLOCK, in_bytes

    drawn = np.random.default_rng(3)
    matrix = drawn.normal(size=(5 * BLOCK + 7, 9)).astype(np.float32) * 10.0 ** np.arange(-4, 5)
    matrix[:BLOCK, 2] = 0
    codes, scales = in_bytes(matrix.astype(np.float32))
    assert (codes.shape, scales.shape) == ((9, 6, BLOCK), (9, 6))
    back = (
        ((codes.astype(np.float32) - 128) * scales[:, :, None]).reshape(9, -1)[:, : len(matrix)].T
    )
    steps = np.repeat(scales, BLOCK, axis=1)[:, : len(matrix)].T
    assert (np.abs(back - matrix) <= 0.5001 * steps).all()
    assert not back[:BLOCK, 2].any()


def test_questions_have_a_graph_of_their_own(tmp_path: Path) -> None:
    from rag.export import export

    export(files_of(tiny_model(tmp_path / "model")), tmp_path / "export")
    found = opened(tmp_path / "export")
    assert found is not None
    assert found.for_questions
    (tmp_path / "export" / "questions.weights").write_bytes(b"")
    assert opened(tmp_path / "export") is None


def test_without_one_that_gives_nearly_the_same_questions_use_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag import export as exporting
    from rag.lean import LeanEncoder

    in_bytes = exporting.in_bytes

    def coarse(matrix: Any) -> Any:
        codes, scales = in_bytes(matrix)
        return codes // 64 * 64 + 32, scales

    monkeypatch.setattr(exporting, "in_bytes", coarse)
    exporting.export(files_of(tiny_model(tmp_path / "model")), tmp_path / "export")
    found = opened(tmp_path / "export")
    assert found is not None
    assert not found.for_questions
    assert sorted(file.name for file in found.folder.iterdir()) == sorted(
        ["about.json", "model.onnx", "model.weights", "tokenizer.json"]
    )
    encoder = LeanEncoder("tiny", found)
    (passage,) = encoder.encode_passages(["war and peace"])
    assert np.abs(encoder.encode_question("war and peace").vector - passage.vector).max() < 1e-6
