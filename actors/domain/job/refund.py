"""Refunds of a job: the payout of what it owes, to an invoice or to the destination that its client named."""

from __future__ import annotations

from collections.abc import Sequence

from ..behaviour import NOTHING, Decision, Done, Failed
from ..errors import Refusal, wrong_state
from ..money import ZERO
from ..payments import payout_flow, refund_flow
from ..payments.intents import ResolveRefund
from ..payments.payout_plan import plan
from ..payments.payouts import network_of, payout_refusal, refund_pending
from ..payments.routing_fees import RoutingFees
from .evolve import evolve
from .state import FINAL_STATES, Job, PlanJobPayout, RefundJob, view


def decide(job_id: str, job: Job, command: PlanJobPayout | RefundJob, fees: RoutingFees, now_ms: int) -> Decision:
    """Decide what follows from a client's command."""
    if isinstance(command, PlanJobPayout):
        return _planned(job, command, fees)
    return refund(job_id, job, command, fees, now_ms)


def _planned(job: Job, command: PlanJobPayout, fees: RoutingFees) -> Decision:
    """Return what may be ordered of a destination, or join the payout that the same operation has begun."""
    begun = payout_flow.begun(job.refunds, None, command.once)
    if begun is not None:
        return begun
    if job.refunds.under_way is not None:
        return Decision(reply=refund_pending())
    if job.state not in FINAL_STATES or not job.books.payable(job.refunds, fees):
        return Decision(reply=_owes_nothing(job))
    network = network_of(job.eval_invoice.payment_request)
    return Decision(reply=plan(job.books, job.refunds, fees, command.amount_msat, ZERO, network))


def refund(job_id: str, job: Job, command: RefundJob, fees: RoutingFees, now_ms: int) -> Decision:
    """Begin the payout of what is owed, or return why it can't begin."""
    target, under_way = command.target, job.refunds.under_way
    begun = payout_flow.begun(job.refunds, target, command.once)
    if begun is not None:
        return begun if command.waits else payout_flow.at_once(begun, view(job_id, job, fees))
    if job.refunds.ended.get(target.payment_hash):
        return Decision(reply=view(job_id, job, fees))
    if under_way is None and (job.state not in FINAL_STATES or not job.books.owed):
        return Decision(reply=_owes_nothing(job))
    network = network_of(job.eval_invoice.payment_request)
    refusal = payout_refusal(job.refunds, target, job.books.owed, fees, network)
    if refusal is not None:
        return Decision(reply=refusal)
    started = payout_flow.start(job.refunds, job.books.owed, target, fees, command.once, now_ms)
    decision = Decision((started,), wait_for=payout_flow.topic(target))
    return decision if command.waits else payout_flow.at_once(decision, view(job_id, evolve(job, started), fees))


def _owes_nothing(job: Job) -> Refusal:
    return wrong_state(job.state, "This job owes nothing that could be paid back.")


def paid_out(job_id: str, job: Job, command: Done | Failed, fees: RoutingFees, now_ms: int) -> Decision:
    """Continue the payout after an effect's outcome, and answer the callers that wait for its end."""
    event = payout_flow.outcome(job.refunds, command, now_ms)
    payout = job.refunds.under_way
    if event is None or payout is None:
        return NOTHING
    failed, after = refund_flow.after_payout(job.refunds, payout, event), evolve(job, event)
    if after.refunds.under_way is not None:
        return Decision((event,))
    limit_msat = payout_flow.fee_limit(job.refunds, payout, fees)
    if failed is None:
        return payout_flow.ended(payout, (event,), limit_msat, view(job_id, after, fees))
    return payout_flow.ended(payout, (event, failed), limit_msat, view(job_id, evolve(after, failed), fees))


def tries(job: Job, fees: RoutingFees) -> Sequence[ResolveRefund]:
    """Return the try to pay the destination that must be under way."""
    return refund_flow.intents(job.books, job.refunds, fees) if job.state in FINAL_STATES else ()


def overdue(job: Job, fees: RoutingFees, now_ms: int) -> Sequence[ResolveRefund]:
    """Return the try that is due."""
    return refund_flow.overdue(job.books, job.refunds, fees, now_ms) if job.state in FINAL_STATES else ()


def due_ms(job: Job, fees: RoutingFees) -> Sequence[int]:
    """Return the time at which a try is due, if one is."""
    return refund_flow.due_ms(job.books, job.refunds, fees) if job.state in FINAL_STATES else ()


def resolved(job: Job, command: Done | Failed, fees: RoutingFees, now_ms: int) -> Decision:
    """Begin the payout to the invoice that the destination gave, or put the next try off."""
    if job.state not in FINAL_STATES:
        return NOTHING
    network = network_of(job.eval_invoice.payment_request)
    event = refund_flow.resolved(job.books, job.refunds, command, fees, network, now_ms)
    return NOTHING if event is None else Decision((event,))
