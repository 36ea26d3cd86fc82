"""Translation of a streamed chat completion to the events of a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ....actors.domain.llm.chat_usage import ChatStreamCounts
from ...translation.message import Tokens
from ...upstreams.chat_answer import Chunk, ChunkReader
from ..events import Events
from ..head import Head
from ..wanted import Wanted
from .pieces import Pieces, answer_id, incomplete_reason, tokens_of

Json = dict[str, Any]
_CUT_OFF: Final = "length"


class ChatResponseStream(Events):
    """The events of one response. `fallback_id` is its id if it fails before the upstream has begun."""

    def __init__(self, wanted: Wanted, model: str, created_s: int, fallback_id: str) -> None:
        super().__init__(Head(wanted, created_s, fallback_id, model), alternates=True)
        self._wanted = wanted
        self._model = model
        self._created_s = created_s
        self._reader = ChunkReader()
        self._counted = ChatStreamCounts()
        self._counts: Mapping[str, Any] | None = None
        self._pieces = Pieces(self.output, fallback_id, model)
        self._finish_reason: str | None = None

    @property
    def used(self) -> Tokens:
        """See `Events`."""
        return tokens_of(self._counted.usage(), self._counts)

    @property
    def _reason(self) -> str | None:
        return incomplete_reason(self._finish_reason)

    def _read(self, chunk: bytes) -> Iterator[Json]:
        for found in self._reader.read(chunk):
            if not self.ended:
                yield from self._take(found)

    def _take(self, found: Chunk) -> Iterator[Json]:
        if found.choices:
            yield from self._begin(found.id)
        for choice in found.choices:
            self._counted.given(choice)
        yield from self._pieces.take(found.piece)
        if found.piece.finish_reason is not None:
            self._finish_reason = found.piece.finish_reason
            self._counted.finish(0)
        if found.usage is not None:
            self._counted.take(found.usage, found.choices)
            self._counts = found.usage

    def _begin(self, completion_id: str) -> Iterator[Json]:
        if not self.begun:
            made_id = answer_id(completion_id, self._created_s)
            yield from self.begin(Head(self._wanted, self._created_s, made_id, self._model))
            self._pieces = Pieces(self.output, made_id, self._model)

    def _finish(self) -> Iterator[Json]:
        if self._finish_reason is None and not self._reader.done:
            self._finish_reason = _CUT_OFF
        yield from self._pieces.end(self._finish_reason)
