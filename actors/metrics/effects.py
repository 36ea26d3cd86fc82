"""Metrics of what hosts have done outside: effects, their times, and calls to upstreams."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from ..domain.behaviour import Command, Done, Failed, Intent
from ..domain.llm.intents import AnswerRequest, CountPrompt, Evaluate, RelayRequest, Work
from ..domain.payments.intents import (
    IssueInvoice,
    LookUpInvoice,
    LookUpPayout,
    ReleaseUnpaid,
    ResolveRefund,
    SendPayout,
)
from ..domain.provider_faults import ModelFault
from ..domain.webhooks import Notify
from ..port_errors import HeldBackError, ModelError, PermanentError, PortError
from .tokens import OTHER

_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FIRST_TOKEN_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 30, 60)
_EFFECTS: Final[Mapping[type[Intent], str]] = {
    AnswerRequest: "answer",
    RelayRequest: "relay",
    CountPrompt: "count_prompt",
    Evaluate: "evaluate",
    Work: "work",
    IssueInvoice: "issue_invoice",
    LookUpInvoice: "look_up_invoice",
    SendPayout: "send_payout",
    LookUpPayout: "look_up_payout",
    ResolveRefund: "resolve_refund",
    ReleaseUnpaid: "release_unpaid",
    Notify: "notify",
}
_ANSWERED: Final = "answered"
_HELD_BACK: Final = "held_back"
_REFUSED: Final = "refused_request"
_OUTCOMES: Final = (_ANSWERED, _HELD_BACK, _REFUSED, OTHER, *map(str, ModelFault))


def effect_name(intent: Intent) -> str:
    """Return the name of an intent's kind, as metrics and traces have it."""
    return _EFFECTS.get(type(intent), OTHER)


class EffectMetrics:
    """Counts and times of a host's effects, and of its calls to upstreams."""

    def __init__(self, registry: CollectorRegistry, models: Collection[str], upstreams: Iterable[str]) -> None:
        self._models = models
        seconds = Histogram(
            "satmeter_effect_seconds",
            "Time until the outcome of an effect.",
            ["effect"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        failures = Counter("satmeter_effect_failures", "Effects that failed.", ["effect"], registry=registry)
        self._seconds = {intent: seconds.labels(name) for intent, name in _EFFECTS.items()}
        self._failures = {intent: failures.labels(name) for intent, name in _EFFECTS.items()}
        self._first_token = Histogram(
            "satmeter_time_to_first_token_seconds",
            "Time from the start of a streamed call to the first piece of its answer.",
            ["model"],
            buckets=_FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        calls = Counter("satmeter_upstream_calls", "Calls to upstreams.", ["upstream", "outcome"], registry=registry)
        self._calls = {name: {each: calls.labels(name, each) for each in _OUTCOMES} for name in upstreams}

    def ended(self, outcome: Command, seconds: float, first_token_s: float | None) -> None:
        """Count an effect's outcome. `first_token_s`: the time until the first piece of a streamed answer."""
        assert isinstance(outcome, Done | Failed)
        intent = type(outcome.intent)
        if intent not in self._seconds:
            return
        self._seconds[intent].observe(seconds)
        if isinstance(outcome, Failed):
            self._failures[intent].inc()
        if first_token_s is not None and isinstance(outcome.intent, AnswerRequest | RelayRequest):
            model = outcome.intent.model
            self._first_token.labels(model if model in self._models else OTHER).observe(first_token_s)

    def called(self, upstream: str, error: PortError | None = None) -> None:
        """Count a call whose answer began, or with an error one that failed; one that breaks off midway is both."""
        outcomes = self._calls.get(upstream)
        if outcomes is not None:
            outcomes[_ANSWERED if error is None else _outcome_of(error)].inc()


def _outcome_of(error: PortError) -> str:
    if isinstance(error, HeldBackError):
        return _HELD_BACK
    if isinstance(error, ModelError):
        return error.fault.value
    return _REFUSED if isinstance(error, PermanentError) else OTHER
