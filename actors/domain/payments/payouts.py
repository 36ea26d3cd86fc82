"""Payouts: what is owed is paid back to a BOLT11 invoice of the client's, at most once whatever happens.

A payout is journaled before it is sent. From then on it is pending until the node says paid or failed. An exception, a
time-out or a "pending" of the node is not a failure, and no payout is sent while an earlier one may still succeed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, Self

import msgspec
from msgspec.structs import replace

from ..behaviour import Event, Once
from ..errors import Code, Refusal, wrong_state
from ..money import ZERO, Msat
from .routing_fees import RoutingFees
from .standing_refund import StandingRefund

LONG_MS: Final = 86_400_000
"""Age in ms from which on a payout under way is shown to the operator. It goes on all the same."""
# The network stands between "ln" and the amount (BOLT 11, "Human-Readable Part").
_NETWORK: Final = re.compile(r"ln(bcrt|bc|tbs|tb|[a-z]+)")


class PayoutTarget(msgspec.Struct, frozen=True):
    """The client's invoice, decoded and checked by the front that took it from the client.

    `internal`: the node made this invoice, and so pays it without a route.
    """

    payment_request: str
    payment_hash: str
    amount_msat: Msat
    internal: bool = False


class PayoutStatus(StrEnum):
    """Statuses of an outgoing payment at the node. `absent`: the node has never heard of it, so far."""

    PAID = "paid"
    FAILED = "failed"
    PENDING = "pending"
    ABSENT = "absent"


class PayoutRefusal(StrEnum):
    """Reasons why the node would pay nothing at all just now. The operator can mend them, a client can't.

    key: the node does not take our key, or not for paying. funds: the wallet holds too little. rules: a rule of the
    node's own, or channels that can't be used at the moment.
    """

    KEY = "key"
    FUNDS = "funds"
    RULES = "rules"


class PayoutReport(msgspec.Struct, frozen=True):
    """The node's report on a payout; the routing fee is known once it is paid. `refusal`: the node never tried."""

    status: PayoutStatus
    fee_msat: Msat = ZERO
    refusal: PayoutRefusal | None = None


class SentPayment(msgspec.Struct, frozen=True):
    """An outgoing payment, as the node lists it. `fee_msat` is the cost of routing; `actor_id` is "" for no actor's.

    `row_id` distinguishes payments to the same invoice, of which there should never be two. `at_ms` is the time of the
    payment; 0 where the node does not say.
    """

    row_id: str
    payment_hash: str
    amount_msat: Msat
    fee_msat: Msat
    actor_id: str
    at_ms: int = 0


def payable(owed_msat: Msat, fees: RoutingFees, *, whole: bool) -> Msat:
    """Return the largest amount that an invoice may ask for: all that is owed (`whole`), or less the fee reserve."""
    return Msat.from_sats(owed_msat.whole_sats) if whole else fees.largest_payout(owed_msat)


def reserve_for(target: PayoutTarget, fees: RoutingFees) -> Msat:
    """Return the reserve for routing a payout; none is needed for one that has no route."""
    return ZERO if target.internal else fees.reserve(target.amount_msat)


def network_of(payment_request: str) -> str:
    """Return the network that an invoice is for, as its prefix names it; empty if the text is not an invoice."""
    match = _NETWORK.match(payment_request)
    return match[1] if match else ""


class Payout(msgspec.Struct, frozen=True):
    """The payout that is under way.

    sending: the call to the node has not ended, as far as is known. After the call, the node's "failed" or "never heard
    of it" is final from `failure_final_at_ms` on; snapshots keep this field under its first name. `refusal`: the call's
    own reason, if the node would not pay at all. `refund_to`: see `PayoutStarted`.
    """

    target: PayoutTarget
    reserve_msat: Msat
    started_at_ms: int
    once: Once | None
    sending: bool = True
    failure_final_at_ms: int = msgspec.field(default=0, name="absent_is_failed_at_ms")
    refusal: PayoutRefusal | None = None
    refund_to: str | None = None

    @property
    def total_msat(self) -> Msat:
        """Largest sum that the payout may take: the amount and the reserve for routing."""
        return self.target.amount_msat + self.reserve_msat


class Route(msgspec.Struct, frozen=True):
    """Route of a payout: its reserve, and what it cost of that; `fee_msat` is None while that is unknown."""

    payment_hash: str
    reserve_msat: Msat
    fee_msat: Msat | None = None


class Refunds(msgspec.Struct, frozen=True):
    """An actor's payouts. `ended`: for each invoice that the node tried to pay, whether it was paid.

    `last_refusal`: the reason why the node never tried the last payout, if so. Its invoice is not in `ended`, and may
    be sent again. `whole`: the debt comes from a failure of ours, and is paid out without a reserve for routing.
    `standing`: the destination that what is owed is paid to by itself.
    `last_route`: that of the last payout that was paid.
    """

    under_way: Payout | None = None
    ended: Mapping[str, bool] = {}
    last_failed: bool = False
    last_refusal: PayoutRefusal | None = None
    whole: bool = False
    standing: StandingRefund | None = None
    last_route: Route | None = None

    @property
    def route(self) -> Route | None:
        """Route of the payout under way, else of the last one that was paid."""
        under_way = self.under_way
        return self.last_route if under_way is None else Route(under_way.target.payment_hash, under_way.reserve_msat)


class OwingBooks(msgspec.Struct, frozen=True):
    """The part of an actor's double entry that covers refunds.

    spent: ours. owed: the client's, to be refunded. pending: in a payout whose outcome isn't known. refunded: paid
    back.
    """

    spent: Msat = ZERO
    owed: Msat = ZERO
    pending: Msat = ZERO
    refunded: Msat = ZERO

    def payable(self, refunds: Refunds, fees: RoutingFees, unspent: Msat = ZERO) -> Msat:
        """Return the largest amount that an invoice may ask for now; zero while a payout is under way.

        `unspent`: the amount that closing the actor with the invoice would make owed, too.
        """
        return ZERO if self.pending else payable(self.owed + unspent, fees, whole=refunds.whole)

    def begin_payout(self, payout: Payout) -> Self:
        """Set the amount and its reserve aside."""
        return replace(self, owed=self.owed - payout.total_msat, pending=self.pending + payout.total_msat)

    def end_payout(self, payout: Payout, fee_msat: Msat) -> Self:
        """Book a paid payout: spend the routing fee, and owe the rest of the reserve again."""
        return replace(
            self,
            pending=self.pending - payout.total_msat,
            refunded=self.refunded + payout.target.amount_msat,
            spent=self.spent + fee_msat,
            owed=self.owed + (payout.reserve_msat - fee_msat),
        )

    def fail_payout(self, payout: Payout) -> Self:
        """Book a payout that failed for certain: owe all of it again."""
        return replace(self, owed=self.owed + payout.total_msat, pending=self.pending - payout.total_msat)


class LedgerEvent(Event, frozen=True, kw_only=True):
    """An event with its position in the ledger: the number of the last entry, and the balance, after it.

    Entries are found in the journal by these fields. Actors without a ledger leave them at zero.
    """

    seq: int = 0
    balance_msat: Msat = ZERO


class PayoutStarted(LedgerEvent, frozen=True, kw_only=True, tag="payout_started"):
    """A payout is about to be sent. `refund_to`: the destination that gave the invoice; None for a client's own."""

    target: PayoutTarget
    reserve_msat: Msat
    once: Once | None = None
    refund_to: str | None = None


class PayoutUnclear(LedgerEvent, frozen=True, kw_only=True, tag="payout_unclear"):
    """The node said that the payment is pending, or the call to it ended without its word that it was paid.

    The journal keeps the field under its first name, of a time when it applied to absence alone.
    """

    failure_final_at_ms: int = msgspec.field(name="absent_is_failed_at_ms")
    refusal: PayoutRefusal | None = None


class PayoutPaid(LedgerEvent, frozen=True, kw_only=True, tag="payout_paid"):
    """The node says that the payout was paid. `fee_msat` is the routing fee as far as its reserve covers it.

    `uncovered_msat`: the rest of it, which is our loss. `reserve_msat` is None in journals before format 5.
    """

    payment_hash: str
    fee_msat: Msat
    reserve_msat: Msat | None = None
    uncovered_msat: Msat = ZERO


class PayoutFailed(LedgerEvent, frozen=True, kw_only=True, tag="payout_failed"):
    """The node says that the payout failed, and so will never be paid. `refusal`: the node never tried to pay."""

    refusal: PayoutRefusal | None = None


PayoutEvent = PayoutStarted | PayoutUnclear | PayoutPaid | PayoutFailed


def open_payout(events: Sequence[Event]) -> bool | None:
    """Return whether the actor's last payout is unpaid after these events; None if they are about no payout."""
    for event in reversed(events):
        if isinstance(event, PayoutPaid):
            return False
        if isinstance(event, PayoutStarted | PayoutUnclear | PayoutFailed):
            return True
    return None


class RefundState(StrEnum):
    """States of a refund. paid: nothing is left that could be paid out. partly_paid: something is."""

    NONE = "none"
    OWED = "owed"
    PENDING = "pending"
    PARTLY_PAID = "partly_paid"
    PAID = "paid"


class RefundView(msgspec.Struct, frozen=True):
    """Amounts owed and paid back to the client. `failed`: the last payout failed; the client may ask for another.

    `payable_sats`: the most that an invoice may ask for now. `refusal`: why the node never tried the last payout.
    `standing`: the destination that it is paid to by itself.
    `route`: that of the payout under way, else of the last one that was paid.
    """

    owed_msat: Msat
    paid_msat: Msat
    state: RefundState
    failed: bool = False
    payable_sats: int = 0
    refusal: PayoutRefusal | None = None
    standing: StandingRefund | None = None
    route: Route | None = None


def refund_view(books: OwingBooks, refunds: Refunds, fees: RoutingFees, unspent: Msat = ZERO) -> RefundView:
    """Return the refund as its client sees it. While a payout is under way, its amount still counts as owed.

    `unspent`: an amount that an invoice may ask for as well, although it is not owed yet.
    """
    return RefundView(
        owed_msat=books.owed + books.pending,
        paid_msat=books.refunded,
        state=_refund_state(books, refunds, fees),
        failed=refunds.last_failed,
        payable_sats=books.payable(refunds, fees, unspent).whole_sats,
        refusal=refunds.last_refusal,
        standing=refunds.standing,
        route=refunds.route,
    )


def _refund_state(books: OwingBooks, refunds: Refunds, fees: RoutingFees) -> RefundState:
    if books.pending:
        return RefundState.PENDING
    if books.refunded:
        return RefundState.PARTLY_PAID if books.payable(refunds, fees) else RefundState.PAID
    return RefundState.OWED if books.owed else RefundState.NONE


def refund_pending() -> Refusal:
    """Refuse a payout because another is under way, which may still succeed."""
    message = "A payout is under way and may still succeed: ask again later how it ended."
    return Refusal(Code.REFUND_PENDING, message, retry_after_s=5)


def payout_refusal(
    refunds: Refunds, target: PayoutTarget, owed_msat: Msat, fees: RoutingFees, network: str
) -> Refusal | None:
    """Return why this payout can't begin now, or None. The caller has checked that it is not the one under way."""
    if refunds.under_way is not None:
        return refund_pending()
    if target.payment_hash in refunds.ended:
        return wrong_state("owed", "The payout to this invoice has failed: send another invoice.")
    if network_of(target.payment_request) != network:
        return _unfit("The invoice is for another network than this server's node")
    largest = payable(owed_msat, fees, whole=refunds.whole or target.internal)
    if target.amount_msat > largest:
        less = "" if refunds.whole or target.internal else f", less a reserve for routing fees of {fees.words}"
        text = f"At most {largest.whole_sats} sats can be paid out: what is owed{less}"
        return _unfit(text, maxSats=largest.whole_sats)
    return None


def _unfit(message: str, **details: int) -> Refusal:
    fields = [{"path": "paymentRequest", "message": message}]
    return Refusal(Code.INVALID_REQUEST, f"{message}.", {"fields": fields, **details})
