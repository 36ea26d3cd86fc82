"""Sessions: opened, asked, topped up and closed, as flows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from .errors import (
    BudgetExceededError,
    CaveatViolatedError,
    InsufficientBalanceError,
    NoSessionError,
    NotFoundError,
    PaymentFailedError,
    PaymentRequiredError,
    RefundPendingError,
    SatmeterError,
    SessionOverError,
    WalletError,
    WrongInvoiceError,
)
from .flow import UNAVAILABLE, Flow, wait_until
from .models import Answer, Invoice, LedgerEntry, LedgerPage, SessionOpened, SessionStatus, TopUpOpened
from .purse import Purse
from .state import Credential, Payment, State, Store, replaced
from .streams import stream_answer
from .wire import Server, new_key

T = TypeVar("T")

# A request is refused for want of money, paid for, and sent again: more often only where the price moves under it.
_COVERS_MAX: Final = 4
_SETTLES_WITHIN_S: Final = 120.0
_PAYS_OUT_WITHIN_S: Final = 120.0
_PAYOUTS_MAX: Final = 3
_LEDGER_PAGE: Final = 1_000
_PENDING: Final = frozenset({*UNAVAILABLE, 425})


class Sessions:
    """One session at a time. `fixed` is a credential that somebody else gave, which is never replaced by a new one."""

    def __init__(
        self,
        server: Server,
        store: Store,
        purse: Purse,
        *,
        fixed: Credential | None,
        deposit_sats: int,
        top_up_sats: int,
    ) -> None:
        self._server = server
        self._store = store
        self._purse = purse
        self._fixed = fixed
        self._deposit_sats = deposit_sats
        self._top_up_sats = top_up_sats

    def current(self) -> Credential | None:
        """The credential that requests are sent with, if there is one."""
        return self._fixed or self._store.read().session

    def known(self) -> Credential:
        """It, or `NoSessionError`."""
        credential = self.current()
        if credential is None:
            raise NoSessionError("There is no session yet: open one.")
        return credential

    def open(self, amount_sats: int) -> Flow[SessionStatus]:
        """A new session with this deposit, which is paid and credited."""

        def work() -> Flow[SessionStatus]:
            if self.current() is not None:
                raise SatmeterError("There is a session already: top it up, or close it first.")
            credential = yield from self._open(amount_sats)
            return (yield from self._show(credential))

        return (yield from self._purse.alone(work))

    def show(self) -> Flow[SessionStatus]:
        """The session as it is now."""
        return (yield from self._show(self.known()))

    def ledger(self, after: int) -> Flow[list[LedgerEntry]]:
        """Its movements after this number, oldest first."""
        return (yield from self._ledger(self.known(), after))

    def ask(self, body: dict[str, Any], key: str, macaroon: str | None) -> Flow[Answer]:
        """One request, for one charge however often it has to be sent."""

        def attempt(credential: Credential) -> Flow[Answer]:
            path = f"{_path(credential)}/request"
            token = macaroon or credential.macaroon
            return (yield from self._server.call(Answer, "POST", path, body=body, key=key, macaroon=token))

        return (yield from self._paid_for(attempt))

    def stream(self, body: dict[str, Any], key: str, macaroon: str | None) -> Flow[Answer]:
        """The same, with the text as it is written."""

        def attempt(credential: Credential) -> Flow[Answer]:
            path = f"{_path(credential)}/request"
            token = macaroon or credential.macaroon
            request = self._server.request("POST", path, body={**body, "stream": True}, key=key, macaroon=token)
            return (yield from stream_answer(request, self._server.retries))

        return (yield from self._paid_for(attempt))

    def top_up(self, amount_sats: int) -> Flow[SessionStatus]:
        """Adds to the balance."""
        credential = self.known()

        def work() -> Flow[SessionStatus]:
            self._purse.check(amount_sats)
            invoice = yield from self._top_up_invoice(credential, amount_sats)
            yield from self._purse.pay(invoice, amount_sats, credential.session_id)
            return (yield from self._show(credential))

        return (yield from self._purse.alone(work))

    def close(self, payment_request: str | None) -> Flow[SessionStatus]:
        """Ends the session, and has what is left paid back: to this invoice, or to the wallet's own.

        Sessions that ended before and still owe something are collected from, too.
        """

        def work() -> Flow[SessionStatus]:
            credential = self.current()
            former = self._store.read().former
            if credential is None and not former:
                raise NoSessionError("There is no session to close.")
            found: list[SessionStatus] = []
            for ended in [*former, *([credential] if credential is not None else [])]:
                given = payment_request if ended is credential or credential is None else None
                try:
                    status = yield from self._collect(ended, given)
                except NotFoundError:
                    if ended is credential:
                        raise
                    continue
                found.append(status)
                if status.refund.state != "pending" and not _payable_sats(status):
                    self._forget(ended)
                elif ended is credential:
                    self._retire(ended)
            if not found:
                raise NoSessionError("The server does not know the former sessions any more.")
            return found[-1]

        return (yield from self._purse.alone(work))

    def seen(self, payment: Payment) -> Flow[bool]:
        """Whether a payment into a session of ours has been credited."""
        state = self._store.read()
        ours = [c for c in (self._fixed, state.session, *state.former) if c and c.session_id == payment.purpose]
        if not ours:
            return False
        status = yield from self._show(ours[0])
        if any(pending.payment_hash == payment.invoice.payment_hash for pending in status.pending_invoices):
            return False
        entries = yield from self._ledger(ours[0], 0)
        return any(e.kind == "deposit" and e.payment_hash == payment.invoice.payment_hash for e in entries)

    def _paid_for(self, attempt: Callable[[Credential], Flow[T]]) -> Flow[T]:
        """Runs it, and pays for what it lacks: a session, its deposit, a top-up. What can't be paid raises."""
        renewed = False
        for _ in range(_COVERS_MAX):
            credential = self.current() or (yield from self._purse.alone(self._opened))
            try:
                return (yield from attempt(credential))
            except InsufficientBalanceError as error:
                if not self._purse.pays_by_itself:
                    raise
                lacking = error
                yield from self._purse.alone(lambda c=credential, e=lacking: self._cover(c, e))  # type: ignore[misc]
            except PaymentRequiredError:
                if not self._purse.pays_by_itself or credential.deposit is None:
                    raise
                yield from self._purse.alone(lambda c=credential: self._pay_deposit(c))  # type: ignore[misc]
            except (SessionOverError, NotFoundError):
                if renewed or credential is self._fixed or not self._purse.pays_by_itself:
                    raise
                renewed = True
                self._retire(credential)
        return (yield from attempt(self.known()))

    def _opened(self) -> Flow[Credential]:
        """The session, opened unless somebody else has done it meanwhile."""
        credential = self.current()
        if credential is not None:
            return credential
        if not self._purse.pays_by_itself:
            raise NoSessionError("There is no session: open one, or give the client a wallet and a budget.")
        left_sats = self._purse.left_sats
        assert left_sats is not None
        # What is left may still be enough for a session; if it is not, the server says what is.
        amount_sats = min(self._deposit_sats, left_sats) or self._deposit_sats
        return (yield from self._open(amount_sats))

    def _open(self, amount_sats: int) -> Flow[Credential]:
        self._purse.check(amount_sats)
        body = {"amountSats": amount_sats}
        opened = yield from self._server.call(SessionOpened, "POST", "/sessions", body=body, key=new_key())
        credential = Credential(session_id=opened.session_id, macaroon=opened.macaroon, deposit=opened.deposit_invoice)
        if opened.deposit_invoice.amount_sats != amount_sats:
            raise WrongInvoiceError("The server asks for another deposit than was asked for: it was not paid.")
        # Before it is paid: whoever loses the macaroon of a paid session has lost the money.
        self._store.change(lambda state: replaced(state, session=credential))
        yield from self._pay_deposit(credential)
        return credential

    def _pay_deposit(self, credential: Credential) -> Flow[None]:
        invoice = credential.deposit
        assert invoice is not None
        if (yield from self._show(credential)).state != "awaiting_payment":
            return
        try:
            yield from self._purse.pay(invoice, invoice.amount_sats, credential.session_id)
        except (PaymentFailedError, WrongInvoiceError):
            # Failed or lapsed: its invoice can't be paid again, so that the next request opens another session.
            self._retire(credential)
            raise

    def _cover(self, credential: Credential, error: InsufficientBalanceError) -> Flow[None]:
        required_msat, balance_msat = error.required_msat or 0, error.balance_msat or 0
        try:
            status = yield from self._show(credential)
        except CaveatViolatedError:
            pass  # A credential that may not look can still top up.
        else:
            balance_msat = status.balance_msat
            if balance_msat >= required_msat:
                return  # Somebody else's top-up came meanwhile.
        offered = error.top_up_invoice
        least_sats = offered.amount_sats if offered is not None else -(-(required_msat - balance_msat) // 1_000)
        left_sats = self._purse.left_sats
        assert left_sats is not None
        amount_sats = max(min(self._top_up_sats, left_sats), least_sats)
        if amount_sats > left_sats:
            raise BudgetExceededError(amount_sats, left_sats, self._purse.budget_sats or 0)
        if offered is not None and offered.amount_sats == amount_sats:
            invoice = offered
        else:
            invoice = yield from self._top_up_invoice(credential, amount_sats)
        yield from self._purse.pay(invoice, amount_sats, credential.session_id)

    def _top_up_invoice(self, credential: Credential, amount_sats: int) -> Flow[Invoice]:
        path, body = f"{_path(credential)}/topup", {"amountSats": amount_sats}
        token = credential.macaroon
        opened = yield from self._server.call(TopUpOpened, "POST", path, body=body, key=new_key(), macaroon=token)
        return opened.top_up_invoice

    def _collect(self, credential: Credential, payment_request: str | None) -> Flow[SessionStatus]:
        """Closes it, and has what it owes paid out."""
        status = yield from self._close(credential, None)

        def settled() -> Flow[bool]:
            nonlocal status
            status = yield from self._show(credential)
            return status.held_msat == 0 and status.refund.state != "pending"

        # What requests that are under way cost is only known at their end.
        yield from wait_until(settled, _SETTLES_WITHIN_S)
        for _ in range(_PAYOUTS_MAX):
            amount_sats = _payable_sats(status)
            if not amount_sats or status.refund.state == "pending":
                break
            try:
                invoice = payment_request or (yield from self._purse.receive(amount_sats, "rest of a session"))
            except WalletError:
                break
            with suppress(RefundPendingError):  # It takes long, and is waited for below.
                yield from self._close(credential, invoice)
            yield from wait_until(settled, _PAYS_OUT_WITHIN_S)
            if payment_request:
                break
            # Once more for what the reserve had too much, or with another invoice if the payout failed for certain.
        return status

    def _close(self, credential: Credential, payment_request: str | None) -> Flow[SessionStatus]:
        path = f"{_path(credential)}/close"
        body = {} if payment_request is None else {"paymentRequest": payment_request}
        token = credential.macaroon
        return (
            yield from self._server.call(
                SessionStatus, "POST", path, body=body, key=new_key(), macaroon=token, again=_PENDING
            )
        )

    def _show(self, credential: Credential) -> Flow[SessionStatus]:
        return (yield from self._server.call(SessionStatus, "GET", _path(credential), macaroon=credential.macaroon))

    def _ledger(self, credential: Credential, after: int) -> Flow[list[LedgerEntry]]:
        entries: list[LedgerEntry] = []
        while True:
            path = f"{_path(credential)}/ledger?after={after}&limit={_LEDGER_PAGE}"
            page = yield from self._server.call(LedgerPage, "GET", path, macaroon=credential.macaroon)
            entries += page.entries
            if len(page.entries) < _LEDGER_PAGE:
                return entries
            after = page.entries[-1].seq

    def _retire(self, credential: Credential) -> None:
        """It is not used any more, and kept, because it may owe something."""

        def change(state: State) -> State:
            if state.session is None or state.session.session_id != credential.session_id:
                return state
            return replaced(state, session=None, former=[*state.former, state.session])

        self._store.change(change)

    def _forget(self, credential: Credential) -> None:
        def change(state: State) -> State:
            kept = [former for former in state.former if former.session_id != credential.session_id]
            current = None if state.session and state.session.session_id == credential.session_id else state.session
            return replaced(state, session=current, former=kept)

        self._store.change(change)


def _path(credential: Credential) -> str:
    return f"/sessions/{credential.session_id}"


def _payable_sats(status: SessionStatus) -> int:
    return payable_sats(status.refund.owed_msat)


def payable_sats(owed_msat: int) -> int:
    """The largest invoice that the server pays out of this: the rest is its reserve for routing fees."""
    from ..actors.domain.money import Msat
    from ..actors.domain.payouts import largest_payout

    return largest_payout(Msat(owed_msat)).whole_sats
