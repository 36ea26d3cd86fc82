"""Output items of a response, with the events of their making, from the blocks of a Messages API answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..translation.message import Block, Piece, StopDetails, refusal
from .custom_input import CustomInput
from .thoughts import RedactedThinking, Thinking, sealed
from .tools import Called

Json = dict[str, Any]
# Why an answer is incomplete. Other reasons complete it.
_INCOMPLETE: Final[Mapping[str, str]] = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}


def incomplete_reason(stop_reason: str | None) -> str | None:
    """Return why an answer is incomplete; None if it is complete."""
    return _INCOMPLETE.get(stop_reason or "")


class Output:
    """The items of one answer. Each call returns the events that it causes, without their numbers.

    An item is complete only when another begins or the answer ends, as only then it is known that it was not cut off.
    """

    def __init__(self, answer_id: str, tools: Mapping[str, Called], *, seals: bool, summarizes: bool) -> None:
        self.items: list[Json] = []
        self._id = answer_id
        self._tools = tools
        self._seals = seals
        self._summarizes = summarizes
        self._open: _Message | _Reasoning | _Call | None = None

    def begin(self, block: Block) -> Iterator[Json]:
        """Take the beginning of a block, which may be all of it."""
        if block.type == "text":
            if not isinstance(self._open, _Message):
                yield from self._opened(_Message(*self._place("msg")))
            assert isinstance(self._open, _Message)
            yield from self._open.begin("output_text")
            yield from self._open.more(block.text or "")
        elif block.type in ("thinking", "redacted_thinking"):
            thought = _Reasoning(*self._place("rs"), block, seals=self._seals, summarizes=self._summarizes)
            yield from self._opened(thought)
            yield from thought.more(block.thinking or "")
        elif block.type == "tool_use":
            called = self._tools.get(block.name) or Called("function", block.name, None)
            kind = _CustomCall if called.kind == "custom" else _FunctionCall
            prefix = "ctc" if called.kind == "custom" else "fc"
            yield from self._opened(kind(*self._place(prefix), called, block))
        else:
            yield from self._close("completed")

    def go_on(self, piece: Piece) -> Iterator[Json]:
        """Take more of the block."""
        match piece.type, self._open:
            case "text_delta", _Message() as message:
                yield from message.more(piece.text or "")
            case "thinking_delta", _Reasoning() as thought:
                yield from thought.more(piece.thinking or "")
            case "signature_delta", _Reasoning() as thought:
                thought.sign(piece.signature or "")
            case "input_json_delta", (_FunctionCall() | _CustomCall()) as call:
                yield from call.more(piece.partial_json or "")

    def stop(self) -> Iterator[Json]:
        """Take the end of the block."""
        if self._open is not None:
            yield from self._open.stop()

    def end(self, stop_reason: str | None, details: StopDetails | None) -> Iterator[Json]:
        """Take the end of the answer."""
        declined = refusal(stop_reason, details)
        yield from self._close("completed" if incomplete_reason(stop_reason) is None else "incomplete")
        if declined is not None:
            message = _Message(*self._place("msg"))
            yield from self._opened(message)
            yield from message.begin("refusal")
            yield from message.more(declined)
            yield from self._close("completed")

    def _place(self, prefix: str) -> tuple[str, int]:
        """Return the id and the index of the next item."""
        index = len(self.items) + (self._open is not None)
        return f"{prefix}_{self._id}_{index}", index

    def _opened(self, item: _Message | _Reasoning | _Call) -> Iterator[Json]:
        yield from self._close("completed")
        self._open = item
        yield {"type": "response.output_item.added", "output_index": item.index, "item": item.shown("in_progress")}

    def _close(self, status: str) -> Iterator[Json]:
        if self._open is None:
            return
        yield from self._open.stop()
        shown = self._open.shown(status)
        yield {"type": "response.output_item.done", "output_index": self._open.index, "item": shown}
        self.items.append(shown)
        self._open = None


class _Item(ABC):
    """An item in the making. `running`: a part of it has begun, and not ended."""

    def __init__(self, item_id: str, index: int) -> None:
        self.index = index
        self.running = False
        self._item_id = item_id

    @abstractmethod
    def stop(self) -> Iterator[Json]:
        """Take the end of the part."""

    @abstractmethod
    def shown(self, status: str) -> Json:
        """Return the item as it is now."""

    def _event(self, kind: str, **fields: Any) -> Json:
        return {"type": f"response.{kind}", "item_id": self._item_id, "output_index": self.index, **fields}


class _Message(_Item):
    """A message with its parts."""

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self._parts: list[Json] = []
        self._kind = "output_text"
        self._text: list[str] = []

    def begin(self, kind: str) -> Iterator[Json]:
        yield from self.stop()
        self._kind, self._text, self.running = kind, [], True
        yield self._of_part("content_part.added", part=self._part(""))

    def more(self, text: str) -> Iterator[Json]:
        if text and self.running:
            self._text.append(text)
            yield self._of_part(f"{self._kind}.delta", delta=text, **self._logprobs())

    def stop(self) -> Iterator[Json]:
        if not self.running:
            return
        self.running = False
        text = "".join(self._text)
        part = self._part(text)
        name = "text" if self._kind == "output_text" else "refusal"
        yield self._of_part(f"{self._kind}.done", **{name: text}, **self._logprobs())
        yield self._of_part("content_part.done", part=part)
        self._parts.append(part)

    def shown(self, status: str) -> Json:
        head = {"id": self._item_id, "type": "message", "status": status, "role": "assistant"}
        return {**head, "content": [*self._parts]}

    def _of_part(self, kind: str, **fields: Any) -> Json:
        return self._event(kind, content_index=len(self._parts), **fields)

    def _logprobs(self) -> Json:
        return {"logprobs": []} if self._kind == "output_text" else {}

    def _part(self, text: str) -> Json:
        if self._kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class _Reasoning(_Item):
    """A thought. Its summary has one part, if it is shown."""

    def __init__(self, item_id: str, index: int, block: Block, *, seals: bool, summarizes: bool) -> None:
        super().__init__(item_id, index)
        self._redacted = block.data if block.type == "redacted_thinking" else None
        self._signature = block.signature or ""
        self._text: list[str] = []
        self._seals = seals
        self._summarizes = summarizes
        self._ended = False

    def more(self, text: str) -> Iterator[Json]:
        if not text:
            return
        self._text.append(text)
        if not self._summarizes:
            return
        if not self.running:
            self.running = True
            part = {"type": "summary_text", "text": ""}
            yield self._event("reasoning_summary_part.added", summary_index=0, part=part)
        yield self._event("reasoning_summary_text.delta", summary_index=0, delta=text)

    def sign(self, signature: str) -> None:
        self._signature += signature

    def stop(self) -> Iterator[Json]:
        self._ended = True
        if not self.running:
            return
        self.running = False
        text = "".join(self._text)
        yield self._event("reasoning_summary_text.done", summary_index=0, text=text)
        part = {"type": "summary_text", "text": text}
        yield self._event("reasoning_summary_part.done", summary_index=0, part=part)

    def shown(self, status: str) -> Json:
        text = "".join(self._text)
        shown = self._ended and self._summarizes and text
        item: Json = {
            "id": self._item_id,
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text}] if shown else [],
        }
        # A thought without its whole signature can't be sent back.
        if self._seals and status == "completed":
            item["encrypted_content"] = sealed(self._thought(text))
        return item

    def _thought(self, text: str) -> Thinking | RedactedThinking:
        return Thinking(text, self._signature) if self._redacted is None else RedactedThinking(self._redacted)


class _Call(_Item):
    """A call of a tool."""

    def __init__(self, item_id: str, index: int, called: Called, block: Block) -> None:
        super().__init__(item_id, index)
        self.running = True
        self._called = called
        self._call_id = block.id
        # For a call that comes without pieces.
        self._whole = bytes(block.input).decode()

    def _head(self, kind: str) -> Json:
        head = {"id": self._item_id, "type": kind, "call_id": self._call_id, "name": self._called.name}
        return head if self._called.namespace is None else {**head, "namespace": self._called.namespace}


class _FunctionCall(_Call):
    """A call of a function."""

    def __init__(self, item_id: str, index: int, called: Called, block: Block) -> None:
        super().__init__(item_id, index, called, block)
        self._pieces: list[str] = []

    def more(self, piece: str) -> Iterator[Json]:
        if piece:
            self._pieces.append(piece)
            yield self._event("function_call_arguments.delta", delta=piece)

    def stop(self) -> Iterator[Json]:
        if not self.running:
            return
        if not self._pieces:
            yield from self.more(self._whole)
        self.running = False
        yield self._event("function_call_arguments.done", arguments="".join(self._pieces), name=self._called.name)

    def shown(self, status: str) -> Json:
        return {**self._head("function_call"), "arguments": "".join(self._pieces), "status": status}


class _CustomCall(_Call):
    """A call of a custom tool."""

    def __init__(self, item_id: str, index: int, called: Called, block: Block) -> None:
        super().__init__(item_id, index, called, block)
        self._input = CustomInput()
        self._pieces = False

    def more(self, piece: str) -> Iterator[Json]:
        self._pieces = self._pieces or bool(piece)
        yield from self._delta(self._input.read(piece))

    def stop(self) -> Iterator[Json]:
        if not self.running:
            return
        if not self._pieces:
            yield from self.more(self._whole)
        self.running = False
        yield from self._delta(self._input.end())
        yield self._event("custom_tool_call_input.done", input=self._input.text)

    def shown(self, status: str) -> Json:
        return {**self._head("custom_tool_call"), "input": self._input.text, "status": status}

    def _delta(self, text: str) -> Iterator[Json]:
        if text:
            yield self._event("custom_tool_call_input.delta", delta=text)
