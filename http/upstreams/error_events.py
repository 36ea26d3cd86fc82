"""Errors of an upstream in the middle of a stream: its own event, with this server's fields beside the others.

The event stays unchanged otherwise: a receipt has the digest of the upstream's bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.half_characters import decoded
from ..request_facts import RequestFacts
from ..response import errors

Told = Callable[[RefusedError, RequestFacts], bytes]
"""Builds this server's own event of an error."""

# In a text, the quotation marks would be escaped.
_ERROR: Final = b'"error"'
_BLANK_LINE: Final = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_DATA: Final = re.compile(rb"(?<![^\r\n])data:[ \t]*(\{[^\r\n]*\})")
_NAMED: Final = re.compile(rb"(?<![^\r\n])event:[ \t]*error[ \t]*(?=[\r\n])")
_NOTHING: Final = frozenset({b"null", b"false", b"0", b'""', b"{}", b"[]"})
_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ErrorEvents:
    """The end of a stream, from the upstream's error on, which waits for what is known of the call at its end.

    `named`: SDKs raise an error only by the name of its event.
    """

    def __init__(self, *, named: bool) -> None:
        self._named = named
        self._held = b""

    def pass_on(self, events: bytes) -> bytes:
        """Return these whole events without those that wait."""
        if self._held:
            if not events:
                return b""
            # More follows, so that the error was not the end. One that waits for no end would be kept from the client.
            return self.release() + self.pass_on(events)
        if _ERROR not in events:
            return events
        ends = [found.end() for found in _BLANK_LINE.finditer(events)]
        begin = ends[-2] if len(ends) > 1 else 0
        # As above, what the last event comes behind was not the end.
        if not _is_error(events[begin:]):
            return events
        self._held = events[begin:]
        return events[:begin]

    def release(self) -> bytes:
        """Return the events that wait, as they came: the answer did not end with them."""
        held, self._held = self._held, b""
        return held

    def end(self, error: RefusedError, facts: RequestFacts, told: Told, rest: bytes = b"") -> bytes:
        """Return the events that wait, with the fields of `error` in the first; our own event, if SDKs raise none.

        `rest` is the beginning of an event, in which the upstream may have told its error without ending it.
        """
        if rest and not self._held:
            self.pass_on(rest + b"\n\n")
        held = self.release()
        found = _DATA.search(held)
        if found is None:
            return told(error, facts)
        fields = errors.body_of(error.refusal, facts)
        del fields["error"]
        event = held[: found.start(1)] + with_fields(found[1], fields) + held[found.end(1) :]
        raised = not self._named or _NAMED.search(held) is not None
        return event if raised else event + told(error, facts)


def with_fields(data: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return the object with these members after its own, as one piece of text. Those that it has stay its own."""
    own = _read(data)
    added = {name: value for name, value in fields.items() if name not in own}
    return data[:-1] + (b"," if own else b"") + msgspec.json.encode(added)[1:] if added else data


def _is_error(event: bytes) -> bool:
    """Return whether an event is an error to both APIs' SDKs: its `error` says something."""
    found = _DATA.search(event) if _ERROR in event else None
    if found is None:
        return False
    error = _read(found[1]).get("error")
    return error is not None and bytes(error) not in _NOTHING


def _read(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        return decoded(_objects.decode, data)
    except (ValueError, RecursionError):
        return {}
