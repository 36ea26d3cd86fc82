"""Probe of Anthropic's API: a look at a model, which costs nothing, shows whether the API is there."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx

from ...domain.provider_faults import ModelFault
from ...ports import ModelError

_CONNECT_TIMEOUT_S: Final = 5.0
_TIMEOUT_S: Final = 10.0
# Python's own HTTP server and some gateways answer so to a method that they don't know. They are there.
_NOT_IMPLEMENTED: Final = 501


class AnthropicProbe:
    """Implementation of `ports.ModelProbe` without the SDK, which costs a probing process memory and time to start.

    Source: docs.anthropic.com, `GET /v1/models/{model_id}`.
    """

    def __init__(
        self, *, api_key: str, model: str, base_url: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/v1/models/{model}"
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            # The SDK sends the key in this header, too: a gateway may know only one of the two ways.
            headers={"authorization": f"Bearer {api_key}", "anthropic-version": "2023-06-01"},
        )

    async def ask(self) -> bool:
        """See `ModelProbe`. Raises `ModelError`."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status = (await self._client.get(self._url)).status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            told = f"the model provider can't be reached: {type(error).__name__}"
            raise ModelError(told, ModelFault.UNREACHABLE) from None
        if status == httpx.codes.UNAUTHORIZED:
            raise ModelError("the model provider does not accept our key", ModelFault.REFUSED)
        if status == httpx.codes.FORBIDDEN or (status >= 500 and status != _NOT_IMPLEMENTED):
            raise ModelError(f"the model provider answers {status} to a look at a model", ModelFault.UNAVAILABLE)
        return status < 300

    async def close(self) -> None:
        """End connections."""
        await self._client.aclose()
