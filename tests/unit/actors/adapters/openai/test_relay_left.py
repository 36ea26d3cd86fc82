"""Calls of chat completions whose client leaves, through the effect: how long they run on, and what is known then."""

from __future__ import annotations

import asyncio
import json

import pytest

from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.llm.chat_prompt import estimated_prompt
from satmeter.actors.domain.llm.intents import RelayRequest
from satmeter.actors.domain.llm.relays import RelayBody, RelayBytes, RelayOutcome
from satmeter.actors.domain.llm.token_estimate import estimated_tokens
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.effects.progress import ProgressChannel
from satmeter.actors.effects.relay import RelayEffect
from satmeter.actors.effects.retry import ENDS_WITHIN_S, LINGERS_S, PASSES_WITHIN_S
from tests.helpers.anthropic_upstream import AT_MS, ONCE
from tests.helpers.chat_upstream import (
    BODY,
    DONE,
    MODEL,
    STOP,
    WHOLE_STREAM,
    Answer,
    FakeHttp,
    Sent,
    answering,
    choice,
    chunk,
    message,
    provider,
    sse,
    streaming,
)
from tests.helpers.upstreams import over

CALL = RelayBody(BODY, 5, BODY.index(b"5,"), BODY.index(b"5,") + 1)
TEXT = "Héllo, wörld 🌍"


def upstream(answer: Answer, *, counts: bool) -> FakeHttp:
    """An upstream with this answer; it counts a prompt as 27 tokens, or does not count."""

    def reply(sent: Sent) -> Answer:
        if sent.url.endswith("/input_tokens"):
            return answering(200, {"input_tokens": 27}) if counts else answering(404, b"")
        return answer

    return FakeHttp(reply)


async def left(
    http: FakeHttp, *, stream: bool = True, after: int = 2, body: RelayBody = CALL
) -> tuple[RelayOutcome, float]:
    """Return the outcome of a call that is left after so many parts were given, and for how long it would run on."""
    given = asyncio.Event()
    said: list[object] = []

    def emit(reply: object) -> None:
        said.append(reply)
        if len([part for part in said if isinstance(part, RelayBytes)]) >= after:
            given.set()

    progress = ProgressChannel(emit)
    intent = RelayRequest("request:a", body, {}, False, stream, MODEL, 5, AT_MS, ONCE)
    task = asyncio.create_task(RelayEffect(over(provider(http))).relay(intent, progress))
    if after:
        await given.wait()
    else:
        while not http.sent:
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    lingers_s = progress.lingers_s()
    progress.stopped = True
    task.cancel()
    return await task, lingers_s


async def test_a_stream_in_the_middle_costs_the_counted_prompt_and_its_text() -> None:
    answer = streaming(*(sse(event) for event in WHOLE_STREAM[:3]), hangs=True)
    outcome, lingers_s = await left(upstream(answer, counts=True), after=3)
    assert (outcome.ending, outcome.charged, lingers_s) == (Ending.LEFT, True, PASSES_WITHIN_S)
    assert outcome.usage == Usage(27, estimated_tokens(TEXT, MODEL)) and answer.closed == 1


async def test_where_the_upstream_does_not_count_the_charge_is_left_to_the_estimate() -> None:
    answer = streaming(*(sse(event) for event in WHOLE_STREAM[:3]), hangs=True)
    outcome, _ = await left(upstream(answer, counts=False), after=3)
    assert (outcome.charged, outcome.usage) == (True, None)
    assert outcome.given_tokens == estimated_tokens(TEXT, MODEL)
    assert outcome.prompt_estimate == estimated_prompt(json.loads(BODY), MODEL).tokens


async def test_who_leaves_gets_no_discount_on_images() -> None:
    """Of an image the estimate may be ten times too low. The hold's is half of the model's longest prompt."""
    answer = streaming(*(sse(event) for event in WHOLE_STREAM[:3]), hangs=True)
    image = b'"content":[{"type":"\\u0069mage_url"},{"type":"text","text":"hi"}]'
    body = RelayBody(b'{"messages":[{"role":"user",%b}]}' % image, 5, 0, 0)
    outcome, _ = await left(upstream(answer, counts=False), after=3, body=body)
    assert (outcome.charged, outcome.usage, outcome.prompt_estimate) == (True, None, None)


async def test_a_stream_whose_choices_have_ended_waits_for_the_usage() -> None:
    answer = streaming(sse(chunk(choice("x"))), sse(STOP), hangs=True)
    _, lingers_s = await left(upstream(answer, counts=False))
    assert lingers_s == ENDS_WITHIN_S


async def test_a_stream_that_was_counted_to_its_end_is_charged_by_it() -> None:
    answer = streaming(sse(chunk(choice("x"))), sse(*WHOLE_STREAM[3:5]), hangs=True)
    http = upstream(answer, counts=True)
    outcome, _ = await left(http)
    assert (outcome.usage, len(http.sent)) == (Usage(18, 16), 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_has_given_nothing_costs_its_prompt(stream: bool) -> None:
    answer = streaming(hangs=True)
    outcome, lingers_s = await left(upstream(answer, counts=True), stream=stream, after=0)
    assert (outcome.charged, outcome.usage) == (True, Usage(27, 0))
    assert lingers_s == (LINGERS_S if stream else 0)
    assert answer.closed == 1


async def test_one_that_runs_on_to_its_first_event_ends_there() -> None:
    """No count is to come before the end, so that it is not worth waiting for."""
    progress = ProgressChannel(lambda _: setattr(progress, "stopped", True))
    answer = streaming(*(sse(event) for event in WHOLE_STREAM))
    intent = RelayRequest("request:a", CALL, {}, False, True, MODEL, 5, AT_MS, ONCE)
    outcome = await RelayEffect(over(provider(upstream(answer, counts=False)))).relay(intent, progress)
    assert (outcome.ending, answer.taken) == (Ending.LEFT, 1)


@pytest.mark.parametrize(
    ("answer", "stream", "given_bytes"),
    [
        (streaming(sse(*WHOLE_STREAM[:4], DONE)), True, len(TEXT.encode())),
        (answering(200, message(TEXT, None, reasoning="hm")), False, len(TEXT.encode()) + 2),
        (streaming(sse(*WHOLE_STREAM)), True, 0),
    ],
)
async def test_a_whole_answer_without_a_usage_tells_its_size(answer: Answer, stream: bool, given_bytes: int) -> None:
    intent = RelayRequest("request:a", CALL, {}, False, stream, MODEL, 5, AT_MS, ONCE)
    outcome = await RelayEffect(over(provider(answer))).relay(intent, ProgressChannel(lambda _: None))
    assert (outcome.ending, outcome.charged, outcome.given_bytes) == (Ending.COMPLETE, True, given_bytes)
    assert (outcome.usage is None) is (given_bytes > 0)
