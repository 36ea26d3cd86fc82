"""Webhook sender: signed as Standard Webhooks has it, to the very address that was checked, and nowhere else."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import httpcore

from ...config.webhook_policy import Target, TargetError, WebhookTargets
from ..domain.webhooks import Notify, secret_of
from ..ports import TransientError
from .public_network import Resolve, Resolver, checked_connections, host_header, url_of

_ATTEMPT_S: Final = 10.0
_CONNECTIONS: Final = 128
_PER_TARGET: Final = 4
# A receiver that failed so often in a row is not called for a while: its notices must not queue up here.
_FAILURES_MAX: Final = 4
_REST_S: Final = 20.0
_TARGETS_MAX: Final = 4_096
_GONE: Final = 410
_FAULTS: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


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
        self._resolver = Resolver("webhook-names")
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
        headers, pool = self._headers(target, notify), self._connections()
        async with pool.stream("POST", url_of(target), headers=headers, content=notify.body) as answer:
            # The body, which may have no end, is left unread. That closes the connection.
            return answer.status

    def _headers(self, target: Target, notify: Notify) -> list[tuple[str, str]]:
        # The module takes a tenth of a second to load, and most hosts never need it.
        from standardwebhooks.webhooks import Webhook

        at = datetime.fromtimestamp(int(self._now_s()), UTC)
        body, secrets = notify.body.decode(), [secret_of(key, notify.actor_id) for key in self._keys]
        # Receivers take the one that fits, of several with spaces between them.
        signature = " ".join(Webhook(secret).sign(notify.webhook_id, at, body) for secret in secrets)
        return [
            ("Host", host_header(target)),
            ("Content-Type", "application/json"),
            ("User-Agent", "Satmeter"),
            ("webhook-id", notify.webhook_id),
            ("webhook-timestamp", str(int(at.timestamp()))),
            ("webhook-signature", signature),
        ]

    def _connections(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            self._pool = checked_connections(self._targets, self._resolve, self._tls, _CONNECTIONS)
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
