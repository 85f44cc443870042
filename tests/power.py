"""What a disk may hold when the power fails, by what a process has asked the kernel to do.

The process is run under strace. Whatever it writes to a file, and every name that it gives or takes
away, is kept in order, and so is every sync: only what was synced is sure to be there after a cut.
Of the rest, `Disk.cut` makes something up.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
LONGEST_STRING = 1 << 22
PATIENCE_S = 300.0
JUST_TOLD = 0.2

CALLS = (
    "openat,open,close,dup,fcntl,lseek,read,write,pwrite64,ftruncate,fsync,fdatasync,rename,"
    "renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,mmap,sendfile"
)
NOT_KNOWN = (
    "creat,dup2,dup3,readv,writev,pwritev,pwritev2,truncate,fallocate,sync,syncfs,sync_file_range,"
    "symlink,symlinkat,copy_file_range,splice,io_uring_setup"
)
"""Calls that would be an error in the folder, since `Disk` does not know what they do."""

LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (\?|-?\w+)")
BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
ENDED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (\?|-?\w+)")


@dataclass(eq=False)
class Node:
    """A file or a folder, whatever its names."""

    is_folder: bool = False


@dataclass(frozen=True)
class Write:
    """These bytes are in a file from `offset` on; None: it ends there, or is longer with zeros."""

    at: int
    node: Node
    offset: int
    data: bytes | None


@dataclass(frozen=True)
class Naming:
    """Names in folders become those of other nodes, or of none: all of them at once."""

    at: int
    names: tuple[tuple[Node, str, Node | None], ...]


@dataclass(frozen=True)
class Sync:
    """What was done to a node before `began` is sure from `at` on."""

    at: int
    node: Node
    began: int


@dataclass
class Opened:
    """What a descriptor, or several, refer to."""

    node: Node
    offset: int = 0


@dataclass(frozen=True)
class Call:
    """What a process asked for, and got. `began`: how many others had ended by then."""

    name: str
    arguments: Sequence[str]
    result: int
    began: int


Tree = defaultdict[Node, dict[str, Node]]


def can_record(folder: Path) -> bool:
    """Whether there is a strace, and it may follow a process."""
    if not shutil.which("strace"):
        return False
    try:
        record(["true"], folder / "log")
    except subprocess.CalledProcessError:
        return False
    return True


def record(command: Sequence[str], log: Path) -> None:
    """Run a command, and write what it asks of the kernel to `log`."""
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-xx", "-s", str(LONGEST_STRING)]
    traced = ["-e", f"trace={CALLS},{NOT_KNOWN}", "-e", "raw=read", "-e", "signal=none"]
    subprocess.run([*strace, *traced, "-o", log, *command], check=True, timeout=PATIENCE_S)


class Disk:
    """A folder that was empty, and all that a process did in it, by a log of `record`.

    It may have threads, and no child that goes on. Within a folder names last in their order.
    `told`: when it wrote to its standard output, and what.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.told: list[tuple[int, str]] = []
        self._folder = os.fspath(folder)
        self._root = Node(is_folder=True)
        self._names: Tree = defaultdict(dict)
        self._opened: dict[int, Opened] = {}
        self._writes: list[Write] = []
        self._namings: list[Naming] = []
        self._syncs: list[Sync] = []
        self.end = 0
        for call in _calls(log):
            self._take(call)
            self.end += 1

    def moments(self, chance: random.Random, count: int) -> list[int]:
        """So many, of which a part come just after something was told."""
        first = self._namings[0].at
        told = [when + 1 for when, _ in self.told]
        return [
            chance.choice(told) if chance.random() < JUST_TOLD else chance.randint(first, self.end)
            for _ in range(count)
        ]

    def cut(self, at: int, chance: random.Random, to: Path) -> None:
        """Make `to` what may be left in the folder if the power fails when `at` is not yet done.

        As file systems differ, names last in the order in which they were given, with all that was
        given before any sync, or in each folder by itself, with what was before a sync of that.
        What was written to a file and not synced lasts, or some of its sectors, or nothing.
        """
        namings = [each for each in self._namings if each.at < at]
        syncs = [each for each in self._syncs if each.at < at]
        lasting = chance.choice([_lasting_in_order, _lasting_by_folder])
        likely: defaultdict[Node, float] = defaultdict(lambda: chance.choice([0.0, 0.5, 1.0]))
        sure = _sure(syncs)
        data: defaultdict[Node, bytearray] = defaultdict(bytearray)
        for each in self._writes:
            if each.at < at:
                lasts = 1.0 if each.at < sure.get(each.node, 0) else likely[each.node]
                _write(data[each.node], each, lasts, chance)
        _put(_named(lasting(namings, syncs, at, chance)), self._root, data, to)

    def put(self, to: Path) -> None:
        """Make `to` what is in the folder while the power stays on."""
        _put(_named(self._namings), self._root, self._written(lambda _: True), to)

    def _written(self, which: Callable[[Write], bool]) -> defaultdict[Node, bytearray]:
        data: defaultdict[Node, bytearray] = defaultdict(bytearray)
        for each in filter(which, self._writes):
            _write(data[each.node], each, 1.0, random.Random(0))
        return data

    def _take(self, call: Call) -> None:
        if call.name in NOT_KNOWN.split(","):
            elsewhere = not (self._of(call.arguments[0]) or any(map(self._path, call.arguments)))
            assert elsewhere, f"{call.name} is not known"
        elif call.name in ("openat", "open"):
            self._open(call)
        elif call.name in ("mkdir", "mkdirat"):
            self._name(self._place(call, 0), Node(is_folder=True))
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            self._name(self._place(call, 0), None)
        elif call.name.startswith("rename"):
            self._rename(self._place(call, 0), self._place(call, 1))
        elif call.name.startswith("link"):
            old, new = self._place(call, 0), self._place(call, 1)
            if new:
                assert old, "a file from elsewhere"
                self._name(new, self._names[old[0]][old[1]])
        else:
            self._take_of_descriptor(call)

    def _take_of_descriptor(self, call: Call) -> None:
        name, arguments, result = call.name, call.arguments, call.result
        if name == "write" and arguments[0] == "1":
            line = _string(arguments[1]).decode().strip()
            if line:
                self.told.append((self.end, line))
        if name == "mmap":
            opened = self._of(arguments[4])
            if opened and "PROT_WRITE" in arguments[2] and "MAP_SHARED" in arguments[3]:
                names = [each for names in self._names.values() for each in names.items()]
                (is_now,) = [name for name, node in names if node is opened.node]
                assert is_now.endswith("-shm"), f"{is_now} is written through memory"
            return
        opened = self._of(arguments[0])
        if not opened:
            return
        if name == "close":
            del self._opened[int(arguments[0])]
        elif name == "dup" or (name == "fcntl" and arguments[1].startswith("F_DUPFD")):
            self._opened[result] = opened
        elif name == "lseek":
            opened.offset = result
        elif name == "read":
            opened.offset += result
        elif name == "write":
            self._write(opened.node, opened.offset, _string(arguments[1])[:result])
            opened.offset += result
        elif name == "sendfile":
            source = self._of(arguments[1])
            assert source, "a file from elsewhere"
            start = int(arguments[2].split("]")[0].strip("["))
            data = self._written(lambda each: each.node is source.node)[source.node]
            self._write(opened.node, opened.offset, bytes(data[start : start + result]))
            opened.offset += result
        elif name == "pwrite64":
            self._write(opened.node, int(arguments[3]), _string(arguments[1])[:result])
        elif name == "ftruncate":
            self._write(opened.node, int(arguments[1]), None)
        elif name in ("fsync", "fdatasync"):
            self._syncs.append(Sync(self.end, opened.node, call.began))

    def _open(self, call: Call) -> None:
        self._opened.pop(call.result, None)
        place = self._place(call, 0)
        flags = call.arguments[1 if call.name == "open" else 2].split("|")
        if place is None:
            return
        assert not {"O_APPEND", "O_TMPFILE"}.intersection(flags), f"{flags} are not known"
        folder, name = place
        node = self._root if not name else self._names[folder].get(name)
        if node is None:
            assert "O_CREAT" in flags, f"{name} is not known"
            node = Node()
            self._name(place, node)
        elif "O_TRUNC" in flags:
            self._write(node, 0, None)
        self._opened[call.result] = Opened(node)

    def _write(self, node: Node, offset: int, data: bytes | None) -> None:
        self._writes.append(Write(self.end, node, offset, data))

    def _name(self, place: tuple[Node, str] | None, node: Node | None) -> None:
        if place:
            self._namings.append(Naming(self.end, ((*place, node),)))
            _name(self._names, self._namings[-1])

    def _rename(self, old: tuple[Node, str] | None, new: tuple[Node, str] | None) -> None:
        if old or new:
            assert old, "a file from elsewhere"
            assert new, "a file to elsewhere"
            node = self._names[old[0]][old[1]]
            self._namings.append(Naming(self.end, ((*old, None), (*new, node))))
            _name(self._names, self._namings[-1])

    def _of(self, descriptor: str) -> Opened | None:
        return self._opened.get(int(descriptor, 0)) if _is_number(descriptor) else None

    def _place(self, call: Call, which: int) -> tuple[Node, str] | None:
        """The folder and the name of a path, the `which`th of a call; None if it is elsewhere. The
        name is empty for the folder itself."""
        at = [number for number, each in enumerate(call.arguments) if each.startswith('"')][which]
        path = os.fsdecode(_string(call.arguments[at]))
        beside = self._of(call.arguments[at - 1]) if at else None
        if beside and not path.startswith("/"):
            node, parts = beside.node, path.split("/")
        elif path == self._folder or path.startswith(f"{self._folder}/"):
            node, parts = self._root, path[len(self._folder) + 1 :].split("/")
        else:
            return None
        for part in parts[:-1]:
            node = self._names[node][part]
        return node, parts[-1]

    def _path(self, argument: str) -> bool:
        return argument.startswith('"') and os.fsdecode(_string(argument)).startswith(self._folder)


def _calls(log: Path) -> Iterator[Call]:
    """The calls that did not fail, in the order in which they ended."""
    begun: dict[str, tuple[str, int]] = {}
    ended = 0
    with log.open(encoding="ascii") as lines:
        for line in lines:
            if first := BEGUN.match(line):
                begun[first[1]] = first[3], ended
                if first[2] == "close":  # its number may be another's before it has ended
                    yield Call("close", [first[3]], 0, ended)
                    ended += 1
                continue
            if rest := ENDED.match(line):
                arguments, began = begun.pop(rest[1])
                name, arguments, result = rest[2], arguments + rest[3], rest[4]
            else:
                whole = LINE.match(line)
                assert whole, f"not a call: {line[:200]}"
                began, (_, name, arguments, result) = ended, whole.groups()
            if result.startswith(("-", "?")) or (rest and name == "close"):
                continue
            yield Call(name, arguments.split(", "), int(result, 0), began)
            ended += 1


def _is_number(argument: str) -> bool:
    return argument.isdecimal() or argument.startswith("0x")


def _string(argument: str) -> bytes:
    assert argument.endswith('"'), "a string is cut off"
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))


def _lasting_in_order(
    namings: Sequence[Naming], syncs: Sequence[Sync], at: int, chance: random.Random
) -> list[Naming]:
    sure = max((each.began for each in syncs), default=0)
    until = chance.choice([sure, chance.randint(sure, at), at])
    return [each for each in namings if each.at < until]


def _lasting_by_folder(
    namings: Sequence[Naming], syncs: Sequence[Sync], at: int, chance: random.Random
) -> list[Naming]:
    sure = _sure(syncs)
    folders = dict.fromkeys(folder for each in namings for folder, _, _ in each.names)
    until = {
        folder: max(sure.get(folder, 0), chance.choice([0, chance.randint(0, at), at]))
        for folder in folders
    }
    return [
        each
        for each in namings
        if all(each.at < until[folder] for folder, _, _ in each.names)
        or any(each.at < sure.get(folder, 0) for folder, _, _ in each.names)
    ]


def _sure(syncs: Iterable[Sync]) -> dict[Node, int]:
    """Until when what was done to each is sure."""
    sure: dict[Node, int] = {}
    for each in syncs:
        sure[each.node] = max(sure.get(each.node, 0), each.began)
    return sure


def _named(namings: Iterable[Naming]) -> Tree:
    tree: Tree = defaultdict(dict)
    for each in namings:
        _name(tree, each)
    return tree


def _name(tree: Tree, naming: Naming) -> None:
    for folder, name, node in naming.names:
        if node is None:
            tree[folder].pop(name, None)
        else:
            tree[folder][name] = node


def _write(data: bytearray, write: Write, likely: float, chance: random.Random) -> None:
    """Put into a file what is written, each sector of it as likely as that."""
    if write.data is None:
        if chance.random() < likely:
            data[write.offset :] = bytes(max(0, write.offset - len(data)))
        return
    for start in range(0, len(write.data), SECTOR):
        if chance.random() < likely:
            part = write.data[start : start + SECTOR]
            offset = write.offset + start
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(part)] = part


def _put(tree: Tree, folder: Node, data: Mapping[Node, bytearray], to: Path) -> None:
    to.mkdir()
    for name, node in tree[folder].items():
        if node.is_folder:
            _put(tree, node, data, to / name)
        else:
            (to / name).write_bytes(data[node])
