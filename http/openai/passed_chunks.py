"""Chunks of a chat completions upstream, passed on as they came: only their last usage changes, which gets the cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ...actors.domain.llm.half_characters import decoded
from ..anthropic.usage import with_cost

_BLANK_LINE: Final = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_DATA: Final = re.compile(rb"^data:[ \t]*([^\r\n]*)", re.MULTILINE)
_DONE: Final = b"[DONE]"
_USAGE: Final = b'"usage"'
# Without a limit, an endless event would fill the memory. It goes on unread.
_EVENT_MAX_BYTES: Final = 4 << 20


class _Choice(msgspec.Struct):
    finish_reason: Any = None


class _Chunk(msgspec.Struct):
    usage: dict[str, msgspec.Raw] | None = None
    choices: list[_Choice] | None = None


_chunks: Final = msgspec.json.Decoder(_Chunk)


class _Held(NamedTuple):
    """An event with a usage. `alone`: it holds nothing else."""

    event: bytes
    alone: bool


class PassedChunks:
    """The chunks of one answer, event by event. The last usage waits for the cost of the call.

    The upstream is always asked for the usage. A client that did not ask for it does not get it, unless it stands in a
    chunk of the answer. `done`: the upstream's end mark came.
    """

    def __init__(self, *, tells_usage: bool) -> None:
        self._tells_usage = tells_usage
        self._begun = b""
        self._held: list[_Held] = []
        self.done = False

    def read(self, data: bytes) -> bytes:
        """Return the events that are complete, without those that wait. The end mark is left out."""
        self._begun += data
        ends = [found.end() for found in _BLANK_LINE.finditer(self._begun)]
        if not ends:
            if len(self._begun) < _EVENT_MAX_BYTES:
                return b""
            ends = [len(self._begun)]
        whole, self._begun = self._begun[: ends[-1]], self._begun[ends[-1] :]
        if not self._held and _USAGE not in whole and _DONE not in whole:
            return whole
        return b"".join(self._passed(whole[begin:end]) for begin, end in zip([0, *ends], ends, strict=False))

    def end(self, cost: Mapping[str, int | str] | None = None, *, whole: bool = True) -> bytes:
        """Return the events that wait, with the cost in the last usage if it is known.

        `whole`: the last event came whole, though nothing ended it. Clients fail at reading half an event.
        """
        ready = self._passed(self._begun + b"\n\n") if whole and self._begun.strip() else b""
        self._begun = b""
        if self._held and cost is not None:
            last = self._held[-1]
            if (found := _DATA.search(last.event)) is not None:
                told = with_cost(found[1], cost)
                event = last.event[: found.start(1)] + told + last.event[found.end(1) :]
                self._held[-1] = _Held(event, last.alone)
        return ready + self._released()

    def _passed(self, event: bytes) -> bytes:
        found = _DATA.search(event)
        data = found[1].strip() if found is not None else b""
        if data == _DONE:
            self.done = True
            return b""
        chunk = _read(data) if _USAGE in data else None
        if chunk is not None and chunk.usage:
            choices = chunk.choices or []
            if not choices or any(choice.finish_reason for choice in choices):
                ready = self._released()
                self._held = [_Held(event, alone=not choices)]
                return ready
        return self._released() + event if data else event

    def _released(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(one.event for one in held if self._tells_usage or not one.alone)


def _read(data: bytes) -> _Chunk | None:
    try:
        return decoded(_chunks.decode, data)
    except (ValueError, RecursionError):
        return None
