"""What each of them is measured with. It runs in all their environments: no package is used."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WARM_UP = 10


def asked(ask: Callable[[str], Sequence[str]], questions: Mapping[str, str]) -> dict[str, Any]:
    """Ask one question after the other in this process: latencies, and the articles found."""
    for question in list(questions.values())[:WARM_UP]:
        ask(question)
    took_ms, found = [], {}
    for question_id, question in questions.items():
        began = time.perf_counter()
        found[question_id] = list(ask(question))
        took_ms.append((time.perf_counter() - began) * 1000)
    return {"question_ms": took_ms, "found": found}


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(work: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Do the work that is read from standard input; print what was measured, as JSON."""
    print(json.dumps({**work(json.load(sys.stdin)), "peak_bytes": peak_bytes()}))
