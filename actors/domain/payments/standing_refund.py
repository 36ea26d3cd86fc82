"""Standing refund: the destination that a client names once, and the tries to pay what is owed to it.

A try asks the destination for an invoice, which moves no money. The payout to that invoice is like any other. Each try
that came to nothing is journaled with the time of the next one, so that no crash makes tries more frequent.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from ..backoff import pause_after

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
PATIENCE_MS: Final = 30 * _DAY_MS
"""Time in ms from the first try that failed to the last one."""
NAMINGS_MAX: Final = 100
"""Destinations that one actor can be given, one after the other. Each may cause calls to a stranger's server."""


class RefundError(StrEnum):
    """Reasons of ours why a try came to nothing; those of destinations are `DestinationFault`s. Never rename one.

    unreachable: the destination did not answer, or not well. used_invoice: it gave an invoice that the node has tried
    to pay before. payment_failed: the payment failed for certain. server_cannot_pay: the server's wallet or key is at
    fault.
    """

    UNREACHABLE = "unreachable"
    USED_INVOICE = "used_invoice"
    PAYMENT_FAILED = "payment_failed"
    SERVER_CANNOT_PAY = "server_cannot_pay"


class StandingRefund(msgspec.Struct, frozen=True, omit_defaults=True):
    """The destination of an actor's refunds, as its client wrote it, and what became of the tries.

    number: counts the actor's destinations. tries: those that failed since it was named or last paid, the first of them
    at `since_ms`. next_ms: the next one's time; 0 for at once. error: why the last one failed. over: there is no next.
    """

    destination: str
    number: int = 1
    tries: int = 0
    since_ms: int = 0
    next_ms: int = 0
    error: str | None = None
    over: bool = False

    def after_failure(self, error: str, at_ms: int, next_ms: int | None) -> StandingRefund:
        """Return the standing refund after a try that failed; `next_ms` None: it was the last one."""
        return replace(
            self,
            tries=self.tries + 1,
            since_ms=self.since_ms or at_ms,
            next_ms=next_ms or 0,
            error=error,
            over=next_ms is None,
        )

    def after_payment(self) -> StandingRefund:
        """Return the standing refund after a payment to its destination; the rest goes there at once."""
        return StandingRefund(self.destination, self.number)

    def next_try_ms(self, now_ms: int, retry_after_ms: int = 0, *, permanent: bool = False) -> int | None:
        """Return the time of the try that follows on one that has just failed; None after the last one.

        `permanent`: the destination refuses. It may still come to take payments, so it is asked once a day.
        """
        if self.since_ms and now_ms - self.since_ms >= PATIENCE_MS:
            return None
        pause_ms = _DAY_MS if permanent else pause_after(self.tries, _MINUTE_MS, _DAY_MS)
        next_ms = now_ms + max(pause_ms, min(retry_after_ms, _DAY_MS))
        return min(next_ms, self.since_ms + PATIENCE_MS) if self.since_ms else next_ms


def named(before: StandingRefund | None, destination: str, next_ms: int) -> StandingRefund:
    """Return the standing refund to a destination that takes the place of the one before."""
    return StandingRefund(destination, 1 if before is None else before.number + 1, next_ms=next_ms)


def first_try_ms(before: StandingRefund | None, now_ms: int) -> int:
    """Return the time of the first try at a new destination: 0 for at once, or in a minute if it replaces another.

    A client that names one destination after the other must not make us call servers all the time.
    """
    return 0 if before is None else now_ms + _MINUTE_MS
