"""Signals: long work that Ctrl-C ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..actors.cancellation import cancel_and_wait

T = TypeVar("T")


def run_until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run the work as `asyncio.run` does, but reliably end it at SIGINT. Raises `KeyboardInterrupt` then.

    `asyncio.run` cancels only once, at any point: until Python 3.12 that gets lost in the store's client
    (see `cancel_and_wait`), and the work would go on.
    """

    async def watched() -> T:
        task, interrupted = asyncio.ensure_future(work), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
        asked = asyncio.ensure_future(interrupted.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait([task, asked])
        if interrupted.is_set() and task.cancelled():
            raise KeyboardInterrupt
        return task.result()

    return asyncio.run(watched())
