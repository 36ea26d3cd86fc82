"""The adapters' HTTP client over a transport of the SDK's HTTP library, with which tests play a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from typing import TypeVar

import httpx2

from satmeter.actors.adapters.upstream.http import HttpError, NotSentError, SentUnknownError, SilentServerError, Take

T = TypeVar("T")
CONNECT_S = 5.0
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


class OverTransport:
    """Implementation of `HttpClient`. A server may be silent for `silence_s`, and five seconds more at first."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, silence_s: float = 30.0) -> None:
        self._transport = transport
        self._silence_s = silence_s
        self.closed = 0

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> _Response:
        """See `HttpClient`."""
        return await self._answer(httpx2.Request("POST", url, headers=dict(headers), content=body))

    async def get(self, url: str, headers: Mapping[str, str]) -> _Response:
        """See `HttpClient`."""
        return await self._answer(httpx2.Request("GET", url, headers=dict(headers)))

    async def aclose(self) -> None:
        """See `HttpClient`."""
        self.closed += 1

    async def _answer(self, request: httpx2.Request) -> _Response:
        call = self._transport.handle_async_request(request)
        return _Response(await _told(call, CONNECT_S + self._silence_s), self._silence_s)


class _Response:
    def __init__(self, response: httpx2.Response, silence_s: float) -> None:
        self._response = response
        self._silence_s = silence_s
        self._begun = self._chunks()
        self.status = response.status_code
        self.headers = response.headers

    def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpAnswer`."""
        self._begun = self._chunks()
        return self._begun

    async def feed(self, take: Take) -> bool:
        """See `HttpAnswer`."""
        async for chunk in self._begun:
            if take(chunk):
                return True
        return False

    async def _chunks(self) -> AsyncIterator[bytes]:
        if self._response.is_closed:
            # A response that a test made of its whole content is read already.
            yield self._response.content
            return
        chunks = self._response.aiter_raw()
        while (chunk := await _told(anext(chunks, None), self._silence_s)) is not None:
            yield chunk

    async def aclose(self) -> None:
        """See `HttpAnswer`."""
        with suppress(Exception):
            await self._response.aclose()


async def _told(call: Awaitable[T], within_s: float) -> T:
    failed: HttpError
    try:
        async with asyncio.timeout(within_s):
            return await call
    except (TimeoutError, httpx2.ReadTimeout) as error:
        failed = SilentServerError(type(error).__name__)
    except _NOT_SENT as error:
        failed = NotSentError(type(error).__name__)
    except (httpx2.TransportError, OSError) as error:
        failed = SentUnknownError(type(error).__name__)
    raise failed
