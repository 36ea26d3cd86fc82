"""Translation of a Messages API request to a body of chat completions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from ....actors.domain.errors import RefusedError
from ...response.errors import invalid
from ...translation import request as common
from ...translation.unread_fields import UnreadFields
from ...upstreams.provider_call import ProviderCall
from ...upstreams.served_models import ServedModels
from ...upstreams.translated_chat import TranslatedChat, chat_body
from ..costs import look_for_costs
from . import request_schema as wire
from .messages import Told

_NO_SCHEMA: Final = "This model knows no tools of Anthropic's: describe the tool with a name and an input_schema"
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "any": "required", "none": "none"}
# Budgets of thinking up to which an effort is meant, in tokens.
_BUDGETS: Final = ((4_000, "low"), (16_000, "medium"))
_MOST_EFFORT: Final = "high"
_EFFORTS: Final = ("low", "medium", "high")
_UNREAD: Final = UnreadFields(
    wire.MessagesRequest,
    defaults={
        "inference_geo": ("global",),
        "service_tier": ("auto", "standard_only"),
        "speed": ("standard",),
        "messages[].content[].caller": ({"type": "direct"},),
    },
    harmless=("tools[].eager_input_streaming", "tools[].defer_loading", "messages[].content[].citations"),
)
_IGNORED_MAX: Final = 20
_PLACE: Final = re.compile(r"\[(\d+)\]")


class Asked(TranslatedChat, frozen=True):
    """A translated request. `model` is the client's name for it. `shows`: the client sees the thoughts."""

    model: str
    shows: bool

    def call(self, default_tokens: int) -> ProviderCall:
        """Return the call; this API has no default. Raises `RefusedError` (400)."""
        if self.max_tokens is None:
            raise invalid("max_tokens", "This field is required")
        return super().call(default_tokens)

    @property
    def stops(self) -> Collection[str]:
        """Stop sequences of the client's."""
        stops: Collection[str] = self.body.get("stop", ())
        return stops


def chat_of(body: bytes, models: ServedModels, digest: Callable[[str], str]) -> Asked:
    """Translate the request. `digest` hides the name of a user. Raises `RefusedError` (400) that names the field."""
    raw = common.decoded(body)
    asked = _read(raw)
    # What has a price of its own, or is remembered, is refused as it is over Anthropic's own upstreams.
    look_for_costs(raw, len(body), ())
    entry = models.named(asked.model)
    told = Told(entry.name)
    try:
        messages = told.read(asked)
        tools = _tools(asked)
        ignored = [*_UNREAD.of(raw)]
    except RecursionError:
        raise common.too_deep() from None
    thinks = asked.thinking is not None and asked.thinking.type != "disabled"
    options = {**tools, **_options(asked)}
    if effort := _effort(asked, thinks=thinks):
        options["reasoning_effort"] = effort
    elif asked.output_config is not None and asked.output_config.effort is not None:
        ignored.append("output_config.effort")
    name, stream = asked.metadata.user_id if asked.metadata is not None else None, asked.stream is True
    user = digest(name) if name else ""
    return Asked(
        entry=entry,
        limit_field=models.limit_field(entry),
        model=asked.model,
        body=chat_body(entry, asked.model, messages, told.image, options, user=user, stream=stream),
        max_tokens=asked.max_tokens,
        stream=stream,
        thinks=thinks,
        shows=thinks and asked.thinking is not None and asked.thinking.display != "omitted",
        ignored=tuple(ignored[:_IGNORED_MAX]),
    )


def _read(raw: dict[str, Any]) -> wire.MessagesRequest:
    """Return the request. Raises `RefusedError` that names the field as this API does: `messages.0.role`."""
    try:
        return common.converted(raw, wire.MessagesRequest)
    except RefusedError as error:
        (field,) = error.refusal.details["fields"]
        raise invalid(_PLACE.sub(r".\1", field["path"]), field["message"]) from None


def _options(asked: wire.MessagesRequest) -> dict[str, Any]:
    shape = asked.output_config.format if asked.output_config is not None else None
    options = {
        "stop": [text for text in asked.stop_sequences or () if text] or None,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "response_format": _response_format(shape or asked.output_format),
    }
    return {name: value for name, value in options.items() if value is not None}


def _response_format(shape: wire.Format | None) -> dict[str, Any] | None:
    if shape is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": shape.schema, "strict": True}}


def _effort(asked: wire.MessagesRequest, *, thinks: bool) -> str | None:
    """Return the effort of thinking that is asked for. Upstreams whose models don't think refuse any."""
    if not thinks or asked.thinking is None:
        return None
    effort = asked.output_config.effort if asked.output_config is not None else None
    if effort is not None:
        return effort if effort in _EFFORTS else _MOST_EFFORT
    budget = asked.thinking.budget_tokens
    if budget is None:
        return None
    return next((effort for most, effort in _BUDGETS if budget < most), _MOST_EFFORT)


def _tools(asked: wire.MessagesRequest) -> dict[str, Any]:
    if not asked.tools:
        return {}
    fields: dict[str, Any] = {"tools": list(_functions(asked.tools))}
    choice = asked.tool_choice
    if choice is None:
        return fields
    if choice.type == "tool":
        if choice.name not in {tool.name for tool in asked.tools}:
            raise invalid("tool_choice.name", "There is no such tool among the tools")
        fields["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.type != "auto":
        fields["tool_choice"] = _CHOICES[choice.type]
    if choice.disable_parallel_tool_use and choice.type != "none":
        fields["parallel_tool_calls"] = False
    return fields


def _functions(tools: list[wire.Tool]) -> Iterator[dict[str, Any]]:
    for number, tool in enumerate(tools):
        if tool.type not in (None, "custom") or tool.input_schema is None:
            raise invalid(f"tools.{number}", _NO_SCHEMA)
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        function["parameters"] = {"type": "object", **tool.input_schema}
        if tool.strict:
            function["strict"] = True
        yield {"type": "function", "function": function}
