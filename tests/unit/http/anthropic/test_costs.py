"""Costs of a body beyond its bytes: found wherever they stand, counted, or refused by name."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.relays import PromptRate
from satmeter.actors.domain.pricing import ModelPrice
from satmeter.http.anthropic.body import read_call, read_count
from tests.helpers.jobs import RATES
from tests.helpers.models import entry, served

MODELS = served("sonnet")
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0=" * 500}
PNG = {"type": "base64", "media_type": "image/png", "data": "A" * 4_000}
LINK = {"type": "url", "url": "https://a.test/a.pdf"}
FILE = {"type": "file", "file_id": "file_1"}
TEXT = {"type": "text", "media_type": "text/plain", "data": "hello"}
Json = dict[str, Any]


def body(*blocks: Any, **fields: Any) -> bytes:
    said = {"role": "user", "content": list(blocks) or "hello"}
    return json.dumps({"model": "sonnet", "max_tokens": 100, "messages": [said], **fields}).encode()


def bound(*blocks: Any, **fields: Any) -> int | None:
    """The bound of a prompt with these blocks."""
    return read_call(body(*blocks, **fields), MODELS).prompt_tokens_max


def refused(*blocks: Any, **fields: Any) -> str:
    """The field that is named; by a count as by a call."""
    paths = set()
    for read in (read_call, read_count):
        with pytest.raises(RefusedError) as caught:
            read(body(*blocks, **fields), MODELS)
        paths.add(caught.value.refusal.details["fields"][0]["path"])
    (path,) = paths
    return str(path)


def document(source: Json, **fields: Any) -> Json:
    return {"type": "document", "source": source, **fields}


def fetched(source: Json) -> Json:
    """A page that the provider fetched in an earlier turn, as clients send their history back."""
    page = {"type": "web_fetch_result", "url": "https://a.test", "retrieved_at": None, "content": document(source)}
    return {"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_1", "content": page}


def result(content: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}


def ran(*outputs: Json) -> Json:
    """Return the result of an earlier turn's code."""
    content = {"type": "code_execution_result", "stdout": "", "stderr": "", "return_code": 0, "content": list(outputs)}
    return {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": content}


# A document or file where it is hidden: the blocks around a source, and the path to it.
PLACES: list[tuple[Any, str]] = [
    (document, "0.source"),
    (fetched, "0.content.content.source"),
    (lambda source: result([fetched(source)]), "0.content.0.content.content.source"),
    (lambda source: result([document(source)]), "0.content.0.source"),
    (lambda source: result([result([result([document(source)])])]), "0.content.0.content.0.content.0.source"),
    (
        lambda source: document({"type": "content", "content": [document(source)]}),
        "0.source.content.0.source",
    ),
    (
        lambda source: {
            "type": "search_result",
            "source": "https://a.test",
            "title": "t",
            "content": [document(source)],
        },
        "0.content.0.source",
    ),
    (
        lambda source: {"type": "mcp_tool_result", "tool_use_id": "t", "content": [document(source)]},
        "0.content.0.source",
    ),
    (
        lambda source: {
            "type": "bash_code_execution_tool_result",
            "tool_use_id": "t",
            "content": {"deep": [[document(source)]]},
        },
        "0.content.deep.0.0.source",
    ),
    (
        lambda source: {"type": "text", "text": "x", "citations": [{"of": {"source": source}}]},
        "0.citations.0.of.source",
    ),
]


@pytest.mark.parametrize(("place", "path"), PLACES)
def test_a_pdf_is_counted_and_what_can_t_be_priced_is_named_wherever_it_stands(place: Any, path: str) -> None:
    assert bound(place(PDF)) is None
    assert bound(place(TEXT)) is not None
    for source in (LINK, FILE, {"type": "what_comes_next"}, {"type": ["base64"]}, {}, {**TEXT, "file_id": "file_1"}):
        assert refused(place(source)) == f"messages.0.content.{path}"


@pytest.mark.parametrize(
    ("block", "path"),
    [
        (ran({"type": "code_execution_output", "file_id": "file_1"}), "content.content.0.file_id"),
        (result([ran({"type": "code_execution_output", "file_id": "f"})]), "content.0.content.content.0.file_id"),
        ({"type": "text", "text": "x", "file_id": "file_1"}, "file_id"),
        ({"type": "container_upload", "file_id": "file_1"}, "type"),
        (result([{"type": "container_upload", "file_id": "file_1"}]), "content.0.type"),
        (ran({"type": "container_upload", "file_id": 7}), "content.content.0.file_id"),
        ({"type": "tool_use", "id": "t", "name": "n", "input": {}, "more": [{"file_id": "f"}]}, "more.0.file_id"),
    ],
)
def test_a_file_of_the_operator_s_is_refused_wherever_it_stands(block: Json, path: str) -> None:
    assert refused(block) == f"messages.0.content.0.{path}"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"attachments": [{"file_id": "file_1"}]}, "attachments.0.file_id"),
        ({"documents": [document(LINK)]}, "documents.0.source"),
        ({"tools": [{"name": "t", "input_schema": {}, "files": [{"file_id": "f"}]}]}, "tools.0.files.0.file_id"),
        ({"system": [{"type": "text", "text": "x"}, document(FILE)]}, "system.1.source"),
        (
            {"messages": [{"role": "user", "content": "hi", "files": {"a": {"file_id": "f"}}}]},
            "messages.0.files.a.file_id",
        ),
        ({"output_config": {"examples": [document(LINK)]}}, "output_config.examples.0.source"),
    ],
)
def test_and_so_it_is_outside_of_blocks(fields: Json, path: str) -> None:
    assert refused(**fields) == path


def test_what_the_provider_has_encrypted_is_counted_as_its_length_is_not_known() -> None:
    assert bound(ran({"type": "code_execution_output", "file_id": None})) is not None
    secret = {"type": "encrypted_code_execution_result", "encrypted_stdout": "abc", "content": []}
    assert bound({"type": "code_execution_tool_result", "tool_use_id": "t", "content": secret}) is None


def test_an_image_counts_wherever_it_stands_and_its_bytes_are_spared_only_in_a_content() -> None:
    picture = {"type": "image", "source": PNG}
    in_content, elsewhere = bound(result([picture])), bound(ran(picture))
    assert in_content is not None and elsewhere is not None
    assert 5_000 < in_content < 7_500
    assert 9_000 < elsewhere < 11_500
    assert refused(ran({"type": "image", "source": FILE})) == "messages.0.content.0.content.content.0.source"


def test_the_caller_s_own_json_may_say_anything() -> None:
    anything = {"source": LINK, "file_id": "f", "type": "document", "encrypted_content": "x"}
    for kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        assert bound({"type": kind, "id": "t", "name": "n", "input": anything}) is not None
    tools = [{"name": "t", "input_schema": {"properties": anything}, "input_examples": [anything]}]
    schema = {"type": "json_schema", "schema": {"properties": anything}}
    assert bound(tools=tools, output_config={"format": schema}, metadata={"user_id": "me"}) is not None


def test_what_is_nested_without_end_is_refused() -> None:
    nested: Any = "x"
    for _ in range(100):
        nested = result([nested]) if isinstance(nested, dict) else result(nested)
    assert refused(nested).startswith("messages.0.content.0.content")
    deep: Any = {"type": "x"}
    for _ in range(100):
        deep = [deep]
    assert refused(ran(deep)).startswith("messages.0.content.0.content.content.0")


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "content", "type", "citations"]), inner, max_size=3)
    ),
    max_leaves=6,
)
WRAPS = st.lists(st.sampled_from(["list", "content", "other", "result"]), max_size=6)


@given(WRAPS, st.sampled_from([LINK, FILE]), JSON)
def test_no_way_of_wrapping_hides_what_can_t_be_priced(wraps: list[str], source: Json, beside: Any) -> None:
    hidden: Any = {"source": source, "beside": beside}
    for wrap in wraps:
        match wrap:
            case "list":
                hidden = [hidden]
            case "content":
                hidden = {"type": "x_result", "content": hidden, "beside": beside}
            case "other":
                hidden = {"type": "text", "other": hidden}
            case _:
                hidden = {"type": "y_tool_result", "content": {"content": hidden}}
    block = {"type": "z_tool_result", "content": {"inside": hidden}}
    with pytest.raises(RefusedError):
        read_call(body(block), MODELS)


# Searches of the provider

SEARCHED = served(entry("sonnet", price=ModelPrice("sonnet", RATES, web_search_per_1000=Decimal(10))))
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}


def test_searches_are_taken_with_their_number() -> None:
    call = read_call(body(tools=[SEARCH, {"name": "mine", "input_schema": {}}]), SEARCHED)
    assert (call.web_searches, call.billed_as) == (3, ("web_search_requests",))
    assert call.prompt_rate is PromptRate.CACHE_WRITE_5M
    assert read_call(body(), SEARCHED).web_searches == 0
    assert read_call(body(tools=[SEARCH, {**SEARCH, "name": "other"}]), SEARCHED).web_searches == 6
    hour = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert read_call(body(hour, tools=[SEARCH]), SEARCHED).prompt_rate is PromptRate.CACHE_WRITE_1H


@pytest.mark.parametrize("uses", [None, 0, -1, 101, 1.0, "3", True])
def test_searches_without_a_number_have_no_bound(uses: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        read_call(body(tools=[{**SEARCH, "max_uses": uses}]), SEARCHED)
    assert caught.value.refusal.details["fields"][0]["path"] == "tools.0.max_uses"


@pytest.mark.parametrize(
    "kind", ["web_search_20260209", "web_search_20260318", "web_fetch_20250910", "code_execution_20250825"]
)
def test_what_runs_code_or_fetches_is_refused_as_before(kind: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_call(body(tools=[{**SEARCH, "type": kind}]), SEARCHED)
    assert caught.value.refusal.details["fields"][0]["path"] == "tools.0.type"


def test_searches_of_a_model_without_a_price_for_them_are_refused_as_before() -> None:
    assert refused(tools=[SEARCH]) == "tools.0.type"


def test_searches_are_not_added_in_the_middle_of_a_conversation() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": SEARCH}}
    with pytest.raises(RefusedError):
        read_call(body(added), SEARCHED)


# What multiplies the rates

PRICED = served(entry("sonnet", price=ModelPrice("sonnet", RATES, None, {"inference_geo_us": Decimal("1.1")})))


def test_what_has_a_multiplier_may_be_asked_for_and_all_else_is_named() -> None:
    call = read_call(body(inference_geo="us"), PRICED)
    assert call.billed_as == ("inference_geo_us",)
    assert read_call(body(inference_geo="global", speed="standard", service_tier="auto"), PRICED).billed_as == ()
    read_count(body(inference_geo="us"), PRICED)
    for name, value in [("inference_geo", "eu"), ("speed", "fast"), ("service_tier", "priority"), ("inference_geo", 1)]:
        with pytest.raises(RefusedError) as caught:
            read_call(body(**{name: value}), PRICED)
        (field,) = caught.value.refusal.details["fields"]
        assert field["path"] == name
    assert refused(inference_geo="us") == "inference_geo"
    with pytest.raises(RefusedError) as caught:
        read_call(body(inference_geo="eu"), PRICED)
    assert "possible is global or us" in caught.value.refusal.details["fields"][0]["message"]


@pytest.mark.parametrize("kind", [[], {}])
def test_an_object_whose_type_is_no_word_is_looked_through(kind: Any) -> None:
    assert bound(metadata={"type": kind, "content": [{"type": "text"}]}) is not None
