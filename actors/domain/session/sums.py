"""Sums of a session's events (see `domain/sums.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import sums as names
from ..behaviour import Event
from ..money import ZERO
from ..sums import Cost, Tally
from .state import (
    Deposited,
    Hold,
    HoldPlaced,
    HoldReleased,
    RequestFinished,
    Session,
    SessionBooks,
    SessionClosed,
    SessionExpired,
)

_NO_BOOKS = SessionBooks()


def sums(before: Session | None, events: Sequence[Event], after: Session) -> Mapping[str, int]:
    """Return what these events, which lead from one state to the other, add to the sums of their hour."""
    tally = Tally()
    books = _NO_BOOKS if before is None else before.books
    paid = bool(books.deposited)
    placed: dict[str, Hold] = {}
    for event in events:
        match event:
            case HoldPlaced(hold=hold):
                placed[hold.once.name] = hold
            case RequestFinished():
                held = placed.get(event.name) or (before.holds[event.name] if before is not None else None)
                assert held is not None
                tally.count(names.REQUESTS)
                usages = (event.evaluation_usage, event.work_usage)
                tally.cost(held.model, usages, Cost(event.cost_usd, held.btc_price.usd))
            case HoldReleased():
                tally.count(names.REQUESTS_FAILED)
            case Deposited():
                tally.count(names.SESSIONS_PAID, not paid)
                paid = True
            case SessionClosed() if paid:
                tally.count(names.SESSIONS_CLOSED)
            case SessionExpired() if paid:
                tally.count(names.SESSIONS_EXPIRED)
    tally.count(names.RECEIVED, after.books.deposited.value - books.deposited.value)
    tally.money(books, after.books, events, ZERO)
    return tally
