"""Ends tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

_AGAIN_AFTER_S: Final = 1.0


async def end_tasks(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels these, and returns when they have ended, whatever they raise.

    One cancellation is not enough: until Python 3.12 `asyncio.wait_for` swallows one that comes in the moment in which
    it is done, and the store's client sends with it. A loop that is cancelled then goes on for ever.
    """
    pending = {task for task in tasks if task is not None and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_AFTER_S)
