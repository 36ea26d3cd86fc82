"""The stub model without HTTP says the same as the stub Messages API behind the SDK."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, cast

import pytest
from msgspec.structs import replace

from satmeter.actors.adapters.anthropic.client import AnthropicProvider
from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.actors.adapters.stub.model import StubProvider
from satmeter.actors.bootstrap import build_model
from satmeter.actors.domain.llm.answers import StreamPart
from satmeter.actors.ports import PortError, Provider
from satmeter.config.settings import Settings
from tests.helpers.http.over_transport import OverTransport

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
REQUESTS = ["Name three uses of a sextant.", "[reject] me", "ü\n\"'" * 300, "malware", "[break] it", "x" * 5_000, " "]


@pytest.mark.parametrize("request_text", REQUESTS)
@pytest.mark.parametrize("max_tokens", [1, 20, 4_096])
async def test_it_says_the_same_as_over_http(request_text: str, max_tokens: int) -> None:
    over_http = AnthropicProvider(OverTransport(StubMessagesApi()), base_url="http://api.test")
    direct = StubProvider(StubMessagesApi())
    try:
        assert await _said(direct, request_text, max_tokens) == await _said(over_http, request_text, max_tokens)
    finally:
        await over_http.close()


def _unreported(part: Any) -> Any:
    """The part without the provider's report: a stream has two usage objects, and its headers come over HTTP alone."""
    return replace(part, reported=None) if hasattr(part, "reported") else part


async def _said(model: Provider, request: str, max_tokens: int) -> list[Any]:
    said: list[Any] = [await model.evaluate(request, model=HAIKU)]
    try:
        said.append(_unreported(await model.complete(request, model=SONNET, max_tokens=max_tokens)))
    except PortError as error:
        said.append(type(error))
    parts: list[StreamPart] = []
    try:
        async with aclosing(model.stream(request, model=SONNET, max_tokens=max_tokens)) as stream:
            async for part in stream:
                parts.append(_unreported(part))  # noqa: PERF401 - what came before an error counts
    except PortError as error:
        said.append(type(error))
    return [*said, parts]


async def test_its_latency_comes_before_each_answer_and_before_a_stream_s_first_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("SATMETER_STUB_MODEL_LATENCY_S", "60")
    slow, _ = build_model(Settings(), cast(Any, None), {})
    stream = slow.stream("hello", model=SONNET, max_tokens=100)
    for first in (slow.evaluate("hello"), slow.complete("hello", model=SONNET, max_tokens=100), anext(stream)):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await first
