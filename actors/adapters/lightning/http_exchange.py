"""Exchange with a Lightning node's HTTP API: a time-out over all of a call, a cap on answers, errors without keys."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

import httpx
import msgspec

from ...ports import PermanentError, PortError, TransientError
from .reading import rubbish

# A list of 100 payments takes 200 kB; other users of the node may attach more to theirs.
_BODY_MAX_BYTES: Final = 8 * 1_048_576
_LINE_MAX_BYTES: Final = 1_048_576
_RETRY_AFTER_MAX_S: Final = 60.0
_DETAIL_MAX_CHARS: Final = 200
# Statuses below 500 that are not the fault of the request: time-out, too early, too many.
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})

DetailOf = Callable[[bytes], str | None]
"""Reads the node's own words about an error; None when they are not its own: a proxy's page, for instance."""


class Answer(msgspec.Struct, frozen=True):
    """Answer of a node, whatever its status."""

    status: int
    body: bytes
    retry_after_s: float | None


class HttpExchange:
    """Exchange of requests for answers at `base_url`. A call ends within `timeout_s`, the wait for its turn included.

    Neither `secrets` nor addresses are ever put into an exception. `verify` is the trust in the node's certificate;
    `transport` is the way in of a stub node, and of tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        secrets: Sequence[str],
        detail_of: DetailOf,
        timeout_s: float,
        connections: int,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._secrets = [secret for secret in secrets if secret]
        self._detail_of = detail_of
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            base_url=base_url,
            transport=transport,
            verify=verify,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"Accept": "application/json"},
        )

    def url(self, path: str) -> httpx.URL:
        """Return the URL of a path, to be built once: building it for each call costs as much as the rest of it."""
        return self._client.build_request("GET", path).url

    async def ask(
        self,
        method: str,
        where: str | httpx.URL,
        *,
        headers: httpx.Headers | Mapping[str, str] | None = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        turn: AbstractAsyncContextManager[object] | None = None,
        timeout_s: float | None = None,
        first_line: bool = False,
    ) -> Answer:
        """Exchange a request for an answer at a path or URL, of any status. Raises `TransientError`.

        `turn` is held for the length of the call. `timeout_s` is the time-out of this call alone, where it differs.
        `first_line`: the answer is a stream that may stay open, and its first line is all that is read.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s), turn or nullcontext():
                request = self._client.build_request(
                    method, where, content=content, data=form, params=params, headers=headers, timeout=limit_s
                )
                return await self._exchange(request, first_line=first_line)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise unreachable(error) from None

    async def lines(
        self,
        method: str,
        where: str | httpx.URL,
        *,
        headers: httpx.Headers | Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the lines of an answer that comes bit by bit, until it ends.

        `silence_s` is the longest wait for the next bytes, None for any length: the lines end then, as a dead
        connection is silent too. Raises `PortError` for an answer that is not a success, and `TransientError` when the
        connection breaks.
        """
        timeout = httpx.Timeout(self._timeout_s, read=silence_s)
        try:
            request = self._client.build_request(
                method, where, content=content, params=params, headers=headers, timeout=timeout
            )
            # Some servers send the head with the first line only, which may be hours away.
            response = await self._client.send(request, stream=True)
            try:
                if not 200 <= response.status_code < 300:
                    async with asyncio.timeout(self._timeout_s):
                        raise self.failure(await self._read(response))
                async for line in _lines_of(response):
                    yield line
            finally:
                await response.aclose()
        except httpx.ReadTimeout:
            return
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise unreachable(error) from None

    def good(self, answer: Answer) -> bytes:
        """Return the body of a success. Raises `PortError` for everything else."""
        if 200 <= answer.status < 300:
            return answer.body
        raise self.failure(answer)

    def failure(self, answer: Answer) -> PortError:
        """Return the error that an answer stands for: permanent where the node itself refuses the request."""
        detail, said = self._detail_of(answer.body), self.said(answer)
        if answer.status in (401, 403):
            return PermanentError(said)
        # Without the node's own words it may be a proxy's answer for a server that is restarting.
        if 400 <= answer.status < 500 and answer.status not in _TRANSIENT_STATUSES and detail is not None:
            return PermanentError(said)
        return TransientError(said, answer.retry_after_s)

    def said(self, answer: Answer) -> str:
        """Return the answer in words for the operator, without secrets."""
        detail = self._detail_of(answer.body)
        if detail is None:
            return f"the Lightning node answered {answer.status}"
        return f"the Lightning node answered {answer.status}: {self.without_secrets(detail)[:_DETAIL_MAX_CHARS]}"

    def without_secrets(self, text: str) -> str:
        """Return a text of the node's without our keys in it."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return text

    async def close(self) -> None:
        """End connections."""
        await self._client.aclose()

    async def _exchange(self, request: httpx.Request, *, first_line: bool) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            if not first_line:
                return await self._read(response)
            async for line in _lines_of(response):
                return Answer(response.status_code, line, _retry_after_s(response))
            return Answer(response.status_code, b"", _retry_after_s(response))
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response) -> Answer:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _BODY_MAX_BYTES:
                raise rubbish("more than it was asked for")
        return Answer(response.status_code, bytes(body), _retry_after_s(response))


async def _lines_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the lines of a body that are not empty. Raises `TransientError` for one without an end."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > _LINE_MAX_BYTES:
            raise rubbish("a line without an end")
    if rest.strip():
        yield rest


def unreachable(error: Exception) -> TransientError:
    """Return the port's error for a call that broke."""
    # Only the type is shown: the text of some errors holds the address, or a header that could not be sent.
    return TransientError(f"the Lightning node can't be reached: {type(error).__name__}")


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _RETRY_AFTER_MAX_S) if text.isascii() and text.isdigit() else None
