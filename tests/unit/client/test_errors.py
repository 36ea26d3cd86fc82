"""Advice of the client's exceptions: what a program does next, and what became of its payment."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from satmeter import client
from satmeter.client import ApiError, PaymentState, Retries, RetryAction, SatmeterError
from satmeter.client.errors import BY_CODE
from satmeter.client.flow import Send, deliver
from satmeter.client.wire import Server, refusal
from satmeter.scripts.ask.ask import advice
from tests.helpers.client_world import SERVER, refused

ADVICE = {"retryAction": "pay", "paymentState": "unused"}
EXCEPTIONS = [kind for name in client.__all__ if isinstance(kind := getattr(client, name), type)]


def api_error(**details: Any) -> ApiError:
    found = refusal(refused(402, "insufficient_balance", **details))
    assert isinstance(found, ApiError)
    return found


def test_a_refusal_has_the_server_s_advice() -> None:
    error = api_error(**ADVICE)
    assert (error.retry_action, error.payment_state) == (RetryAction.PAY, PaymentState.UNUSED)
    assert advice(error) == "[retry_action: pay, payment_state: unused]"


@pytest.mark.parametrize("details", [{}, {"retryAction": "dance", "paymentState": 7}, {"retryAction": None}])
def test_what_a_server_does_not_say_is_left_to_a_person(details: dict[str, Any]) -> None:
    error = api_error(**details)
    assert (error.retry_action, error.payment_state) == (RetryAction.ASK_A_PERSON, PaymentState.IN_FLIGHT)


def test_every_exception_has_both() -> None:
    kinds = [kind for kind in EXCEPTIONS if issubclass(kind, SatmeterError)]
    assert len(kinds) > 25 and set(BY_CODE.values()) <= set(kinds)
    for kind in kinds:
        assert isinstance(kind.retry_action, RetryAction) and isinstance(kind.payment_state, PaymentState)


def test_what_was_paid_or_may_have_been_is_never_paid_again_without_its_key() -> None:
    for kind in (client.PaymentInDoubtError, client.PaymentNotSeenError):
        assert (kind.retry_action, kind.payment_state) == (RetryAction.WAIT, PaymentState.IN_FLIGHT)
    assert client.NoAnswerError.retry_action is RetryAction.RETRY_SAME_KEY
    assert client.StreamInterruptedError.payment_state is PaymentState.SETTLED


@pytest.mark.parametrize(
    ("action", "times"), [(None, 3), ("retry", 3), ("wait", 3), ("retry_same_key", 3), ("stop", 1), ("ask_a_person", 1)]
)
def test_the_client_itself_sends_nothing_again_that_the_server_advises_against(action: str | None, times: int) -> None:
    details = {} if action is None else {"retryAction": action}
    reply = refused(503, "unavailable", **details)
    flow = deliver(Server(SERVER, Retries()).request("GET", "/pricing"), Retries(attempts_max=3))
    sent, step = [], next(flow)
    with suppress(StopIteration):
        while True:
            if isinstance(step, Send):
                sent.append(step.request)
            step = flow.send(reply if isinstance(step, Send) else None)
    assert len(sent) == times
