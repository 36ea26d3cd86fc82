"""Answers of servers that speak OpenAI's shape, as their documentation and users show them, and what is read from them.

Sources: LiteLLM's pages on prompt caching and on the proxy's errors, Ollama's page on OpenAI's API and streams that
users recorded, vLLM's `chat_completion_stream_generator`, OpenRouter's pages on streaming and usage accounting,
DeepSeek's and Groq's API references.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.actors.domain.llm.relays import RelayEnd
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.ports import MissingModelError, ModelError, ToldError
from tests.helpers.chat_upstream import answering, data_of, parts_of, streaming

LITELLM = b"""{"id":"chatcmpl-6f0d","created":1728000000,"model":"claude-sonnet-5","object":"chat.completion",
"system_fingerprint":null,"choices":[{"finish_reason":"stop","index":0,"message":{"content":"Done.","role":"assistant",
"tool_calls":null,"function_call":null}}],"usage":{"completion_tokens":300,"prompt_tokens":2006,"total_tokens":2306,
"completion_tokens_details":null,"prompt_tokens_details":{"audio_tokens":null,"cached_tokens":1920,
"cache_creation_tokens":40},"cache_creation_input_tokens":40,"cache_read_input_tokens":1920}}"""
OLLAMA = b"""{"id":"chatcmpl-838","object":"chat.completion","created":1744438886,"model":"qwen2.5:7b",
"system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"","tool_calls":[{
"id":"call_hk81qg8b","index":0,"type":"function","function":{"name":"run_command","arguments":"{\\"command\\":\\"ls\\"}"}}]},
"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":26,"completion_tokens":28,"total_tokens":54}}"""
VLLM = b"""{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{
"role":"assistant","reasoning_content":"Hm.","content":"Done.","tool_calls":[]},"logprobs":null,"finish_reason":"stop",
"stop_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":21,"completion_tokens":9,"prompt_tokens_details":null},
"prompt_logprobs":null,"kv_transfer_params":null}"""
OPENROUTER = b"""{"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","object":"chat.completion","created":1,
"choices":[{"logprobs":null,"finish_reason":"stop","native_finish_reason":"end_turn","index":0,"message":{
"role":"assistant","content":"Hi","refusal":null,"reasoning":null}}],"usage":{"prompt_tokens":194,
"completion_tokens":2,"total_tokens":196,"cost":0.95,"cost_details":{"upstream_inference_cost":19},
"prompt_tokens_details":{"cached_tokens":100,"cache_write_tokens":50,"audio_tokens":0},
"completion_tokens_details":{"reasoning_tokens":0}}}"""
DEEPSEEK = b"""{"id":"930c","object":"chat.completion","created":1,"model":"deepseek-reasoner","choices":[{"index":0,
"message":{"role":"assistant","content":"Hi","reasoning_content":"Hm."},"logprobs":null,"finish_reason":"stop"}],
"usage":{"prompt_tokens":100,"completion_tokens":90,"total_tokens":190,"prompt_tokens_details":{"cached_tokens":64},
"completion_tokens_details":{"reasoning_tokens":80},"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36},
"system_fingerprint":"fp"}"""
XAI = b"""{"id":"0d","object":"chat.completion","created":1,"model":"grok","choices":[{"index":0,"message":{
"role":"assistant","content":"Hi","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":32,
"completion_tokens":9,"total_tokens":341,"prompt_tokens_details":{"text_tokens":32,"cached_tokens":6},
"completion_tokens_details":{"reasoning_tokens":300}}}"""


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (LITELLM, Usage(46, 300, 1_920, 40)),
        (OLLAMA, Usage(26, 28)),
        (VLLM, Usage(12, 9)),
        (OPENROUTER, Usage(44, 2, 100, 50)),
        (DEEPSEEK, Usage(36, 90, 64)),
        (XAI, Usage(26, 309, 6)),
    ],
    ids=["LiteLLM", "Ollama", "vLLM", "OpenRouter", "DeepSeek", "xAI"],
)
async def test_a_whole_answer(body: bytes, usage: Usage) -> None:
    (end,) = await parts_of(answering(200, body), stream=False)
    assert isinstance(end, RelayEnd) and (end.body, end.usage) == (body, usage)


def chunks(*bodies: str) -> bytes:
    return "".join(f"data: {body}\n\n" for body in bodies).encode()


OLLAMA_STREAM = chunks(
    '{"id":"chatcmpl-768","object":"chat.completion.chunk","created":1,"model":"q","system_fingerprint":"fp_ollama",'
    '"choices":[{"index":0,"delta":{"role":"assistant","content":"My name is Ben."},"finish_reason":null}]}',
    '{"id":"chatcmpl-768","object":"chat.completion.chunk","created":1,"model":"q","system_fingerprint":"fp_ollama",'
    '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}',
    '{"id":"chatcmpl-768","object":"chat.completion.chunk","created":1,"model":"q","system_fingerprint":"fp_ollama",'
    '"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":6,"total_tokens":36}}',
    "[DONE]",
)
VLLM_STREAM = chunks(
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    '{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
    '"usage":{"prompt_tokens":12,"total_tokens":12,"completion_tokens":0}}',
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    '{"content":"Done"},"logprobs":null,"finish_reason":null}],'
    '"usage":{"prompt_tokens":12,"total_tokens":13,"completion_tokens":1}}',
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    '{"content":"."},"logprobs":null,"finish_reason":"stop","stop_reason":null}],'
    '"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3}}',
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    '"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3}}',
    "[DONE]",
)
OPENROUTER_STREAM = b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + chunks(
    '{"id":"gen-1","provider":"X","model":"m","object":"chat.completion.chunk","created":1,"choices":[{"index":0,'
    '"delta":{"role":"assistant","content":"","reasoning":"Hm.","reasoning_details":[{"type":"reasoning.text",'
    '"text":"Hm.","index":0}]},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}',
    '{"id":"gen-1","provider":"X","model":"m","object":"chat.completion.chunk","created":1,"choices":[{"index":0,'
    '"delta":{"role":"assistant","content":"Hi"},"finish_reason":"stop","native_finish_reason":"stop"}]}',
    '{"id":"gen-1","provider":"X","model":"m","object":"chat.completion.chunk","created":1,"choices":[{"index":0,'
    '"delta":{"role":"assistant","content":""},"finish_reason":null,"native_finish_reason":null}],'
    '"usage":{"prompt_tokens":194,"completion_tokens":2,"total_tokens":196,"cost":0.95,"is_byok":false,'
    '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}}',
    "[DONE]",
)
GROQ_STREAM = chunks(
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[{"index":0,'
    '"delta":{"role":"assistant","content":"Hi"},"logprobs":null,"finish_reason":null}],"x_groq":{"id":"req_1"}}',
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[{"index":0,'
    '"delta":{},"logprobs":null,"finish_reason":"stop"}],"x_groq":{"id":"req_1","usage":{"queue_time":0.01,'
    '"prompt_tokens":18,"prompt_time":0.001,"completion_tokens":5,"completion_time":0.01,"total_tokens":23}}}',
    "[DONE]",
)
LITELLM_STREAM = chunks(
    '{"id":"c","created":1,"model":"m","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi",'
    '"role":"assistant"}}]}',
    '{"id":"c","created":1,"model":"m","object":"chat.completion.chunk","choices":[{"finish_reason":"stop","index":0,'
    '"delta":{}}]}',
    '{"id":"c","created":1,"model":"m","object":"chat.completion.chunk","choices":[{"index":0,"delta":{}}],'
    '"usage":{"completion_tokens":4,"prompt_tokens":20,"total_tokens":24,"cache_creation_input_tokens":0,'
    '"cache_read_input_tokens":0,"prompt_tokens_details":{"cached_tokens":0}}}',
    "[DONE]",
)


@pytest.mark.parametrize("size", [1, 33, 10**6])
@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        (OLLAMA_STREAM, Usage(30, 6)),
        (VLLM_STREAM, Usage(12, 3)),
        (OPENROUTER_STREAM, Usage(194, 2)),
        (GROQ_STREAM, Usage(18, 5)),
        (LITELLM_STREAM, Usage(20, 4)),
    ],
    ids=["Ollama", "vLLM", "OpenRouter", "Groq", "LiteLLM"],
)
async def test_a_stream(sent: bytes, usage: Usage, size: int) -> None:
    parts = await parts_of(streaming(*(sent[at : at + size] for at in range(0, len(sent), size))))
    end = parts[-1]
    assert isinstance(end, RelayEnd) and (data_of(parts), end.usage) == (sent, usage)


def error(code: Any, kind: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": "words", "type": kind, "param": None, "code": code, **more}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error(400, "BadRequestError")),  # vLLM
        (400, error("400", "invalid_request_error")),  # LiteLLM
        (400, error("context_length_exceeded", "invalid_request_error")),  # OpenAI, LiteLLM
        (400, error(400, metadata={"raw": "of the provider", "provider_name": "X"})),  # OpenRouter
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}),  # FastAPI's servers
    ],
)
async def test_a_refusal_of_a_body_is_the_client_s(status: int, body: dict[str, Any]) -> None:
    (end,) = await parts_of(answering(status, body))
    assert isinstance(end, RelayEnd) and (end.status, json.loads(end.body)) == (status, body)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (401, error("401", "auth_error"), ModelFault.REFUSED),  # LiteLLM
        (400, error("400", "budget_exceeded"), ModelFault.REFUSED),  # LiteLLM: our key has used its budget up
        (402, error(402), ModelFault.REFUSED),  # OpenRouter, DeepSeek
        (429, error("429", "throttling_error"), ModelFault.LIMITED),  # LiteLLM
        (503, error(503), ModelFault.UNAVAILABLE),  # OpenRouter: no provider meets the requirements
        (500, error(None, "api_error"), ModelFault.FAILING),  # Ollama
    ],
)
async def test_a_refusal_of_ours_is_the_operator_s(status: int, body: dict[str, Any], fault: ModelFault) -> None:
    with pytest.raises(ModelError) as caught:
        await parts_of(answering(status, body))
    assert caught.value.fault is fault


async def test_a_model_that_is_not_there() -> None:
    answers = [answering(404, body) for body in (error(None, "api_error"), error(404, "NotFoundError"), {})]
    answers.append(answering(400, error("model_not_found", "invalid_request_error")))
    for answer in answers:
        with pytest.raises(MissingModelError):
            await parts_of(answer)


async def test_openrouter_breaks_off_with_an_error_beside_the_choices() -> None:
    begun = OPENROUTER_STREAM[: OPENROUTER_STREAM.index(b'data: {"id":"gen-1"', 300)]
    broken = chunks(
        '{"id":"gen-1","object":"chat.completion.chunk","created":1,"model":"m","provider":"X","error":{"code":502,'
        '"message":"words"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}'
    )
    found: list[Any] = []
    with pytest.raises(ToldError):
        await parts_of(streaming(begun, broken), found=found)
    assert data_of(found) == begun + broken
