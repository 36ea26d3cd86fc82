"""A provider that is slow, and one that has fallen silent: the time-out is of silence, and is not tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx2
import pytest

from satmeter.actors.adapters.anthropic.client import AnthropicProvider
from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.actors.domain.llm.answers import Completion, StreamPart, TextDelta
from satmeter.actors.domain.llm.intents import AnswerRequest, RelayRequest
from satmeter.actors.domain.llm.relays import RelayEnd, RelayPart
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.effects.answer import AnswerEffect
from satmeter.actors.effects.progress import ProgressChannel
from satmeter.actors.effects.relay import RelayEffect
from satmeter.actors.ports import PermanentError, SilentError, TransientError
from tests.helpers.anthropic_streams import (
    MODEL,
    STOP,
    WHOLE,
    WHOLE_PARTS,
    Body,
    Provider,
    block,
    change,
    delta,
    sse,
    start,
)
from tests.helpers.anthropic_streams import model as made_over
from tests.helpers.anthropic_upstream import CALL, ONCE, answering
from tests.helpers.clocks import in_no_time, pass_time, seconds_of
from tests.helpers.upstreams import over

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
JSON = {"content-type": "application/json"}


class Slow(Body):
    """Waits for some seconds before each chunk."""

    def __init__(self, chunks: Sequence[bytes | Exception], pause_s: float, hangs: bool = False) -> None:
        super().__init__(chunks, hangs)
        self._pause_s = pause_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in super().__aiter__():
            await pass_time(self._pause_s)
            yield chunk


class Silent(httpx2.AsyncBaseTransport):
    """Takes calls and never answers them."""

    def __init__(self) -> None:
        self.calls = self.cancelled = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("unreachable")


def model(transport: httpx2.AsyncBaseTransport) -> AnthropicProvider:
    """The adapter with a time-out of ten seconds."""
    return made_over(transport, timeout_s=10.0)


async def streamed(made: AnthropicProvider) -> list[StreamPart]:
    return [part async for part in made.stream("x", model=MODEL, max_tokens=100)]


async def relayed(made: AnthropicProvider, *, stream: bool) -> list[RelayPart]:
    return [part async for part in made.relay(b"{}", {}, model=MODEL, beta=False, stream=stream)]


LONG = [sse(start(), block()), *[sse(delta("word "))] * 40, sse(change(), STOP)]


@pytest.mark.parametrize("call", ["stream", "complete", "relay"])
def test_a_healthy_answer_may_take_longer_than_the_provider_may_be_silent(call: str) -> None:
    async def work() -> Any:
        made = model(Provider(Slow(LONG, pause_s=0.5)))
        if call == "stream":
            return (await seconds_of(streamed(made)))[0], (await streamed(made))[-1]
        if call == "complete":
            return await seconds_of(made.complete("x", model=MODEL, max_tokens=100))
        seconds, parts = await seconds_of(relayed(made, stream=True))
        assert isinstance(parts, list)
        return seconds, parts[-1]

    seconds, last = in_no_time(work())
    assert seconds >= 21.0
    assert isinstance(last, Completion | RelayEnd) and last.usage == Usage(10, 20, 4, 2, 1)


def test_pings_are_no_silence() -> None:
    async def work() -> Any:
        made = model(Provider(Slow([*[PING] * 10, sse(*WHOLE)], pause_s=9.0)))
        return await seconds_of(streamed(made))

    seconds, parts = in_no_time(work())
    assert (seconds, parts) == (99.0, WHOLE_PARTS)


def test_a_whole_answer_that_comes_in_pieces_is_no_silence() -> None:
    async def work() -> Any:
        body = Slow([*[b" "] * 10, b'{"content": [], "usage": {"input_tokens": 7, "output_tokens": 3}}'], pause_s=9.0)
        return await relayed(model(Provider(body, JSON)), stream=False)

    (end,) = in_no_time(work())
    assert isinstance(end, RelayEnd) and end.usage == Usage(7, 3)


@pytest.mark.parametrize("call", ["evaluate", "complete", "stream", "relay", "relay_stream"])
def test_a_provider_that_took_a_call_and_is_silent_is_given_up_for_good(call: str) -> None:
    async def work() -> Any:
        silent = Silent()
        made = model(silent)
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "evaluate": lambda: made.evaluate("x", model="m"),
            "complete": lambda: made.complete("x", model=MODEL, max_tokens=1),
            "stream": lambda: streamed(made),
            "relay": lambda: relayed(made, stream=False),
            "relay_stream": lambda: relayed(made, stream=True),
        }
        return *(await seconds_of(calls[call]())), silent.cancelled

    seconds, failure, cancelled = in_no_time(work())
    # Ten seconds of silence, after at most five for the connection.
    assert seconds == 15.0 and type(failure) is SilentError and cancelled == 1


def test_silence_in_the_middle_ends_an_answer() -> None:
    async def work() -> Any:
        body = Slow([sse(start(), block(), delta("so far"))], pause_s=1.0, hangs=True)
        return *(await seconds_of(streamed(model(Provider(body))))), body.closed

    seconds, failure, closed = in_no_time(work())
    assert (seconds, type(failure), closed) == (11.0, SilentError, 1)


def test_an_answer_that_never_ends_is_given_up_for_good() -> None:
    async def work() -> Any:
        return await seconds_of(streamed(model(Provider(Slow([PING] * 1_000, pause_s=9.0)))))

    seconds, failure = in_no_time(work())
    assert 3_600 < seconds < 3_610 and type(failure) is PermanentError


def test_a_count_is_not_waited_for_as_long_as_an_answer() -> None:
    async def work() -> Any:
        made = made_over(Silent(), timeout_s=300)
        return await seconds_of(made.count_tokens(b"{}", {}, beta=False))

    seconds, failure = in_no_time(work())
    assert (seconds, type(failure)) == (12.0, TransientError)


@pytest.mark.parametrize("call", ["evaluation", "relay", "relay_stream"])
def test_what_is_slow_is_asked_for_once(call: str) -> None:
    async def work() -> Any:
        silent = Silent()
        failure: object
        progress, made = ProgressChannel(lambda _: None), model(silent)
        if call == "evaluation":
            intent = AnswerRequest("request:a", "say hello", MODEL, 100, False, ONCE)
            _, failure = await seconds_of(AnswerEffect(over(made), pass_time).answer(intent, progress))
        else:
            relay = RelayRequest("request:a", CALL, {}, False, call == "relay_stream", MODEL, 5, 0, ONCE)
            _, failure = await seconds_of(RelayEffect(over(made)).relay(relay, progress))
        return silent.calls, type(failure)

    assert in_no_time(work()) == (1, SilentError)


async def test_what_fails_at_once_is_still_tried_again() -> None:
    upstream = answering(529, b"")
    with pytest.raises(TransientError):
        await AnswerEffect(over(made_over(upstream)), lambda _: asyncio.sleep(0)).answer(
            AnswerRequest("request:a", "say hello", MODEL, 100, False, ONCE), ProgressChannel(lambda _: None)
        )
    assert len(upstream.requests) == 3


def test_the_stub_takes_its_time_over_each_piece_if_told_to() -> None:
    async def work() -> Any:
        return await seconds_of(streamed(model(StubMessagesApi(tokens_per_s=1))))

    seconds, parts = in_no_time(work())
    assert isinstance(parts, list)
    assert seconds == 6 * sum(isinstance(part, TextDelta) for part in parts)
