"""Webhook notices of a session: a balance under the threshold that its client named, and limits nearly spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from .. import refund_notices, webhooks
from ..credentials.caveats import limit_text
from ..timestamps import timestamp
from ..webhooks import LimitNotice, Notice, Notify
from .spending import RENEWS_AT, counting, in_window
from .state import Hold, LimitOfHold, RequestFinished, Session

_LOW: Final = "session.low_balance"
_LIMIT: Final = "session.limit_nearly_spent"
# Four fifths are 80 %.
_TOLD_AT: Final = 4, 5
# A holder can make a limit for each request. While a receiver is away, its notices must not fill the session's state.
_WAITING_MAX: Final = 64


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
    if low and not any(notice.type == _LOW for notice in outbox.notices):
        after = after.with_notice(_LOW, at_ms, remaining.value)
    return replace(session, outbox=after)


def limits_noticed(session: Session, hold: Hold, event: RequestFinished) -> Session:
    """Add a notice for each limit of which this request, whose hold has ended, made the spent sum reach 80 %.

    The sum never falls within a window, so that it reaches them once. A window that is over is not told of.
    """
    for name, limit in counting(hold):
        outbox = session.outbox
        if outbox is None or session.ended or len(outbox.notices) >= _WAITING_MAX:
            return session
        over = limit is None or (limit.to_ms is not None and limit.to_ms <= event.at_ms)
        if limit is None or over or not in_window(session, name, limit):
            continue
        part, whole = _TOLD_AT
        spent, threshold = _spent_msat(session, name, limit), limit.limit_msat.value * part
        if (spent - event.debit_msat.value) * whole < threshold <= spent * whole:
            told = LimitNotice(
                limit_text(limit.limit_msat, limit.period), spent, limit.limit_msat.value, hold.spender, limit.to_ms
            )
            session = replace(session, outbox=outbox.with_notice(_LIMIT, event.at_ms, limit=told))
    return session


def _spent_msat(session: Session, name: str, limit: LimitOfHold) -> int:
    """Return what is counted under the limit without what requests hold that are under way."""
    counted = session.counters.get(name)
    held = [
        hold.amount_msat.value
        for hold in session.holds.values()
        for other, held_for in counting(hold)
        if other == name and (held_for is None or held_for.from_ms == limit.from_ms)
    ]
    return (0 if counted is None else counted.value) - sum(held)


def attempts(session_id: str, session: Session, notices: Sequence[Notice]) -> tuple[Notify, ...]:
    """Return the attempts to deliver these notices."""
    outbox = session.outbox
    if outbox is None:
        return ()
    threshold_sats = outbox.webhook.low_balance_msat.whole_sats
    return tuple(
        webhooks.notify(session_id, outbox, notice, {"sessionId": session_id, **_data(notice, threshold_sats)})
        for notice in notices
    )


def _data(notice: Notice, threshold_sats: int) -> dict[str, Any]:
    limit = notice.limit
    if notice.refund is not None:
        return refund_notices.data(notice.refund)
    if limit is None:
        return {"remainingMsat": notice.remaining_msat, "lowBalanceSats": threshold_sats}
    spender = {} if limit.spender is None else {"spender": limit.spender}
    renews = {} if limit.renews_ms is None else {RENEWS_AT: timestamp(limit.renews_ms)}
    return {
        "caveat": limit.caveat,
        **spender,
        "spentMsat": limit.spent_msat,
        "limitMsat": limit.limit_msat,
        **renews,
    }
