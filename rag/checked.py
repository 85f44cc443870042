"""What the last check of an archive found, kept in its folder for whoever asks how it is.

Nothing depends on it: a check that could not be kept, or cannot be read, was none.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rag.vectors import Recall

FILE = "checked.json"


@dataclass(frozen=True, slots=True)
class Checked:
    """`at`: when the check began, ISO 8601 in UTC. `of`: what it looked at, by
    `Reading.derived_from`, and at which generation; "" and 0 where that could not be read.
    `recall`: of unfiltered questions, where it is not exact and was measured."""

    at: str
    sound: bool
    faults: int
    of: str
    generation: int
    recall: Recall | None

    def keep(self, folder: Path) -> None:
        """Keep it in the place of the one before, unless the folder cannot be written."""
        temporary = folder / f"{FILE}.tmp"
        try:
            temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
            temporary.replace(folder / FILE)
        except OSError:
            with suppress(OSError):
                temporary.unlink()


def last(folder: Path) -> Checked | None:
    """What was kept last; None if nothing was, or if it cannot be read."""
    try:
        found = json.loads((folder / FILE).read_bytes())
        recall = found.pop("recall")
        checked = Checked(**found, recall=Recall(**recall) if recall else None)
        moment(checked.at)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return checked


def now() -> str:
    """This moment, as `Checked.at` says it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def moment(at: str) -> datetime:
    """What `Checked.at` says. Raises ValueError and TypeError where it says no moment."""
    found = datetime.fromisoformat(at)
    if found.tzinfo is None:
        raise ValueError(f"{at} names no time zone")
    return found
