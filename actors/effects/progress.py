"""Progress of an effect: its replies before its end, and its notice that no caller waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ..domain.behaviour import Reply

T = TypeVar("T")


class UnheardError(Exception):
    """End of an effect that no caller waits for any more, at a point where it knows what it has used."""


def _not_at_all() -> float:
    return 0.0


@dataclass(slots=True, eq=False)
class ProgressChannel:
    """Channel for the progress of one effect under way.

    emit: gives a reply to all who wait, and to those who join them later. stopped: no caller waits any more. An effect
    that has `begun`, and can still say what it used, is then cancelled once, after the seconds that `lingers_s` asks
    for: time in which it learns what it has used. One that is `ending` by then is left to say so.
    """

    emit: Callable[[Reply], None]
    begun: bool = False
    stopped: bool = False
    ending: bool = False
    lingers_s: Callable[[], float] = _not_at_all

    def end_unheard(self) -> None:
        """Raise `UnheardError` when no caller waits any more."""
        if self.stopped:
            raise UnheardError

    async def while_heard(self, work: Callable[[], Awaitable[T]], what_there_is: Callable[[], Awaitable[T]]) -> T:
        """Return the outcome of the work, or what there is of it once no caller waits for it any more."""
        if self.stopped:
            return await what_there_is()
        self.begun = True
        try:
            return await work()
        except UnheardError:
            pass
        except asyncio.CancelledError:
            if not self.stopped:
                raise
            # The task was cancelled only to end the provider's work. Its usage is charged all the same.
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        self.ending = True
        return await what_there_is()
