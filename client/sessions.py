"""Sessions: their opening, requests and top-ups, as flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from .accounts import Accounts, path_of
from .errors import (
    BudgetExceededError,
    CaveatViolatedError,
    InsufficientBalanceError,
    InvalidRequestError,
    NoSessionError,
    NotFoundError,
    PaymentFailedError,
    PaymentRequiredError,
    SatmeterError,
    SessionOverError,
    WrongInvoiceError,
)
from .flow import Flow
from .macaroons import narrow
from .models import Answer, Invoice, LedgerEntry, SessionOpened, SessionStatus, SignedReceipt, TopUpOpened
from .payments import Payments
from .state import Credential, Store, replaced
from .streams import stream_answer
from .wire import Server, new_key

T = TypeVar("T")

# A refused request is paid for and sent again. More than one round is needed only if the price changes meanwhile.
_COVERS_MAX: Final = 4


class Sessions:
    """The client's session, one at a time. A credential that the caller gave is never replaced by a new one."""

    def __init__(
        self,
        server: Server,
        store: Store,
        accounts: Accounts,
        payments: Payments,
        *,
        deposit_sats: int,
        top_up_sats: int,
        refund_to: str | None = None,
    ) -> None:
        self._server = server
        self._store = store
        self._accounts = accounts
        self._payments = payments
        self._deposit_sats = deposit_sats
        self._top_up_sats = top_up_sats
        self._refund_to = refund_to

    def open(self, amount_sats: int) -> Flow[SessionStatus]:
        """Open a session with this deposit, and return it once the deposit is paid and credited."""

        def work() -> Flow[SessionStatus]:
            if self._accounts.current() is not None:
                raise SatmeterError("There is a session already: top it up, or close it first.")
            credential = yield from self._open(amount_sats)
            return (yield from self._accounts.show(credential))

        return (yield from self._payments.alone(work))

    def name_destination(self, destination: str) -> Flow[SessionStatus]:
        """Name where the session's rest is paid by itself, and return the session."""
        return (yield from self._accounts.name_destination(self._accounts.known(), destination))

    def show(self) -> Flow[SessionStatus]:
        """Return the session as it is now."""
        return (yield from self._accounts.show(self._accounts.known()))

    def ledger(self, after: int) -> Flow[list[LedgerEntry]]:
        """Return the session's movements after this `seq`, oldest first."""
        return (yield from self._accounts.ledger(self._accounts.known(), after))

    def receipt(self, request_id: str) -> Flow[SignedReceipt]:
        """Return the receipt of one of the session's requests."""
        return (yield from self._accounts.receipt(self._accounts.known(), request_id))

    def ask(self, body: dict[str, Any], key: str, max_msat: int | None) -> Flow[Answer]:
        """Answer one request, for one charge however often it has to be sent."""

        def attempt(credential: Credential) -> Flow[Answer]:
            path = f"{path_of(credential)}/request"
            token = _limited(credential, max_msat)
            return (yield from self._server.call(Answer, "POST", path, body=body, key=key, macaroon=token))

        return (yield from self._paid_for(attempt))

    def stream(self, body: dict[str, Any], key: str, max_msat: int | None) -> Flow[Answer]:
        """Answer one request, emitting the text as it is written, for one charge however often it has to be sent."""

        def attempt(credential: Credential) -> Flow[Answer]:
            path = f"{path_of(credential)}/request"
            token = _limited(credential, max_msat)
            request = self._server.request("POST", path, body={**body, "stream": True}, key=key, macaroon=token)
            return (yield from stream_answer(request, self._server.retries))

        return (yield from self._paid_for(attempt))

    def top_up(self, amount_sats: int) -> Flow[SessionStatus]:
        """Pay a top-up, and return the session."""
        credential = self._accounts.known()

        def work() -> Flow[SessionStatus]:
            self._payments.check(amount_sats)
            invoice = yield from self._top_up_invoice(credential, amount_sats)
            yield from self._payments.pay(invoice, amount_sats, credential.session_id)
            return (yield from self._accounts.show(credential))

        return (yield from self._payments.alone(work))

    def _paid_for(self, attempt: Callable[[Credential], Flow[T]]) -> Flow[T]:
        """Run the attempt, and pay for what it lacks: a session, its deposit, a top-up. Raises if it can't be paid."""
        renewed = False
        for _ in range(_COVERS_MAX):
            credential = self._accounts.current() or (yield from self._payments.alone(self._opened))
            try:
                return (yield from attempt(credential))
            except InsufficientBalanceError as error:
                if not self._payments.pays_by_itself:
                    raise
                lacking = error
                yield from self._payments.alone(lambda c=credential, e=lacking: self._cover(c, e))  # type: ignore[misc]
            except PaymentRequiredError:
                if not self._payments.pays_by_itself or credential.deposit is None:
                    raise
                yield from self._payments.alone(lambda c=credential: self._pay_deposit(c))  # type: ignore[misc]
            except (SessionOverError, NotFoundError):
                if renewed or credential is self._accounts.fixed or not self._payments.pays_by_itself:
                    raise
                renewed = True
                self._accounts.retire(credential)
        return (yield from attempt(self._accounts.known()))

    def _opened(self) -> Flow[Credential]:
        """Return the session; open one unless another call has done it meanwhile."""
        credential = self._accounts.current()
        if credential is not None:
            return credential
        if not self._payments.pays_by_itself:
            raise NoSessionError("There is no session: open one, or give the client a wallet and a budget.")
        left_sats = self._payments.left_sats
        assert left_sats is not None
        if not 0 < left_sats < self._deposit_sats:
            return (yield from self._open(self._deposit_sats))
        try:
            return (yield from self._open(left_sats))
        except InvalidRequestError:
            # The rest of the budget is less than this server's smallest deposit.
            raise BudgetExceededError(self._deposit_sats, left_sats, self._payments.budget_sats or 0) from None

    def _open(self, amount_sats: int) -> Flow[Credential]:
        self._payments.check(amount_sats)
        body: dict[str, Any] = {"amountSats": amount_sats}
        if self._refund_to is not None:
            body["refundTo"] = self._refund_to
        opened = yield from self._server.call(SessionOpened, "POST", "/sessions", body=body, key=new_key())
        credential = Credential(session_id=opened.session_id, macaroon=opened.macaroon, deposit=opened.deposit_invoice)
        if opened.deposit_invoice.amount_sats != amount_sats:
            raise WrongInvoiceError("The server asks for another deposit than was asked for: it was not paid.")
        # The macaroon is stored before the payment: losing it after the payment would lose the money.
        self._store.change(lambda state: replaced(state, session=credential))
        yield from self._pay_deposit(credential)
        return credential

    def _pay_deposit(self, credential: Credential) -> Flow[None]:
        invoice = credential.deposit
        assert invoice is not None
        if (yield from self._accounts.show(credential)).state != "awaiting_payment":
            return
        try:
            yield from self._payments.pay(invoice, invoice.amount_sats, credential.session_id)
        except (PaymentFailedError, WrongInvoiceError):
            # A failed or expired invoice can't be paid again. The next request opens another session.
            self._accounts.retire(credential)
            raise

    def _cover(self, credential: Credential, error: InsufficientBalanceError) -> Flow[None]:
        required_msat, balance_msat = error.required_msat or 0, error.balance_msat or 0
        try:
            status = yield from self._accounts.show(credential)
        except CaveatViolatedError:
            pass  # A credential without the right to read can still top up.
        else:
            balance_msat = status.balance_msat
            if balance_msat >= required_msat:
                return  # Another top-up came meanwhile.
        offered = error.top_up_invoice
        least_sats = offered.amount_sats if offered is not None else -(-(required_msat - balance_msat) // 1_000)
        left_sats = self._payments.left_sats
        assert left_sats is not None
        amount_sats = max(min(self._top_up_sats, left_sats), least_sats)
        if amount_sats > left_sats:
            raise BudgetExceededError(amount_sats, left_sats, self._payments.budget_sats or 0)
        if offered is not None and offered.amount_sats == amount_sats:
            invoice = offered
        else:
            invoice = yield from self._top_up_invoice(credential, amount_sats)
        yield from self._payments.pay(invoice, amount_sats, credential.session_id)

    def _top_up_invoice(self, credential: Credential, amount_sats: int) -> Flow[Invoice]:
        path, body = f"{path_of(credential)}/topup", {"amountSats": amount_sats}
        token = credential.macaroon
        opened = yield from self._server.call(TopUpOpened, "POST", path, body=body, key=new_key(), macaroon=token)
        return opened.top_up_invoice


def _limited(credential: Credential, max_msat: int | None) -> str:
    """Return the credential narrowed to one request's `max_msat`, so that the server enforces the limit."""
    if max_msat is None:
        return credential.macaroon
    return narrow(credential.macaroon, [f"max_msat_per_request = {max_msat}"])
