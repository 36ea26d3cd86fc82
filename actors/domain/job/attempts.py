"""Attempts of a job's steps: when a step is retried, when an attempt counts, and when the step has failed."""

from __future__ import annotations

from typing import Final

from ..backoff import pause_after
from ..behaviour import NOTHING, Decision, Failed
from ..provider_faults import ModelFault
from .failures import failure
from .state import AttemptFailed, AttemptStarted, Job, JobFailed, Step, StepKind

_BACKOFF_FIRST_MS: Final = 1_000
_BACKOFF_MAX_MS: Final = 30_000
# The longest pause of a step that waits for the model to come back.
_PUT_OFF_MAX_MS: Final = 15_000
# An attempt to make an invoice costs nothing; all of them take about two and a half minutes. Failing earlier would
# waste the client's wait for the evaluation.
_INVOICE_ATTEMPTS: Final = 10
# An invoice may be paid at the end of its life, or later: the step must still get some time.
_PATIENCE_LEAST_MS: Final = 30_000
# These faults say nothing of the request and cost nothing: the model was not asked, or took nothing up.
_OUTAGES: Final = frozenset(
    {
        ModelFault.UNREACHABLE,
        ModelFault.UNAVAILABLE,
        ModelFault.OVERLOADED,
        ModelFault.LIMITED,
        ModelFault.REFUSED,
    }
)


def key(step: Step) -> str:
    """Return the key of the attempt that is under way."""
    return f"{step.kind}#{step.attempt}"


def is_of(step: Step | None, intent_key: str) -> bool:
    """Return True if the intent's key is that of the attempt under way."""
    return step is not None and step.under_way and intent_key == key(step)


def failed(job: Job, command: Failed, model_attempts: int, patience_ms: int, now_ms: int) -> Decision:
    """Decide what follows from a failed attempt. While the model is away it does not count, and is put off.

    `patience_ms`: how much longer than its invoice lived an evaluation may wait for the model.
    """
    step = job.step
    if step is None or not is_of(step, command.intent.key):
        return NOTHING
    if command.fault in _OUTAGES and not command.permanent:
        return _put_off(job, step, command, patience_ms, now_ms)
    if command.permanent or step.attempt >= _most(step, model_attempts):
        return Decision((failure(job, step.kind, now_ms, of_request=command.of_request),))
    backoff_ms = pause_after(step.attempt - 1, _BACKOFF_FIRST_MS, _BACKOFF_MAX_MS)
    retry_at_ms = now_ms + max(backoff_ms, command.retry_after_ms)
    return Decision((AttemptFailed(now_ms, step.kind, step.attempt, retry_at_ms),))


def _put_off(job: Job, step: Step, command: Failed, patience_ms: int, now_ms: int) -> Decision:
    """Put the step off, or fail it when the invoice that was paid for it has expired, and the patience is over."""
    expires_at_ms = job.eval_invoice.expires_at_ms + patience_ms
    if step.kind is StepKind.WORK and job.work_invoice is not None:
        expires_at_ms = job.work_invoice.expires_at_ms
    ends_at_ms = max(expires_at_ms, step.since_ms + _PATIENCE_LEAST_MS)
    if now_ms >= ends_at_ms:
        return Decision((failure(job, step.kind, now_ms, outlasted=True),))
    backoff_ms = pause_after(step.put_offs, _BACKOFF_FIRST_MS, _PUT_OFF_MAX_MS)
    retry_at_ms = min(now_ms + max(backoff_ms, command.retry_after_ms), ends_at_ms)
    return Decision((AttemptFailed(now_ms, step.kind, step.attempt, retry_at_ms, put_off=True),))


def due(step: Step, now_ms: int) -> AttemptStarted:
    """Return the start of the attempt that is due: the next one, or the same again if it was put off."""
    return AttemptStarted(now_ms, step.kind, step.attempt if step.waits_for_model else step.attempt + 1)


def lost(job: Job, step: Step, model_attempts: int, now_ms: int) -> AttemptStarted | JobFailed:
    """Start the next attempt after one was lost with its host, or fail: a lost attempt counts."""
    if step.attempt >= _most(step, model_attempts):
        return failure(job, step.kind, now_ms)
    return AttemptStarted(now_ms, step.kind, step.attempt + 1)


def _most(step: Step, model_attempts: int) -> int:
    return _INVOICE_ATTEMPTS if step.kind is StepKind.INVOICE else model_attempts
