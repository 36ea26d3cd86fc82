"""Payouts: paying back what is owed, by a BOLT11 invoice of the client's, at most once whatever happens.

A payout is journaled before it is sent. From then on it is pending until the node says paid or failed: an exception, a
time-out or a "pending" of the node are no failures, and nothing is sent again while one may still succeed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Self

import msgspec
from msgspec.structs import replace

from .behaviour import Event, Once
from .errors import Code, Refusal, wrong_state
from .money import MSAT_PER_SAT, ZERO, Msat

_RESERVE_LEAST: Final = Msat.from_sats(2)
_RESERVE_DIVISOR: Final = 100
# The network is what stands between "ln" and the amount (BOLT 11, "Human-Readable Part").
_NETWORK: Final = re.compile(r"ln(bcrt|bc|tbs|tb|[a-z]+)")


class PayoutTarget(msgspec.Struct, frozen=True):
    """The client's invoice, decoded and checked by whoever took it from the client."""

    payment_request: str
    payment_hash: str
    amount_msat: Msat


class PayoutStatus(StrEnum):
    """What a node says of an outgoing payment. `absent`: it has never heard of it, so far."""

    PAID = "paid"
    FAILED = "failed"
    PENDING = "pending"
    ABSENT = "absent"


class PayoutReport(msgspec.Struct, frozen=True):
    """The node's word on a payout; the routing fee is known once it is paid."""

    status: PayoutStatus
    fee_msat: Msat = ZERO


class SentPayment(msgspec.Struct, frozen=True):
    """A payment of ours that went out, as the node lists it. `fee_msat` is what routing cost.

    `row_id` tells payments apart that went to the same invoice, of which there should never be two.
    """

    row_id: str
    payment_hash: str
    amount_msat: Msat
    fee_msat: Msat
    actor_id: str


def fee_reserve(amount_msat: Msat) -> Msat:
    """What must be left for routing: max(2 sat, 1 %), rounded up. Source: LNbits's own fee reserve."""
    return max(_RESERVE_LEAST, Msat(-(-amount_msat.value // _RESERVE_DIVISOR)))


def largest_payout(owed_msat: Msat) -> Msat:
    """The largest invoice, in whole sats, that what is owed covers together with its fee reserve; 0 if none."""
    sats = max(0, (owed_msat.value - _RESERVE_LEAST.value) // MSAT_PER_SAT)
    while sats and Msat.from_sats(sats) + fee_reserve(Msat.from_sats(sats)) > owed_msat:
        # From above, where the first guess left too little for 1 %; it is never more than about 1 % too high.
        sats = min(sats - 1, owed_msat.value * _RESERVE_DIVISOR // ((_RESERVE_DIVISOR + 1) * MSAT_PER_SAT))
    return Msat.from_sats(sats)


def network_of(payment_request: str) -> str:
    """The network that an invoice is for, as its prefix names it; empty for what is no invoice."""
    match = _NETWORK.match(payment_request)
    return match[1] if match else ""


class Payout(msgspec.Struct, frozen=True):
    """The payout that is under way.

    sending: the call to the node has not ended, as far as is known. After it, `failure_final_at_ms` is from when on a
    node is believed that the payment failed, or that it has never heard of it. Snapshots keep it under its first name.
    """

    target: PayoutTarget
    reserve_msat: Msat
    started_at_ms: int
    once: Once | None
    sending: bool = True
    failure_final_at_ms: int = msgspec.field(default=0, name="absent_is_failed_at_ms")

    @property
    def total_msat(self) -> Msat:
        """What it may take: the amount and what is reserved for routing."""
        return self.target.amount_msat + self.reserve_msat


class Refunds(msgspec.Struct, frozen=True):
    """An actor's payouts. `ended` says of each invoice that one was tried with whether it was paid.

    `left_msat` is what the last paid one left owed, for the client to ask for or to let go.
    """

    under_way: Payout | None = None
    ended: Mapping[str, bool] = {}
    last_failed: bool = False
    left_msat: Msat = ZERO


class OwingBooks(msgspec.Struct, frozen=True):
    """The part of double entry that speaks of refunds.

    spent: ours. owed: the client's, to be refunded. pending: in a payout whose outcome isn't known. refunded: paid
    back.
    """

    spent: Msat = ZERO
    owed: Msat = ZERO
    pending: Msat = ZERO
    refunded: Msat = ZERO

    @property
    def nothing_payable(self) -> bool:
        """Whether less is owed than any payout needs, and none is under way."""
        return not self.pending and not largest_payout(self.owed)

    def begin_payout(self, payout: Payout) -> Self:
        """The amount and its reserve are set aside."""
        return replace(self, owed=self.owed - payout.total_msat, pending=self.pending + payout.total_msat)

    def end_payout(self, payout: Payout, fee_msat: Msat) -> Self:
        """It was paid: the routing fee is spent, what is left of the reserve is owed again."""
        return replace(
            self,
            pending=self.pending - payout.total_msat,
            refunded=self.refunded + payout.target.amount_msat,
            spent=self.spent + fee_msat,
            owed=self.owed + (payout.reserve_msat - fee_msat),
        )

    def fail_payout(self, payout: Payout) -> Self:
        """It failed for certain: all of it is owed again."""
        return replace(self, owed=self.owed + payout.total_msat, pending=self.pending - payout.total_msat)


class LedgerEvent(Event, frozen=True, kw_only=True):
    """An event with its place in the ledger: the number of the last entry, and the balance, after it.

    Entries are found by these in the journal. Actors without a ledger leave them at zero.
    """

    seq: int = 0
    balance_msat: Msat = ZERO


class PayoutStarted(LedgerEvent, frozen=True, kw_only=True, tag="payout_started"):
    """A payout is about to be sent."""

    target: PayoutTarget
    reserve_msat: Msat
    once: Once | None = None


class PayoutUnclear(LedgerEvent, frozen=True, kw_only=True, tag="payout_unclear"):
    """The node said that the payment is pending, or the call to it ended without its word that it was paid.

    The field has the name that it was first journaled under, when it spoke of absence alone.
    """

    failure_final_at_ms: int = msgspec.field(name="absent_is_failed_at_ms")


class PayoutPaid(LedgerEvent, frozen=True, kw_only=True, tag="payout_paid"):
    """The node says that the payout was paid. `fee_msat` is the routing fee as far as its reserve covers it."""

    payment_hash: str
    fee_msat: Msat


class PayoutFailed(LedgerEvent, frozen=True, kw_only=True, tag="payout_failed"):
    """The node says that the payout failed, and so will never be paid."""


PayoutEvent = PayoutStarted | PayoutUnclear | PayoutPaid | PayoutFailed


class RefundState(StrEnum):
    """Where a refund stands."""

    NONE = "none"
    OWED = "owed"
    PENDING = "pending"
    PAID = "paid"


class RefundView(msgspec.Struct, frozen=True):
    """What is owed to the client and what was paid back. `failed`: the last payout did; another may be asked for."""

    owed_msat: Msat
    paid_msat: Msat
    state: RefundState
    failed: bool = False


def refund_view(books: OwingBooks, refunds: Refunds) -> RefundView:
    """What the client sees. While a payout is under way, its amount still counts as owed.

    The client chose the amount of a payout: what that left owed does not make it an unfinished one.
    """
    owed = books.owed + books.pending
    if books.pending:
        state = RefundState.PENDING
    elif books.refunded and books.owed <= refunds.left_msat and not refunds.last_failed:
        state = RefundState.PAID
    else:
        state = RefundState.OWED if owed else RefundState.NONE
    return RefundView(owed_msat=owed, paid_msat=books.refunded, state=state, failed=refunds.last_failed)


def refund_pending() -> Refusal:
    """Another payout is under way; it may still succeed, so no other may begin."""
    message = "A payout is under way and may still succeed: ask again later how it ended."
    return Refusal(Code.REFUND_PENDING, message, retry_after_s=5)


def payout_refusal(refunds: Refunds, target: PayoutTarget, payable_msat: Msat, network: str) -> Refusal | None:
    """Why this payout can't begin now, if it can't. Whether it is the one under way is the caller's to see before."""
    if refunds.under_way is not None:
        return refund_pending()
    if target.payment_hash in refunds.ended:
        return wrong_state("owed", "The payout to this invoice has failed: send another invoice.")
    if network_of(target.payment_request) != network:
        return _unfit("The invoice is for another network than this server's node")
    largest = largest_payout(payable_msat)
    if target.amount_msat > largest:
        return _unfit(
            f"At most {largest.whole_sats} sats can be paid out: what is owed, less a reserve for routing fees "
            "of 2 sats or 1 %",
            maxSats=largest.whole_sats,
        )
    return None


def _unfit(message: str, **details: int) -> Refusal:
    fields = [{"path": "paymentRequest", "message": message}]
    return Refusal(Code.INVALID_REQUEST, f"{message}.", {"fields": fields, **details})
