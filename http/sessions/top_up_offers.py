"""Invoices that are added to refusals for a missing payment, so that the client can pay and try again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ...actors.domain.behaviour import Once
from ...actors.domain.credentials.caveats import Grant
from ...actors.domain.errors import IN_DOUBT, RETRY_ACTION, Code, Refusal, RefusedError, node_unavailable
from ...actors.domain.money import MSAT_PER_SAT
from ...actors.domain.payments.invoices import Invoice
from ...actors.domain.session.messages import GetSession, TopUp
from .. import schema
from ..payments.pay_pages import PayPages
from ..payments.solvency_gate import refuse_deposits
from ..response.errors import PAY_PAGE
from ..state import AppState

TOP_UP_INVOICE: Final = "topUpInvoice"
"""Field of a refusal with the invoice over what the balance lacks."""
DEPOSIT_INVOICE: Final = "depositInvoice"
"""Field of a refusal with the invoice of the deposit."""
_LACKING: Final[Mapping[Code, str]] = {
    Code.INSUFFICIENT_BALANCE: "The balance is too small for this request",
    Code.PAYMENT_REQUIRED: "The deposit has not been paid yet",
}
# A slow node must not delay the refusal any longer.
_PATIENCE_S: Final = 5.0


class TopUpOffers:
    """Finder of the invoice that a client should pay."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._pages = PayPages(state)

    async def improve(self, refusal: Refusal, session_id: str, grant: Grant) -> Refusal:
        """Return the refusal with the invoice that mends it, or a 503 if none can be made now.

        Never raises `RefusedError`.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                match refusal.code:
                    case Code.INSUFFICIENT_BALANCE:
                        invoice = await self._top_up(refusal, session_id, grant)
                        return self._with(refusal, TOP_UP_INVOICE, session_id, invoice)
                    case Code.PAYMENT_REQUIRED:
                        invoice = await self._deposit(refusal, session_id, grant)
                        return self._with(refusal, DEPOSIT_INVOICE, session_id, invoice)
        except RefusedError as error:
            return _not_payable(refusal, error.refusal)
        except TimeoutError:
            return _not_payable(refusal, node_unavailable())
        return refusal

    def _with(self, refusal: Refusal, name: str, session_id: str, invoice: Invoice | None) -> Refusal:
        if invoice is None:
            return refusal
        shown = self._pages.view(session_id, invoice)
        details = {**refusal.details, name: shown.model_dump(by_alias=True), PAY_PAGE: shown.pay_page}
        return replace(refusal, message=f"{refusal.message} {to_pay(shown)}", details=details)

    async def _top_up(self, refusal: Refusal, session_id: str, grant: Grant) -> Invoice | None:
        """Return an invoice over the missing amount: an open one, or a new one for all requests that lack as much.

        A session with too many open invoices gets none: the largest of those is returned.
        """
        await refuse_deposits(self._state)
        settings = self._state.settings
        lacking_msat = refusal.details["requiredMsat"] - refusal.details["balanceMsat"]
        lacking_sats = -(-lacking_msat // MSAT_PER_SAT)
        amount_sats = min(max(lacking_sats, settings.session_min_sats), settings.session_max_sats)
        once = Once(f"auto:{amount_sats}", str(amount_sats), keyed=False)
        command = TopUp(amount_sats=amount_sats, once=once, grant=grant, any_open=True)
        try:
            return (await self._state.router.call(session_id, command)).invoice
        except RefusedError as error:
            if error.refusal.code is not Code.RATE_LIMITED:
                raise
            pending = await self._pending(session_id, grant)
            return max(pending, key=lambda invoice: invoice.amount_sats, default=None)

    async def _deposit(self, refusal: Refusal, session_id: str, grant: Grant) -> Invoice | None:
        if RETRY_ACTION not in refusal.details:
            # It was not paid before, and must not be paid now.
            await refuse_deposits(self._state)
        return next(iter(await self._pending(session_id, grant)), None)

    async def _pending(self, session_id: str, grant: Grant) -> Sequence[Invoice]:
        # The caveats are left out: a holder that may only make requests must still be able to pay for them.
        view = await self._state.router.call(session_id, GetSession(Grant(grant.generation)))
        return view.pending_invoices


def to_pay(shown: schema.Invoice) -> str:
    """Return the end of a sentence that names the invoice: many programs show nothing but the sentence."""
    page = shown.pay_page or ""
    # A path alone would be of no use to a person who reads the sentence in a terminal.
    scan = f"Open {page} to scan it with a phone. " if page.startswith("http") else ""
    return f"{scan}The invoice over {shown.amount_sats} sats is {shown.payment_request}"


def _not_payable(refusal: Refusal, cause: Refusal) -> Refusal:
    """Return a refusal for the reason that stands against an invoice, with the first one's amounts."""
    if cause.code is not Code.UNAVAILABLE:
        return cause
    message = f"{_LACKING[refusal.code]}, and no invoice for it can be made now. {cause.message}"
    details = {name: told for name, told in cause.details.items() if name != IN_DOUBT}
    return replace(cause, message=message, details={**refusal.details, **details})
