"""Difference that an audit tells."""

from __future__ import annotations

import msgspec


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """A difference. `what` says it in words; ids and amounts stand beside it where there are any."""

    what: str
    actor_id: str | None = None
    payment_hash: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        parts = [self.what]
        if self.actor_id:
            parts.append(f"actor {self.actor_id}")
        if self.payment_hash:
            parts.append(f"payment {self.payment_hash}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}, found {self.found}")
        return "; ".join(parts)
