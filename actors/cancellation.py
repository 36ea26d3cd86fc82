"""Cancellation of tasks until they have really ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

_AGAIN_AFTER_S: Final = 1.0


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel tasks, and return when they have ended, whatever they raise.

    One cancellation is not enough: until Python 3.12 `asyncio.wait_for` swallows a cancellation that arrives at the
    moment at which it is done, and the store's client sends through `wait_for`. A loop that is cancelled then would go
    on for ever.
    """
    pending = {task for task in tasks if task is not None and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_AFTER_S)
