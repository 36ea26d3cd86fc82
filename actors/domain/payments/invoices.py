"""Invoices that we made, and the node's word that one was settled."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from ..behaviour import Command, Reply
from ..money import Msat

MADE_AHEAD: Final = "pool"
"""Stands where an actor's kind stands, in the extra data of invoices that were made before they were anybody's."""


class Invoice(msgspec.Struct, frozen=True):
    """A BOLT11 invoice over whole sats. `expires_at_ms` is when a wallet stops paying it."""

    payment_request: str
    payment_hash: str
    amount_sats: int
    expires_at_ms: int


class Settlement(msgspec.Struct, frozen=True):
    """An incoming payment as the node itself reports it over an authenticated call.

    `amount_msat` is what arrived, which is what is credited. `actor_id` is the one that we wrote into the invoice's
    extra data, None for payments that are not ours. Of an invoice that was made ahead it is no actor's: whose the
    invoice is, only its binding tells.
    """

    payment_hash: str
    amount_msat: Msat
    actor_id: str | None

    @property
    def made_ahead(self) -> bool:
        """Whether the binding must be read to know whom it credits."""
        return self.actor_id is not None and self.actor_id.partition("_")[0] == MADE_AHEAD


class Settle(Command, frozen=True, tag="settle"):
    """Credits a payment that the node reported as settled: once, however often this comes."""

    payment_hash: str
    amount_msat: Msat


class SettleOutcome(StrEnum):
    """What came of it; a hash that isn't the actor's is refused instead."""

    APPLIED = "applied"
    REPLAYED = "replayed"


class Settled(Reply, frozen=True, tag="settled"):
    """The answer to `Settle`."""

    outcome: SettleOutcome
