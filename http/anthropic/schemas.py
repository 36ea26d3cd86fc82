"""Schemas of Anthropic's protocol: the fields that a body must have, and the shape of errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...actors.domain.errors import Code
from ..schema import Advice


class MessagesRequest(BaseModel):
    """A body of Anthropic's Messages API, with all of its fields."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(description="One of those in GET /pricing, or a dated version of it.")]
    max_tokens: Annotated[int, Field(ge=0, description="Lowered to what the balance covers.")]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    stream: bool = False


class CountRequest(BaseModel):
    """A body of Anthropic's token counting: a Messages API body without the fields for the answer."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]


class TokenCount(BaseModel):
    """The provider's count of a prompt's tokens."""

    model_config = ConfigDict(extra="allow")

    input_tokens: Annotated[int, Field(ge=0)]


class Message(BaseModel):
    """An answer of Anthropic's Messages API, as the provider gave it."""

    model_config = ConfigDict(extra="allow")

    type: str
    content: list[dict[str, Any]]
    usage: dict[str, Any]


class MessagesErrorInside(BaseModel):
    """The part of an error body that Anthropic's SDK builds its errors from."""

    type: str
    message: Annotated[str, Field(description="One sentence for a person.")]


class MessagesError(Advice):
    """An error in the shape of Anthropic's Messages API, with the code and the fields that our own errors have."""

    type: Literal["error"]
    error: MessagesErrorInside
    request_id: Annotated[str, Field(pattern="^req_[A-Za-z0-9_-]+$")]
    code: Code | Literal["internal_error"]
