"""Schema of OpenAI's chat completion request: unknown fields are allowed, wrong ones are named in the refusal.

Source: the types of OpenAI's own Python SDK. Harmless deviations of clients are accepted, too: null for an absent
field, an image as a bare URL, arguments as an object.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from ..translation.content import Mark

_STOPS_MAX: Final = 100


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """Text. Either mark, by Anthropic's name or by OpenAI's, asks for a prompt cache up to here."""

    text: str
    cache_control: Mark = None
    prompt_cache_breakpoint: Mark = None


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """A refusal that the model gave in place of an answer."""

    refusal: str


class ImageUrl(msgspec.Struct, frozen=True):
    """The URL of an image, or a data URL with all of it."""

    url: str


class Image(msgspec.Struct, frozen=True, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl | str
    cache_control: Mark = None
    prompt_cache_breakpoint: Mark = None


class FileData(msgspec.Struct, frozen=True):
    """A file by its content or by an id at OpenAI."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class File(msgspec.Struct, frozen=True, tag_field="type", tag="file"):
    """A file."""

    file: FileData
    cache_control: Mark = None
    prompt_cache_breakpoint: Mark = None


class Audio(msgspec.Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Sound, which is refused."""


Part = Text | Image | File | Audio | Refused
Content = str | list[Part] | None


class System(msgspec.Struct, frozen=True, tag_field="role", tag="system"):
    """Instructions."""

    content: Content = None
    cache_control: Mark = None


class Developer(msgspec.Struct, frozen=True, tag_field="role", tag="developer"):
    """Instructions, by their newer name."""

    content: Content = None
    cache_control: Mark = None


class User(msgspec.Struct, frozen=True, tag_field="role", tag="user"):
    """A message of the user."""

    content: Content = None
    cache_control: Mark = None


class Called(msgspec.Struct, frozen=True):
    """A function and the arguments of its call: JSON in a string."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made before."""

    id: str
    function: Called
    type: Literal["function"] = "function"


class Assistant(msgspec.Struct, frozen=True, tag_field="role", tag="assistant"):
    """A message of the model."""

    content: Content = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    cache_control: Mark = None


class ToolResult(msgspec.Struct, frozen=True, tag_field="role", tag="tool"):
    """The result of a tool call."""

    tool_call_id: str
    content: Content = None
    cache_control: Mark = None


class FunctionResult(msgspec.Struct, frozen=True, tag_field="role", tag="function"):
    """The result of a call in the deprecated API of functions, which is refused."""


Message = System | Developer | User | Assistant | ToolResult | FunctionResult


class Definition(msgspec.Struct, frozen=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: Mark = None


class Tool(msgspec.Struct, frozen=True):
    """A tool. Of OpenAI's two types, `custom` is refused."""

    function: Definition
    type: Literal["function"] = "function"
    cache_control: Mark = None


class Named(msgspec.Struct, frozen=True):
    """A function by its name."""

    name: str


class NamedTool(msgspec.Struct, frozen=True):
    """A tool by its function's name."""

    function: Named
    type: Literal["function"] = "function"


class AllowedTools(msgspec.Struct, frozen=True):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class ToolChoice(msgspec.Struct, frozen=True):
    """One tool that must be called, or some that may or must."""

    type: Literal["function", "allowed_tools"]
    function: Named | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(msgspec.Struct, frozen=True):
    """The shape of the answer."""

    schema: dict[str, Any]


class ResponseFormat(msgspec.Struct, frozen=True):
    """The required format of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """The options of a stream: `include_usage` adds a chunk with the usage."""

    include_usage: bool | None = None


Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ChatRequest(msgspec.Struct, frozen=True):
    """The fields of the body of POST /v1/chat/completions that have an effect."""

    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=_STOPS_MAX)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    cache_control: Mark = None
    user: str | None = None
    safety_identifier: str | None = None
