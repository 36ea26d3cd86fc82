"""Refunds: a closed session's rest is paid back."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from .accounts import Accounts
from .errors import (
    NoSessionError,
    NotFoundError,
    PaymentInDoubtError,
    RefundPendingError,
    UnexpectedAnswerError,
    WalletError,
)
from .flow import Flow, wait_until
from .models import Refund, SessionStatus, WithdrawLink
from .payments import Payments
from .state import Credential, Store

_SETTLES_WITHIN_S: Final = 120.0
_PAYS_OUT_WITHIN_S: Final = 120.0
PAYOUTS_MAX: Final = 3


class Refunds:
    """Refunds of sessions, which are closed, and whose debts are collected."""

    def __init__(self, accounts: Accounts, store: Store, payments: Payments) -> None:
        self._accounts = accounts
        self._store = store
        self._payments = payments

    def close(self, payment_request: str | None) -> Flow[SessionStatus]:
        """Close the session, and have its rest paid back: to this invoice or address, its destination, or the wallet.

        The debts of sessions that ended before are collected, too.
        """

        def work() -> Flow[SessionStatus]:
            repeats = payment_request is not None and is_destination(payment_request)
            credential = self._accounts.current()
            former = self._accounts.former()
            with suppress(PaymentInDoubtError):
                yield from self._payments.clear_up()
            if credential is None and not former:
                raise NoSessionError("There is no session to close.")
            found: list[tuple[Credential, SessionStatus]] = []
            for ended in [*former, *([credential] if credential is not None else [])]:
                # An address takes all debts, an invoice one.
                given = payment_request if ended is credential or credential is None or repeats else None
                try:
                    found.append((ended, (yield from self._collect(ended, given))))
                except NotFoundError:
                    if ended is credential:
                        raise
            with suppress(PaymentInDoubtError):
                yield from self._payments.clear_up()
            for ended, status in found:
                self._accounts.forget(ended) if self._owes_nothing(status) else self._accounts.retire(ended)
            if not found:
                raise NoSessionError("The server does not know the former sessions any more.")
            return found[-1][1]

        return (yield from self._payments.alone(work))

    def link(self) -> Flow[WithdrawLink]:
        """Close the session, and return a link by which a phone fetches its rest.

        Without a session, it is one for the last session that ended and may owe something.
        """

        def work() -> Flow[WithdrawLink]:
            credential = self._accounts.current() or next(reversed(self._accounts.former()), None)
            if credential is None:
                raise NoSessionError("There is no session whose rest could be fetched.")
            status = yield from self._accounts.withdraw(credential)
            # It is kept until it owes nothing: `close` collects what no phone fetched.
            self._accounts.retire(credential)
            if status.refund.withdraw is None:
                raise UnexpectedAnswerError("The server gave no link.")
            return status.refund.withdraw

        return (yield from self._payments.alone(work))

    def _collect(self, credential: Credential, payment_request: str | None) -> Flow[SessionStatus]:
        """Close a session, and have its debt paid out."""
        status = yield from self._accounts.close(credential, None)

        def settled() -> Flow[bool]:
            nonlocal status
            status = yield from self._accounts.show(credential)
            return status.held_msat == 0 and status.refund.state != "pending"

        def arrived() -> Flow[bool]:
            if not (yield from settled()):
                return False
            return not payable_sats(status.refund) or status.refund.last_error is not None

        # The cost of requests under way is only known at their end.
        yield from wait_until(settled, _SETTLES_WITHIN_S)
        if payment_request is None and status.refund.destination is not None:
            # The server pays to the destination by itself. An invoice beside it would only be in its way.
            yield from wait_until(arrived, _PAYS_OUT_WITHIN_S)
            return status
        for _ in range(PAYOUTS_MAX):
            amount_sats = payable_sats(status.refund)
            if not amount_sats or status.refund.state == "pending":
                break
            try:
                invoice = payment_request or (yield from self._payments.receive(amount_sats, "rest of a session"))
            except WalletError:
                break
            with suppress(RefundPendingError):  # The payout takes long, and is awaited below.
                yield from self._accounts.close(credential, invoice)
            yield from wait_until(settled, _PAYS_OUT_WITHIN_S)
            once = payment_request is not None and not is_destination(payment_request)
            if once or not status.refund.worth_another_invoice:
                break
            # Another round pays out the rest of the routing reserve, or replaces an invoice whose payout failed.
        return status

    def _owes_nothing(self, status: SessionStatus) -> bool:
        """Return True if the session owes nothing, also not later, after a payment that is still on its way."""
        comes = any(payment.purpose == status.session_id for payment in self._store.read().under_way)
        return not comes and status.refund.state != "pending" and not payable_sats(status.refund)


def is_destination(payment_request: str) -> bool:
    """Return True for a Lightning address or LNURL, which can be paid to again and again."""
    from ..actors.domain.payments import destinations

    return destinations.is_destination(payment_request)


def payable_sats(refund: Refund) -> int:
    """Return the largest invoice, in sats, that the server pays out of its debt."""
    if refund.payable_sats is not None:
        return refund.payable_sats
    from ..actors.domain.money import Msat
    from ..actors.domain.payments.routing_fees import RoutingFees

    # Servers that do not say it have the rule of LNbits.
    rule = RoutingFees(per_million=10_000, least_msat=Msat.from_sats(2))
    return rule.largest_payout(Msat(refund.owed_msat)).whole_sats
