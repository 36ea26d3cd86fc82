"""Everything that can go wrong, as exceptions to catch by kind. None of them holds a secret or a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .models import Answer, Invoice, JobStatus


class SatmeterError(Exception):
    """Whatever this client raises."""


# Refusals of the server


class ApiError(SatmeterError):
    """The server refused. `code` is stable, `details` has all fields of its answer that help to mend it."""

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

    def __str__(self) -> str:
        return f"{self.message} ({self.code}, {self.request_id or 'no request id'})"

    def _invoice(self, name: str) -> Invoice | None:
        try:
            return msgspec.convert(self.details.get(name), Invoice | None)
        except msgspec.ValidationError:
            return None


class InvalidRequestError(ApiError):
    """What was sent does not fit; `fields` says where and why."""

    @property
    def fields(self) -> list[dict[str, str]]:
        """Each with `path` and `message`."""
        found = self.details.get("fields")
        return found if isinstance(found, list) else []


class CredentialError(ApiError):
    """The macaroon is missing, malformed, or none of this session."""


class PaymentRequiredError(ApiError):
    """The session's deposit has not been paid."""

    @property
    def deposit_invoice(self) -> Invoice | None:
        """The invoice to pay, where the server named one."""
        return self._invoice("depositInvoice")


class InsufficientBalanceError(ApiError):
    """The balance does not cover the smallest useful answer."""

    @property
    def required_msat(self) -> int | None:
        """What that answer can cost at most."""
        return self.details.get("requiredMsat")

    @property
    def balance_msat(self) -> int | None:
        """What there is."""
        return self.details.get("balanceMsat")

    @property
    def top_up_invoice(self) -> Invoice | None:
        """An invoice that mends it, where the server named one."""
        return self._invoice("topUpInvoice")


class CaveatViolatedError(ApiError):
    """The macaroon was narrowed, and forbids this."""

    @property
    def caveat(self) -> str | None:
        """The one that forbids it."""
        return self.details.get("caveat")


class NotFoundError(ApiError):
    """There is no such thing on this server."""


class WrongStateError(ApiError):
    """It is not possible now."""

    @property
    def state(self) -> str | None:
        """What the job or session is in."""
        return self.details.get("state")


class IdempotencyConflictError(ApiError):
    """The idempotency key was used with another body."""


class SessionOverError(ApiError):
    """The session was closed or has expired. What was left of it is owed."""


class RefundPendingError(ApiError):
    """A payout is under way, and may still succeed."""


class RateLimitedError(ApiError):
    """Too much from this address; `retry_after_s` says when it fits again."""


class ModelFailedError(ApiError):
    """The model provider failed."""

    @property
    def debited_msat(self) -> int:
        """What was charged for what it had given before."""
        debited = self.details.get("debitedMsat")
        return debited if isinstance(debited, int) else 0


class UnavailableError(ApiError):
    """Something that the server depends on can't be reached."""


BY_CODE: Final[Mapping[str, type[ApiError]]] = {
    "invalid_request": InvalidRequestError,
    "missing_credential": CredentialError,
    "invalid_credential": CredentialError,
    "payment_required": PaymentRequiredError,
    "insufficient_balance": InsufficientBalanceError,
    "caveat_violated": CaveatViolatedError,
    "not_found": NotFoundError,
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
"""The kind of each code; others are plain `ApiError`."""


# No good answer


class NoAnswerError(SatmeterError):
    """The server could not be reached, or its answers got lost, in all attempts."""


class UnexpectedAnswerError(SatmeterError):
    """What answered is no Satmeter server, or one that breaks its contract."""


class StreamInterruptedError(SatmeterError):
    """A stream broke, and the answer that came instead begins otherwise: `answer` is the whole of it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("The stream broke off and the answer was written anew: it is in .answer, and is paid.")
        self.answer = answer


class JobTimeoutError(SatmeterError):
    """The job is not done in time. It goes on by itself: look at it later by its `job_id`."""

    def __init__(self, job: JobStatus) -> None:
        super().__init__(f"{job.job_id} is still {job.state}; it goes on by itself, look again later.")
        self.job_id = job.job_id
        self.job = job


# Sessions and wallets


class NoSessionError(SatmeterError):
    """There is no session, and no wallet to open one with."""


class SessionFileError(SatmeterError):
    """The file with the session can't be used; the text says why."""


class WalletError(SatmeterError):
    """The wallet can't do what was asked of it. Nothing was paid."""


class WrongInvoiceError(SatmeterError):
    """The server's invoice is not the one that was asked for. It was not paid."""


class PriceTooHighError(SatmeterError):
    """More than the most that you allowed. It was not paid."""

    def __init__(self, price_sats: int, max_sats: int, what: str) -> None:
        super().__init__(f"{what} costs {price_sats} sats, and {max_sats} are allowed: it was not paid.")
        self.price_sats = price_sats
        self.max_sats = max_sats


class BudgetExceededError(SatmeterError):
    """The payment would exceed the budget. It was not made."""

    def __init__(self, needed_sats: int, left_sats: int, budget_sats: int) -> None:
        super().__init__(
            f"{needed_sats} sats are needed, but {left_sats} are left of the budget of {budget_sats}: nothing was paid."
        )
        self.needed_sats = needed_sats
        self.left_sats = left_sats
        self.budget_sats = budget_sats


class PaymentFailedError(SatmeterError):
    """The wallet has not paid, for certain."""


class PaymentInDoubtError(SatmeterError):
    """Whether the wallet has paid is not known yet. Nothing else is paid until then; `invoice` is the one."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(
            f"It is not known whether the invoice {invoice.payment_hash} over {invoice.amount_sats} sats was paid. It "
            "counts against the budget, and nothing else is paid before the wallet or the server knows."
        )
        self.invoice = invoice


class PaymentNotSeenError(SatmeterError):
    """The wallet has paid, but the server has not seen it yet. It is credited when it does; don't pay it again."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(
            f"The invoice {invoice.payment_hash} over {invoice.amount_sats} sats was paid, but the server has not seen "
            "it yet. It credits it when it does: try again later."
        )
        self.invoice = invoice
