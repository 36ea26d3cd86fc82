"""Advice in errors: what a program does next, and what became of the payment that it relied on.

It follows from the code, the refusal's details and the facts of the request. A refusal's own advice wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...actors.domain.errors import IN_DOUBT, PAYMENT_STATE, RETRY_ACTION, Code, PaymentState, Refusal, RetryAction
from ..request_facts import RequestFacts

_ACTIONS: Final[Mapping[Code, RetryAction]] = {
    Code.INVALID_REQUEST: RetryAction.STOP,
    Code.MISSING_CREDENTIAL: RetryAction.STOP,
    Code.INVALID_CREDENTIAL: RetryAction.STOP,
    Code.PAYMENT_REQUIRED: RetryAction.STOP,
    Code.INSUFFICIENT_BALANCE: RetryAction.ASK_A_PERSON,
    Code.CAVEAT_VIOLATED: RetryAction.ASK_A_PERSON,
    Code.NOT_FOUND: RetryAction.STOP,
    Code.MODEL_NOT_FOUND: RetryAction.STOP,
    Code.METHOD_NOT_ALLOWED: RetryAction.STOP,
    Code.REQUEST_TIMEOUT: RetryAction.RETRY,
    Code.WRONG_STATE: RetryAction.STOP,
    Code.IDEMPOTENCY_CONFLICT: RetryAction.STOP,
    Code.EXPIRED: RetryAction.STOP,
    Code.CLOSED: RetryAction.STOP,
    Code.BODY_TOO_LARGE: RetryAction.STOP,
    Code.UNSUPPORTED_MEDIA_TYPE: RetryAction.STOP,
    Code.HEADERS_TOO_LARGE: RetryAction.STOP,
    Code.REFUND_PENDING: RetryAction.WAIT,
    Code.RATE_LIMITED: RetryAction.WAIT,
    Code.MODEL_FAILED: RetryAction.RETRY,
    Code.UNAVAILABLE: RetryAction.RETRY,
    Code.OVERLOADED: RetryAction.RETRY,
}
"""The action of each code, unless the details or the request say otherwise."""
# Codes that tell by themselves what became of the payment.
_STATES: Final[Mapping[Code, PaymentState]] = {
    Code.MISSING_CREDENTIAL: PaymentState.NONE,
    Code.INVALID_CREDENTIAL: PaymentState.NONE,
    Code.PAYMENT_REQUIRED: PaymentState.NONE,
    Code.INSUFFICIENT_BALANCE: PaymentState.UNUSED,
    Code.CAVEAT_VIOLATED: PaymentState.UNUSED,
    Code.EXPIRED: PaymentState.UNUSED,
    Code.CLOSED: PaymentState.UNUSED,
    Code.REFUND_PENDING: PaymentState.IN_FLIGHT,
}
_PAYABLE: Final = frozenset({Code.PAYMENT_REQUIRED, Code.INSUFFICIENT_BALANCE})
_INVOICES: Final = ("topUpInvoice", "depositInvoice")
_DEBITED: Final = "debitedMsat"


INTERNAL_ERROR: Final = "internal_error"


def advice_of_code(code: str) -> dict[str, str]:
    """Return the usual advice with a code: with an invoice where it has one, of a request that relies on no money."""
    facts = RequestFacts("")
    if code == INTERNAL_ERROR:
        return advice_for_defect(facts)
    details = dict.fromkeys(_INVOICES) if code in _PAYABLE else {}
    return advice_of(Refusal(Code(code), "", details), facts)


def advice_of(refusal: Refusal, facts: RequestFacts) -> dict[str, str]:
    """Return both fields of the advice for a refusal."""
    if IN_DOUBT in refusal.details:
        derived = advice_when_unknown(facts)
    else:
        derived = _advice(_action(refusal), _STATES.get(refusal.code, _untouched(facts)))
        if refusal.details.get(_DEBITED):
            # The same key gives the same failure, and another one costs again.
            derived = _advice(RetryAction.STOP, PaymentState.SETTLED)
    return {name: refusal.details.get(name, value) for name, value in derived.items()}


def advice_when_unknown(facts: RequestFacts) -> dict[str, str]:
    """Return the advice where it is not known what was done. Without a key, doing it again may cost again."""
    if facts.reads or not facts.pays:
        action = RetryAction.RETRY_SAME_KEY if facts.keyed and not facts.reads else RetryAction.RETRY
        return _advice(action, _untouched(facts))
    action = RetryAction.RETRY_SAME_KEY if facts.keyed else RetryAction.ASK_A_PERSON
    return _advice(action, PaymentState.IN_FLIGHT)


def advice_for_defect(facts: RequestFacts) -> dict[str, str]:
    """Return the advice for a defect of ours, after which only the ledger tells what was done."""
    if facts.keyed and not facts.reads:
        return advice_when_unknown(facts)
    return {**advice_when_unknown(facts), RETRY_ACTION: RetryAction.ASK_A_PERSON.value}


def _action(refusal: Refusal) -> RetryAction:
    if any(name in refusal.details for name in _INVOICES):
        return RetryAction.PAY
    if refusal.code is Code.CAVEAT_VIOLATED and refusal.retry_after_s is not None:
        return RetryAction.WAIT
    return _ACTIONS[refusal.code]


def _untouched(facts: RequestFacts) -> PaymentState:
    return PaymentState.UNUSED if facts.pays else PaymentState.NONE


def _advice(action: RetryAction, state: PaymentState) -> dict[str, str]:
    return {RETRY_ACTION: action.value, PAYMENT_STATE: state.value}
