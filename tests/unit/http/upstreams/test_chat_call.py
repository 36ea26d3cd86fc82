"""Chat completions bodies for an upstream: what changes in them, where the limit stands, and what they may cost."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.catalogue import Api, Catalogue, ModelEntry, Upstream
from satmeter.actors.domain.llm.relays import PromptRate
from satmeter.http.upstreams.chat_call import ChatBody
from satmeter.http.upstreams.provider_call import ProviderCall
from satmeter.http.upstreams.served_models import ServedModels
from tests.helpers.models import entry, served

Json = dict[str, Any]
TINY = entry("tiny", upstream_model="tiny-llama")
SMALL = replace(TINY, context_tokens=8_192, max_output_tokens=500)
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def body(**fields: Any) -> Json:
    return {"model": "tiny", "messages": HELLO, **fields}


def said(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


class Found(NamedTuple):
    """A body that was read, and its call."""

    body: ChatBody
    call: ProviderCall

    @property
    def tells_usage(self) -> bool:
        return self.body.tells_usage

    @property
    def ignored(self) -> tuple[str, ...]:
        return self.body.ignored


def call_of(data: bytes, model: ModelEntry = TINY) -> Found:
    found = ChatBody(data, served(model, api=Api.OPENAI), lambda name: f"hidden-{len(name)}")
    return Found(found, found.call(300))


def read(model_: ModelEntry = TINY, **fields: Any) -> Found:
    return call_of(json.dumps(body(**fields)).encode(), model_)


def sent(model_: ModelEntry = TINY, **fields: Any) -> Json:
    found: Json = json.loads(read(model_, **fields).call.body.data)
    return found


def refused(model_: ModelEntry = TINY, **fields: Any) -> str:
    """The path of the field at fault."""
    with pytest.raises(RefusedError) as caught:
        read(model_, **fields)
    path: str = caught.value.refusal.details["fields"][0]["path"]
    return path


# What goes on


def test_the_body_goes_on_with_only_the_model_changed() -> None:
    data = b'{ "messages": [{"role":"user","content":"h\\u00e9"}] ,"model" : "tiny", "max_tokens":7,"zip":1.50}\n'
    call = call_of(data).call
    assert call.body.data == data.replace(b'"tiny"', b'"tiny-llama"')
    assert (call.model, call.stream, call.body.choices) == ("tiny", False, 1)


def test_a_model_of_the_same_name_goes_on_as_the_client_wrote_it() -> None:
    data = b'{"model":"tiny-2026\\u0031101", "messages":[{"role":"user"}],"max_tokens":7}'
    assert call_of(data, replace(TINY, upstream_model="tiny")).call.body.data == data


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"max_tokens": 70}, "max_tokens", 70),
        ({"max_completion_tokens": 80}, "max_tokens", 80),
        ({"max_tokens": 70, "max_completion_tokens": 80}, "max_tokens", 80),
        ({"max_tokens": 70, "max_completion_tokens": None}, "max_tokens", 70),
        ({"max_tokens": None}, "max_tokens", 300),
        ({}, "max_tokens", 300),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_limit_of_the_answer_is_where_it_may_be_lowered(fields: Json, name: str, value: int, order: int) -> None:
    data = json.dumps(dict(list(body(**fields, stream=True, user="ü").items())[::order])).encode()
    call = call_of(data).call.body
    assert call.max_tokens == value
    assert call.data[call.start : call.end] == str(value).encode()
    lowered = json.loads(call.lowered(3))
    assert lowered[name] == 3
    other = ({"max_tokens", "max_completion_tokens"} - {name}).pop()
    assert lowered.get(other) is None


@pytest.mark.parametrize("named", [{}, {"max_completion_tokens": 7}])
def test_openai_s_own_servers_get_a_limit_that_no_client_named_by_its_newer_name(named: Json) -> None:
    upstream = Upstream(TINY.upstreams[0], Api.OPENAI, "https://api.openai.com/v1", 1, 1)
    found = ChatBody(json.dumps(body(**named)).encode(), ServedModels(Catalogue((TINY,), (upstream,))), str)
    assert json.loads(found.call(300).body.data)["max_completion_tokens"] == named.get("max_completion_tokens", 300)


def test_of_two_limits_the_one_that_is_left_out_is_told() -> None:
    assert read(max_tokens=70, max_completion_tokens=80).ignored == ("max_tokens",)
    assert read(max_completion_tokens=80).ignored == ()


def test_no_answer_is_asked_for_that_is_longer_than_the_models_longest() -> None:
    assert read(SMALL, max_tokens=9_000).call.body.max_tokens == 500
    assert sent(SMALL, max_tokens=9_000)["max_tokens"] == 500
    assert sent(replace(SMALL, max_output_tokens=100))["max_tokens"] == 100
    assert sent(SMALL, max_tokens=400)["max_tokens"] == 400


@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True, 10**8])
def test_a_limit_that_is_none_is_refused(value: Any) -> None:
    assert refused(max_tokens=value) == "max_tokens"
    assert refused(max_completion_tokens=value) == "max_completion_tokens"


@pytest.mark.parametrize(
    ("options", "sends", "tells"),
    [
        (None, {"include_usage": True}, False),
        ({}, {"include_usage": True}, False),
        ({"include_usage": False, "zip": 1}, {"include_usage": True, "zip": 1}, False),
        ({"include_usage": True, "zip": 1}, {"include_usage": True, "zip": 1}, True),
    ],
)
def test_the_usage_of_a_stream_is_always_asked_for(options: Any, sends: Json, tells: bool) -> None:
    assert sent(stream=True, stream_options=options)["stream_options"] == sends
    found = read(stream=True, stream_options=options)
    assert found.call.stream and found.tells_usage is tells


def test_a_whole_answer_has_its_usage_anyway() -> None:
    assert "stream_options" not in sent(stream=False)
    assert not read().tells_usage


def test_users_go_on_as_digests_and_nothing_is_kept_beyond_the_call() -> None:
    fields: Json = {"user": "anna@example.org", "safety_identifier": "anna", "store": True, "metadata": {"who": "anna"}}
    found = sent(**fields)
    assert (found["user"], found["safety_identifier"]) == ("hidden-16", "hidden-4")
    assert (found["store"], found["metadata"]) == (None, None)
    assert read(**fields).ignored == ("store", "metadata")
    assert read(store=False, metadata={}, user=None).ignored == ()
    assert refused(user=5) == "user"


@pytest.mark.parametrize("count", [None, 1, 5])
def test_each_of_n_answers_counts(count: Any) -> None:
    assert read(n=count).call.body.choices == (count or 1)


@pytest.mark.parametrize("count", [0, -1, 129, 1.0, "2", True])
def test_a_number_of_answers_that_is_none_is_refused(count: Any) -> None:
    assert refused(n=count) == "n"


def test_a_model_that_may_think_gets_more_room() -> None:
    for fields in ({"reasoning_effort": "high"}, {"reasoning": {"effort": "low"}}, {"thinking": {"type": "enabled"}}):
        assert read(**fields).body.thinks
    for least in ({}, {"reasoning_effort": "none"}, {"reasoning_effort": None}):
        assert not read(**least).body.thinks


# What is refused by name


@pytest.mark.parametrize(
    "fields",
    [
        {"audio": {"voice": "alloy"}},
        {"modalities": ["text", "audio"]},
        {"web_search_options": {"search_context_size": "low"}},
        {"service_tier": "priority"},
        {"service_tier": ["auto"]},
        {"prediction": {"type": "content", "content": "x"}},
        {"background": True},
        {"previous_response_id": "x"},
        {"best_of": 3},
        {"n_predict": 100_000},
        {"models": ["gpt-99"]},
        {"plugins": [{"id": "web"}]},
        {"search_parameters": {"mode": "on"}},
        {"chat_template": "{{ 'x' * 10000 }}"},
        {"priority": -1},
        {"stream": "yes"},
        {"stream": True, "stream_options": []},
        {"messages": []},
        {"messages": "hello"},
    ],
)
def test_a_field_with_a_price_of_its_own_or_an_effect_beyond_the_call_is_named(fields: Json) -> None:
    assert refused(**fields) == list(fields)[-1]


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}], "messages[0].content[0].type"),
        ([{"type": "text", "text": ""}, {"type": "hologram"}], "messages[0].content[1].type"),
        ([{"type": []}], "messages[0].content[0].type"),
        ([{"type": {}}], "messages[0].content[0].type"),
        ([{"type": "file", "file": {"file_id": "file-1"}}], "messages[0].content[0].file.file_id"),
        ([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], "messages[0].content[0].image_url.url"),
    ],
)
def test_a_part_without_a_price_is_named(parts: Any, path: str) -> None:
    assert refused(SMALL, messages=said(*parts)) == path


@pytest.mark.parametrize("kind", ["web_search", "code_interpreter", "mcp", 5])
def test_tools_that_the_provider_would_run_are_named(kind: Any) -> None:
    assert refused(tools=[{"type": "function"}, {"type": kind}]) == "tools[1].type"


def test_tools_that_are_nested_too_deeply_are_refused() -> None:
    """Llama's templates indent them: 200 levels in 600 bytes become a prompt of 165,000 characters."""
    levels: list[Any] = []
    for _ in range(200):
        levels = [levels]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": levels}}}
    assert refused(SMALL, tools=[{"type": "function"}, tool]) == "tools[1]"
    tool["function"] = {"name": "f", "parameters": {"enum": [[[[[[[[1]]]]]]]]}}
    assert read(SMALL, tools=[tool])


def test_what_costs_nothing_of_its_own_passes() -> None:
    fields: Json = {
        "logprobs": True,
        "top_logprobs": 3,
        "service_tier": "auto",
        "modalities": ["text"],
        "seed": 7,
        "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "g"}}],
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "grammar": "root ::= x",
        "messages": [*HELLO, {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "x"}]}],
    }
    assert sent(**fields) == {**body(**fields), "model": "tiny-llama", "max_tokens": 300}


@pytest.mark.parametrize(
    "data",
    [
        b'{"model":"tiny","messages":[{}],"max_tokens":1,"max_tokens":100000}',
        b'{"model":"tiny","messages":[{"role":"user","content":"a","content":"b"}]}',
        b'{"model":"tiny","messages":[{}],"stream":true,"stream_options":{"\\ud800":1}}',
        b"[]",
    ],
)
def test_a_body_that_is_read_in_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        call_of(data)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"max_tokens": 1, "Max_Tokens": 100_000}, "Max_Tokens"),
        ({"MAX_TOKENS": 100_000}, "MAX_TOKENS"),
        ({"Max_Completion_Tokens": 100_000}, "Max_Completion_Tokens"),
        ({"max_to\u212aens": 100_000}, "max_to\u212aens"),
        ({"N": 100}, "N"),
        ({"Model": "dearer"}, "Model"),
        ({"me\u017f\u017fages": said(PIXEL)}, "me\u017f\u017fages"),
        ({"Stream": True}, "Stream"),
        ({"Stream_Options": {"include_usage": False}}, "Stream_Options"),
        ({"Web_Search_Options": {}}, "Web_Search_Options"),
        (
            {"stream": True, "stream_options": {"include_usage": True, "Include_Usage": False}},
            "stream_options.Include_Usage",
        ),
        ({"messages": [{"role": "user", "content": "a", "Content": [PIXEL]}]}, "messages[0].Content"),
        ({"messages": said({"type": "text", "text": "a", "Type": "image_url"})}, "messages[0].content[0].Type"),
        (
            {"messages": said({"type": "image_url", "image_url": {"url": "data:,", "URL": "http://10.0.0.1"}})},
            "messages[0].content[0].image_url.URL",
        ),
    ],
)
def test_a_name_that_a_server_blind_to_case_would_read_is_refused(fields: Json, path: str) -> None:
    # Servers in Go, such as Ollama, and in .NET: the last of the two counts there.
    assert refused(SMALL, **fields) == path


def test_other_names_may_have_capitals() -> None:
    assert sent(safetySettings=[], X_y=1)["safetySettings"] == []


def test_a_template_of_the_clients_is_refused_among_the_template_s_arguments_too() -> None:
    # vLLM before 0.11.1 lets it take the place of the model's own.
    template = {"enable_thinking": False, "chat_template": "{{ 'x' * 10**6 }}"}
    assert refused(chat_template_kwargs=template) == "chat_template_kwargs.chat_template"
    assert read(chat_template_kwargs={"enable_thinking": False})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extra_body", {"max_tokens": 100_000, "n": 100}),
        ("num_retries", 9),
        ("max_retries", 9),
        ("context_window_fallback_dict", {"tiny": "dearer"}),
        ("context_window_fallbacks", [{"tiny": ["dearer"]}]),
        ("content_policy_fallbacks", [{"tiny": ["dearer"]}]),
        ("model_list", [{"model_name": "x"}]),
        ("api_base", "http://10.0.0.1"),
        ("base_url", "http://10.0.0.1"),
        ("api_key", "x"),
        ("extra_headers", {"x": "y"}),
        ("custom_llm_provider", "dearer"),
        ("mock_response", "x"),
    ],
)
def test_what_a_gateway_would_lay_over_the_call_is_named(name: str, value: Any) -> None:
    assert refused(**{name: value}) == name


# What a prompt may cost


def test_bytes_bound_the_tokens_of_text() -> None:
    data = json.dumps(body(messages=[{"role": "user", "content": "é" * 1_000}]), ensure_ascii=False).encode()
    assert call_of(data).call.prompt_tokens_max == len(data) + 2_000


def test_the_bound_of_a_prompt_is_never_above_the_models_context() -> None:
    long = [{"role": "user", "content": "x" * 20_000}]
    assert read(SMALL, messages=long).call.prompt_tokens_max == 8_192
    assert (read(SMALL).call.prompt_tokens_max or 0) < 2_200


@pytest.mark.parametrize(
    "part",
    [
        PIXEL,
        {"type": "image_url", "image_url": "https://example.org/cat.png"},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
    ],
)
def test_an_image_or_a_file_is_bounded_by_the_context_or_refused_by_name(part: Json) -> None:
    assert read(SMALL, messages=said(part)).call.prompt_tokens_max == 8_192
    assert refused(messages=said(part)).startswith("messages[0].content[0].")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x",
        "http://10.1.2.3:8080/x",
        "http://0x7f000001/x",
        "http://2130706433/x",
        "http://127.1/x",
        "http://localhost/x",
        "http://printer/x",
        "http://printer.local./x",
        "http://metadata.google.internal/x",
        "ftp://example.org/x",
        "//example.org/x",
        "http://[",
        # Other readers of addresses take what stands before the backslash for the host.
        "http://169.254.169.254\\@example.org/x",
        "http://example.org\\@169.254.169.254/x",
        "http://user@example.org/x",
        "http://exam\tple.org/x",
        " http://example.org/x",
        "http://localhost%00.example.org/x",
        "http://224.0.0.1/x",
        "http://[::169.254.169.254]/x",
        "http://[64:ff9b::a9fe:a9fe]/x",
        "http://[2002:a9fe:a9fe::]/x",
        "",
        5,
    ],
)
def test_an_upstream_fetches_nothing_from_the_operators_own_network(url: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert refused(SMALL, messages=said(part)) == "messages[0].content[0].image_url.url"


def test_the_content_of_a_file_may_not_be_an_address_in_the_operators_own_network() -> None:
    part = {"type": "file", "file": {"filename": "x.pdf", "file_data": "http://169.254.169.254/latest/meta-data"}}
    assert refused(SMALL, messages=said(part)) == "messages[0].content[0].file.file_data"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/x?a=b@c&d=%20#e",
        "https://EXAMPLE.org:8443/x",
        "http://93.184.215.14/x",
        "http://[2606:2800:21f::1]/x",
        "https://xn--e1afmkfd.xn--p1ai/",
    ],
)
def test_a_public_address_is_the_upstreams_to_fetch(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert read(SMALL, messages=said(part)).call.prompt_tokens_max == 8_192


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({}, PromptRate.CACHE_WRITE_5M),
        ({"prompt_cache_options": {"ttl": "30m"}}, PromptRate.CACHE_WRITE_5M),
        ({"prompt_cache_retention": "24h"}, PromptRate.CACHE_WRITE_1H),
        (
            {"messages": said({"type": "text", "text": "x", "cache_control": {"ttl": "1h"}})},
            PromptRate.CACHE_WRITE_1H,
        ),
    ],
)
def test_what_an_upstream_may_write_to_its_cache_is_held_at_that_rate(fields: Json, rate: PromptRate) -> None:
    assert read(**fields).call.prompt_rate is rate


# Any body

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=9).map(lambda name: f"x_{name}"), json_values, max_size=4),
    st.sampled_from([{}, {"max_tokens": 9}, {"max_completion_tokens": 9, "max_tokens": 4}]),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_all_else_stays_wherever_it_stands(
    extra: Json, limits: Json, chance: Any, ascii_only: bool, indent: Any
) -> None:
    fields = list(body(**extra, **limits, stream=True, user="ü", store=True).items())
    chance.shuffle(fields)
    data = json.dumps(dict(fields), ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    call = call_of(data).call.body
    lowered = json.loads(call.lowered(2))
    changed = {"model": "tiny-llama", "user": "hidden-1", "store": None, "stream_options": {"include_usage": True}}
    if "max_completion_tokens" in limits:
        changed["max_completion_tokens"] = None
    assert lowered == {**dict(fields), **changed, "max_tokens": 2}
