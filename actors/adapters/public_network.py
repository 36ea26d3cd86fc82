"""Connections to addresses that clients name: each goes to the very address that was checked, and nowhere else."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final

import httpcore
import httpx

from ...config.webhook_policy import Address, Target, WebhookTargets

_RESOLVERS: Final = 8

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class NotPublicError(httpcore.ConnectError):
    """Refusal to connect to a host that is not at a public address."""


class Resolver:
    """Resolver of a host's addresses by the system, in threads of its own: slow names must not hold up other work."""

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix=name)

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Return all addresses. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _addresses, host, port)
        return [ip_address(address) for address in dict.fromkeys(found)]

    def close(self) -> None:
        """Refuse further questions."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[0]).partition("%")[0] for *_, place in found]


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Network backend that connects only to a checked address, without resolving the name a second time."""

    def __init__(self, targets: WebhookTargets, resolve: Resolve) -> None:
        self._targets = targets
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Open a connection.

        Raises `NotPublicError` where nothing may be sent, `httpcore.ConnectError` where no server listens.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError, ValueError) as error:
            raise httpcore.ConnectError("the host's name can't be resolved") from error
        if not self._targets.permits(host, addresses):
            raise NotPublicError("the host is not at a public address")
        return await self._network.connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Raise `httpcore.ConnectError`: these calls go over the network only."""
        raise httpcore.ConnectError("only the network is called")

    async def sleep(self, seconds: float) -> None:
        """See `httpcore.AsyncNetworkBackend`."""
        await self._network.sleep(seconds)


def checked_connections(
    targets: WebhookTargets, resolve: Resolve, tls: ssl.SSLContext | None, connections_max: int
) -> httpcore.AsyncConnectionPool:
    """Return a pool whose connections go to permitted targets only. None is kept for another call."""
    return httpcore.AsyncConnectionPool(
        ssl_context=tls or httpx.create_ssl_context(),
        max_connections=connections_max,
        max_keepalive_connections=0,
        retries=0,
        network_backend=_CheckedBackend(targets, resolve),
    )


def url_of(target: Target) -> httpcore.URL:
    """Return the URL of a target for a call."""
    return httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)


def host_header(target: Target) -> str:
    """Return the value of the Host header for a target."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    usual = {"https": 443, "http": 80}[target.scheme]
    return host if target.port == usual else f"{host}:{target.port}"
