"""Calls go to a model's upstreams in their order; another one is asked only after one that certainly did nothing."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.llm.answers import Completion, Served
from satmeter.actors.domain.llm.catalogue import Catalogue
from satmeter.actors.domain.llm.relays import RelayEnd
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.upstreams import Upstreams
from satmeter.actors.ports import (
    HeldBackError,
    MissingModelError,
    ModelError,
    NotCountedError,
    PermanentError,
    PortError,
    SilentError,
    ToldError,
    TransientError,
)
from tests.helpers.fakes import FakeModel
from tests.helpers.upstreams import entry, upstream

PASSED_OVER = [
    ModelError("no connection", ModelFault.UNREACHABLE),
    ModelError("answered 401", ModelFault.REFUSED, answered=True),
    ModelError("answered 429", ModelFault.LIMITED, 9, answered=True),
    ModelError("answered 529", ModelFault.OVERLOADED, answered=True),
    ModelError("answered 503", ModelFault.UNAVAILABLE, answered=True),
    ModelError("answered 500", ModelFault.FAILING, answered=True),
    HeldBackError("it is away", ModelFault.UNAVAILABLE, 4),
    MissingModelError("answered 404"),
]
# After these the call may have been carried out, and be billed.
MAY_BE_BILLED: list[PortError] = [
    ModelError("the connection broke", ModelFault.FAILING),
    SilentError("fell silent"),
    TransientError("an unreadable answer"),
    PermanentError("no text"),
]
CALLS = ["evaluate", "complete", "stream", "relay", "relay_stream"]


class Scene:
    """A model that two upstreams serve under a name of their own."""

    def __init__(self) -> None:
        self.first, self.second = FakeModel(text="first", pieces=["fi", "rst"]), FakeModel(text="second")
        catalogue = Catalogue((entry("tiny", "a", "b", upstream_model="tiny-llama"),), (upstream("a"), upstream("b")))
        self.model = Upstreams(catalogue, {"a": self.first, "b": self.second}, "tiny")

    async def call(self, kind: str, model: str = "tiny") -> Any:
        match kind:
            case "evaluate":
                return await self.model.evaluate("x")
            case "complete":
                return await self.model.complete("x", model=model, max_tokens=5)
            case "stream":
                parts: Any = self.model.stream("x", model=model, max_tokens=5)
            case _:
                streams = kind == "relay_stream"
                parts = self.model.relay(b"{}", {}, model=model, beta=False, stream=streams)
        async with aclosing(parts):
            return [part async for part in parts][-1]

    @property
    def calls(self) -> tuple[int, int]:
        """Count the calls of both upstreams."""
        first, second = (
            len(fake.evaluated) + len(fake.completed) + len(fake.streamed) + len(fake.relayed)
            for fake in (self.first, self.second)
        )
        return first, second


@pytest.mark.parametrize("kind", CALLS)
async def test_the_first_upstream_is_asked_alone(kind: str) -> None:
    scene = Scene()
    found = await scene.call(kind)
    assert scene.calls == (1, 0)
    assert isinstance(found, RelayEnd) or found.model == "tiny", "its price is known by the catalogue's name"


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("error", PASSED_OVER, ids=str)
async def test_an_upstream_that_did_nothing_is_passed_over(kind: str, error: PortError) -> None:
    scene = Scene()
    scene.first.faults = [error]
    with capture_logs() as logs:
        await scene.call(kind)
    assert scene.calls == (1, 1)
    told = [entry for entry in logs if entry["event"] == "upstream_passed_over"]
    assert len(told) == (0 if isinstance(error, HeldBackError) else 1)
    assert [entry["upstream"] for entry in told] == ["a"] * len(told)


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("error", MAY_BE_BILLED, ids=str)
async def test_a_call_that_may_be_billed_is_not_made_twice(kind: str, error: PortError) -> None:
    scene = Scene()
    scene.first.faults = [error]
    with pytest.raises(type(error)) as caught:
        await scene.call(kind)
    assert caught.value is error and scene.calls == (1, 0)


@pytest.mark.parametrize("error", [*PASSED_OVER, *MAY_BE_BILLED, ToldError("told")], ids=str)
@pytest.mark.parametrize("kind", ["stream", "relay_stream"])
async def test_after_the_first_part_nothing_is_sent_again(kind: str, error: PortError) -> None:
    scene = Scene()
    scene.first.stream_fault, scene.first.fault_after = error, 1
    with pytest.raises(type(error)) as caught:
        await scene.call(kind)
    assert caught.value is error and scene.calls == (1, 0)


async def test_a_refusal_of_the_body_is_an_answer() -> None:
    scene = Scene()

    async def refusing(*_: Any, **__: Any) -> Any:
        yield RelayEnd(400, {}, b"{}", None)

    scene.first.relay = refusing  # type: ignore[method-assign]
    assert (await scene.call("relay")).status == 400 and scene.calls == (0, 0)


async def test_where_all_fail_the_shortest_wait_is_told() -> None:
    scene = Scene()
    scene.first.faults = [ModelError("a", ModelFault.LIMITED, 7, answered=True)]
    scene.second.faults = [HeldBackError("b", ModelFault.UNAVAILABLE, 9)]
    with pytest.raises(ModelError) as caught:
        await scene.call("complete")
    assert str(caught.value) == "a"


async def test_the_last_failure_is_told_where_it_is_not_known_what_was_done() -> None:
    scene = Scene()
    scene.first.faults, scene.second.faults = [ModelError("a", ModelFault.LIMITED, 7)], [SilentError("b")]
    with pytest.raises(SilentError):
        await scene.call("complete")


async def test_the_upstreams_own_name_is_sent() -> None:
    scene = Scene()
    names: list[str] = []

    async def complete(request: str, *, model: str, max_tokens: int) -> Completion:
        names.append(model)
        return Completion("x", model, None, "end_turn")

    scene.first.complete = complete  # type: ignore[method-assign]
    assert (await scene.call("complete")).model == "tiny" and names == ["tiny-llama"]


async def test_a_model_that_has_left_the_catalogue_is_asked_for_by_its_name() -> None:
    """A quote that was made before still binds."""
    scene = Scene()
    found = await scene.call("complete", "retired")
    assert found.model == "retired" and scene.calls == (1, 0)


async def test_counts_go_to_an_upstream_that_counts() -> None:
    scene = Scene()
    scene.second.counts = 7
    scene.first.count_fault = NotCountedError("it does not count")
    assert (await scene.model.count_tokens(b"{}", {}, model="tiny", beta=False)).counted == 7
    assert await scene.model.prompt_tokens("x", model="tiny", max_tokens=5) == 7
    assert await scene.model.prompt_tokens("x") == 7


async def test_all_upstreams_are_closed() -> None:
    closed: list[str] = []

    class Closing(FakeModel):
        async def close(self) -> None:
            closed.append(self.text)

    await Upstreams(Catalogue((), ()), {"a": Closing(text="a"), "b": Closing(text="b")}, "m").close()
    assert closed == ["a", "b"]


@pytest.mark.parametrize("kind", CALLS)
async def test_the_upstream_that_served_is_told(kind: str) -> None:
    scene = Scene()
    scene.first.faults = [PASSED_OVER[0]]
    if kind.startswith("relay") or kind == "stream":
        parts: Any = (
            scene.model.stream("x", model="tiny", max_tokens=5)
            if kind == "stream"
            else scene.model.relay(b"{}", {}, model="tiny", beta=False, stream=kind == "relay_stream")
        )
        async with aclosing(parts):
            assert await anext(parts) == Served("b")
            assert not [part async for part in parts if isinstance(part, Served)]
    else:
        assert (await scene.call(kind)).reported.upstream == "b"
