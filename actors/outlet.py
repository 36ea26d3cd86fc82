"""What an effect says before its end to those who wait for it, and how it learns that nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from .domain.behaviour import Reply

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Outlet:
    """One for each effect that runs.

    emit: gives something to all who wait, and to those who join them later. stopped: nobody waits any more; an effect
    that has `begun`, and can still say what it used, is then cancelled once.
    """

    emit: Callable[[Reply], None]
    begun: bool = False
    stopped: bool = False

    async def while_heard(self, work: Callable[[], Awaitable[T]], what_there_is: Callable[[], T]) -> T:
        """The outcome of the work; what there is of it, when nobody waits for it any more."""
        if self.stopped:
            return what_there_is()
        self.begun = True
        try:
            return await work()
        except asyncio.CancelledError:
            if not self.stopped:
                raise
            # Cancelled only to end the provider's work; what it has used is charged all the same.
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            return what_there_is()
