"""What actors want done outside: invoices, look-ups and model calls. The host's effects carry them out."""

from __future__ import annotations

from .behaviour import Command, Intent


class IssueInvoice(Intent, frozen=True):
    """Make an invoice; the result is an `Invoice`. `context` is the command that asked for it, if one did."""

    amount_sats: int
    memo: str
    expiry_s: int
    actor_id: str
    context: Command | None = None


class LookUpInvoice(Intent, frozen=True):
    """Ask the node whether an invoice was paid; the result is a `Settlement` or None. Repeated until it answers."""

    payment_hash: str


class Evaluate(Intent, frozen=True):
    """Have a request judged; the result is a `PricedEvaluation`."""

    request: str


class Work(Intent, frozen=True):
    """Have the model answer; the result is a `Completion`."""

    request: str
    model: str
    max_tokens: int


class ReleaseUnpaid(Intent, frozen=True):
    """Take a paid invoice off its maker's count of unpaid ones. Best effort: the count also lapses by itself."""

    client: str
    actor_id: str
