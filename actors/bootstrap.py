"""Builder of a process's parts from its settings: the only place where ports meet their adapters.

Live clients do not travel between processes, so each process builds its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from redis.asyncio import Redis

from ..config.held_secrets import is_here
from ..config.named_settings import secret_of
from ..config.settings import Settings
from ..config.webhook_policy import WebhookTargets
from .adapters.anthropic.client import AnthropicProvider
from .adapters.coingecko import CoinGecko
from .adapters.lightning.owned_payments import OwnedPayments
from .adapters.lightning_backends import backend_of
from .adapters.lnurl.exchange import LnurlExchange
from .adapters.lnurl.pay import LnurlDestinations
from .adapters.openai.client import OpenAiProvider
from .adapters.redis.bindings import RedisBindings
from .adapters.redis.client import connect
from .adapters.redis.durability import store_losses
from .adapters.redis.findings import RedisFindings
from .adapters.redis.format import enter_format
from .adapters.redis.invoice_key import RedisInvoiceKey
from .adapters.redis.journal import RedisJournal
from .adapters.redis.limits import RedisLimits
from .adapters.redis.membership import RedisMembership
from .adapters.redis.model_outage import RedisModelBoard
from .adapters.redis.operator_board import RedisOperatorBoard
from .adapters.redis.payout_owners import RedisPayoutOwners
from .adapters.redis.solvency import RedisSolvency
from .adapters.redis.sums import RedisSums
from .adapters.stub.messages_api import StubMessagesApi
from .adapters.stub.model import StubProvider
from .adapters.stub.node import StubNode
from .adapters.upstream.probe import UpstreamProbe
from .adapters.webhooks import HttpWebhooks
from .catalogue.loading import model_catalogue
from .clock import system_now_ms
from .dedicated.host import DedicatedHost, ProcessLauncher
from .domain.behaviour import Behaviour, UnknownEventError
from .domain.demo import DemoBehaviour
from .domain.job.behaviour import JobBehaviour, JobTerms
from .domain.llm.catalogue import Api, Upstream
from .domain.payments.invoices import Settle, Settlement
from .domain.payments.payouts import Refunds
from .domain.pricing import BtcPrice
from .domain.session.behaviour import SessionBehaviour
from .effects.executor import Effects
from .effects.invoice_pool import KEEP_BOUND_MS, InvoicePool
from .effects.upstreams import Upstreams
from .host.host import ActorHost
from .host.rehydrate import rehydrate
from .metrics.host import HostMetrics
from .metrics.journal import JournalMetrics
from .model_health.circuit_breaker import GatedProvider, ModelGate, admit_sale_by_one
from .model_health.health_check import ModelWatch
from .model_health.news import UpstreamNews
from .model_health.outage import ModelCache, ModelOutage, ModelUp, Stage
from .model_health.plain_question import PlainQuestion
from .operator.books import OperatorBooks
from .operator_terms import own_models, pricing_terms, routing_fees, session_terms
from .partitioning import partition_of
from .placement.membership import Membership
from .ports import Destinations, Journal, Lightning, Limits, Model, Provider, Stored, WalletWords
from .router.router import Router
from .services.findings import FindingsCache
from .services.hourly_sums import SumsMover
from .services.oracle import Oracle, PriceCache
from .services.oversight import Oversight
from .services.payout_watch import PayoutWatch
from .services.solvency import SolvencyCache, SolvencyWatch
from .services.treasury import Treasury
from .services.wallet_desk import TreasuryLink, TreasuryWallet, WalletDesk

AskPrice = Callable[[], Awaitable[BtcPrice]]
AdmitSale = Callable[[], Awaitable[None]]
UpstreamKeys = Mapping[str, str | None]
"""Keys of model providers by the names of the upstreams; None for one that takes no key."""
# An order waits for its turn at the treasury before it goes to the node.
_TREASURY_SPARE_S: Final = 25.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Connections that every kind of process of the server needs. `stub_node` is None with a real node."""

    redis: Redis
    journal: Journal
    limits: Limits
    lightning: Lightning
    stub_node: StubNode | None

    async def enter(self) -> None:
        """Check the store's format, and raise it to this version's, before anything else is written.

        Raises `NewerStoreError`, `TransientError`.
        """
        await enter_format(self.redis)

    async def close(self) -> None:
        """End all connections."""
        await self.lightning.close()
        await self.journal.close()
        await self.redis.aclose()


def build_parts(
    settings: Settings, treasury: TreasuryLink | None = None, metrics: JournalMetrics | None = None
) -> Parts:
    """Build the connections, without connecting yet. Raises `ValueError` without a store's address.

    treasury: the way to it, for a process that does not hold the wallet's admin key. metrics: of what it writes.
    """
    if settings.redis_url is None:
        raise ValueError("no store: set REDIS_URL, or let `satmeter serve` run one")
    redis = connect(settings.redis_url)
    behaviours = build_behaviours(settings)

    def liability_of(actor_id: str, stored: Stored) -> int:
        behaviour = behaviours.get(actor_id.partition("_")[0])
        if behaviour is None:
            raise UnknownEventError(f"no actor of this version is called {actor_id}")
        return behaviour.liability(rehydrate(behaviour, actor_id, stored)).value

    stub_node = StubNode(redis) if backend_of(settings).stub else None
    return Parts(
        redis=redis,
        journal=RedisJournal(redis, liability_of, metrics),
        limits=RedisLimits(redis),
        lightning=_lightning(settings, redis, treasury),
        stub_node=stub_node,
    )


def build_destinations(settings: Settings) -> Destinations:
    """Build what asks the servers of refunds' destinations. They are strangers' servers, as those of webhooks are."""
    return LnurlDestinations(LnurlExchange(WebhookTargets(settings.webhook_allow)))


def build_solvency(parts: Parts) -> SolvencyWatch:
    """Build the watch over the wallet."""
    return SolvencyWatch(parts.lightning, RedisSolvency(parts.redis), system_now_ms)


def build_oversight(settings: Settings, parts: Parts) -> Oversight:
    """Build the watch over payments, keys and the store."""
    behaviours = build_behaviours(settings)

    async def refunds_of(actor_id: str) -> Refunds | None:
        behaviour = behaviours.get(actor_id.partition("_")[0])
        stored = await parts.journal.load(partition_of(actor_id), actor_id)
        state = None if behaviour is None else rehydrate(behaviour, actor_id, stored)
        return None if state is None else state.refunds

    async def check_keys() -> str | None:
        return None if backend_of(settings).stub else await parts.lightning.trouble()

    async def losses() -> Mapping[str, str]:
        return {address: loss.value for address, loss in (await store_losses(parts.redis)).items()}

    return Oversight(
        PayoutWatch(parts.lightning, refunds_of, system_now_ms),
        check_keys,
        losses,
        RedisFindings(parts.redis),
        system_now_ms,
        allowed=frozenset(settings.allow_store_loss),
    )


def build_sums_mover(parts: Parts) -> SumsMover:
    """Build the mover of hourly sums."""
    return SumsMover(RedisSums(parts.redis).move, system_now_ms)


def build_operator_books(settings: Settings, parts: Parts) -> OperatorBooks:
    """Build a front's reader of the operator's figures."""
    upstreams = model_catalogue(settings).upstreams if has_provider(settings) else ()
    return OperatorBooks(
        RedisOperatorBoard(parts.redis),
        parts.journal.load,
        rehydrate,
        build_behaviours(settings),
        parts.journal.owners,
        build_membership(parts).view,
        {upstream.name: RedisModelBoard(parts.redis, upstream.name) for upstream in upstreams},
        parts.lightning.payout,
    )


def build_findings_cache(parts: Parts) -> FindingsCache:
    """Build a front's cache of the treasury's findings."""
    return FindingsCache(RedisFindings(parts.redis).told)


def build_solvency_cache(parts: Parts) -> SolvencyCache:
    """Build a front's cache of the wallet's standing."""
    return SolvencyCache(RedisSolvency(parts.redis).told)


def has_provider(settings: Settings) -> bool:
    """Return whether there are upstreams, which may be away; the stub never is."""
    return settings.anthropic_api_key is not None or settings.models_file is not None


def build_model_watches(settings: Settings, parts: Parts, keys: UpstreamKeys) -> list[ModelWatch]:
    """Build the health checks of the upstreams; none without an upstream."""
    if not has_provider(settings):
        return []
    catalogue = model_catalogue(settings)
    own = {entry.upstream_model for entry in own_models(settings)}
    watches = []
    for upstream in catalogue.upstreams:
        names = [entry.upstream_model for entry in catalogue.entries if upstream.name in entry.upstreams]
        # The server's own models come first: a look at one shows whether it is to be had.
        name = next((name for name in names if name in own), names[0])
        probe = UpstreamProbe(upstream, key=keys[upstream.name], model=name)
        board = RedisModelBoard(parts.redis, upstream.name)
        watches.append(ModelWatch(probe, board, system_now_ms, upstream=upstream.name))
    return watches


async def expect_model(settings: Settings, parts: Parts) -> None:
    """Stop sales until each upstream has been asked once. Raises `TransientError`."""
    if not has_provider(settings):
        return
    for upstream in model_catalogue(settings).upstreams:
        board = RedisModelBoard(parts.redis, upstream.name)
        word, at_ms = await board.read(), system_now_ms()
        if word.down(at_ms) is None:
            await board.swap(word.outage, ModelOutage(Stage.DOWN, None, at_ms, at_ms))


def build_model_news(settings: Settings, parts: Parts) -> UpstreamNews | ModelUp:
    """Build a front's cache of the upstreams' health."""
    if not has_provider(settings):
        return ModelUp()
    catalogue = model_catalogue(settings)
    caches = {up.name: ModelCache(RedisModelBoard(parts.redis, up.name)) for up in catalogue.upstreams}
    return UpstreamNews(catalogue, caches, [entry.name for entry in own_models(settings)], system_now_ms)


def build_membership(parts: Parts, cluster: str | None = None) -> Membership:
    """Build the membership of a Ray cluster; without a name, that of the cluster that used the store last."""
    return RedisMembership(parts.redis, cluster)


@dataclass(frozen=True, slots=True)
class HostKeys:
    """Keys that hosts use: those of the upstreams, and those that sign notices."""

    upstreams: UpstreamKeys = field(repr=False)
    webhooks: Sequence[bytes] = field(repr=False)


def build_metrics(settings: Settings) -> HostMetrics:
    """Build the metrics of a host. Raises `ValueError` when a model has no price."""
    evaluator, _ = own_models(settings)
    catalogue = model_catalogue(settings)
    return HostMetrics(catalogue, catalogue.prices, evaluator.name)


def build_host(
    host_id: str,
    settings: Settings,
    parts: Parts,
    ask_price: AskPrice,
    keys: HostKeys,
    only: str | None = None,
    metrics: HostMetrics | None = None,
) -> ActorHost:
    """Build a host with every kind of actor, or with one alone. Raises `ValueError` when a model has no price."""
    model, admit_sale = build_model(settings, parts.redis, keys.upstreams, metrics)
    prices = PriceCache(ask_price, settings.btc_price_usd_fallback, system_now_ms)
    bindings = RedisBindings(parts.redis)
    invoices = InvoicePool(parts.lightning, bindings, ahead_max=settings.invoices_ahead, now_ms=system_now_ms)
    webhooks = HttpWebhooks(WebhookTargets(settings.webhook_allow), keys.webhooks)
    findings = RedisFindings(parts.redis)
    effects = Effects(
        parts.lightning,
        model,
        prices,
        parts.limits,
        invoices,
        webhooks,
        build_destinations(settings),
        admit_sale=admit_sale,
        payout_refused=findings.refused,
        payout_lasts=findings.lasts,
        now_ms=system_now_ms,
    )
    return ActorHost(
        host_id,
        parts.journal,
        effects,
        build_behaviours(settings),
        passivate_after_s=settings.passivate_after_s,
        now_ms=system_now_ms,
        only=only,
        metrics=metrics,
    )


def build_dedicated_host(
    host_id: str,
    settings: Settings,
    parts: Parts,
    ask_price: AskPrice,
    keys: HostKeys,
    launcher: ProcessLauncher,
    metrics: HostMetrics | None = None,
) -> DedicatedHost:
    """Build a host that gives sessions and jobs processes of their own.

    Raises `ValueError` when a model has no price.
    """
    return DedicatedHost(
        host_id,
        parts.journal,
        launcher,
        build_host(host_id, settings, parts, ask_price, keys, metrics=metrics),
        build_behaviours(settings),
        processes_max=settings.dedicated_max,
        passivate_after_s=settings.passivate_after_s,
        now_ms=system_now_ms,
    )


def build_behaviours(settings: Settings) -> dict[str, Behaviour[Any]]:
    """Return the kinds of actors by the prefix of their ids.

    Raises `ValueError` when a configured model has no price.
    """
    evaluator, worker = own_models(settings)
    job_terms = JobTerms(
        terms=pricing_terms(settings),
        work_model=worker.name,
        eval_fee_sats=settings.eval_fee_sats,
        eval_expiry_s=settings.eval_expiry_s,
        invoice_expiry_s=settings.invoice_expiry_s,
        model_attempts=settings.model_attempts,
        routing_fees=routing_fees(settings),
    )
    return {
        "job": JobBehaviour(job_terms),
        "ses": SessionBehaviour(session_terms(settings)),
        "demo": DemoBehaviour(evaluator.name),
    }


def _lightning(settings: Settings, redis: Redis, treasury: TreasuryLink | None) -> Lightning:
    """Build the wallet as this process may use it, by the keys that it holds."""
    backend = backend_of(settings)
    if backend.stub or treasury is None:
        node = backend.build(settings, spending=True, redis=redis)
        if backend.keeps_owner:
            return node
        owners, bindings = RedisPayoutOwners(redis), RedisBindings(redis)
        return OwnedPayments(node, owners, bindings, RedisInvoiceKey(redis), keep_bound_ms=KEEP_BOUND_MS)
    own = backend.asks_with is not None and is_here(secret_of(settings, backend.asks_with))
    asking = backend.build(settings, spending=False, redis=redis) if own else None
    return TreasuryWallet(treasury, asking, answers_within_s=settings.lightning_timeout_s + _TREASURY_SPARE_S)


def build_desk(settings: Settings, parts: Parts) -> WalletDesk:
    """Build the desk at which the treasury serves processes without the key that spends."""
    return WalletDesk(parts.lightning, at_once=backend_of(settings).payouts_at_once)


def build_wallet_words(settings: Settings) -> WalletWords:
    """Build what a front says of the wallet."""
    backend = backend_of(settings)
    return WalletWords(backend.can_pay(settings), backend.pays_with, backend.troubles, backend.unusable)


def build_model(
    settings: Settings, redis: Redis, keys: UpstreamKeys, metrics: HostMetrics | None = None
) -> tuple[Model, AdmitSale | None]:
    """Build the model over all upstreams, else the stub; and what admits sales of work, where upstreams may be away."""
    catalogue = model_catalogue(settings)
    counted = None if metrics is None else metrics.effects.called
    evaluator, worker = own_models(settings)
    if not has_provider(settings):
        stub: Provider = StubProvider(StubMessagesApi(settings.stub_model_latency_s))
        stubs = {upstream.name: stub for upstream in catalogue.upstreams}
        return Upstreams(catalogue, stubs, evaluator.name, counted=counted), None
    gates = {
        up.name: ModelGate(RedisModelBoard(redis, up.name), system_now_ms, upstream=up.name)
        for up in catalogue.upstreams
    }
    plain = {up.name: _provider(up, keys[up.name]) for up in catalogue.upstreams}
    providers = {
        name: GatedProvider(provider, gates[name], PlainQuestion(provider, name)) for name, provider in plain.items()
    }
    admit_sale = partial(admit_sale_by_one, [gates[name] for name in worker.upstreams])
    return Upstreams(catalogue, providers, evaluator.name, counted=counted), admit_sale


def _provider(upstream: Upstream, key: str | None) -> Provider:
    # Only processes that call upstreams pay for this import, of 0.2 to 0.4 s.
    from .adapters.upstream.http_client import AiohttpClient

    http = AiohttpClient(upstream.connect_timeout_s, upstream.silence_timeout_s)
    match upstream.api:
        case Api.ANTHROPIC:
            return AnthropicProvider(http, base_url=upstream.base_url, key=key)
        case Api.OPENAI:
            return OpenAiProvider(http, base_url=upstream.base_url, key=key)


def build_oracle(settings: Settings) -> Oracle:
    """Build the oracle with its price source."""
    return Oracle(CoinGecko(settings.btc_price_url), settings.btc_price_usd_fallback, system_now_ms)


def build_treasury(settings: Settings, parts: Parts, router: Router) -> Treasury:
    """Build the treasury, which notifies actors of settlements through the router."""

    async def deliver(settlement: Settlement) -> None:
        if settlement.actor_id is not None:
            await router.call(settlement.actor_id, Settle(settlement.payment_hash, settlement.amount_msat))

    bindings = RedisBindings(parts.redis)
    return Treasury(parts.lightning, bindings, deliver, sweep_interval_s=settings.sweep_interval_s)
