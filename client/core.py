"""Core of a client: all of its operations as flows, which `Satmeter` and `AsyncSatmeter` share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, TypedDict
from urllib.parse import quote

from .accounts import Accounts
from .errors import NoSessionError
from .flow import Flow, Retries, deliver
from .jobs import Jobs
from .macaroons import narrow, session_id_of
from .models import Pricing
from .payments import Payments
from .refunds import Refunds
from .sessions import Sessions
from .state import Credential, FileStore, MemoryStore, Payment, Store
from .wallets import Wallet
from .wire import Server

_NO_HASH: Final = "0" * 64


class Options(TypedDict, total=False):
    """The options of both clients.

    wallet: pays invoices. budget_sats: the most that this client, or its session file, ever pays; only with a budget
    does it pay by itself, for a session or a top-up that a request needs. session_file: stores the session and the
    payments (0600); without it they are lost with this object. macaroon: use this credential's session.
    deposit_sats (1000) and top_up_sats (1000): the amounts that it pays by itself, or less if the budget ends.
    refund_to: the Lightning address or LNURL that the server pays a new session's rest to, once that is over.
    timeout_s (120): the longest silence while an answer is awaited. connect_timeout_s (10). retries: how often and
    how long lost requests are sent again.
    """

    wallet: Wallet | None
    budget_sats: int | None
    session_file: str | os.PathLike[str] | None
    macaroon: str | None
    deposit_sats: int
    top_up_sats: int
    refund_to: str | None
    timeout_s: float
    connect_timeout_s: float
    retries: Retries


class Core:
    """The parts of a client, wired together. Its options are those of `Options`; `store` replaces the session file."""

    def __init__(
        self,
        url: str,
        *,
        wallet: Wallet | None = None,
        budget_sats: int | None = None,
        session_file: str | os.PathLike[str] | None = None,
        macaroon: str | None = None,
        deposit_sats: int = 1_000,
        top_up_sats: int = 1_000,
        refund_to: str | None = None,
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        retries: Retries = Retries(),  # noqa: B008 - it is immutable
        store: Store | None = None,
    ) -> None:
        self.timeout_s: Final = timeout_s
        self.connect_timeout_s: Final = connect_timeout_s
        if deposit_sats < 1 or top_up_sats < 1:
            raise ValueError("deposit_sats and top_up_sats must be at least 1")
        self.server: Final = Server(url, retries)
        # The caller stores the macaroon that it gave; payments into its session are stored here all the same.
        if store is None:
            store = FileStore(session_file, self.server.url) if session_file else MemoryStore(self.server.url)
        fixed = None
        if macaroon is not None:
            fixed = Credential(session_id=session_id_of(macaroon), macaroon=macaroon)
        self.accounts: Final = Accounts(self.server, store, fixed)
        self.payments: Final = Payments(self.server, store, wallet, budget_sats, self._seen)
        self.jobs: Final = Jobs(self.server, self.payments)
        self.refunds: Final = Refunds(self.accounts, store, self.payments)
        self.sessions: Final = Sessions(
            self.server,
            store,
            self.accounts,
            self.payments,
            deposit_sats=deposit_sats,
            top_up_sats=top_up_sats,
            refund_to=refund_to,
        )

    def pricing(self) -> Flow[Pricing]:
        """Return the server's prices."""
        return (yield from self.server.call(Pricing, "GET", "/pricing"))

    def has_stub_node(self) -> Flow[bool]:
        """Return True for a development server, whose invoices any client may mark paid."""
        # The path takes only POST: where it exists this is a 405, and elsewhere a 404.
        request = self.server.request("GET", f"/dev/stub/pay/{quote(_NO_HASH)}")
        reply = yield from deliver(request, self.server.retries)
        return reply.status == 405

    def narrowed(self, caveats: list[str]) -> str:
        """Return the session's macaroon with these caveats. Raises `NoSessionError`, `ValueError`."""
        credential = self.accounts.current()
        if credential is None:
            raise NoSessionError("There is no session yet whose macaroon could be narrowed: open one.")
        return narrow(credential.macaroon, caveats)

    def _seen(self, payment: Payment) -> Flow[bool]:
        part = self.accounts if payment.purpose.startswith("ses_") else self.jobs
        return (yield from part.seen(payment))


def question(request: str, max_tokens: int | None, model: str | None) -> Mapping[str, Any]:
    """Return the body of a request."""
    body: dict[str, Any] = {"request": request}
    if max_tokens is not None:
        body["maxTokens"] = max_tokens
    if model is not None:
        body["model"] = model
    return body
