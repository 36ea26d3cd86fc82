"""The provider of chat completions against a real llama.cpp server: the tokens that it counted are the right value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.adapters.openai.client import OpenAiProvider
from satmeter.actors.adapters.upstream.http_client import AiohttpClient
from satmeter.actors.bootstrap import build_model
from satmeter.actors.domain.llm.answers import Completion, Ending, TextDelta
from satmeter.actors.domain.llm.intents import RelayRequest
from satmeter.actors.domain.llm.relays import RelayBody, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.progress import ProgressChannel
from satmeter.actors.effects.relay import RelayEffect
from satmeter.actors.ports import ModelError, PortError
from satmeter.config.settings import Settings
from tests.helpers.anthropic_upstream import AT_MS, ONCE
from tests.helpers.patience import PATIENCE_S
from tests.helpers.upstreams import over
from tests.llamacpp.server import CONTEXT_TOKENS, MODEL, SENTENCE, LlamaCpp, running_llama

ASKED = [{"role": "user", "content": "hello what is the weather"}]
# 15 pieces and the end of the turn, which is billed.
SENTENCE_TOKENS = 16
LONG = {"ignore_eos": True, "max_tokens": 1_500}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest_asyncio.fixture
async def provider(llama: LlamaCpp) -> AsyncIterator[OpenAiProvider]:
    """The provider over the real client."""
    made = provider_of(llama)
    yield made
    await made.close()


def provider_of(llama: LlamaCpp, key: str | None = None) -> OpenAiProvider:
    return OpenAiProvider(AiohttpClient(), base_url=llama.base_url, key=key)


def body_of(**fields: Any) -> bytes:
    streams = {"stream_options": {"include_usage": True}} if fields.get("stream") else {}
    # Without its cache the same prompt costs the same each time.
    call = {"model": MODEL, "messages": ASKED, "max_tokens": 100, "cache_prompt": False, **streams, **fields}
    return json.dumps(call).encode()


async def relayed(provider: OpenAiProvider, **fields: Any) -> list[RelayPart]:
    body, stream = body_of(**fields), bool(fields.get("stream"))
    return [part async for part in provider.relay(body, {}, model=MODEL, beta=False, stream=stream)]


def end_of(parts: list[RelayPart]) -> RelayEnd:
    assert isinstance(parts[-1], RelayEnd)
    return parts[-1]


async def counted(provider: OpenAiProvider, **fields: Any) -> int:
    tokens = (await provider.count_tokens(body_of(**fields), {}, beta=False)).counted
    assert tokens is not None
    return tokens


async def idle(llama: LlamaCpp) -> None:
    """Returns once the server works on nothing."""
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(llama.busy):
            pass


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_what_the_server_counted(llama: LlamaCpp, provider: OpenAiProvider, stream: bool) -> None:
    prompt, before = await counted(provider), llama.generated_tokens()
    end = end_of(await relayed(provider, stream=stream))
    assert end.usage == Usage(prompt, SENTENCE_TOKENS)
    await idle(llama)
    assert llama.generated_tokens() - before == SENTENCE_TOKENS


async def test_a_stream_gives_its_text_and_then_its_usage(provider: OpenAiProvider) -> None:
    parts = await relayed(provider, stream=True)
    seen = [part for part in parts if isinstance(part, RelaySoFar)]
    assert "".join(part.given for part in seen) == SENTENCE
    # The whole answer may have come as one piece, with the usage.
    assert seen[-1].usage is not None and seen[-1].final
    data = b"".join(part.data for part in parts if isinstance(part, RelayBytes))
    assert data.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_is_not_asked_for_usage_has_none(provider: OpenAiProvider) -> None:
    end = end_of(await relayed(provider, stream=True, stream_options={"include_usage": False}))
    assert (end.usage, end.given_bytes) == (None, len(SENTENCE))


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_that_came_from_the_cache_are_apart(provider: OpenAiProvider, stream: bool) -> None:
    prompt = await counted(provider)
    await relayed(provider, stream=stream, cache_prompt=True)
    end = end_of(await relayed(provider, stream=stream, cache_prompt=True))
    assert end.usage == Usage(1, SENTENCE_TOKENS, prompt - 1)


async def test_all_choices_of_a_stream_are_counted_and_one_of_a_whole_answer(
    llama: LlamaCpp, provider: OpenAiProvider
) -> None:
    prompt, before = await counted(provider), llama.generated_tokens()
    streamed = end_of(await relayed(provider, stream=True, n=2)).usage
    assert streamed is not None
    assert (streamed.prompt_tokens, streamed.output_tokens) == (prompt, 2 * SENTENCE_TOKENS)
    await idle(llama)
    assert llama.generated_tokens() - before == 2 * SENTENCE_TOKENS
    # The upstream's own figure counts, although it is too low.
    whole = end_of(await relayed(provider, n=2)).usage
    assert whole is not None and whole.output_tokens == SENTENCE_TOKENS


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_of_a_tool_is_counted_with_what_is_not_shown(
    llama: LlamaCpp, provider: OpenAiProvider, stream: bool
) -> None:
    fields: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 300}
    before, parts = llama.generated_tokens(), await relayed(provider, stream=stream, **fields)
    end = end_of(parts)
    await idle(llama)
    assert end.usage is not None and end.usage.output_tokens == llama.generated_tokens() - before
    if stream:
        assert "weather" in "".join(part.given for part in parts if isinstance(part, RelaySoFar))
    else:
        assert b"tool_calls" in end.body


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_at_its_limit(provider: OpenAiProvider, stream: bool) -> None:
    end = end_of(await relayed(provider, stream=stream, max_tokens=5))
    assert end.usage is not None and end.usage.output_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_is_refused_in_the_server_s_words(
    provider: OpenAiProvider, stream: bool
) -> None:
    messages = [{"role": "user", "content": "hello " * CONTEXT_TOKENS}]
    (end,) = await relayed(provider, stream=stream, messages=messages)
    assert isinstance(end, RelayEnd) and end.status == 400
    assert json.loads(end.body)["error"]["type"] == "exceed_context_size_error"
    with pytest.raises(PortError, match="400 exceed_context_size_error"):
        await provider.complete("hello " * CONTEXT_TOKENS, model=MODEL, max_tokens=9)


async def test_a_faulty_body_is_refused(provider: OpenAiProvider) -> None:
    (end,) = await relayed(provider, messages=7)
    assert isinstance(end, RelayEnd) and end.status == 400


async def test_our_own_work(provider: OpenAiProvider) -> None:
    parts = [part async for part in provider.stream("hello", model=MODEL, max_tokens=100)]
    assert "".join(part.text for part in parts if isinstance(part, TextDelta)) == SENTENCE
    completion = parts[-1]
    assert isinstance(completion, Completion) and completion.stop_reason == "end_turn"
    prompt = await provider.prompt_tokens("hello", model=MODEL, max_tokens=100)
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.output_tokens) == (prompt, SENTENCE_TOKENS)


async def test_an_evaluation_is_held_to_its_schema_by_the_server(provider: OpenAiProvider) -> None:
    found = await provider.evaluate("hello", model=MODEL)
    # Which decision the tiny model takes is a matter of chance.
    assert found.verdict.reason.startswith("A tiny model")
    assert found.usage is not None and found.usage.output_tokens > SENTENCE_TOKENS


async def test_models(provider: OpenAiProvider) -> None:
    assert await provider.models() == [MODEL]


# Interruptions


async def test_a_stream_that_is_left_is_cancelled_at_the_server_and_costs_what_it_gave(
    llama: LlamaCpp, provider: OpenAiProvider
) -> None:
    prompt, before = await counted(provider), llama.generated_tokens()
    body, begun = body_of(stream=True, **LONG), asyncio.Event()

    def emit(reply: object) -> None:
        # On a busy machine the first piece may be a large part of the answer.
        if isinstance(reply, RelayBytes):
            begun.set()

    progress = ProgressChannel(emit)
    at = body.index(b"1500")
    intent = RelayRequest("r", RelayBody(body, 1_500, at, at + 4), {}, False, True, MODEL, 1_500, AT_MS, ONCE)
    task = asyncio.create_task(RelayEffect(over(provider)).relay(intent, progress))
    await begun.wait()
    progress.stopped = True
    task.cancel()
    outcome = await task
    await idle(llama)
    made = llama.generated_tokens() - before
    assert outcome.ending is Ending.LEFT and outcome.usage is not None
    assert (outcome.usage.prompt_tokens, made < 1_500) == (prompt, True)
    assert outcome.usage.output_tokens > 0


async def test_an_exchange_that_is_closed_in_the_middle_frees_the_server(
    llama: LlamaCpp, provider: OpenAiProvider
) -> None:
    before = llama.generated_tokens()
    parts = provider.relay(body_of(stream=True, **LONG), {}, model=MODEL, beta=False, stream=True)
    async with aclosing(parts):
        for _ in range(5):
            await anext(parts)
    await idle(llama)
    assert llama.generated_tokens() - before < 1_500


async def test_a_server_that_is_killed_in_the_middle(llama: LlamaCpp) -> None:
    with running_llama() as other:
        made = provider_of(other)
        parts = made.relay(body_of(stream=True, **LONG), {}, model=MODEL, beta=False, stream=True)
        found = [await anext(parts) for _ in range(5)]
        await asyncio.to_thread(other.kill)
        with pytest.raises(ModelError) as caught:
            found += [part async for part in parts]
        assert (caught.value.fault, caught.value.answered) == (ModelFault.FAILING, False)
        # Now there is no server any more.
        with pytest.raises(ModelError) as caught:
            await relayed(made)
        assert caught.value.fault is ModelFault.UNREACHABLE
        await made.close()


async def test_a_wrong_key() -> None:
    with running_llama("--api-key", "right") as other:
        for key, fault in (("wrong", ModelFault.REFUSED), (None, ModelFault.REFUSED), ("right", None)):
            made = provider_of(other, key)
            if fault is None:
                assert end_of(await relayed(made)).usage is not None
            else:
                with pytest.raises(ModelError) as caught:
                    await relayed(made)
                assert caught.value.fault is fault
                with pytest.raises(ModelError):
                    await made.models()
            await made.close()


async def test_the_connection_is_used_again(llama: LlamaCpp, provider: OpenAiProvider) -> None:
    for stream in (True, False, True):
        assert end_of(await relayed(provider, stream=stream)).usage is not None


async def test_a_model_of_a_models_file_is_called_by_the_server_s_own_parts(
    llama: LlamaCpp, redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        f'[[upstreams]]\nname = "local"\napi = "openai"\nbase_url = "{llama.base_url}"\n'
        f'[models.small]\nupstream = "local"\nmodel = "{MODEL}"\ninput = "1"\noutput = "2"\ncache_read = "1"\n'
        'cache_write_5m = "1"\ncache_write_1h = "1"\n'
    )
    settings = Settings.model_validate({"SATMETER_MODELS_FILE": path, "EVAL_MODEL": "small", "WORK_MODEL": "small"})
    model, _ = build_model(settings, redis, {"local": None})

    done = await model.complete("hello", model="small", max_tokens=100)
    assert (done.text, done.model) == (SENTENCE, "small") and done.usage is not None
    assert (await model.evaluate("hello")).model == "small"
    counted = await model.prompt_tokens("hello", model="small", max_tokens=100)
    assert counted == done.usage.prompt_tokens
    await model.close()
