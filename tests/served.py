"""A server in the test's own process, over an archive of its own and the fake encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from rag.config import Settings
from rag.serve import create_app
from rag.types import Encoder
from tests.fakes import FakeEncoder

HOST = "127.0.0.1:8000"
PROBLEM = "application/problem+json"

ARTICLES: list[dict[str, Any]] = [
    {
        "id": "spillover",
        "title": "Envoy warns of spillover",
        "text": "🦠 First an emoji. Vera Okafor warned of spillover on May 4. It rained afterwards.\n\n"
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


def add(client: TestClient, *articles: dict[str, Any]) -> dict[str, Any]:
    """Add articles, all of which must be taken."""
    response = client.post("/articles", json=list(articles))
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    assert report["failed"] == []
    return report
