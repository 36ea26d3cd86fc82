"""Schemas of OpenAI's Responses API: the fields that a body must have, and the shape of answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..schema import Absent


class InputTokensRequest(BaseModel):
    """A body whose prompt is to be counted: that of a response without the fields for the answer."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(description="One of those in GET /v1/models, or a dated version of it.")]
    input: Annotated[
        str | list[dict[str, Any]] | Absent,
        Field(description="Text, or items: messages, calls of tools with their results, reasoning."),
    ] = None
    instructions: str | Absent = None
    tools: Annotated[
        list[dict[str, Any]] | Absent,
        Field(description="Functions, custom tools, and namespaces of both. `web_search` is left out and named."),
    ] = None
    tool_choice: Any = None
    text: Annotated[
        dict[str, Any] | Absent,
        Field(description="`format` of the type `json_schema` is enforced; `json_object` is asked for in words."),
    ] = None
    reasoning: Annotated[
        dict[str, Any] | Absent, Field(description="Without an effort the model thinks as little as it can.")
    ] = None


class ResponsesRequest(InputTokensRequest):
    """A body of OpenAI's Responses API."""

    max_output_tokens: Annotated[int, Field(ge=1)] | Absent = None
    temperature: Annotated[float, Field(ge=0, le=2)] | Absent = None
    top_p: Annotated[float, Field(ge=0, le=1)] | Absent = None
    parallel_tool_calls: bool | Absent = None
    include: Annotated[
        list[str] | Absent,
        Field(description="`reasoning.encrypted_content` gives thoughts back, for the next request's input."),
    ] = None
    prompt_cache_key: Annotated[
        str | Absent, Field(description="Marks the prompt for the provider's cache, for five minutes.")
    ] = None
    stream: bool = False
    store: Annotated[bool | Absent, Field(description="Taken as false.")] = None


class ResponseResource(BaseModel):
    """A response. Its `usage` counts what was read from a cache as input, and has the cost."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(pattern="^resp_")]
    object: Literal["response"]
    created_at: Annotated[int, Field(description="Seconds since the epoch.")]
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    model: str
    output: list[dict[str, Any]]
    usage: Annotated[
        dict[str, Any] | None,
        Field(description="Beside the tokens `cost_msat`, `cost_usd` (before the margin) and `balance_msat`."),
    ]
    store: Literal[False]


class InputTokens(BaseModel):
    """The provider's count of a prompt's tokens."""

    object: Literal["response.input_tokens"]
    input_tokens: Annotated[int, Field(ge=0)]
