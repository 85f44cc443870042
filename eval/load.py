"""Holds a server beyond its capacity and looks at it from outside.

    python eval/load.py --index INDEX [--clients 256] [--seconds 60] [--rude] [--changing]

Clients ask the questions of eval/questions.jsonl, each one after the other over one connection. A
client that is turned away comes again after Retry-After; a rude one at once. With --changing one
more client adds articles and removes them again meanwhile, in a copy of the archive. Exits 1 if a
response is anything but 200, 429 or 503, one of the latter lacks Retry-After, no answer came, the
server logs anything, or memory grows from the second quarter of the time to the last.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from rag.load import connected

RAG = [sys.executable, "-m", "rag.cli"]
SAMPLE_S = 1.0
SHED = {429, 503}
LISTENING = re.compile(r"^.*listening on (\S+)\n", re.MULTILINE)
GROWTH_MOST = 1.1
"""Of memory in the last quarter to that in the second, when all that is kept has been loaded."""

KEPT = 20
"""How many of its articles the client that changes the archive leaves in it."""
WORDS_EACH = 300


@dataclass
class Seen:
    """What the clients saw together."""

    statuses: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    memory_mib: list[float] = field(default_factory=list)


Step = Callable[[http.client.HTTPConnection, int, Seen], float]
"""One request of a client, by its number; how long the server asks to wait after it, in seconds."""


def client(url: str, step: Step, number: int, until: float, rude: bool, seen: Seen) -> None:
    """Take steps until the time is over; a connection that breaks is a fault."""
    with closing(connected(url)) as connection:
        for at in count(number):
            if time.monotonic() >= until:
                return
            try:
                pause_s = step(connection, at, seen)
            except (OSError, http.client.HTTPException) as error:
                seen.faults[type(error).__name__] += 1
                connection.close()
                pause_s = 1.0
            if pause_s and not rude:
                connection.close()  # else the server does, maybe just when the next one is sent
                time.sleep(min(pause_s, max(0.0, until - time.monotonic())))


def asking(questions: list[str]) -> Step:
    """Ask one question after the other."""

    def step(connection: http.client.HTTPConnection, at: int, seen: Seen) -> float:
        began = time.perf_counter()
        body = {"question": questions[at % len(questions)]}
        status, pause_s = sent(connection, "POST", "/ask", body, seen)
        seen.statuses[str(status)] += 1
        if status == http.HTTPStatus.OK:
            seen.latency_ms.append((time.perf_counter() - began) * 1000)
        return pause_s

    return step


def changing(words: list[str]) -> Step:
    """Add an article of its own words; every second step removes the one of `KEPT` adds before."""

    def step(connection: http.client.HTTPConnection, at: int, seen: Seen) -> float:
        number, removes = divmod(at, 2)
        if removes and number < KEPT:
            return 0.0
        chosen = random.Random(number).choices(words, k=WORDS_EACH)  # noqa: S311 - no secret
        article = {"id": f"load-{number}", "title": f"Load {number}", "text": " ".join(chosen)}
        method, path, body = (
            ("DELETE", f"/articles/load-{number - KEPT}", None)
            if removes
            else ("POST", "/articles", article)
        )
        status, pause_s = sent(connection, method, path, body, seen)
        while status in SHED:
            time.sleep(pause_s)
            status, pause_s = sent(connection, method, path, body, seen)
        seen.changes["removed" if removes else "added"] += 1
        return pause_s

    return step


def sent(
    connection: http.client.HTTPConnection, method: str, path: str, body: object, seen: Seen
) -> tuple[int, float]:
    """Send a request; its status, and how long the server asks to wait, in seconds."""
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    if response.status == http.HTTPStatus.OK:
        return response.status, 0.0
    after = response.headers.get("Retry-After")
    if response.status not in SHED:
        seen.faults[f"status {response.status}"] += 1
    elif after is None:
        seen.faults["no Retry-After"] += 1
    return response.status, float(after or 0)


def memory_mib(url: str) -> float:
    """Resident memory of the server, by its own metrics."""
    with closing(connected(url)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    return float(found[1]) / 2**20 if found else 0.0


def hold(url: str, questions: list[str], options: argparse.Namespace) -> Seen:
    """Have all clients at work for the time, and note the server's memory meanwhile."""
    seen = Seen()
    until = time.monotonic() + options.seconds
    ask = asking(questions)
    steps = [(ask, number) for number in range(options.clients)]
    if options.changing:
        steps.append((changing(" ".join(questions).split()), 0))
    threads = [
        threading.Thread(target=client, args=(url, step, number, until, options.rude, seen))
        for step, number in steps
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
    if len(memory) < 4:
        print("too short to see what memory does: have it run for longer (--seconds)")
        return False
    quarters = [float(part.max()) for part in np.array_split(memory, 4)]
    grown = quarters[3] / quarters[1]
    print(
        f"answered {seen.statuses['200'] / seconds:.1f} a second; by status {dict(seen.statuses)}"
    )
    if seen.changes:
        print(f"changes {dict(seen.changes)}")
    if seen.latency_ms:
        p50, p95 = np.percentile(seen.latency_ms, [50, 95])
        print(f"answered within {p50:.0f} ms (p50), {p95:.0f} ms (p95)")
    print(f"memory {memory[0]:.0f} MiB first, {memory.max():.0f} most, {memory[-1]:.0f} last")
    print("most by quarter " + ", ".join(f"{each:.0f}" for each in quarters) + " MiB")
    if seen.faults:
        print(f"faults: {dict(seen.faults)}")
    return bool(seen.latency_ms) and not seen.faults and grown <= GROWTH_MOST


@contextmanager
def served(index: str) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """A server of our own, its URL, and what it logs; it is gone afterwards."""
    command = [*RAG, "serve", "--index", index, "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(command, stderr=errors, text=True) as server,  # noqa: S603
        ):
            try:
                while not (first := LISTENING.search(log.read_text())):
                    if server.poll() is not None:
                        sys.exit(log.read_text())
                    time.sleep(0.05)
                yield server, first[1], log
            finally:
                server.kill()


def copied(index: str, folder: str) -> str:
    """A copy of an archive, whoever writes to it meanwhile."""
    backup, copy = f"{folder}/backup", f"{folder}/index"
    for call in (["backup", backup, "--index", index], ["restore", backup, "--index", copy]):
        subprocess.run([*RAG, *call], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return copy


def main() -> int:
    """Start a server, hold it, tell it to end; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--index", default="index")
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rude", action="store_true")
    parser.add_argument("--changing", action="store_true")
    options = parser.parse_args()
    set_file = Path(__file__).with_name("questions.jsonl")
    lines = set_file.read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        index = copied(options.index, folder) if options.changing else options.index
        with served(index) as (server, url, log):
            with closing(connected(url)) as connection:
                asking(questions)(connection, 0, Seen())  # waits for the model
            seen = hold(url, questions, options)
            server.terminate()
            began = time.monotonic()
            server.wait()
            said = LISTENING.sub("", log.read_text())
            print(f"ended {time.monotonic() - began:.1f} s after SIGTERM")
    if said:
        print(said, file=sys.stderr)
    return 0 if report(seen, options.seconds) and not said else 1


if __name__ == "__main__":
    sys.exit(main())
