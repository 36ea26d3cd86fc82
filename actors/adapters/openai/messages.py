"""Bodies of our own calls to chat completions: an evaluation and the work."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ...domain.llm.prompts import (
    EVALUATION_MAX_TOKENS,
    EVALUATION_SYSTEM,
    VERDICT_SCHEMA,
    evaluation_content,
    work_system,
)

_VERDICT_FORMAT: Final = {
    "type": "json_schema",
    "json_schema": {"name": "verdict", "strict": True, "schema": VERDICT_SCHEMA},
}


def evaluation_body(model: str, request: str, limit_field: str = "max_tokens") -> bytes:
    """Return the body that asks for a verdict in its schema. `limit_field`: see `chat_limit_field`."""
    content = "\n\n".join(evaluation_content(request))
    limit = {limit_field: EVALUATION_MAX_TOKENS}
    return _body(model, limit, EVALUATION_SYSTEM, content, response_format=_VERDICT_FORMAT)


def work_body(model: str, max_tokens: int, request: str, limit_field: str = "max_tokens") -> bytes:
    """Return the body that asks for the work."""
    return _body(model, {limit_field: max_tokens}, work_system(max_tokens), request)


def _body(model: str, limit: dict[str, int], system: str, content: str, **fields: Any) -> bytes:
    """Return a body with one user message, as a plain string: not every server takes a list of parts.

    It is always streamed: llama.cpp runs a plain call to its end after we have hung up.
    """
    messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
    return msgspec.json.encode(
        {
            "model": model,
            **limit,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **fields,
        }
    )
