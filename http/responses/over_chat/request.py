"""Translation of a Responses request to a body of chat completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ....actors.domain.llm.catalogue import ModelEntry
from ...response.errors import invalid
from ...translation import request as common
from ...upstreams.translated_chat import TranslatedChat, chat_body
from .. import request_schema as wire
from ..reading import Given, shown_ignored
from ..thoughts import ChatThought, Thought
from ..tools import Tools
from ..wanted import Wanted
from .messages import messages_of
from .tool_fields import tool_fields

_LEAST_EFFORTS: Final = (None, "none", "minimal")


class Asked(TranslatedChat, frozen=True):
    """A translated request, and what its answer depends on."""

    wanted: Wanted


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
    name, stream, shape = asked.safety_identifier or asked.user, asked.stream is True, given.shape
    user, options = digest(name) if name else "", {**fields, **_options(given)}
    return Asked(
        entry=entry,
        limit_field=limit_field,
        body=chat_body(entry, asked.model, messages, image, options, user=user, stream=stream),
        thinks=given.reasoning.effort not in _LEAST_EFFORTS,
        max_tokens=asked.max_output_tokens,
        stream=stream,
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
