"""Calls of OpenAI's chat completions, from bodies whose bytes go on with only what must change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.catalogue import Api
from ..response.errors import invalid
from .body_edits import BodyEdits
from .chat_costs import ChatBound, bound_of_chat, choices_of
from .json_members import read_members
from .letter_case import check_case
from .provider_call import ProviderCall
from .served_models import ServedModels
from .tool_arguments import mended

_MAX_TOKENS_MAX: Final = 10_000_000
# The newer name is the one that counts where both are given.
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_OLDER: Final = "max_tokens"
# Names of the client's users. Each goes on as a digest.
_USERS: Final = ("user", "safety_identifier")
# Fields that act beyond the call. The answer is the same without them.
_DROPPED: Final = ("store", "metadata")
_LEAST_EFFORTS: Final = (None, "none", "minimal")
_THINKS: Final = ("reasoning", "thinking", "chat_template_kwargs")


class ChatBody:
    """A body of chat completions that was read: how to send it, and the parts of it that its answer depends on.

    `tells_usage`: the client asked for the usage of its stream. `ignored` are the names of fields without an effect.
    `thinks`: the client asked the model to think.
    """

    def __init__(self, data: bytes, models: ServedModels, digest: Callable[[str], str]) -> None:
        """Read a body. `digest` hides the name of a user. Raises `RefusedError` (400), naming the field."""
        text, members = read_members(data)
        values = {name: member.value for name, member in members.items()}
        self._entry = models.named(values.get("model"))
        self._choices = choices_of(values)
        self._edits = BodyEdits(text, members)
        self._bound: ChatBound = bound_of_chat(values, len(data) + self._mended(values), self._entry)
        self._limit = next((name for name in _LIMITS if values.get(name) is not None), None)
        self._field = self._limit_field(models)
        self._max_tokens = None if self._limit is None else _max_tokens(values[self._limit], self._limit)
        self.model = self._entry.name
        self.streams = _flag(values.get("stream"), "stream")
        self.tells_usage = self.streams and _force_usage(self._edits, values.get("stream_options"))
        self.thinks = values.get("reasoning_effort") not in _LEAST_EFFORTS or any(map(values.get, _THINKS))
        self.ignored = tuple(self._changed(values, digest))

    def call(self, default_tokens: int) -> ProviderCall:
        """Return the call. `default_tokens` is the limit of the answer if the client named none."""
        limit = default_tokens if self._max_tokens is None else self._max_tokens
        most = self._entry.max_output_tokens
        return ProviderCall(
            model=self.model,
            body=self._edits.finished(self._field, limit if most is None else min(limit, most), self._choices),
            stream=self.streams,
            prompt_tokens_max=self._bound.tokens,
            prompt_rate=self._bound.rate,
            api=Api.OPENAI,
        )

    def _mended(self, values: dict[str, Any]) -> int:
        """Mend the arguments of tool calls, and return by how many bytes the body has grown, at least none."""
        found = mended(values.get("messages"))
        if found is None:
            return 0
        try:
            self._edits.set("messages", found.messages)
        except RefusedError:
            return 0  # Half a character elsewhere goes on only in the client's own bytes.
        values["messages"] = found.messages
        return max(0, found.grown_bytes)

    def _limit_field(self, models: ServedModels) -> str:
        """Return the name under which the limit goes on: the client's, where it is sure that the upstream heeds it."""
        own = models.limit_field(self._entry)
        # Ollama, and others, pass over the newer name: the answer would have no limit, and the hold would be too low.
        return own if self._limit is None or own == _OLDER else self._limit

    def _changed(self, values: Mapping[str, Any], digest: Callable[[str], str]) -> list[str]:
        """Change what must be, and return the names of the fields that have no effect."""
        asked = values["model"]
        if asked != (sent := self._entry.sent_as(asked)):
            self._edits.set("model", sent)
        ignored = [name for name in _DROPPED if values.get(name) not in (None, False, {})]
        others = [name for name in _LIMITS if name != self._field and values.get(name) is not None]
        for name in (*ignored, *others):
            # Null is the same as leaving it out.
            self._edits.set(name, None)
        ignored += [name for name in _LIMITS if name != self._limit and values.get(name) is not None]
        for name in _USERS:
            if values.get(name):
                self._edits.set(name, _hidden(values[name], name, digest))
        return ignored


def _max_tokens(value: Any, field: str) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_TOKENS_MAX:
        raise invalid(field, f"Must be a whole number from 1 to {_MAX_TOKENS_MAX}")
    return value


def _force_usage(edits: BodyEdits, options: Any) -> bool:
    """Ask for the usage of a stream, by which it is charged. Return whether the client asked for it."""
    if options is not None and not isinstance(options, dict):
        raise invalid("stream_options", "Must be an object")
    check_case(options or {}, ("include_usage",), "stream_options")
    if options and options.get("include_usage") is True:
        return True
    edits.set("stream_options", {**(options or {}), "include_usage": True})
    return False


def _hidden(name: Any, field: str, digest: Callable[[str], str]) -> str:
    if not isinstance(name, str):
        raise invalid(field, "Must be text")
    return digest(name)


def _flag(value: Any, name: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise invalid(name, "Must be true or false")
    return bool(value)
