"""How a job pays back what it owes."""

from __future__ import annotations

from typing import Final

from . import paying_out
from .behaviour import NOTHING, Decision, Done, Failed, Mark
from .errors import idempotency_conflict, wrong_state
from .job import FINAL_STATES, Job, RefundJob, view
from .job_fold import evolve
from .payouts import network_of, payout_refusal

# The contract's 24 hours, and an hour for clocks that differ.
_KEYED_MS: Final = 25 * 3_600_000


def refund(job_id: str, job: Job, command: RefundJob, now_ms: int) -> Decision:
    """Begins the payout of what is owed, or says why not."""
    target, once, under_way = command.target, command.once, job.refunds.under_way
    if under_way is not None and under_way.once is not None and under_way.once.name == once.name:
        same = under_way.once.digest == once.digest
        return Decision(wait_for=paying_out.topic(target)) if same else Decision(reply=idempotency_conflict())
    if under_way is not None and under_way.target.payment_hash == target.payment_hash:
        return Decision(wait_for=paying_out.topic(target))
    if job.refunds.ended.get(target.payment_hash):
        return Decision(reply=view(job_id, job))
    if under_way is None and (job.state not in FINAL_STATES or not job.books.owed):
        return Decision(reply=wrong_state(job.state, "This job owes nothing that could be paid back."))
    network = network_of(job.eval_invoice.payment_request)
    refusal = payout_refusal(job.refunds, target, job.books.owed, network)
    if refusal is not None:
        return Decision(reply=refusal)
    return Decision((paying_out.start(target, once, now_ms),), wait_for=paying_out.topic(target))


def paid_out(job_id: str, job: Job, command: Done | Failed, now_ms: int) -> Decision:
    """Goes on with the payout, and tells those who wait for its end."""
    event = paying_out.outcome(job.refunds, command, now_ms)
    payout = job.refunds.under_way
    if event is None or payout is None:
        return NOTHING
    after = evolve(job, event)
    if after.refunds.under_way is not None:
        return Decision((event,))
    reply = view(job_id, after)
    keyed = payout.once is not None and payout.once.keyed
    marks = (Mark(payout.once, reply, _KEYED_MS),) if keyed and payout.once is not None else ()
    return Decision((event,), answers={paying_out.topic(payout.target): reply}, marks=marks)
