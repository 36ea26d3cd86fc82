"""The response object around its output items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..translation.message import Tokens
from .output import Output
from .wanted import Wanted

Json = dict[str, Any]


class Head:
    """The fields of a response beside its output. `answer_id` is the provider's, so that a repeat has the same ids.

    `created_s` is in seconds since the epoch.
    """

    def __init__(self, wanted: Wanted, created_s: int, answer_id: str, model: str) -> None:
        self._wanted = wanted
        self._created_s = created_s
        self._id = answer_id
        self._model = model

    def output(self, *, alternates: bool = False) -> Output:
        """Return the output, which is empty. `alternates`: see `Output`."""
        return Output(self._id, self._wanted, alternates=alternates)

    def begun(self) -> Json:
        """Return the response that has begun."""
        return self._shown("in_progress", [], None)

    def ended(self, items: list[Json], reason: str | None, used: Tokens, cost: Mapping[str, int | str]) -> Json:
        """Return the response that has ended; `reason` says why it is incomplete, None that it is complete."""
        usage = {**_usage(used), **cost}
        if reason is None:
            return self._shown("completed", items, usage)
        return self._shown("incomplete", items, usage, incomplete_details={"reason": reason})

    def failed(self, items: list[Json], used: Tokens, cost: Mapping[str, int | str], code: str, message: str) -> Json:
        """Return the response that broke off."""
        usage = {**_usage(used), **cost} if cost else None
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
            **self._wanted.echo,
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
