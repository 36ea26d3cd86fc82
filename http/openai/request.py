"""Translation of a chat completion request to a body of the Messages API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.model_traits import traits_of
from ..response.errors import invalid
from ..translation import request as common
from ..translation.content import marked
from ..translation.request import CHOICES, JSON_ONLY, MARK
from ..translation.unread_fields import UnreadFields
from ..upstreams.served_models import ServedModels
from . import request_schema as wire
from .messages import split

# Fields that would change the answer, or its guarantees, and are not supported: why, or the alternative.
_IMPOSSIBLE: Final[Mapping[str, str]] = {
    "audio": "Audio is not offered: leave it out",
    "function_call": "Functions are not offered: use tools and tool_choice",
    "functions": "Functions are not offered: use tools",
    "logit_bias": "The models here have no token bias: leave it out",
    "logprobs": "The models here give no probabilities: leave it out",
    "moderation": "Moderation is not offered: leave it out",
    "top_logprobs": "The models here give no probabilities: leave it out",
    "web_search_options": "Web search is not offered: leave it out, or search with a tool of your own",
}
_UNREAD: Final = UnreadFields(
    wire.ChatRequest,
    defaults={
        "modalities": (["text"],),
        "n": (1,),
        "service_tier": ("auto", "default"),
        "verbosity": ("medium",),
        "messages[].content[].image_url.detail": ("auto",),
        "response_format.json_schema.strict": (True,),
    },
    harmless=("messages[].tool_calls[].index", "response_format.json_schema.name"),
)
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
        return common.encoded(self.body, self.stream, self.max_tokens or default_tokens)


def asked_of(body: bytes, models: ServedModels, user_key: bytes = b"") -> Asked:
    """Translate the request to the Messages API. Raises `RefusedError` (400) that names the field."""
    raw = common.decoded(body)
    chat = common.converted(raw, wire.ChatRequest)
    _refuse_impossible(raw)
    traits = traits_of(models.named(chat.model).upstream_model)
    ignored = _UNREAD.of(raw)
    try:
        system, messages = split(chat.messages)
        made: dict[str, Any] = {
            "model": chat.model,
            "messages": messages,
            **_tools(chat),
            **common.sampling(chat.temperature, chat.top_p, traits, ignored),
            **common.output(chat.reasoning_effort, _shape(chat), traits, ignored, "reasoning_effort"),
        }
    except RecursionError:
        raise common.too_deep() from None
    if chat.response_format is not None and chat.response_format.type == "json_object":
        system.append({"type": "text", "text": JSON_ONLY})
    if system:
        made["system"] = system
    if stops := _stops(chat.stop):
        made["stop_sequences"] = stops
    made |= common.user(user_key, chat.safety_identifier or chat.user)
    if chat.cache_control is not None:
        made[MARK] = chat.cache_control
    common.check_marks(made)
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
    common.refuse(raw, _IMPOSSIBLE)
    if raw.get("n") not in (None, 1):
        raise invalid("n", "Only one answer is given for each request: ask again for another")
    if raw.get("modalities") not in (None, [], ["text"]):
        raise invalid("modalities", "Only text is offered")


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
        return {"type": CHOICES[choice or "auto"]}
    if choice.allowed_tools is not None:
        return {"type": CHOICES[choice.allowed_tools.mode]}
    if choice.function is None or choice.function.name not in names:
        raise invalid("tool_choice", "There is no such tool among the tools")
    return {"type": "tool", "name": choice.function.name}


def _tool(tool: wire.Tool, path: str) -> dict[str, Any]:
    function = tool.function
    made = common.tool(
        function.name,
        function.description,
        function.parameters,
        function.strict is True,
        f"{path}.function.parameters",
    )
    return marked(made, tool.cache_control or function.cache_control)


def _shape(chat: wire.ChatRequest) -> dict[str, Any] | None:
    shape = chat.response_format
    if shape is None or shape.type != "json_schema":
        return None
    if shape.json_schema is None:
        raise invalid("response_format.json_schema", "This field is required")
    return common.schema_of(shape.json_schema.schema, "response_format.json_schema.schema")


def _stops(stop: str | list[str] | None) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if any(not text.strip() for text in stops if text):
        raise invalid("stop", "A stop sequence must have more than white space")
    return [text for text in stops if text]
