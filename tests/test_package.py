"""What `import rag` gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rag


@pytest.mark.parametrize("name", rag.__all__)
def test_every_name_is_the_thing_and_not_its_module(name: str) -> None:
    assert callable(getattr(rag, name))


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rag.nonsense


def test_names_are_the_same_whatever_was_imported_before() -> None:
    code = (
        "import rag.ingest, rag.read; from rag import ingest, read_paths; print(callable(ingest))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
