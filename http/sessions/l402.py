"""L402: payment without an open session, by a challenge and the credential that its wallet sends back.

Source: github.com/lightninglabs/L402; the order of the header's parameters is the one that all clients read.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from starlette.requests import Request

from ...actors.domain.backoff import Backoff
from ...actors.domain.credentials.caveats import Grant
from ...actors.domain.errors import Code, Refusal, RefusedError
from ...actors.domain.money import MSAT_PER_SAT
from ...actors.domain.session.messages import Ask, CheckPayment, Relay
from ...actors.domain.session.requests import wanted
from ...actors.domain.session.state import SessionState
from ...actors.operator_terms import session_terms
from ...actors.ports import TransientError
from ..payments import views
from ..request.auth import Holder
from ..request.client_address import Clients
from ..response.errors import ChallengeError, invalid
from ..state import AppState
from .opening import Openings
from .top_up_offers import to_pay

# The exchange rate may move between the challenge and the payment.
_SPARE_PCT: Final = 5
# A payment reaches our node within a moment, and clients seldom wait longer than this.
_SETTLES_WITHIN_S: Final = 8.0
_LOOK_FIRST_S: Final = 0.2
_LOOK_MAX_S: Final = 1.5
_LOOKS_MAX: Final = 14
NOBODY: Final = Grant(generation=0)


class L402:
    """Challenges for clients without a credential: a deposit to pay, and the wait for it when they come back."""

    def __init__(self, state: AppState, clients: Clients) -> None:
        self._state = state
        self._openings = Openings(state, clients)
        self._terms = session_terms(state.settings)

    async def challenge(self, request: Request, key: str | None, command: Ask | Relay) -> NoReturn:
        """Raise `RefusedError`: a 402 with the invoice of a deposit that covers the command, or the reason against one.

        The command must be valid in itself: no client should pay for a request that can't be answered.
        """
        amount_sats = self._deposit_sats(command)
        if command.refused is not None:
            raise RefusedError(command.refused)
        path = request.scope["route"].path
        created = await self._openings.open(request, amount_sats, key, path=path, any_amount=True)
        token, invoice = self._openings.mint(created), created.deposit_invoice
        message = f"Pay the invoice, and send the same again with the credential. {to_pay(invoice)}"
        details = {
            "sessionId": created.session_id,
            "depositInvoice": views.invoice(invoice).model_dump(by_alias=True, mode="json"),
        }
        raise ChallengeError(
            Refusal(Code.PAYMENT_REQUIRED, message, details),
            f'L402 macaroon="{token}", invoice="{invoice.payment_request}", version="0", token="{token}"',
        )

    def _deposit_sats(self, command: Ask | Relay) -> int:
        settings = self._state.settings
        asked = wanted(self._terms, command)
        full_sats, least_sats = (
            -(-asked.worst.msat(tokens).value * (100 + _SPARE_PCT) // (100 * MSAT_PER_SAT))
            for tokens in (asked.max_tokens, asked.least_tokens)
        )
        if least_sats > settings.session_max_sats:
            message = f"The smallest useful answer can cost {least_sats} sats, and a deposit has at most"
            raise invalid("", f"{message} {settings.session_max_sats}: send less")
        return min(max(full_sats, settings.session_min_sats), settings.session_max_sats)

    async def settled(self, holder: Holder) -> None:
        """Wait until the node reports the deposit as paid, if the holder shows the preimage of its invoice.

        Raises nothing: the session decides if the deposit was paid. Knowing a preimage does not prove a payment.
        """
        if not holder.shows_preimage:
            return
        try:
            async with asyncio.timeout(_SETTLES_WITHIN_S):
                backoff = Backoff(_LOOK_FIRST_S, _LOOK_MAX_S)
                for _ in range(_LOOKS_MAX):
                    view = await self._state.router.call(
                        holder.session_id, CheckPayment(Grant(holder.grant.generation))
                    )
                    if view.state is not SessionState.AWAITING_PAYMENT:
                        return
                    await asyncio.sleep(backoff.next())
        except (RefusedError, TransientError, TimeoutError):
            return
