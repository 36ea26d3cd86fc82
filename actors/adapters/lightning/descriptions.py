"""Descriptions of invoices at nodes that keep nothing else of ours with an invoice: they end with the order's id.

It shows that an invoice is ours. It is never an actor's, as strangers read descriptions: see `OwnedPayments`.
"""

from __future__ import annotations

import re
from typing import Final

from ...ports import InvoiceOrder

# Ids are letters, digits, "-" and "_" behind the name of the actor's kind; see `http/request/ids.py`.
_ACTOR: Final = re.compile(r" \(([a-z]+_[A-Za-z0-9_-]{1,64})\)\Z")


def description_of(order: InvoiceOrder) -> str:
    """Return the description of an invoice: its memo, and the order's id in brackets."""
    return f"{order.memo} ({order.actor_id})"


def actor_in(description: str) -> str | None:
    """Return the id that a description has at its end; None for an invoice that is not ours."""
    found = _ACTOR.search(description)
    return None if found is None else found[1]
