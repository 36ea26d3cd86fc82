"""OpenAPI operations of jobs."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from ..openapi.operation import BODY_ERRORS, JOBS, JSON, Answer, Operation, Parameter, idempotent, json_answer
from ..payments.schemas import RefundOrder
from ..response import sse
from . import schemas

JOB_ID: Final = Parameter(
    "jobId", "path", "The job.", {"type": "string", "pattern": "^job_[A-Za-z0-9_-]{32}$"}, required=True
)

CREATE_JOB: Final = Operation(
    id="createJob",
    tag=JOBS,
    summary="Open a job",
    description="Answers with the invoice of the evaluation. Pay it, and the request is evaluated. With a `webhook`, "
    "`job.awaiting_work_payment`, `job.complete`, `job.rejected`, `job.failed` and `job.expired` are sent there: ids, "
    "state and amounts, signed as Standard Webhooks has it with the `secret` of the answer. Each is sent again under "
    "the same `webhook-id`, for a day, until a 2xx; a 410 ends it. With `refundTo`, what the job owes at its end is "
    "paid there by itself, and `refund.paid` is sent, or `refund.failed` with the reason.",
    body=schemas.NewJob,
    parameters=(idempotent("the same job and the same answer"),),
    answers=(
        Answer(201, "The job. Its fee is kept if the request is rejected.", {JSON: schemas.JobCreated}, ("Location",)),
    ),
    errors=(
        *BODY_ERRORS,
        Code.IDEMPOTENCY_CONFLICT,
        Code.RATE_LIMITED,
        Code.UNAVAILABLE,
    ),
)
SHOW_JOB: Final = Operation(
    id="getJob",
    tag=JOBS,
    summary="Look at a job",
    description="`awaiting_eval_payment → evaluating → awaiting_work_payment → executing → complete`; or `rejected` "
    "with its `reason`, `failed` with its `errorMessage`, `expired` when an invoice was not paid in time.\n\n"
    "A failed job owes all that was paid for it; where the model refused the work, the evaluation's fee is kept.",
    parameters=(JOB_ID,),
    answers=json_answer("The job as it is now.", schemas.JobStatus),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
WATCH_JOB: Final = Operation(
    id="watchJob",
    tag=JOBS,
    summary="Follow a job",
    description="Server-sent events: `event: state`, whose data is the JobStatus, one now and one for each change. "
    "The stream ends after a final state; if it ends before, connect again. `event: error` carries an error.",
    parameters=(
        JOB_ID,
        Parameter(
            "Last-Event-ID",
            "header",
            "Sent by browsers when they connect again; if it is the final state's, the answer is 204.",
            {"type": "string"},
        ),
    ),
    answers=(
        Answer(200, "The events.", {sse.MEDIA_TYPE: None}),
        Answer(204, "The last event that you saw is final: there are no more.", {}),
    ),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
REFUND_JOB: Final = Operation(
    id="refundJob",
    tag=JOBS,
    summary="Have a refund paid out",
    description="Pays what a job owes to an invoice of yours. A Lightning address or LNURL-pay code is asked for the "
    "invoice. Repeating it with the same invoice or Idempotency-Key pays once; with another one it re-points a payout "
    "that failed for certain, never one that may still succeed.",
    body=RefundOrder,
    parameters=(JOB_ID, idempotent("the same payout and the same answer")),
    answers=json_answer("The job. Its `refund` says how it ended.", schemas.JobStatus),
    errors=(
        *BODY_ERRORS,
        Code.NOT_FOUND,
        Code.WRONG_STATE,
        Code.IDEMPOTENCY_CONFLICT,
        Code.REFUND_PENDING,
        Code.UNAVAILABLE,
    ),
)
