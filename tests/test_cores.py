"""Cores this process may use: by the environment, its affinity and its control group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from rag import cores as module
from rag.cores import blas_threads, cores


@pytest.fixture(autouse=True)
def _six_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(module, "CONTROL_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(module, "CONTROL_GROUPS", tmp_path / "groups")


def control(tmp_path: Path, path: str, **limits: str) -> None:
    """A control group at `path`; `limits` by its folders' names, `root` for the first."""
    (tmp_path / "cgroup").write_text(f"0::{path}\n")
    for name, limit in limits.items():
        folder = tmp_path / "groups" / ("" if name == "root" else name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(limit + "\n")


def test_those_the_process_may_run_on() -> None:
    assert cores() == 6


@pytest.mark.parametrize(("given", "count"), [("1", 1), ("9", 9), ("", 6), ("x", 6), ("0", 6)])
def test_the_environment_goes_first(
    given: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert cores() == count


@pytest.mark.parametrize(
    ("limit", "count"),
    [("max 100000", 6), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1),
     ("900000 100000", 6), ("", 6), ("x y", 6)],
)  # fmt: skip
def test_a_control_group_gives_a_part_of_them(limit: str, count: int, tmp_path: Path) -> None:
    control(tmp_path, "/", root=limit)
    assert cores() == count


def test_the_least_of_all_groups_above_counts(tmp_path: Path) -> None:
    (tmp_path / "groups" / "a" / "b").mkdir(parents=True)
    control(tmp_path, "/a/b", a="300000 100000", root="max 100000")
    assert cores() == 3


def test_an_older_control_group_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("4:cpu:/x\n")
    assert cores() == 6


def used() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_numpy_multiplies_in_as_many_threads_as_it_is_told() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, user_api="blas"):
        blas_threads(1)
        assert used() == {1}
        with blas_threads(2):
            assert used() == {2}
        assert used() == {1}
