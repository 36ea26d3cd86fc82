"""Schema of OpenAI's Responses request: unknown fields are allowed, wrong ones are named in the refusal.

Source: the types of OpenAI's own Python SDK, and what its Codex sends.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ..translation.content import Mark

# Content


class InputText(msgspec.Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text. The mark asks for a prompt cache up to here."""

    text: str
    prompt_cache_breakpoint: Mark = None


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of the model."""

    text: str


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """A refusal that the model gave in place of an answer."""

    refusal: str


class InputImage(msgspec.Struct, frozen=True, tag_field="type", tag="input_image"):
    """An image by its URL or a data URL, or by an id at OpenAI. `detail` says how closely the model looks at it."""

    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    prompt_cache_breakpoint: Mark = None


class InputFile(msgspec.Struct, frozen=True, tag_field="type", tag="input_file"):
    """A file by its content, by its URL, or by an id at OpenAI."""

    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: Mark = None


class InputAudio(msgspec.Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Sound, which is refused."""


Part = InputText | OutputText | Refused | InputImage | InputFile | InputAudio
Content = str | list[Part] | None


# Items


class Message(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """A message of any role."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content = None


class FunctionCall(msgspec.Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call of a function that the model made before. The arguments are JSON in a string."""

    call_id: str
    name: str
    arguments: str | dict[str, Any] | None = None
    namespace: str | None = None


class FunctionCallOutput(msgspec.Struct, frozen=True, tag_field="type", tag="function_call_output"):
    """The result of a call of a function."""

    call_id: str
    output: Content = None


class CustomToolCall(msgspec.Struct, frozen=True, tag_field="type", tag="custom_tool_call"):
    """A call of a custom tool that the model made before. Its input is free text."""

    call_id: str
    name: str
    input: str = ""
    namespace: str | None = None


class CustomToolCallOutput(msgspec.Struct, frozen=True, tag_field="type", tag="custom_tool_call_output"):
    """The result of a call of a custom tool."""

    call_id: str
    output: Content = None


class Reasoning(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """A thought of the model, as this server gave it."""

    encrypted_content: str | None = None


Item = Message | FunctionCall | FunctionCallOutput | CustomToolCall | CustomToolCallOutput | Reasoning


# Tools


class Function(msgspec.Struct, frozen=True, tag_field="type", tag="function"):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Format(msgspec.Struct, frozen=True):
    """The format of a custom tool's input."""

    type: Literal["text", "grammar"] = "text"
    syntax: str | None = None
    definition: str | None = None


class Custom(msgspec.Struct, frozen=True, tag_field="type", tag="custom"):
    """A tool whose input is free text."""

    name: str
    description: str | None = None
    format: Format | None = None


class Namespace(msgspec.Struct, frozen=True, tag_field="type", tag="namespace"):
    """Tools under a common name."""

    name: str
    tools: list[Function | Custom]
    description: str | None = None


Tool = Function | Custom | Namespace


class ToolChoice(msgspec.Struct, frozen=True):
    """One tool that must be called, or some that may or must."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[dict[str, Any]] | None = None


# The other fields


class TextFormat(msgspec.Struct, frozen=True):
    """The required format of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class Text(msgspec.Struct, frozen=True):
    """The form of the answer's text."""

    format: TextFormat | None = None


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Detail = Literal["auto", "concise", "detailed"]


class ReasoningOptions(msgspec.Struct, frozen=True):
    """Options of thinking: its effort, and a summary of it. `generate_summary` is the older name."""

    effort: Effort | None = None
    summary: Detail | None = None
    generate_summary: Detail | None = None


class CacheOptions(msgspec.Struct, frozen=True):
    """The prompt cache: `explicit` is only where it is marked."""

    mode: Literal["implicit", "explicit"] | None = None


Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class ResponsesRequest(msgspec.Struct, frozen=True):
    """The fields of the body of POST /v1/responses that have an effect."""

    model: str
    input: str | list[Item] | None = None
    instructions: str | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    text: Text | None = None
    reasoning: ReasoningOptions | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    stream: bool | None = None
    store: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
