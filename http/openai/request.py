"""Translation of a chat completion request to a body of the Messages API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.model_traits import Traits, traits_of
from ..anthropic.body import priced_as
from ..response.errors import invalid
from . import request_schema as wire
from .json_schema import UnfitSchemaError, fitted
from .messages import marked, split
from .unread_fields import unread

_JSON_ONLY: Final = (
    "Answer with a single JSON object and nothing else: no words around it, and no code fence. What is asked for is to "
    "be a field of it."
)
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_USER_CHARS_MAX: Final = 256
# Sources: both APIs' references.
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "required": "any", "none": "none"}
# Fields that would change the answer, or its guarantees, and are not supported: why, or the alternative.
_IMPOSSIBLE: Final[Mapping[str, str]] = {
    "audio": "Sound is not offered: leave it out",
    "function_call": "Functions are not offered: use tools and tool_choice",
    "functions": "Functions are not offered: use tools",
    "logit_bias": "The models here know no bias of tokens: leave it out",
    "logprobs": "The models here tell no probabilities: leave it out",
    "moderation": "Moderation is not offered: leave it out",
    "top_logprobs": "The models here tell no probabilities: leave it out",
    "web_search_options": "Web search is not offered: leave it out, or search with a tool of your own",
}
# Values that mean the same as leaving the field out.
_NOTHING: Final[Collection[Any]] = (None, False, 0, "", [], {})
_MARK: Final = "cache_control"
# The Messages API's limit for one call.
_MARKS_MAX: Final = 4
_IGNORED_MAX: Final = 20


class Asked(msgspec.Struct, frozen=True):
    """A translated request: `body` for the Messages API, without `max_tokens` and `stream`, and the other options.

    `thinks`: the model may think before it answers, which counts towards `max_tokens`. `ignored` are the names of
    fields that were sent and have no effect.
    """

    body: dict[str, Any]
    thinks: bool
    max_tokens: int | None
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]

    def encoded(self, default_tokens: int) -> bytes:
        """Return the whole body. `default_tokens` is the limit if the client named none, as the API needs one."""
        stream = {"stream": True} if self.stream else {}
        return msgspec.json.encode({**self.body, **stream, "max_tokens": self.max_tokens or default_tokens})


def asked_of(body: bytes, models: Mapping[str, Any]) -> Asked:
    """Translate the request to the Messages API. Raises `RefusedError` (400) that names the field."""
    chat, raw = wire.read(body)
    _refuse_impossible(raw)
    traits = traits_of(priced_as(chat.model, models))
    ignored = unread(raw)
    try:
        system, messages = split(chat.messages)
        made: dict[str, Any] = {
            "model": chat.model,
            "messages": messages,
            **_tools(chat),
            **_sampling(chat, traits, ignored),
            **_output(chat, traits, ignored),
        }
    except RecursionError:
        raise invalid("", "The body is nested too deeply") from None
    if chat.response_format is not None and chat.response_format.type == "json_object":
        system.append({"type": "text", "text": _JSON_ONLY})
    if system:
        made["system"] = system
    if stops := _stops(chat.stop):
        made["stop_sequences"] = stops
    if user := chat.safety_identifier or chat.user:
        made["metadata"] = {"user_id": user[:_USER_CHARS_MAX]}
    if chat.cache_control is not None:
        made[_MARK] = chat.cache_control
    _check_marks(made)
    options = chat.stream_options
    return Asked(
        body=made,
        thinks=traits.effort and "thinking" not in made,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        stream=chat.stream is True,
        include_usage=options is not None and options.include_usage is True,
        ignored=tuple(ignored[:_IGNORED_MAX]),
    )


def _refuse_impossible(raw: Mapping[str, Any]) -> None:
    for name, why in _IMPOSSIBLE.items():
        if raw.get(name) not in _NOTHING:
            raise invalid(name, why)
    if raw.get("n") not in (None, 1):
        raise invalid("n", "Only one answer is given for each request: ask again for another")
    if raw.get("modalities") not in (None, [], ["text"]):
        raise invalid("modalities", "Only text is offered")


def _check_marks(made: Mapping[str, Any]) -> None:
    """Refuse more cache marks than the Messages API takes, before any money is put on hold."""
    found = int(_MARK in made) + _marks(made.get("tools")) + _marks(made.get("system"))
    found += sum(_marks(turn["content"]) for turn in made["messages"])
    if found > _MARKS_MAX:
        raise invalid(_MARK, f"At most {_MARKS_MAX} places can be marked for the cache; this request has {found}")


def _marks(blocks: Any) -> int:
    """Return the number of cache marks of blocks, also inside a tool's result. A tool call's input is not a block."""
    if not isinstance(blocks, list):
        return 0
    return sum((_MARK in block) + _marks(block.get("content")) for block in blocks)


def _tools(chat: wire.ChatRequest) -> dict[str, Any]:
    choice, tools = chat.tool_choice, chat.tools or []
    allowed = choice.allowed_tools if isinstance(choice, wire.ToolChoice) else None
    if allowed is not None:
        names = {tool.function.name for tool in allowed.tools}
        tools = [tool for tool in tools if tool.function.name in names]
    if not tools:
        if choice in (None, "none", "auto"):
            return {}
        raise invalid("tool_choice", "There is no such tool among the tools")
    chosen = _choice(choice, {tool.function.name for tool in tools})
    if chat.parallel_tool_calls is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    made: dict[str, Any] = {"tools": [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]}
    return made if chosen == {"type": "auto"} else {**made, "tool_choice": chosen}


def _choice(choice: str | wire.ToolChoice | None, names: Collection[str]) -> dict[str, Any]:
    if not isinstance(choice, wire.ToolChoice):
        return {"type": _CHOICES[choice or "auto"]}
    if choice.allowed_tools is not None:
        return {"type": _CHOICES[choice.allowed_tools.mode]}
    if choice.function is None or choice.function.name not in names:
        raise invalid("tool_choice", "There is no such tool among the tools")
    return {"type": "tool", "name": choice.function.name}


def _tool(tool: wire.Tool, path: str) -> dict[str, Any]:
    function = tool.function
    schema = function.parameters or _NO_PARAMETERS
    made: dict[str, Any] = {"name": function.name, "input_schema": {"type": "object", **schema}}
    if function.description:
        made["description"] = function.description
    if function.strict:
        made["input_schema"] = _fitted(made["input_schema"], f"{path}.function.parameters")
        made["strict"] = True
    return marked(made, tool.cache_control or function.cache_control)


def _sampling(chat: wire.ChatRequest, traits: Traits, ignored: list[str]) -> dict[str, Any]:
    """Return the temperature or `top_p`: both at once are an error, also for models that sample. Both default to 1."""
    sent = {name: value for name in ("temperature", "top_p") if (value := getattr(chat, name)) not in (None, 1)}
    if not traits.sampling:
        ignored += sent
        return {}
    if len(sent) == 2:
        ignored.append("top_p")
        del sent["top_p"]
    # OpenAI's temperatures go to 2.
    return {name: min(value, 1.0) for name, value in sent.items()}


def _output(chat: wire.ChatRequest, traits: Traits, ignored: list[str]) -> dict[str, Any]:
    """Return the fields for the amount of thinking and the shape of the answer.

    Clients of this API pay for the thinking without seeing it, and expect all of `max_tokens` for the answer. So a
    request without an effort gets the least thinking.
    """
    config: dict[str, Any] = {}
    made: dict[str, Any] = {}
    effort = chat.reasoning_effort
    if effort in (None, "none", "minimal"):
        if traits.least_thinking is not None:
            made["thinking"] = dict(traits.least_thinking)
        elif effort is not None and traits.effort:
            config["effort"] = "low"
    elif traits.effort:
        config["effort"] = effort
    else:
        ignored.append("reasoning_effort")
    shape = chat.response_format
    if shape is not None and shape.type == "json_schema":
        if shape.json_schema is None:
            raise invalid("response_format.json_schema", "This field is required")
        schema = _fitted(shape.json_schema.schema, "response_format.json_schema.schema")
        config["format"] = {"type": "json_schema", "schema": schema}
    return {**made, "output_config": config} if config else made


def _fitted(schema: dict[str, Any], path: str) -> dict[str, Any]:
    try:
        return fitted(schema)
    except UnfitSchemaError as error:
        raise invalid(path, str(error)) from None


def _stops(stop: str | list[str] | None) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if any(not text.strip() for text in stops if text):
        raise invalid("stop", "A stop sequence must have more than white space")
    return [text for text in stops if text]
