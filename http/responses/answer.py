"""Translation of a Messages API answer to a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...actors.domain.llm.usage import Counts, counts_of
from ..translation.message import Tokens, message_of, tokens_of
from .output import Output, incomplete_reason
from .request import Asked

Json = dict[str, Any]


def response(body: bytes, asked: Asked, created_s: int, cost: Mapping[str, int | str]) -> bytes:
    """Return the whole response. `created_s` is in seconds since the epoch, `cost` goes into its usage.

    Raises `UnreadableAnswerError`.
    """
    message = message_of(body)
    head = Head(asked, created_s, message.id, message.model)
    output = head.output()
    for block in message.content:
        for _ in (*output.begin(block), *output.stop()):
            pass
    for _ in output.end(message.stop_reason, message.stop_details):
        pass
    return msgspec.json.encode(head.ended(output.items, message.stop_reason, counts_of(message.usage), cost))


class Head:
    """The fields of a response beside its output. The ids derive from the message's, so that a repeat has the same."""

    def __init__(self, asked: Asked, created_s: int, message_id: str, model: str) -> None:
        self._asked = asked
        self._created_s = created_s
        self._id = message_id.removeprefix("msg_")
        self._model = model

    def output(self) -> Output:
        """Return the output, which is empty."""
        asked = self._asked
        return Output(self._id, asked.tools, seals=asked.seals, summarizes=asked.summarizes)

    def begun(self) -> Json:
        """Return the response that has begun."""
        return self._shown("in_progress", [], None)

    def ended(self, items: list[Json], stop_reason: str | None, counts: Counts, cost: Mapping[str, int | str]) -> Json:
        """Return the response that has ended."""
        reason = incomplete_reason(stop_reason)
        usage = {**_usage(tokens_of(counts)), **cost}
        if reason is None:
            return self._shown("completed", items, usage)
        return self._shown("incomplete", items, usage, incomplete_details={"reason": reason})

    def failed(self, items: list[Json], counts: Counts, cost: Mapping[str, int | str], code: str, message: str) -> Json:
        """Return the response that broke off."""
        usage = {**_usage(tokens_of(counts)), **cost} if cost else None
        return self._shown("failed", items, usage, error={"code": code, "message": message})

    def _shown(self, status: str, items: list[Json], usage: Json | None, **fields: Any) -> Json:
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created_s,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": items,
            **self._asked.echo,
            "usage": usage,
            **fields,
        }


def _usage(found: Tokens) -> Json:
    """Return OpenAI's usage, whose input tokens include cache reads and writes."""
    return {
        "input_tokens": found.prompt,
        "input_tokens_details": {"cached_tokens": found.read, "cache_write_tokens": found.written},
        "output_tokens": found.output,
        "output_tokens_details": {"reasoning_tokens": found.thoughts},
        "total_tokens": found.prompt + found.output,
    }
