"""Translation of a Responses request to a body of the Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.model_traits import traits_of
from ..anthropic.body import priced_as
from ..response.errors import invalid
from ..translation import request as common
from ..translation.request import JSON_ONLY, MARK
from ..translation.unread_fields import UnreadFields
from . import request_schema as wire
from .input_items import split
from .tools import Called, Tools, tool_fields

_REMEMBERED: Final = "Nothing is remembered here: send the whole conversation as input"
_NO_REFERENCE: Final = (
    "Nothing is remembered here: send the item itself, as SDKs do with their option store set to false"
)
# Fields that would change the answer, or its guarantees, and are not supported: why, or the alternative.
_IMPOSSIBLE: Final[Mapping[str, str]] = {
    "background": "Answers are given at once here: leave it out, and stream what takes long",
    "conversation": _REMEMBERED,
    "moderation": "Moderation is not offered: leave it out",
    "previous_response_id": _REMEMBERED,
    "prompt": "Templates of prompts are not offered: send instructions and input",
    "top_logprobs": "The models here tell no probabilities: leave it out",
}
_LOGPROBS: Final = "message.output_text.logprobs"
_ENCRYPTED: Final = "reasoning.encrypted_content"
# Tools that programs offer whether they are needed or not, and items that come from them.
_DROPPED_TOOLS: Final = ("web_search", "image_generation")
_DROPPED_ITEMS: Final = ("web_search_call", "image_generation_call")
_NO_TOOL: Final[Mapping[str, Any]] = {"type": "namespace", "name": "", "tools": []}
_NO_ITEM: Final[Mapping[str, Any]] = {"type": "message", "role": "user"}
_TOOLS: Final = ("function", "custom", "namespace")
_ITEMS: Final = (
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
)
_UNREAD: Final = UnreadFields(
    wire.ResponsesRequest,
    defaults={
        "service_tier": ("auto", "default"),
        "stream_options": ({"include_obfuscation": False},),
        "text.verbosity": ("medium",),
        "input[].content[].detail": ("auto",),
        "input[].output[].detail": ("auto",),
        "tools[].defer_loading": (False,),
    },
    harmless=(
        "input[].content",
        "input[].content[].annotations",
        "input[].content[].logprobs",
        "input[].id",
        "input[].phase",
        "input[].status",
        "input[].summary",
    ),
)
_IGNORED_MAX: Final = 20


class Asked(msgspec.Struct, frozen=True):
    """A translated request: `body` for the Messages API, without `max_tokens` and `stream`, and the other options.

    `thinks`: the model may think before it answers, which counts towards `max_tokens`. `ignored` are the names of
    fields that were sent and have no effect. `echo` are the fields of the request that the answer repeats, `tools` the
    tools by their names at the provider. `seals`: thoughts are given back for the next request; `summarizes`: they
    are shown.
    """

    body: dict[str, Any]
    thinks: bool
    max_tokens: int | None
    stream: bool
    ignored: tuple[str, ...]
    echo: dict[str, Any]
    tools: Mapping[str, Called]
    seals: bool
    summarizes: bool

    def encoded(self, default_tokens: int) -> bytes:
        """Return the whole body. `default_tokens` is the limit if the client named none, as the API needs one."""
        return common.encoded(self.body, self.stream, self.max_tokens or default_tokens)


def asked_of(body: bytes, models: Mapping[str, Any], user_key: bytes = b"") -> Asked:
    """Translate the request to the Messages API. Raises `RefusedError` (400) that names the field."""
    raw = common.decoded(body)
    common.refuse(raw, _IMPOSSIBLE)
    dropped = [*_without_hosted_tools(raw), *_without_unread_items(raw)]
    asked = common.converted(raw, wire.ResponsesRequest)
    traits = traits_of(priced_as(asked.model, models))
    ignored = [*dict.fromkeys(dropped), *_UNREAD.of(raw), *_without_effect(asked)]
    tools = Tools(asked.tools or ())
    reasoning = asked.reasoning or wire.ReasoningOptions()
    shape = asked.text.format if asked.text is not None else None
    try:
        system, messages = split(asked.instructions, asked.input, tools)
        made: dict[str, Any] = {
            "model": asked.model,
            "messages": messages,
            **tool_fields(asked, tools),
            **common.sampling(asked.temperature, asked.top_p, traits, ignored),
            **common.output(reasoning.effort, _schema(shape), traits, ignored, "reasoning.effort"),
        }
    except RecursionError:
        raise common.too_deep() from None
    summary = reasoning.summary or reasoning.generate_summary
    if summary is not None and traits.effort and "thinking" not in made:
        # Newer models show no thoughts unless they are asked to.
        made["thinking"] = {"type": "adaptive", "display": "summarized"}
    texts = tools.notes if "tools" in made else []
    if shape is not None and shape.type == "json_object":
        texts = [*texts, JSON_ONLY]
    system += [{"type": "text", "text": text} for text in texts]
    if system:
        made["system"] = system
    made |= common.user(user_key, asked.safety_identifier or asked.user)
    if _caches(asked) and common.may_mark(made):
        made[MARK] = {"type": "ephemeral"}
    common.check_marks(made)
    return Asked(
        body=made,
        thinks=traits.effort and made.get("thinking", {}).get("type", "adaptive") == "adaptive",
        max_tokens=asked.max_output_tokens,
        stream=asked.stream is True,
        ignored=tuple(ignored[:_IGNORED_MAX]),
        echo=_echo(asked, raw, summary),
        tools=tools.by_name,
        seals=_ENCRYPTED in (asked.include or ()),
        summarizes=summary is not None,
    )


def _without_hosted_tools(raw: dict[str, Any]) -> list[str]:
    """Take tools out that the provider would run, and return their names. Raises `RefusedError` for other types."""
    found: list[str] = []
    tools = _list(raw.get("tools"))
    for number, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or kind in _TOOLS:
            continue
        if not kind.startswith(_DROPPED_TOOLS):
            raise invalid(
                f"tools[{number}].type", f"Tools of this type are not offered here; possible are {', '.join(_TOOLS)}"
            )
        found.append(f"tools[].{'web_search' if kind.startswith('web_search') else 'image_generation'}")
        tools[number] = dict(_NO_TOOL)
    return found


def _without_unread_items(raw: dict[str, Any]) -> list[str]:
    """Take items out that have no effect, and return their names. Raises `RefusedError` for other types."""
    found: list[str] = []
    items = _list(raw.get("input"))
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        if "type" not in item and "role" in item:
            item["type"] = "message"
        kind = item.get("type", "item_reference")
        if not isinstance(kind, str):
            continue
        if kind in _DROPPED_ITEMS or (kind == "reasoning" and not item.get("encrypted_content")):
            found.append(f"input[].{kind}")
            items[number] = dict(_NO_ITEM)
        elif kind == "item_reference":
            raise invalid(f"input[{number}]", _NO_REFERENCE)
        elif kind not in _ITEMS:
            raise invalid(
                f"input[{number}].type", f"Items of this type are not taken here; possible are {', '.join(_ITEMS)}"
            )
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _without_effect(asked: wire.ResponsesRequest) -> list[str]:
    found = []
    if asked.store:
        found.append("store")
    if asked.truncation == "auto":
        found.append("truncation")
    if _LOGPROBS in (asked.include or ()):
        raise invalid("include", "The models here tell no probabilities: leave it out")
    if any(name != _ENCRYPTED for name in asked.include or ()):
        found.append("include")
    return found


def _schema(shape: wire.TextFormat | None) -> dict[str, Any] | None:
    if shape is None or shape.type != "json_schema":
        return None
    if shape.schema is None:
        raise invalid("text.format.schema", "This field is required")
    return common.schema_of(shape.schema, "text.format.schema")


def _caches(asked: wire.ResponsesRequest) -> bool:
    """Return True if the client names a cache: OpenAI's is used without a mark, the Messages API's needs one."""
    options = asked.prompt_cache_options
    return bool(asked.prompt_cache_key) and (options is None or options.mode != "explicit")


def _echo(asked: wire.ResponsesRequest, raw: Mapping[str, Any], summary: str | None) -> dict[str, Any]:
    """Return the fields of the request, with their defaults, as the API repeats them in an answer."""
    text = raw.get("text") or {}
    return {
        "background": False,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": None,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": summary},
        "safety_identifier": asked.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "text": {"format": _echoed_format(asked), "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": raw.get("tool_choice") or "auto",
        "tools": [_echoed_tool(tool) for tool in raw.get("tools") or () if tool != _NO_TOOL],
        "top_logprobs": 0,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "truncation": "disabled",
        "user": asked.user,
    }


def _echoed_format(asked: wire.ResponsesRequest) -> dict[str, Any]:
    shape = asked.text.format if asked.text is not None else None
    if shape is None or shape.type != "json_schema":
        return {"type": "text" if shape is None else shape.type}
    return {
        "type": "json_schema",
        "name": shape.name or "answer",
        "description": shape.description,
        "schema": shape.schema,
        "strict": True,
    }


def _echoed_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] == "function":
        blank = {"description": None, "parameters": None}
        return {**blank, **tool, "strict": tool.get("strict") is True}
    return {**tool, "description": tool.get("description") or ""} if tool["type"] == "namespace" else tool
