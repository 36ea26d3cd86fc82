"""Arguments of tool calls in a history that are no JSON object, such as those of an answer that was cut off.

llama.cpp and vLLM parse them, and answer 500 or 400 to the whole conversation, for ever.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


def arguments_of(given: str | dict[str, Any] | None, name: str = "arguments") -> dict[str, Any]:
    """Return the arguments of a call. Text that is not an object, such as one that was cut off, stands under `name`."""
    if isinstance(given, dict):
        return given
    if not given or not given.strip():
        return {}
    try:
        arguments = msgspec.json.decode(given)
    except (ValueError, RecursionError):
        return {name: given}
    if isinstance(arguments, dict):
        return arguments
    return {} if arguments is None else {name: given}


class Mended(NamedTuple):
    """Messages with arguments that any server can read, and by how many bytes they have grown."""

    messages: list[Any]
    grown_bytes: int


def mended(messages: Any) -> Mended | None:
    """Return the messages with mended arguments; None where nothing has to be mended, or where it can't be."""
    if not isinstance(messages, list):
        return None
    grown_bytes, changed, found = 0, False, []
    for message in messages:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(calls, list):
            try:
                readable = [_readable(call) for call in calls]
                if readable != calls:
                    grown_bytes += len(msgspec.json.encode(readable)) - len(msgspec.json.encode(calls))
                    found.append({**message, "tool_calls": readable})
                    changed = True
                    continue
            except ValueError:
                return None  # It holds half a character, which only the client's own bytes can.
        found.append(message)
    return Mended(found, grown_bytes) if changed else None


def _readable(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or "arguments" not in function:
        return call
    given = function["arguments"]
    if given is not None and not isinstance(given, str):
        return call
    try:
        if isinstance(msgspec.json.decode(given or ""), dict):
            return call
    except (ValueError, RecursionError):
        pass
    arguments = msgspec.json.encode(arguments_of(given)).decode()
    return {**call, "function": {**function, "arguments": arguments}}
