"""Cost of a call in the `usage` of the provider's body, which stays unchanged otherwise: a receipt has its digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

# In a text, the quotation marks would be escaped.
_LAST_USAGE: Final = b'"message_delta"'
_MORE: Final = b'"content_block_'
_BLANK_LINE: Final = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_DATA: Final = re.compile(rb"^data:[ \t]*(\{[^\r\n]*\})", re.MULTILINE)


class _Event(msgspec.Struct):
    type: str


def with_cost(body: bytes, cost: Mapping[str, int | str]) -> bytes:
    """Return the body with these members after the others of its `usage`, or unchanged if it has no `usage`.

    The insertion is one piece of text, so that its removal restores the provider's bytes.
    """
    try:
        shown = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        usage = bytes(shown["usage"])
        members = msgspec.json.decode(usage, type=dict[str, msgspec.Raw])
    except (ValueError, KeyError, RecursionError):
        return body
    text = msgspec.json.encode(cost)[1:]
    spliced = usage[:-1] + (b"," if members else b"") + text
    at = body.rfind(usage)
    once = at == body.find(usage)
    while at >= 0:
        candidate = body[:at] + spliced + body[at + len(usage) :]
        if once:
            return candidate
        # The same text may occur elsewhere, such as in the input of a tool call.
        # Within a string it would break the body.
        with suppress(ValueError):
            if msgspec.json.decode(candidate, type=dict[str, msgspec.Raw]).get("usage") == msgspec.Raw(spliced):
                return candidate
        at = body.rfind(usage, 0, at + len(usage) - 1)
    return body


class LastUsage:
    """The end of a stream, from the event with the last usage on, which waits for the cost of the call."""

    def __init__(self) -> None:
        self._held = b""

    def pass_on(self, events: bytes) -> bytes:
        """Return these whole events without those that wait."""
        if self._held:
            held, self._held = self._held, b""
            if _MORE not in events:
                self._held = held + events
                return b""
            # Another part of the answer follows, so that the usage was not the last one.
            events = held + events
        at = events.rfind(_LAST_USAGE)
        if at < 0:
            return events
        start = max((found.end() for found in _BLANK_LINE.finditer(events, 0, at)), default=0)
        if not _is_last_usage(events[start:]) or _MORE in events[start:]:
            return events
        self._held = events[start:]
        return events[:start]

    def end(self, cost: Mapping[str, int | str] | None = None) -> bytes:
        """Return the events that wait, with the cost in the usage if it is known."""
        held, self._held = self._held, b""
        found = None if cost is None else _DATA.search(held)
        if found is None:
            return held
        assert cost is not None
        return held[: found.start(1)] + with_cost(found[1], cost) + held[found.end(1) :]


def _is_last_usage(event: bytes) -> bool:
    found = _DATA.search(event)
    try:
        return found is not None and msgspec.json.decode(found[1], type=_Event).type == "message_delta"
    except (ValueError, RecursionError):
        return False
