"""Streamed answers: the text as it comes, requested again if it breaks off, without a second charge."""

from __future__ import annotations

from typing import Final

import msgspec

from .errors import NoAnswerError, StreamInterruptedError
from .flow import Emit, Flow, Lost, OpenStream, ReadStream, Reply, Request, Retries, Sleep, pause_s
from .models import Answer
from .wire import Events, decode, refusal

# The status that a refusal within a stream would have had as a separate answer.
_STATUS_OF: Final = {"unavailable": 503, "overloaded": 503, "model_failed": 502}


class _Delta(msgspec.Struct, frozen=True):
    text: str


class _Code(msgspec.Struct, frozen=True):
    code: str = ""


class _Text:
    """The text that the reader has seen, over all attempts. `changed`: an attempt began with a different text."""

    def __init__(self) -> None:
        self.shown = ""
        self.heard = ""
        self.changed = False

    def again(self) -> None:
        self.heard = ""

    def add(self, text: str) -> str:
        """Add a piece of this attempt's text, and return the part that is new to the reader."""
        before = len(self.heard)
        self.heard += text
        if len(self.heard) <= len(self.shown):
            return ""
        if before < len(self.shown) and not self.heard.startswith(self.shown):
            self.changed = True
        if self.changed:
            return ""
        new = self.heard[len(self.shown) :]
        self.shown = self.heard
        return new


def stream_answer(request: Request, retries: Retries) -> Flow[Answer]:
    """Emit the text and return the whole answer. Raises `SatmeterError`, `StreamInterruptedError`."""
    text = _Text()
    waited_s = 0.0
    for attempt in range(1, retries.attempts_max + 1):
        outcome = yield from _attempt(request, text)
        if isinstance(outcome, Answer):
            return (yield from _whole(outcome, text))
        wait_s = pause_s(outcome, attempt)
        last = attempt == retries.attempts_max or wait_s is None or waited_s + wait_s > retries.total_s
        if last or wait_s is None:
            if isinstance(outcome, Lost):
                raise NoAnswerError(f"The stream breaks off, also after {attempt} attempts: {outcome.reason}")
            raise refusal(outcome)
        yield Sleep(wait_s)
        waited_s += wait_s
        text.again()
    raise AssertionError("there is at least one attempt")


def _attempt(request: Request, text: _Text) -> Flow[Answer | Reply | Lost]:
    opened = yield OpenStream(request)
    if isinstance(opened, Lost) or opened.status != 200:
        failed: Reply | Lost = opened
        return failed
    events = Events()
    while True:
        piece = yield ReadStream()
        if isinstance(piece, Lost):
            return piece
        if piece is None:
            return Lost("the stream ended without its last event", sent=True)
        for name, data in events.feed(piece):
            match name:
                case "delta":
                    if new := text.add(decode(data, _Delta).text):
                        yield Emit(new)
                case "done":
                    return decode(data, Answer)
                case "error":
                    return _broken(data)


def _broken(data: bytes) -> Reply:
    """Return a refusal in the middle of a stream as a separate answer."""
    status = _STATUS_OF.get(decode(data, _Code).code, 500)
    headers = {"content-type": "application/json", **({"retry-after": "1"} if status == 503 else {})}
    return Reply(status, headers, data)


def _whole(answer: Answer, text: _Text) -> Flow[Answer]:
    result = answer.result or ""
    if text.changed or not result.startswith(text.shown):
        raise StreamInterruptedError(answer)
    if rest := result[len(text.shown) :]:
        yield Emit(rest)
    return answer
