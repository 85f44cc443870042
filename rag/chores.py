"""What a server has done to its archive in processes of their own.

    python -m rag.chores renew FOLDER    write the dense base, if it is due
    python -m rag.chores check FOLDER    look for everything that can be wrong

In the server's own they would hold all vectors a second time in its memory, and questions would
wait for the interpreter; these go after questions. Each exits with what went wrong, if anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing, suppress

from rag.archive import Archive
from rag.errors import ArchiveBusy, StorageFailed

LESS_URGENT = 10


def _renew(archive: Archive) -> str:
    with suppress(ArchiveBusy):
        archive.write_due_base()
    return ""


def _check(archive: Archive) -> str:
    return "; ".join(f"{fault.part}: {fault.problem}" for fault in archive.check())


CHORES: dict[str, Callable[[Archive], str]] = {"renew": _renew, "check": _check}

if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(LESS_URGENT)
    with closing(Archive(sys.argv[2])) as archive:
        try:
            sys.exit(CHORES[sys.argv[1]](archive) or 0)
        except (StorageFailed, ArchiveBusy) as error:
            sys.exit(str(error))
