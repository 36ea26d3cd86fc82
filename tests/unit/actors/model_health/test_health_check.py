"""Watch over the model provider: how often it is asked whether it is there, and what is made of its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from satmeter.actors.adapters.upstream.probe import UpstreamProbe
from satmeter.actors.domain.llm.catalogue import Api, Upstream
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.model_health.health_check import ModelWatch
from satmeter.actors.model_health.outage import ModelOutage, Stage
from satmeter.actors.ports import ModelError
from tests.helpers.model_boards import START_MS, Clock, FakeBoard, FakeProbe, outage


@dataclass
class Scene:
    """A watch that is run turn by turn."""

    board: FakeBoard = field(default_factory=FakeBoard)
    probe: FakeProbe = field(default_factory=FakeProbe)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.watch = ModelWatch(
            self.probe, self.board, self.clock.now_ms, clock=self.clock.monotonic_s, chance=lambda: 0.0
        )

    async def turns(self, seconds: float) -> None:
        """Lets it look each half second."""
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            await self.watch.look()
            self.clock.now_s += 0.5


def untried() -> ModelOutage:
    return ModelOutage(Stage.DOWN, None, START_MS, START_MS)


async def test_at_the_start_a_provider_that_answers_opens_the_shop_without_a_word() -> None:
    scene = Scene(FakeBoard(untried()))
    with capture_logs() as logs:
        await scene.watch.look()
    assert (scene.board.outage, scene.probe.asked, logs) == (None, 1, [])


@pytest.mark.parametrize("fault", [ModelFault.UNREACHABLE, ModelFault.REFUSED])
@pytest.mark.parametrize("known", [untried(), None])
async def test_at_the_start_one_that_does_not_keeps_it_closed_and_is_told_of_once(
    fault: ModelFault, known: ModelOutage | None
) -> None:
    scene = Scene(FakeBoard(known), FakeProbe(fault))
    with capture_logs() as logs:
        await scene.turns(60)
    assert scene.board.outage is not None and scene.board.outage.fault is fault
    assert [entry["event"] for entry in logs] == ["model_provider_down"]


@pytest.mark.parametrize("since_ms", [START_MS - 1, START_MS])
async def test_an_outage_of_before_is_told_once_more_and_one_that_a_call_has_told_is_not(since_ms: int) -> None:
    scene = Scene(FakeBoard(outage(until_ms=START_MS, since_ms=since_ms)), FakeProbe(ModelFault.UNREACHABLE))
    with capture_logs() as logs:
        await scene.turns(60)
    assert len(logs) == (1 if since_ms < START_MS else 0)


async def test_it_is_tried_again_by_itself_later_each_time_and_back_at_its_first_answer() -> None:
    scene = Scene(FakeBoard(outage(until_ms=START_MS + 1_000)), FakeProbe(ModelFault.UNREACHABLE))
    asked_s, asked = [], 0
    while scene.clock.now_s < 60:
        await scene.watch.look()
        if scene.probe.asked > asked:
            asked_s.append(scene.clock.now_s)
            asked = scene.probe.asked
        scene.clock.now_s += 0.5
    assert asked_s == [1.0, 3.0, 7.0, 15.0, 30.0, 45.0]
    scene.probe.fault = None
    with capture_logs() as logs:
        await scene.watch.look()
    assert scene.board.outage is None
    assert [(entry["event"], entry["away_s"]) for entry in logs] == [("model_provider_back", 60)]


@pytest.mark.parametrize(
    "fault", [ModelFault.OVERLOADED, ModelFault.UNAVAILABLE, ModelFault.FAILING, ModelFault.REFUSED]
)
async def test_what_answered_with_failures_is_tried_by_paid_calls_before_anything_is_sold(fault: ModelFault) -> None:
    scene = Scene(FakeBoard(outage(fault=fault, until_ms=START_MS, tries=2)))
    await scene.watch.look()
    trial = outage(Stage.TRIAL, fault, START_MS + 10_000, tries=2)
    assert scene.board.outage == trial
    await scene.turns(9)
    assert scene.board.outage == trial


@pytest.mark.parametrize("learnt", [True, False])
async def test_failures_of_the_question_itself_are_believed_where_it_was_answered_before(learnt: bool) -> None:
    scene = Scene(FakeBoard(), FakeProbe(understood=learnt))
    await scene.watch.look()
    scene.board.outage = outage(fault=ModelFault.FAILING, until_ms=START_MS)
    scene.probe.fault = ModelFault.UNAVAILABLE
    await scene.watch.look()
    assert scene.board.outage.stage is (Stage.DOWN if learnt else Stage.TRIAL)


async def test_while_all_is_well_it_is_asked_twice_a_minute_and_one_miss_is_none() -> None:
    scene = Scene()
    await scene.turns(120)
    assert scene.probe.asked == 4
    scene.probe.fault = ModelFault.UNREACHABLE
    await scene.watch.look()
    scene.probe.fault = None
    await scene.turns(60)
    assert scene.board.outage is None
    scene.probe.fault = ModelFault.UNREACHABLE
    await scene.turns(33)
    assert scene.board.outage is not None and scene.board.outage.stage is Stage.DOWN


async def test_while_calls_succeed_a_question_that_fails_closes_nothing() -> None:
    scene = Scene()
    await scene.watch.look()
    scene.probe.fault = ModelFault.UNAVAILABLE
    await scene.turns(120)
    assert scene.board.outage is None


async def test_another_s_word_is_not_overwritten() -> None:
    down = outage(until_ms=START_MS)
    scene = Scene(FakeBoard(down))
    later = outage(until_ms=START_MS + 9_000, tries=1)

    async def ask() -> bool:
        scene.board.outage = later
        return True

    scene.probe.ask = ask  # type: ignore[method-assign]
    await scene.watch.look()
    assert scene.board.outage == later


async def test_it_goes_on_while_the_store_is_away_and_closes_the_probe_at_its_end() -> None:
    scene, turns = Scene(FakeBoard(away=True)), asyncio.Semaphore(0)

    async def pause(_: float) -> None:
        turns.release()
        await asyncio.sleep(0)

    watch = ModelWatch(scene.probe, scene.board, scene.clock.now_ms, clock=scene.clock.monotonic_s, pause=pause)
    running = asyncio.create_task(watch.run())
    for _ in range(3):
        await turns.acquire()
    assert scene.probe.asked == 0
    scene.board.away = False
    await turns.acquire()
    await turns.acquire()
    assert scene.probe.asked == 1
    running.cancel()
    await asyncio.wait([running])
    assert scene.probe.closed == 1


# The question


def probe(answer: Any) -> UpstreamProbe:
    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url) == ("GET", "http://api.test/base/v1/models/sonnet")
        assert request.headers["authorization"] == "Bearer sk-test" and "anthropic-version" in request.headers
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    asked = Upstream("one", Api.ANTHROPIC, "http://api.test/base/", 5.0, 30.0)
    return UpstreamProbe(asked, key="sk-test", model="sonnet", transport=httpx.MockTransport(handler))


@pytest.mark.parametrize("key", ["sk-test", None])
async def test_a_server_of_openai_s_shape_is_asked_for_its_list(key: str | None) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200)

    local = Upstream("local", Api.OPENAI, "http://api.test/v1", 5.0, 30.0)
    assert await UpstreamProbe(local, key=key, model="tiny", transport=httpx.MockTransport(handler)).ask()
    assert asked[0].url == "http://api.test/v1/models"
    assert asked[0].headers.get("authorization") == (None if key is None else "Bearer sk-test")


@pytest.mark.parametrize(
    ("status", "understood"), [(200, True), (302, False), (404, False), (405, False), (429, False), (501, False)]
)
async def test_whatever_answers_is_there(status: int, understood: bool) -> None:
    assert await probe(status).ask() is understood


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (401, ModelFault.REFUSED),
        (403, ModelFault.UNAVAILABLE),
        (500, ModelFault.UNAVAILABLE),
        (529, ModelFault.UNAVAILABLE),
        (httpx.ConnectError("refused"), ModelFault.UNREACHABLE),
        (httpx.ConnectTimeout("slow"), ModelFault.UNREACHABLE),
        (httpx.ReadTimeout("slow"), ModelFault.UNREACHABLE),
        (OSError("broken"), ModelFault.UNREACHABLE),
    ],
)
async def test_what_keeps_it_from_answering_is_told(answer: Any, fault: ModelFault) -> None:
    asked = probe(answer)
    with pytest.raises(ModelError) as caught:
        await asked.ask()
    await asked.close()
    assert caught.value.fault is fault and "sk-test" not in str(caught.value)


async def test_a_clock_set_back_by_an_hour_delays_no_try() -> None:
    """Else no work is sold for an hour, though the provider is back."""
    scene = Scene(FakeBoard(outage(until_ms=START_MS + 5_000)))
    scene.watch = ModelWatch(
        scene.probe, scene.board, lambda: scene.clock.now_ms() - 3_600_000, clock=scene.clock.monotonic_s
    )
    await scene.watch.look()
    assert (scene.board.outage, scene.probe.asked) == (None, 1)
