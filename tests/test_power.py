"""A power cut at random moments: what was acknowledged is there, whole, and nothing is half so.

What a disk may then hold is made up from what a writer asked of the kernel (tests/power.py).
`make power` tries thousands of cuts. RAG_POWER_CUTS says how many, RAG_POWER_SEED which.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rag import vectors
from rag.archive import Archive
from rag.files import sync
from rag.keys import KeyFile
from rag.snapshot import Snapshot
from rag.types import Article
from tests.fakes import FakeEncoder, add, assert_holds, assert_snapshot_holds, orphans
from tests.folders import temporary_folder
from tests.power import Disk, can_record, record
from tests.test_torture import after, story
from tests.writer import Change, apply, make_small

CUTS = int(os.environ.get("RAG_POWER_CUTS") or 60)
SEED = int(os.environ.get("RAG_POWER_SEED") or random.SystemRandom().randrange(10**6))
CHANGES = 14
KINDS = ("add", "add", "remove", "rebuild", "back up", "restore")

Held = dict[str, Article]


def changes(seed: int) -> list[tuple[Change, Held]]:
    """Some that can be made one after the other to a new archive; what it holds after each."""
    chance = random.Random(seed)
    made: list[tuple[Change, Held]] = []
    held: Held = {}
    backed_up: Held = {}
    for version in range(CHANGES):
        kind = chance.choice(KINDS) if held else "add"
        if kind == "remove" and len(held) > 3:
            change = Change(kind, ids=tuple(chance.sample(sorted(held), 2)))
        elif kind in ("rebuild", "back up") or (kind == "restore" and backed_up):
            change = Change(kind)
        else:
            numbers = chance.sample(range(14), chance.randint(1, 4))
            change = Change("add", tuple(story(number, version) for number in numbers))
        backed_up = held if kind == "back up" else backed_up
        held = backed_up if change.kind == "restore" else after(held, change)
        made.append((change, held))
    return made


def tell(line: object) -> None:
    os.write(1, f"{line}\n".encode())


def make_changes(place: Path, seed: int) -> None:
    """Make them, and tell the generation after each."""
    make_small()
    backup = place
    with closing(Archive(place / "index")) as archive:
        for number, (change, _) in enumerate(changes(seed)):
            if change.kind == "back up":
                backup = backup_of(place, number)
                archive.back_up(backup)
            elif change.kind == "restore":
                archive.restore(backup, replace=True)
            else:
                apply(archive, FakeEncoder(), change)
            with archive.snapshot() as snapshot:
                tell(snapshot.generation)


def backup_of(place: Path, number: int) -> Path:
    return place / f"backup{number}"


def again_of(change: Change, before: Held) -> Change:
    """The change itself where it can be made twice, or adding what it takes away or replaces."""
    if change.kind == "remove":
        return Change("add", tuple(before[each] for each in change.ids))
    if change.kind == "add" and before:
        return Change("add", tuple(before.values()))
    return change if change.kind == "add" else Change("rebuild")


def assert_holds_one_of(snapshot: Snapshot, *possible: Held) -> None:
    hashes = {head.id: head.sha256 for head in snapshot.heads(limit=100)}
    (held, *_) = [
        each for each in possible if hashes == {key: each[key].sha256 for key in each}
    ] or possible
    assert_snapshot_holds(snapshot, held)


def look(place: Path, made: list[tuple[Change, Held]], told: list[int]) -> None:
    """What was acknowledged is there, and what was not wholly or not at all; without repair."""
    before = made[len(told) - 1][1] if told else {}
    change, changed = [*made, (Change("rebuild"), before)][len(told)]
    with closing(Archive(place / "index")) as archive:
        assert archive.check() == []
        with archive.snapshot() as snapshot:
            assert snapshot.generation >= max(told, default=0)
            assert_holds_one_of(snapshot, before, changed)
        again = again_of(change, before)
        apply(archive, FakeEncoder(), again)
        archive.recover()  # a change that was left to be finished came before, not after
        assert archive.check() == []
        with archive.snapshot() as snapshot:
            assert_holds_one_of(snapshot, after(before, again), after(changed, again))
    assert orphans(place / "index") == 0
    for number, (change, held) in enumerate(made):
        backup = backup_of(place, number)
        assert backup.exists() or change.kind != "back up" or number >= len(told)
        if backup.exists():
            with closing(Archive(place / "restored")) as restored:
                restored.restore(backup, replace=True)
            assert_holds(place / "restored", held.values())


@pytest.fixture(name="place")
def _place() -> Iterator[Path]:
    with temporary_folder() as folder:
        if not can_record(Path(folder)):
            pytest.skip("there is no strace that may follow a process")
        yield Path(folder)


def cuts(place: Path, work: str, count: int, seed: int) -> Iterator[tuple[Path, list[str]]]:
    """A process does `work`, a call, in the folder `place`, and its power is cut so often: what may
    be left of the folder then, and what it has told."""
    folder = place / "watched"
    folder.mkdir()
    script = f"from tests.test_power import *; place = Path({os.fspath(folder)!r}); {work}"
    record([sys.executable, "-c", script], place / "log")
    disk = Disk(folder, place / "log")
    disk.put(place / "again")
    same = ["diff", "-r", "-x", "*-shm", os.fspath(folder), os.fspath(place / "again")]
    assert subprocess.run(same, check=False).returncode == 0
    chance = random.Random(seed)
    for at in disk.moments(chance, count):
        told = [line for when, line in disk.told if when < at]
        print(f"cut at {at}, after {len(told)} of {len(disk.told)} were told")
        with temporary_folder() as left:
            disk.cut(at, chance, Path(left) / "left")
            yield Path(left) / "left", told


def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"seed {SEED}, {CUTS} cuts")  # RAG_POWER_SEED has the same changes come again
    for name in ("EXACT_MOST", "TAIL_MOST"):
        monkeypatch.setattr(vectors, name, getattr(vectors, name))  # put back at the end
    make_small()
    made = changes(SEED)
    for left, told in cuts(place, f"make_changes(place, {SEED})", CUTS, SEED):
        look(left, made, [int(line) for line in told])


def add_to_a_new_folder(place: Path) -> None:
    (place / "index").mkdir()  # by somebody else, who has not synced it
    with closing(Archive(place / "index")) as archive:
        tell(add(archive, FakeEncoder(), story(1, 1)).generation)


def test_an_archive_in_a_folder_that_was_just_made_is_there_after_a_power_cut(place: Path) -> None:
    for left, told in cuts(place, "add_to_a_new_folder(place)", CUTS, SEED):
        if told:
            assert_holds(left / "index", [story(1, 1)])


DAMAGED = b"damaged" * 1_000


def replace_a_damaged_one(place: Path) -> None:
    index, backup = place / "index", place / "backup"
    with closing(Archive(index)) as archive:
        add(archive, FakeEncoder(), story(1, 1), story(2, 1))
        archive.back_up(backup)
        add(archive, FakeEncoder(), story(3, 1))
    with (index / "library.db").open("r+b") as stream:
        stream.write(DAMAGED)
        stream.flush()
        os.fsync(stream.fileno())
    tell("damaged")
    with closing(Archive(index)) as archive:
        archive.restore(backup, replace=True)
    tell("restored")


def test_a_library_that_is_replaced_by_a_backup_is_there_after_a_power_cut(place: Path) -> None:
    for left, told in cuts(place, "replace_a_damaged_one(place)", CUTS, SEED):
        index, backup = left / "index", left / "backup"
        if "restored" in told:
            kept = (index / "library.db.damaged").read_bytes()
            assert kept[: len(DAMAGED)] == DAMAGED
            assert_holds(index, [story(1, 1), story(2, 1)])
        elif "damaged" in told:  # or not, by a log that lasts though its name had been taken away
            with closing(Archive(index)) as archive:
                assert archive.check() == [] or archive.check()[0].part == "library.db"
                archive.restore(backup, replace=True)
            assert_holds(index, [story(1, 1), story(2, 1)])


def change_keys(place: Path) -> None:
    for number in range(4):
        keys = KeyFile(place / "index")
        keys.add(f"k{number}")
        tell(f"+k{number}")
        if number % 2:
            keys.revoke(f"k{number}")
            tell(f"-k{number}")


def test_a_key_that_was_made_or_revoked_is_so_after_a_power_cut(place: Path) -> None:
    for left, told in cuts(place, "change_keys(place)", CUTS, SEED):
        keys = {key.name for key in KeyFile(left / "index").keys() or ()}
        made = {line[1:] for line in told if line.startswith("+")}
        revoked = {line[1:] for line in told if line.startswith("-")}
        being_revoked = {line[1:] for line in told[-1:] if line in ("+k1", "+k3")}
        assert keys >= made - revoked - being_revoked
        assert not keys & revoked


# What is made up


def replace_a_file(place: Path, file_is_synced: bool, folder_is_synced: bool) -> None:
    file, other = place / "file", place / "other"
    file.write_bytes(b"o" * 2_000)
    sync(file)
    sync(place)
    other.write_bytes(b"n" * 2_000)
    if file_is_synced:
        sync(other)
    other.replace(file)
    if folder_is_synced:
        sync(place)
    tell("done")


@pytest.mark.parametrize(
    ("file_is_synced", "folder_is_synced", "expected"),
    [
        (True, True, {"new"}),
        (True, False, {"old", "new"}),
        (False, True, {"new", "part"}),
        (False, False, {"old", "new", "part"}),
    ],
)
def test_only_what_was_synced_is_sure(
    place: Path, file_is_synced: bool, folder_is_synced: bool, expected: set[str]
) -> None:
    work = f"replace_a_file(place, {file_is_synced}, {folder_is_synced})"
    found = set()
    for left, told in cuts(place, work, 400, seed=1):
        if told:
            data = (left / "file").read_bytes()
            found.add({b"o" * 2_000: "old", b"n" * 2_000: "new"}.get(data, "part"))
    assert found == expected
