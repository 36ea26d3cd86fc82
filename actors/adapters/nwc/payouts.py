"""Answers of wallets about payments that we order. Source: NIP-47; Alby Hub, `transactions_service.go`.

An error in the answer to an order is the wallet's word about this call, not about the payment: Alby Hub calls a payment
that takes too long an INTERNAL error, and goes on with it. The codes below come before a wallet tries to pay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ...domain.money import ZERO
from ...domain.payments.bolt11 import read_invoice
from ...domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...ports import PermanentError, PortError, TransientError
from ..lightning.reading import rubbish, sane_msat
from .exchange import Answer
from .messages import (
    NO_RIGHT,
    RATE_LIMITED,
    Direction,
    PaidAnswer,
    State,
    Transaction,
    failure,
    is_not_found,
    is_preimage_of,
    read,
)

_REFUSALS: Final[Mapping[str, PayoutRefusal]] = {
    **dict.fromkeys(NO_RIGHT, PayoutRefusal.KEY),
    "INSUFFICIENT_BALANCE": PayoutRefusal.FUNDS,
    "QUOTA_EXCEEDED": PayoutRefusal.RULES,
    RATE_LIMITED: PayoutRefusal.RULES,
}
# A wallet that was away gets what its relay kept for it when it comes back, the newest first. Its "never heard of it"
# means something when it has stayed with it for this long. As long as our patience with an answer that was lost.
SETTLES_S: Final = 300.0
_HASHES_MAX: Final = 10_000


class Absences:
    """Memory of payments that the wallet did not know, to tell "never" from "not yet". Lost with the process.

    A lost memory costs time alone: the wallet is asked again for `settles_s`. It holds which payments had failed, too:
    Alby Hub says so only until their invoice lapses. `seen_everywhere_since` tells whether the
    wallet has spoken over all relays since then, so that none keeps an order back.
    """

    def __init__(
        self,
        seen_everywhere_since: Callable[[float], bool],
        *,
        settles_s: float = SETTLES_S,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._seen_everywhere_since = seen_everywhere_since
        self._settles_s = settles_s
        self._clock_s = clock_s
        self._first_s: dict[str, float] = {}
        self._refused: dict[str, None] = {}
        self._failed: dict[str, None] = {}

    def refuse(self, payment_hash: str) -> None:
        """Remember that the wallet itself has answered the order with a refusal."""
        self._refused[payment_hash] = None
        _shorten(self._refused)

    def order(self, payment_hash: str) -> None:
        """Remember that the payment was ordered: what the wallet said of it before is void."""
        for memory in (self._first_s, self._refused, self._failed):
            memory.pop(payment_hash, None)

    def found(self, payment_hash: str, status: PayoutStatus) -> None:
        """Remember that the wallet knows the payment, and that it had failed."""
        self._first_s.pop(payment_hash, None)
        if status is PayoutStatus.FAILED:
            self._failed[payment_hash] = None
            _shorten(self._failed)

    def has_failed(self, payment_hash: str) -> bool:
        """Return whether the wallet has said that the payment of the last order had failed."""
        return payment_hash in self._failed

    def is_certain(self, target: PayoutTarget, asked_at_s: float) -> bool:
        """Return whether the wallet, which does not know a payment, will never make it.

        `asked_at_s` is the time of `monotonic_s` just before it was asked.
        """
        payment_hash = target.payment_hash
        if payment_hash in self._refused:
            return True
        first_s = self._first_s.setdefault(payment_hash, asked_at_s)
        _shorten(self._first_s)
        if asked_at_s - first_s < self._settles_s:
            return False
        return self._seen_everywhere_since(first_s) or self._has_lapsed(target)

    def _has_lapsed(self, target: PayoutTarget) -> bool:
        """Return whether no wallet pays the invoice any more, even one whose clock is slow."""
        try:
            expires_at_ms = read_invoice(target.payment_request).expires_at_ms
        except ValueError:
            return False
        return self._clock_s() * 1_000 > expires_at_ms + self._settles_s * 1_000


def read_order_answer(answer: Answer, target: PayoutTarget) -> PayoutReport:
    """Return the report in the answer to an order. Without a proof that it was paid, the look-up must tell."""
    if answer.error is not None:
        return PayoutReport(PayoutStatus.FAILED, refusal=_REFUSALS.get(answer.error.code or ""))
    try:
        paid = msgspec.convert(answer.result, PaidAnswer)
    except msgspec.ValidationError:
        return PayoutReport(PayoutStatus.PENDING)
    if paid.fees_paid is None or not is_preimage_of(paid.preimage, target.payment_hash):
        return PayoutReport(PayoutStatus.PENDING)
    return PayoutReport(PayoutStatus.PAID, sane_msat(abs(paid.fees_paid)))


def read_look_up(answer: Answer, target: PayoutTarget, *, failed: bool = False) -> PayoutReport | None:
    """Return the state of an outgoing payment, None where the wallet tells of an incoming one alone.

    `failed`: the wallet has said so before. ABSENT is the wallet's "never heard of it", which `Absences` judges. Raises
    `PortError`.
    """
    if answer.error is not None:
        if is_not_found(answer.error):
            return PayoutReport(PayoutStatus.ABSENT)
        raise failure(answer.error)
    payment = read(answer, Transaction)
    if payment.hash != target.payment_hash:
        raise rubbish("another payment than the one that was asked for")
    return None if payment.type == Direction.INCOMING else report_of(payment, target, failed=failed)


def report_of(payment: Transaction, target: PayoutTarget, *, failed: bool = False) -> PayoutReport:
    """Return the report of an outgoing payment. Raises `PortError` where the wallet does not tell what became of it."""
    if payment.type != Direction.OUTGOING:
        raise rubbish("a payment in no direction")
    match payment.outgoing_state():
        case State.UNPAID:
            return PayoutReport(PayoutStatus.PENDING)
        case State.FAILED:
            return PayoutReport(PayoutStatus.FAILED)
        case State.LAPSED if failed:
            return PayoutReport(PayoutStatus.FAILED)
        case State.LAPSED | State.UNTOLD:
            raise PermanentError("the wallet does not tell what became of a payment")
    if payment.amount is None or sane_msat(abs(payment.amount)) != target.amount_msat:
        raise rubbish("a payment over another amount")
    if payment.fees_paid is None:
        raise PermanentError("the wallet does not tell what the route of a payment cost")
    return PayoutReport(PayoutStatus.PAID, sane_msat(abs(payment.fees_paid)))


def sent_payment(payment: Transaction) -> SentPayment:
    """Return a paid outgoing payment. What it lacks is empty, so that the row still counts as one of the page."""
    payment_hash = payment.hash or ""
    return SentPayment(
        payment_hash,
        payment_hash,
        ZERO if payment.amount is None else sane_msat(abs(payment.amount)),
        ZERO if payment.fees_paid is None else sane_msat(abs(payment.fees_paid)),
        "",
        (payment.settled_at or payment.created_at or 0) * 1_000,
    )


def is_refusal(report: PayoutReport) -> bool:
    """Return whether a report on an order is a refusal from before the wallet tried to pay."""
    return report.status is PayoutStatus.FAILED and report.refusal is not None


def not_yet_certain() -> PortError:
    """Return the error for a payment that the wallet does not know, where it may still get the order."""
    return TransientError("the wallet does not know the payment, but may still get the order from a relay")


def _shorten(memory: dict[str, Any]) -> None:
    while len(memory) > _HASHES_MAX:
        del memory[next(iter(memory))]
