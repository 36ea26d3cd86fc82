"""Push channel of LNbits. Anyone who knows the key can put any message on it, and a message can get lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from ...ports import TransientError
from .messages import hinted_hash

# A payment takes 2 kB. Data that other users of the wallet attach to theirs may be longer.
_MESSAGE_MAX_BYTES: Final = 262_144
_CLOSE_TIMEOUT_S: Final = 1.0


async def websocket_hints(url: str, invoice_key: str, *, open_timeout_s: float) -> AsyncIterator[str]:
    """Yield payment hashes from `/api/v1/ws/{invoice_key}` of the LNbits at `url`, until the connection ends.

    Messages of other kinds are skipped. The library pings, so that a silently dead connection ends within 40 s. Raises
    `TransientError`.
    """
    scheme, _, rest = url.partition("://")
    address = f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}/api/v1/ws/{quote(invoice_key, safe='')}"
    try:
        async with connect(
            address, open_timeout=open_timeout_s, close_timeout=_CLOSE_TIMEOUT_S, max_size=_MESSAGE_MAX_BYTES
        ) as connection:
            async for message in connection:
                payment_hash = hinted_hash(message)
                if payment_hash is not None:
                    yield payment_hash
    except (WebSocketException, OSError, TimeoutError) as error:
        # Their text may hold the address, and with it the key.
        raise TransientError(f"the Lightning node's push connection broke: {type(error).__name__}") from None
