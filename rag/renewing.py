"""Writes an archive's dense base, if it is due, in a process of its own.

    python -m rag.renewing FOLDER

Beside a server, which would else hold all vectors twice in its memory, and whose questions would
wait for the interpreter. They go before it.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing, suppress

from rag.archive import Archive
from rag.errors import ArchiveBusy, StorageFailed

LESS_URGENT = 10

if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(LESS_URGENT)
    with closing(Archive(sys.argv[1])) as archive, suppress(ArchiveBusy):
        try:
            archive.write_due_base()
        except StorageFailed as error:
            sys.exit(str(error))
