"""Reader of a streamed chat completion, from its bytes, however they are cut.

Each event is one line of JSON behind `data:`, and is decoded as soon as that line is whole: once, or twice if it has a
usage, which is kept as it came. Comments and other lines are passed over undecoded. What can't be read is passed over,
too: the client gets it all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ...domain.llm.chat_usage import ChatStreamCounts, chat_billed_as
from ...domain.llm.half_characters import decoded_with_bytes
from ...domain.llm.reported_usage import NO_HEADERS, ChatReporter, ReportedUsage, kept_text
from .errors import error_in
from .pieces import beside, refused, shown

# A longer event is passed on, but not read.
LINE_MAX_BYTES: Final = 4 << 20
_DATA: Final = b"data:"
# Older llama.cpp names an error in place of `data`.
_ERROR: Final = b"error:"
_DONE: Final = b"[DONE]"
_events: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any])


class _WithUsage(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")
    x_groq: msgspec.Raw = msgspec.Raw(b"null")


_usages: Final = msgspec.json.Decoder(_WithUsage)


class Piece(NamedTuple):
    """A piece of an answer: the text for a reader, and what came beside it, such as thoughts and calls of tools.

    `refuses`: words of a refusal are among the latter.
    """

    choice: int
    text: str
    beside: str
    refuses: bool


class ChatStream:
    """State of one streamed answer.

    `begun`: something came that only a chat completion has. `ended`: its last line came. `error`: the error that it
    broke off with. `model`: the name that the server gave. `finish_reason` is that of the first choice.
    """

    def __init__(self, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.counted = ChatStreamCounts()
        self._reporter = ChatReporter(headers)
        self.begun = False
        self.ended = False
        self.error: Mapping[str, Any] | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self._line = b""
        self._pieces: list[Piece] = []

    def read(self, chunk: bytes) -> list[Piece]:
        """Take the next bytes, and return the pieces that they make whole. Raises nothing."""
        data = self._line + chunk if self._line else chunk
        if b"\r" in data:
            data = data.replace(b"\r", b"\n")
        *lines, self._line = data.split(b"\n")
        for line in lines:
            if line:
                self._take(line)
        if len(self._line) > LINE_MAX_BYTES:
            self._line = b""
        pieces, self._pieces = self._pieces, []
        return pieces

    def at_end(self) -> list[Piece]:
        """Take the last line, which a server may not have ended, once no more bytes come."""
        return self.read(b"\n")

    def reported(self, *, ended: bool = False) -> ReportedUsage:
        """Return the upstream's report until now. `ended`: the answer came to its end."""
        return self._reporter.streamed(self.counted, ended=ended)

    @property
    def whole(self) -> bool:
        """Return whether the answer came to its end, said or not."""
        return self.ended or self.counted.done or (self.counted.final and self.counted.whole() is not None)

    def _take(self, line: bytes) -> None:
        if line.startswith(_DATA):
            data = line[len(_DATA) :].strip()
            if data == _DONE:
                self.ended = True
                return
            self._event(*_decoded(data))
        elif line.startswith(_ERROR):
            found, _ = _decoded(line[len(_ERROR) :])
            self.error = error_in(found) or found or {"message": "unreadable"}

    def _event(self, event: Mapping[str, Any], data: bytes) -> None:
        choices = event.get("choices")
        if isinstance(choices, list):
            self.begun = True
            for choice in choices:
                self._choice(choice)
            if self.model is None and isinstance(name := event.get("model"), str):
                self.model = name
            if (tier := event.get("service_tier")) is not None:
                self.counted.billed_as = chat_billed_as(tier) or self.counted.billed_as
            groq = event.get("x_groq")
            of_groq = groq.get("usage") if isinstance(groq, dict) else None
            of_event = event.get("usage")
            for in_groq, usage in ((False, of_event), (True, of_groq)) if of_event or of_groq else ():
                if isinstance(usage, dict):
                    text = _text_of_usage(data, in_groq=in_groq)
                    self.counted.take(usage, [_index(choice) for choice in choices], text)
        self.error = error_in(event) or self.error

    def _choice(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            return
        index = _index(choice)
        # Servers that make no deltas send a whole message in one event.
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            piece = _piece(index, delta)
            if piece.text or piece.beside:
                self.counted.given(index)
                self._pieces.append(piece)
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self.counted.finish(index)
            if index == 0:
                self.finish_reason = reason
        self.error = error_in(choice) or self.error


def _piece(index: int, delta: Mapping[str, Any]) -> Piece:
    text = delta.get("content")
    if isinstance(text, str) and len(delta) == 1:
        # Nearly all deltas are such.
        return Piece(index, text, "", False)
    return Piece(index, shown(delta), beside(delta), bool(refused(delta)))


def _index(choice: Any) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    return index if type(index) is int else 0


def _text_of_usage(data: bytes, *, in_groq: bool) -> str | None:
    try:
        found = _usages.decode(data)
        return kept_text(_usages.decode(found.x_groq).usage if in_groq else found.usage)
    except (ValueError, RecursionError):
        return None


def _decoded(data: bytes) -> tuple[Mapping[str, Any], bytes]:
    try:
        return decoded_with_bytes(_events.decode, data)
    except (ValueError, RecursionError):
        return {}, data
