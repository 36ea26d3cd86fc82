"""Waits of an answer: for the first of several futures, and for the client to go."""

from __future__ import annotations

import asyncio

import pytest

from satmeter.http.edge.connections import CONNECTION
from satmeter.http.response.waiting import Departure, Ending, first_of


class Connection:
    """A connection whose end the test decides."""

    def __init__(self) -> None:
        self.end = asyncio.get_running_loop().create_future()

    def left(self) -> asyncio.Future[None]:
        return self.end


async def never() -> None:
    await asyncio.Event().wait()


async def test_the_first_that_is_done_ends_the_wait_and_the_others_go_on() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    waiting = asyncio.ensure_future(first_of(first, second, within_s=60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    second.set_result(None)
    await waiting
    assert not first.done()


async def test_a_wait_ends_when_its_time_is_over() -> None:
    task = asyncio.ensure_future(never())
    await first_of(task, within_s=0.0)
    assert not task.done()
    task.cancel()


async def test_what_is_done_before_is_not_waited_for_and_its_error_is_not_raised() -> None:
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(ValueError())
    await first_of(failed)
    assert isinstance(failed.exception(), ValueError)


async def test_a_wait_that_is_cancelled_cancels_nothing() -> None:
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(first_of(future))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not future.cancelled()


async def test_a_front_s_connection_tells_of_its_end_without_a_task() -> None:
    connection, tasks = Connection(), asyncio.all_tasks()
    departure = Departure({CONNECTION: connection}, never)  # type: ignore[arg-type]
    await departure.forget()
    assert not departure.future.cancelled() and asyncio.all_tasks() == tasks
    connection.end.set_result(None)
    assert departure.future.done()


async def test_any_other_server_is_asked_by_a_task_that_ends_with_the_wait() -> None:
    gone = asyncio.get_running_loop().create_future()
    departure = Departure({}, lambda: gone)
    await asyncio.sleep(0)
    gone.set_result({"type": "http.disconnect"})
    await first_of(departure.future)
    assert departure.future.done()
    other = Departure({}, never)  # type: ignore[arg-type]
    await other.forget()
    assert other.future.cancelled()


async def test_a_wait_ends_with_the_process_and_leaves_nothing_behind() -> None:
    ending, future = Ending(), asyncio.get_running_loop().create_future()
    await first_of(future, within_s=0.0, ending=ending)
    assert not ending._waiting
    waiting = asyncio.ensure_future(first_of(future, ending=ending))
    await asyncio.sleep(0)
    assert not waiting.done()
    ending.set()
    await waiting
    await first_of(future, ending=ending)
    assert not ending._waiting and not future.done()
