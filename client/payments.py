"""Payments of invoices from the wallet: within the budget, one after the other, and none twice.

A payment is stored before the wallet gets it, and stays there until its outcome is known for certain. Until then it
counts as paid.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from .errors import (
    BudgetExceededError,
    PaymentFailedError,
    PaymentInDoubtError,
    PaymentNotSeenError,
    SatmeterError,
    SessionFileError,
    WalletError,
    WrongInvoiceError,
)
from .flow import Exclusive, Flow, Now, Sleep, wait_until
from .models import Invoice
from .state import Payment, State, Store, replaced
from .wallets import PAID, UNKNOWN, Outcome, Report, Wallet
from .wire import Server

T = TypeVar("T")

# A wallet that reports a payment as failed or unknown is believed only after this time. By then no
# order can still be on its way, and no node takes so long to know of an order.
PATIENCE_S: Final = 300.0
# The server sees a payment within two seconds, but it may be restarting.
_SEEN_WITHIN_S: Final = 60.0
_DOUBT_S: Final = 60.0
# The clocks of wallets and nodes differ.
_GRACE_S: Final = 15.0
_LEAST_LIFE_S: Final = 5.0
_LOCK_EVERY_S: Final = 0.1
_LOCK_WITHIN_S: Final = 3_600.0
# Outcomes that mean, after `PATIENCE_S`, that nothing was paid.
_NOT_PAID: Final = frozenset({Outcome.FAILED, Outcome.FAILED_SO_FAR, Outcome.ABSENT})

Seen = Callable[[Payment], Flow[bool]]


class Payments:
    """Payments of invoices. `seen` asks the server whether a payment has arrived; it may raise `SatmeterError`."""

    def __init__(
        self, server: Server, store: Store, wallet: Wallet | None, budget_sats: int | None, seen: Seen
    ) -> None:
        if budget_sats is not None and budget_sats < 0:
            raise ValueError("a budget must not be negative")
        self._server = server
        self._store = store
        self._wallet = wallet
        self._seen = seen
        self.budget_sats: Final = budget_sats

    @property
    def pays_by_itself(self) -> bool:
        """True if the client may pay without an explicit call: only with a wallet and a budget."""
        return self._wallet is not None and self.budget_sats is not None

    @property
    def committed_sats(self) -> int:
        """Sats paid, including payments with an unknown outcome."""
        return self._store.read().committed_sats

    @property
    def left_sats(self) -> int | None:
        """Sats left of the budget; None without a budget."""
        return None if self.budget_sats is None else max(0, self.budget_sats - self.committed_sats)

    def check(self, amount_sats: int) -> None:
        """Check a payment before its invoice is made. Raises `WalletError` without a wallet, `BudgetExceededError`."""
        self._payer()
        left_sats = self.left_sats
        if left_sats is not None and amount_sats > left_sats:
            raise BudgetExceededError(amount_sats, left_sats, self.budget_sats or 0)

    def alone(self, work: Callable[[], Flow[T]]) -> Flow[T]:
        """Run this while no other call, and no other process with the same file, pays."""
        result: T = yield Exclusive(self._alone(work))
        return result

    def pay(self, invoice: Invoice, amount_sats: int, purpose: str) -> Flow[None]:
        """Pay an invoice of the server over exactly this amount; return once the server has seen it. Only in `alone`.

        Raises `WrongInvoiceError`, `BudgetExceededError`, `PaymentFailedError` or `WalletError` when nothing was paid,
        `PaymentInDoubtError` and `PaymentNotSeenError` as they document.
        """
        wallet = self._payer()
        now_s: float = yield Now()
        _check_invoice(invoice, amount_sats, now_s)
        # An invoice can be shown to a person again. A wallet must not get it again before the first outcome is known.
        ended = yield from self.clear_up(but=invoice.payment_hash if wallet.by_hand else None)
        if ended.get(invoice.payment_hash) is Outcome.PAID:
            return
        if ended.get(invoice.payment_hash) is Outcome.FAILED_SO_FAR:
            # The wallet pays no invoice twice, and would answer a second order with the outcome of the first.
            raise PaymentFailedError("The payment failed, and nothing was paid: the wallet says so.")
        for payment in self._store.read().under_way:
            if payment.paid and payment.invoice.payment_hash == invoice.payment_hash:
                yield from self._await_arrival(payment)
                return
        # Read again: to clear up can take minutes, and the patience with an early "failed" counts from the order on.
        begun_at = datetime.fromtimestamp((yield Now()), UTC)
        payment = Payment(invoice=invoice, purpose=purpose, begun_at=begun_at, by_hand=wallet.by_hand)
        self._store.change(lambda state: self._begun(state, payment))
        try:
            report = yield from wallet.pay(self._server, invoice)
        except Exception as error:
            report = Report(Outcome.UNKNOWN, type(error).__name__)
        if report.outcome not in (Outcome.PAID, Outcome.FAILED, Outcome.SHOWN):
            # The order ended only now, so the patience counts from here.
            payment = self._still_open(payment, (yield Now()))
        yield from self._finish(payment, report)

    def clear_up(self, but: str | None = None) -> Flow[dict[str, Outcome]]:
        """Find out the outcomes of earlier payments, and return those of payments that ended. Only in `alone`.

        Raises `PaymentInDoubtError` when the wallet may yet pay one of them.
        """
        ended: dict[str, Outcome] = {}
        for payment in self._store.read().under_way:
            if payment.invoice.payment_hash == but:
                continue
            if (yield from self._arrived(payment)):
                self._end(payment, payment.invoice.amount_sats)
                ended[payment.invoice.payment_hash] = Outcome.PAID
                continue
            if payment.paid:
                continue
            report = yield from self._verdict(payment)
            self._note(payment, report.outcome)
            if report.outcome in _NOT_PAID:
                ended[payment.invoice.payment_hash] = report.outcome
            now_s: float = yield Now()
            # No wallet begins to pay an expired invoice. Its payment still counts, but no longer blocks other payments.
            over = now_s > payment.invoice.expires_at.timestamp() + 2 * _GRACE_S
            if report.outcome is Outcome.UNKNOWN and not over:
                raise PaymentInDoubtError(payment.invoice)
        return ended

    def receive(self, amount_sats: int, memo: str) -> Flow[str]:
        """Return an invoice of the wallet. Raises `WalletError`."""
        if self._wallet is None:
            raise WalletError("There is no wallet to pay back to.")
        return (yield from self._wallet.receive(self._server, amount_sats, memo))

    def _payer(self) -> Wallet:
        if self._wallet is None:
            raise WalletError("There is no wallet to pay with: give the client one.")
        return self._wallet

    def _alone(self, work: Callable[[], Flow[T]]) -> Flow[T]:
        now_s: float = yield Now()
        deadline_s = now_s + _LOCK_WITHIN_S
        while not self._store.try_lock():
            now_s = yield Now()
            if now_s > deadline_s:
                raise SessionFileError("Another process that uses the same session file does not stop paying.")
            yield Sleep(_LOCK_EVERY_S)
        try:
            return (yield from work())
        finally:
            self._store.unlock()

    def _finish(self, payment: Payment, report: Report) -> Flow[None]:
        if report.outcome not in (Outcome.PAID, Outcome.FAILED):
            report = yield from self._wait_for_verdict(payment, report)
        self._note(payment, report.outcome)
        if report.outcome in _NOT_PAID:
            raise PaymentFailedError(f"The payment failed, and nothing was paid: {report.reason}.")
        if report.outcome is not Outcome.PAID:
            raise PaymentInDoubtError(payment.invoice)
        yield from self._await_arrival(payment)

    def _await_arrival(self, payment: Payment) -> Flow[None]:
        if not (yield from wait_until(lambda: self._arrived(payment), _SEEN_WITHIN_S)):
            raise PaymentNotSeenError(payment.invoice)
        self._end(payment, payment.invoice.amount_sats)

    def _wait_for_verdict(self, payment: Payment, report: Report) -> Flow[Report]:
        now_s: float = yield Now()
        patience_s = _DOUBT_S
        if report.outcome is Outcome.SHOWN:
            patience_s = max(0.0, payment.invoice.expires_at.timestamp() + 2 * _GRACE_S - now_s)
        found = [UNKNOWN]

        def known() -> Flow[bool]:
            noted = next((other for other in self._store.read().under_way if _same(other, payment)), payment)
            found[0] = yield from self._verdict(noted)
            return found[0].outcome is not Outcome.UNKNOWN

        yield from wait_until(known, patience_s)
        return found[0]

    def _verdict(self, payment: Payment) -> Flow[Report]:
        """Return the outcome of a payment: PAID or one of `_NOT_PAID`, then for certain, or UNKNOWN.

        The server's report that it has arrived counts before the wallet's.
        """
        if (yield from self._arrived(payment)):
            return PAID
        # A wallet knows nothing of what a person was shown, who may still pay it until it lapses.
        report = UNKNOWN if payment.by_hand else (yield from self._look_up(payment.invoice))
        now_s: float = yield Now()
        open_s = now_s - payment.open_since_s
        if report.outcome in (Outcome.ABSENT, Outcome.FAILED_SO_FAR) and open_s > PATIENCE_S:
            return report
        # Storing the time at each look would be one write for each of them.
        if report.outcome is Outcome.PENDING and open_s > PATIENCE_S / 2:
            self._still_open(payment, now_s)
        if report.outcome in (Outcome.PAID, Outcome.FAILED):
            return report
        if payment.by_hand and now_s > payment.invoice.expires_at.timestamp() + _GRACE_S:
            return Report(Outcome.FAILED, "it was not paid in time")
        return UNKNOWN

    def _look_up(self, invoice: Invoice) -> Flow[Report]:
        if self._wallet is None:
            return UNKNOWN
        try:
            return (yield from self._wallet.look_up(invoice))
        except Exception as error:
            return Report(Outcome.UNKNOWN, type(error).__name__)

    def _arrived(self, payment: Payment) -> Flow[bool]:
        try:
            return (yield from self._seen(payment))
        except SatmeterError:
            return False

    def _begun(self, state: State, payment: Payment) -> State:
        if any(other.invoice.payment_hash == payment.invoice.payment_hash for other in state.under_way):
            return state
        left_sats = None if self.budget_sats is None else self.budget_sats - state.committed_sats
        if left_sats is not None and payment.invoice.amount_sats > left_sats:
            raise BudgetExceededError(payment.invoice.amount_sats, max(0, left_sats), self.budget_sats or 0)
        return replaced(state, under_way=[*state.under_way, payment])

    def _note(self, payment: Payment, outcome: Outcome) -> None:
        """Store the wallet's report. A paid payment stays until the server has seen it."""
        if outcome in _NOT_PAID:
            self._end(payment, 0)
        elif outcome is Outcome.PAID:

            def change(state: State) -> State:
                paid = msgspec.structs.replace(payment, paid=True)
                under_way = [paid if _same(other, payment) else other for other in state.under_way]
                return replaced(state, under_way=under_way)

            self._store.change(change)

    def _still_open(self, payment: Payment, now_s: float) -> Payment:
        """Store that the payment's outcome is not known at this time."""
        later = msgspec.structs.replace(payment, pending_at=datetime.fromtimestamp(now_s, UTC))

        def change(state: State) -> State:
            under_way = [later if _same(other, payment) else other for other in state.under_way]
            return replaced(state, under_way=under_way)

        self._store.change(change)
        return later

    def _end(self, payment: Payment, paid_sats: int) -> None:
        def change(state: State) -> State:
            rest = [other for other in state.under_way if not _same(other, payment)]
            if len(rest) == len(state.under_way):
                return state
            return replaced(state, under_way=rest, paid_sats=state.paid_sats + paid_sats)

        self._store.change(change)


def _same(one: Payment, other: Payment) -> bool:
    return one.invoice.payment_hash == other.invoice.payment_hash


def _check_invoice(invoice: Invoice, amount_sats: int, now_s: float) -> None:
    """Check the invoice by its BOLT11 text, as the wallet pays that. Raises `WrongInvoiceError`."""
    # Imported late, as it takes longer to load than the whole client.
    from ..actors.domain.payments.bolt11 import read_invoice

    try:
        said = read_invoice(invoice.payment_request)
    except ValueError as error:
        raise WrongInvoiceError(f"The server's invoice can't be read ({error}): it was not paid.") from None
    if said.amount_msat.value != amount_sats * 1_000 or invoice.amount_sats != amount_sats:
        raise WrongInvoiceError(
            f"The server's invoice is over {said.amount_msat.value} msat, and {amount_sats} sats were asked for: it "
            "was not paid."
        )
    if said.payment_hash != invoice.payment_hash:
        raise WrongInvoiceError("The server's invoice has another payment hash than it says: it was not paid.")
    if min(said.expires_at_ms / 1_000, invoice.expires_at.timestamp()) < now_s + _LEAST_LIFE_S:
        raise WrongInvoiceError("The server's invoice has lapsed: it was not paid.")
