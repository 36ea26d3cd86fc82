"""Refusals of the product: each with a stable code, a sentence for a person, and details that help to mend it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from .provider_faults import ModelFault

_RETRY_AFTER_S: Final = 2


class Code(StrEnum):
    """The stable codes of the contract's error table. Clients branch on them: never rename one."""

    INVALID_REQUEST = "invalid_request"
    MISSING_CREDENTIAL = "missing_credential"
    INVALID_CREDENTIAL = "invalid_credential"
    PAYMENT_REQUIRED = "payment_required"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    CAVEAT_VIOLATED = "caveat_violated"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    WRONG_STATE = "wrong_state"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    EXPIRED = "expired"
    CLOSED = "closed"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    HEADERS_TOO_LARGE = "headers_too_large"
    REFUND_PENDING = "refund_pending"
    RATE_LIMITED = "rate_limited"
    MODEL_FAILED = "model_failed"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"


class RetryAction(StrEnum):
    """The next step of a program after an error, without a person. Clients branch on them: never rename one."""

    RETRY = "retry"
    RETRY_SAME_KEY = "retry_same_key"
    PAY = "pay"
    WAIT = "wait"
    STOP = "stop"
    ASK_A_PERSON = "ask_a_person"


class PaymentState(StrEnum):
    """The state of the payment that a refused request relied on. Clients branch on them: never rename one."""

    NONE = "none"
    UNUSED = "unused"
    IN_FLIGHT = "in_flight"
    SETTLED = "settled"


RETRY_ACTION: Final = "retryAction"
PAYMENT_STATE: Final = "paymentState"
"""Fields of every error. The front derives them; a refusal that knows better has them in its details."""
_OPERATORS: Final = {RETRY_ACTION: RetryAction.ASK_A_PERSON.value}
IN_DOUBT: Final = "inDoubt"
_IN_DOUBT: Final = {IN_DOUBT: True}


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """A refused command, as a value. `details` are wire fields in camelCase, beside `error` and `code`."""

    code: Code
    message: str
    details: dict[str, Any] = {}
    retry_after_s: int | None = None


class RefusedError(Exception):
    """Exception that carries a `Refusal` through code that returns other answers; the HTTP layer makes it a body."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code.value)
        self.refusal = refusal


def not_found(what: str) -> Refusal:
    """Refuse an id or path that does not exist, or not any more."""
    return Refusal(Code.NOT_FOUND, f"There is no such {what}.")


def model_not_found(listed_at: str) -> Refusal:
    """Refuse a model without a price. `listed_at` is the path that lists those that have one."""
    message = f"There is no such model; GET {listed_at} lists those that exist"
    return Refusal(Code.MODEL_NOT_FOUND, f"{message}.", {"fields": [{"path": "model", "message": message}]})


def wrong_state(state: str, message: str) -> Refusal:
    """Refuse a command that exists but is not possible in this state; the answer names the state."""
    return Refusal(Code.WRONG_STATE, message, {"state": state})


def not_yet(state: str, message: str) -> Refusal:
    """Refuse a command that becomes possible by itself once the work that is under way has ended."""
    details = {"state": state, RETRY_ACTION: RetryAction.WAIT.value, PAYMENT_STATE: PaymentState.IN_FLIGHT.value}
    return Refusal(Code.WRONG_STATE, message, details, retry_after_s=_RETRY_AFTER_S)


def idempotency_conflict() -> Refusal:
    """Refuse an Idempotency-Key that came with another body before."""
    return Refusal(
        Code.IDEMPOTENCY_CONFLICT,
        "This Idempotency-Key was used with another body: send the same body, or use a new key.",
    )


def unavailable(what: str, retry_after_s: int = _RETRY_AFTER_S) -> Refusal:
    """Refuse while something that we depend on can't be reached; nothing was charged."""
    return Refusal(
        Code.UNAVAILABLE,
        f"{what} can't be reached just now; nothing was charged. Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def in_doubt() -> Refusal:
    """Report an unknown outcome: the host that had the request was lost, and may have done it and charged for it."""
    return Refusal(
        Code.UNAVAILABLE,
        "The actors' host was lost before it had answered, and it is not known what it has done: send the same again "
        "with its Idempotency-Key, or look before you ask again.",
        _IN_DOUBT,
        retry_after_s=_RETRY_AFTER_S,
    )


def unconfirmed() -> Refusal:
    """Report work that is done but not journaled yet: it is charged for once the store answers again."""
    return Refusal(
        Code.UNAVAILABLE,
        "The store can't be reached just now, and what was done may be charged yet: send the same again with its "
        "Idempotency-Key, or look before you ask again.",
        _IN_DOUBT,
        retry_after_s=_RETRY_AFTER_S,
    )


def cut_off() -> Refusal:
    """Report an unknown outcome: the server ends during the request, which may have been done and charged for."""
    return Refusal(
        Code.UNAVAILABLE,
        "The server ends before this was answered, and it is not known what was done: send the same again with its "
        "Idempotency-Key, or look before you ask again.",
        _IN_DOUBT,
        retry_after_s=_RETRY_AFTER_S,
    )


def behind() -> Refusal:
    """Refuse under overload, because queueing more requests would only add to it."""
    text = "The server is overloaded; nothing was charged. Try again in 1 s."
    return Refusal(Code.UNAVAILABLE, text, retry_after_s=1)


def too_many_waiting() -> Refusal:
    """Refuse because the actor has more requests waiting than it can answer before their callers give up."""
    text = "Too many requests wait here already; nothing was charged. Wait for some of their answers, then try again."
    return Refusal(Code.UNAVAILABLE, text, retry_after_s=1)


def broken(*, begun: bool = False) -> Refusal:
    """Refuse for an actor that can't go on, by a defect of ours; `begun`: work for the caller may have been done."""
    text = "This can't be continued before an operator has looked at it."
    if begun:
        text = f"{text} It is not known what was done: send the same again later, with its Idempotency-Key."
        return Refusal(Code.UNAVAILABLE, text, {**_IN_DOUBT, **_OPERATORS}, retry_after_s=60)
    return Refusal(Code.UNAVAILABLE, f"{text} Nothing is lost; try again later.", _OPERATORS, retry_after_s=60)


def node_unavailable(retry_after_ms: int = 0) -> Refusal:
    """Refuse while the Lightning node is unreachable or overloaded; retry when it said, at the earliest in 2 s."""
    return unavailable("The Lightning node", max(_RETRY_AFTER_S, -(-retry_after_ms // 1_000)))


def wallet_short() -> Refusal:
    """Refuse new payments because the wallet holds less than clients are owed. Only its operator can mend that."""
    text = (
        "No new payments are taken: the operator of this server must first look after its wallet. Nothing was charged, "
        "and what was paid before can be used and is paid back."
    )
    return Refusal(Code.UNAVAILABLE, text, _OPERATORS, retry_after_s=60)


def model_failed(fault: ModelFault | None = None, retry_after_ms: int = 0) -> Refusal:
    """Report that the model provider gave no answer. Without a fault that passes by itself, it failed for good."""
    wait_s = max(_RETRY_AFTER_S, -(-retry_after_ms // 1_000))
    match fault:
        case ModelFault.LIMITED:
            code, told = Code.RATE_LIMITED, "The model provider takes no more requests from this server just now"
        case ModelFault.OVERLOADED:
            code, told = Code.OVERLOADED, "The model provider is overloaded just now"
        case ModelFault.UNREACHABLE | ModelFault.UNAVAILABLE | ModelFault.REFUSED:
            return unavailable("The model", wait_s)
        case _:
            text = "The model provider could not answer this request; nothing was charged for it."
            return Refusal(Code.MODEL_FAILED, text)
    return Refusal(code, f"{told}; nothing was charged. Try again in {wait_s} s.", retry_after_s=wait_s)
