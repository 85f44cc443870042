"""How many processor cores this process may use."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from threadpoolctl import threadpool_limits

CONTROL_GROUP = Path("/proc/self/cgroup")
CONTROL_GROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """As many as the environment's OMP_NUM_THREADS says; else those the process may run on, or the
    part of them that its control group (version 2) gives it."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    return max(1, min(usable, _quota() or usable))


def blas_threads(count: int) -> AbstractContextManager[object]:
    """Have numpy's products use so many threads in this process from now on, or until the end of a
    context.

    One is best for answering: the products are small, and a second thread waits for the next one by
    spinning, which took 12 ms of another core for each question.
    """
    limits: AbstractContextManager[object] = threadpool_limits(count, user_api="blas")
    return limits


def _quota() -> int | None:
    """Cores' worth of time, rounded up; None without a limit, or where nothing says."""
    try:
        found = CONTROL_GROUP.read_text().strip().splitlines()
        path = next(line[3:] for line in found if line.startswith("0::"))
        least = None
        for folder in [Path(path), *Path(path).parents]:
            limit = CONTROL_GROUPS / folder.relative_to("/") / "cpu.max"
            most, period = limit.read_text().split() if limit.exists() else ("max", "1")
            if most != "max":
                mine = -(-int(most) // int(period))
                least = mine if least is None else min(least, mine)
        return least
    except (OSError, ValueError, StopIteration):
        return None
