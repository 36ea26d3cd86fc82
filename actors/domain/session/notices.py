"""Webhook notices of a session: that its balance has fallen under the threshold that its client named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from .. import webhooks
from ..webhooks import Notice, Notify
from .state import Session

_LOW: Final = "session.low_balance"


def noticed(session: Session, at_ms: int) -> Session:
    """Add a notice if the balance has just fallen under the threshold; the next one needs a rise before it.

    Amounts on hold count as balance, because most of them come back. While a notice waits to be delivered, there is no
    other, because it would say the same.
    """
    outbox = session.outbox
    if outbox is None or outbox.gone or session.ended:
        return session
    remaining = session.books.balance + session.books.held
    low = remaining < outbox.webhook.low_balance_msat
    if low is outbox.low:
        return session
    after = replace(outbox, low=low)
    if low and not outbox.notices:
        after = after.with_notice(_LOW, at_ms, remaining.value)
    return replace(session, outbox=after)


def attempts(session_id: str, session: Session, notices: Sequence[Notice]) -> tuple[Notify, ...]:
    """Return the attempts to deliver these notices."""
    outbox = session.outbox
    if outbox is None:
        return ()
    threshold_sats = outbox.webhook.low_balance_msat.whole_sats
    return tuple(
        webhooks.notify(
            session_id,
            outbox,
            notice,
            {"sessionId": session_id, "remainingMsat": notice.remaining_msat, "lowBalanceSats": threshold_sats},
        )
        for notice in notices
    )
