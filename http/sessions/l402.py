"""L402: payment without an open session, by a challenge and the credential that its wallet sends back.

Source: github.com/lightninglabs/L402; the order of the header's parameters is the one that all clients read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

from msgspec.structs import replace
from starlette.requests import Request

from ...actors.domain.backoff import Backoff
from ...actors.domain.credentials import macaroon
from ...actors.domain.credentials.caveats import Grant
from ...actors.domain.credentials.macaroon import MacaroonId
from ...actors.domain.errors import PAYMENT_STATE, RETRY_ACTION, Code, PaymentState, Refusal, RefusedError, RetryAction
from ...actors.domain.money import MSAT_PER_SAT
from ...actors.domain.session.messages import Ask, CheckPayment, GetSession, Relay
from ...actors.domain.session.requests import CLOSED, EXPIRED, UNPAID, wanted
from ...actors.domain.session.state import ENDED_STATES, SessionState
from ...actors.operator_terms import session_terms
from ...actors.ports import TransientError
from ..payments.pay_pages import PayPages
from ..request.auth import Holder
from ..request.client_address import ClientAddresses
from ..response.errors import PAY_PAGE, ChallengeError, invalid
from ..state import AppState
from .opening import Openings
from .top_up_offers import TOP_UP_INVOICE, TopUpOffers, to_pay
from .unseen_payments import UnseenPayments

# The exchange rate may move between the challenge and the payment.
_SPARE_PCT: Final = 5
# A payment reaches our node within a moment, and clients seldom wait longer than this.
_SETTLES_WITHIN_S: Final = 8.0
_LOOK_FIRST_S: Final = 0.2
_LOOK_MAX_S: Final = 1.5
_LOOKS_MAX: Final = 14
_SETTLED_KEPT: Final = 16_384
# The refusals of a session that has ended, or whose journal was archived since.
_OVER: Final = frozenset({Code.CLOSED, Code.EXPIRED, Code.NOT_FOUND})
# The preimage does not prove the payment, but its holder waits first: paying again may pay twice.
_UNSEEN: Final = {RETRY_ACTION: RetryAction.WAIT.value, PAYMENT_STATE: PaymentState.IN_FLIGHT.value}
_UNSEEN_RETRY_S: Final = 2
NOBODY: Final = Grant(generation=0)
AnswerT = TypeVar("AnswerT")


class L402:
    """Challenges for clients without a credential: a deposit to pay, and the wait for it when they come back."""

    def __init__(self, state: AppState, clients: ClientAddresses, unseen_payments: UnseenPayments) -> None:
        self._state = state
        self._openings = Openings(state, clients)
        self._top_up_offers = TopUpOffers(state)
        self._pages = PayPages(state)
        self._terms = session_terms(state.settings)
        self.unseen_payments = unseen_payments
        self._settled: set[str] = set()

    async def challenge(
        self, request: Request, key: str | None, command: Ask | Relay, over: Holder | None = None, told: str = ""
    ) -> NoReturn:
        """Raise `RefusedError`: a 402 with the invoice of a deposit that covers the command, or the reason against one.

        The command must be valid in itself: no client should pay for a request that can't be answered. `over`: the
        holder of a credential for a session that has ended, and `told` is how.
        """
        amount_sats = self._deposit_sats(command)
        if command.refused is not None:
            raise RefusedError(command.refused)
        path = request.scope["route"].path
        if over is not None:
            # The same key opened the session that is over.
            path = f"{path} after {over.session_id}"
        created, token, of_previous = await self._openings.open(request, amount_sats, key, path=path, any_amount=True)
        invoice = self._pages.view(created.session_id, created.deposit_invoice, of_previous_key=of_previous)
        message = f"{told} Pay the invoice, and send the same again with the credential. {to_pay(invoice)}".lstrip()
        details = {
            "sessionId": created.session_id,
            "depositInvoice": invoice.model_dump(by_alias=True, mode="json"),
            PAY_PAGE: invoice.pay_page,
        }
        raise ChallengeError(
            Refusal(Code.PAYMENT_REQUIRED, message, details), _challenge(token, invoice.payment_request)
        )

    async def refused(
        self, request: Request, key: str | None, command: Ask | Relay, holder: Holder, refusal: Refusal
    ) -> RefusedError:
        """Return the error for a refused command, with the invoice that mends it, and for a wallet with a challenge.

        A wallet keeps its credential, and would be stuck at a refusal without a challenge. Raises `RefusedError`, as
        `challenge` does.
        """
        wallet = holder.shows_preimage and "sessionId" not in request.path_params
        if wallet and refusal.code in _OVER:
            await self.challenge(request, key, command, holder, refusal.message)
        if refusal.code is Code.INSUFFICIENT_BALANCE and await self._is_unseen(holder):
            # Another invoice would be paid beside the one of the top-up.
            return RefusedError(_unseen(refusal))
        offered = await self._offered(refusal, holder)
        invoice = offered.details.get(TOP_UP_INVOICE)
        if not wallet or invoice is None or holder.grant.spend_limits:
            # A new macaroon would begin the count of a spend limit from zero.
            return RefusedError(offered)
        fresh = MacaroonId(invoice["paymentHash"], holder.session_id, holder.grant.generation)
        # It allows no more than the one that was sent.
        token = macaroon.attenuate(macaroon.mint(self._state.macaroon_key, fresh), macaroon.read(holder.token)[1])
        return ChallengeError(offered, _challenge(token, invoice["paymentRequest"]))

    async def retried(self, holder: Holder, send: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Return what `send` returns: see `UnseenPayments`. Raises `RefusedError`."""
        return await self.unseen_payments.retried(holder, send)

    async def _offered(self, refusal: Refusal, holder: Holder) -> Refusal:
        """Return the refusal with the invoice that mends it, or with the advice to wait for the payment of one."""
        if holder.shows_preimage and refusal.code is Code.PAYMENT_REQUIRED:
            refusal = _unseen(refusal)
        return await self._top_up_offers.improve(refusal, holder.session_id, holder.grant)

    async def _is_unseen(self, holder: Holder) -> bool:
        """Return True if the node has not reported the payment yet whose preimage the holder shows."""
        if not holder.shows_preimage:
            return False
        try:
            view = await self._state.router.call(holder.session_id, GetSession(Grant(holder.grant.generation)))
        except RefusedError:
            return False
        return holder.payment_hash in [invoice.payment_hash for invoice in view.pending_invoices]

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

    async def admit(self, holder: Holder) -> None:
        """Let the holder of a session that is paid for send a large body. Raises `RefusedError` (402, 404, 410, 503).

        Any client gets the macaroon of an unpaid session for nothing, and can end the session unpaid.
        """
        await self.settled(holder)
        # The caveats are left out: a holder that may only make requests may not read the session.
        view = await self._state.router.call(holder.session_id, GetSession(Grant(holder.grant.generation)))
        if view.state is SessionState.AWAITING_PAYMENT:
            if await self.unseen_payments.credited(holder, UNPAID):
                return
            raise RefusedError(await self._offered(UNPAID, holder))
        if view.state in ENDED_STATES and not view.deposited_msat:
            raise RefusedError(CLOSED if view.state is SessionState.CLOSED else EXPIRED)

    async def settled(self, holder: Holder) -> None:
        """Wait until the node reports the invoice as paid, if the holder shows its preimage.

        Raises nothing: the session decides if it was paid. Knowing a preimage does not prove a payment.
        """
        if not holder.shows_preimage or holder.payment_hash in self._settled:
            return
        try:
            async with asyncio.timeout(_SETTLES_WITHIN_S):
                backoff = Backoff(_LOOK_FIRST_S, _LOOK_MAX_S)
                for _ in range(_LOOKS_MAX):
                    check = CheckPayment(Grant(holder.grant.generation), holder.payment_hash)
                    view = await self._state.router.call(holder.session_id, check)
                    topped_up = holder.payment_hash not in [invoice.payment_hash for invoice in view.pending_invoices]
                    if view.state is not SessionState.AWAITING_PAYMENT and topped_up:
                        self._note_settled(holder.payment_hash)
                        return
                    await asyncio.sleep(backoff.next())
        except (RefusedError, TransientError, TimeoutError):
            return

    def _note_settled(self, payment_hash: str) -> None:
        """Remember a payment, so that a wallet's next requests don't ask for it: one that is settled stays so."""
        if len(self._settled) >= _SETTLED_KEPT:
            self._settled.clear()
        self._settled.add(payment_hash)


def _unseen(refusal: Refusal) -> Refusal:
    return replace(refusal, details={**refusal.details, **_UNSEEN}, retry_after_s=_UNSEEN_RETRY_S)


def _challenge(token: str, payment_request: str) -> str:
    return f'L402 macaroon="{token}", invoice="{payment_request}", version="0", token="{token}"'
