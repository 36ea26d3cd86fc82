"""Key of invoices, in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class KeyInMemory:
    """Implementation of `InvoiceKey`; None until the first invoice is made."""

    key: bytes | None = None

    async def read(self) -> bytes | None:
        return self.key

    async def made(self) -> bytes:
        self.key = self.key or b"k" * 32
        return self.key
