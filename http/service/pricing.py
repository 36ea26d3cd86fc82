"""Route of the price list."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...actors.catalogue.loading import model_catalogue
from ...actors.domain.money import usd_text
from ...actors.operator_terms import own_models, pricing_terms
from ..response import json
from ..state import AppState
from . import schemas, views


class Pricing:
    """GET /pricing."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._terms = pricing_terms(state.settings)
        self._models = [views.model_rates(entry) for entry in model_catalogue(state.settings).models()]
        self._evaluator, self._worker = (entry.name for entry in own_models(state.settings))
        self._tiers = {size: views.tier(tier) for size, tier in self._terms.tiers.items()}

    async def show(self, request: Request) -> Response:
        """Answer GET /pricing with everything that a price depends on but the request."""
        settings, terms = self._state.settings, self._terms
        price = await self._state.prices.current()
        pricing = schemas.Pricing(
            models=self._models,
            eval_model=self._evaluator,
            work_model=self._worker,
            margin_pct=terms.margin_pct,
            infra_cost_usd=usd_text(terms.infra_usd),
            eval_fee_sats=settings.eval_fee_sats,
            tiers=self._tiers,
            btc_price=views.btc_price(price, self._state.now_ms()),
        )
        return json.json_response(pricing)
