"""BTC price from CoinGecko's simple-price API, or from any source that answers in its shape."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any, Final

import httpx

from ..ports import TransientError

TIMEOUT_S: Final = 5.0
# A source that asks for more is asked again all the same: the fallback price is worse than another refusal.
_RETRY_AFTER_MAX_S: Final = 3_600.0
_BODY_MAX_BYTES: Final = 4_096


class CoinGecko:
    """Implementation of `ports.PriceSource`. Source: docs.coingecko.com, "Coin Price by IDs" (`/simple/price`)."""

    def __init__(
        self, url: str, *, transport: httpx.AsyncBaseTransport | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=timeout_s,
            follow_redirects=True,
            headers={"Accept": "application/json"},
            event_hooks={"request": [self._refuse_downgrade]},
        )

    async def fetch(self) -> Decimal:
        """Return USD for one bitcoin, as it was written. Raises `TransientError` for every failure: none is final."""
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._read()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise TransientError(f"the price source can't be reached: {type(error).__name__}") from None
        return _price(body)

    async def close(self) -> None:
        """End connections."""
        await self._client.aclose()

    async def _refuse_downgrade(self, request: httpx.Request) -> None:
        """Follow no redirect out of TLS, where anybody on the way could set the price."""
        if self._url.lower().startswith("https:") and request.url.scheme != "https":
            raise httpx.UnsupportedProtocol("the price source sends on to a plain connection", request=request)

    async def _read(self) -> bytes:
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != 200:
                wait_s = _retry_after_s(response.headers.get("Retry-After", ""))
                raise TransientError(f"the price source answered {response.status_code}", wait_s)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                # A price takes 30 bytes. A server that sends more is not a price source, and could go on for ever.
                if len(body) > _BODY_MAX_BYTES:
                    raise TransientError("the price source's answer is too long")
            return bytes(body)


def _retry_after_s(text: str) -> float | None:
    return min(float(text), _RETRY_AFTER_MAX_S) if text.isascii() and text.isdigit() else None


def _price(body: bytes) -> Decimal:
    try:
        answer: Any = json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant)
        price = answer["bitcoin"]["usd"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise TransientError("the price source's answer is unreadable") from None
    if not isinstance(price, Decimal):
        raise TransientError("the price source's price is not a number")
    return price


def _no_constant(name: str) -> Decimal:
    """Refuse NaN and Infinity, which Python's parser takes though JSON has no such numbers."""
    raise ValueError(name)
