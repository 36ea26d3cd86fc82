"""Counts of what happened to sessions and jobs, against their own figures."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.behaviour import Command, Decision, Failed, Once
from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.catalogue import Catalogue
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.domain.session.messages import CloseSession, SessionView
from satmeter.actors.metrics.host import HostMetrics
from satmeter.actors.ports import ModelError
from tests.helpers.hosts import World
from tests.helpers.jobs import JOB_ID, TERMS, USAGE, JobBench, completion, verdict
from tests.helpers.session_steps import GRANT, SES, answered, ask, opened, show

TARGET = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))


def host_metrics() -> HostMetrics:
    return HostMetrics(Catalogue((), ()), TERMS.models, "haiku")


@pytest.fixture
def metrics() -> HostMetrics:
    return host_metrics()


@pytest.fixture
def world(redis: Redis, metrics: HostMetrics) -> World:
    return World(redis, metrics=metrics, dedicated=False)


class CountedJob(JobBench):
    """A job whose events are counted, a turn for each command."""

    def __init__(self, metrics: HostMetrics) -> None:
        super().__init__()
        self._metrics = metrics

    def send(self, command: Command) -> Decision:
        before = self.job
        decision = super().send(command)
        if decision.events:
            sums = self.behaviour.sums(before, decision.events, self.state)
            self._metrics.events.wrote(before, decision.events, sums)
        return decision


def value(metrics: HostMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def msat(metrics: HostMetrics, kind: str) -> float | None:
    return value(metrics, "satmeter_msat_total", kind=kind)


async def test_a_session_is_counted_as_its_books_say(world: World, metrics: HostMetrics) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        debit = (await answered(router, ask())).cost.debit_msat.value
        world.lightning.payout_script = [PayoutReport(PayoutStatus.PAID, Msat(700))]
        view = await router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT))
        assert isinstance(view, SessionView)
        shown = await show(router)
    assert msat(metrics, "received") == shown.deposited_msat.value
    assert msat(metrics, "debited") == debit
    assert msat(metrics, "refunded") == TARGET.amount_msat.value
    fees = msat(metrics, "routing_fees")
    assert fees is not None and debit + fees == shown.spent_msat.value
    for model in ("haiku", "sonnet"):
        assert value(metrics, "satmeter_tokens_total", model=model, kind="input") == USAGE.input_tokens
        assert value(metrics, "satmeter_tokens_total", model=model, kind="output") == USAGE.output_tokens
        cost_usd = value(metrics, "satmeter_model_cost_usd_total", model=model)
        assert cost_usd == pytest.approx(float(TERMS.models[model].cost_usd(USAGE)))
    assert value(metrics, "satmeter_session_requests_total", model="sonnet", ending="complete") == 1
    assert value(metrics, "satmeter_sessions_total", event="opened") == 1
    assert value(metrics, "satmeter_sessions_total", event="closed") == 1
    assert value(metrics, "satmeter_payouts_total", outcome="paid") == 1


async def test_a_request_that_the_model_gave_nothing_for_is_released(world: World, metrics: HostMetrics) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.faults = [ModelError("away", ModelFault.UNAVAILABLE)] * 20
        with pytest.raises(RefusedError):
            await answered(router, ask())
    assert value(metrics, "satmeter_session_requests_total", model="sonnet", ending="released") == 1
    assert msat(metrics, "debited") == 0


async def test_a_payout_that_the_node_refuses_counts_as_refused(world: World, metrics: HostMetrics) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.lightning.payout_script = [PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.FUNDS)]
        await router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT))
    assert value(metrics, "satmeter_payouts_total", outcome="failed") == 1
    assert value(metrics, "satmeter_payouts_total", outcome="refused") == 1
    assert msat(metrics, "refunded") == 0


async def test_a_model_that_is_not_in_the_catalogue_is_another(redis: Redis) -> None:
    metrics = HostMetrics(Catalogue((), ()), {"haiku": TERMS.models["haiku"]}, "haiku")
    world = World(redis, metrics=metrics, dedicated=False)
    async with world.serving() as (_, router):
        await opened(router)
        await answered(router, ask())
    assert value(metrics, "satmeter_tokens_total", model="other", kind="output") == USAGE.output_tokens
    assert value(metrics, "satmeter_session_requests_total", model="other", ending="complete") == 1
    assert value(metrics, "satmeter_tokens_total", model="sonnet", kind="output") is None


async def test_nothing_is_counted_twice_when_the_host_reads_an_actor_again(redis: Redis) -> None:
    first = host_metrics()
    async with World(redis, metrics=first, dedicated=False).serving() as (_, router):
        await opened(router)
    second = host_metrics()
    async with World(redis, metrics=second, dedicated=False).serving() as (_, router):
        await show(router)
    assert value(second, "satmeter_activations_total") == 1 and msat(second, "received") == 0
    assert value(first, "satmeter_activations_total") == 0 and msat(first, "received") == 10_000_000


def test_a_job_is_counted_as_its_books_say(metrics: HostMetrics) -> None:
    bench = CountedJob(metrics)
    bench.to_work_invoice()
    bench.pay_work(amount_msat=9_500)
    bench.finish(completion())
    books = bench.state.books
    assert msat(metrics, "received") == books.received.value == 19_500
    assert msat(metrics, "debited") == books.spent.value and msat(metrics, "returned") == 0
    assert (
        value(metrics, "satmeter_jobs_total", event="opened")
        == value(metrics, "satmeter_jobs_total", event="complete")
        == 1
    )
    assert value(metrics, "satmeter_tokens_total", model="haiku", kind="input") == USAGE.input_tokens
    assert value(metrics, "satmeter_tokens_total", model="sonnet", kind="output") == USAGE.output_tokens


def test_an_evaluation_that_is_given_back_counts_as_returned(metrics: HostMetrics) -> None:
    bench = CountedJob(metrics)
    bench.to_work_invoice()
    bench.pay_work()
    for _ in range(10):
        if not bench.behaviour.intents(JOB_ID, bench.state):
            break
        bench.send(Failed(bench.intent(), permanent=True, fault=ModelFault.FAILING))
    books = bench.state.books
    debited, returned = msat(metrics, "debited"), msat(metrics, "returned")
    assert (debited, returned) == (10_000, 10_000) and books.spent.value == 0
    assert value(metrics, "satmeter_jobs_total", event="failed") == 1


def test_a_rejected_job_counts_its_evaluation(metrics: HostMetrics) -> None:
    bench = CountedJob(metrics)
    bench.open()
    bench.pay_eval()
    bench.finish(verdict(accepted=False))
    assert msat(metrics, "debited") == bench.state.books.spent.value == 10_000
    assert value(metrics, "satmeter_jobs_total", event="rejected") == 1
    assert value(metrics, "satmeter_tokens_total", model="haiku", kind="input") == USAGE.input_tokens


async def test_the_load_is_what_is_in_memory_now(world: World, metrics: HostMetrics) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        asking = asyncio.create_task(answered(router, ask()))
        await world.model.gate.wait_for_arrival()
        assert value(metrics, "satmeter_actors", kind="ses") == 1 and value(metrics, "satmeter_actors", kind="job") == 0
        assert value(metrics, "satmeter_holds_open") == 1
        assert value(metrics, "satmeter_held_msat") == (await show(router)).held_msat.value
        world.model.gate.open()
        await asking
        assert value(metrics, "satmeter_holds_open") == 0 and value(metrics, "satmeter_commands_waiting") == 0
