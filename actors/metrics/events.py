"""Metrics of what happened to sessions and jobs: made of the events that were written, so that none counts in vain.

They are figures for charts. Money is in the journals, and nothing decides by these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter

from ..domain import sums as names
from ..domain.behaviour import Event
from ..domain.job.state import JobAccepted, JobCompleted, JobExpired, JobFailed, JobOpened, JobRejected
from ..domain.payments.payouts import PayoutFailed, PayoutPaid, PayoutStarted, PayoutUnclear
from ..domain.pricing import ModelPrice
from ..domain.session.state import (
    HoldReleased,
    RequestFinished,
    Session,
    SessionClosed,
    SessionExpired,
    SessionOpened,
)
from .tokens import OTHER, TokenCollector

_MSAT: Final[Mapping[str, str]] = {
    names.RECEIVED: "received",
    names.CHARGED: "debited",
    names.RETURNED: "returned",
    names.REFUNDED: "refunded",
    names.ROUTING: "routing_fees",
    names.UNCOVERED: "uncovered_fees",
}
_RELEASED: Final = "released"
_REFUSED: Final = "refused"
_SESSIONS: Final[Mapping[type[Event], str]] = {
    SessionOpened: "opened",
    SessionClosed: "closed",
    SessionExpired: "expired",
}
_JOBS: Final[Mapping[type[Event], str]] = {
    JobOpened: "opened",
    JobRejected: "rejected",
    JobCompleted: "complete",
    JobFailed: "failed",
    JobExpired: "expired",
}
_PAYOUTS: Final[Mapping[type[Event], str]] = {
    PayoutStarted: "started",
    PayoutPaid: "paid",
    PayoutFailed: "failed",
    PayoutUnclear: "unclear",
}


class EventMetrics:
    """Counts of a host's written events. `evaluator`: the model that judges the requests of sessions."""

    def __init__(self, registry: CollectorRegistry, prices: Mapping[str, ModelPrice], evaluator: str) -> None:
        self._models = prices
        self._evaluator = evaluator
        self._tokens = TokenCollector(prices)
        registry.register(self._tokens)
        self._requests = Counter(
            "satmeter_session_requests", "Requests of sessions.", ["model", "ending"], registry=registry
        )
        # Finding the series of some labels costs more than counting.
        self._endings: dict[tuple[str, str], Counter] = {}
        msat = Counter("satmeter_msat", "Millisatoshis that were moved.", ["kind"], registry=registry)
        self._msat = {name: msat.labels(kind) for name, kind in _MSAT.items()}
        self._plain: dict[type[Event], Counter] = {}
        for name, text, label, outcomes in (
            ("satmeter_sessions", "Sessions.", "event", _SESSIONS),
            ("satmeter_jobs", "Jobs.", "event", _JOBS),
            ("satmeter_payouts", "Steps of payouts.", "outcome", _PAYOUTS),
        ):
            counter = Counter(name, text, [label], registry=registry)
            self._plain.update({event: counter.labels(outcome) for event, outcome in outcomes.items()})
            if outcomes is _PAYOUTS:
                self._refused = counter.labels(_REFUSED)
        self.activations = Counter("satmeter_activations", "Actors that were read into memory.", registry=registry)
        self._others: dict[type[Event], Callable[[Any, Any], None]] = {
            RequestFinished: self._finished,
            HoldReleased: self._released,
            JobAccepted: self._used_in_job,
            JobRejected: self._used_in_job,
            JobCompleted: self._used_in_job,
            PayoutFailed: self._failed,
        }

    def wrote(self, before: Any, events: Sequence[Event], sums: Mapping[str, int]) -> None:
        """Count events that were written upon a state of an actor. `sums`: what they add to the operator's figures."""
        for event in events:
            kind = type(event)
            if (counter := self._plain.get(kind)) is not None:
                counter.inc()
            if (count := self._others.get(kind)) is not None:
                count(before, event)
        for name, amount in sums.items():
            if (total := self._msat.get(name)) is not None:
                total.inc(amount)

    def _finished(self, before: Session | None, event: RequestFinished) -> None:
        model = _model_of(before, event.name)
        self._ended(model, event.ending)
        if event.work_usage is not None:
            self._tokens.add(model, event.work_usage)
        if event.evaluation_usage is not None:
            self._tokens.add(self._evaluator, event.evaluation_usage)

    def _released(self, before: Session | None, event: HoldReleased) -> None:
        self._ended(_model_of(before, event.name), _RELEASED)

    def _ended(self, model: str, ending: str) -> None:
        counter = self._endings.get((model, ending))
        if counter is None:
            counter = self._requests.labels(model if model in self._models else OTHER, ending)
            if model in self._models:
                self._endings[model, ending] = counter
        counter.inc()

    def _used_in_job(self, before: object, event: JobAccepted | JobRejected | JobCompleted) -> None:
        if event.usage is not None:
            self._tokens.add(event.model, event.usage)

    def _failed(self, before: object, event: PayoutFailed) -> None:
        if event.refusal is not None:
            self._refused.inc()


def _model_of(session: Session | None, hold: str) -> str:
    found = None if session is None else session.holds.get(hold)
    return OTHER if found is None else found.model
