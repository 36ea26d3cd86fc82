"""Payments of a session: deposits by its invoices, and payouts when it is closed."""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec.structs import replace

from .. import idempotency_keys
from ..behaviour import NOTHING, Decision, Done, Failed
from ..credentials.caveats import Action
from ..errors import Code, Refusal, idempotency_conflict, node_unavailable, not_found
from ..money import ZERO
from ..payments import payout_flow, refund_flow
from ..payments.intents import IssueInvoice, LookUpInvoice, ReleaseUnpaid
from ..payments.invoices import Invoice, Settle, Settled, Settlement, SettleOutcome
from ..payments.payouts import network_of, payout_refusal, refund_view
from .evolve import evolve, follow, place
from .messages import CloseSession, OpenSession, SessionCreated, SessionView, TopUp, TopUpInvoice
from .pricing import SessionTerms
from .requests import not_spendable
from .spending import narrowed, payout_beyond_limits
from .state import (
    Deposited,
    InvoiceLapsed,
    Session,
    SessionClosed,
    SessionOpened,
    SessionState,
    TopUpFailed,
    TopUpIssued,
    TopUpOrder,
    TopUpRequested,
)

TOP_UP: Final = "top_up:"
# The first generation of a session's key; closing or replacing a key would raise it.
_GENERATION: Final = 1
# A wallet may pay in the invoice's last second, and the node learns of it a little later.
EXPIRY_GRACE_MS: Final = 1_000
# An invoice that is offered must leave the client time to pay it.
_PAYABLE_MS: Final = 60_000


def view(terms: SessionTerms, session_id: str, session: Session) -> SessionView:
    """Return the session as its client sees it."""
    books = session.books
    return SessionView(
        session_id=session_id,
        state=session.state,
        balance_msat=books.balance,
        held_msat=books.held,
        deposited_msat=books.deposited,
        spent_msat=books.spent,
        refund=refund_view(books, session.refunds, terms.routing_fees, books.balance),
        expires_at_ms=session.expires_at_ms,
        # Invoices of an ended session can still be paid, but no client should.
        pending_invoices=() if session.ended else tuple(session.invoices.values()),
    )


# Opening


def create(terms: SessionTerms, session_id: str, session: Session | None, command: OpenSession) -> Decision:
    """Order the deposit's invoice, or answer with the session that exists already."""
    if session is not None:
        return Decision(reply=_created(session_id, session, command))
    # The order is part of the topic: a client that sends another order under the same key must not get this invoice.
    webhook = f"{command.webhook.url} {command.webhook.low_balance_msat.value}" if command.webhook else ""
    ordered = f"{command.client} {webhook} {command.refund_to or ''}"
    topic = f"open:{command.amount_sats}:{hashlib.sha256(ordered.encode()).hexdigest()}"
    order = IssueInvoice(
        key=topic,
        amount_sats=command.amount_sats,
        memo="Satmeter: deposit of a session",
        expiry_s=terms.invoice_expiry_s,
        actor_id=session_id,
        context=command,
    )
    return Decision(wait_for=topic, intents=(order,))


def opened(
    terms: SessionTerms, session_id: str, session: Session | None, command: Done | Failed, now_ms: int
) -> Decision:
    """Open the session with the deposit's invoice, or refuse if it could not be made."""
    order = command.intent
    assert isinstance(order, IssueInvoice) and isinstance(order.context, OpenSession)
    if isinstance(command, Failed):
        return Decision(answers={order.key: node_unavailable(command.retry_after_ms)})
    if session is not None:
        return Decision(answers={order.key: _created(session_id, session, order.context)})
    event = SessionOpened(
        now_ms,
        client=order.context.client,
        generation=_GENERATION,
        deposit_invoice=command.result,
        expires_at_ms=now_ms + terms.life_ms,
        webhook=order.context.webhook,
        refund_to=order.context.refund_to,
    )
    begun = evolve(None, event)
    return Decision((event,), answers={order.key: _created(session_id, begun, order.context)})


def _created(session_id: str, session: Session, command: OpenSession) -> SessionCreated | Refusal:
    webhook = None if session.outbox is None else session.outbox.webhook
    same_amount = command.any_amount or session.deposit_invoice.amount_sats == command.amount_sats
    if not same_amount or webhook != command.webhook or session.opened_refund_to != command.refund_to:
        return idempotency_conflict()
    return SessionCreated(
        session_id,
        session.generation,
        session.deposit_invoice,
        session.first_expires_at_ms,
        session.state is SessionState.AWAITING_PAYMENT,
    )


# Topping up


def top_up(terms: SessionTerms, session: Session, command: TopUp, now_ms: int) -> Decision:
    """Order an invoice; with `any_open`, an open one that can still be paid does as well."""
    once = command.once
    begun = idempotency_keys.begun(session.top_ups, once)
    if begun is not None:
        same = begun.once.digest == once.digest
        return Decision(wait_for=TOP_UP + begun.once.name) if same else Decision(reply=idempotency_conflict())
    refusal = not_spendable(session, now_ms)
    if not command.any_open:
        refusal = command.grant.refusal(Action.TOPUP, now_ms) or refusal
    if refusal is not None:
        return Decision(reply=refusal)
    if command.any_open:
        for invoice in session.invoices.values():
            if invoice.amount_sats >= command.amount_sats and invoice.expires_at_ms - now_ms > _PAYABLE_MS:
                return Decision(reply=TopUpInvoice(invoice))
    if len(session.invoices) + len(session.top_ups) >= terms.pending_max:
        message = f"{terms.pending_max} invoices of this session wait for payment already: pay one of them."
        return Decision(reply=Refusal(Code.RATE_LIMITED, message, retry_after_s=60))
    after, event = place(session, TopUpRequested(now_ms, once=once, amount_sats=command.amount_sats))
    return Decision((event,), wait_for=TOP_UP + once.name, after=after)


def order(terms: SessionTerms, session_id: str, top_up: TopUpOrder) -> IssueInvoice:
    """Return the order of a top-up's invoice. A crash repeats it: an invoice that no client saw is never paid."""
    return IssueInvoice(
        key=TOP_UP + top_up.once.name,
        amount_sats=top_up.amount_sats,
        memo="Satmeter: top-up of a session",
        expiry_s=terms.invoice_expiry_s,
        actor_id=session_id,
    )


def topped_up(session: Session, command: Done | Failed, now_ms: int) -> Decision:
    """Answer a top-up with its invoice, or with a refusal if it could not be made."""
    topic = command.intent.key
    name = topic.removeprefix(TOP_UP)
    ordered = session.top_ups.get(name)
    if ordered is None:
        return NOTHING
    if isinstance(command, Failed):
        after, failed = place(session, TopUpFailed(now_ms, name=name))
        return Decision((failed,), answers={topic: node_unavailable(command.retry_after_ms)}, after=after)
    assert isinstance(command.result, Invoice)
    after, event = place(session, TopUpIssued(now_ms, name=name, invoice=command.result))
    reply = TopUpInvoice(command.result)
    marks = idempotency_keys.marks(ordered.once, reply)
    return Decision((event,), answers={topic: reply}, marks=marks, after=after)


# Settlements


def settle(terms: SessionTerms, session_id: str, session: Session, command: Settle, now_ms: int) -> Decision:
    """Credit a payment once, even if invoice or session has ended: the node says that the money is here."""
    payment_hash = command.payment_hash
    if payment_hash in session.settled:
        return Decision(reply=Settled(SettleOutcome.REPLAYED))
    if payment_hash not in session.invoices and payment_hash not in session.lapsed:
        return Decision(reply=not_found("invoice of this session"))
    after, event = place(
        session,
        Deposited(
            now_ms,
            payment_hash=payment_hash,
            amount_msat=command.amount_msat,
            expires_at_ms=session.expires_at_ms if session.ended else now_ms + terms.life_ms,
            refunded_msat=command.amount_msat if session.ended else ZERO,
        ),
    )
    first = payment_hash == session.deposit_invoice.payment_hash
    release = ReleaseUnpaid(key="release", client=session.client, actor_id=session_id)
    return Decision((event,), Settled(SettleOutcome.APPLIED), intents=(release,) if first else (), after=after)


def looked_up(terms: SessionTerms, session_id: str, session: Session, command: Done, now_ms: int) -> Decision:
    """Take the node's word on an invoice: settle it, or let it lapse if it has expired.

    Callers that wait for the look-up get the session's view.
    """
    intent = command.intent
    assert isinstance(intent, LookUpInvoice)
    invoice = session.invoices.get(intent.payment_hash)
    if isinstance(command.result, Settlement):
        # An invoice that has lapsed counts, too: its wallet paid later than we thought.
        found = Settle(intent.payment_hash, command.result.amount_msat)
        decision = settle(terms, session_id, session, found, now_ms)
    elif invoice is not None and now_ms >= invoice.expires_at_ms + EXPIRY_GRACE_MS:
        after, lapsed = place(session, InvoiceLapsed(now_ms, payment_hash=intent.payment_hash))
        decision = Decision((lapsed,), after=after)
    else:
        decision = Decision(after=session)
    return replace(decision, reply=None, answers={intent.key: view(terms, session_id, decision.after or session)})


# Closing


def close(terms: SessionTerms, session_id: str, session: Session, command: CloseSession, now_ms: int) -> Decision:
    """End the session, if it has not ended, and begin the payout of what is owed, if there is an invoice for it."""
    refusal = command.grant.refusal(Action.CLOSE, now_ms)
    if refusal is None and command.target is not None:
        refusal = payout_beyond_limits(command.grant, command.target, terms.routing_fees)
    if refusal is None and command.for_bearer:
        refusal = narrowed(command.grant)
    if refusal is not None:
        return Decision(reply=refusal)
    closing = () if session.ended else (SessionClosed(now_ms, refunded_msat=session.books.balance),)
    target, once = command.target, command.once
    begun = payout_flow.begun(session.refunds, target, once)
    if begun is not None:
        return begun if command.waits else payout_flow.at_once(begun, view(terms, session_id, session))
    if target is None:
        after, events = follow(session, *closing)
        reply = view(terms, session_id, after)
        return Decision(events, reply, marks=idempotency_keys.marks(once, reply), after=after)
    if session.refunds.ended.get(target.payment_hash):
        return Decision(reply=view(terms, session_id, session))
    refunds, fees, owed_msat = session.refunds, terms.routing_fees, session.books.owed + session.books.balance
    refusal = payout_refusal(refunds, target, owed_msat, fees, network_of(session.deposit_invoice.payment_request))
    if refusal is not None:
        return Decision(reply=refusal)
    after, events = follow(session, *closing, payout_flow.start(refunds, owed_msat, target, fees, once, now_ms))
    decision = Decision(events, wait_for=payout_flow.topic(target), after=after)
    return decision if command.waits else payout_flow.at_once(decision, view(terms, session_id, after))


def paid_out(terms: SessionTerms, session_id: str, session: Session, command: Done | Failed, now_ms: int) -> Decision:
    """Continue the payout after an effect's outcome, and answer the callers that wait for its end."""
    event = payout_flow.outcome(session.refunds, command, now_ms)
    payout = session.refunds.under_way
    if event is None or payout is None:
        return NOTHING
    failed = refund_flow.after_payout(session.refunds, payout, event)
    after, events = follow(session, event, *(() if failed is None else (failed,)))
    if after.refunds.under_way is not None:
        return Decision(events, after=after)
    limit_msat = payout_flow.fee_limit(session.refunds, payout, terms.routing_fees)
    return replace(payout_flow.ended(payout, events, limit_msat, view(terms, session_id, after)), after=after)
