"""The flow of a refund that is paid by itself: its events, and the tries to pay what is owed to its destination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from ..behaviour import BooksError, Done, Failed
from ..errors import Code, Refusal
from ..money import ZERO, Msat
from . import payout_flow
from .destinations import DestinationFault
from .intents import ResolveRefund, Unresolved
from .payouts import (
    LedgerEvent,
    OwingBooks,
    Payout,
    PayoutEvent,
    PayoutFailed,
    PayoutStarted,
    PayoutTarget,
    Refunds,
    network_of,
)
from .routing_fees import RoutingFees
from .standing_refund import NAMINGS_MAX, RefundError, first_try_ms, named

_KEY: Final = "refund#"


class RefundDestinationNamed(LedgerEvent, frozen=True, kw_only=True, tag="refund_destination_named"):
    """The client named the destination of its refunds; it is first tried at `next_ms`, 0 for at once."""

    destination: str
    next_ms: int = 0


class RefundTryFailed(LedgerEvent, frozen=True, kw_only=True, tag="refund_try_failed"):
    """A try to pay what is owed came to nothing; the next one is due at `next_ms`, None after the last one.

    error: a `DestinationFault` or a `RefundError`.
    """

    error: str
    next_ms: int | None = None


RefundEvent = RefundDestinationNamed | RefundTryFailed


def opened(destination: str | None) -> Refunds:
    """Return the refunds of a new actor, whose client may have named a destination."""
    return Refunds() if destination is None else Refunds(standing=named(None, destination, 0))


def fold(refunds: Refunds, event: RefundEvent) -> Refunds:
    """Return the refunds after the event. Raises `BooksError` for a try without a destination."""
    standing = refunds.standing
    match event:
        case RefundDestinationNamed():
            return replace(refunds, standing=named(standing, event.destination, event.next_ms))
        case RefundTryFailed():
            if standing is None or refunds.under_way is not None:
                raise BooksError("a refund is tried where a destination is named, and while no payout is under way")
            return replace(refunds, standing=standing.after_failure(event.error, event.at_ms, event.next_ms))


def name(refunds: Refunds, destination: str, now_ms: int) -> RefundDestinationNamed | Refusal | None:
    """Return the event with which a client names a destination; None if it is the present one, and not tried yet."""
    standing = refunds.standing
    if standing is not None:
        if standing.destination == destination and not standing.tries:
            return None
        if standing.number >= NAMINGS_MAX:
            message = f"A destination was named {NAMINGS_MAX} times: have the rest paid to an invoice."
            return Refusal(Code.RATE_LIMITED, message, retry_after_s=86_400)
    return RefundDestinationNamed(now_ms, destination=destination, next_ms=first_try_ms(standing, now_ms))


def wanted(books: OwingBooks, refunds: Refunds, fees: RoutingFees) -> Msat:
    """Return the amount that is to be paid to the destination now or later; zero while a payout is under way."""
    standing = refunds.standing
    if standing is None or standing.over or refunds.under_way is not None:
        return ZERO
    return books.payable(refunds, fees)


def intents(books: OwingBooks, refunds: Refunds, fees: RoutingFees) -> Sequence[ResolveRefund]:
    """Return the try that must be under way in this state. The later ones begin when they are due."""
    return () if refunds.standing is None or refunds.standing.next_ms else _tries(books, refunds, fees)


def overdue(books: OwingBooks, refunds: Refunds, fees: RoutingFees, now_ms: int) -> Sequence[ResolveRefund]:
    """Return the try that is due."""
    return () if refunds.standing is None or refunds.standing.next_ms > now_ms else _tries(books, refunds, fees)


def due_ms(books: OwingBooks, refunds: Refunds, fees: RoutingFees) -> Sequence[int]:
    """Return the time in ms at which a try is due, if one is; 0 for one that is under way."""
    return [refunds.standing.next_ms] if refunds.standing is not None and wanted(books, refunds, fees) else []


def _tries(books: OwingBooks, refunds: Refunds, fees: RoutingFees) -> Sequence[ResolveRefund]:
    amount_msat, standing = wanted(books, refunds, fees), refunds.standing
    if not amount_msat or standing is None:
        return ()
    return (ResolveRefund(_key(refunds), standing.destination, amount_msat),)


def _key(refunds: Refunds) -> str:
    standing = refunds.standing
    # After a payment the tries begin at zero again: the ended payouts tell those rounds apart.
    return "" if standing is None else f"{_KEY}{standing.number}.{len(refunds.ended)}.{standing.tries}"


def resolved(
    books: OwingBooks, refunds: Refunds, command: Done | Failed, fees: RoutingFees, network: str, now_ms: int
) -> PayoutStarted | RefundTryFailed | None:
    """Return what follows from a destination's answer; None if it came too late to mean anything.

    It means nothing once another destination was named or a payout began, or if less can be paid out by now.
    """
    intent = command.intent
    assert isinstance(intent, ResolveRefund)
    if intent.key != _key(refunds) or not wanted(books, refunds, fees):
        return None
    answer = command.result if isinstance(command, Done) else Unresolved(RefundError.UNREACHABLE.value)
    if isinstance(answer, Unresolved):
        return _failed(refunds, answer, now_ms)
    assert isinstance(answer, PayoutTarget)
    if answer.amount_msat != intent.amount_msat:
        return _failed(refunds, Unresolved(DestinationFault.WRONG_AMOUNT.value), now_ms)
    if network_of(answer.payment_request) != network:
        return _failed(refunds, Unresolved(DestinationFault.WRONG_NETWORK.value), now_ms)
    if answer.payment_hash in refunds.ended:
        return _failed(refunds, Unresolved(RefundError.USED_INVOICE.value), now_ms)
    if answer.amount_msat > wanted(books, refunds, fees):
        return None
    started = payout_flow.start(refunds, books.owed, answer, fees, None, now_ms)
    return replace(started, refund_to=intent.destination)


def after_payout(refunds: Refunds, payout: Payout, event: PayoutEvent) -> RefundTryFailed | None:
    """Return the event of a try whose payout has failed for certain; None if the destination is another one now."""
    standing = refunds.standing
    if not isinstance(event, PayoutFailed) or standing is None or standing.destination != payout.refund_to:
        return None
    # What the node refuses before it tries is not the destination's fault.
    error = RefundError.PAYMENT_FAILED if event.refusal is None else RefundError.SERVER_CANNOT_PAY
    return _failed(refunds, Unresolved(error.value), event.at_ms)


def _failed(refunds: Refunds, why: Unresolved, now_ms: int) -> RefundTryFailed:
    assert refunds.standing is not None
    next_ms = refunds.standing.next_try_ms(now_ms, why.retry_after_ms, permanent=why.permanent)
    return RefundTryFailed(now_ms, error=why.error, next_ms=next_ms)
