"""Messages of phoenixd about the node and what it received. Source: phoenixd 0.8, `Api.kt` and its API reference.

Amounts are in satoshis, rounded down, but for `fees`, which are in millisatoshis. Fields without a value are left out.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ...domain.money import MSAT_PER_SAT, Msat
from ...domain.payments.bolt11 import read_invoice
from ...domain.payments.invoices import Invoice, Settlement
from ...ports import InvoiceOrder
from ..lightning.reading import is_payment_hash, read, rubbish, sane_msat

# The id that we give an invoice at the node. Other programs of the operator's give ids of theirs.
_OURS: Final = "satmeter:"
# phoenixd refuses a longer description.
_DESCRIPTION_MAX_CHARS: Final = 128
# The end of a description: the digest of a quote with the word before it.
_TAIL_CHARS: Final = 80
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)")
_RECEIVED: Final = "payment_received"


class Channel(msgspec.Struct, frozen=True, rename="camel"):
    """Channel to the node's only peer. The inbound liquidity is what it can still receive without a fee."""

    state: str
    inbound_liquidity_sat: int | None = None


class NodeInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Answer of `/getinfo`."""

    channels: list[Channel]
    version: str = ""

    @property
    def release(self) -> tuple[int, int] | None:
        """The first two numbers of the version; None where it can't be read, as that of a build of one's own."""
        found = _VERSION.match(self.version)
        return (int(found[1]), int(found[2])) if found else None


class Balance(msgspec.Struct, frozen=True, rename="camel"):
    """Answer of `/getbalance`. The fee credit can't be spent: later channel fees are taken from it."""

    balance_sat: int
    fee_credit_sat: int = 0


class LiquidityFees(msgspec.Struct, frozen=True, rename="camel"):
    """Answer of `/estimateliquidityfees`."""

    mining_fee_sat: int
    service_fee_sat: int


class Incoming(msgspec.Struct, frozen=True, rename="camel"):
    """Incoming payment, or an invoice that was not paid. `received_sat` is less what a channel cost."""

    payment_hash: str
    is_paid: bool
    received_sat: int
    fees: int = 0
    requested_sat: int | None = None
    external_id: str | None = None
    invoice: str | None = None

    def settlement(self) -> Settlement | None:
        """Return the credit of this payment; None while it is unpaid. Raises `TransientError` for an absurd amount.

        The node takes no payment below the invoice's amount. What is missing of it, the node kept for a channel.
        """
        if not self.is_paid or not is_payment_hash(self.payment_hash):
            return None
        received_msat = sane_msat(self.received_sat * MSAT_PER_SAT)
        credited_msat = max(received_msat, self._requested_msat())
        return Settlement(self.payment_hash, credited_msat, actor_of(self.external_id), credited_msat - received_msat)

    def _requested_msat(self) -> Msat:
        if self.requested_sat is not None:
            return sane_msat(self.requested_sat * MSAT_PER_SAT)
        if self.invoice is None:
            return Msat(0)
        try:
            return read_invoice(self.invoice).amount_msat
        except ValueError:
            return Msat(0)  # Our invoices have an amount; another program's need none.


class _NewInvoice(msgspec.Struct, frozen=True, rename="camel"):
    payment_hash: str
    serialized: str


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    payment_hash: str = ""


def external_id(actor_id: str) -> str:
    """Return the id that an actor's invoices have at the node."""
    return f"{_OURS}{actor_id}"


def actor_of(external_id: str | None) -> str | None:
    """Return the actor that an invoice's id names; None where it is another program's."""
    if external_id is None or not external_id.startswith(_OURS):
        return None
    return external_id.removeprefix(_OURS) or None


def invoice_form(order: InvoiceOrder) -> dict[str, str]:
    """Return the form that has an invoice made."""
    return {
        "description": _shortened(order.memo),
        "amountSat": str(order.amount_sats),
        "expirySeconds": str(order.expiry_s),
        "externalId": external_id(order.actor_id),
    }


def _shortened(memo: str) -> str:
    """Return the text in as many characters as the node takes; a quote's digest at its end is kept."""
    if len(memo) <= _DESCRIPTION_MAX_CHARS:
        return memo
    return f"{memo[: _DESCRIPTION_MAX_CHARS - _TAIL_CHARS - 1]}…{memo[-_TAIL_CHARS:]}"


def read_new_invoice(body: bytes, order: InvoiceOrder) -> Invoice:
    """Return the invoice that was ordered.

    Raises `TransientError` when the answer, or the BOLT11 text in it, is for another one.
    """
    made = read(body, _NewInvoice)
    try:
        invoice = read_invoice(made.serialized)
    except ValueError as error:
        raise rubbish(str(error)) from None
    if invoice.amount_msat != Msat.from_sats(order.amount_sats):
        raise rubbish("an invoice over another amount")
    # A client pays the hash in the BOLT11 text, while we would ask about the one beside it.
    if invoice.payment_hash != made.payment_hash:
        raise rubbish("an invoice with another payment hash")
    return Invoice(invoice.payment_request, made.payment_hash, order.amount_sats, invoice.expires_at_ms)


def read_incoming(body: bytes, payment_hash: str) -> Incoming:
    """Return the invoice that was asked for. Raises `TransientError`."""
    incoming = read(body, Incoming)
    if incoming.payment_hash != payment_hash:
        raise rubbish("another payment than the one that was asked for")
    return incoming


def read_received(body: bytes) -> list[Settlement]:
    """Return the settlements of a page, in its order. Raises `TransientError`."""
    found = [row.settlement() for row in read(body, list[Incoming])]
    return [settlement for settlement in found if settlement is not None]


def hinted_hash(message: str | bytes) -> str | None:
    """Return the payment hash in an event, None for a message that is not about a payment that came in."""
    try:
        event = msgspec.json.decode(message, type=_Event)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return event.payment_hash if event.type == _RECEIVED and is_payment_hash(event.payment_hash) else None
