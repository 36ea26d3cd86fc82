"""A session's own streams that are left: how long they run on, and what of them is charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from satmeter.actors.domain.behaviour import Command, Done, Intent
from satmeter.actors.domain.llm.answers import Ending, RequestOutcome, StreamPart, TextDelta, UsageSoFar
from satmeter.actors.domain.llm.intents import AnswerRequest
from satmeter.actors.domain.llm.token_estimate import estimated_tokens
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.effects.answer import AnswerEffect
from satmeter.actors.effects.progress import ProgressChannel
from satmeter.actors.effects.retry import ENDS_WITHIN_S, LINGERS_S, PASSES_WITHIN_S
from satmeter.actors.host.in_flight import InFlight
from satmeter.actors.ports import NotCountedError, TransientError
from tests.helpers.anthropic_upstream import ONCE
from tests.helpers.fakes import FakeModel
from tests.helpers.token_samples import TEXTS

SEEN = Usage(27, 1)
TEXT = TEXTS["answer"]
ASKED = AnswerRequest("request:a", "say hello", "sonnet", 1_000, True, ONCE)


@dataclass
class Scripted(FakeModel):
    """A model whose stream gives these parts, and hangs after them until it is let go on with the rest."""

    parts: list[StreamPart] = field(default_factory=list)
    rest: list[StreamPart] = field(default_factory=list)
    let: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        for part in self.parts:
            yield part
        self.hangs.set()
        await self.let.wait()
        for part in self.rest:
            yield part
        await asyncio.Event().wait()


async def _no_pause(_: float) -> None:
    await asyncio.sleep(0)


def of(*parts: StreamPart, rest: tuple[StreamPart, ...] = (), counts: int = 500) -> Scripted:
    return Scripted(parts=list(parts), rest=list(rest), counts=counts)


async def left(model: Scripted, *, cut: bool = True) -> tuple[RequestOutcome, float]:
    """Return the outcome of a request that is left once the stream hangs, and for how long it would have run on."""
    progress = ProgressChannel(lambda _: None)
    task = asyncio.create_task(AnswerEffect(model, _no_pause).answer(ASKED, progress))
    await model.hangs.wait()
    lingers_s = progress.lingers_s()
    progress.stopped = True
    if cut:
        task.cancel()
    else:
        model.let.set()
    return await task, lingers_s


def used(outcome: RequestOutcome) -> Usage:
    assert outcome.ending is Ending.LEFT and outcome.completion is not None
    assert outcome.completion.usage is not None
    return outcome.completion.usage


async def test_one_that_pauses_waits_for_the_last_count_which_is_charged() -> None:
    paused = UsageSoFar(SEEN, pauses=True)
    last = UsageSoFar(Usage(27, 275), final=True)
    outcome, lingers_s = await left(of(UsageSoFar(SEEN), TextDelta(TEXT), paused, rest=(last,)), cut=False)
    assert (used(outcome), lingers_s) == (Usage(27, 275), ENDS_WITHIN_S)


async def test_one_in_the_middle_of_a_block_waits_a_moment() -> None:
    last = UsageSoFar(Usage(27, 3), final=True)
    outcome, lingers_s = await left(of(UsageSoFar(SEEN), TextDelta(TEXT), rest=(TextDelta("."), last)), cut=False)
    assert (used(outcome), lingers_s) == (Usage(27, 3), PASSES_WITHIN_S)
    assert outcome.completion is not None and outcome.completion.text == TEXT + "."


async def test_one_that_goes_on_after_a_pause_ends_at_once() -> None:
    model = of(UsageSoFar(SEEN), UsageSoFar(SEEN, pauses=True), rest=(TextDelta("more"), TextDelta("still more")))
    outcome, _ = await left(model, cut=False)
    assert outcome.completion is not None and outcome.completion.text == "more"
    assert used(outcome) == Usage(27, estimated_tokens("more"))


async def test_one_that_has_given_nothing_waits_for_its_first_event() -> None:
    outcome, lingers_s = await left(of(rest=(UsageSoFar(SEEN), TextDelta("unseen"))), cut=False)
    assert (used(outcome), lingers_s) == (SEEN, LINGERS_S)


async def test_what_is_cut_is_counted_by_the_provider() -> None:
    model = of(UsageSoFar(SEEN), TextDelta(TEXT), counts=500)
    outcome, _ = await left(model)
    assert used(outcome) == Usage(27, 494)
    assert len(model.counted) == 1 and b'"sonnet"' in model.counted[0]


async def test_what_is_short_or_can_t_be_counted_is_estimated() -> None:
    short = of(UsageSoFar(SEEN), TextDelta("Hello."))
    assert used((await left(short))[0]) == Usage(27, estimated_tokens("Hello.", "sonnet")) and short.counted == []
    failing = of(UsageSoFar(SEEN), TextDelta(TEXT))
    failing.count_fault = TransientError("busy")
    assert used((await left(failing))[0]) == Usage(27, estimated_tokens(TEXT, "sonnet"))


async def test_what_was_counted_to_the_end_is_not_counted_again() -> None:
    model = of(UsageSoFar(SEEN), TextDelta(TEXT), UsageSoFar(Usage(27, 9), final=True))
    assert used((await left(model))[0]) == Usage(27, 9) and model.counted == []


@pytest.mark.parametrize("ending", [False, True])
async def test_what_is_about_to_say_what_it_has_used_is_not_cut_off(ending: bool) -> None:
    counting, counted = asyncio.Event(), asyncio.Event()
    found: list[Command] = []

    async def run(intent: Intent, progress: ProgressChannel) -> Done:
        progress.begun, progress.ending, progress.lingers_s = True, ending, lambda: 0.001
        counting.set()
        await counted.wait()
        return Done(intent, None)

    running = InFlight(run, found.append, lambda _key, _reply: None)
    running.start(ASKED)
    await counting.wait()
    running.unheard(ASKED.key)
    (task,) = running.tasks
    await asyncio.wait([task], timeout=0.05)
    assert task.done() is not ending
    counted.set()
    await asyncio.wait([task])
    assert len(found) == (1 if ending else 0)


async def test_where_nothing_is_counted_before_the_end_the_prompt_is_counted_or_left_to_an_estimate() -> None:
    outcome, lingers_s = await left(of(TextDelta("Hello.")))
    assert (used(outcome), lingers_s) == (Usage(500, estimated_tokens("Hello.", "sonnet")), PASSES_WITHIN_S)
    failing = of(TextDelta("Hello."))
    failing.count_fault = NotCountedError("it does not count")
    completion = (await left(failing))[0].completion
    assert completion is not None and (completion.text, completion.usage) == ("Hello.", None)
