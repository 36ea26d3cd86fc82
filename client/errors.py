"""Exceptions of the client, to catch by kind. None of them holds a secret or a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from ..actors.domain.errors import PAYMENT_STATE, RETRY_ACTION, PaymentState, RetryAction
from .models import Answer, Invoice, JobStatus


class SatmeterError(Exception):
    """The base of all exceptions of this client.

    `retry_action` says what a program does next, and `payment_state` what became of its payment, in the server's words:
    see "What a program does after an error" in docs/http-api.md.
    """

    retry_action: RetryAction = RetryAction.STOP
    payment_state: PaymentState = PaymentState.NONE


# Refusals of the server


W = TypeVar("W", bound=StrEnum)


def _word(kind: type[W], told: object, unknown: W) -> W:
    return next((word for word in kind if word == told), unknown)


class ApiError(SatmeterError):
    """A refusal of the server. `code` is stable, `details` has all fields of its answer that help to correct it."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        request_id: str | None,
        details: Mapping[str, Any],
        retry_after_s: float | None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.details = dict(details)
        self.retry_after_s = retry_after_s
        # A server of an earlier version says neither, and a later one may know more words.
        self.retry_action = _word(RetryAction, self.details.get(RETRY_ACTION), RetryAction.ASK_A_PERSON)
        self.payment_state = _word(PaymentState, self.details.get(PAYMENT_STATE), PaymentState.IN_FLIGHT)

    def __str__(self) -> str:
        return f"{self.message} ({self.code}, {self.request_id or 'no request id'})"

    def _invoice(self, name: str) -> Invoice | None:
        try:
            return msgspec.convert(self.details.get(name), Invoice | None)
        except msgspec.ValidationError:
            return None


class InvalidRequestError(ApiError):
    """An invalid request; `fields` says where and why."""

    @property
    def fields(self) -> list[dict[str, str]]:
        """The invalid fields, each with `path` and `message`."""
        found = self.details.get("fields")
        return found if isinstance(found, list) else []


class CredentialError(ApiError):
    """A macaroon that is missing, malformed, or of another session."""


class PaymentRequiredError(ApiError):
    """A session whose deposit has not been paid."""

    @property
    def deposit_invoice(self) -> Invoice | None:
        """The invoice to pay, if the server named one."""
        return self._invoice("depositInvoice")


class InsufficientBalanceError(ApiError):
    """A balance that does not cover the smallest useful answer."""

    @property
    def required_msat(self) -> int | None:
        """The most that the smallest useful answer can cost."""
        return self.details.get("requiredMsat")

    @property
    def balance_msat(self) -> int | None:
        """The session's balance."""
        return self.details.get("balanceMsat")

    @property
    def top_up_invoice(self) -> Invoice | None:
        """An invoice over the missing amount, if the server named one."""
        return self._invoice("topUpInvoice")


class CaveatViolatedError(ApiError):
    """A macaroon that was narrowed, and forbids the request."""

    @property
    def caveat(self) -> str | None:
        """The caveat that forbids it."""
        return self.details.get("caveat")

    @property
    def renews_at(self) -> str | None:
        """The time, in RFC 3339, at which the budget renews that is used up; None if waiting does not help."""
        return self.details.get("renewsAt")


class NotFoundError(ApiError):
    """A job, session, request, model or path that this server does not have."""


class WrongStateError(ApiError):
    """An operation that is not possible in the present state."""

    @property
    def state(self) -> str | None:
        """The state of the job or session."""
        return self.details.get("state")


class IdempotencyConflictError(ApiError):
    """An idempotency key that was used with another body."""


class SessionOverError(ApiError):
    """A session that was closed or has expired. Its rest is owed."""


class RefundPendingError(ApiError):
    """A payout that is under way, and may still succeed."""


class RateLimitedError(ApiError):
    """Too many requests from this address; `retry_after_s` says when to try again."""


class ModelFailedError(ApiError):
    """A failure of the model provider."""

    @property
    def debited_msat(self) -> int:
        """The charge for the part of the answer before the failure."""
        debited = self.details.get("debitedMsat")
        return debited if isinstance(debited, int) else 0


class UnavailableError(ApiError):
    """An outage of a part that the server depends on."""


BY_CODE: Final[Mapping[str, type[ApiError]]] = {
    "invalid_request": InvalidRequestError,
    "missing_credential": CredentialError,
    "invalid_credential": CredentialError,
    "payment_required": PaymentRequiredError,
    "insufficient_balance": InsufficientBalanceError,
    "caveat_violated": CaveatViolatedError,
    "not_found": NotFoundError,
    "model_not_found": NotFoundError,
    "wrong_state": WrongStateError,
    "idempotency_conflict": IdempotencyConflictError,
    "expired": SessionOverError,
    "closed": SessionOverError,
    "refund_pending": RefundPendingError,
    "rate_limited": RateLimitedError,
    "model_failed": ModelFailedError,
    "unavailable": UnavailableError,
    "overloaded": UnavailableError,
}
"""The exception of each code; others are plain `ApiError`."""


# No valid answer


class NoAnswerError(SatmeterError):
    """A server that could not be reached, or whose answers got lost, in all attempts."""

    retry_action = RetryAction.RETRY_SAME_KEY
    payment_state = PaymentState.IN_FLIGHT


class UnexpectedAnswerError(SatmeterError):
    """An answer that breaks the contract, or does not come from a Satmeter server."""

    retry_action = RetryAction.ASK_A_PERSON
    payment_state = PaymentState.IN_FLIGHT


class StreamInterruptedError(SatmeterError):
    """A stream that broke off, and whose repeated answer begins differently: `answer` is the whole new one."""

    retry_action = RetryAction.STOP
    payment_state = PaymentState.SETTLED

    def __init__(self, answer: Answer) -> None:
        super().__init__("The stream broke off and the answer was written again: it is in .answer, and is paid.")
        self.answer = answer


class JobTimeoutError(SatmeterError):
    """A job that is not done in time. It goes on by itself: look at it later by its `job_id`."""

    retry_action = RetryAction.WAIT
    payment_state = PaymentState.IN_FLIGHT

    def __init__(self, job: JobStatus) -> None:
        super().__init__(f"{job.job_id} is still {job.state}; it goes on by itself, look again later.")
        self.job_id = job.job_id
        self.job = job


# Sessions and wallets


class NoSessionError(SatmeterError):
    """A missing session, without a wallet to open one with."""

    retry_action = RetryAction.ASK_A_PERSON
    payment_state = PaymentState.NONE


class SessionFileError(SatmeterError):
    """A session file that can't be used; the text says why."""

    retry_action = RetryAction.ASK_A_PERSON
    payment_state = PaymentState.NONE


class WalletError(SatmeterError):
    """A wallet that can't do the operation. Nothing was paid."""

    retry_action = RetryAction.ASK_A_PERSON
    payment_state = PaymentState.NONE


class WrongInvoiceError(SatmeterError):
    """An invoice of the server that differs from the requested one. It was not paid."""

    retry_action = RetryAction.ASK_A_PERSON
    payment_state = PaymentState.NONE


class PriceTooHighError(SatmeterError):
    """A price above the limit that you set. It was not paid."""

    retry_action = RetryAction.ASK_A_PERSON
    payment_state = PaymentState.NONE

    def __init__(self, price_sats: int, max_sats: int, what: str) -> None:
        super().__init__(f"{what} costs {price_sats} sats, and {max_sats} are allowed: it was not paid.")
        self.price_sats = price_sats
        self.max_sats = max_sats


class BudgetExceededError(SatmeterError):
    """A payment that would exceed the budget. It was not made."""

    retry_action = RetryAction.ASK_A_PERSON
    payment_state = PaymentState.NONE

    def __init__(self, needed_sats: int, left_sats: int, budget_sats: int) -> None:
        super().__init__(
            f"{needed_sats} sats are needed, but {left_sats} are left of the budget of {budget_sats}: nothing was paid."
        )
        self.needed_sats = needed_sats
        self.left_sats = left_sats
        self.budget_sats = budget_sats


class PaymentFailedError(SatmeterError):
    """A payment that failed for certain: nothing was paid."""

    retry_action = RetryAction.RETRY
    payment_state = PaymentState.NONE


class PaymentInDoubtError(SatmeterError):
    """A payment whose outcome is not known yet. Nothing else is paid until it is known; `invoice` is its invoice."""

    retry_action = RetryAction.WAIT
    payment_state = PaymentState.IN_FLIGHT

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(
            f"It is not known whether the invoice {invoice.payment_hash} over {invoice.amount_sats} sats was paid. It "
            "counts against the budget, and nothing else is paid before the wallet or the server knows."
        )
        self.invoice = invoice


class PaymentNotSeenError(SatmeterError):
    """A payment that the server has not seen yet. It is credited once the server sees it; don't pay it again."""

    retry_action = RetryAction.WAIT
    payment_state = PaymentState.IN_FLIGHT

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(
            f"The invoice {invoice.payment_hash} over {invoice.amount_sats} sats was paid, but the server has not seen "
            "it yet. It credits it when it does: try again later."
        )
        self.invoice = invoice
