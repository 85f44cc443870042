"""Our own modules in processes of their own: what to run, and with which environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(module: str, *given: str) -> list[str]:
    """`python -m module given...`; nothing of the folder we are in is imported."""
    return [sys.executable, "-P", "-m", module, *given]


def environment() -> dict[str, str]:
    """Ours, and this package as it is here."""
    package = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
