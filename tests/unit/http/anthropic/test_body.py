"""Reading of a Messages API body: the place of max_tokens, the bound of its prompt, the features that cost extra."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.relays import PromptRate
from satmeter.http.anthropic.body import read_call, read_count
from satmeter.http.upstreams.provider_call import ProviderCall
from tests.helpers.models import entry, served

MODELS = served("sonnet", "claude-haiku-4-5", entry("mine", upstream_model="theirs", aliases=("small",)))
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PNG = {"type": "base64", "media_type": "image/png", "data": "A" * 4_000}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "A" * 4_000}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "sonnet", "max_tokens": 100, "messages": HELLO, **fields}


def said(*blocks: Any) -> list[Any]:
    return [{"role": "user", "content": list(blocks)}]


def read(**fields: Any) -> ProviderCall:
    return read_call(json.dumps(body(**fields)).encode(), MODELS)


def refused(data: bytes) -> str:
    """The path of the field at fault."""
    with pytest.raises(RefusedError) as caught:
        read_call(data, MODELS)
    assert caught.value.refusal.code == "invalid_request"
    path: str = caught.value.refusal.details["fields"][0]["path"]
    return path


# Where max_tokens stands

# What may cost something by these names, wherever it stands, has tests of its own.
COSTLY = {"file_id", "source", "type"}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=9).filter(lambda name: name not in COSTLY), inner, max_size=3)
    ),
    max_leaves=8,
)
KNOWN = {"model", "max_tokens", "messages", "stream", "thinking", "tools", "system", "context_management"}
UNPRICED = {"mcp_servers", "container", "fallbacks", "fallback_credit_token", "compaction", "thread", "billing_policy"}
UNPRICED |= {"user_profile_id", "speed", "service_tier", "inference_geo"}


@given(
    extra=st.dictionaries(
        st.text(max_size=9).filter(lambda name: name.casefold() not in KNOWN | UNPRICED), json_values
    ),
    order=st.randoms(),
    max_tokens=st.integers(0, 10**7),
    less=st.integers(0, 10**7),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_only_the_number_of_max_tokens_changes(
    extra: dict[str, Any], order: Any, max_tokens: int, less: int, ascii_only: bool, indent: int | None
) -> None:
    fields = list({**extra, **body(max_tokens=max_tokens)}.items())
    order.shuffle(fields)
    data = json.dumps(dict(fields), ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        assert refused(data) == ""
        return
    call = read_call(data, MODELS)
    assert call.body.lowered(max_tokens) == data
    assert json.loads(call.body.lowered(less)) == dict(fields) | {"max_tokens": less}
    assert data.startswith(call.body.lowered(less)[: call.body.start])
    assert data.endswith(call.body.lowered(less)[call.body.start + len(str(less)) :])


def test_a_max_tokens_further_in_is_none() -> None:
    data = b'{"model":"sonnet","messages":[{"role":"user","content":"x","max_tokens":7}],"max_tokens" : 12 }'
    call = read_call(data, MODELS)
    assert call.body.lowered(9) == data.replace(b"12", b"9")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"{}x",
        b'{"model"}',
        b'{"model":"sonnet",}',
        b'{"a":1 "b":2}',
        b'{"a":NaN}',
        b'{"a":' + b"[" * 200_000,
        b'\xff{"a":1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"max_tokens":1,"max_tokens":2}',
        b'{"messages":[{"role":"user","role":"user"}]}',
    ],
)
def test_what_is_no_json_object_or_says_a_name_twice_is_refused(data: bytes) -> None:
    assert refused(data) == ""


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**8}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages.0.role"),
        ({"messages": [{"role": "dog", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ],
)
def test_a_field_at_fault_is_named(fields: dict[str, Any], path: str) -> None:
    assert refused(json.dumps(body(**fields)).encode()) == path


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(RefusedError) as caught:
        read_call(json.dumps(body(model="nobody")).encode(), MODELS)
    assert caught.value.refusal.code == "model_not_found"
    assert [field["path"] for field in caught.value.refusal.details["fields"]] == ["model"]


def test_without_max_tokens_it_is_refused_but_may_be_counted() -> None:
    data = json.dumps({"model": "sonnet", "messages": HELLO}).encode()
    assert refused(data) == "max_tokens"
    read_count(data, MODELS)


@pytest.mark.parametrize(("name", "priced"), [("sonnet", "sonnet"), ("claude-haiku-4-5-20251001", "claude-haiku-4-5")])
def test_a_dated_model_has_the_price_of_its_kind_and_goes_on_by_its_name(name: str, priced: str) -> None:
    call = read(model=name)
    assert call.model == priced and json.loads(call.body.data)["model"] == name


def test_a_model_of_another_name_upstream_goes_on_by_that_name_and_nothing_else_changes() -> None:
    data = b'{ "model":"small", "messages":[{"role":"user","content":"h\\u00e9"}],\t"max_tokens":7 }'
    call = read_call(data, MODELS)
    assert (call.model, call.body.data) == ("mine", data.replace(b"small", b"theirs"))
    assert call.body.lowered(3) == data.replace(b"small", b"theirs").replace(b"7", b"3")
    assert read_count(data, MODELS) == ("mine", call.body.data)


# What a prompt may cost


def test_bytes_bound_text() -> None:
    data = json.dumps(body(messages=said({"type": "text", "text": "é" * 1_000}))).encode()
    bound = read_call(data, MODELS).prompt_tokens_max
    assert bound is not None and len(data) <= bound <= len(data) + 2_000


def test_an_image_is_bound_by_what_an_image_may_have_and_not_by_its_bytes() -> None:
    one = read(messages=said({"type": "image", "source": PNG})).prompt_tokens_max
    nested = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PNG}]}
    two = read(messages=said({"type": "image", "source": PNG}, nested)).prompt_tokens_max
    elsewhere = {"type": "url", "url": "https://a.test/a.png"}
    there = read(messages=said({"type": "image", "source": elsewhere})).prompt_tokens_max
    assert one is not None and two is not None and there is not None
    assert 5_000 < there < 5_000 + 2_500
    assert 5_000 < one < 5_000 + 2_500
    assert 10_000 < two < 10_000 + 2_500


def test_a_pdf_has_to_be_counted_and_a_text_document_has_not() -> None:
    assert read(messages=said({"type": "document", "source": PDF})).prompt_tokens_max is None
    inside = {"type": "content", "content": [{"type": "document", "source": PDF}]}
    assert read(messages=said({"type": "document", "source": inside})).prompt_tokens_max is None
    text = {"type": "text", "media_type": "text/plain", "data": "hello"}
    assert read(messages=said({"type": "document", "source": text})).prompt_tokens_max


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({}, PromptRate.INPUT),
        ({"cache_control": None}, PromptRate.INPUT),
        ({"cache_control": {"type": "ephemeral"}}, PromptRate.CACHE_WRITE_5M),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, PromptRate.CACHE_WRITE_5M),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, PromptRate.CACHE_WRITE_1H),
        ({"cache_control": {"type": "ephemeral", "ttl": "9h"}}, PromptRate.CACHE_WRITE_1H),
        ({"tools": [{"name": "t", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, PromptRate.CACHE_WRITE_1H),
        (
            {"messages": said({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}})},
            PromptRate.CACHE_WRITE_5M,
        ),
    ],
)
def test_what_is_marked_for_the_cache_is_held_at_the_rate_of_its_lifetime(
    fields: dict[str, Any], rate: PromptRate
) -> None:
    assert read(**fields).prompt_rate is rate


def test_a_thought_must_fit_into_what_is_left() -> None:
    thought = {"type": "enabled", "budget_tokens": 2_000}
    assert read(max_tokens=5_000, thinking=thought).least_tokens == 2_064
    # The provider's to refuse, or to take where thoughts are interleaved.
    assert read(max_tokens=1_000, thinking=thought).least_tokens == 0
    assert read(thinking={"type": "adaptive"}).least_tokens == 0


# What costs extra


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"mcp_servers": [{"type": "url", "url": "https://a.test"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"container": {"skills": [{"type": "anthropic", "skill_id": "pdf"}]}}, "container"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"thread": {"type": "continue"}}, "thread"),
        ({"billing_policy": {"type": "billing_policy"}}, "billing_policy"),
        ({"speed": "fast"}, "speed"),
        ({"speed": ["standard"]}, "speed"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits.0.type"),
        ({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "mine"}, {"type": "web_fetch_20260318"}]}, "tools.1.type"),
        ({"tools": [{"type": "code_execution_20260521"}]}, "tools.0.type"),
        ({"tools": [{"type": "advisor_20260301", "model": "x"}]}, "tools.0.type"),
        ({"tools": [{"type": "mcp_toolset"}]}, "tools.0.type"),
        ({"tools": [{"type": "tool_search_tool_bm25_20251119"}]}, "tools.0.type"),
        ({"tools": [{"type": "what_comes_next_2027"}]}, "tools.0.type"),
        ({"tools": [{"type": ["custom"]}]}, "tools.0.type"),
        (
            {"messages": said({"type": "image", "source": {"type": "url", "data": "https://a.test/a.png"}})},
            "messages.0.content.0.source",
        ),
        (
            {"messages": said({"type": "image", "source": {"type": "file", "file_id": "file_1"}})},
            "messages.0.content.0.source",
        ),
        (
            {"messages": said({"type": "document", "source": {"type": "url", "url": "https://a.test/a.pdf"}})},
            "messages.0.content.0.source",
        ),
        ({"messages": said({"type": "container_upload", "file_id": "f"})}, "messages.0.content.0.type"),
        ({"messages": said({"type": "what_comes_next"})}, "messages.0.content.0.type"),
        (
            {
                "messages": said(
                    {
                        "type": "tool_addition",
                        "tool": {"type": "tool_definition", "definition": {"type": "web_search_20260318"}},
                    }
                )
            },
            "messages.0.content.0.tool.definition.type",
        ),
        (
            {"messages": said({"type": "tool_result", "content": [{"type": "image", "source": {"type": "url"}}]})},
            "messages.0.content.0.content.0.source",
        ),
    ],
)
def test_what_costs_extra_is_refused_by_its_name(fields: dict[str, Any], path: str) -> None:
    assert refused(json.dumps(body(**fields)).encode()) == path


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": [], "container": None, "speed": "standard", "service_tier": "auto", "inference_geo": "global"},
        {"tools": [{"name": "mine", "input_schema": {}}, {"type": "custom", "name": "also mine"}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "computer_20251124", "name": "computer"}]},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "clear_thinking_20251015"}]}},
        {"output_config": {"effort": "high"}, "metadata": {"user_id": "me"}, "stop_sequences": ["x"], "top_k": 3},
        {"a_field_of_tomorrow": {"deeply": ["nested", {"type": "anything"}]}},
        {
            "system": [{"type": "text", "text": "You are terse."}],
            "messages": [
                {"role": "user", "content": "hello"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "…", "signature": "abc"},
                        {"type": "redacted_thinking", "data": "abc"},
                        {"type": "tool_use", "id": "t", "name": "mine", "input": {"cache_control": "no mark"}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]},
                {"role": "system", "content": "Go on."},
            ],
        },
    ],
)
def test_all_else_passes(fields: dict[str, Any]) -> None:
    assert read(**fields).prompt_tokens_max


SMALL = served(entry("small", context_tokens=5_000, max_output_tokens=300))


@pytest.mark.parametrize(("asked", "sent"), [(299, 299), (300, 300), (301, 300), (64_000, 300)])
def test_a_limit_above_the_models_longest_answer_is_lowered_to_it(asked: int, sent: int) -> None:
    data = json.dumps(body(model="small", max_tokens=asked)).encode()
    found = read_call(data, SMALL).body
    assert found.max_tokens == sent and found.data[found.start : found.end] == b"%d" % sent
    assert json.loads(found.data) == body(model="small", max_tokens=sent)
    assert (found.data == data) is (asked == sent)
    assert json.loads(found.lowered(7)) == body(model="small", max_tokens=7)


def test_a_prompts_bound_is_never_above_the_models_context() -> None:
    def bound(text: str) -> int | None:
        messages = [{"role": "user", "content": text}]
        return read_call(json.dumps(body(model="small", messages=messages)).encode(), SMALL).prompt_tokens_max

    short = bound("hello")
    assert short is not None and short < 5_000
    assert bound("hello " * 2_000) == 5_000
    pdf = [{"type": "document", "source": PDF}]
    data = json.dumps(body(model="small", messages=said(*pdf))).encode()
    assert read_call(data, SMALL).prompt_tokens_max is None


@pytest.mark.parametrize("name", ["Max_Tokens", "MODEL", "Stream", "max_to\u212aens", "Mcp_Servers"])
def test_a_name_that_a_server_blind_to_case_would_read_is_refused(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_call(json.dumps({**body(), name: 1}).encode(), MODELS)
    assert caught.value.refusal.details["fields"][0]["path"] == name
