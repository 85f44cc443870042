"""Holds a server beyond its capacity and looks at it from outside.

    python eval/load.py --index INDEX [--clients 256] [--seconds 60] [--rude]

Clients ask the questions of eval/questions.jsonl, each one after the other over one connection. A
client that is turned away comes again after Retry-After; a rude one at once. Exits 1 if a response
is anything but 200, 429 or 503, one of the latter lacks Retry-After, no answer came, the server
logs anything, or memory grows from the second quarter of the time to the last.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from rag.load import connected

SAMPLE_S = 1.0
SHED = {429, 503}
GROWTH_MOST = 1.1
"""Of memory in the last quarter to that in the second, when all that is kept has been loaded."""


@dataclass
class Seen:
    """What the clients saw together."""

    statuses: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    memory_mib: list[float] = field(default_factory=list)


def client(
    url: str, questions: list[str], number: int, until: float, rude: bool, seen: Seen
) -> None:
    """Ask until the time is over; a connection that breaks is a fault."""
    with closing(connected(url)) as connection:
        for at in count(number):
            if time.monotonic() >= until:
                return
            try:
                pause_s = ask(connection, questions[at % len(questions)], seen)
            except (OSError, http.client.HTTPException) as error:
                seen.faults[type(error).__name__] += 1
                connection.close()
                pause_s = 1.0
            if pause_s and not rude:
                connection.close()  # else the server does, maybe just when the next one is sent
                time.sleep(min(pause_s, max(0.0, until - time.monotonic())))


def ask(connection: http.client.HTTPConnection, question: str, seen: Seen) -> float:
    """Ask one question; how long the server asks to wait before the next, in seconds."""
    began = time.perf_counter()
    body = json.dumps({"question": question})
    connection.request("POST", "/ask", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    seen.statuses[str(response.status)] += 1
    if response.status == http.HTTPStatus.OK:
        seen.latency_ms.append((time.perf_counter() - began) * 1000)
        return 0.0
    after = response.headers.get("Retry-After")
    if response.status not in SHED:
        seen.faults[f"status {response.status}"] += 1
    elif after is None:
        seen.faults["no Retry-After"] += 1
    return float(after or 0)


def memory_mib(url: str) -> float:
    """Resident memory of the server, by its own metrics."""
    with closing(connected(url)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    return float(found[1]) / 2**20 if found else 0.0


def hold(url: str, questions: list[str], options: argparse.Namespace) -> Seen:
    """Have all clients ask for the time, and note the server's memory meanwhile."""
    seen = Seen()
    until = time.monotonic() + options.seconds
    threads = [
        threading.Thread(target=client, args=(url, questions, n, until, options.rude, seen))
        for n in range(options.clients)
    ]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        seen.memory_mib.append(memory_mib(url))
        time.sleep(SAMPLE_S)
    for thread in threads:
        thread.join()
    return seen


def report(seen: Seen, seconds: float) -> bool:
    """Print what was seen; whether it is as it should be."""
    memory = np.array(seen.memory_mib)
    quarters = [float(part.max()) for part in np.array_split(memory, 4)]
    grown = quarters[3] / quarters[1]
    print(
        f"answered {seen.statuses['200'] / seconds:.1f} a second; by status {dict(seen.statuses)}"
    )
    if seen.latency_ms:
        p50, p95 = np.percentile(seen.latency_ms, [50, 95])
        print(f"answered within {p50:.0f} ms (p50), {p95:.0f} ms (p95)")
    print(f"memory {memory[0]:.0f} MiB first, {memory.max():.0f} most, {memory[-1]:.0f} last")
    print("most by quarter " + ", ".join(f"{each:.0f}" for each in quarters) + " MiB")
    if seen.faults:
        print(f"faults: {dict(seen.faults)}")
    return bool(seen.latency_ms) and not seen.faults and grown <= GROWTH_MOST


def main() -> int:
    """Start a server, hold it, tell it to end; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--index", default="index")
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rude", action="store_true")
    options = parser.parse_args()
    set_file = Path(__file__).with_name("questions.jsonl")
    lines = set_file.read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    command = [sys.executable, "-m", "rag.cli", "serve", "--index", options.index, "--port", "0"]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            url = next(line for line in server.stderr if "listening on" in line).split()[-1]
            with closing(connected(url)) as connection:
                ask(connection, questions[0], Seen())  # waits for the model
            seen = hold(url, questions, options)
            server.terminate()
            began = time.monotonic()
            said = server.stderr.read()
            print(f"ended {time.monotonic() - began:.1f} s after SIGTERM")
        finally:
            server.kill()
    if said:
        print(said, file=sys.stderr)
    return 0 if report(seen, options.seconds) and not said else 1


if __name__ == "__main__":
    sys.exit(main())
