"""Key of invoices, in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class KeyInMemory:
    """Implementation of `InvoiceKey`; None until the first invoice is made. `first`: the key that is made then."""

    key: bytes | None = None
    first: bytes = b"k" * 32

    async def read(self) -> bytes | None:
        return self.key

    async def made(self) -> bytes:
        self.key = self.key or self.first
        return self.key
