"""Refunds of a session to destinations: by themselves to the one that its client named, or planned as it closes."""

from __future__ import annotations

from collections.abc import Sequence

from ..behaviour import NOTHING, Decision, Done, Failed
from ..credentials.caveats import Action
from ..errors import Refusal
from ..payments import payout_flow, refund_flow
from ..payments.intents import ResolveRefund
from ..payments.payout_plan import PayoutPlan, plan
from ..payments.payouts import PayoutTarget, network_of, refund_pending
from .evolve import place
from .messages import NameRefundDestination, PlanPayout
from .pricing import SessionTerms
from .spending import narrowed, payout_beyond_limits
from .state import Session


def name(session: Session, command: NameRefundDestination, now_ms: int) -> Decision:
    """Name the destination. Without a reply of the decision's own, the caller gets the session's view."""
    refusal = command.grant.refusal(Action.CLOSE, now_ms) or narrowed(command.grant)
    if refusal is not None:
        return Decision(reply=refusal)
    event = refund_flow.name(session.refunds, command.destination, now_ms)
    if event is None:
        return NOTHING
    if isinstance(event, Refusal):
        return Decision(reply=event)
    after, placed = place(session, event)
    return Decision((placed,), after=after)


def planned(terms: SessionTerms, session: Session, command: PlanPayout, now_ms: int) -> Decision:
    """Return what may be ordered of a destination, or join the payout that the same operation has begun."""
    refusal = command.grant.refusal(Action.CLOSE, now_ms)
    if refusal is not None:
        return Decision(reply=refusal)
    begun = payout_flow.begun(session.refunds, None, command.once)
    if begun is not None:
        return begun
    if session.refunds.under_way is not None:
        return Decision(reply=refund_pending())
    books, network = session.books, network_of(session.deposit_invoice.payment_request)
    found = plan(books, session.refunds, terms.routing_fees, command.amount_msat, books.balance, network)
    if isinstance(found, PayoutPlan):
        target = PayoutTarget("", "", found.amount_msat)
        return Decision(reply=payout_beyond_limits(command.grant, target, terms.routing_fees) or found)
    return Decision(reply=found)


def _ready(session: Session) -> bool:
    """Return whether all that will be owed soon is owed; each payout has a reserve of its own."""
    return session.ended and not session.holds


def tries(terms: SessionTerms, session: Session) -> Sequence[ResolveRefund]:
    """Return the try that must be under way."""
    return refund_flow.intents(session.books, session.refunds, terms.routing_fees) if _ready(session) else ()


def overdue(terms: SessionTerms, session: Session, now_ms: int) -> Sequence[ResolveRefund]:
    """Return the try that is due."""
    return refund_flow.overdue(session.books, session.refunds, terms.routing_fees, now_ms) if _ready(session) else ()


def due_ms(terms: SessionTerms, session: Session) -> Sequence[int]:
    """Return the time at which a try is due, if one is."""
    return refund_flow.due_ms(session.books, session.refunds, terms.routing_fees) if _ready(session) else ()


def resolved(terms: SessionTerms, session: Session, command: Done | Failed, now_ms: int) -> Decision:
    """Begin the payout to the invoice that the destination gave, or put the next try off."""
    if not _ready(session):
        return NOTHING
    network = network_of(session.deposit_invoice.payment_request)
    event = refund_flow.resolved(session.books, session.refunds, command, terms.routing_fees, network, now_ms)
    if event is None:
        return NOTHING
    after, placed = place(session, event)
    return Decision((placed,), after=after)
