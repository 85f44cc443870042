"""Nothing that is read can run: no pickle and no other executable format, no code of a model's.

What the package calls is read from its syntax trees; what a model's folder may hold is tried.
"""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rag.errors import ModelNotFound
from rag.models import loadable, locate_model
from tests.tiny import tiny_model

PACKAGE = Path(__file__).parents[1] / "rag"

MODULES = {
    "_pickle",
    "cloudpickle",
    "code",
    "dill",
    "imp",
    "joblib",
    "marshal",
    "pickle",
    "runpy",
    "shelve",
}
BUILTINS = {"__import__", "compile", "eval", "exec"}
CALLS = {
    "numpy.fromregex",
    "numpy.lib.format.read_array",
    "onnxruntime.SessionOptions.register_custom_ops_library",
    "os.system",
    "pandas.read_pickle",
    "torch.hub.load",
    "torch.jit.load",
    "torch.load",
    "torch.package.PackageImporter",
    "yaml.full_load",
    "yaml.full_load_all",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
}
KEYWORDS = {
    "allow_pickle": False,
    "shell": False,
    "trust_remote_code": False,
    "use_safetensors": True,
    "weights_only": True,
}
REQUIRED = {
    "numpy.load": {"allow_pickle"},
    "sentence_transformers.SentenceTransformer": {"trust_remote_code", "model_kwargs"},
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


class Dangers(ast.NodeVisitor):
    """What in a source text could run what is read."""

    def __init__(self, source: str) -> None:
        self.found: list[str] = []
        self._names: dict[str, str] = {}  # what a name of this file stands for
        self._safe = set(SAFE_LOADERS)
        self.visit(ast.parse(source))

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            self._imported(each.name)
            name = each.asname or each.name.partition(".")[0]
            self._names[name] = each.name if each.asname else name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._imported(node.module or "")
        for each in node.names:
            whole = f"{node.module}.{each.name}"
            self._imported(whole)
            self._names[each.asname or each.name] = whole
            if whole in CALLS:
                self.found.append(whole)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(self._dotted(base) in self._safe for base in node.bases):
            self._safe.add(node.name)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = self._dotted(node.func)
        given = {each.arg for each in node.keywords}
        if name in CALLS | BUILTINS or not REQUIRED.get(name, set()) <= given:
            self.found.append(name)
        if name in ("yaml.load", "yaml.load_all"):
            loaders = [*node.args[1:], *(k.value for k in node.keywords if k.arg == "Loader")]
            if not loaders or self._dotted(loaders[0]) not in self._safe:
                self.found.append(name)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        self._held(node.arg, node.value)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                self._held(key.value, value)
        self.generic_visit(node)

    def _held(self, name: object, value: ast.expr) -> None:
        """Of what has one safe value, that value alone, and nothing that is worked out."""
        if name in KEYWORDS and not (
            isinstance(value, ast.Constant) and value.value is KEYWORDS[str(name)]
        ):
            self.found.append(str(name))

    def _imported(self, module: str) -> None:
        if module.partition(".")[0] in MODULES:
            self.found.append(module)

    def _dotted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{self._dotted(node.value)}.{node.attr}"
        return self._names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_of_ours_loads_what_could_run(file: Path) -> None:
    assert Dangers(file.read_text(encoding="utf-8")).found == []


def test_modules_are_imported_by_a_name_that_is_worked_out_only_in_the_package_itself() -> None:
    using = [file.name for file in sources() if "import_module" in file.read_text("utf-8")]
    assert using == ["__init__.py"]
    assert 'import_module(f"rag.{' in (PACKAGE / "__init__.py").read_text("utf-8")


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import marshal, shelve",
        "from joblib.numpy_pickle import load",
        "eval('1')",
        "def f(x): exec(x)",
        "__import__('os')",
        "compile('1', '', 'eval')",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=True)",
        "from torch import load",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=trusted)",
        "import yaml\nyaml.load(x)",
        "import yaml\nyaml.load(x, yaml.Loader)",
        "import yaml\nyaml.load(x, Loader=yaml.FullLoader)",
        "import yaml\nyaml.unsafe_load(x)",
        "import yaml\nclass L(yaml.Loader): pass\nyaml.load(x, L)",
        "from sentence_transformers import SentenceTransformer\nSentenceTransformer('x')",
        "f(trust_remote_code=True)",
        "f(model_kwargs={'trust_remote_code': trusted})",
        "f(model_kwargs={'use_safetensors': False})",
        "import subprocess\nsubprocess.run('x', shell=True)",
    ],
)
def test_what_could_run_is_recognised(source: str) -> None:
    assert Dangers(source).found


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import yaml\nyaml.safe_load(x)\nyaml.load(x, yaml.SafeLoader)",
        "import yaml\nclass L(yaml.SafeLoader): pass\nyaml.load(x, L)",
        "import json, re\njson.load(x)\nre.compile('x')",
        "model.eval()",
    ],
)
def test_what_cannot_run_is_not_complained_of(source: str) -> None:
    assert Dangers(source).found == []


# A model's folder.

PICKLED = [
    "pytorch_model.bin",
    "model.bin",
    "adapter_model.bin",
    "model.pt",
    "model.pth",
    "model.pkl",
    "model.ckpt",
    "model.joblib",
    "model.npy",
    "tf_model.h5",
]


class Trap:
    """A pickle that leaves a mark when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", PICKLED)
def test_weights_in_a_format_that_could_run_are_no_model(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    with pytest.raises(ModelNotFound, match="safetensors"):
        locate_model(str(folder))
    assert not (tmp_path / "opened").exists()


def test_what_is_loaded_from_is_what_was_hashed_and_nothing_else(tmp_path: Path) -> None:
    folder, outside = tmp_path / "model", tmp_path / "outside"
    for name in ("model.safetensors", "config.json", "1_Part/config.json", *PICKLED, "code.py"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (folder / "2_Normalize").mkdir()
    outside.mkdir()
    (outside / "pytorch_model.bin").touch()
    (folder / "3_Linked").symlink_to(outside)
    with loadable(locate_model(str(folder))) as seen:
        there = {str(each.relative_to(seen)): each for each in seen.rglob("*")}
        assert sorted(there) == [
            "1_Part",
            "1_Part/config.json",
            "2_Normalize",
            "config.json",
            "model.safetensors",
        ]
        assert there["1_Part/config.json"].read_text() == "1_Part/config.json"
    assert not seen.exists()
    assert (folder / "config.json").exists()


@pytest.mark.parametrize(
    "kind",
    ["custom.Module", "sklearn.utils.parallel.joblib", "sentence_transformers.base.model.torch"],
)
def test_a_model_names_no_code_but_that_of_its_library(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    modules = [{"type": "sentence_transformers.models.Pooling"}, {"type": kind}]
    (tmp_path / "modules.json").write_text(json.dumps(modules[:1]))
    locate_model(str(tmp_path))
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelNotFound, match=kind):
        locate_model(str(tmp_path))


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A model with weights in two parts."""
    import torch
    from sentence_transformers.base.modules import Dense

    part = Dense(16, 16, activation_function=torch.nn.Tanh())
    return tiny_model(tmp_path / "model", modules=[part])


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to load one fails the test."""
    import torch

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        pytest.fail("a pickle was loaded")

    monkeypatch.setattr(torch, "load", refuse)


def opened(folder: Path) -> None:
    """Open a model as the program does; it is refused for what it lacks."""
    from rag.reference import SentenceTransformerEncoder

    files = locate_model(str(folder))
    with pytest.raises((OSError, ValueError, ImportError, TypeError, AttributeError)):
        SentenceTransformerEncoder(files)


@pytest.mark.model
@pytest.mark.usefixtures("no_pickle")
@pytest.mark.parametrize("linked", [False, True])
def test_a_part_whose_weights_are_pickled_is_not_loaded(
    linked: bool, dense: Path, tmp_path: Path
) -> None:
    (part,) = dense.glob("*_Dense")
    (part / "model.safetensors").rename(part / "other.safetensors")
    (part / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    if linked:  # and hidden from who looks through the folder
        part.rename(tmp_path / "elsewhere")
        part.symlink_to(tmp_path / "elsewhere")
    opened(dense)
    assert not (tmp_path / "opened").exists()


@pytest.mark.model
@pytest.mark.usefixtures("no_pickle")
def test_code_that_a_model_brings_is_not_run(dense: Path, tmp_path: Path) -> None:
    from rag.reference import SentenceTransformerEncoder

    code = f"from pathlib import Path\nPath({str(tmp_path / 'run')!r}).touch()\n"
    (dense / "custom.py").write_text(code)
    config = json.loads((dense / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "custom.Module", "AutoConfig": "custom.Config"}
    (dense / "config.json").write_text(json.dumps(config))
    encoder = SentenceTransformerEncoder(locate_model(str(dense)))
    assert encoder.encode_passages(["war and peace"])[0].vector.shape == (16,)
    assert not (tmp_path / "run").exists()
