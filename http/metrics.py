"""Prometheus metrics: what this process has counted, or all processes of its server together, and what is known of all.

A front counts its own requests. Asked for metrics, it shows the totals of its server, and what the store and the
treasury say of the whole shop.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from .. import __version__
from ..actors.domain.errors import Code, Refusal, RefusedError
from ..actors.domain.payments.payouts import PayoutRefusal
from ..actors.domain.pricing import PriceOrigin
from ..actors.metrics.changes import Family
from ..actors.metrics.link import NoTotalsError
from ..actors.metrics.process import process_registry
from ..actors.services.findings import NoFindings
from .request.operator import admit_operator
from .state import ModelNews, Prices, Solvency, WatchedFindings

# Most answers take milliseconds; the demo waits for a model.
_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_NO_TOTALS: Final = Refusal(
    Code.UNAVAILABLE, "The server's main process does not answer: try again in a moment.", retry_after_s=1
)
_log = structlog.get_logger(__name__)

AskTotals = Callable[[], Awaitable[Sequence[Family]]]
"""Asks the server's main process for the totals of all its processes. Raises `NoTotalsError`."""


class Metrics:
    """Request metrics and gauges, labelled by the route's template: with ids as labels their number would never end.

    totals: the way to the totals of the whole server; without one, this process's own metrics are shown.
    """

    def __init__(
        self,
        solvency: Solvency,
        model: ModelNews,
        now_ms: Callable[[], int],
        findings: WatchedFindings | None = None,
        *,
        prices: Prices | None = None,
        totals: AskTotals | None = None,
        token: SecretStr | None = None,
    ) -> None:
        self._token = token
        self._shop = _Shop(solvency, model, now_ms, findings or NoFindings(), prices)
        self._totals = totals
        self.registry = process_registry()
        """Metrics of this process alone, which it hands over to the totals."""
        self.in_progress = Gauge(
            "satmeter_http_requests_in_progress", "Requests being answered.", registry=self.registry
        )
        self._requests = Counter(
            "satmeter_http_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "satmeter_http_request_seconds",
            "Time until an answer began.",
            ["method", "route"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        # Finding the series of some labels costs more than counting. Methods, routes and statuses are few.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `seconds` end where the answer began, as an event stream may last for hours."""
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = self._counters[method, route, status] = self._requests.labels(method, route, str(status))
        counter.inc()
        histogram = self._histograms.get((method, route))
        if histogram is None:
            histogram = self._histograms[method, route] = self._seconds.labels(method, route)
        histogram.observe(seconds)

    @property
    def shop(self) -> CollectorRegistry:
        """Metrics of what is the same for all processes."""
        return self._shop.registry

    async def show(self, request: Request) -> Response:
        """Answer GET /metrics, for the operator. Raises `RefusedError` (401, 503)."""
        admit_operator(request, self._token)
        return await self.text(request.headers.get("accept", ""))

    async def text(self, accept: str) -> Response:
        """Return all metrics, in the form that the client accepts. Raises `RefusedError` (503) without the totals."""
        try:
            counted = self.registry.collect() if self._totals is None else map(_metric, await self._totals())
        except NoTotalsError as error:
            # Figures of one process in the place of totals would look as if all others had begun again.
            _log.warning("no_metrics_totals", error=str(error))
            raise RefusedError(_NO_TOTALS) from None
        await self._shop.look()
        shown = CollectorRegistry()
        shown.register(_Shown([*counted, *self._shop.registry.collect()]))
        encode, content_type = choose_encoder(accept)
        return Response(encode(shown), headers={"Content-Type": content_type})


class _Shop:
    """Gauges of what is the same for all processes, and for all servers of a cluster."""

    def __init__(
        self,
        solvency: Solvency,
        model: ModelNews,
        now_ms: Callable[[], int],
        findings: WatchedFindings,
        prices: Prices | None,
    ) -> None:
        self._solvency = solvency
        self._findings = findings
        self._model = model
        self._prices = prices
        self._now_ms = now_ms
        self.registry = CollectorRegistry()
        self._liability = self._said("satmeter_liabilities_msat", "What the wallet must hold for all clients.")
        self._wallet = self._said("satmeter_wallet_msat", "What the wallet holds.")
        self._solvent = self._said("satmeter_solvent", "1 while the wallet holds enough, 0 while deposits are refused.")
        self._unknown_payouts = self._said(
            "satmeter_unknown_payouts", "Payments of the wallet in the last 7 days that no journal shows as paid."
        )
        self._unknown_payouts_msat = self._said(
            "satmeter_unknown_payouts_msat", "Millisatoshis of the unknown payouts."
        )
        self._long_payouts = self._said(
            "satmeter_long_payouts", "Payouts whose end the node has not told for more than a day."
        )
        self._keys_well = self._said("satmeter_payout_keys_ok", "1 while the wallet's keys can pay refunds.")
        self._store_safe = self._said("satmeter_store_durable", "1 while the store keeps all that it confirms.")
        self._refused = self._gauge("satmeter_payouts_refused", "Payouts ever that the node would not try.", "reason")
        self._model_up = self._gauge(
            "satmeter_model_up",
            "1 while the model provider answers, 0 while its last calls failed and nothing is sold.",
        )
        self._upstream_up = self._gauge("satmeter_upstream_up", "1 while the upstream answers.", "upstream")
        self._gauge("satmeter_build_info", "1, with the version of the program.", "version").labels(__version__).set(1)
        self._price = self._gauge("satmeter_btc_price_usd", "US dollars for a bitcoin, as invoices are made with it.")
        self._price_age = self._gauge(
            "satmeter_btc_price_age_seconds", "Age of the price of a bitcoin; NaN for the fallback."
        )
        self._price_fallback = self._gauge(
            "satmeter_btc_price_fallback", "1 while the price is BTC_PRICE_USD_FALLBACK, as its source does not answer."
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _said(self, name: str, text: str) -> Gauge:
        gauge = self._gauge(name, f"{text} NaN while the treasury says nothing.")
        gauge.set(math.nan)
        return gauge

    async def look(self) -> None:
        """Take in what is known now."""
        standing = await self._solvency.current()
        self._liability.set(math.nan if standing is None else standing.liability_msat)
        self._wallet.set(math.nan if standing is None else standing.wallet_msat)
        self._solvent.set(math.nan if standing is None else standing.solvent)
        now_ms = self._now_ms()
        self._model_up.set((await self._model.current()).closed(now_ms) is None)
        for upstream, word in (await self._model.upstreams()).items():
            self._upstream_up.labels(upstream).set(word.closed(now_ms) is None)
        await self._look_at_findings()
        if self._prices is not None:
            price = await self._prices.current()
            fallback = price.origin is PriceOrigin.FALLBACK
            self._price.set(float(price.usd))
            self._price_age.set(math.nan if fallback else max(self._now_ms() - price.at_ms, 0) / 1_000)
            self._price_fallback.set(fallback)

    async def _look_at_findings(self) -> None:
        findings, refusals = await self._findings.current()
        self._unknown_payouts.set(findings.unknown_payouts if findings is not None else math.nan)
        self._long_payouts.set(findings.long_payouts if findings is not None else math.nan)
        self._unknown_payouts_msat.set(findings.unknown_payouts_msat if findings is not None else math.nan)
        self._keys_well.set(findings.key_trouble is None if findings is not None else math.nan)
        self._store_safe.set(not findings.store_losses if findings is not None else math.nan)
        for reason in PayoutRefusal:
            self._refused.labels(reason.value).set(refusals.counts.get(reason.value, 0))


class _Shown(Collector):
    """Metrics of one answer."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return self._metrics


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.help, family.type)
    for sample in family.samples:
        metric.add_sample(sample.name, dict(sample.labels), sample.value)
    return metric
