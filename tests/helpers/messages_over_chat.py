"""Messages API requests over chat completions as tests write them down, and Anthropic's own reading of the answers."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.llm.catalogue import Api, ModelEntry
from satmeter.actors.domain.pricing import Usage
from satmeter.http.anthropic.over_chat.answer import MessageStream, message
from satmeter.http.anthropic.over_chat.request import Asked, chat_of
from tests.helpers.chat_answers import MODEL, TINY, hidden
from tests.helpers.models import UPSTREAM, served

Json = dict[str, Any]
COST: dict[str, int | str] = {"cost_msat": 5, "cost_usd": "0.000001", "balance_msat": 7}
CHARGED = Usage(3, 4)
THINKS: Json = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
WEATHER: Json = {
    "name": "weather",
    "description": "The weather somewhere.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)


def asked(model: ModelEntry = TINY, **fields: Any) -> Asked:
    """Translate a request with these fields."""
    body = {"model": MODEL, "max_tokens": 100, "messages": [user("Hello")], **fields}
    entry = ModelEntry(
        **{name: getattr(model, name) for name in model.__struct_fields__} | {"upstreams": (UPSTREAM.name,)}
    )
    return chat_of(json.dumps(body).encode(), served(entry, api=Api.OPENAI), hidden)


def chat_messages(*messages: Json, **fields: Any) -> Any:
    """Return the translated messages."""
    return asked(messages=list(messages), **fields).body["messages"]


def refusal(model: ModelEntry = TINY, **fields: Any) -> str:
    """Return the field that a refusal names."""
    with pytest.raises(RefusedError) as refused:
        asked(model, **fields).call(0)
    assert refused.value.refusal.code is Code.INVALID_REQUEST
    (field,) = refused.value.refusal.details["fields"]
    return str(field["path"])


def user(*content: Any) -> Json:
    """A turn of the user: text, or blocks."""
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def assistant(*content: Any) -> Json:
    """A turn of the model."""
    return {**user(*content), "role": "assistant"}


def tool_use(name: str = "weather", call_id: str = "toolu_1", **arguments: Any) -> Json:
    """A call of a tool."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def tool_result(content: Any = "Sunny", call_id: str = "toolu_1", **fields: Any) -> Json:
    """The result of a call."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def whole(body: bytes, **fields: Any) -> Message:
    """Return the translated answer as Anthropic's SDK reads it, strictly."""
    return Message.model_validate_json(message(body, asked(**fields), CHARGED, COST), strict=True)


def events_in(sent: bytes) -> list[Json]:
    """Return the events of a stream. Each fits the SDK's type, and bears its name."""
    found = []
    for event in sent.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        _EVENTS.validate_python(found[-1])
    return found


def streamed(stream: bytes, size: int = 10**6, **fields: Any) -> list[Json]:
    """Return the events of a translated stream, which came in pieces of this size."""
    made = MessageStream(asked(**fields))
    sent = b"".join(made.read(stream[at : at + size]) for at in range(0, len(stream), size))
    return events_in(sent + made.end(CHARGED, COST))


def gathered(events: list[Json]) -> Message:
    """Put a stream together as Anthropic's SDK does it. At most one block is open, and blocks come in order."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    index, is_open = -1, False
    for event in events:
        match event["type"]:
            case "content_block_start":
                index, is_open = index + 1, not is_open
                assert is_open and event["index"] == index
            case "content_block_delta":
                assert is_open and event["index"] == index
            case "content_block_stop":
                assert is_open and event["index"] == index
                is_open = False
        snapshot = accumulate_event(event=cast(Any, event), current_snapshot=snapshot, json_bufs=buffers)
    assert not is_open and events[-1]["type"] == "message_stop" and events[-2]["type"] == "message_delta"
    return cast(Message, snapshot)
