"""Whose turn it is to run the model: questions first and together, passages when none waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

PATIENCE_S = 0.5
"""How long passages wait while questions keep coming; then one batch of them goes first."""

Question = TypeVar("Question")
Given = TypeVar("Given")


class Turns(Generic[Question, Given]):
    """Lets threads take turns at the model.

    Questions that came while a pass of others was running share the next one; a question that finds
    none waits for nobody. A batch of passages begins when no question is there, one at a time; a
    question that comes then does not wait for its end, which would be 80 ms.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Question]], Sequence[Given]],
        fitting: Callable[[Sequence[Question]], int],
    ) -> None:
        """`run` gives a result for each question of a pass; `fitting` says how many of those that
        wait, from the first on, go into one."""
        self._run = run
        self._fitting = fitting
        self._changed = threading.Condition()
        self._running = False
        self._waiting: list[tuple[Question, Future[Given]]] = []
        self._batch = threading.Lock()

    def share(self, question: Question) -> Given:
        """The result for a question, from the next pass that it fits into."""
        mine: Future[Given] = Future()
        with self._changed:
            self._waiting.append((question, mine))
        while together := self._together(mine):
            self._answer(together)
        return mine.result()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A turn for a batch of passages."""
        with self._batch:
            with self._changed:
                self._changed.wait_for(self._idle, PATIENCE_S)
            yield

    def _idle(self) -> bool:
        return not (self._running or self._waiting)

    def _together(self, mine: Future[Given]) -> list[tuple[Question, Future[Given]]]:
        """The questions to run now, once it is their turn; none when another thread took mine."""

        def taken() -> bool:
            return all(future is not mine for _, future in self._waiting)

        with self._changed:
            self._changed.wait_for(lambda: taken() or not self._running)
            if taken():
                return []
            count = self._fitting([question for question, _ in self._waiting])
            together, self._waiting = self._waiting[:count], self._waiting[count:]
            self._running = True
            # Those that are taken need not wait for the end of this pass to see it.
            self._changed.notify_all()
            return together

    def _answer(self, together: Sequence[tuple[Question, Future[Given]]]) -> None:
        try:
            results = self._run([question for question, _ in together])
        except BaseException as error:
            for _, future in together:
                future.set_exception(error)
        else:
            for (_, future), result in zip(together, results, strict=True):
                future.set_result(result)
        finally:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._running = False
            self._changed.notify_all()
