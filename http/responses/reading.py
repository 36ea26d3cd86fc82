"""Reading of a Responses request, whichever API its upstream speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ..response.errors import invalid
from ..translation import request as common
from ..translation.unread_fields import UnreadFields
from . import request_schema as wire
from .thoughts import Thought, UnreadableThoughtError, opened
from .tools import Tools
from .wanted import Wanted

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
_NOT_OURS: Final = "Is not one that this server gave: leave the reasoning item out"
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


class Given(NamedTuple):
    """A request as it came. `ignored` are the names of fields that were sent and have no effect in any API."""

    asked: wire.ResponsesRequest
    raw: dict[str, Any]
    ignored: list[str]

    @property
    def reasoning(self) -> wire.ReasoningOptions:
        """The options of thinking."""
        return self.asked.reasoning or wire.ReasoningOptions()

    @property
    def summary(self) -> wire.Detail | None:
        """The kind of summary that is asked for."""
        return self.reasoning.summary or self.reasoning.generate_summary

    @property
    def parts(self) -> Iterator[tuple[str, wire.Part]]:
        """The parts of messages and results, each with its path without numbers."""
        for item in self.asked.input if isinstance(self.asked.input, list) else ():
            for name in ("content", "output"):
                parts = getattr(item, name, None)
                for part in parts if isinstance(parts, list) else ():
                    yield f"input[].{name}[]", part

    @property
    def shape(self) -> wire.TextFormat | None:
        """The required format of the answer."""
        return self.asked.text.format if self.asked.text is not None else None

    def thoughts(self, takes: Callable[[Thought], bool]) -> Mapping[int, Thought]:
        """Open the thoughts that are sent back, by the number of their item. Those that aren't taken are ignored.

        Raises `RefusedError` for one that this server did not give.
        """
        items = self.asked.input if isinstance(self.asked.input, list) else ()
        found: dict[int, Thought] = {}
        for number, item in enumerate(items):
            if not isinstance(item, wire.Reasoning) or not item.encrypted_content:
                continue
            try:
                thought = opened(item.encrypted_content)
            except UnreadableThoughtError:
                raise invalid(f"input[{number}].encrypted_content", _NOT_OURS) from None
            if takes(thought):
                found[number] = thought
            else:
                self.ignored.append("input[].reasoning")
        return found

    def wanted(self, tools: Tools, *, strict: bool, seals: bool = False) -> Wanted:
        """Return what the answer depends on. `seals`: thoughts are given back also to a client that did not ask.

        `strict`: the upstream is held to a JSON schema of the answer.
        """
        return Wanted(
            echo=_echo(self, strict=strict),
            tools=tools.by_name,
            seals=seals or _ENCRYPTED in (self.asked.include or ()),
            summarizes=self.summary is not None,
        )


def read_request(body: bytes) -> Given:
    """Return the request in a body. Raises `RefusedError` (400) that names the field."""
    raw = common.decoded(body)
    common.refuse(raw, _IMPOSSIBLE)
    dropped = [*_without_hosted_tools(raw), *_without_unread_items(raw)]
    asked = common.converted(raw, wire.ResponsesRequest)
    return Given(asked, raw, [*dict.fromkeys(dropped), *_UNREAD.of(raw), *_without_effect(asked)])


def shown_ignored(ignored: list[str]) -> tuple[str, ...]:
    """Return the names of ignored fields for the header, each once."""
    return tuple(dict.fromkeys(ignored))[:_IGNORED_MAX]


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


def _echo(given: Given, *, strict: bool) -> dict[str, Any]:
    """Return the fields of the request, with their defaults, as the API repeats them in an answer."""
    asked, raw = given.asked, given.raw
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
        "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": given.summary},
        "safety_identifier": asked.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "text": {"format": _echoed_format(given.shape, strict=strict), "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": raw.get("tool_choice") or "auto",
        "tools": [_echoed_tool(tool) for tool in raw.get("tools") or () if tool != _NO_TOOL],
        "top_logprobs": 0,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "truncation": "disabled",
        "user": asked.user,
    }


def _echoed_format(shape: wire.TextFormat | None, *, strict: bool) -> dict[str, Any]:
    if shape is None or shape.type != "json_schema":
        return {"type": "text" if shape is None else shape.type}
    return {
        "type": "json_schema",
        "name": shape.name or "answer",
        "description": shape.description,
        "schema": shape.schema,
        "strict": strict,
    }


def _echoed_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] == "function":
        blank = {"description": None, "parameters": None}
        return {**blank, **tool, "strict": tool.get("strict") is True}
    return {**tool, "description": tool.get("description") or ""} if tool["type"] == "namespace" else tool
