"""A clock that jumps to the next timer, for tests of what takes minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from satmeter.scripts.simulation.loop import Chance, SimulatedLoop

T = TypeVar("T")


def in_no_time(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine whose waiting costs no time. It must not wait for threads or sockets."""
    loop = SimulatedLoop(Chance(0))
    try:
        return loop.run_until_complete(work)
    finally:
        loop.end()


async def pass_time(seconds: float) -> None:
    """Returns after so many seconds of the loop's clock."""
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, passed.set_result, None)
    await passed


async def seconds_of(work: Awaitable[T]) -> tuple[float, T | BaseException]:
    """Measure a call by the loop's clock; return its seconds, and what it gave or raised."""
    began_s = asyncio.get_running_loop().time()
    outcome: T | BaseException
    try:
        outcome = await work
    except Exception as error:
        outcome = error
    return asyncio.get_running_loop().time() - began_s, outcome
