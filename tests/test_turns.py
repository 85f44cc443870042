"""Turns at the model: questions together and first, passages one batch at a time, nobody
forgotten."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rag import turns
from rag.turns import Turns

WAIT_S = 20


class Model:
    """Doubles numbers; `passes` holds what came together, and a pass of 0 waits for `go`."""

    def __init__(self, room: int = 100) -> None:
        self.passes: list[list[int]] = []
        self.began = threading.Event()
        self.go = threading.Event()
        self.inside = [0, 0]
        self.turns: Turns[int, int] = Turns(self.run, lambda waiting: min(room, len(waiting)))

    def run(self, numbers: Sequence[int], kind: int = 0) -> list[int]:
        self.inside[kind] += 1
        assert self.inside[kind] == 1, "two passes of a kind at once"
        self.passes.append(list(numbers))
        if 0 in numbers:
            self.began.set()
            assert self.go.wait(WAIT_S)
        self.inside[kind] -= 1
        if -1 in numbers:
            raise MemoryError("no room")
        return [2 * number for number in numbers]

    def waiting(self, count: int) -> None:
        """Return once so many questions wait."""
        until = time.monotonic() + WAIT_S
        while len(self.turns._waiting) != count:
            assert time.monotonic() < until
            time.sleep(0.001)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def busy(model: Model, threads: ThreadPoolExecutor) -> Future[int]:
    """Have a pass of one question begin that ends when `model.go` is set."""
    first = threads.submit(model.turns.share, 0)
    assert model.began.wait(WAIT_S)
    return first


def test_a_question_that_finds_the_model_idle_runs_at_once_and_alone(model: Model) -> None:
    assert [model.turns.share(number) for number in (1, 2, 3)] == [2, 4, 6]
    assert model.passes == [[1], [2], [3]]


def test_questions_that_came_while_a_pass_ran_share_the_next(
    model: Model, threads: ThreadPoolExecutor
) -> None:
    first = busy(model, threads)
    rest = []
    for number in range(1, 9):
        rest.append(threads.submit(model.turns.share, number))
        model.waiting(number)
    model.go.set()
    assert [each.result(WAIT_S) for each in (first, *rest)] == [2 * n for n in range(9)]
    assert model.passes == [[0], list(range(1, 9))]


def test_more_than_fit_into_a_pass_take_several_in_their_order(
    threads: ThreadPoolExecutor,
) -> None:
    model = Model(room=3)
    first = busy(model, threads)
    rest = []
    for number in range(1, 9):
        rest.append(threads.submit(model.turns.share, number))
        model.waiting(number)
    model.go.set()
    assert [each.result(WAIT_S) for each in (first, *rest)] == [2 * n for n in range(9)]
    assert model.passes == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]


def passages(model: Model, name: int) -> None:
    with model.turns.alone():
        model.run([name], kind=1)


def test_questions_that_wait_go_before_passages_that_waited_longer(
    model: Model, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", WAIT_S)
    first = busy(model, threads)
    batch = threads.submit(passages, model, 50)
    time.sleep(0.05)  # it waits now, before the questions
    asked = []
    for number in (1, 2):
        asked.append(threads.submit(model.turns.share, number))
        model.waiting(number)
    model.go.set()
    batch.result(WAIT_S)
    assert [each.result(WAIT_S) for each in (first, *asked)] == [0, 2, 4]
    assert model.passes == [[0], [1, 2], [50]]


def test_a_question_does_not_wait_for_a_batch_of_passages_to_end(model: Model) -> None:
    with model.turns.alone():
        assert model.turns.share(1) == 2


def test_batches_of_passages_go_one_by_one(model: Model, threads: ThreadPoolExecutor) -> None:
    with model.turns.alone():
        batch = threads.submit(passages, model, 50)
        with pytest.raises(TimeoutError):
            batch.result(0.1)
    batch.result(WAIT_S)
    assert model.passes == [[50]]


def test_passages_get_their_turn_while_questions_never_end(
    model: Model, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 0.02)
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            assert model.turns.share(1) == 2

    def flood() -> list[Future[None]]:
        return [threads.submit(ask) for _ in range(16)]

    asking = flood()
    for name in range(50, 60):
        threads.submit(passages, model, name).result(WAIT_S)
    ended.set()
    for each in asking:
        each.result(WAIT_S)
    assert [each[0] for each in model.passes if each[0] >= 50] == list(range(50, 60))


def test_an_error_reaches_all_who_shared_the_pass_and_nobody_else(
    model: Model, threads: ThreadPoolExecutor
) -> None:
    first = busy(model, threads)
    bad = [threads.submit(model.turns.share, -1)]
    model.waiting(1)
    bad.append(threads.submit(model.turns.share, 5))
    model.waiting(2)
    model.go.set()
    assert first.result(WAIT_S) == 0
    for each in bad:
        with pytest.raises(MemoryError, match="no room"):
            each.result(WAIT_S)
    assert model.turns.share(7) == 14


def test_an_error_in_a_batch_of_passages_frees_the_model(model: Model) -> None:
    with pytest.raises(MemoryError):
        passages(model, -1)
    assert model.turns.share(7) == 14


def test_under_any_load_each_gets_its_own_result_from_a_pass(
    model: Model, threads: ThreadPoolExecutor
) -> None:
    def ask(number: int) -> int:
        time.sleep(random.Random(number).random() / 500)
        return model.turns.share(number)

    def load(number: int) -> int:
        time.sleep(random.Random(number).random() / 500)
        passages(model, number)
        return 2 * number

    calls: list[Callable[[int], int]] = [ask, ask, ask, load]
    numbers = range(1, 1_001)
    found = [threads.submit(calls[number % 4], number) for number in numbers]
    assert [each.result(WAIT_S) for each in found] == [2 * number for number in numbers]
    assert sorted(number for each in model.passes for number in each) == list(numbers)
