"""The flow of a payout, for every kind of actor that owes something: its events, their effects, and its intents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from .. import idempotency_keys
from ..behaviour import Alarm, BooksError, Decision, Done, Event, Failed, Intent, Once, Reply
from ..errors import idempotency_conflict
from ..money import Msat
from .intents import LookUpPayout, SendPayout
from .payouts import (
    OwingBooks,
    Payout,
    PayoutEvent,
    PayoutFailed,
    PayoutPaid,
    PayoutRefusal,
    PayoutReport,
    PayoutStarted,
    PayoutStatus,
    PayoutTarget,
    PayoutUnclear,
    Refunds,
    Route,
    reserve_for,
)
from .routing_fees import RoutingFees

# A host that was held up for longer than this must not send any more: another host looks the payment up already.
_SEND_WITHIN_MS: Final = 30_000
# A node may go on with a payment for this long after our call ended without an answer, or after it last said
# "pending". Until then its "failed" and "never heard of it" are not final. LNbits pays in a task of its own, and marks
# a payment as failed when it is asked about it before its node knows it.
PATIENCE_MS: Final = 300_000
# Deposits of one actor that the wallet must know before its "never heard of it" counts. More would take minutes.
_PROOFS_MAX: Final = 256

BooksT = TypeVar("BooksT", bound=OwingBooks)


def start(
    refunds: Refunds, owed_msat: Msat, target: PayoutTarget, fees: RoutingFees, once: Once | None, now_ms: int
) -> PayoutStarted:
    """Return the event with which a payout of what is owed begins. Of a debt that is owed whole, the rest reserves."""
    reserve_msat = reserve_for(target, fees)
    if refunds.whole:
        reserve_msat = min(reserve_msat, owed_msat - target.amount_msat)
    return PayoutStarted(now_ms, target=target, reserve_msat=reserve_msat, once=once)


def begun(refunds: Refunds, target: PayoutTarget | None, once: Once) -> Decision | None:
    """Join a payout that is under way by the same command or to the same invoice; None if there is none.

    The same command with another body is a conflict.
    """
    under_way = refunds.under_way
    if under_way is None:
        return None
    if under_way.once is not None and under_way.once.name == once.name:
        same = under_way.once.digest == once.digest
        return Decision(wait_for=topic(under_way.target)) if same else Decision(reply=idempotency_conflict())
    if target is not None and under_way.target.payment_hash == target.payment_hash:
        return Decision(wait_for=topic(target))
    return None


def at_once(decision: Decision, reply: Reply) -> Decision:
    """Have a caller answered with this once the payout is journaled, instead of at its end."""
    return decision if decision.wait_for is None else replace(decision, wait_for=None, reply=reply)


def ended(payout: Payout, events: tuple[Event, ...], fee_limit_msat: Msat, reply: Reply) -> Decision:
    """Answer the callers that wait for the payout's end, and keep the answer for those that ask again."""
    marks = () if payout.once is None else idempotency_keys.marks(payout.once, reply)
    alarms = [alarm for event in events for alarm in _alarms(event, fee_limit_msat)]
    return Decision(events, answers={topic(payout.target): reply}, marks=marks, alarms=tuple(alarms))


def fee_limit(refunds: Refunds, payout: Payout, fees: RoutingFees) -> Msat:
    """Return what the route may cost: its reserve, and of a debt that is owed whole the rule's sum, at our cost."""
    return reserve_for(payout.target, fees) if refunds.whole else payout.reserve_msat


def _alarms(paid: Event, fee_limit_msat: Msat) -> tuple[Alarm, ...]:
    """Return the alarm about a node that took more for a route than it was allowed, which is our loss."""
    if not isinstance(paid, PayoutPaid):
        return ()
    cost_msat = paid.fee_msat + paid.uncovered_msat
    if cost_msat <= fee_limit_msat:
        return ()
    fields: dict[str, str | int] = {
        "payment_hash": paid.payment_hash,
        "fee_msat": cost_msat.value,
        "fee_limit_msat": fee_limit_msat.value,
        "uncovered_msat": paid.uncovered_msat.value,
    }
    return (Alarm("routing_fee_above_its_limit", fields),)


def fold(books: BooksT, refunds: Refunds, event: Event) -> tuple[BooksT, Refunds]:
    """Return books and payouts after an event of a payout. Raises `BooksError` for one that can't follow."""
    if isinstance(event, PayoutStarted):
        if refunds.under_way is not None or event.target.payment_hash in refunds.ended:
            raise BooksError("one payout at a time, and one for each invoice")
        payout = Payout(event.target, event.reserve_msat, event.at_ms, event.once, refund_to=event.refund_to)
        return books.begin_payout(payout), replace(refunds, under_way=payout, last_failed=False, last_refusal=None)
    under_way = refunds.under_way
    if under_way is None:
        raise BooksError(f"{type(event).__name__} without a payout")
    match event:
        case PayoutUnclear():
            final_at_ms, refusal = event.failure_final_at_ms, event.refusal
            unclear = replace(under_way, sending=False, failure_final_at_ms=final_at_ms, refusal=refusal)
            return books, replace(refunds, under_way=unclear)
        case PayoutPaid():
            route = Route(event.payment_hash, under_way.reserve_msat, event.fee_msat)
            paid = replace(_paid(_ended(refunds, under_way, paid=True), under_way), last_route=route)
            return books.end_payout(under_way, event.fee_msat), paid
        case PayoutFailed(refusal=None):
            return books.fail_payout(under_way), _ended(refunds, under_way, paid=False)
        case PayoutFailed(refusal=refusal):
            # The node never tried to pay. If this invoice is sent again, the node's word on it is about that attempt
            # alone, so the invoice does not count as ended.
            never_tried = replace(refunds, under_way=None, last_failed=True, last_refusal=refusal)
            return books.fail_payout(under_way), never_tried
    raise BooksError(f"no payout knows the event {type(event).__name__}")


def _ended(refunds: Refunds, payout: Payout, *, paid: bool) -> Refunds:
    ended = {**refunds.ended, payout.target.payment_hash: paid}
    return replace(refunds, under_way=None, ended=ended, last_failed=not paid)


def _paid(refunds: Refunds, payout: Payout) -> Refunds:
    standing = refunds.standing
    if standing is None or standing.destination != payout.refund_to:
        return refunds
    return replace(refunds, standing=standing.after_payment())


def intents(actor_id: str, refunds: Refunds, fees: RoutingFees, received_hashes: Collection[str]) -> Sequence[Intent]:
    """Return the intent that must be under way: the call that pays, or the look-up of its outcome.

    `received_hashes`: see `LookUpPayout`; the first `_PROOFS_MAX` by their order are used.
    """
    payout = refunds.under_way
    if payout is None:
        return ()
    key = topic(payout.target)
    if payout.sending:
        send_before_ms, limit_msat = payout.started_at_ms + _SEND_WITHIN_MS, fee_limit(refunds, payout, fees)
        return (SendPayout(f"send_{key}", payout.target, actor_id, send_before_ms, limit_msat),)
    proofs = tuple(sorted(received_hashes)[:_PROOFS_MAX])
    final_at_ms, started_at_ms = payout.failure_final_at_ms, payout.started_at_ms
    return (LookUpPayout(f"look_up_{key}", payout.target, actor_id, final_at_ms, proofs, started_at_ms),)


def topic(target: PayoutTarget) -> str:
    """Return the topic for which callers wait that want to know the payout's end."""
    return f"payout:{target.payment_hash}"


def taken_up(refunds: Refunds, now_ms: int) -> PayoutEvent | None:
    """Return the event for a call that was lost with its host, or None. It may have paid, so it is never repeated."""
    if refunds.under_way is None or not refunds.under_way.sending:
        return None
    return _unclear(now_ms, PATIENCE_MS)


def verdict(report: PayoutReport, failure_final_at_ms: int, asked_at_ms: int) -> PayoutReport | None:
    """Return the report with which a look-up ends, or None when the node must be asked again.

    `asked_at_ms` is the time just before the question, because the answer speaks of no later time. A payment that is
    still pending when half of `PATIENCE_MS` is over ends the look-up too, so that the journal extends its time.
    """
    match report.status:
        case PayoutStatus.PAID:
            return report
        case PayoutStatus.PENDING:
            return report if asked_at_ms >= failure_final_at_ms - PATIENCE_MS // 2 else None
        case PayoutStatus.FAILED | PayoutStatus.ABSENT:
            return report if asked_at_ms >= failure_final_at_ms else None


def outcome(refunds: Refunds, command: Done | Failed, now_ms: int) -> PayoutEvent | None:
    """Return the payout's event for an effect's outcome; None if the outcome is not, or no longer, this payout's."""
    payout, intent = refunds.under_way, command.intent
    if payout is None or not isinstance(intent, SendPayout | LookUpPayout) or intent.target != payout.target:
        return None
    report = command.result if isinstance(command, Done) and isinstance(command.result, PayoutReport) else None
    if report is not None and report.status is PayoutStatus.PAID:
        # A routing fee beyond the reserve is our loss.
        fee_msat = min(report.fee_msat, payout.reserve_msat)
        return PayoutPaid(
            now_ms,
            payment_hash=payout.target.payment_hash,
            fee_msat=fee_msat,
            reserve_msat=payout.reserve_msat,
            uncovered_msat=report.fee_msat - fee_msat,
        )
    if isinstance(intent, LookUpPayout):
        return None if report is None else _looked_up(payout, report, now_ms)
    if not payout.sending:
        return None
    if report is None or report.status is not PayoutStatus.FAILED:
        return _unclear(now_ms, PATIENCE_MS)
    if report.refusal is PayoutRefusal.KEY:
        # The node did not read the order, and a look-up with the same key would not be answered either.
        return PayoutFailed(now_ms, refusal=report.refusal)
    # The call's own report of a failure is not enough, but after it the look-up's answer is final at once.
    return _unclear(now_ms, 0, report.refusal)


def _looked_up(payout: Payout, report: PayoutReport, now_ms: int) -> PayoutEvent | None:
    match report.status:
        case PayoutStatus.PENDING:
            return _unclear(now_ms, PATIENCE_MS)
        case PayoutStatus.FAILED | PayoutStatus.ABSENT:
            # Some nodes put a payment that they refuse into their books, as one that failed.
            return PayoutFailed(now_ms, refusal=payout.refusal)
    return None


def _unclear(now_ms: int, patience_ms: int, refusal: PayoutRefusal | None = None) -> PayoutUnclear:
    return PayoutUnclear(now_ms, failure_final_at_ms=now_ms + patience_ms, refusal=refusal)
