"""Our own modules in processes of their own: what to run, in which environment, one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path


def command(module: str, *given: str) -> list[str]:
    """`python -m module given...`; nothing of the folder we are in is imported."""
    return [sys.executable, "-P", "-m", module, *given]


def environment() -> dict[str, str]:
    """Ours, and this package as it is here."""
    package = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


class Beside:
    """A module of ours in a process of its own, one at a time."""

    def __init__(self, module: str, *given: str) -> None:
        self._module, self._given = module, given
        self._starting = threading.Lock()
        self._running: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self) -> str:
        """Run it and wait for its end; what it said where it failed, else "".

        Nothing is run while it runs already, nor after `stop`, whose doing is no failure.
        """
        with self._starting:
            if self._stopped or (self._running and self._running.poll() is None):
                return ""
            self._running = running = subprocess.Popen(  # noqa: S603 - our own module
                command(self._module, *self._given),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        said = running.communicate()[1].strip()
        if not running.returncode or self._stopped:
            return ""
        return said or f"its process ended with {running.returncode}"

    def stop(self) -> None:
        """End it if it runs; it is not run any more."""
        with self._starting:
            self._stopped = True
            if self._running:
                self._running.terminate()
