"""Opening of sessions, with an amount that the client chose, or with one that a request needs."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request

from ...actors.domain.credentials import macaroon
from ...actors.domain.credentials.macaroon import MacaroonId
from ...actors.domain.session.messages import OpenSession, SessionCreated
from ...actors.domain.webhooks import Webhook
from ..payments.invoice_limits import InvoiceLimits, Payer
from ..payments.keyed_ids import KeyedIds
from ..payments.solvency_gate import refuse_deposits
from ..request.client_address import ClientAddresses
from ..state import AppState


class Opened(NamedTuple):
    """A session, its macaroon, and whether they are of the previous root key."""

    created: SessionCreated
    macaroon: str
    of_previous_key: bool


class Openings:
    """Opener of sessions, within the limit of unpaid invoices of one address."""

    def __init__(self, state: AppState, clients: ClientAddresses) -> None:
        self._state = state
        self._clients = clients
        self._ids = KeyedIds(state, clients)
        self._invoice_limits = InvoiceLimits(state)

    async def open(
        self,
        request: Request,
        amount_sats: int,
        key: str | None,
        *,
        webhook: Webhook | None = None,
        path: str = "/sessions",
        any_amount: bool = False,
        refund_to: str | None = None,
    ) -> Opened:
        """Open a session, or return the one of the client's Idempotency-Key. Raises `RefusedError`.

        With `any_amount`, an existing session is returned whatever its amount.
        """
        await refuse_deposits(self._state)
        client = self._clients.digest(request)
        session_id, of_previous_key = await self._ids.session(request, key, path)
        command = OpenSession(amount_sats, client, webhook, any_amount, refund_to)

        async def opening() -> tuple[SessionCreated, bool]:
            created = await self._state.router.call(session_id, command)
            # Only a key can lead to a session that was paid long ago.
            return created, key is None or created.unpaid

        created = await self._invoice_limits.count(
            Payer(client, self._clients.wide_digest(request)), session_id, opening
        )
        return Opened(created, self._mint(created, of_previous_key=of_previous_key), of_previous_key)

    def _mint(self, created: SessionCreated, *, of_previous_key: bool) -> str:
        """Return the session's macaroon, the same one for the same Idempotency-Key."""
        previous, key = self._state.previous_keys, self._state.macaroon_key
        macaroon_id = MacaroonId(created.deposit_invoice.payment_hash, created.session_id, created.generation)
        return macaroon.mint(previous.macaroons if previous is not None and of_previous_key else key, macaroon_id)
