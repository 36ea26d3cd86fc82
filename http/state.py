"""Services of the routes: one bundle, built once for each front process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..actors.clock import system_now_ms
from ..actors.domain.payments.invoices import Invoice
from ..actors.domain.payments.payouts import PayoutTarget
from ..actors.domain.pricing import BtcPrice
from ..actors.model_health.outage import ASK_AGAIN_S, ModelUp, ModelWord
from ..actors.operator.books import OperatorBooks
from ..actors.ports import Destinations, Findings, Limits, Refusals, Standing, WalletWords
from ..actors.router.router import Router
from ..actors.services.findings import NoFindings
from ..config.root_key import Keys
from ..config.settings import Settings
from .request.unknown_proxies import UnknownProxies
from .response.waiting import Ending


class Prices(Protocol):
    """Cache of the BTC price."""

    async def current(self) -> BtcPrice:
        """Return the price. Never raises."""
        ...


class Solvency(Protocol):
    """Cache of the treasury's last standing of the wallet."""

    async def current(self) -> Standing | None:
        """Return the last known standing, or None. Never raises."""
        ...


class WatchedFindings(Protocol):
    """Cache of the treasury's last findings."""

    async def current(self) -> tuple[Findings | None, Refusals]:
        """Return the last known findings, or None, and the refusals of payouts. Never raises."""
        ...


class ModelNews(Protocol):
    """Cache of what is known of the models' availability."""

    async def current(self, longest_s: float = ASK_AGAIN_S, model: str | None = None) -> ModelWord:
        """Return the last known availability of a model, without one that of the server's own. Never raises.

        It is at most `longest_s` old.
        """
        ...

    async def upstreams(self) -> Mapping[str, ModelWord]:
        """Return the last known availability of each upstream by its name; empty without any. Never raises."""
        ...


class AnswersCounted(Protocol):
    """Counts of the fronts' answers."""

    def add(self, *names: str) -> None:
        """Count an answer under each of these names."""
        ...

    async def last_hour(self) -> Mapping[str, int]:
        """Return the counts of all fronts in the last hour. Raises `TransientError`."""
        ...


class NoAnswersCounted:
    """Stand-in where nothing is counted."""

    def add(self, *names: str) -> None:
        """Do nothing."""

    async def last_hour(self) -> Mapping[str, int]:
        """Return nothing."""
        return {}


class StubPayments(Protocol):
    """Development interface of the stub node: it pays invoices, and makes invoices of clients' wallets."""

    async def pay(self, payment_hash: str) -> str | None:
        """Mark an invoice paid, and return its preimage; None if the stub node does not know it."""
        ...

    async def invoice(self, amount_sats: int) -> Invoice:
        """Return an invoice of a client's wallet, to which refunds can be paid."""
        ...


async def _not_own(target: PayoutTarget) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class AppState:
    """The services of a front process.

    `checks` are the parts that readiness asks, by the name that a 503 shows; each raises when its part can't be
    reached. `store_trouble` returns why the store can't be reached, if known. `id_key` is the secret that client
    digests and ids from idempotency keys derive from; `macaroon_key` signs and verifies the credentials of sessions.
    The key that signs receipts derives from `receipt_key`, the secrets of webhooks from `webhook_key`, the links
    by which wallets fetch a refund from `withdraw_key`, the addresses of payment pages from `pay_page_key`;
    `previous_keys` are those of another root key, whose credentials are valid besides. A process that stops sets
    `ending` first, so that event streams end at once instead of going on for hours. `head_after_s`: how long a stream's
    head waits for the model, whose refusal has a status until then. `is_own_invoice` asks the node, as
    `Lightning.is_own`. `books` are the operator's figures, None where there is no store to read them from.
    """

    settings: Settings
    router: Router
    prices: Prices
    solvency: Solvency
    limits: Limits
    destinations: Destinations
    stub_node: StubPayments | None
    checks: Mapping[str, Callable[[], Awaitable[None]]]
    id_key: bytes
    macaroon_key: bytes
    receipt_key: bytes
    webhook_key: bytes
    withdraw_key: bytes
    pay_page_key: bytes
    previous_keys: Keys | None = None
    model: ModelNews = field(default_factory=ModelUp)
    findings: WatchedFindings = field(default_factory=NoFindings)
    wallet: WalletWords = field(default_factory=WalletWords)
    store_trouble: Callable[[], str | None] = lambda: None
    unknown_proxies: UnknownProxies = field(default_factory=UnknownProxies)
    ending: Ending = field(default_factory=Ending)
    head_after_s: float = 1.5
    is_own_invoice: Callable[[PayoutTarget], Awaitable[bool]] = _not_own
    books: OperatorBooks | None = None
    answers: AnswersCounted = field(default_factory=NoAnswersCounted)
    now_ms: Callable[[], int] = system_now_ms
