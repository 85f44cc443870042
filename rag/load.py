"""A load generator: clients that each ask one question after the other over one connection.

    python -m rag.load URL CLIENTS REQUESTS < questions.json

It runs as a process of its own, beside the server on the same machine, and prints one JSON
document: the seconds it took, and of each request its latency and the server's own times, in ms.
Only the standard library is used, so that it takes as little from the server as it can.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 60

Answered = tuple[float, dict[str, float]]
"""Latency as the client sees it, and `took_ms` of the answer."""


def connected(url: str) -> http.client.HTTPConnection:
    """A connection to the server at `url`."""
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)


def ask(connection: http.client.HTTPConnection, question: str) -> Answered:
    """Ask one question. Raises ConnectionError for anything but an answer."""
    body = json.dumps({"question": question})
    began = time.perf_counter()
    connection.request("POST", "/ask", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    took = (time.perf_counter() - began) * 1000
    if response.status != http.HTTPStatus.OK:
        raise ConnectionError(f"status {response.status}: {answer.get('detail')}")
    return took, answer["took_ms"]


def load(url: str, clients: int, requests: int, questions: Sequence[str]) -> dict[str, Any]:
    """Have `clients` ask `requests` questions together, as fast as they are answered."""
    waiting = iter(list(islice(cycle(questions), requests)))
    taking = threading.Lock()
    answered: list[Answered] = []
    failed: list[str] = []

    def client() -> None:
        connection = connected(url)
        try:
            while True:
                with taking:
                    question = next(waiting, None)
                if question is None:
                    return
                answered.append(ask(connection, question))
        except (OSError, ValueError, http.client.HTTPException) as error:
            failed.append(f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "seconds": time.perf_counter() - began,
        "latency_ms": [took for took, _ in answered],
        "took_ms": [steps for _, steps in answered],
        "failed": failed,
    }


if __name__ == "__main__":
    address, how_many, how_often = sys.argv[1:]
    print(json.dumps(load(address, int(how_many), int(how_often), json.load(sys.stdin))))
