"""Small parts of a connection: they do what those of the standard library do, in less memory."""

from __future__ import annotations

import asyncio
import sys

import pytest

from satmeter.http.edge.slim import SlimEvent, SlimQueue


async def test_all_who_wait_are_woken_and_later_ones_do_not_wait() -> None:
    event = SlimEvent()
    waiting = [asyncio.ensure_future(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not event.is_set() and not any(task.done() for task in waiting)
    event.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert event.is_set() and await event.wait()


async def test_a_cleared_event_is_waited_for_again() -> None:
    event = SlimEvent(is_set=True)
    event.clear()
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    event.set()
    assert await waiting


async def test_one_that_gives_up_does_not_keep_others_from_being_woken() -> None:
    event = SlimEvent()
    leaves, stays = asyncio.ensure_future(event.wait()), asyncio.ensure_future(event.wait())
    await asyncio.sleep(0)
    leaves.cancel()
    event.set()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert await stays


def test_requests_leave_the_queue_as_they_came() -> None:
    queue: SlimQueue[int] = SlimQueue()
    assert not queue
    for number in range(3):
        queue.appendleft(number)
    assert [queue.pop() for _ in range(3)] == [0, 1, 2]


def test_they_take_a_tenth_of_the_memory() -> None:
    assert sys.getsizeof(SlimEvent()) < 100 and sys.getsizeof(SlimQueue()) < 100
