"""Effects of each event on a session. Old journals are folded by this code for good: a meaning never changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from msgspec.structs import replace

from .. import refund_notices
from ..behaviour import BooksError, Event
from ..money import ZERO, Msat
from ..payments import payout_flow, refund_flow
from ..payments.payouts import LedgerEvent, PayoutFailed, PayoutPaid, PayoutStarted, PayoutUnclear
from ..payments.refund_flow import RefundDestinationNamed, RefundTryFailed
from ..webhooks import Outbox, WebhookTried, tried
from .ledger import entry_count
from .notices import limits_noticed, noticed
from .spending import begun, counted
from .state import (
    Deposited,
    Hold,
    HoldPlaced,
    HoldReleased,
    InvoiceLapsed,
    RequestFinished,
    Session,
    SessionClosed,
    SessionExpired,
    SessionOpened,
    SessionState,
    TopUpFailed,
    TopUpIssued,
    TopUpOrder,
    TopUpRequested,
)

EventT = TypeVar("EventT", bound=LedgerEvent)
ValueT = TypeVar("ValueT")


def evolve(session: Session | None, event: Event) -> Session:
    """Return the session after the event. Raises `BooksError`, or `MoneyError`, for one that can't follow."""
    if not isinstance(event, LedgerEvent):
        raise BooksError(f"no session knows the event {type(event).__name__}")
    after = _after(session, event)
    if after.seq != event.seq or after.books.balance != event.balance_msat:
        raise BooksError("the ledger does not follow on the one before")
    return after


def place(session: Session | None, event: EventT) -> tuple[Session, EventT]:
    """Return the session after the event, and the event with its position in the ledger. Raises as `evolve` does."""
    # What an event does to a session never depends on its position: with it, the event leads to the same session.
    after = _after(session, event)
    return after, replace(event, seq=after.seq, balance_msat=after.books.balance)


def _after(session: Session | None, event: LedgerEvent) -> Session:
    if isinstance(event, SessionOpened):
        if session is not None:
            raise BooksError("a session is opened once")
        return _opened(event)
    if session is None:
        raise BooksError(f"{type(event).__name__} before the session was opened")
    if isinstance(event, WebhookTried):
        return replace(session, outbox=tried(session.outbox, event))
    after = noticed(replace(_fold(session, event), seq=session.seq + entry_count(event)), event.at_ms)
    return limits_noticed(after, session.holds[event.name], event) if isinstance(event, RequestFinished) else after


def _opened(event: SessionOpened) -> Session:
    invoice = event.deposit_invoice
    return Session(
        client=event.client,
        generation=event.generation,
        state=SessionState.AWAITING_PAYMENT,
        created_at_ms=event.at_ms,
        expires_at_ms=event.expires_at_ms,
        deposit_invoice=invoice,
        first_expires_at_ms=event.expires_at_ms,
        invoices={invoice.payment_hash: invoice},
        outbox=None if event.webhook is None else Outbox(event.webhook),
        refunds=refund_flow.opened(event.refund_to),
        opened_refund_to=event.refund_to,
    )


def _fold(session: Session, event: LedgerEvent) -> Session:
    match event:
        case HoldPlaced(hold=hold):
            return _hold(session, hold)
        case RequestFinished():
            charged = _post(session, event.name, event.debit_msat, event.released_msat, event.refunded_msat)
            tariff = None if event.receipt is None else event.receipt.new_tariff
            return charged if tariff is None else replace(charged, tariffs=(*session.tariffs, tariff))
        case HoldReleased():
            return _post(session, event.name, ZERO, event.released_msat, event.refunded_msat)
        case Deposited():
            return _deposited(session, event)
        case TopUpRequested(once=once):
            order = TopUpOrder(once, event.amount_sats)
            return replace(session, top_ups={**session.top_ups, once.name: order})
        case TopUpIssued(name=name, invoice=invoice):
            invoices = {**session.invoices, invoice.payment_hash: invoice}
            return replace(session, top_ups=_without(session.top_ups, name), invoices=invoices)
        case TopUpFailed(name=name):
            return replace(session, top_ups=_without(session.top_ups, name))
        case InvoiceLapsed(payment_hash=payment_hash):
            lapsed = session.lapsed | {payment_hash}
            return replace(session, invoices=_without(session.invoices, payment_hash), lapsed=lapsed)
        case SessionClosed():
            return _ended(session, SessionState.CLOSED, event.refunded_msat)
        case SessionExpired():
            return _ended(session, SessionState.EXPIRED, event.refunded_msat)
        case PayoutStarted() | PayoutUnclear() | PayoutPaid() | PayoutFailed():
            books, refunds = payout_flow.fold(session.books, session.refunds, event)
            outbox = refund_notices.noticed(session.outbox, session.refunds, books, event)
            return replace(session, books=books, refunds=refunds, outbox=outbox)
        case RefundDestinationNamed() | RefundTryFailed():
            outbox = refund_notices.noticed(session.outbox, session.refunds, session.books, event)
            return replace(session, refunds=refund_flow.fold(session.refunds, event), outbox=outbox)
    raise BooksError(f"no session knows the event {type(event).__name__}")


def _hold(session: Session, hold: Hold) -> Session:
    if hold.once.name in session.holds or session.state is not SessionState.ACTIVE:
        raise BooksError("a request is held for once, and in an active session")
    session = counted(begun(session, hold), hold, hold.amount_msat, ZERO)
    return replace(session, books=session.books.hold(hold.amount_msat), holds={**session.holds, hold.once.name: hold})


def _post(session: Session, name: str, debit: Msat, released: Msat, refunded: Msat) -> Session:
    hold = session.holds.get(name)
    if hold is None:
        raise BooksError("a hold ends once")
    if debit + released != hold.amount_msat or refunded != (released if session.ended else ZERO):
        raise BooksError("a hold ends as a debit and what is released of it")
    books = session.books.post(hold.amount_msat, debit)
    session = counted(session, hold, ZERO, released)
    return replace(session, books=books.end() if session.ended else books, holds=_without(session.holds, name))


def _deposited(session: Session, event: Deposited) -> Session:
    payment_hash = event.payment_hash
    if payment_hash not in session.invoices and payment_hash not in session.lapsed:
        raise BooksError("an invoice of the session is credited once")
    if event.refunded_msat != (event.amount_msat if session.ended else ZERO):
        raise BooksError("what comes after the end of a session is owed, all of it")
    books = session.books.deposit(event.amount_msat)
    return replace(
        session,
        state=session.state if session.ended else SessionState.ACTIVE,
        expires_at_ms=event.expires_at_ms,
        books=books.end() if session.ended else books,
        invoices={known: invoice for known, invoice in session.invoices.items() if known != payment_hash},
        lapsed=session.lapsed - {payment_hash},
        settled=session.settled | {payment_hash},
    )


def _ended(session: Session, state: SessionState, refunded: Msat) -> Session:
    if refunded != session.books.balance or session.ended:
        raise BooksError("at its end, what a session could still spend is owed, once")
    return replace(session, state=state, books=session.books.end())


def follow(session: Session, *events: LedgerEvent) -> tuple[Session, tuple[LedgerEvent, ...]]:
    """Place several events in the ledger, each after the ones before it; return the session after them, and them."""
    placed: list[LedgerEvent] = []
    for event in events:
        session, at_its_place = place(session, event)
        placed.append(at_its_place)
    return session, tuple(placed)


def _without(entries: Mapping[str, ValueT], name: str) -> Mapping[str, ValueT]:
    if name not in entries:
        raise BooksError(f"{name} has ended before")
    return {key: value for key, value in entries.items() if key != name}
