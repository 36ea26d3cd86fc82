"""Schema of a Messages API request as chat completions can hold it: unknown fields are allowed, and reported.

Source: the types of Anthropic's own Python SDK.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class Source(msgspec.Struct, frozen=True):
    """An image or a document: its content, or its address."""

    type: str
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    content: Any = None


class Image(msgspec.Struct, frozen=True, tag_field="type", tag="image"):
    """An image."""

    source: Source


class Document(msgspec.Struct, frozen=True, tag_field="type", tag="document"):
    """A document."""

    source: Source
    title: str | None = None
    context: str | None = None


class SearchResult(msgspec.Struct, frozen=True, tag_field="type", tag="search_result"):
    """Result of a search of the client's."""

    content: list[Text]
    source: str = ""
    title: str = ""


class Thinking(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """A thought that the model had before."""

    thinking: str = ""
    signature: str = ""


class RedactedThinking(msgspec.Struct, frozen=True, tag_field="type", tag="redacted_thinking"):
    """A thought that only its provider can read: what an upstream signed, or Anthropic's."""

    data: str = ""


class ToolUse(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call that the model made before."""

    id: str
    name: str
    input: dict[str, Any]


Inner = Text | Image | Document | SearchResult


class ToolResult(msgspec.Struct, frozen=True, tag_field="type", tag="tool_result"):
    """The result of a call."""

    tool_use_id: str
    content: str | list[Inner] | None = None
    is_error: bool | None = None


Block = Text | Image | Document | SearchResult | Thinking | RedactedThinking | ToolUse | ToolResult


class Message(msgspec.Struct, frozen=True):
    """A message of the user or the model, or instructions between them."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block] | None = None


class Tool(msgspec.Struct, frozen=True):
    """A tool of the client's. `type` is that of one whose description is Anthropic's."""

    name: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    type: str | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """Choice of the tools that may or must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thoughts(msgspec.Struct, frozen=True):
    """Options of the model's thinking before it answers: its length, and whether it is shown."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None
    display: str | None = None


class Format(msgspec.Struct, frozen=True):
    """The shape of the answer."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True):
    """The effort that the model makes, and the shape of its answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Metadata(msgspec.Struct, frozen=True):
    """The client's user."""

    user_id: str | None = None


class MessagesRequest(msgspec.Struct, frozen=True):
    """The fields of a body of POST /v1/messages that have an effect. A count needs no `max_tokens`."""

    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    thinking: Thoughts | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
