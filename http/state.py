"""What the routes work with: one bundle, built once for each front process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..actors.domain.payments.invoices import Invoice
from ..actors.domain.pricing import BtcPrice
from ..actors.model_health.outage import ModelUp, ModelWord
from ..actors.ports import Limits
from ..actors.router.router import Router
from ..actors.services.findings import Findings, NoFindings, Refusals
from ..actors.services.solvency import Standing
from ..config.settings import Settings


class Prices(Protocol):
    """The BTC price from memory."""

    async def current(self) -> BtcPrice:
        """The price; never raises."""
        ...


class Solvency(Protocol):
    """What the treasury last said of the wallet, from memory."""

    async def current(self) -> Standing | None:
        """It; None while nothing is known. Never raises."""
        ...


class WatchedFindings(Protocol):
    """What the treasury last found amiss, from memory."""

    async def current(self) -> tuple[Findings | None, Refusals]:
        """Return what is known. Never raises."""
        ...


class ModelNews(Protocol):
    """What is known of the model provider, from memory."""

    async def current(self) -> ModelWord:
        """It. Never raises."""
        ...


class StubPayments(Protocol):
    """The stub node's side door: pays invoices, and makes some of its clients' own."""

    async def pay(self, payment_hash: str) -> bool:
        """Whether the stub node knows the invoice, which is paid now."""
        ...

    async def invoice(self, amount_sats: int) -> Invoice:
        """An invoice of a client's wallet, which can be paid out to."""
        ...


def _system_now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Front:
    """The services of a front process.

    `checks` are the parts that readiness asks, by the name that a 503 shows; each raises when its part can't be
    reached. `store_trouble` tells why the store can't be, where that is known. `id_key` is the secret that ids made
    from idempotency keys and client digests derive from; `macaroon_key` signs and verifies the credentials of sessions;
    the key that signs receipts derives from `receipt_key`, the secrets of webhooks from `webhook_key`. Whoever ends the
    process sets `ending` first: event streams, which would otherwise go on for hours, then end at once. `head_after_s`:
    how long a stream's head waits for the model, whose refusal has a status until then.
    """

    settings: Settings
    router: Router
    prices: Prices
    solvency: Solvency
    limits: Limits
    stub_node: StubPayments | None
    checks: Mapping[str, Callable[[], Awaitable[None]]]
    id_key: bytes
    macaroon_key: bytes
    receipt_key: bytes
    webhook_key: bytes
    model: ModelNews = field(default_factory=ModelUp)
    findings: WatchedFindings = field(default_factory=NoFindings)
    store_trouble: Callable[[], str | None] = lambda: None
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    head_after_s: float = 1.5
    now_ms: Callable[[], int] = _system_now_ms
