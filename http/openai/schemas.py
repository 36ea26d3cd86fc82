"""Schemas of OpenAI's API: the fields that a body must have, and the shape of answers and errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...actors.domain.errors import Code
from ..schema import Absent, Advice


class ChatRequest(BaseModel):
    """A body of OpenAI's chat completions."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(description="One of those in GET /v1/models, or a dated version of it.")]
    messages: Annotated[
        list[dict[str, Any]], Field(min_length=1, description="PDFs are sent as data URLs, images so or by URL.")
    ]
    tools: Annotated[list[dict[str, Any]] | Absent, Field(description="Functions.")] = None
    tool_choice: Any = None
    # Bounds stand at the number itself: at a union the document would name them as Python does.
    max_completion_tokens: Annotated[
        Annotated[int, Field(ge=1)] | Absent,
        Field(description="Lowered to what the balance covers. `max_tokens` is the same."),
    ] = None
    stop: Any = None
    temperature: Annotated[Annotated[float, Field(ge=0, le=2)] | Absent, Field(description="From 1 on it is 1.")] = None
    top_p: Annotated[float, Field(ge=0, le=1)] | Absent = None
    response_format: Annotated[
        dict[str, Any] | Absent,
        Field(description="`json_schema` is enforced; `json_object` is asked of the model in words."),
    ] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | Absent,
        Field(description="Without it the model thinks as little as it can."),
    ] = None
    stream: bool = False
    stream_options: dict[str, Any] | Absent = None


class ChatCompletion(BaseModel):
    """An answer of OpenAI's chat completions. `usage` counts what was read from a cache as part of the prompt."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["chat.completion"]
    created: Annotated[int, Field(description="Seconds since the epoch.")]
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]


class ChatErrorInside(BaseModel):
    """The part of an error body that OpenAI's SDK builds its errors from. `param` and `code` may be null."""

    model_config = ConfigDict(extra="allow")

    message: Annotated[str, Field(description="One sentence for a person.")]
    type: str


class ChatError(Advice):
    """An error in OpenAI's shape, with the code and the fields that our own errors have."""

    error: ChatErrorInside
    code: Code | Literal["internal_error"]
    request_id: Annotated[str, Field(alias="requestId", pattern="^req_[A-Za-z0-9_-]+$")]
