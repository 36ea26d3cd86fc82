"""Calls of OpenAI's chat completions, from bodies whose bytes go on with only what must change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ...actors.domain.llm.catalogue import ModelEntry
from ...actors.domain.llm.relays import RelayBody
from ..response.errors import invalid
from .chat_costs import bound_of_chat, choices_of
from .json_members import Member, read_members
from .provider_call import ProviderCall

_MAX_TOKENS_MAX: Final = 10_000_000
# The newer name is the one that counts where both are given.
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
# Names of the client's users. Each goes on as a digest.
_USERS: Final = ("user", "safety_identifier")
# Fields that act beyond the call. The answer is the same without them.
_DROPPED: Final = ("store", "metadata")


class ChatCall(NamedTuple):
    """A call, and the parts of it that its answer depends on.

    `tells_usage`: the client asked for the usage of its stream. `ignored` are the names of fields without an effect.
    """

    call: ProviderCall
    tells_usage: bool
    ignored: tuple[str, ...]


class _Change(NamedTuple):
    start: int
    end: int
    text: str


def read_chat_call(data: bytes, entry: ModelEntry, default_tokens: int, digest: Callable[[str], str]) -> ChatCall:
    """Return the call in a body for this model. Raises `RefusedError` (400), naming the field.

    `default_tokens` is the limit of the answer if the client named none; `digest` hides the name of a user.
    """
    text, members = read_members(data)
    values = {name: member.value for name, member in members.items()}
    choices = choices_of(values)
    bound = bound_of_chat(values, len(data), entry)
    streams = _flag(values.get("stream"), "stream")
    body = _Body(text, members)
    asked = values.get("model")
    if asked != (sent := entry.sent_as(asked) if isinstance(asked, str) else entry.upstream_model):
        body.set("model", sent)
    ignored = [name for name in _DROPPED if values.get(name) not in (None, False, {})]
    for name in ignored:
        body.set(name, None)
    for name in _USERS:
        if values.get(name):
            body.set(name, _hidden(values[name], name, digest))
    tells_usage = streams and _force_usage(body, values.get("stream_options"))
    field, max_tokens = _limit(values, default_tokens, entry)
    for other in _LIMITS:
        if other != field and values.get(other) is not None:
            body.set(other, None)
            ignored.append(other)
    return ChatCall(
        call=ProviderCall(
            model=entry.name,
            body=body.finished(field, max_tokens, choices),
            stream=streams,
            prompt_tokens_max=bound.tokens,
            prompt_rate=bound.rate,
        ),
        tells_usage=tells_usage,
        ignored=tuple(ignored),
    )


class _Body:
    """A body with the changes to be made in it, by the outermost member."""

    def __init__(self, text: str, members: Mapping[str, Member]) -> None:
        self._text = text
        self._members = members
        self._changes: dict[str, str] = {}

    def set(self, name: str, value: Any) -> None:
        """Give a member another value, or add it. Raises `RefusedError` (400) for half a character."""
        try:
            self._changes[name] = _json(value)
        except ValueError:
            raise invalid(name, "Must be text that can be encoded") from None

    def finished(self, field: str, max_tokens: int, choices: int) -> RelayBody:
        """Return the body, in which `field` is the limit of each answer."""
        # A body without any member has been refused: it names no model.
        end = max(member.end for member in self._members.values())
        changes = [
            _Change(found.start, found.end, self._changes[name])
            for name, found in self._members.items()
            if name in self._changes
        ]
        changes += [
            _Change(end, end, f",{_json(name)}:{value}")
            for name, value in self._changes.items()
            if name not in self._members
        ]
        if (found := self._members.get(field)) is not None:
            number = _Change(found.start, found.end, str(max_tokens))
        else:
            changes.append(_Change(end, end, f",{_json(field)}:"))
            number = _Change(end, end, str(max_tokens))
        # A sort keeps the order of what is added at the end.
        before, after = self._spliced(sorted([*changes, number], key=lambda change: change.start), number)
        begun = before.encode()
        start, last = len(begun) - len(number.text), len(begun)
        return RelayBody(begun + after.encode(), max_tokens, start, last, choices)

    def _spliced(self, changes: list[_Change], number: _Change) -> tuple[str, str]:
        """Return the text up to the end of the number, and the rest."""
        made: list[str] = []
        before, at = "", 0
        for change in changes:
            made += [self._text[at : change.start], change.text]
            at = change.end
            if change is number:
                before, made = "".join(made), []
        return before, "".join([*made, self._text[at:]])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _limit(values: Mapping[str, Any], default_tokens: int, entry: ModelEntry) -> tuple[str, int]:
    """Return the field with the limit of an answer, and the limit, which the model's own lowers."""
    field = next((name for name in _LIMITS if values.get(name) is not None), "max_tokens")
    value = values.get(field)
    if value is None:
        value = default_tokens
    elif type(value) is not int or not 1 <= value <= _MAX_TOKENS_MAX:
        raise invalid(field, f"Must be a whole number from 1 to {_MAX_TOKENS_MAX}")
    return field, value if entry.max_output_tokens is None else min(value, entry.max_output_tokens)


def _force_usage(body: _Body, options: Any) -> bool:
    """Ask for the usage of a stream, by which it is charged. Return whether the client asked for it."""
    if options is not None and not isinstance(options, dict):
        raise invalid("stream_options", "Must be an object")
    if options and options.get("include_usage") is True:
        return True
    body.set("stream_options", {**(options or {}), "include_usage": True})
    return False


def _hidden(name: Any, field: str, digest: Callable[[str], str]) -> str:
    if not isinstance(name, str):
        raise invalid(field, "Must be text")
    return digest(name)


def _flag(value: Any, name: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise invalid(name, "Must be true or false")
    return bool(value)
