"""Webhook sender: signed as Standard Webhooks has it, to the very address that was checked, and nowhere else."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

import httpcore
import httpx

from ...config.webhook_policy import Address, Target, TargetError, WebhookTargets
from ..domain.webhooks import Notify, secret_of
from ..ports import TransientError

_ATTEMPT_S: Final = 10.0
_CONNECTIONS: Final = 128
_PER_TARGET: Final = 4
_RESOLVERS: Final = 8
# A receiver that failed so often in a row is not called for a while: its notices must not queue up here.
_FAILURES_MAX: Final = 4
_REST_S: Final = 20.0
_TARGETS_MAX: Final = 4_096
_GONE: Final = 410
_FAULTS: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class Resolver:
    """Resolver of a host's addresses by the system, in threads of its own: slow names must not hold up other work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-names")

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

        Raises `httpcore.ConnectError` where nothing may be sent, or where no server listens.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError, ValueError) as error:
            raise httpcore.ConnectError("the host's name can't be resolved") from error
        if not self._targets.permits(host, addresses):
            raise httpcore.ConnectError("the host is not at a public address")
        return await self._network.connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Raise `httpcore.ConnectError`: webhooks go over the network only."""
        raise httpcore.ConnectError("webhooks go over the network")

    async def sleep(self, seconds: float) -> None:
        """See `httpcore.AsyncNetworkBackend`."""
        await self._network.sleep(seconds)


@dataclass(slots=True, eq=False)
class _Receiver:
    """Record of a receiving host: its failures in a row, and the time until which it is left alone."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PER_TARGET))
    users: int = 0
    failures: int = 0
    rests_until_s: float = 0.0

    def ended(self, *, well: bool, now_s: float) -> None:
        self.failures = 0 if well else self.failures + 1
        if self.failures >= _FAILURES_MAX:
            self.rests_until_s = now_s + _REST_S


class HttpWebhooks:
    """Implementation of `Webhooks`. The secrets that sign derive from each of `keys`, as clients may have any's."""

    def __init__(
        self,
        targets: WebhookTargets,
        keys: Sequence[bytes],
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        now_s: Callable[[], float] = time.time,
        attempt_s: float = _ATTEMPT_S,
    ) -> None:
        self._targets = targets
        self._keys = keys
        self._resolver = Resolver()
        self._resolve = resolve or self._resolver.resolve
        self._tls = tls
        self._now_s = now_s
        self._attempt_s = attempt_s
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._all = asyncio.Semaphore(_CONNECTIONS)
        self._receivers: dict[str, _Receiver] = {}

    async def send(self, notify: Notify) -> bool:
        """Send a notice; return whether the receiver wants more.

        Raises `TransientError` unless the receiver confirmed the notice.
        """
        try:
            target = self._targets.target(notify.url)
        except TargetError as error:
            raise TransientError(f"a webhook's address is not allowed: {error}") from None
        receiver = self._receiver(target.host)
        receiver.users += 1
        try:
            async with receiver.slots:
                if time.monotonic() < receiver.rests_until_s:
                    raise TransientError("a webhook's receiver has failed too often just now")
                status = await self._status(target, notify, receiver)
        finally:
            receiver.users -= 1
        if status == _GONE:
            return False
        if not 200 <= status < 300:
            raise TransientError(f"a webhook's receiver answered {status}")
        return True

    async def _status(self, target: Target, notify: Notify, receiver: _Receiver) -> int:
        status = None
        try:
            async with self._all, asyncio.timeout(self._attempt_s):
                status = await self._post(target, notify)
                return status
        except TimeoutError:
            raise TransientError("a webhook's receiver took too long") from None
        except (*_FAULTS, OSError, ValueError) as error:
            raise TransientError(f"a webhook can't be sent: {type(error).__name__}") from None
        finally:
            well = status is not None and status < 500
            receiver.ended(well=well, now_s=time.monotonic())

    async def _post(self, target: Target, notify: Notify) -> int:
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        headers, pool = self._headers(target, notify), self._connections()
        async with pool.stream("POST", url, headers=headers, content=notify.body) as answer:
            # The body, which may have no end, is left unread. That closes the connection.
            return answer.status

    def _headers(self, target: Target, notify: Notify) -> list[tuple[str, str]]:
        # The module takes a tenth of a second to load, and most hosts never need it.
        from standardwebhooks.webhooks import Webhook

        at = datetime.fromtimestamp(int(self._now_s()), UTC)
        body, secrets = notify.body.decode(), [secret_of(key, notify.actor_id) for key in self._keys]
        # Receivers take the one that fits, of several with spaces between them.
        signature = " ".join(Webhook(secret).sign(notify.webhook_id, at, body) for secret in secrets)
        host = f"[{target.host}]" if ":" in target.host else target.host
        usual = {"https": 443, "http": 80}[target.scheme]
        return [
            ("Host", host if target.port == usual else f"{host}:{target.port}"),
            ("Content-Type", "application/json"),
            ("User-Agent", "Satmeter"),
            ("webhook-id", notify.webhook_id),
            ("webhook-timestamp", str(int(at.timestamp()))),
            ("webhook-signature", signature),
        ]

    def _connections(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=self._tls or httpx.create_ssl_context(),
                max_connections=_CONNECTIONS,
                max_keepalive_connections=0,
                retries=0,
                network_backend=_CheckedBackend(self._targets, self._resolve),
            )
        return self._pool

    def _receiver(self, host: str) -> _Receiver:
        if len(self._receivers) >= _TARGETS_MAX:
            now_s = time.monotonic()
            # Receivers that fail are remembered longest.
            kept = {name: r for name, r in self._receivers.items() if r.users or r.rests_until_s > now_s}
            self._receivers = kept
        return self._receivers.setdefault(host, _Receiver())

    async def close(self) -> None:
        """End the calls under way."""
        self._resolver.close()
        if self._pool is not None:
            await self._pool.aclose()
