"""Translation of a chat completion to a message, whole and as the events of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ....actors.domain.llm.chat_usage import ChatStreamCounts, chat_usage_of
from ....actors.domain.llm.usage import tokens
from ....actors.domain.pricing import Usage
from ...response import sse
from ...translation.answer_ids import bare_id
from ...upstreams.chat_answer import Chunk, ChunkReader, completion_of
from ...upstreams.tool_arguments import arguments_of
from .blocks import Blocks
from .request import Asked

Json = dict[str, Any]
Cost = Mapping[str, int | str]


def message(body: bytes, asked: Asked, charged: Usage, cost: Cost) -> bytes:
    """Return the whole message. `charged` is its usage where the upstream tells none; `cost` goes into the usage.

    Raises `UnreadableAnswerError`.
    """
    found = completion_of(body)
    blocks = Blocks(asked.entry.name, shows=asked.shows, thinks=asked.thinks, stops=asked.stops)
    content: list[Json] = []
    arguments: dict[int, str] = {}
    for event in (*blocks.take(found.piece), *blocks.end()):
        match event:
            case {"content_block": block}:
                content.append(dict(block))
            case {"delta": {"type": "input_json_delta", "partial_json": piece}, "index": index}:
                arguments[index] = arguments.get(index, "") + piece
            case {"delta": delta, "index": index}:
                for name in ("text", "thinking", "signature"):
                    if name in delta:
                        content[index][name] += delta[name]
    for index, text in arguments.items():
        content[index]["input"] = arguments_of(text)
    counts = found.usage or {}
    usage = chat_usage_of(counts, given=False)
    return msgspec.json.encode(
        {
            **_head(found.id, asked.model),
            "content": content,
            **_stop(blocks),
            "usage": {**_usage(usage or charged, counts), **cost},
        }
    )


class MessageStream:
    """The events of one message. Its last events wait for the cost of the call."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._reader = ChunkReader()
        self._blocks = Blocks(asked.entry.name, shows=asked.shows, thinks=asked.thinks, stops=asked.stops)
        self._counted = ChatStreamCounts()
        self._counts: Mapping[str, Any] = {}
        self._begun = False

    def read(self, data: bytes) -> bytes:
        """Return the events for this piece of the upstream's stream."""
        return _sent(event for chunk in self._reader.read(data) for event in self._take(chunk))

    def end(self, charged: Usage, cost: Cost) -> bytes:
        """Return the last events, with the cost in the usage.

        An answer without an end is one whose client hung up: its repeated request gets the answer up to that point.
        """
        return _sent(self._end(charged, cost))

    def _take(self, chunk: Chunk) -> Iterator[Json]:
        yield from self._begin(chunk.id)
        piece = chunk.piece
        if 0 in chunk.choices:
            if piece.thought or piece.text or piece.refusal or piece.calls:
                self._counted.given(0)
            if piece.finish_reason is not None:
                self._counted.finish(0)
        if chunk.usage is not None:
            self._counts = chunk.usage
            self._counted.take(chunk.usage, chunk.choices)
        yield from self._blocks.take(piece)

    def _begin(self, completion_id: str) -> Iterator[Json]:
        if not self._begun:
            self._begun = True
            # Upstreams count at the end, where the cumulative figures stand.
            head = {**_head(completion_id, self._asked.model), "content": [], "stop_reason": None}
            usage = _usage(Usage(0, 0), {})
            yield {"type": "message_start", "message": {**head, "stop_sequence": None, "usage": usage}}

    def _end(self, charged: Usage, cost: Cost) -> Iterator[Json]:
        yield from self._begin("")
        yield from self._blocks.end()
        usage = self._counted.whole() or charged
        yield {
            "type": "message_delta",
            "delta": _stop(self._blocks),
            "usage": {**_usage(usage, self._counts), **cost},
        }
        yield {"type": "message_stop"}


def _head(completion_id: str, model: str) -> Json:
    return {
        "id": f"msg_{bare_id(completion_id)}",
        "type": "message",
        "role": "assistant",
        "model": model,
    }


def _stop(blocks: Blocks) -> Json:
    stop: Json = {"stop_reason": blocks.stop_reason, "stop_sequence": blocks.stop_sequence}
    if stop["stop_reason"] == "refusal":
        stop["stop_details"] = {"type": "refusal", "category": None, "explanation": blocks.refusal or None}
    return stop


def _usage(usage: Usage, counts: Mapping[str, Any]) -> Json:
    """Return the Messages API's usage, whose input does not include what was read from a cache or written to it."""
    made: Json = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
    details = counts.get("completion_tokens_details")
    thoughts = tokens(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    return {**made, "output_tokens_details": {"thinking_tokens": thoughts}} if thoughts else made


def _sent(events: Iterable[Json]) -> bytes:
    return b"".join(sse.event(event["type"], msgspec.json.encode(event)) for event in events)
