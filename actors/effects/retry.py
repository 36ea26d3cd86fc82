"""Retry of model calls that failed for a passing reason, within the patience of the client that waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from ..domain.backoff import Backoff
from ..domain.provider_faults import ModelFault
from ..port_errors import did_nothing, told
from ..ports import HeldBackError, ModelError, TransientError

_ATTEMPTS: Final = 3
_PAUSE_FIRST_S: Final = 0.5
_PAUSE_MAX_S: Final = 5.0
# A key that is not accepted now will not be accepted a second later.
_FOR_LONG: Final = frozenset({ModelFault.REFUSED})
LINGERS_S: Final = 10.0
"""Time that a stream whose client has left may take to its first event, which shows the cost of the prompt."""
ENDS_WITHIN_S: Final = 2.0
"""Time that it may take from the end of a block to its last count, which shows the cost of the answer."""
PASSES_WITHIN_S: Final = 0.25
"""Time that it may take in the middle of a block, which may be its last: its end and the last count come at once."""
COUNTS_WITHIN_S: Final = 5.0
"""Time that the count of a prompt may take whose client has left."""

T = TypeVar("T")
Pause = Callable[[float], Awaitable[None]]
_log = structlog.get_logger(__name__)


async def with_retries(
    pause: Pause, call: Callable[[], Awaitable[T]], begun: Callable[[], bool] = lambda: False, log: Any = _log
) -> T:
    """Return the call's final result, with retries after failures that certainly did nothing. Raises what it raises.

    `log` has the ids of the request or call. `begun`: some of it was given, or its client has left. A call that was
    sent and may be billed is not repeated. Nor is one whose error asks for a longer wait than this function's: the
    client has to wait then.
    """
    backoff = Backoff(_PAUSE_FIRST_S, _PAUSE_MAX_S)
    for _ in range(_ATTEMPTS - 1):
        try:
            return await call()
        except TransientError as error:
            wait_s, refused = error.retry_after_s or 0, isinstance(error, ModelError) and error.fault in _FOR_LONG
            held_back = isinstance(error, HeldBackError)
            if begun() or refused or held_back or wait_s > _PAUSE_MAX_S or not did_nothing(error):
                raise
            log.warning("model_call_repeated", **told(error))
            await pause(max(backoff.next(), wait_s))
    return await call()
