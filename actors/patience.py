"""Tries a model call again that may pass: a client waits meanwhile, and its own patience ends, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from .ports import TransientError

_ATTEMPTS: Final = 3
_PAUSE_FIRST_S: Final = 0.5
_PAUSE_MAX_S: Final = 5.0

T = TypeVar("T")
Pause = Callable[[float], Awaitable[None]]
_log = structlog.get_logger(__name__)


async def patiently(pause: Pause, call: Callable[[], Awaitable[T]], begun: Callable[[], bool] = lambda: False) -> T:
    """What the call gives in the end, unless something of it has been given already. Raises what it raises."""
    pause_s = _PAUSE_FIRST_S
    for _ in range(_ATTEMPTS - 1):
        try:
            return await call()
        except TransientError as error:
            if begun():
                raise
            _log.warning("model call failed, trying again", error=str(error))
            await pause(min(max(pause_s, error.retry_after_s or 0), _PAUSE_MAX_S))
        pause_s *= 2
    return await call()
