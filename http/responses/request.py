"""Translation of a Responses request to a body of the Messages API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...actors.domain.llm.model_traits import traits_of
from ..response.errors import invalid
from ..translation import request as common
from ..translation.request import JSON_ONLY, MARK
from ..upstreams.served_models import ServedModels
from . import request_schema as wire
from .input_items import split
from .messages_tools import tool_fields
from .reading import Given, read_request, shown_ignored
from .thoughts import ChatThought
from .tools import Tools
from .wanted import Wanted


class Asked(msgspec.Struct, frozen=True):
    """A translated request: `body` for the Messages API, without `max_tokens` and `stream`, and the other options.

    `thinks`: the model may think before it answers, which counts towards `max_tokens`. `ignored` are the names of
    fields that were sent and have no effect.
    """

    body: dict[str, Any]
    thinks: bool
    max_tokens: int | None
    stream: bool
    ignored: tuple[str, ...]
    wanted: Wanted

    def encoded(self, default_tokens: int) -> bytes:
        """Return the whole body. `default_tokens` is the limit if the client named none, as the API needs one."""
        return common.encoded(self.body, self.stream, self.max_tokens or default_tokens)


def asked_of(body: bytes, models: ServedModels, user_key: bytes = b"") -> Asked:
    """Translate the request to the Messages API. Raises `RefusedError` (400) that names the field."""
    given = read_request(body)
    asked, shape = given.asked, given.shape
    traits = traits_of(models.named(asked.model).upstream_model)
    tools = Tools(asked.tools or ())
    thoughts = given.thoughts(lambda thought: not isinstance(thought, ChatThought))
    ignored = [*given.ignored, *_details(given)]
    try:
        system, messages = split(asked.instructions, asked.input, tools, thoughts)
        made: dict[str, Any] = {
            "model": asked.model,
            "messages": messages,
            **tool_fields(asked, tools),
            **common.sampling(asked.temperature, asked.top_p, traits, ignored),
            **common.output(given.reasoning.effort, _schema(shape), traits, ignored, "reasoning.effort"),
        }
    except RecursionError:
        raise common.too_deep() from None
    if given.summary is not None and traits.effort and "thinking" not in made:
        # Newer models show no thoughts unless they are asked to.
        made["thinking"] = {"type": "adaptive", "display": "summarized"}
    texts = tools.notes if "tools" in made else []
    if shape is not None and shape.type == "json_object":
        texts = [*texts, JSON_ONLY]
    system += [{"type": "text", "text": text} for text in texts]
    if system:
        made["system"] = system
    made |= common.user(user_key, asked.safety_identifier or asked.user)
    if _caches(asked) and common.may_mark(made):
        made[MARK] = {"type": "ephemeral"}
    common.check_marks(made)
    return Asked(
        body=made,
        thinks=traits.effort and made.get("thinking", {}).get("type", "adaptive") == "adaptive",
        max_tokens=asked.max_output_tokens,
        stream=asked.stream is True,
        ignored=shown_ignored(ignored),
        wanted=given.wanted(tools, strict=True),
    )


def _details(given: Given) -> Iterator[str]:
    """Yield the paths of what the Messages API does not know: its models look at all images as closely."""
    for path, part in given.parts:
        if isinstance(part, wire.InputImage) and part.detail not in (None, "auto"):
            yield f"{path}.detail"


def _schema(shape: wire.TextFormat | None) -> dict[str, Any] | None:
    if shape is None or shape.type != "json_schema":
        return None
    if shape.schema is None:
        raise invalid("text.format.schema", "This field is required")
    return common.schema_of(shape.schema, "text.format.schema")


def _caches(asked: wire.ResponsesRequest) -> bool:
    """Return True if the client names a cache: OpenAI's is used without a mark, the Messages API's needs one."""
    options = asked.prompt_cache_options
    return bool(asked.prompt_cache_key) and (options is None or options.mode != "explicit")
