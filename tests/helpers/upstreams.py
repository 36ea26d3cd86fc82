"""A model over one provider, and catalogues for tests."""

from __future__ import annotations

from decimal import Decimal

from satmeter.actors.domain.llm.catalogue import Api, Catalogue, ModelEntry, Upstream
from satmeter.actors.domain.pricing import ModelPrice, Rates
from satmeter.actors.effects.upstreams import Upstreams
from satmeter.actors.ports import Provider

PRICE = Rates(*(Decimal(1),) * 5)


def over(provider: Provider, eval_model: str = "m") -> Upstreams:
    """Return the model behind one provider, which knows any model by its own name."""
    return Upstreams(Catalogue((), ()), {"one": provider}, eval_model)


def upstream(name: str, api: Api = Api.ANTHROPIC) -> Upstream:
    return Upstream(name, api, f"http://127.0.0.1/{name}", 5.0, 30.0)


def entry(name: str, *upstreams: str, upstream_model: str | None = None) -> ModelEntry:
    return ModelEntry(name, upstreams, upstream_model or name, ModelPrice(name, PRICE))
