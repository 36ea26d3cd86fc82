"""The question that tells a broken provider from requests that break it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.upstreams import Upstreams
from satmeter.actors.model_health import plain_question
from satmeter.actors.model_health.circuit_breaker import GatedProvider, ModelGate
from satmeter.actors.model_health.outage import ModelCache, Stage
from satmeter.actors.model_health.plain_question import PlainQuestion
from satmeter.actors.ports import HeldBackError, ModelError, PermanentError, PortError, SilentError, TransientError
from tests.helpers.fakes import FakeModel
from tests.helpers.model_boards import START_MS, Clock, FakeBoard, outage
from tests.helpers.upstreams import over

BROKEN = ModelError("answered 500", ModelFault.FAILING, answered=True)


class Scene:
    """A provider that breaks at some requests, behind a gate that asks the question."""

    def __init__(self, board: FakeBoard | None = None) -> None:
        self.board, self.clock, self.provider = board or FakeBoard(), Clock(), FakeModel()
        cache = ModelCache(self.board, self.clock.monotonic_s)
        gate = ModelGate(self.board, self.clock.now_ms, cache=cache, chance=lambda: 0.0)
        self.question = PlainQuestion(self.provider, "one", self.clock.monotonic_s)
        self.model: Upstreams = over(GatedProvider(self.provider, gate, self.question), "haiku")

    async def fails(self, *errors: PortError) -> PortError:
        """Return the outcome of a call for which the provider has the first error; the others come after it."""
        self.provider.faults = list(errors)
        with pytest.raises(PortError) as caught:
            await self.model.complete("x", model="sonnet", max_tokens=5)
        return caught.value

    async def works(self) -> bool:
        return (await self.model.complete("x", model="sonnet", max_tokens=5)).text == "the answer"

    @property
    def questions(self) -> int:
        return len([text for text in self.provider.completed if text != "x"])


@pytest.mark.parametrize("error", [BROKEN, SilentError("fell silent")])
async def test_requests_that_break_a_provider_take_it_from_no_other_client(error: PortError) -> None:
    scene = Scene()
    with capture_logs() as logs:
        for _ in range(9):
            assert await scene.fails(error) is error
    assert scene.board.outage is None and await scene.works()
    assert scene.questions == 1, "its good answer counts for a while"
    assert [told["event"] for told in logs] == ["model_provider_breaks_at_requests"]


async def test_a_provider_that_breaks_at_the_plain_question_is_away() -> None:
    scene = Scene()
    for errors in ([BROKEN], [BROKEN], [BROKEN, BROKEN]):
        await scene.fails(*errors)
    assert scene.board.outage == outage(fault=ModelFault.FAILING, until_ms=START_MS + 1_000)
    assert isinstance(await scene.fails(BROKEN), HeldBackError)


async def test_a_good_answer_is_believed_for_ten_seconds() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.fails(BROKEN)
    scene.clock.now_s += 9
    for _ in range(3):
        await scene.fails(BROKEN)
    assert scene.questions == 1 and scene.board.outage is None
    scene.clock.now_s += 2
    for errors in ([BROKEN], [BROKEN], [BROKEN, BROKEN]):
        await scene.fails(*errors)
    assert scene.questions == 2 and scene.board.outage is not None


async def test_a_request_that_breaks_does_not_prolong_a_trial() -> None:
    scene = Scene(FakeBoard(outage(Stage.TRIAL, until_ms=START_MS + 10_000)))
    assert await scene.fails(BROKEN) is BROKEN
    assert scene.board.outage is None


async def test_what_speaks_of_the_whole_provider_needs_no_question() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.fails(ModelError("no connection", ModelFault.UNREACHABLE))
    assert scene.questions == 0 and scene.board.outage is not None


@pytest.mark.parametrize(("error", "ending"), [(SilentError("fell silent"), SilentError), (BROKEN, HeldBackError)])
async def test_a_call_whose_client_leaves_during_the_question_has_failed(
    monkeypatch: pytest.MonkeyPatch, error: PortError, ending: type[PortError]
) -> None:
    """Else it would count as one that was sent, whose prompt is charged."""
    scene, asked = Scene(), asyncio.Event()

    async def stand(model: str) -> bool:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(scene.question, "is_answered", stand)
    for _ in range(2):
        await scene.fails(error)
    scene.provider.faults = [error]
    calling = asyncio.create_task(scene.model.complete("x", model="sonnet", max_tokens=5))
    await asked.wait()
    calling.cancel()
    with pytest.raises(ending):
        await calling
    assert scene.board.outage is None


@pytest.mark.parametrize("error", [PermanentError("answered 400"), TransientError("an empty answer")])
async def test_any_answer_but_a_failure_shows_that_it_works(error: PortError) -> None:
    provider = FakeModel(faults=[error])
    assert await PlainQuestion(provider, "one").is_answered("sonnet")


async def test_silence_is_no_answer_and_those_who_ask_together_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_question, "_WITHIN_S", 0.05)
    provider = FakeModel()
    provider.gate.close()
    question = PlainQuestion(provider, "one")
    assert await asyncio.gather(*(question.is_answered("sonnet") for _ in range(5))) == [False] * 5
    assert len(provider.completed) == 1
