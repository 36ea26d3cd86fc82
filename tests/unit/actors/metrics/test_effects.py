"""Counts and times of effects and of calls to upstreams."""

from __future__ import annotations

from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from satmeter.actors.domain.behaviour import Done, Failed, Once
from satmeter.actors.domain.llm.answers import Ending, RequestOutcome
from satmeter.actors.domain.llm.catalogue import Catalogue
from satmeter.actors.domain.llm.intents import AnswerRequest
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.upstreams import Upstreams
from satmeter.actors.metrics.effects import EffectMetrics
from satmeter.actors.metrics.host import HostMetrics
from satmeter.actors.ports import HeldBackError, ModelError, PortError, RefusedRequestError, TransientError
from tests.helpers.fakes import FakeModel
from tests.helpers.hosts import World
from tests.helpers.jobs import TERMS
from tests.helpers.session_steps import SES, ask, opened
from tests.helpers.upstreams import entry, upstream

INTENT = AnswerRequest("request:one", "say hello", "sonnet", 100, True, Once("one", "digest", keyed=False))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> EffectMetrics:
    return EffectMetrics(registry, {"sonnet"}, ["a", "b"])


def test_an_outcome_is_counted_with_its_time(metrics: EffectMetrics, registry: CollectorRegistry) -> None:
    metrics.ended(Done(INTENT, RequestOutcome(Ending.COMPLETE, None)), 2.0, 0.4)
    metrics.ended(Failed(INTENT, permanent=False), 1.0, None)
    assert registry.get_sample_value("satmeter_effect_seconds_count", {"effect": "answer"}) == 2
    assert registry.get_sample_value("satmeter_effect_seconds_sum", {"effect": "answer"}) == 3
    assert registry.get_sample_value("satmeter_effect_failures_total", {"effect": "answer"}) == 1
    first = {"model": "sonnet"}
    assert registry.get_sample_value("satmeter_time_to_first_token_seconds_count", first) == 1
    assert registry.get_sample_value("satmeter_time_to_first_token_seconds_sum", first) == 0.4


def test_a_model_of_before_is_another(registry: CollectorRegistry) -> None:
    EffectMetrics(registry, {"haiku"}, []).ended(Done(INTENT, None), 2.0, 0.4)
    assert registry.get_sample_value("satmeter_time_to_first_token_seconds_count", {"model": "other"}) == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "answered"),
        (ModelError("x", ModelFault.LIMITED), "limited"),
        (HeldBackError("x", ModelFault.UNAVAILABLE), "held_back"),
        (RefusedRequestError("x"), "refused_request"),
        (TransientError("x"), "other"),
    ],
    ids=str,
)
async def test_a_call_is_counted_by_its_upstream_and_outcome(
    metrics: EffectMetrics, registry: CollectorRegistry, error: PortError | None, outcome: str
) -> None:
    catalogue = Catalogue((entry("tiny", "a", "b", upstream_model="tiny"),), (upstream("a"), upstream("b")))
    model = Upstreams(
        catalogue, {"a": FakeModel(faults=[error] if error else []), "b": FakeModel()}, "tiny", counted=metrics.called
    )
    with suppress(PortError):
        await model.complete("x", model="tiny", max_tokens=5)
    assert registry.get_sample_value("satmeter_upstream_calls_total", {"upstream": "a", "outcome": outcome}) == 1


async def test_a_streamed_call_is_counted_once(metrics: EffectMetrics, registry: CollectorRegistry) -> None:
    catalogue = Catalogue((entry("tiny", "a", upstream_model="tiny"),), (upstream("a"),))
    model = Upstreams(catalogue, {"a": FakeModel()}, "tiny", counted=metrics.called)
    assert [part async for part in model.stream("x", model="tiny", max_tokens=5)]
    assert registry.get_sample_value("satmeter_upstream_calls_total", {"upstream": "a", "outcome": "answered"}) == 1


async def test_a_host_measures_its_effects_and_the_first_piece_of_a_stream(redis: Redis) -> None:
    metrics = HostMetrics(Catalogue((), ()), TERMS.models, "haiku")
    async with World(redis, metrics=metrics, dedicated=False).serving() as (_, router):
        await opened(router)
        async for _ in router.stream(SES, ask(stream=True)):
            pass
        await router.call(SES, ask(2))
    found = metrics.registry.get_sample_value
    assert found("satmeter_effect_seconds_count", {"effect": "answer"}) == 2
    assert found("satmeter_effect_seconds_count", {"effect": "issue_invoice"}) == 1
    assert found("satmeter_time_to_first_token_seconds_count", {"model": "sonnet"}) == 1
