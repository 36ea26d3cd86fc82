"""Prometheus metrics of this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from ..actors.domain.payments.payouts import PayoutRefusal
from ..actors.services.findings import NoFindings
from .request.operator import admit_operator
from .state import ModelNews, Solvency, WatchedFindings

# Most answers take milliseconds; the demo waits for a model.
_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Request metrics and gauges, labelled by the route's template: with ids as labels their number would never end."""

    def __init__(
        self,
        solvency: Solvency,
        model: ModelNews,
        now_ms: Callable[[], int],
        findings: WatchedFindings | None = None,
        *,
        token: SecretStr | None = None,
    ) -> None:
        self._token = token
        self._solvency = solvency
        self._findings = findings or NoFindings()
        self._model = model
        self._now_ms = now_ms
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.in_progress = Gauge(
            "satmeter_http_requests_in_progress", "Requests being answered.", registry=self._registry
        )
        self._requests = Counter(
            "satmeter_http_requests", "Answered requests.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "satmeter_http_request_seconds",
            "Time until an answer began.",
            ["method", "route"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        # Finding the series of some labels costs more than counting. Methods, routes and statuses are few.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._liability = self._gauge("satmeter_liabilities_msat", "What the wallet must hold for all clients.")
        self._wallet = self._gauge("satmeter_wallet_msat", "What the wallet holds.")
        self._solvent = self._gauge("satmeter_solvent", "1 while it holds enough, 0 while deposits are refused.")
        self._unknown_payouts = self._gauge(
            "satmeter_unknown_payouts", "Payments of the wallet in the last 7 days that no journal shows as paid."
        )
        self._unknown_payouts_msat = self._gauge("satmeter_unknown_payouts_msat", "What they add up to.")
        self._keys_well = self._gauge("satmeter_payout_keys_ok", "1 while the wallet's keys can pay refunds.")
        self._store_safe = self._gauge("satmeter_store_durable", "1 while the store keeps all that it confirms.")
        self._refused = Gauge(
            "satmeter_payouts_refused", "Payouts ever that the node would not try.", ["reason"], registry=self._registry
        )
        self._model_up = Gauge(
            "satmeter_model_up",
            "1 while the model provider answers, 0 while its last calls failed and nothing is sold.",
            registry=self._registry,
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge = Gauge(name, f"{text} NaN while the treasury says nothing.", registry=self._registry)
        gauge.set(math.nan)
        return gauge

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

    async def show(self, request: Request) -> Response:
        """Answer GET /metrics, for the operator. Raises `RefusedError` (401)."""
        admit_operator(request, self._token)
        return await self.text(request.headers.get("accept", ""))

    async def text(self, accept: str) -> Response:
        """Return all metrics, in the form that the client accepts."""
        standing = await self._solvency.current()
        self._liability.set(math.nan if standing is None else standing.liability_msat)
        self._wallet.set(math.nan if standing is None else standing.wallet_msat)
        self._solvent.set(math.nan if standing is None else standing.solvent)
        self._model_up.set((await self._model.current()).closed(self._now_ms()) is None)
        await self._show_findings()
        encode, content_type = choose_encoder(accept)
        return Response(encode(self._registry), headers={"Content-Type": content_type})

    async def _show_findings(self) -> None:
        findings, refusals = await self._findings.current()
        self._unknown_payouts.set(findings.unknown_payouts if findings is not None else math.nan)
        self._unknown_payouts_msat.set(findings.unknown_payouts_msat if findings is not None else math.nan)
        self._keys_well.set(findings.key_trouble is None if findings is not None else math.nan)
        self._store_safe.set(not findings.store_losses if findings is not None else math.nan)
        for reason in PayoutRefusal:
            self._refused.labels(reason.value).set(refusals.counts.get(reason.value, 0))
