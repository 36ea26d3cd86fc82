"""Invoices that we made, and the node's word that one was settled."""

from __future__ import annotations

import msgspec

from .money import Msat


class Invoice(msgspec.Struct, frozen=True):
    """A BOLT11 invoice over whole sats. `expires_at_ms` is when a wallet stops paying it."""

    payment_request: str
    payment_hash: str
    amount_sats: int
    expires_at_ms: int


class Settlement(msgspec.Struct, frozen=True):
    """An incoming payment as the node itself reports it over an authenticated call.

    `amount_msat` is what arrived, which is what is credited. `actor_id` is the one that we wrote into the invoice's
    extra data, None for payments that are not ours.
    """

    payment_hash: str
    amount_msat: Msat
    actor_id: str | None
