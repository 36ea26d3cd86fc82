"""Webhook notices of a job: that it waits for the payment of its work, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from .. import refund_notices, webhooks
from ..timestamps import timestamp
from ..webhooks import Notice, Notify
from .state import FINAL_STATES, Job, JobState

_TOLD: Final = FINAL_STATES | {JobState.AWAITING_WORK_PAYMENT}


def noticed(before: Job, after: Job) -> Job:
    """Add a notice of the job's new state, if that state has one.

    An unpaid job has no notices: otherwise anybody could make us call strangers for free.
    """
    outbox = after.outbox
    if outbox is None or after.state is before.state or after.state not in _TOLD or not after.books.received:
        return after
    return replace(after, outbox=outbox.with_notice(f"job.{after.state}", after.updated_at_ms))


def attempts(job_id: str, job: Job, notices: Sequence[Notice]) -> tuple[Notify, ...]:
    """Return the attempts to deliver these notices."""
    if job.outbox is None:
        return ()
    return tuple(webhooks.notify(job_id, job.outbox, notice, _data(job_id, job, notice)) for notice in notices)


def _data(job_id: str, job: Job, notice: Notice) -> dict[str, Any]:
    """Build a notice's data: without request and result, which a client fetches by the id.

    The data must be the same in every attempt, so it holds only values that don't change any more.
    """
    if notice.refund is not None:
        return {"jobId": job_id, **refund_notices.data(notice.refund)}
    state = notice.type.removeprefix("job.")
    data: dict[str, Any] = {"jobId": job_id, "state": state}
    if state == JobState.AWAITING_WORK_PAYMENT and job.work_invoice is not None:
        data["amountSats"] = job.work_invoice.amount_sats
        data["expiresAt"] = timestamp(job.work_invoice.expires_at_ms)
    elif state == JobState.COMPLETE and job.ledger is not None:
        data["chargedMsat"] = job.ledger.charged_msat.value
        data["refundMsat"] = job.ledger.refund_msat.value
    return data
