"""News of paid invoices, which LND streams while the connection holds. After a break it repeats what was missed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from ...ports import TransientError
from .messages import SETTLED, OwnerOf, Row, hex_of

SUBSCRIBE: Final = "/v1/invoices/subscribe"

Lines = Callable[[dict[str, str]], AsyncIterator[bytes]]
"""Opens the stream with this query and yields its lines. Raises `TransientError`; ends when it was silent for long."""


class _Event(msgspec.Struct, frozen=True):
    result: Row


class Hints:
    """Payment hashes of paid invoices of ours. Made ones are passed over, and those of other programs."""

    def __init__(self, lines: Lines, owner_of: OwnerOf) -> None:
        self._lines = lines
        self._owner_of = owner_of
        self._settle_index = 0

    async def heard(self) -> AsyncIterator[str]:
        """Yield payment hashes until the connection breaks. Raises `TransientError`."""
        while True:
            # Without an index LND sends only what comes from now on.
            query = {"settle_index": str(self._settle_index)} if self._settle_index else {}
            async for line in self._lines(query):
                row = _row_in(line)
                if row is None or row.state != SETTLED:
                    continue
                self._settle_index = max(self._settle_index, row.settle_index)
                if self._owner_of(row) is not None:
                    yield hex_of(row.r_hash)


def _row_in(line: bytes) -> Row | None:
    """Return the invoice that a line is about. Raises `TransientError` for LND's word that the stream has ended."""
    try:
        return msgspec.json.decode(line, type=_Event, strict=False).result
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise TransientError("the Lightning node's stream of payments broke") from None
