"""Which encoder runs: the exported copy from where it is whole, made once; else the reference."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag import encode
from rag.encode import LEAN, REFERENCE, LazyEncoder, Places, load_encoder, runtime, user_cache
from rag.exported import CANNOT, WEIGHTS, opened
from rag.ingest import ingest
from rag.models import DEFAULT_MODEL, ModelFiles, locate_model
from rag.types import Article, Encoder
from tests.tiny import tiny_model
from tests.vectors import NEWS

ROOT = Path(__file__).parents[1]
TEXT = "the envoy warned that war may spill over"


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module", name="exported")
def _exported(model: Path) -> Path:
    """A cache with the model's export."""
    encoder = load_encoder(str(model), cache=model.parent / "cache")
    encoder.warm()
    assert encoder.exported is not None
    return encoder.exported


@pytest.fixture(name="place")
def _place(tmp_path: Path, model: Path, exported: Path) -> Path:
    """The export in a cache of this test's own."""
    place = Places(None, tmp_path / "cache").exported(locate_model(str(model)).fingerprint)
    return Path(shutil.copytree(exported, place))


@pytest.fixture
def never_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be exported."""

    def refuse(files: ModelFiles, places: Places) -> str:
        pytest.fail("the model was exported")

    monkeypatch.setattr(encode, "_export", refuse)


class Told(list[str]):
    """What the user was told."""

    def __call__(self, line: str) -> None:
        self.append(line)


def damage(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.unlink()  # a linked file must stay as it is elsewhere
    weights.write_bytes(content)


def test_many_threads_load_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    waiting = threading.Barrier(8)

    class Loaded:
        window = 17

    def load(files: ModelFiles, *_: object) -> Any:
        loads.append(files)
        time.sleep(0.2)  # long enough for every thread to come and find nothing loaded
        return Loaded()

    monkeypatch.setattr(encode, "_load", load)
    encoder = load_encoder()
    assert loads == []

    def window(_: int) -> int:
        waiting.wait(timeout=10)
        return encoder.window

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(window, range(8))) == [17] * 8
    assert len(loads) == 1


@pytest.mark.model
@pytest.mark.usefixtures("offline")
def test_no_connection_is_opened(real_encoder: LazyEncoder) -> None:
    encoder = load_encoder()
    assert isinstance(encoder.window, int)
    (passage,) = encoder.encode_passages(NEWS[:1])
    (known,) = real_encoder.encode_passages(NEWS[:1])
    assert np.abs(passage.vector - known.vector).max() < 1e-6


@pytest.mark.model
def test_it_is_an_encoder_before_it_is_loaded(model: Path) -> None:
    encoder: Encoder = load_encoder(str(model))
    assert encoder.name == str(model)
    assert encoder.fingerprint == locate_model(str(model)).fingerprint
    assert encoder.projection == load_encoder(str(model)).projection
    assert load_encoder().name == DEFAULT_MODEL


# Where the exported copy comes from


@pytest.mark.model
def test_a_model_is_prepared_once_and_that_is_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    told = Told()
    encoder = load_encoder(str(model), cache=tmp_path / "cache", tell=told)
    assert told == []
    encoder.warm()
    assert len(told) == 1
    assert "Preparing the model" in told[0]
    assert "once" in told[0]
    assert encoder.exported == Places(None, tmp_path / "cache").exported(encoder.fingerprint)
    told.clear()
    again = load_encoder(str(model), cache=tmp_path / "cache", tell=told)
    assert again.exported == encoder.exported
    assert told == []


@pytest.mark.model
@pytest.mark.usefixtures("never_exported")
def test_an_archives_own_copy_goes_first(model: Path, place: Path, tmp_path: Path) -> None:
    def found() -> Path | None:
        index, cache = tmp_path / "index", tmp_path / "cache"
        encoder = load_encoder(str(model), index=index, cache=cache, tell=pytest.fail)
        encoder.warm()
        return encoder.exported

    assert found() == place
    own = shutil.copytree(place, tmp_path / "index" / "model")
    assert found() == own
    shutil.rmtree(place)
    assert found() == own


@pytest.mark.model
@pytest.mark.usefixtures("never_exported")
def test_an_archives_damaged_copy_is_passed_over_and_that_is_said(
    model: Path, place: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(place, tmp_path / "index" / "model")
    damage(own / WEIGHTS)
    told = Told()
    encoder = load_encoder(
        str(model), index=tmp_path / "index", cache=tmp_path / "cache", tell=told
    )
    assert encoder.exported == place
    assert told == [f"{own} is damaged and is not used"]


@pytest.mark.model
@pytest.mark.usefixtures("never_exported")
def test_another_models_copy_is_passed_over(place: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", pooling="cls")
    cache = tmp_path / "elsewhere"
    shutil.copytree(place, tmp_path / "index" / "model")
    with pytest.raises(pytest.fail.Exception, match="was exported"):
        load_encoder(str(other), index=tmp_path / "index", cache=cache, tell=Told()).warm()


@pytest.mark.model
@pytest.mark.parametrize("file", [WEIGHTS, "about.json"])
def test_a_damaged_copy_in_the_cache_is_made_again(
    file: str, model: Path, place: Path, exported: Path, tmp_path: Path
) -> None:
    damage(place / file)
    encoder = load_encoder(str(model), cache=tmp_path / "cache", tell=Told())
    encoder.warm()
    assert encoder.exported == place
    assert (place / file).read_bytes() == (exported / file).read_bytes()


@pytest.mark.model
def test_a_copy_that_onnxruntime_cannot_use_is_made_again(
    model: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag import exported, lean
    from rag.encoder import Shape

    told = Told()
    about = json.loads((place / "about.json").read_text())
    (place / "questions.onnx").write_bytes(b"x" * 100)
    exported.describe(place, "tiny", about["fingerprint"], Shape(**about["shape"]))
    assert opened(place) is not None
    with pytest.raises(exported.Unusable, match="onnxruntime cannot use"):
        lean.LeanEncoder("tiny", opened(place))  # type: ignore[arg-type]
    monkeypatch.setattr(encode, "_export", lambda *_: None)  # it finds what is there whole
    encoder = load_encoder(str(model), cache=tmp_path / "cache", tell=told)
    assert encoder.exported is None
    assert encoder.encode_passages([TEXT])[0].tokens == encoder.count([TEXT])[0] + 2
    assert REFERENCE in told[-1]
    assert "cannot be used" in told[-1]


def test_passages_are_encoded_though_the_copy_that_was_loaded_has_gone(
    model: Path, place: Path, tmp_path: Path
) -> None:
    own, told = tmp_path / "index", Told()
    shutil.copytree(place, own / "model")
    encoder = load_encoder(str(model), index=own, cache=tmp_path / "cache", tell=told)
    encoder.encode_question(TEXT)
    assert encoder.exported == own / "model"
    shutil.rmtree(own / "model")
    assert encoder.encode_passages([TEXT])[0].tokens == encoder.count([TEXT])[0] + 2
    assert encoder.exported == place
    assert "onnxruntime cannot use" in told[0]


# Read-only folders. A file in a folder's place is what cannot be written to as root either.


@pytest.mark.model
def test_without_a_cache_the_model_runs_all_the_same(model: Path, tmp_path: Path) -> None:
    told = Told()
    (tmp_path / "file").touch()
    encoder = load_encoder(str(model), cache=tmp_path / "file" / "cache", tell=told)
    assert encoder.exported is None
    assert encoder.encode_passages([TEXT])[0].tokens == encoder.count([TEXT])[0] + 2
    assert len(told) == 2
    assert REFERENCE in told[1]
    assert str(tmp_path / "file") in told[1]


@pytest.mark.model
@pytest.mark.usefixtures("never_exported")
def test_a_read_only_cache_and_a_read_only_archive_are_used(
    model: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise PermissionError("read-only")

    for name in ("mkdir", "rename", "link", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    own = tmp_path / "index"
    assert load_encoder(str(model), index=own, cache=tmp_path / "cache").exported == place


def test_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "rag"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "rag"

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert not user_cache().exists()


# A model that cannot be exported


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exports fail with the exit code that is the last here; each adds one more of it."""
    codes = [CANNOT]

    def run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        codes.append(codes[-1])
        return subprocess.CompletedProcess([], codes[-1], "", "Traceback\nno such operator\n")

    monkeypatch.setattr(subprocess, "run", run)
    return codes


@pytest.mark.model
def test_a_model_that_cannot_be_exported_runs_and_says_why_and_is_not_tried_again(
    model: Path, tmp_path: Path, failing: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache" / "models").mkdir(parents=True)
    files, places = locate_model(str(model)), Places(None, tmp_path / "cache")
    for _ in range(2):
        told = Told()
        encoder = load_encoder(str(model), cache=tmp_path / "cache", tell=told)
        assert encoder.exported is None
        assert encoder.encode_question(TEXT).tokens == encoder.count([TEXT])[0] > 0
        assert [line for line in told if REFERENCE in line] == told[-1:]
        assert "no such operator" in told[-1]
        assert len(failing) == 2
        assert runtime(files, places).reason == "it cannot be exported: no such operator"
    assert told == told[-1:]
    monkeypatch.setattr(encode, "version", lambda package: "another")
    assert runtime(files, places) == encode.Runtime(LEAN, prepared=False)
    load_encoder(str(model), cache=tmp_path / "cache", tell=told).warm()
    assert len(failing) == 3


@pytest.mark.model
@pytest.mark.parametrize("code", [1, -9])
def test_what_failed_for_another_reason_is_tried_again(
    code: int, model: Path, tmp_path: Path, failing: list[int]
) -> None:
    (tmp_path / "cache" / "models").mkdir(parents=True)
    failing.append(code)
    for tried in (3, 4):
        load_encoder(str(model), cache=tmp_path / "cache", tell=Told()).warm()
        assert len(failing) == tried


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"reason": "x"}', "\x00"])
def test_a_torn_record_of_a_failure_is_none(record: str, tmp_path: Path) -> None:
    places = Places(None, tmp_path)
    file = places._failure("f")
    file.parent.mkdir()
    file.write_text(record)
    assert places.failure("f") is None
    places.note_failure("f", "why")
    assert places.failure("f") == "why"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.model
def test_what_will_run_is_known_without_loading(model: Path, place: Path, tmp_path: Path) -> None:
    files = locate_model(str(model))
    assert runtime(files, Places(None, tmp_path / "cache")) == encode.Runtime(LEAN, prepared=True)
    elsewhere = Places(None, tmp_path / "elsewhere")
    assert runtime(files, elsewhere) == encode.Runtime(LEAN, prepared=False)
    shutil.copytree(place, tmp_path / "index" / "model")
    in_index = Places(tmp_path / "index", tmp_path / "elsewhere")
    assert runtime(files, in_index) == encode.Runtime(LEAN, prepared=True)


# What a process that asks and serves holds in memory

HEAVY = [
    *("torch", "transformers", "sentence_transformers", "huggingface_hub", "onnx", "sklearn"),
    *("scipy", "trafilatura", "ir_measures"),
]

ASK = """
import sys
from rag import cli
sys.argv = ["rag", "ask", "who warned of spillover", "--json"]
try:
    cli.main()
except SystemExit as left:
    assert left.code == 0, left
"""

SERVE = """
import sys
from starlette.testclient import TestClient
from rag.config import Settings
from rag.serve import create_app
with TestClient(create_app(Settings()), base_url="http://127.0.0.1:8000") as client:
    answer = client.get("/ask", params={"q": "who warned of spillover"})
    assert answer.status_code == 200, answer.text
    article = {"id": "n", "title": "News", "text": "It rained in the harbour."}
    added = client.post("/articles", json=article)
    assert added.json()["added"] == 1, added.text
    print(answer.text)
"""

SAY = f"\nprint([name for name in {HEAVY} if name in sys.modules])\n"


@pytest.mark.model
@pytest.mark.parametrize("code", [ASK, SERVE])
def test_neither_a_question_nor_an_article_imports_what_is_heavy(
    code: str, real_encoder: LazyEncoder, tmp_path: Path
) -> None:
    from rag.archive import Archive

    archive = Archive(tmp_path / "index")
    ingest(archive, real_encoder, [Article("a", "Envoy", "The envoy warned of spillover.")])
    archive.close()
    assert opened(tmp_path / "index" / "model") is not None
    environment = {**os.environ, "RAG_INDEX": str(tmp_path / "index"), "PYTHONPATH": str(ROOT)}
    environment["RAG_CACHE"] = str(tmp_path / "empty")  # the archive has its own
    done = subprocess.run(
        [sys.executable, "-c", code + SAY],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, loaded = done.stdout.splitlines()
    assert json.loads(answer)["citations"][0]["article"]["id"] == "a"
    assert loaded == "[]"
    assert done.stderr == ""
