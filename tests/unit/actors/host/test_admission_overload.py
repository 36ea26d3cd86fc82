"""More to do than can be done: the host takes no more, the front says so early, and nobody waits in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.errors import Code, RefusedError, behind, too_many_waiting
from satmeter.actors.domain.job.state import GetJob
from satmeter.actors.host.admission import AdmissionControl
from satmeter.actors.messages import Call
from satmeter.actors.router.router import Router
from tests.helpers.hosts import World, until
from tests.helpers.patience import PATIENCE_S
from tests.helpers.session_steps import answered, ask, opened, show
from tests.unit.actors.router.test_router import FakeHost, router_to


async def test_who_brings_more_waits_until_one_has_done_its_work() -> None:
    admission = AdmissionControl(2)
    await admission.admit()
    admission.begin()
    admission.begin()
    waiting = [asyncio.create_task(admission.admit()) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, timeout=0.01)
    assert not done
    admission.end()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*waiting)


async def test_who_finds_it_full_again_goes_on_waiting() -> None:
    admission = AdmissionControl(1)
    admission.begin()
    waiting = asyncio.create_task(admission.admit())
    await asyncio.wait({waiting}, timeout=0)
    admission.end()
    admission.begin()
    done, _ = await asyncio.wait({waiting}, timeout=0.01)
    assert not done
    admission.end()
    async with asyncio.timeout(PATIENCE_S):
        await waiting


async def test_a_host_with_too_many_actors_at_work_takes_no_more_until_some_are_done(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.actors.host.dispatcher.AdmissionControl", partial(AdmissionControl, 3))
    world = World(redis)
    stuck, reached = asyncio.Event(), asyncio.Semaphore(0)
    load = world.journal.load

    async def held_up(partition: int, actor_id: str) -> object:
        reached.release()
        await stuck.wait()
        return await load(partition, actor_id)

    monkeypatch.setattr(world.journal, "load", held_up)
    async with world.serving() as (host, _):
        await host.submit("queue", [Call(number, f"job_{number}", GetJob()) for number in range(1, 4)])
        for _ in range(3):
            await reached.acquire()
        more = asyncio.create_task(host.submit("queue", [Call(4, "job_4", GetJob())]))
        done, _ = await asyncio.wait({more}, timeout=0.01)
        assert not done
        stuck.set()
        async with asyncio.timeout(PATIENCE_S):
            await more
            found = 0
            while found < 4:
                found += len(await host.collect("queue"))


async def test_a_front_whose_host_is_behind_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.router.lane._OUTGOING_MAX", 3)
    host = FakeHost()
    host.taken.clear()
    router = router_to(host)
    # The first is on its way already; three wait behind it.
    asks = [asyncio.create_task(router.call("job_0", GetJob()))]
    await until(_on_its_way(router))
    asks += [asyncio.create_task(router.call(f"job_{number}", GetJob())) for number in range(1, 4)]
    await asyncio.wait(asks, timeout=0)
    with pytest.raises(RefusedError) as refused:
        await router.call("job_4", GetJob())
    assert refused.value.refusal == behind()
    assert refused.value.refusal.code is Code.UNAVAILABLE and refused.value.refusal.retry_after_s == 1
    for waiting in asks:
        waiting.cancel()
    await router.close()


def _on_its_way(router: Router) -> Callable[[], Awaitable[bool]]:
    async def sent() -> bool:
        lane = router._lanes.to_host("host-0")
        return bool(lane._pending) and len(lane._outgoing) == 0

    return sent


async def test_one_actor_with_too_much_waiting_refuses_more_and_answers_the_rest(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.actors.host.mailbox._MAILBOX_MAX", 3)
    world = World(redis)
    async with world.serving() as (_, router):
        await opened(router)
        held, append = asyncio.Event(), world.journal.append
        arrived = asyncio.Event()

        async def held_up(what: object) -> None:
            arrived.set()
            await held.wait()
            await append(what)  # type: ignore[arg-type]

        monkeypatch.setattr(world.journal, "append", held_up)
        asks = [asyncio.create_task(answered(router, ask(1)))]
        await arrived.wait()
        asks += [asyncio.create_task(answered(router, ask(number))) for number in range(2, 8)]
        done, _ = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 4:
            done, _ = await asyncio.wait(asks, timeout=0.005)
        errors = [task.exception() for task in done]
        assert [e.refusal for e in errors if isinstance(e, RefusedError)] == [too_many_waiting()] * 4
        held.set()
        answers = [await task for task in asks if task not in done]
        assert len(answers) == 3
        spent = sum(answer.cost.debit_msat.value for answer in answers)
        assert (await show(router)).spent_msat.value == spent
