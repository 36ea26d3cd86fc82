"""LNURL-pay (LUD-06): has the server of a destination make an invoice, and checks what it made."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

from ...clock import system_now_ms
from ...domain.money import MSAT_PER_SAT, Msat
from ...domain.payments.bolt11 import LEFT_LEAST_MS, ReadInvoice, read_invoice
from ...domain.payments.destinations import Destination, DestinationFault, UnfitDestinationError
from ...domain.payments.payouts import PayoutTarget
from ...ports import DestinationError, TransientError
from . import messages
from .exchange import LnurlExchange

# The caller of a refund waits for both questions and then for the payout.
_RESOLVE_S: Final = 8.0


class LnurlDestinations:
    """Implementation of `Destinations`."""

    def __init__(
        self,
        exchange: LnurlExchange,
        *,
        now_ms: Callable[[], int] = system_now_ms,
        resolve_s: float = _RESOLVE_S,
    ) -> None:
        self._exchange = exchange
        self._now_ms = now_ms
        self._resolve_s = resolve_s

    async def resolve(self, destination: Destination, amount_msat: Msat, network: str | None = None) -> PayoutTarget:
        """See `Destinations`."""
        try:
            async with asyncio.timeout(self._resolve_s):
                offered = await self._offered(destination)
                _refuse_amount(offered, amount_msat)
                invoice = await self._invoice(offered, amount_msat)
        except TimeoutError:
            raise TransientError("a destination's server took too long") from None
        _check(invoice, offered, amount_msat, network, self._now_ms())
        return PayoutTarget(invoice.payment_request, invoice.payment_hash, invoice.amount_msat)

    async def close(self) -> None:
        """See `Destinations`."""
        await self._exchange.close()

    async def _offered(self, destination: Destination) -> messages.PayRequest:
        try:
            url = destination.url
        except UnfitDestinationError as error:
            raise DestinationError(error.fault, error.told) from None
        body = await self._exchange.get(url)
        if (failed := messages.failure(body)) is not None:
            raise _said(DestinationFault.NOT_FOUND, "The destination can't be paid", failed)
        tagged = messages.read(body, messages.Tagged)
        if tagged is not None and tagged.tag != "payRequest":
            raise DestinationError(DestinationFault.WRONG_KIND, "This LNURL is not for being paid")
        offered = messages.read(body, messages.PayRequest)
        if tagged is None or offered is None:
            raise DestinationError(DestinationFault.NOT_LNURL, "The destination's server does not answer as LNURL-pay")
        return offered

    async def _invoice(self, offered: messages.PayRequest, amount_msat: Msat) -> ReadInvoice:
        callback = offered.callback
        mark = "&" if "?" in callback else "?"
        body = await self._exchange.get(f"{callback}{mark}amount={amount_msat.value}")
        if (failed := messages.failure(body)) is not None:
            raise _said(DestinationFault.REFUSED, "The destination makes no invoice over this sum", failed)
        made = messages.read(body, messages.PayInvoice)
        if made is None:
            raise DestinationError(DestinationFault.NOT_LNURL, "The destination's server does not answer as LNURL-pay")
        try:
            return read_invoice(made.pr)
        except ValueError:
            raise DestinationError(
                DestinationFault.INVALID_INVOICE, "The destination made an invoice that can't be read"
            ) from None


def _refuse_amount(offered: messages.PayRequest, amount_msat: Msat) -> None:
    if amount_msat.value < offered.min_sendable:
        least = -(-offered.min_sendable // MSAT_PER_SAT)
        raise DestinationError(DestinationFault.AMOUNT_TOO_SMALL, f"The destination takes at least {least} sats", least)
    if amount_msat.value > offered.max_sendable:
        most = offered.max_sendable // MSAT_PER_SAT
        raise DestinationError(DestinationFault.AMOUNT_TOO_LARGE, f"The destination takes at most {most} sats", most)


def _check(
    invoice: ReadInvoice, offered: messages.PayRequest, amount_msat: Msat, network: str | None, now_ms: int
) -> None:
    """Raise `DestinationError` for an invoice over something else than was ordered."""
    if invoice.amount_msat != amount_msat:
        raise DestinationError(DestinationFault.WRONG_AMOUNT, "The destination made an invoice over another sum")
    # Wallets that can't make invoices with a hash leave it away, and the specification allows that since 2023.
    described = hashlib.sha256(offered.metadata.encode("utf-8", "surrogatepass")).hexdigest()
    if invoice.description_hash not in (None, described):
        told = "The destination made an invoice for something else than its own description"
        raise DestinationError(DestinationFault.WRONG_DESCRIPTION, told)
    if network is not None and invoice.currency != network:
        told = "The destination's invoice is for another network than this server's node"
        raise DestinationError(DestinationFault.WRONG_NETWORK, told)
    if invoice.expires_at_ms - now_ms < LEFT_LEAST_MS:
        told = "The destination made an invoice that has expired, or will within 30 s"
        raise DestinationError(DestinationFault.INVALID_INVOICE, told)


def _said(fault: DestinationFault, what: str, failed: messages.Failed) -> DestinationError:
    return DestinationError(fault, f"{what}; its server says: {failed.text}" if failed.text else what)
