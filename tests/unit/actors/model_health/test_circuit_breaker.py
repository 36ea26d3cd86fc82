"""The gate before the model provider: what closes it, what it lets through, and how it opens again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.llm.catalogue import Catalogue
from satmeter.actors.domain.llm.relays import RelayEnd
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.upstreams import Upstreams
from satmeter.actors.model_health.circuit_breaker import GatedProvider, ModelGate
from satmeter.actors.model_health.outage import ModelCache, ModelWait, ModelWord, Stage
from satmeter.actors.port_errors import did_nothing
from satmeter.actors.ports import (
    HeldBackError,
    ModelError,
    PermanentError,
    PortError,
    SilentError,
    ToldError,
    TransientError,
)
from tests.helpers.fakes import FakeModel
from tests.helpers.model_boards import START_MS, Clock, FakeBoard, outage
from tests.helpers.upstreams import entry, over, upstream

UNREACHABLE = ModelError("no connection", ModelFault.UNREACHABLE)
OVERLOADED = ModelError("answered 529", ModelFault.OVERLOADED)
BROKEN = ModelError("answered 500", ModelFault.FAILING)
LIMITED = ModelError("answered 429", ModelFault.LIMITED, retry_after_s=37)


@dataclass
class Scene:
    """Processes with gates of their own before one provider."""

    board: FakeBoard = field(default_factory=FakeBoard)
    clock: Clock = field(default_factory=Clock)
    provider: FakeModel = field(default_factory=FakeModel)

    def __post_init__(self) -> None:
        self.model = self.process()

    def process(self) -> Upstreams:
        """One more of them."""
        cache = ModelCache(self.board, self.clock.monotonic_s)
        gate = ModelGate(self.board, self.clock.now_ms, cache=cache, chance=lambda: 0.0)
        return over(GatedProvider(self.provider, gate), "haiku")

    async def fails(self, *errors: PortError, model: Upstreams | None = None) -> list[Exception]:
        """Return the outcomes of calls for which the provider has these errors."""
        self.provider.faults = list(errors)
        return [await _failure(model or self.model) for _ in errors]

    @property
    def calls(self) -> int:
        """Count the provider's calls for work."""
        return len(self.provider.completed)


async def _failure(model: Upstreams) -> Exception:
    with pytest.raises(PortError) as caught:
        await model.complete("x", model="sonnet", max_tokens=5)
    return caught.value


async def works(model: Upstreams) -> bool:
    return (await model.complete("x", model="sonnet", max_tokens=5)).text == "the answer"


@pytest.mark.parametrize(
    "error",
    [
        UNREACHABLE,
        OVERLOADED,
        BROKEN,
        ModelError("answered 503", ModelFault.UNAVAILABLE),
        ModelError("answered 401", ModelFault.REFUSED),
        SilentError("fell silent"),
    ],
)
async def test_the_third_failure_in_a_row_takes_the_provider_for_away(error: PortError) -> None:
    scene = Scene()
    await scene.fails(error, error)
    assert scene.board.outage is None
    with capture_logs() as logs:
        await scene.fails(error)
        assert all(isinstance(found, HeldBackError) for found in await scene.fails(error, error))
    fault = error.fault if isinstance(error, ModelError) else ModelFault.FAILING
    assert scene.board.outage == outage(fault=fault, until_ms=START_MS + 1_000)
    assert scene.calls == 3, "it was called while it was known to be away"
    (told,) = logs
    assert (told["event"], told["log_level"], told["fault"]) == ("model_provider_down", "error", fault)
    assert ("ANTHROPIC_API_KEY" in told["hint"]) is (fault is ModelFault.REFUSED)


async def test_a_success_between_failures_takes_them_back() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.fails(UNREACHABLE, BROKEN)
        assert await works(scene.model)
    assert scene.board.outage is None and scene.board.failures == 0


@pytest.mark.parametrize("error", [TransientError("an unreadable verdict"), PermanentError("answered 404"), LIMITED])
async def test_what_says_nothing_of_other_calls_is_no_outage(error: PortError) -> None:
    scene = Scene()
    for _ in range(5):
        assert await scene.fails(error) == [error]
        scene.clock.now_s += 40
    assert scene.board == FakeBoard(waits=scene.board.waits, reads=scene.board.reads)


async def test_failures_of_all_processes_count_together_and_all_hold_back() -> None:
    scene = Scene()
    other = scene.process()
    await scene.fails(UNREACHABLE, UNREACHABLE)
    await scene.fails(UNREACHABLE, model=other)
    scene.clock.now_s += 1.1
    assert isinstance(await _failure(scene.model), HeldBackError)
    assert scene.calls == 3


async def test_who_is_held_back_hears_when_to_come_again_at_the_earliest() -> None:
    scene = Scene(FakeBoard(outage(until_ms=START_MS + 4_000)))
    held = await _failure(scene.model)
    assert isinstance(held, HeldBackError)
    assert (held.fault, held.retry_after_s) == (ModelFault.UNAVAILABLE, 4.5)
    scene.clock.now_s = 4.5
    late = await _failure(scene.model)
    assert isinstance(late, HeldBackError) and late.retry_after_s == 0.5


async def test_a_call_is_not_held_back_by_what_was_known_a_moment_ago() -> None:
    scene = Scene(FakeBoard(outage()))
    await _failure(scene.model)
    scene.board.outage = None
    assert await works(scene.model)


async def test_while_all_calls_fail_a_broken_one_has_met_an_outage() -> None:
    """So that it does not use up a job's attempts."""
    scene = Scene()
    faults = [error.fault for error in await scene.fails(BROKEN, BROKEN, BROKEN) if isinstance(error, ModelError)]
    assert faults == [ModelFault.FAILING, ModelFault.FAILING, ModelFault.UNAVAILABLE]


@pytest.mark.parametrize("answered", [False, True])
async def test_the_call_that_begins_an_outage_may_be_billed_as_those_before_it(answered: bool) -> None:
    """Else another upstream would be asked, and the client's call bought twice."""
    broken = ModelError("broke, or answered 500", ModelFault.FAILING, answered=answered)
    found = await Scene().fails(broken, broken, broken)
    assert [isinstance(error, ModelError) and did_nothing(error) for error in found] == [answered] * 3


# Trials


async def test_the_first_success_of_a_trial_ends_the_outage() -> None:
    scene = Scene(FakeBoard(outage(Stage.TRIAL, ModelFault.OVERLOADED, START_MS + 9_000), failures=3))
    scene.clock.now_s = 7
    with capture_logs() as logs:
        assert await works(scene.model)
    assert (scene.board.outage, scene.board.failures) == (None, 0)
    assert [(entry["event"], entry["away_s"]) for entry in logs] == [("model_provider_back", 7)]


@pytest.mark.parametrize("after_s", [0, 9, 300])
async def test_a_single_failure_of_a_trial_goes_on_with_it_also_when_it_was_long_in_coming(after_s: int) -> None:
    scene = Scene(FakeBoard(outage(Stage.TRIAL, ModelFault.OVERLOADED, START_MS + 9_000, tries=2)))
    scene.clock.now_s = after_s
    with capture_logs() as logs:
        await scene.fails(BROKEN)
    until_ms = scene.clock.now_ms() + 8_000
    assert scene.board.outage == outage(fault=ModelFault.FAILING, until_ms=until_ms, tries=3)
    assert logs == [], "it was told when it began"


async def test_what_began_before_an_outage_does_not_end_it() -> None:
    scene = Scene()
    async with aclosing(scene.model.stream("x", model="sonnet", max_tokens=5)) as parts:
        await anext(parts)
        scene.board.outage = outage()
        scene.clock.now_s = 1.1
        await _failure(scene.model)
        async for _ in parts:
            pass
    assert scene.board.outage == outage()


async def test_an_outage_that_nobody_looks_after_ends_with_a_success() -> None:
    scene = Scene(FakeBoard(outage(), failures=3))
    scene.clock.now_s = 3_600
    assert await works(scene.model)
    assert (scene.board.outage, scene.board.failures) == (None, 0)


# Waits


async def test_the_provider_s_wait_is_kept_by_all_processes_for_its_model_alone() -> None:
    scene = Scene()
    other = scene.process()
    assert await scene.fails(LIMITED) == [LIMITED]
    assert scene.board.waits == {"sonnet": ModelWait(ModelFault.LIMITED, START_MS + 37_000, START_MS)}
    for model in (scene.model, other):
        held = await _failure(model)
        assert isinstance(held, HeldBackError) and (held.fault, held.retry_after_s) == (ModelFault.LIMITED, 37.0)
    await other.evaluate("x")
    assert (scene.calls, len(scene.provider.evaluated)) == (1, 1)
    scene.clock.now_s = 37
    assert await works(scene.model) and await works(other)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ModelFault.OVERLOADED, ModelFault.OVERLOADED),
        (ModelFault.UNAVAILABLE, ModelFault.UNAVAILABLE),
        (ModelFault.FAILING, ModelFault.UNAVAILABLE),
    ],
)
async def test_other_faults_can_ask_for_a_wait_as_well(fault: ModelFault, told: ModelFault) -> None:
    scene = Scene()
    await scene.fails(ModelError("x", fault, retry_after_s=5))
    assert scene.board.waits == {"sonnet": ModelWait(told, START_MS + 5_000, START_MS)} and scene.board.failures == 1


# Streams


@pytest.mark.parametrize("relayed", [False, True])
async def test_a_stream_counts_as_any_other_call(relayed: bool) -> None:
    scene = Scene()

    async def stream() -> list[Any]:
        made = (
            scene.model.relay(b"{}", {}, model="sonnet", beta=False, stream=True)
            if relayed
            else scene.model.stream("x", model="sonnet", max_tokens=5)
        )
        async with aclosing(made) as parts:
            return [part async for part in parts]

    for error in (UNREACHABLE, OVERLOADED):
        scene.provider.faults = [error]
        with pytest.raises(ModelError):
            await stream()
    assert scene.board.failures == 2
    assert len(await stream()) > 2
    scene.clock.now_s += 1.1
    assert scene.board.failures == 0
    scene.provider.stream_fault, scene.provider.fault_after = ToldError("broke off"), 1
    with pytest.raises(ToldError):
        await stream()
    assert scene.board.failures == 1
    scene.board.outage, scene.clock.now_s = outage(), 2.3
    with pytest.raises(HeldBackError):
        await stream()


async def test_a_stream_shows_at_its_first_piece_that_the_provider_works() -> None:
    scene = Scene(FakeBoard(outage(Stage.TRIAL, until_ms=START_MS + 9_000)))
    scene.provider.usage = None
    async with aclosing(scene.model.stream("x", model="sonnet", max_tokens=5)) as parts:
        await anext(parts)
        assert scene.board.outage is None


async def test_a_call_that_the_provider_refuses_shows_nothing_of_others() -> None:
    trial = outage(Stage.TRIAL, until_ms=START_MS + 9_000)
    scene = Scene(FakeBoard(trial))

    async def refusing(*_: Any, **__: Any) -> Any:
        yield RelayEnd(400, {}, b"{}", None)

    scene.provider.relay = refusing  # type: ignore[method-assign]
    async with aclosing(scene.model.relay(b"{}", {}, model="sonnet", beta=False, stream=False)) as parts:
        assert [part.status async for part in parts if isinstance(part, RelayEnd)] == [400]
    assert scene.board.outage == trial


async def test_a_client_that_leaves_says_nothing_of_the_provider() -> None:
    scene = Scene()
    stream = scene.model.stream("x", model="sonnet", max_tokens=5)
    await anext(stream)
    await stream.aclose()
    assert scene.provider.stream_closed == 1 and scene.board.failures == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_leaves_before_the_call_is_made_has_used_nothing(streamed: bool) -> None:
    """Else the call would count as one that was sent, whose prompt is charged."""
    scene, reading = Scene(), asyncio.Event()

    async def read() -> ModelWord:
        reading.set()
        await asyncio.Event().wait()
        raise AssertionError

    scene.board.read = read  # type: ignore[method-assign]
    made = scene.model.stream("x", model="sonnet", max_tokens=5)
    first: Any = anext(made) if streamed else scene.model.complete("x", model="sonnet", max_tokens=5)
    calling = asyncio.ensure_future(first)
    await reading.wait()
    calling.cancel()
    with pytest.raises(HeldBackError):
        await calling
    assert scene.calls == len(scene.provider.streamed) == 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("error", [None, ModelError("answered 503", ModelFault.UNAVAILABLE, answered=True), BROKEN])
async def test_no_other_upstream_is_asked_for_a_client_that_has_left(streamed: bool, error: PortError | None) -> None:
    """Leave at the gate of the first upstream, or while that one's failure is counted."""
    board, clock, waiting = FakeBoard(), Clock(), asyncio.Event()

    async def stand() -> Any:
        waiting.set()
        await asyncio.Event().wait()

    first, second = FakeModel(faults=[] if error is None else [error]), FakeModel()
    if error is None:
        board.read = stand  # type: ignore[method-assign]
    else:
        board.count_failure = stand  # type: ignore[method-assign]
    gates = [ModelGate(at, clock.now_ms, cache=ModelCache(at, clock.monotonic_s)) for at in (board, FakeBoard())]
    catalogue = Catalogue((entry("tiny", "a", "b"),), (upstream("a"), upstream("b")))
    providers = {"a": GatedProvider(first, gates[0]), "b": GatedProvider(second, gates[1])}
    model = Upstreams(catalogue, providers, "tiny")
    made = model.stream("x", model="tiny", max_tokens=5)
    call: Any = anext(made) if streamed else model.complete("x", model="tiny", max_tokens=5)
    calling = asyncio.ensure_future(call)
    await waiting.wait()
    calling.cancel()
    # Only a call that may be billed ends as cancelled, and so as one that was sent.
    with pytest.raises(asyncio.CancelledError if error is BROKEN else HeldBackError):
        await calling
    assert len(second.completed) == len(second.streamed) == 0


async def test_counting_is_held_back_and_counts_for_nothing() -> None:
    scene = Scene()
    scene.provider.count_fault = BROKEN
    for _ in range(5):
        with pytest.raises(ModelError):
            await scene.model.count_tokens(b"{}", {}, model="sonnet", beta=False)
        with pytest.raises(ModelError):
            await scene.model.prompt_tokens("x")
    assert scene.board.failures == 0
    scene.board.outage, scene.clock.now_s = outage(), 1.1
    with pytest.raises(HeldBackError):
        await scene.model.count_tokens(b"{}", {}, model="sonnet", beta=False)
    with pytest.raises(HeldBackError):
        await scene.model.prompt_tokens("x")


async def test_a_store_that_is_away_holds_nothing_back_and_changes_no_outcome() -> None:
    scene = Scene(FakeBoard(away=True))
    assert await scene.fails(*[UNREACHABLE] * 5) == [UNREACHABLE] * 5
    assert await works(scene.model)


@pytest.mark.parametrize(
    ("known", "sells"),
    [
        (None, True),
        (outage(), False),
        (outage(Stage.TRIAL, until_ms=START_MS + 1), False),
        (outage(Stage.TRIAL, until_ms=START_MS), True),
    ],
)
async def test_a_sale_waits_for_the_end_of_a_trial(known: Any, sells: bool) -> None:
    board = FakeBoard(known)
    gate = ModelGate(board, Clock().now_ms)
    if sells:
        await gate.admit_sale()
        return
    with pytest.raises(HeldBackError):
        await gate.admit_sale()
