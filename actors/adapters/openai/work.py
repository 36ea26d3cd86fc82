"""Reader of the answers to our own calls of chat completions: the text and its end, whole or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from ...domain.llm.answers import StreamPart, TextDelta, UsageSoFar
from ...domain.llm.reported_usage import ReportedUsage
from ...domain.pricing import Usage
from ...domain.provider_faults import ModelFault
from ...ports import ModelError
from .errors import failure_in_answer, failure_midway
from .pieces import size_of
from .relay import read_whole
from .stream import ChatStream

# Reasons for an end, by the Messages API's names for them, which answers have here. Others are passed on as they are.
_STOP_REASONS: Final[Mapping[str, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class Work(msgspec.Struct, frozen=True):
    """The text of the first choice, with the usage of all, and the reason for its end.

    `given_bytes` is the size of all that was given.
    """

    text: str
    usage: Usage | None
    stop_reason: str
    given_bytes: int
    reported: ReportedUsage


class WorkReader:
    """State of one streamed answer. `work` is there once it has ended. Errors never quote the answer."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.work: Work | None = None
        self._answer = ChatStream(headers)
        self._texts: list[str] = []
        self._refuses = False
        self._given_bytes = 0

    def read(self, chunk: bytes | None) -> Iterator[StreamPart]:
        """Yield the parts that this chunk makes whole; None says that there are no more bytes. Raises `PortError`."""
        answer = self._answer
        for piece in answer.at_end() if chunk is None else answer.read(chunk):
            self._refuses = self._refuses or piece.refuses
            self._given_bytes += size_of(piece.text) + size_of(piece.beside)
            if piece.text and piece.choice == 0:
                if not self._texts and (reported := answer.reported()).provider_id is not None:
                    yield reported
                self._texts.append(piece.text)
                yield TextDelta(piece.text)
        usage = answer.counted.usage()
        if usage is not None:
            yield UsageSoFar(usage, answer.counted.final, answer.counted.done, answer.reported())
        if answer.error is not None:
            raise failure_midway(answer.error) if answer.begun else failure_in_answer(answer.error)
        if chunk is None and not answer.whole:
            raise ModelError("the upstream's answer ended before its end", ModelFault.FAILING)
        if chunk is None or answer.ended:
            text = "".join(self._texts)
            stop_reason = _stop_reason(text, answer.finish_reason, self._refuses)
            reported = answer.reported(ended=True)
            self.work = Work(text, answer.counted.whole(), stop_reason, self._given_bytes, reported)


def work_in(body: bytes, headers: Mapping[str, str]) -> Work:
    """Return the work in a whole answer. Raises `PortError`."""
    found = read_whole(headers, body)
    stop_reason = _stop_reason(found.text, found.finish_reason, found.refuses)
    return Work(found.text, found.usage, stop_reason, size_of(found.given), found.reported)


def _stop_reason(text: str, finish_reason: str | None, refuses: bool) -> str:
    if refuses and not text:
        return "refusal"
    return _STOP_REASONS.get(finish_reason or "stop", finish_reason or "")
