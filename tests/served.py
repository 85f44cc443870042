"""A server in the test's own process, over an archive of its own and the fake encoder."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

from rag.config import Settings
from rag.serve import create_app
from rag.types import Encoder
from tests.fakes import FakeEncoder

HOST = "127.0.0.1:8000"
PATIENCE_S = 60.0
PROBLEM = "application/problem+json"
JSON = {"content-type": "application/json"}
QUESTION = "who warned of spillover"

ARTICLES: list[dict[str, Any]] = [
    {
        "id": "spillover",
        "title": "Envoy warns of spillover",
        "text": "🦠 First an emoji. Vera Okafor warned of spillover on May 4. It rained later.\n\n"
        "The council listened.\nNobody voted.",
        "source": "The Daily Test",
        "author": ["Ann Other", "B. Writer"],
        "url": "https://news.example/spillover",
        "published_at": "2025-11-23",
    },
    {
        "id": "harbour",
        "title": "The harbour reopens",
        "text": "Ships came back to the harbour. The mayor was glad.",
        "source": "Coast Wire",
        "published_at": "2024-02-29T23:30:00+00:00",
    },
    {"id": "undated", "title": "A note on the harbour", "text": "The harbour has two piers."},
]


def server(index: Path, *, encoder: Encoder | None = None, **settings: Any) -> TestClient:
    """A client of a new server; enter it to have the server start and stop."""
    app = create_app(Settings(index=index, **settings), encoder=encoder or FakeEncoder())
    return TestClient(app, base_url=f"http://{HOST}")


def problem(response: Response, status: int) -> dict[str, Any]:
    """The problem that a response is, checked for the members that all have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    found: dict[str, Any] = response.json()
    assert found["status"] == status
    assert found["type"]
    assert found["title"]
    assert found["detail"]
    return found


def text_of(client: TestClient, article_id: str) -> str:
    """The text of an article today."""
    return str(client.get(f"/articles/{article_id}/text").text)


def add(client: TestClient, *articles: dict[str, Any]) -> dict[str, Any]:
    """Add articles, all of which must be taken."""
    response = client.post("/articles", json=list(articles))
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    assert report["failed"] == []
    return report


@contextmanager
def filled(tmp_path: Path, **settings: Any) -> Iterator[TestClient]:
    """A running server with the articles."""
    with server(tmp_path / "index", **settings) as client:
        add(client, *ARTICLES)
        yield client


SERVER = """
import json, sys
from rag.config import load_settings
from rag.serve import serve
from tests.fakes import SlowEncoder
settings = load_settings(port=0, **json.loads(sys.argv[1]))
encoder = SlowEncoder(float(sys.argv[2]))
serve(settings, encoder=encoder, announce=lambda line: print(line, flush=True))
"""


@contextmanager
def running(
    index: Path, *, takes_s: float = 0, **settings: Any
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server as a process of its own on a free port, and the port. Its encoder takes `takes_s`
    for a question or a batch of passages, and it has three turns for questions."""
    given = json.dumps({"index": str(index), **settings})
    root = Path(__file__).parents[1]
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", SERVER, given, str(takes_s)]
    with subprocess.Popen(
        command,
        cwd=root,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(f"listening on http://{settings.get('host', '127.0.0.1')}:")
            yield process, int(line.rpartition(":")[2])
        finally:
            process.kill()


def until_ready(port: int) -> dict[str, Any]:
    """What readiness says once the server has loaded."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            found: dict[str, Any] = json.load(response)
        if response.status == 200:
            return found
        time.sleep(0.02)
    raise AssertionError(found)
