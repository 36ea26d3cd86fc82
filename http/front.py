"""What the routes work with: one bundle, built once for each front process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..actors.domain.pricing import BtcPrice
from ..actors.ports import Limits
from ..actors.router import Router
from ..config.settings import Settings


class Prices(Protocol):
    """The BTC price from memory."""

    async def current(self) -> BtcPrice:
        """The price; never raises."""
        ...


class StubPayments(Protocol):
    """The stub node's side door: marks an invoice paid."""

    async def pay(self, payment_hash: str) -> bool:
        """Whether the stub node knows the invoice, which is paid now."""
        ...


@dataclass(frozen=True, slots=True)
class Front:
    """The services of a front process.

    `checks` are the parts that readiness asks, by the name that a 503 shows; each raises when its part can't be
    reached. `id_key` is the secret that ids made from idempotency keys and client digests derive from.
    """

    settings: Settings
    router: Router
    prices: Prices
    limits: Limits
    stub_node: StubPayments | None
    checks: Mapping[str, Callable[[], Awaitable[None]]]
    id_key: bytes
