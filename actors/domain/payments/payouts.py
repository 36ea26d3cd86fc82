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

from ..behaviour import Event, Once
from ..errors import Code, Refusal, wrong_state
from ..money import MSAT_PER_SAT, ZERO, Msat

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


class PayoutRefusal(StrEnum):
    """Why the node would pay nothing at all just now. All of it is for the operator to mend, and none for a client.

    key: it does not take our key, or not for paying. funds: the wallet holds too little. rules: a rule of its own.
    """

    KEY = "key"
    FUNDS = "funds"
    RULES = "rules"


class PayoutReport(msgspec.Struct, frozen=True):
    """The node's word on a payout; the routing fee is known once it is paid. `refusal`: it never tried to pay."""

    status: PayoutStatus
    fee_msat: Msat = ZERO
    refusal: PayoutRefusal | None = None


class SentPayment(msgspec.Struct, frozen=True):
    """A payment of ours that went out, as the node lists it. `fee_msat` is what routing cost.

    `row_id` tells payments apart that went to the same invoice, of which there should never be two. `at_ms`: when it
    was made; 0 where the node does not say.
    """

    row_id: str
    payment_hash: str
    amount_msat: Msat
    fee_msat: Msat
    actor_id: str
    at_ms: int = 0


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


def payable(owed_msat: Msat, *, whole: bool) -> Msat:
    """The most that an invoice may ask for of what is owed: `whole`, or with the fee reserve left."""
    return Msat.from_sats(owed_msat.whole_sats) if whole else largest_payout(owed_msat)


def reserve_for(amount_msat: Msat, owed_msat: Msat, *, whole: bool) -> Msat:
    """What is set aside for routing a payout. Of what is owed whole it is no more than is left beside the amount."""
    reserve_msat = fee_reserve(amount_msat)
    return min(reserve_msat, owed_msat - amount_msat) if whole else reserve_msat


def network_of(payment_request: str) -> str:
    """The network that an invoice is for, as its prefix names it; empty for what is no invoice."""
    match = _NETWORK.match(payment_request)
    return match[1] if match else ""


class Payout(msgspec.Struct, frozen=True):
    """The payout that is under way.

    sending: the call to the node has not ended, as far as is known. After it, `failure_final_at_ms` is from when on a
    node is believed that the payment failed, or that it has never heard of it. Snapshots keep it under its first name.
    `refusal`: what the call itself said, if the node would not pay at all.
    """

    target: PayoutTarget
    reserve_msat: Msat
    started_at_ms: int
    once: Once | None
    sending: bool = True
    failure_final_at_ms: int = msgspec.field(default=0, name="absent_is_failed_at_ms")
    refusal: PayoutRefusal | None = None

    @property
    def total_msat(self) -> Msat:
        """What it may take: the amount and what is reserved for routing."""
        return self.target.amount_msat + self.reserve_msat


class Refunds(msgspec.Struct, frozen=True):
    """An actor's payouts. `ended` says of each invoice that one was tried with whether it was paid.

    `last_refusal`: why the node never tried the last payout, if so. Its invoice is not in `ended`, and may be sent
    again. `whole`: what is owed is owed for a failure of ours, and is paid out without a reserve for routing.
    """

    under_way: Payout | None = None
    ended: Mapping[str, bool] = {}
    last_failed: bool = False
    last_refusal: PayoutRefusal | None = None
    whole: bool = False


class OwingBooks(msgspec.Struct, frozen=True):
    """The part of double entry that speaks of refunds.

    spent: ours. owed: the client's, to be refunded. pending: in a payout whose outcome isn't known. refunded: paid
    back.
    """

    spent: Msat = ZERO
    owed: Msat = ZERO
    pending: Msat = ZERO
    refunded: Msat = ZERO

    def payable(self, refunds: Refunds, unspent: Msat = ZERO) -> Msat:
        """The most that an invoice may ask for now; nothing while a payout is under way.

        `unspent`: what would be owed too if the actor were closed with the invoice.
        """
        return ZERO if self.pending else payable(self.owed + unspent, whole=refunds.whole)

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
    refusal: PayoutRefusal | None = None


class PayoutPaid(LedgerEvent, frozen=True, kw_only=True, tag="payout_paid"):
    """The node says that the payout was paid. `fee_msat` is the routing fee as far as its reserve covers it."""

    payment_hash: str
    fee_msat: Msat


class PayoutFailed(LedgerEvent, frozen=True, kw_only=True, tag="payout_failed"):
    """The node says that the payout failed, and so will never be paid. `refusal`: it never tried to."""

    refusal: PayoutRefusal | None = None


PayoutEvent = PayoutStarted | PayoutUnclear | PayoutPaid | PayoutFailed


class RefundState(StrEnum):
    """Where a refund stands. paid: nothing is left that could be paid out. partly_paid: some is."""

    NONE = "none"
    OWED = "owed"
    PENDING = "pending"
    PARTLY_PAID = "partly_paid"
    PAID = "paid"


class RefundView(msgspec.Struct, frozen=True):
    """What is owed to the client and what was paid back. `failed`: the last payout did; another may be asked for.

    `payable_sats`: the most that an invoice may ask for now. `refusal`: why the node never tried the last payout.
    """

    owed_msat: Msat
    paid_msat: Msat
    state: RefundState
    failed: bool = False
    payable_sats: int = 0
    refusal: PayoutRefusal | None = None


def refund_view(books: OwingBooks, refunds: Refunds, unspent: Msat = ZERO) -> RefundView:
    """What the client sees. While a payout is under way, its amount still counts as owed.

    `unspent`: what an invoice may ask for beside it, although it is not owed yet.
    """
    return RefundView(
        owed_msat=books.owed + books.pending,
        paid_msat=books.refunded,
        state=_refund_state(books, refunds),
        failed=refunds.last_failed,
        payable_sats=books.payable(refunds, unspent).whole_sats,
        refusal=refunds.last_refusal,
    )


def _refund_state(books: OwingBooks, refunds: Refunds) -> RefundState:
    if books.pending:
        return RefundState.PENDING
    if books.refunded:
        return RefundState.PARTLY_PAID if books.payable(refunds) else RefundState.PAID
    return RefundState.OWED if books.owed else RefundState.NONE


def refund_pending() -> Refusal:
    """Another payout is under way; it may still succeed, so no other may begin."""
    message = "A payout is under way and may still succeed: ask again later how it ended."
    return Refusal(Code.REFUND_PENDING, message, retry_after_s=5)


def payout_refusal(refunds: Refunds, target: PayoutTarget, owed_msat: Msat, network: str) -> Refusal | None:
    """Why this payout can't begin now, if it can't. Whether it is the one under way is the caller's to see before."""
    if refunds.under_way is not None:
        return refund_pending()
    if target.payment_hash in refunds.ended:
        return wrong_state("owed", "The payout to this invoice has failed: send another invoice.")
    if network_of(target.payment_request) != network:
        return _unfit("The invoice is for another network than this server's node")
    largest = payable(owed_msat, whole=refunds.whole)
    if target.amount_msat > largest:
        less = "" if refunds.whole else ", less a reserve for routing fees of 2 sats or 1 %"
        text = f"At most {largest.whole_sats} sats can be paid out: what is owed{less}"
        return _unfit(text, maxSats=largest.whole_sats)
    return None


def _unfit(message: str, **details: int) -> Refusal:
    fields = [{"path": "paymentRequest", "message": message}]
    return Refusal(Code.INVALID_REQUEST, f"{message}.", {"fields": fields, **details})
