"""Pieces of a chat completion as the blocks of a message, one after the other.

Upstreams may begin a call before another one is complete. Here only one block is open at a time: what comes for a later
one waits until those before it are complete.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from ...responses.thoughts import ChatThought, sealed
from ...upstreams.chat_answer import CallNumbers, CallPiece, Piece, ThoughtField
from ...upstreams.reasoning_details import ReasoningDetails
from .messages import TOOL_ID

Json = dict[str, Any]
Seal = Callable[[dict[str, Json]], str]
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
_STOP_REASONS: Final[Mapping[str, str]] = {
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "model_length": "max_tokens",
    "content_filter": "refusal",
}
_THINKING: Final = "thinking"
_REDACTED: Final = "redacted_thinking"
_DELTAS: Final[Mapping[str, tuple[str, str]]] = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


class _Block:
    """A block that is arriving. `waiting` are its pieces that were not given yet.

    `seal` returns the signature of a thought at its end; `signed` are the members of the calls to which it led.
    """

    def __init__(self, kind: str, begun: Json, seal: Seal | None = None) -> None:
        self.kind = kind
        self.begun = begun
        self.seal = seal
        self.signed: dict[str, Json] = {}
        self.waiting: list[str] = []
        self.given: list[str] = []
        self.open = False

    @property
    def complete(self) -> bool:
        """Return whether no more can come. Text ends where another block begins."""
        if self.kind != "tool_use":
            return True
        try:
            msgspec.json.decode("".join(self.given))
        except (ValueError, RecursionError):
            return False
        return True

    def take(self) -> str:
        """Return the pieces that wait."""
        text = "".join(self.waiting)
        self.waiting = []
        if self.kind == "tool_use":
            self.given.append(text)
        return text


class Blocks:
    """The blocks of one answer. `model` is the one that has the thoughts, which are given if it `shows` them.

    `thinks`: the client asked for thinking. What an upstream signed goes to others as a thought that they can't read.
    `stops` are the client's own stop sequences.
    """

    def __init__(self, model: str, *, shows: bool, thinks: bool = False, stops: Collection[str] = ()) -> None:
        self._model = model
        self._thinks = thinks
        self._details = ReasoningDetails()
        self._late: dict[str, Json] = {}
        self._stops = stops
        self._shows = shows
        self._numbers = CallNumbers()
        self._calls: dict[int, _Block] = {}
        self._ids: set[str] = set()
        self._queue: deque[_Block] = deque()
        self._index = 0
        self._finish_reason: str | None = None
        self._stop = ""
        self.refusal = ""

    def take(self, piece: Piece) -> Iterator[Json]:
        """Take a piece, and yield the events that it causes."""
        self._details.add(piece.details)
        if piece.thought and self._shows:
            self._thought(piece.thought_field).waiting.append(piece.thought)
        for text in filter(None, (piece.text, piece.refusal)):
            self._last("text", {"type": "text", "text": ""}).waiting.append(text)
        self.refusal += piece.refusal
        for call in piece.calls:
            self._call(call)
        self._finish_reason = piece.finish_reason or self._finish_reason
        self._stop = piece.stop or self._stop
        yield from self._advanced()

    def end(self) -> Iterator[Json]:
        """Yield the events of the blocks that are still open, or wait."""
        if self._calls and (self._details or self._late):
            self._carry(self._late)
        yield from self._advanced(all_complete=True)

    @property
    def ended(self) -> bool:
        """Return whether the upstream said why the answer ended."""
        return self._finish_reason is not None

    @property
    def stop_reason(self) -> str:
        """Return why the answer ended."""
        if self.refusal:
            return "refusal"
        reason = _STOP_REASONS.get(self._finish_reason or "length")
        if reason is None and self.stop_sequence is not None:
            return "stop_sequence"
        # Some servers say that an answer with calls has just ended.
        return reason or ("tool_use" if self._calls else "end_turn")

    @property
    def stop_sequence(self) -> str | None:
        """Return the client's stop sequence that ended the answer; None where none did, or the upstream says nothing.

        Calls are to be answered, whatever stopped the text behind them.
        """
        hit = self._stop in self._stops and not (self.refusal or self._calls)
        return self._stop if hit and self._finish_reason not in _STOP_REASONS else None

    def _call(self, call: CallPiece) -> None:
        number, begins = self._numbers.of(call)
        if begins:
            begun = {"type": "tool_use", "id": self._call_id(call.id, number), "name": call.name, "input": {}}
            self._calls[number] = _Block("tool_use", begun)
            if call.signed or self._details:
                self._carry(self._of(number, call))
            self._queue.append(self._calls[number])
        elif call.signed:
            self._late |= self._of(number, call)
        self._calls[number].waiting.append(call.arguments)

    def _of(self, number: int, call: CallPiece) -> dict[str, Json]:
        """Return what a call is signed with, by the id that it has upstream."""
        call_id = self._calls[number].begun["id"].removeprefix(TOOL_ID)
        return {call_id: dict(call.signed)} if call.signed else {}

    def _thought(self, field: ThoughtField = "") -> _Block:
        """Return the thought that is arriving; another one behind any other block."""
        if self._queue and self._queue[-1].kind == _THINKING:
            return self._queue[-1]
        begun = {"type": _THINKING, "thinking": "", "signature": ""}
        self._queue.append(_Block(_THINKING, begun, lambda signed: self._sealed(field, signed)))
        return self._queue[-1]

    def _carry(self, signed: dict[str, Json]) -> None:
        """Have the client keep what the upstream signed, which wants it back with the calls."""
        if self._thinks:
            self._thought().signed |= signed
            return
        self._queue.append(_Block(_REDACTED, {"type": _REDACTED, "data": self._sealed("", signed)}))

    def _sealed(self, field: ThoughtField, signed: dict[str, Json]) -> str:
        return sealed(ChatThought("", field, self._model, self._details.taken(), signed))

    def _call_id(self, given: str, number: int) -> str:
        found = TOOL_ID + (_NOT_IN_AN_ID.sub("_", given) or f"call_{number}")
        while found in self._ids:
            found = f"{found}_{number}"
        self._ids.add(found)
        return found

    def _last(self, kind: str, begun: Json) -> _Block:
        if not self._queue or self._queue[-1].kind != kind:
            self._queue.append(_Block(kind, begun))
        return self._queue[-1]

    def _advanced(self, *, all_complete: bool = False) -> Iterator[Json]:
        while self._queue:
            block = self._queue[0]
            if not block.open:
                block.open = True
                yield {"type": "content_block_start", "index": self._index, "content_block": block.begun}
            if text := block.take():
                kind, field = _DELTAS[block.kind]
                yield self._delta({"type": kind, field: text})
            if not all_complete and (len(self._queue) == 1 or not block.complete):
                return
            if block.seal is not None:
                yield self._delta({"type": "signature_delta", "signature": block.seal(block.signed)})
            yield {"type": "content_block_stop", "index": self._index}
            self._queue.popleft()
            self._index += 1

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}
