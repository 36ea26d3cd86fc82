"""Translation of a streamed Messages API answer to the events of a response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...actors.domain.llm.usage import StreamCounts, counts_of
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
    Tokens,
    tokens_of,
)
from .answer import answer_id
from .blocks import Blocks, incomplete_reason
from .events import Events
from .head import Head
from .wanted import Wanted

Json = dict[str, Any]


class ResponseStream(Events):
    """The events of one response. `fallback_id` is its id if it fails before the provider has given one."""

    def __init__(self, wanted: Wanted, model: str, created_s: int, fallback_id: str) -> None:
        super().__init__(Head(wanted, created_s, fallback_id, model))
        self._wanted = wanted
        self._created_s = created_s
        self._model = model
        self._reader = EventReader()
        self._counted = StreamCounts()
        self._blocks = Blocks(self.output)
        self._change = Change()

    @property
    def used(self) -> Tokens:
        """See `Events`."""
        return tokens_of(self._counted.counts)

    @property
    def _reason(self) -> str | None:
        return incomplete_reason(self._change.stop_reason)

    def _read(self, chunk: bytes) -> Iterator[Json]:
        for event in self._reader.read(chunk):
            if not self.ended:
                yield from self._take(event)

    def _take(self, event: Event) -> Iterator[Json]:
        match event:
            case MessageStart(message=begun):
                head = Head(self._wanted, self._created_s, answer_id(begun.id), begun.model or self._model)
                self._counted.begin(counts_of(begun.usage))
                yield from self.begin(head)
                self._blocks = Blocks(self.output)
            case BlockStart(content_block=block):
                yield from self._blocks.begin(block)
            case BlockDelta(delta=piece):
                yield from self._blocks.go_on(piece)
            case BlockStop():
                yield from self._blocks.stop()
            case MessageDelta(delta=change, usage=counted):
                self._change = change
                self._counted.go_on(counts_of(counted))
            case MessageStop():
                self.ended = True

    def _finish(self) -> Iterator[Json]:
        if not self.ended:
            self._change = Change("max_tokens")
        yield from self._blocks.end(self._change.stop_reason, self._change.stop_details)
