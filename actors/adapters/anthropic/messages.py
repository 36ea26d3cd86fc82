"""Bodies of our own calls to the Messages API: an evaluation and the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...domain.llm.model_traits import traits_of
from ...domain.llm.prompts import (
    EVALUATION_MAX_TOKENS,
    EVALUATION_SYSTEM,
    VERDICT_SCHEMA,
    evaluation_content,
    work_system,
)
from ...domain.llm.relays import countable


def evaluation_message(model: str, request: str) -> Mapping[str, Any]:
    """Return the body that asks for a verdict.

    The verdict is held to a schema by the API's structured outputs (`output_config.format`), which Haiku 4.5 and 5.5
    both know; a forced tool call, the older way, is an error on Sonnet 5.5.
    """
    config = {"format": {"type": "json_schema", "schema": VERDICT_SCHEMA}}
    content = evaluation_content(request)
    return _message(model, EVALUATION_MAX_TOKENS, EVALUATION_SYSTEM, content, output_config=config)


def work_message(model: str, max_tokens: int, request: str, *, stream: bool = False) -> Mapping[str, Any]:
    """Return the body that asks for the work, as a whole or piece by piece."""
    fields = {"stream": True} if stream else {}
    return _message(model, max_tokens, work_system(max_tokens), [request], **fields)


def own_prompt(request: str, model: str, max_tokens: int | None) -> bytes:
    """Return the body that asks for the count of work's prompt, or without `max_tokens` of an evaluation's."""
    message = evaluation_message(model, request) if max_tokens is None else work_message(model, max_tokens, request)
    return countable(msgspec.json.encode(message))


def _message(model: str, max_tokens: int, system: str, content: Sequence[str], **fields: object) -> Mapping[str, Any]:
    """Return the body of a call: one user message, with the least thinking.

    Thinking is billed as output and counts towards max_tokens, while both are set for the length of the answer: at the
    models' defaults it can use up a small job's tokens before the first word.
    """
    texts = [{"type": "text", "text": text} for text in content]
    message = {
        "model": model,
        "max_tokens": max_tokens,
        "system": system,
        "messages": [{"role": "user", "content": texts}],
    }
    thinking = traits_of(model).least_thinking
    return message | fields | ({} if thinking is None else {"thinking": thinking})
