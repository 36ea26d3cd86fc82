"""Translation of a Responses request to a body of chat completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ....actors.domain.llm.catalogue import Api, ModelEntry
from ....actors.domain.llm.relays import RelayBody
from ...response.errors import invalid
from ...translation import request as common
from ...upstreams.chat_costs import bound_of_chat
from ...upstreams.provider_call import ProviderCall
from .. import request_schema as wire
from ..reading import Given, shown_ignored
from ..thoughts import ChatThought, Thought
from ..tools import Tools
from ..wanted import Wanted
from .messages import messages_of
from .tool_fields import tool_fields

_LEAST_EFFORTS: Final = (None, "none", "minimal")
_UNBOUNDED: Final = "What it costs can't be known here: the model's longest prompt is not"


class Asked(msgspec.Struct, frozen=True):
    """A translated request: `body` for chat completions, without the limit of the answer, and the other options.

    `limit_field` is the limit's name there. `thinks`: the client asked the model to think, which counts towards
    `max_tokens`. `ignored` are the names of fields that were sent and have no effect.
    """

    entry: ModelEntry
    limit_field: str
    body: dict[str, Any]
    thinks: bool
    max_tokens: int | None
    stream: bool
    ignored: tuple[str, ...]
    wanted: Wanted

    def call(self, default_tokens: int) -> ProviderCall:
        """Return the call. `default_tokens` is the limit if the client named none. Raises `RefusedError` (400)."""
        most = self.entry.max_output_tokens
        limit = self.max_tokens or default_tokens
        limit = limit if most is None else min(limit, most)
        begun = b'%b,"%b":' % (msgspec.json.encode(self.body)[:-1], self.limit_field.encode())
        body = b"%b%d}" % (begun, limit)
        bound = bound_of_chat(self.body, len(body), self.entry)
        return ProviderCall(
            model=self.entry.name,
            body=RelayBody(body, limit, len(begun), len(body) - 1),
            stream=self.stream,
            prompt_tokens_max=bound.tokens,
            prompt_rate=bound.rate,
            api=Api.OPENAI,
        )


def chat_of(given: Given, entry: ModelEntry, limit_field: str, digest: Callable[[str], str]) -> Asked:
    """Translate the request. Raises `RefusedError` (400) that names the field.

    `limit_field` is the name of the answer's limit at the upstream; `digest` hides the name of a user.
    """
    asked, tools = given.asked, Tools(given.asked.tools or ())

    def takes(thought: Thought) -> bool:
        return isinstance(thought, ChatThought) and thought.model == entry.name

    thoughts = given.thoughts(takes)
    ignored = [*given.ignored, *_without_effect(given)]
    try:
        fields = tool_fields(asked, tools)
        messages, image = messages_of(asked, tools, thoughts, tools.notes if fields else [])
    except RecursionError:
        raise common.too_deep() from None
    if image is not None and entry.context_tokens is None:
        raise invalid(image, _UNBOUNDED)
    made: dict[str, Any] = {"model": entry.sent_as(asked.model), "messages": messages, **fields, **_options(given)}
    if name := asked.safety_identifier or asked.user:
        made["user"] = digest(name)
    if asked.stream:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    shape = given.shape
    return Asked(
        entry=entry,
        limit_field=limit_field,
        body=made,
        thinks=given.reasoning.effort not in _LEAST_EFFORTS,
        max_tokens=asked.max_output_tokens,
        stream=asked.stream is True,
        ignored=shown_ignored(ignored),
        # Some upstreams refuse a call's result without the thought before the call, and few clients ask for thoughts.
        wanted=given.wanted(tools, strict=shape is not None and shape.strict is True, seals=True),
    )


def _options(given: Given) -> dict[str, Any]:
    asked = given.asked
    options = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "reasoning_effort": given.reasoning.effort,
        "response_format": _response_format(given.shape),
    }
    return {name: value for name, value in options.items() if value is not None}


def _response_format(shape: wire.TextFormat | None) -> Mapping[str, Any] | None:
    if shape is None or shape.type == "text":
        return None
    if shape.type == "json_object":
        return {"type": "json_object"}
    if shape.schema is None:
        raise invalid("text.format.schema", "This field is required")
    schema = {
        "name": shape.name or "answer",
        "description": shape.description,
        "schema": shape.schema,
        "strict": shape.strict,
    }
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}


def _without_effect(given: Given) -> Iterator[str]:
    """Yield the names of what other APIs take: these upstreams use their caches without a mark."""
    if given.asked.prompt_cache_key:
        yield "prompt_cache_key"
    if given.asked.prompt_cache_options is not None:
        yield "prompt_cache_options"
    for path, part in given.parts:
        if getattr(part, "prompt_cache_breakpoint", None) is not None:
            yield f"{path}.prompt_cache_breakpoint"
