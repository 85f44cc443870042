"""The keys of an archive: made once, kept hashed, never half-written, all compared."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rag import keys as keys_module
from rag.archive import Archive
from rag.errors import (
    ArchiveBusy,
    InvalidRequest,
    KeyNotFound,
    KeysDamaged,
    StorageFailed,
)
from rag.keys import Key, KeyFile, Right, key_of

ROOT = Path(__file__).parents[1]


def names(folder: Path) -> list[str]:
    """As a process has them that never looked before."""
    return [key.name for key in KeyFile(folder).keys() or ()]


def apart(code: str, *given: str) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own."""
    command = [sys.executable, "-c", f"import sys\nfrom rag.keys import KeyFile\n{code}", *given]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_key_is_told_once_and_kept_hashed(tmp_path: Path) -> None:
    made, secret = KeyFile(tmp_path / "new").add("reader")
    file = tmp_path / "new" / "keys.json"
    assert secret.startswith("rag_")
    assert len(secret) == len("rag_") + 43  # 256 bits, six a letter
    content = file.read_text()
    assert secret not in content
    assert secret.removeprefix("rag_") not in content
    assert made.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert made.sha256 in content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert KeyFile(tmp_path / "new").add("another")[1] != secret


def test_rights_are_those_that_were_given(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.add("reader")
    file.add("writer", write=True)
    assert {key.name: key.rights for key in KeyFile(tmp_path).keys() or ()} == {
        "reader": (Right.ASK,),
        "writer": (Right.ASK, Right.WRITE),
    }


def test_a_key_that_was_revoked_is_gone(tmp_path: Path) -> None:
    file, other = KeyFile(tmp_path), KeyFile(tmp_path)
    secrets = [file.add(name)[1].encode() for name in ("one", "two")]
    assert key_of(other.keys() or (), secrets[0])
    assert file.revoke("one") == 1
    assert key_of(other.keys() or (), secrets[0]) is None
    assert key_of(other.keys() or (), secrets[1])
    with pytest.raises(KeyNotFound, match="'one'"):
        file.revoke("one")
    assert file.revoke("two") == 0
    assert other.keys() == ()


def test_no_file_is_not_the_same_as_no_key(tmp_path: Path) -> None:
    assert KeyFile(tmp_path / "nowhere").keys() is None
    with pytest.raises(KeyNotFound):
        KeyFile(tmp_path).revoke("one")
    assert KeyFile(tmp_path).keys() is None


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys.json")
    faults: list[str] = []

    def read() -> None:
        with pytest.raises(KeysDamaged) as caught:
            KeyFile(tmp_path).keys()
        faults.append(str(caught.value))

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(30)
    (fault,) = faults
    assert "no regular file" in fault
    assert "No backup holds keys" in fault


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\n", "x" * 65, "\udcff"])
def test_a_name_that_cannot_be_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        KeyFile(tmp_path).add(name)
    assert not (tmp_path / "keys.json").exists()


def test_a_name_stands_for_one_key(tmp_path: Path) -> None:
    KeyFile(tmp_path).add("zoë@news.example")
    with pytest.raises(InvalidRequest, match="revoke it first"):
        KeyFile(tmp_path).add("zoë@news.example", write=True)
    (key,) = KeyFile(tmp_path).keys() or ()
    assert key.rights == (Right.ASK,)


@pytest.mark.parametrize("place", [0, 1, 2, None])
def test_all_keys_are_compared_whichever_is_right(
    place: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = [b"first", b"second", b"third"]
    keys = [
        Key(str(number), (Right.ASK,), "2026-01-01", hashlib.sha256(secret).hexdigest())
        for number, secret in enumerate(secrets)
    ]
    compared: list[str] = []
    compare = hmac.compare_digest

    def counting(one: str, other: str) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    found = key_of(keys, b"none of them" if place is None else secrets[place])
    assert compared == [key.sha256 for key in keys]
    assert found == (None if place is None else keys[place])


def _whole() -> dict[str, Any]:
    key = {"name": "one", "rights": ["ask"], "made": "2026-01-01", "sha256": "0" * 64}
    return {"format": 1, "keys": [key]}


def _with(**fields: Any) -> str:
    document = _whole()
    document["keys"][0] |= fields
    return json.dumps(document)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 2, "keys": []}',
        '{"format": 1, "keys": null}',
        '{"format": 1, "keys": [[]]}',
        '{"format": 1, "keys": "one"}',
        "[" * 100_000,
        "\udcff\udcfe",
        json.dumps(_whole())[:-10],
        json.dumps({**_whole(), "keys": _whole()["keys"] * 2}),
        _with(rights=[]),
        _with(rights=["all"]),
        _with(rights="ask"),
        _with(rights=5),
        _with(name=""),
        _with(name=None),
        _with(made="soon"),
        _with(sha256="0" * 63),
        _with(sha256=""),
        _with(more=1),
    ],
)
def test_a_damaged_file_is_no_file_without_keys(content: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(_whole()))
    known = KeyFile(tmp_path)
    assert known.keys()
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    for each in (known, KeyFile(tmp_path)):
        for _ in range(2):
            with pytest.raises(KeysDamaged, match=r"keys\.json"):
                each.keys()
    with pytest.raises(KeysDamaged):
        KeyFile(tmp_path).add("two")
    assert file.read_bytes() == content.encode("utf-8", "surrogateescape")
    (fault,) = Archive(tmp_path).check()
    assert fault.part == "keys.json"
    file.write_text(json.dumps(_whole()))
    assert known.keys()
    assert Archive(tmp_path).check() == []


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "keys.json").mkdir()
    with pytest.raises(KeysDamaged, match="cannot be read"):
        KeyFile(tmp_path).keys()


def test_a_link_to_nothing_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "keys.json").symlink_to(tmp_path / "unmounted" / "keys.json")
    with pytest.raises(KeysDamaged, match="not there"):
        KeyFile(tmp_path).keys()


def test_keys_that_several_processes_make_at_once_are_all_there(tmp_path: Path) -> None:
    code = "for number in range(8): KeyFile(Path(sys.argv[1])).add(sys.argv[2] + str(number))"
    code = f"import sys\nfrom pathlib import Path\nfrom rag.keys import KeyFile\n{code}"
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in "abc"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert sorted(names(tmp_path)) == [f"{name}{number}" for name in "abc" for number in range(8)]


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_process_that_is_killed_while_it_writes_loses_no_key(call: str, tmp_path: Path) -> None:
    KeyFile(tmp_path).add("one")
    killed = apart(
        "import os, pathlib\n"
        f"{call} = lambda *_: os.kill(os.getpid(), 9)\n"
        "KeyFile(pathlib.Path(sys.argv[1])).revoke('one')",
        str(tmp_path),
    )
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "keys.json.tmp").exists()
    assert names(tmp_path) == ["one"]
    KeyFile(tmp_path).add("two")
    assert names(tmp_path) == ["one", "two"]
    assert not (tmp_path / "keys.json.tmp").exists()


def test_a_disk_that_takes_nothing_loses_no_key(tmp_path: Path) -> None:
    KeyFile(tmp_path).add("one")
    told = apart(
        "import resource, pathlib, rag.errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: KeyFile(pathlib.Path(sys.argv[1])).add('two')\n"
        "except rag.errors.StorageFailed as error: print(error)",
        str(tmp_path),
    )
    assert "File too large" in told.stdout
    assert names(tmp_path) == ["one"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed):
        KeyFile(tmp_path / "file").add("one")


def test_who_changes_keys_waits_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "LOCK_TIMEOUT_S", 0.05)
    with FileLock(tmp_path / "keys.lock"), pytest.raises(ArchiveBusy, match="its keys"):
        KeyFile(tmp_path).add("one")
    assert names(tmp_path) == []


# The command line.


def test_the_commands(rag: Any, tmp_path: Path) -> None:
    made = rag("key", "add", "reader")
    assert made.code == 0
    assert made.out.startswith("rag_")
    assert len(made.out.split()) == 1  # so that KEY=$(rag key add reader) is the key
    writer = rag("key", "add", "writer", "--write", "--json").json
    assert (writer["name"], writer["rights"]) == ("writer", ["ask", "write"])
    assert writer["key"].startswith("rag_")
    listed = rag("key", "list", "--json")
    assert [(key["name"], key["rights"]) for key in listed.json["keys"]] == [
        ("reader", ["ask"]),
        ("writer", ["ask", "write"]),
    ]
    for text in (listed.out, rag("key", "list").out):
        assert "rag_" not in text
        assert writer["made"] in text
    assert rag("key", "revoke", "reader", "--json").json == {"revoked": "reader", "left": 1}
    assert "keys.json" not in rag("key", "add", "third").err
    rag("key", "revoke", "writer")
    last = rag("key", "revoke", "third")
    assert (last.code, last.out) == (0, "revoked third\n")
    assert "let nobody in" in last.err
    assert str(tmp_path / "index" / "keys.json") in last.err
    assert rag("key", "list", "--json").json == {"keys": []}
    assert "no key" in rag("key", "list").err


def test_calls_that_are_wrong(rag: Any) -> None:
    assert rag("key", "revoke", "nobody", "--json").json["error"]["type"] == "KeyNotFound"
    assert rag("key", "revoke", "nobody").code == 1
    rag("key", "add", "reader")
    assert rag("key", "add", "reader").code == 2
    assert rag("key").code == 2
    assert rag("key", "nonsense").code == 2


def test_an_archive_with_keys_alone_is_empty_and_sound(rag: Any) -> None:
    rag("key", "add", "reader")
    assert rag("check", "--json").json == {"sound": True, "faults": []}
    assert rag("status", "--json").json["articles"] == 0
