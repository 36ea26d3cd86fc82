"""Queue for calls that make invoices: a few at once, the urgent ones first, and none that can't be served in time."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from ...ports import TransientError, Urgency

# Length of a call, until the first one has been measured.
_FIRST_GUESS_S: Final = 0.1
# Weight of the last call in the moving average of a call's length.
_WEIGHT: Final = 0.25
_RETRY_AFTER_MAX_S: Final = 60


class InvoiceQueue:
    """Queue that lets `slots` callers through at once, by their urgency and then in the order of their arrival.

    Invoices made ahead never wait, and leave a slot free for the next caller. A new client whose call would not end
    within `patience_s`, at the pace of the last ones, is turned away at once: the wait would be for nothing, and would
    delay all who come later. A client that has paid is never turned away.
    """

    def __init__(self, slots: int, *, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._free = slots
        self._patience_s = patience_s
        self._clock = clock
        self._call_s = _FIRST_GUESS_S
        self._waiting: dict[Urgency, deque[asyncio.Future[None]]] = {
            Urgency.PAID: deque(),
            Urgency.NEW: deque(),
        }

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncIterator[None]:
        """Hold a slot for one call. Raises `TransientError` when there will be none in time."""
        await self._acquire(urgency)
        began_s = self._clock()
        try:
            yield
        finally:
            self._call_s += _WEIGHT * (self._clock() - began_s - self._call_s)
            self._release()

    async def _acquire(self, urgency: Urgency) -> None:
        if urgency is Urgency.AHEAD and self._free < 2:
            raise TransientError("the Lightning node has enough to do with invoices that somebody waits for")
        if self._free:
            self._free -= 1
            return
        if urgency is Urgency.NEW:
            self._turn_away_in_vain()
        queue, turn = self._waiting[urgency], asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                queue.remove(turn)
            else:
                self._release()  # The cancelled caller had just been given the slot.
            raise

    def _turn_away_in_vain(self) -> None:
        before = sum(len(queue) for queue in self._waiting.values())
        wait_s = self._call_s * ((before + 1) / self._slots + 1)
        if wait_s > self._patience_s:
            retry_after_s = min(math.ceil(wait_s - self._patience_s), _RETRY_AFTER_MAX_S)
            raise TransientError(f"{before} others wait for invoices of the Lightning node", retry_after_s)

    def _release(self) -> None:
        """Give the slot to the next caller. A caller that was cancelled, but does not know it yet, is passed over."""
        for queue in self._waiting.values():
            for turn in queue:
                if not turn.done():
                    queue.remove(turn)
                    turn.set_result(None)
                    return
        self._free += 1
