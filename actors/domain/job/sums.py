"""Sums of a job's events (see `domain/sums.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import sums as names
from ..behaviour import Event
from ..money import ZERO
from ..sums import Cost, Tally
from .state import (
    EvalPaid,
    Job,
    JobAccepted,
    JobBooks,
    JobCompleted,
    JobExpired,
    JobFailed,
    JobRejected,
)

_NO_BOOKS = JobBooks()


def sums(before: Job | None, events: Sequence[Event], after: Job) -> Mapping[str, int]:
    """Return what these events, which lead from one state to the other, add to the sums of their hour."""
    tally = Tally()
    books = _NO_BOOKS if before is None else before.books
    paid, returned = bool(books.received), ZERO
    for event in events:
        match event:
            case EvalPaid():
                tally.count(names.JOBS_PAID)
                paid = True
            case JobAccepted() | JobRejected():
                tally.count(names.JOBS_REJECTED, isinstance(event, JobRejected))
                if (cost := event.evaluation_cost) is not None:
                    tally.cost(event.model, (event.usage,), Cost(cost.usd, cost.btc_price_usd))
            case JobCompleted():
                assert after.breakdown is not None
                tally.count(names.JOBS_COMPLETE)
                model, btc_usd = after.breakdown.model, after.breakdown.btc_price.usd
                tally.cost(model, (event.usage,), Cost(event.cost_usd, btc_usd))
            case JobFailed():
                tally.count(names.JOBS_FAILED)
                returned += event.evaluation_returned_msat
            case JobExpired() if paid:
                tally.count(names.JOBS_EXPIRED)
    tally.count(names.RECEIVED, after.books.received.value - books.received.value)
    tally.money(books, after.books, events, returned)
    return tally
