"""Routes of the models and their prices, for SDKs and for people who compare prices."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from ...actors.catalogue.loading import model_catalogue
from ...actors.domain.errors import RefusedError, model_not_found
from ...actors.domain.llm.catalogue import ModelEntry
from ...actors.domain.money import usd_text
from ...actors.domain.pricing import BtcPrice, Rates, Terms, million_msat, request_msat
from ...actors.domain.timestamps import timestamp
from ...actors.operator_terms import pricing_terms
from ..response import json
from ..service.views import model_rates
from ..state import AppState
from . import model_schemas as schemas
from .codex import catalogue

# The parameter in which Codex sends its version.
_CODEX: Final = "client_version"


class Models:
    """The routes under /v1/models."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._terms = pricing_terms(state.settings)
        self._catalogue = model_catalogue(state.settings)
        self._of_codex = catalogue(
            (entry, self._catalogue.api_of(entry), display_name(entry.name)) for entry in self._catalogue.models()
        )

    async def show_all(self, request: Request) -> Response:
        """Answer GET /v1/models with all models. They are few, so there is only one page.

        Codex sends its version, and gets its own catalogue, too.
        """
        btc_price = await self._state.prices.current()
        models = [model_view(self._terms, entry, btc_price) for entry in self._catalogue.models()]
        listed = schemas.Models(
            object="list",
            data=models,
            models=self._of_codex if _CODEX in request.query_params else None,
            has_more=False,
            first_id=models[0].id,
            last_id=models[-1].id,
        )
        return json.json_response(listed)

    async def show(self, request: Request) -> Response:
        """Answer GET /v1/models/{modelId}; an alias or a dated version of a model is that model."""
        # A model's name may have slashes, so the aliases of paths leave a last one to this.
        name: str = request.path_params["modelId"].rstrip("/")
        if not name:
            return await self.show_all(request)
        entry = self._catalogue.find(name)
        if entry is None:
            raise RefusedError(model_not_found("/v1/models"))
        return json.json_response(model_view(self._terms, entry, await self._state.prices.current()))


def model_view(terms: Terms, entry: ModelEntry, btc_price: BtcPrice) -> schemas.Model:
    """Return a model with its prices at the present exchange rate."""
    shown, price = model_rates(entry), entry.price
    long_prompt = price.long_prompt
    pricing = schemas.ModelPricing(
        rates=shown.rates,
        long_prompt_rates=shown.long_prompt_rates,
        multipliers=shown.multipliers,
        per_request_usd=shown.per_request_usd,
        web_search_per_1000_usd=shown.web_search_per_1000_usd,
        margin_pct=terms.margin_pct,
        btc_price_usd=usd_text(btc_price.usd),
        btc_price_at=timestamp(btc_price.at_ms),
        request_msat=request_msat(terms, btc_price, price.per_request).value,
        per_million_tokens_msat=schemas.MillionMsat(**_msat(terms, price.rates, btc_price)),
        long_prompt_per_million_tokens_msat=None
        if long_prompt is None
        else schemas.LongPromptMillionMsat(
            threshold_tokens=long_prompt.threshold_tokens, **_msat(terms, long_prompt.rates, btc_price)
        ),
    )
    return schemas.Model(
        id=entry.name,
        object="model",
        type="model",
        owned_by=entry.upstreams[0],
        display_name=display_name(entry.name),
        lifecycle="active",
        created=0,
        created_at=timestamp(0),
        max_input_tokens=entry.context_tokens,
        max_tokens=entry.max_output_tokens,
        aliases=list(entry.aliases),
        pricing=pricing,
    )


def display_name(model: str) -> str:
    """Return a model's name for people: `claude-haiku-4-5` is Claude Haiku 4.5."""
    words = groupby(model.split("-"), key=str.isdigit)
    return " ".join(".".join(parts) if numbers else " ".join(map(str.capitalize, parts)) for numbers, parts in words)


def _msat(terms: Terms, rates: Rates, btc_price: BtcPrice) -> dict[str, Any]:
    return {kind: million_msat(terms, rate, btc_price).value for kind, rate in asdict(rates).items()}
