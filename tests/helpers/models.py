"""Models that are sold, for tests of the front."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from satmeter.actors.domain.llm.catalogue import Api, Catalogue, ModelEntry, Upstream
from satmeter.actors.domain.pricing import ModelPrice
from satmeter.http.upstreams.served_models import ServedModels
from tests.helpers.jobs import RATES

UPSTREAM = Upstream("upstream", Api.ANTHROPIC, "http://upstream.test/v1", 1, 1)


def entry(name: str, **fields: Any) -> ModelEntry:
    """A model that its upstream knows by the same name."""
    return replace(ModelEntry(name, (UPSTREAM.name,), name, ModelPrice(name, RATES)), **fields)


def served(*models: ModelEntry | str, api: Api = Api.ANTHROPIC) -> ServedModels:
    """These models, whose upstream speaks this API."""
    entries = tuple(entry(model) if isinstance(model, str) else model for model in models)
    return ServedModels(Catalogue(entries, (replace(UPSTREAM, api=api),)))
