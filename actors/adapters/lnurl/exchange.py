"""Exchange with LNURL servers: a bounded GET, to public addresses by HTTPS, and to those that the operator allows."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple

import httpcore

from ....config.webhook_policy import Target, TargetError, WebhookTargets
from ...domain.payments.destinations import URL_LENGTH_MAX, DestinationFault
from ...ports import DestinationError, TransientError
from ..public_network import NotPublicError, Resolve, Resolver, checked_connections, host_header, url_of

_CONNECTIONS: Final = 32
_PER_HOST: Final = 4
_HOSTS_MAX: Final = 1_024
# LUD-06 allows one picture of 136,536 letters.
_BODY_MAX_BYTES: Final = 262_144
_REDIRECTS_MAX: Final = 2
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PASSING: Final = (408, 425, 429)
_GONE: Final = (404, 410)
_FAULTS: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class _Answer(NamedTuple):
    status: int
    location: str | None
    body: bytes


class LnurlExchange:
    """The calls of one process. `resolve` and `tls` are the system's by default."""

    def __init__(
        self, targets: WebhookTargets, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._targets = targets
        self._resolver = Resolver("destination-names")
        self._resolve = resolve or self._resolver.resolve
        self._tls = tls
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._all = asyncio.Semaphore(_CONNECTIONS)
        self._hosts: dict[str, asyncio.Semaphore] = {}

    async def get(self, url: str) -> bytes:
        """Return the body at a URL. A redirect is followed within its host alone.

        Raises `DestinationError` where nothing may be asked, or nothing is; `TransientError` while that may pass.
        """
        target = self._target(url)
        for _ in range(_REDIRECTS_MAX + 1):
            answer = await self._answer(target)
            if answer.status not in _REDIRECTS:
                return _body(answer, target.host)
            target = self._redirected(target, answer.location)
        raise _redirected(target.host)

    def _target(self, url: str) -> Target:
        try:
            return self._targets.target(url, length_max=URL_LENGTH_MAX)
        except TargetError as error:
            told = f"The destination can't be asked. Its URL: {error}"
            raise DestinationError(DestinationFault.NOT_PUBLIC, told) from None

    def _redirected(self, target: Target, location: str | None) -> Target:
        place = location or ""
        if place.startswith("/") and not place.startswith("//"):
            place = f"{target.scheme}://{host_header(target)}{place}"
        try:
            found = self._targets.target(place.partition("#")[0], length_max=URL_LENGTH_MAX)
        except TargetError:
            raise _redirected(target.host) from None
        if (found.scheme, found.host, found.port) != (target.scheme, target.host, target.port):
            raise _redirected(target.host)
        return found

    async def _answer(self, target: Target) -> _Answer:
        # In this order: what waits for a slow host must not hold a connection that others need.
        async with self._host(target.host), self._all:
            try:
                return await self._ask(target)
            except NotPublicError:
                told = f"{target.host} is not at a public address"
                raise DestinationError(DestinationFault.NOT_PUBLIC, told) from None
            except (*_FAULTS, OSError, ValueError) as error:
                raise TransientError(f"a destination's server can't be asked: {type(error).__name__}") from None

    async def _ask(self, target: Target) -> _Answer:
        if self._pool is None:
            self._pool = checked_connections(self._targets, self._resolve, self._tls, _CONNECTIONS)
        headers = [
            ("Host", host_header(target)),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "Satmeter"),
        ]
        body = bytearray()
        async with self._pool.stream("GET", url_of(target), headers=headers) as answer:
            if answer.status not in _REDIRECTS:
                async for piece in answer.aiter_stream():
                    body += piece
                    if len(body) > _BODY_MAX_BYTES:
                        told = f"{target.host} answers with more than an LNURL server does"
                        raise DestinationError(DestinationFault.NOT_LNURL, told)
            return _Answer(answer.status, _location(answer.headers), bytes(body))

    def _host(self, host: str) -> asyncio.Semaphore:
        if len(self._hosts) >= _HOSTS_MAX:
            self._hosts = {name: slots for name, slots in self._hosts.items() if slots.locked()}
        return self._hosts.setdefault(host, asyncio.Semaphore(_PER_HOST))

    async def close(self) -> None:
        """End the calls under way."""
        self._resolver.close()
        if self._pool is not None:
            await self._pool.aclose()


def _body(answer: _Answer, host: str) -> bytes:
    """Return the body of an answer. Statuses have no meaning with LNURL, but for those that no LNURL server gave."""
    if answer.status >= 500 or answer.status in _PASSING:
        raise TransientError(f"a destination's server answered {answer.status}")
    if answer.status in _GONE and not answer.body.lstrip().startswith(b"{"):
        raise DestinationError(DestinationFault.NOT_FOUND, f"{host} knows no such address")
    return answer.body


def _location(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == b"location"), None)


def _redirected(host: str) -> DestinationError:
    told = f"{host} refers to another place: send the Lightning address or LNURL of that place"
    return DestinationError(DestinationFault.REDIRECTED, told)
