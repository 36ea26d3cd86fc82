"""Invoices that we made, and the node's word that one was settled."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Never

import msgspec

from ..behaviour import Command, Reply
from ..money import ZERO, Msat

MADE_AHEAD: Final = "pool"
"""Placeholder for an actor's kind in the extra data of invoices that were made before an actor owned them."""


class Invoice(msgspec.Struct, frozen=True):
    """A BOLT11 invoice over whole sats. From `expires_at_ms` on, wallets don't pay it."""

    payment_request: str
    payment_hash: str
    amount_sats: int
    expires_at_ms: int


class Settlement(msgspec.Struct, frozen=True):
    """An incoming payment as the node itself reports it over an authenticated call.

    `amount_msat` is the amount that arrived, and the one to credit. `actor_id` is the id that we wrote into the
    invoice's extra data, None for payments that are not ours. In an invoice that was made ahead, it names no actor:
    only the invoice's binding says which actor owns it. `kept_msat` is the part of the amount that the node kept for
    itself, such as the price of a channel: the operator's cost. `foreign`: the id is not one of this store's making, so
    that only a binding or a journal can show that the invoice is ours, as those of former versions are.
    """

    payment_hash: str
    amount_msat: Msat
    actor_id: str | None
    kept_msat: Msat = ZERO
    foreign: bool = False

    @property
    def made_ahead(self) -> bool:
        """True if only the invoice's binding says which actor to credit."""
        return self.actor_id is not None and (self.foreign or self.actor_id.partition("_")[0] == MADE_AHEAD)


class SettleOutcome(StrEnum):
    """Outcomes of `Settle`; a payment hash that isn't the actor's is refused instead."""

    APPLIED = "applied"
    REPLAYED = "replayed"


class Settled(Reply, frozen=True, tag="settled"):
    """The answer to `Settle`."""

    outcome: SettleOutcome


class Settle(Command[Settled, Never], frozen=True, tag="settle"):
    """Credit a payment that the node reported as settled: once, however often the command comes."""

    payment_hash: str
    amount_msat: Msat


class InvoiceState(StrEnum):
    """States of an invoice on its page. One that has expired, or whose actor has ended, is not to be paid."""

    OPEN = "open"
    PAID = "paid"
    EXPIRED = "expired"


class InvoicePurpose(StrEnum):
    """Purposes of invoices."""

    DEPOSIT = "deposit"
    TOP_UP = "top_up"
    EVALUATION = "evaluation"
    WORK = "work"


class ShownInvoice(Reply, frozen=True, tag="shown_invoice"):
    """An invoice as its page shows it to a stranger. `invoice` is there while it is open."""

    state: InvoiceState
    purpose: InvoicePurpose
    invoice: Invoice | None = None


class ShowInvoice(Command[ShownInvoice, Never], frozen=True, tag="show_invoice"):
    """Get what a stranger may see of an invoice: it is the one whose payment hash ends in `hash_end`."""

    hash_end: str
