"""Probe of an upstream: a look at a model, or at the list of them, costs nothing and shows whether it is there."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx

from ...domain.llm.catalogue import Api, Upstream
from ...domain.provider_faults import ModelFault
from ...ports import ModelError

_CONNECT_TIMEOUT_S: Final = 5.0
_TIMEOUT_S: Final = 10.0
# Python's own HTTP server and some gateways answer so to a method that they don't know. They are there.
_NOT_IMPLEMENTED: Final = 501


class UpstreamProbe:
    """Implementation of `ports.ModelProbe` by a plain GET.

    Sources: docs.anthropic.com, `GET /v1/models/{model_id}`; OpenAI's API reference, `GET /v1/models`, which servers of
    its shape have, too, while few have the path of one model.
    """

    def __init__(
        self, upstream: Upstream, *, key: str | None, model: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        base_url = upstream.base_url.rstrip("/")
        self._url = f"{base_url}/v1/models/{model}" if upstream.api is Api.ANTHROPIC else f"{base_url}/models"
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            # The SDK sends the key in this header, too: a gateway may know only one of the two ways.
            headers=_headers(upstream.api, key),
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


def _headers(api: Api, key: str | None) -> dict[str, str]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return headers | ({"anthropic-version": "2023-06-01"} if api is Api.ANTHROPIC else {})
