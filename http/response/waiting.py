"""Waits for one of several futures, in a third of the memory of `asyncio.wait`, and for the client to go."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from starlette.types import Receive, Scope

from ..edge.connections import CONNECTION


class Ending:
    """The end of this process, for which thousands of answers wait, each without a task of its own."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        """Return whether it has come."""
        return self._is_set

    def set(self) -> None:
        """Wake all that wait."""
        self._is_set = True
        for waiting in self._waiting:
            _release(waiting)

    def add(self, waiting: asyncio.Future[None]) -> None:
        """Have this future done when it comes."""
        self._waiting.add(waiting)

    def discard(self, waiting: asyncio.Future[None]) -> None:
        """Leave this future alone."""
        self._waiting.discard(waiting)


async def first_of(*futures: asyncio.Future[Any], within_s: float | None = None, ending: Ending | None = None) -> None:
    """Return when one of the futures is done, or after `within_s`, or at the end. They go on; nothing is raised."""
    if any(future.done() for future in futures) or (ending is not None and ending.is_set()):
        return
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()
    release = partial(_release, waiting)
    timer = None if within_s is None else loop.call_later(within_s, release)
    for future in futures:
        future.add_done_callback(release)
    if ending is not None:
        ending.add(waiting)
    try:
        await waiting
    finally:
        if timer is not None:
            timer.cancel()
        if ending is not None:
            ending.discard(waiting)
        for future in futures:
            future.remove_done_callback(release)


def _release(waiting: asyncio.Future[None], *_: object) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Departure:
    """The end of a client's connection. `future` is done once the client has gone; forget it in the end.

    The request's body must have been read, unless there is none; `unread` if that is not known.
    """

    __slots__ = ("_task", "future")

    def __init__(self, scope: Scope, receive: Receive, *, unread: bool = False) -> None:
        # A server of another kind than the front's, as in tests, tells it only to a task that asks. That task also
        # reads a body: nothing behind what a connection holds of it would be read, not even its end.
        self._task = None if CONNECTION in scope and not unread else asyncio.create_task(gone(receive))
        self.future: asyncio.Future[None] = scope[CONNECTION].left() if self._task is None else self._task

    async def forget(self) -> None:
        """Wait no longer."""
        if self._task is not None:
            await cancel(self._task)


async def gone(receive: Receive) -> None:
    """Return when the client has gone away; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel these tasks, and return when they have ended; their exceptions are dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
