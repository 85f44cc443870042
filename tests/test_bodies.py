"""What happens to two bodies in one turn of the loop, which no socket can bring about."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive, Scope, Send

from rag.bodies import SMALL_BYTES, Bodies

LARGE_BYTES = SMALL_BYTES + 1000


async def taken(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def statuses_of_a_body_whose_time_is_up_when_its_room_is_wanted() -> list[int]:
    limits = {"/articles": LARGE_BYTES}
    bodies = Bodies(taken, limits=limits, timeout_s=0.2, most_bytes=LARGE_BYTES - SMALL_BYTES)
    loop = asyncio.get_running_loop()
    statuses: list[int] = []

    async def send(message: Message) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    def client() -> tuple[asyncio.Queue[Message], asyncio.Task[None]]:
        scope = {"type": "http", "method": "POST", "path": "/articles", "headers": []}
        messages: asyncio.Queue[Message] = asyncio.Queue()
        return messages, loop.create_task(bodies(scope, messages.get, send))

    def part(*, more: bool) -> Message:
        return {"type": "http.request", "body": b"x" * LARGE_BYTES, "more_body": more}

    stalled, first = client()
    await stalled.put(part(more=True))
    await asyncio.sleep(0.1)
    (body,) = bodies._coming
    due = body.deadline.when()
    assert due is not None
    whole, second = client()
    loop.call_at(due - 0.01, time.sleep, 0.03)  # the next turn of the loop finds both due
    loop.call_at(due - 0.005, whole.put_nowait, part(more=False))
    await asyncio.gather(first, second)
    return sorted(statuses)


def test_a_body_whose_time_is_up_when_its_room_is_wanted() -> None:
    found = asyncio.run(statuses_of_a_body_whose_time_is_up_when_its_room_is_wanted())
    assert found == [200, 429]
