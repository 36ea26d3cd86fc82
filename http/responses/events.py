"""The events of a streamed response, numbered from 0, whichever API the answer came in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..response import sse
from ..translation.message import Tokens
from .head import Head
from .output import Output

Json = dict[str, Any]


class Events(ABC):
    """The events of one response. It keeps the answer, which the last event repeats.

    The last event waits for the cost of the call: see `end` and `fail`. Each API has a reader of its own, which names
    the `head` once the upstream has begun, and then feeds `output`.
    """

    def __init__(self, head: Head, *, alternates: bool = False) -> None:
        self.begun = False
        self.ended = False
        self.output: Output = head.output(alternates=alternates)
        self._alternates = alternates
        self._head = head
        self._number = 0

    def read(self, chunk: bytes) -> bytes:
        """Return the events for this piece of the upstream's stream."""
        return self._sent(self._read(chunk))

    def end(self, cost: Mapping[str, int | str]) -> bytes:
        """Return the last events.

        An answer without an end is one whose client hung up: its repeated request gets the answer up to that point.
        """
        return self._sent(self._end(cost))

    def fail(self, error: Mapping[str, Any], code: str, cost: Mapping[str, int | str]) -> bytes:
        """Return the last events of an answer that broke off. `error` has the fields of the `error` event."""
        return self._sent(self._fail(error, code, cost))

    def begin(self, head: Head | None = None) -> Iterator[Json]:
        """Yield the first events, once."""
        if self.begun:
            return
        self.begun = True
        if head is not None:
            self._head, self.output = head, head.output(alternates=self._alternates)
        yield {"type": "response.created", "response": self._head.begun()}
        yield {"type": "response.in_progress", "response": self._head.begun()}

    @property
    @abstractmethod
    def used(self) -> Tokens:
        """The tokens that the upstream has counted so far."""

    @abstractmethod
    def _read(self, chunk: bytes) -> Iterator[Json]:
        """Yield the events for this piece, unless the answer has `ended`."""

    @abstractmethod
    def _finish(self) -> Iterator[Json]:
        """Yield the events that end the last items."""

    @property
    @abstractmethod
    def _reason(self) -> str | None:
        """Why the answer is incomplete; None if it is complete."""

    def _end(self, cost: Mapping[str, int | str]) -> Iterator[Json]:
        yield from self.begin()
        yield from self._finish()
        shown = self._head.ended(self.output.items, self._reason, self.used, cost)
        self.ended = True
        yield {"type": f"response.{shown['status']}", "response": shown}

    def _fail(self, error: Mapping[str, Any], code: str, cost: Mapping[str, int | str]) -> Iterator[Json]:
        self.ended = True
        yield from self.begin()
        yield {"type": "error", "param": None, **error}
        shown = self._head.failed(self.output.items, self.used, cost, code, error["message"])
        yield {"type": "response.failed", "response": shown}

    def _sent(self, events: Iterable[Json]) -> bytes:
        return b"".join(map(self._numbered, events))

    def _numbered(self, event: Json) -> bytes:
        shown = {"type": event["type"], "sequence_number": self._number, **event}
        self._number += 1
        return sse.event(event["type"], msgspec.json.encode(shown))
