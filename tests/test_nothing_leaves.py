"""Nothing leaves the machine: real processes open no connection beyond it, and keep no records for
others, whatever the environment asks for."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.called import STORY
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[1]
ASKED_FOR = {
    "ORT_DISABLE_TELEMETRY": "0",
    "HF_HUB_DISABLE_TELEMETRY": "0",
    "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1:4318",
}
# Python's own connections are told of by Python, in each process, as it starts.
TOLD = """
import os, sys

def tell(event, given):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = given[0] if event.startswith("socket.get") else given[1]
        with open(os.environ["TOLD"], "a") as file:
            print(event, address, file=file)

sys.addaudithook(tell)
"""
# Every other connection is seen by the system: to a local socket, to loopback, or to no family.
LOCAL = re.compile(r"sa_family=AF_(?:UNIX|UNSPEC|NETLINK)|127\.0\.0\.1|\"::1\"")
CALLS = "trace=connect,sendto,sendmsg,sendmmsg"


class Home:
    """A user's home that nothing has been in yet, and the processes that run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told = folder.parent / "told"
        self.traced = folder.parent / "traced"
        hooks = folder.parent / "hooks"
        for each in (folder, hooks):
            each.mkdir()
        (hooks / "sitecustomize.py").write_text(TOLD)
        model = tiny_model(folder.parent / "model")
        self.index, self.cache = folder / "index", folder / "cache"
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            **ASKED_FOR,
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join((str(hooks), str(ROOT))),
            "RAG_CACHE": str(self.cache),
            "RAG_INDEX": str(self.index),
            "RAG_MODEL": str(model),
            "TOLD": str(self.told),
        }

    def command(self, *given: str) -> list[str]:
        return [*tracer(self.traced), sys.executable, *given]

    def run(self, *given: str) -> str:
        done = subprocess.run(
            self.command(*given), env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def to_others(self) -> list[str]:
        """The connections, tried or made, to anywhere but this machine."""
        told = self.told.read_text().splitlines() if self.told.exists() else []
        calls = self.traced.read_text().splitlines() if self.traced.exists() else []
        told = [line for line in told if "127.0.0.1" not in line]
        return told + [line for line in calls if "sa_family=" in line and not LOCAL.search(line)]

    def serve_one_question(self) -> int:
        """The status of a question over HTTP to a server that is ended then."""
        pipe = subprocess.PIPE
        command = self.command("-m", "rag", "serve", "--port", "0")
        with subprocess.Popen(command, env=self.environment, stderr=pipe, text=True) as process:
            try:
                assert process.stderr is not None
                line = process.stderr.readline()
                assert "listening on" in line, line + process.stderr.read()
                client = HTTPConnection("127.0.0.1", int(line.rpartition(":")[2]), timeout=30)
                client.request("GET", "/ask?q=who+warned")
                status = client.getresponse().status
                client.close()
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=30)
        return status


def tracer(file: Path) -> Sequence[str]:
    """What writes every connection of a process and of its children into `file`, where it may."""
    strace = ["strace", "--follow-forks", "--append-mode", "--quiet=all", "-e", CALLS, "-o"]
    if not shutil.which("strace") or subprocess.call([*strace, os.devnull, "true"]):
        return []
    return [*strace, str(file)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.mark.model
def test_no_process_of_ours_connects_to_others_or_keeps_records_for_them(
    home: Home, tmp_path: Path
) -> None:
    story = tmp_path / "story.md"
    story.write_text(STORY, encoding="utf-8")
    home.run("-m", "rag", "add", str(story))  # has the model exported, in a process of its own
    answer = home.run("-m", "rag", "ask", "--json", "who warned of spillover")
    assert json.loads(answer)["citations"]
    assert home.serve_one_question() == 200
    assert {each.name for each in home.folder.iterdir()} == {"index", "cache"}
    assert {each.name for each in home.cache.iterdir()} == {"models"}
    assert home.to_others() == []


@pytest.mark.model
def test_a_connection_to_others_would_be_seen(home: Home) -> None:
    code = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    home.run("-c", code)  # which sends nothing
    assert len(home.to_others()) == (2 if tracer(home.traced) else 1)


@pytest.mark.parametrize("first", ["rag", "rag.lean", "rag.chores"])
def test_whatever_of_ours_is_imported_first_comes_before_the_libraries(first: str) -> None:
    code = (
        f"import {first}, os; from huggingface_hub import constants;"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | ASKED_FOR,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 True\n"
