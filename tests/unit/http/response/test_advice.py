"""Advice in errors: for each code what a program does next, and what became of its payment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from satmeter.actors.domain import errors as refusals
from satmeter.actors.domain.errors import Code, PaymentState, Refusal, RefusedError, RetryAction
from satmeter.actors.ports import TransientError
from satmeter.http.request_facts import RequestFacts, facts_of
from satmeter.http.response import errors
from satmeter.http.response.advice import INTERNAL_ERROR, advice_of, advice_of_code
from satmeter.http.response.error_formats import anthropic, either, openai, plain

INVOICE = {"paymentRequest": "lnbc1"}
NOTHING_PAID = RequestFacts("req_1")
SPENDS = RequestFacts("req_1", pays=True)
KEYED = RequestFacts("req_1", keyed=True, pays=True)
READS = RequestFacts("req_1", reads=True, pays=True)
# What each code advises, for a request without money behind it and for one that spends a session's.
EXPECTED: dict[Code, tuple[str, str, str]] = {
    Code.INVALID_REQUEST: ("stop", "none", "unused"),
    Code.MISSING_CREDENTIAL: ("stop", "none", "none"),
    Code.INVALID_CREDENTIAL: ("stop", "none", "none"),
    Code.PAYMENT_REQUIRED: ("stop", "none", "none"),
    Code.INSUFFICIENT_BALANCE: ("ask_a_person", "unused", "unused"),
    Code.CAVEAT_VIOLATED: ("ask_a_person", "unused", "unused"),
    Code.NOT_FOUND: ("stop", "none", "unused"),
    Code.MODEL_NOT_FOUND: ("stop", "none", "unused"),
    Code.METHOD_NOT_ALLOWED: ("stop", "none", "unused"),
    Code.REQUEST_TIMEOUT: ("retry", "none", "unused"),
    Code.WRONG_STATE: ("stop", "none", "unused"),
    Code.IDEMPOTENCY_CONFLICT: ("stop", "none", "unused"),
    Code.EXPIRED: ("stop", "unused", "unused"),
    Code.CLOSED: ("stop", "unused", "unused"),
    Code.BODY_TOO_LARGE: ("stop", "none", "unused"),
    Code.UNSUPPORTED_MEDIA_TYPE: ("stop", "none", "unused"),
    Code.HEADERS_TOO_LARGE: ("stop", "none", "unused"),
    Code.REFUND_PENDING: ("wait", "in_flight", "in_flight"),
    Code.RATE_LIMITED: ("wait", "none", "unused"),
    Code.MODEL_FAILED: ("retry", "none", "unused"),
    Code.UNAVAILABLE: ("retry", "none", "unused"),
    Code.OVERLOADED: ("retry", "none", "unused"),
}


def told(error: Exception, facts: RequestFacts = SPENDS, shape: Any = plain) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(errors.answer(error, facts, shape).body)
    return body


def advised(refusal: Refusal, facts: RequestFacts = SPENDS) -> tuple[str, str]:
    body = told(RefusedError(refusal), facts)
    return body["retryAction"], body["paymentState"]


@pytest.mark.parametrize("code", Code)
def test_every_code_has_its_advice(code: Code) -> None:
    action, unpaid, paid = EXPECTED[code]
    assert advised(Refusal(code, "No."), NOTHING_PAID) == (action, unpaid)
    assert advised(Refusal(code, "No."), SPENDS) == (action, paid)


@pytest.mark.parametrize("shape", [plain, anthropic, openai, either])
@pytest.mark.parametrize("code", [*Code, INTERNAL_ERROR])
def test_every_error_has_both_fields_in_every_format(code: str, shape: Any) -> None:
    error: Exception = ValueError() if code == INTERNAL_ERROR else RefusedError(Refusal(Code(code), "No."))
    for facts in (NOTHING_PAID, SPENDS, KEYED, READS):
        body = told(error, facts, shape)
        assert RetryAction(body["retryAction"]) and PaymentState(body["paymentState"])
    assert set(advice_of_code(code)) == {"retryAction", "paymentState"}


def test_an_invoice_in_the_body_is_there_to_be_paid() -> None:
    required = Refusal(Code.PAYMENT_REQUIRED, "Pay.", {"depositInvoice": INVOICE})
    assert advised(required, NOTHING_PAID) == ("pay", "none")
    lacking = Refusal(Code.INSUFFICIENT_BALANCE, "Top up.", {"topUpInvoice": INVOICE})
    assert advised(lacking) == ("pay", "unused")
    # A prompt that only a part of the balance covers may be shortened as well.
    assert advised(Refusal(Code.INVALID_REQUEST, "Too long.", {"topUpInvoice": INVOICE})) == ("pay", "unused")


@pytest.mark.parametrize("refusal", [refusals.in_doubt(), refusals.unconfirmed(), refusals.cut_off()])
def test_an_unknown_outcome_is_repeated_under_its_key_alone(refusal: Refusal) -> None:
    assert advised(refusal, KEYED) == ("retry_same_key", "in_flight")
    assert advised(refusal, SPENDS) == ("ask_a_person", "in_flight")
    assert advised(refusal, READS) == ("retry", "unused")
    assert advised(refusal, READS._replace(keyed=True)) == ("retry", "unused")
    assert advised(refusal, NOTHING_PAID) == ("retry", "none")
    assert advised(refusal, NOTHING_PAID._replace(keyed=True)) == ("retry_same_key", "none")


def test_a_defect_is_repeated_under_its_key_alone() -> None:
    assert told(ValueError(), KEYED)["retryAction"] == "retry_same_key"
    for facts in (SPENDS, READS, NOTHING_PAID):
        assert told(ValueError(), facts)["retryAction"] == "ask_a_person"
    assert told(ValueError(), SPENDS)["paymentState"] == "in_flight"
    assert told(ValueError(), READS)["paymentState"] == "unused"


def test_what_was_charged_before_the_failure_is_settled() -> None:
    charged = Refusal(Code.MODEL_FAILED, "Broke.", {"debitedMsat": 5, "balanceMsat": 7})
    assert advised(charged) == advised(charged, KEYED) == ("stop", "settled")
    free = Refusal(Code.MODEL_FAILED, "Broke.", {"debitedMsat": 0, "balanceMsat": 7})
    assert advised(free) == ("retry", "unused")


@pytest.mark.parametrize("refusal", [refusals.wallet_short(), refusals.broken(), refusals.broken(begun=True)])
def test_what_only_the_operator_can_mend_asks_for_a_person(refusal: Refusal) -> None:
    assert advised(refusal, KEYED)[0] == "ask_a_person"


def test_what_ends_by_itself_is_waited_for() -> None:
    assert advised(refusals.not_yet("pending", "Later."), READS) == ("wait", "in_flight")
    renewed = Refusal(Code.CAVEAT_VIOLATED, "Tomorrow.", {"caveat": "max_msat"}, retry_after_s=60)
    assert advised(renewed) == ("wait", "unused")


def test_a_refusal_that_knows_better_wins() -> None:
    own = Refusal(Code.RATE_LIMITED, "No.", {"retryAction": "stop"}, retry_after_s=1)
    assert advice_of(own, SPENDS) == {"retryAction": "stop", "paymentState": "unused"}


def test_a_silent_store_is_tried_again() -> None:
    assert told(TransientError("gone"))["retryAction"] == "retry"


def test_the_facts_are_the_request_s() -> None:
    scope: dict[str, Any] = {"satmeter.request_id": "req_1", "method": "GET", "headers": []}
    assert facts_of(scope) == RequestFacts("req_1", reads=True)
    scope.update(method="POST", headers=[(b"idempotency-key", b"mine")])
    assert facts_of(scope) == RequestFacts("req_1", keyed=True)
