"""Accounts: the client's sessions, with their credentials, status and ledger, as flows."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from .errors import NoSessionError
from .flow import UNAVAILABLE, Flow
from .models import LedgerEntry, LedgerPage, SessionStatus, SignedReceipt
from .state import Credential, Payment, State, Store, replaced
from .wire import Server, new_key

_LEDGER_PAGE: Final = 1_000
_PENDING: Final = frozenset({*UNAVAILABLE, 425})


class Accounts:
    """The client's sessions. `fixed` is a credential that the caller gave, which is used as it is."""

    def __init__(self, server: Server, store: Store, fixed: Credential | None) -> None:
        self._server = server
        self._store = store
        self.fixed: Final = fixed

    def current(self) -> Credential | None:
        """Return the credential that requests are sent with, if there is one."""
        return self.fixed or self._store.read().session

    def known(self) -> Credential:
        """Return the credential that requests are sent with. Raises `NoSessionError`."""
        credential = self.current()
        if credential is None:
            raise NoSessionError("There is no session yet: open one.")
        return credential

    def former(self) -> list[Credential]:
        """Return sessions that are over and may still owe something."""
        return self._store.read().former

    def show(self, credential: Credential) -> Flow[SessionStatus]:
        """Return the session as it is now."""
        return (yield from self._server.call(SessionStatus, "GET", path_of(credential), macaroon=credential.macaroon))

    def ledger(self, credential: Credential, after: int) -> Flow[list[LedgerEntry]]:
        """Return the session's movements after this `seq`, oldest first."""
        entries: list[LedgerEntry] = []
        while True:
            path = f"{path_of(credential)}/ledger?after={after}&limit={_LEDGER_PAGE}"
            page = yield from self._server.call(LedgerPage, "GET", path, macaroon=credential.macaroon)
            entries += page.entries
            if len(page.entries) < _LEDGER_PAGE:
                return entries
            after = page.entries[-1].seq

    def receipt(self, credential: Credential, request_id: str) -> Flow[SignedReceipt]:
        """Return the receipt of one of the session's requests."""
        path = f"{path_of(credential)}/requests/{quote(request_id, safe='')}/receipt"
        return (yield from self._server.call(SignedReceipt, "GET", path, macaroon=credential.macaroon))

    def close(self, credential: Credential, payment_request: str | None) -> Flow[SessionStatus]:
        """Close the session, and have its debt paid to the invoice, if there is one."""
        path = f"{path_of(credential)}/close"
        body = {} if payment_request is None else {"paymentRequest": payment_request}
        token = credential.macaroon
        return (
            yield from self._server.call(
                SessionStatus, "POST", path, body=body, key=new_key(), macaroon=token, again=_PENDING
            )
        )

    def name_destination(self, credential: Credential, destination: str) -> Flow[SessionStatus]:
        """Name where the session's rest is paid by itself."""
        path, body = f"{path_of(credential)}/refund-destination", {"refundTo": destination}
        return (yield from self._server.call(SessionStatus, "PUT", path, body=body, macaroon=credential.macaroon))

    def withdraw(self, credential: Credential) -> Flow[SessionStatus]:
        """Close the session, and get a link by which its rest is taken."""
        path, token = f"{path_of(credential)}/withdraw", credential.macaroon
        return (yield from self._server.call(SessionStatus, "POST", path, body={}, key=new_key(), macaroon=token))

    def seen(self, payment: Payment) -> Flow[bool]:
        """Return True if a payment into one of the client's sessions has been credited."""
        state = self._store.read()
        ours = [c for c in (self.fixed, state.session, *state.former) if c and c.session_id == payment.purpose]
        if not ours:
            return False
        status = yield from self.show(ours[0])
        if any(pending.payment_hash == payment.invoice.payment_hash for pending in status.pending_invoices):
            return False
        entries = yield from self.ledger(ours[0], 0)
        return any(e.kind == "deposit" and e.payment_hash == payment.invoice.payment_hash for e in entries)

    def retire(self, credential: Credential) -> None:
        """Stop using the credential's session; it is kept, because it may owe something."""

        def change(state: State) -> State:
            if state.session is None or state.session.session_id != credential.session_id:
                return state
            return replaced(state, session=None, former=[*state.former, state.session])

        self._store.change(change)

    def forget(self, credential: Credential) -> None:
        """Remove the credential: its session owes nothing, and no more payments arrive."""

        def change(state: State) -> State:
            kept = [former for former in state.former if former.session_id != credential.session_id]
            current = None if state.session and state.session.session_id == credential.session_id else state.session
            return replaced(state, session=current, former=kept)

        self._store.change(change)


def path_of(credential: Credential) -> str:
    """Return the path of the session, the prefix of all its operations."""
    return f"/sessions/{credential.session_id}"
