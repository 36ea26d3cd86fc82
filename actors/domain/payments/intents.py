"""Intents of actors about money: invoices, payouts and look-ups. The host's effects carry them out."""

from __future__ import annotations

import msgspec

from ..behaviour import Command, Intent
from ..money import Msat
from .payouts import PayoutTarget


class IssueInvoice(Intent, frozen=True):
    """Make an invoice; the result is an `Invoice`. `context` is the command that asked for it, if one did.

    With `ahead`, an invoice that was made in advance does as well, because every actor orders the same one. With
    `for_work`, it is not made while the model can't do the work that it is for.
    """

    amount_sats: int
    memo: str
    expiry_s: int
    actor_id: str
    context: Command | None = None
    ahead: bool = False
    for_work: bool = False


class LookUpInvoice(Intent, frozen=True):
    """Ask the node, until it answers, whether an invoice was paid; the result is a `Settlement` or None."""

    payment_hash: str

    @property
    def free_to_repeat(self) -> bool:
        """True: a look-up only asks, perhaps for hours."""
        return True


class ReleaseUnpaid(Intent, frozen=True):
    """Take a paid invoice off the client's count of unpaid ones. Best effort: the count also lapses by itself."""

    client: str
    actor_id: str


class SendPayout(Intent, frozen=True):
    """Pay an invoice of the client's; the result is a `PayoutReport`. Sent once, and not after `send_before_ms`.

    The route may cost `fee_limit_msat` at most.
    """

    target: PayoutTarget
    actor_id: str
    send_before_ms: int
    fee_limit_msat: Msat


class LookUpPayout(Intent, frozen=True):
    """Ask the node until its word is final; the result is a `PayoutReport`, see `payout_flow.verdict`.

    Before `failure_final_at_ms` neither "failed" nor "never heard of it" is final. `received_hashes` are those of
    payments to the actor: a wallet that lacks one of them is another one, or has lost what it knew. `started_at_ms`:
    when the payout began.
    """

    target: PayoutTarget
    actor_id: str
    failure_final_at_ms: int
    received_hashes: tuple[str, ...] = ()
    started_at_ms: int = 0

    @property
    def free_to_repeat(self) -> bool:
        """True: a look-up only asks, perhaps for hours."""
        return True


class ResolveRefund(Intent, frozen=True):
    """Ask a destination for an invoice over this amount; the result is a `PayoutTarget` or an `Unresolved`."""

    destination: str
    amount_msat: Msat

    @property
    def free_to_repeat(self) -> bool:
        """True: an invoice that no payout began with is never paid."""
        return True


class Unresolved(msgspec.Struct, frozen=True):
    """Answer in place of an invoice. `permanent`: the destination refuses, and may be asked again in `retry_after_ms`.

    error: a `DestinationFault` or a `RefundError`.
    """

    error: str
    permanent: bool = False
    retry_after_ms: int = 0
