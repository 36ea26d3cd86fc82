"""`satmeter receipt quote`: the check of a job's price against the invoice that it was paid by."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from ...actors.domain.money import EXACT, MoneyError, usd_to_sats
from ...actors.domain.payments.bolt11 import description_of, read_invoice
from ...actors.domain.quotes import digest_in, quote_digest


class MismatchError(Exception):
    """A failed check. The text says in a sentence what is wrong."""


def check_quote(status: Mapping[str, Any]) -> str:
    """Check a JobStatus's price against its work invoice, which commits to it, and return the finding.

    The numbers of `status` are `int` or `Decimal`. Raises `MismatchError`.
    """
    breakdown, shown = status.get("pricingBreakdown"), status.get("workInvoice")
    if not isinstance(breakdown, dict) or not isinstance(shown, dict):
        raise MismatchError(
            "The file is not a JobStatus with a workInvoice and a pricingBreakdown: save one of such a job."
        )
    payment_request = str(shown.get("paymentRequest"))
    try:
        invoice = read_invoice(payment_request)
        memo = description_of(payment_request)
    except ValueError as error:
        raise MismatchError(f"The work invoice can't be read: {error}.") from None
    committed = digest_in(memo)
    if committed is None and invoice.description_hash is not None:
        raise MismatchError(
            "The work invoice has the hash of its description alone, as some wallets make them: what it commits to "
            "can't be read."
        )
    if committed is None:
        raise MismatchError("The work invoice commits to no quote: it was made before quotes were bound to invoices.")
    try:
        digest, price_sats = quote_digest(breakdown), _price_sats(breakdown)
    except (ValueError, KeyError, InvalidOperation, MoneyError, TypeError):
        raise MismatchError("The pricingBreakdown is not one that a server gives.") from None
    if digest != committed:
        raise MismatchError(
            f"The price is not the one that was quoted: its digest is {digest}, the invoice's {committed}."
        )
    if invoice.payment_hash != shown.get("paymentHash"):
        raise MismatchError("The work invoice has another payment hash than the file says.")
    if (
        invoice.amount_msat.value != breakdown["amountSats"] * 1_000
        or shown.get("amountSats") != breakdown["amountSats"]
    ):
        raise MismatchError("The work invoice is over another amount than was quoted.")
    if price_sats != breakdown["amountSats"]:
        raise MismatchError(f"By its own figures the price is {price_sats} sats, not {breakdown['amountSats']}.")
    return f"The invoice commits to this price: {price_sats} sats, quote sha256:{digest}"


def _price_sats(breakdown: Mapping[str, Any]) -> int:
    """Return the amount by the contract's formula."""
    cost_usd = EXACT.add(Decimal(breakdown["modelCostUsd"]), Decimal(breakdown["infraCostUsd"]))
    margin = EXACT.add(1, EXACT.divide(Decimal(breakdown["marginPct"]), 100))
    return usd_to_sats(EXACT.multiply(cost_usd, margin), Decimal(breakdown["btcPriceUsd"]))
