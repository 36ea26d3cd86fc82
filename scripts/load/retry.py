"""Retries of a request until it is answered, each time under the same Idempotency-Key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, NamedTuple

from ...actors.domain.backoff import Backoff
from ..http_client import Answer, LostError

_ATTEMPTS_MAX: Final = 8
# A server that asks for a longer wait than this is not about to come back.
_WAIT_MAX_S: Final = 30
_LOST_FIRST_S: Final = 0.1
_LOST_MAX_S: Final = 4.0

UNAVAILABLE: Final = (503,)
Pause = Callable[[float], Awaitable[None]]


class Delivery(NamedTuple):
    """Outcome of a request. `answer` is None when the last attempt was lost, for which `why` gives the reason.

    `lost`: attempts whose answer was lost. `lost_sent`: those of them that may have been carried out. `refused`: those
    that were answered with a Retry-After, and repeated or given up after it.
    """

    answer: Answer | None
    why: str
    attempts: int
    lost: int
    lost_sent: int
    refused: int


async def deliver(
    send: Callable[[], Awaitable[Answer]],
    *,
    retry: Collection[int] = UNAVAILABLE,
    attempts_max: int = _ATTEMPTS_MAX,
    pause: Pause = asyncio.sleep,
) -> Delivery:
    """Send until there is an answer other than these statuses with a Retry-After, which is waited for.

    A lost answer is sent for again sooner, then later. The attempts are bounded, and so is the wait that is honoured.
    Beyond these bounds the last answer is returned.
    """
    lost = lost_sent = refused = 0
    backoff = Backoff(_LOST_FIRST_S, _LOST_MAX_S)
    for attempt in range(1, attempts_max + 1):
        try:
            answer = await send()
        except LostError as error:
            lost += 1
            lost_sent += error.sent
            ended, wait_s = Delivery(None, str(error), attempt, lost, lost_sent, refused), backoff.next()
        else:
            asked_s = answer.retry_after_s if answer.status in retry else None
            refused += asked_s is not None
            ended = Delivery(answer, "", attempt, lost, lost_sent, refused)
            if asked_s is None or asked_s > _WAIT_MAX_S:
                return ended
            wait_s = float(asked_s)
        if attempt == attempts_max:
            return ended
        await pause(wait_s)
    raise AssertionError("there is at least one attempt")
