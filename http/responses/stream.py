"""Translation of a streamed Messages API answer to the events of a response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ...actors.domain.llm.usage import StreamCounts, counts_of
from ..response import sse
from ..translation.message import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Change,
    Event,
    EventReader,
    MessageDelta,
    MessageStart,
    MessageStop,
)
from .answer import Head
from .output import Output
from .request import Asked

Json = dict[str, Any]


class ResponseStream:
    """The events of one response, numbered from 0. It keeps the answer, which the last event repeats.

    The last event waits for the cost of the call: see `end` and `fail`. `fallback_id` is the response's id if it fails
    before the provider has given one.
    """

    def __init__(self, asked: Asked, model: str, created_s: int, fallback_id: str) -> None:
        self._asked = asked
        self._created_s = created_s
        self._reader = EventReader()
        self._counted = StreamCounts()
        self._model = model
        self._head = Head(asked, created_s, fallback_id, model)
        self._output: Output = self._head.output()
        self._change = Change()
        self._begun = False
        self._ended = False
        self._number = 0

    def read(self, chunk: bytes) -> bytes:
        """Return the events for this piece of the provider's stream."""
        return self._sent(shown for event in self._reader.read(chunk) if not self._ended for shown in self._take(event))

    def end(self, cost: Mapping[str, int | str]) -> bytes:
        """Return the last events.

        An answer without an end is one whose client hung up: its repeated request gets the answer up to that point.
        """
        if not self._ended:
            self._ended = True
            self._change = Change("max_tokens")
        return self._sent(self._end(cost))

    def fail(self, error: Mapping[str, Any], code: str, cost: Mapping[str, int | str]) -> bytes:
        """Return the last events of an answer that broke off. `error` has the fields of the `error` event."""
        self._ended = True
        return self._sent(self._fail(error, code, cost))

    def _take(self, event: Event) -> Iterator[Json]:
        match event:
            case MessageStart(message=begun):
                self._head = Head(self._asked, self._created_s, begun.id, begun.model or self._model)
                self._output = self._head.output()
                self._counted.begin(counts_of(begun.usage))
                yield from self._begin()
            case BlockStart(content_block=block):
                yield from self._output.begin(block)
            case BlockDelta(delta=piece):
                yield from self._output.go_on(piece)
            case BlockStop():
                yield from self._output.stop()
            case MessageDelta(delta=change, usage=counted):
                self._change = change
                self._counted.go_on(counts_of(counted))
            case MessageStop():
                self._ended = True

    def _begin(self) -> Iterator[Json]:
        if not self._begun:
            self._begun = True
            yield {"type": "response.created", "response": self._head.begun()}
            yield {"type": "response.in_progress", "response": self._head.begun()}

    def _end(self, cost: Mapping[str, int | str]) -> Iterator[Json]:
        yield from self._begin()
        yield from self._output.end(self._change.stop_reason, self._change.stop_details)
        shown = self._head.ended(self._output.items, self._change.stop_reason, self._counted.counts, cost)
        yield {"type": f"response.{shown['status']}", "response": shown}

    def _fail(self, error: Mapping[str, Any], code: str, cost: Mapping[str, int | str]) -> Iterator[Json]:
        yield from self._begin()
        yield {"type": "error", "param": None, **error}
        shown = self._head.failed(self._output.items, self._counted.counts, cost, code, error["message"])
        yield {"type": "response.failed", "response": shown}

    def _sent(self, events: Iterable[Json]) -> bytes:
        return b"".join(map(self._numbered, events))

    def _numbered(self, event: Json) -> bytes:
        shown = {"type": event["type"], "sequence_number": self._number, **event}
        self._number += 1
        return sse.event(event["type"], msgspec.json.encode(shown))
