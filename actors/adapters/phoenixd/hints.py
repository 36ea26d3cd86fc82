"""Push channel of phoenixd: events of payments that came in. One can get lost while the connection is broken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from ...ports import TransientError
from .messages import hinted_hash

# A payer's note may be long.
_MESSAGE_MAX_BYTES: Final = 262_144
_CLOSE_TIMEOUT_S: Final = 1.0


async def websocket_hints(url: str, authorization: str, *, open_timeout_s: float) -> AsyncIterator[str]:
    """Yield payment hashes from `/websocket` of the phoenixd at `url`, until the connection ends.

    The node pings each ten seconds, and so does the library: a silently dead connection ends within 40 s. Raises
    `TransientError`.
    """
    scheme, _, rest = url.partition("://")
    address = f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}/websocket"
    try:
        async with connect(
            address,
            additional_headers={"Authorization": authorization},
            open_timeout=open_timeout_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_MESSAGE_MAX_BYTES,
        ) as connection:
            async for message in connection:
                payment_hash = hinted_hash(message)
                if payment_hash is not None:
                    yield payment_hash
    except (WebSocketException, OSError, TimeoutError) as error:
        # Their text may hold the address.
        raise TransientError(f"the Lightning node's push connection broke: {type(error).__name__}") from None
