"""Output items of a response, with the events of their making, whichever API the answer came in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from .custom_input import CustomInput
from .tools import Called
from .wanted import Wanted

Json = dict[str, Any]
Seal = Callable[[str], str]
"""Function from a thought's text to the `encrypted_content` by which the client sends it back."""


class Output:
    """The items of one answer. Each call returns the events that it causes, without their numbers.

    An item is complete only when another begins or the answer ends, as only then it is known that it was not cut off.
    `alternates`: pieces of several calls may alternate, so that each stays open until its arguments are complete.
    """

    def __init__(self, answer_id: str, wanted: Wanted, *, alternates: bool = False) -> None:
        self._id = answer_id
        self._alternates = alternates
        self._wanted = wanted
        self._begun = 0
        self._open: list[Item] = []
        self._done: dict[int, Json] = {}

    @property
    def items(self) -> list[Json]:
        """The items that are complete, in their order."""
        return [self._done[index] for index in sorted(self._done)]

    @property
    def latest(self) -> Item:
        """The item that began last, for `more`."""
        return self._open[-1]

    def say(self, kind: Literal["output_text", "refusal"] = "output_text") -> Iterator[Json]:
        """Begin a part of a message, in the message that is open if there is one."""
        message = self._open[-1] if self._open else None
        if not isinstance(message, _Message):
            message = _Message(*self._place("msg"))
            yield from self._opened(message)
        yield from message.begin(kind)

    def think(self, seal: Seal) -> Iterator[Json]:
        """Begin a thought. `seal` is asked at its end, and only where the client wants it back."""
        wanted = self._wanted
        thought = _Reasoning(*self._place("rs"), seal if wanted.seals else None, summarizes=wanted.summarizes)
        yield from self._opened(thought)

    def call(self, call_id: str, name: str, whole: str = "{}") -> Iterator[Json]:
        """Begin a call. Its arguments are `whole` if no piece of them follows."""
        called = self._wanted.tools.get(name) or Called("function", name, None)
        kind, prefix = (_CustomCall, "ctc") if called.kind == "custom" else (_FunctionCall, "fc")
        yield from self._opened(kind(*self._place(prefix), called, call_id, whole))

    def more(self, text: str, item: Item | None = None) -> Iterator[Json]:
        """Take more of an item: of the one that began last, unless it is named."""
        if item is not None or self._open:
            yield from (item or self._open[-1]).more(text)

    def stop(self) -> Iterator[Json]:
        """Take the end of the part that began last."""
        if self._open:
            yield from self._open[-1].stop()

    def end(self, *, complete: bool) -> Iterator[Json]:
        """Take the end of the answer, which may have cut off the last item."""
        yield from self._close("completed" if complete else "incomplete")

    def _place(self, prefix: str) -> tuple[str, int]:
        """Return the id and the index of the next item."""
        index = self._begun
        self._begun += 1
        return f"{prefix}_{self._id}_{index}", index

    def _opened(self, item: Item) -> Iterator[Json]:
        keep = [item for item in self._open if isinstance(item, _Call) and not item.complete]
        yield from self._close("completed", keep if self._alternates else [])
        self._open.append(item)
        yield {"type": "response.output_item.added", "output_index": item.index, "item": item.shown("in_progress")}

    def _close(self, last_status: str, keep: Sequence[Item] = ()) -> Iterator[Json]:
        closing = [item for item in self._open if item not in keep]
        self._open = [*keep]
        for item in closing:
            yield from item.stop()
            shown = item.shown(last_status if item is closing[-1] else "completed")
            yield {"type": "response.output_item.done", "output_index": item.index, "item": shown}
            self._done[item.index] = shown


class Item(ABC):
    """An item in the making. `running`: a part of it has begun, and not ended."""

    def __init__(self, item_id: str, index: int) -> None:
        self.index = index
        self.running = False
        self._item_id = item_id

    @abstractmethod
    def more(self, text: str) -> Iterator[Json]:
        """Take more of the part."""

    @abstractmethod
    def stop(self) -> Iterator[Json]:
        """Take the end of the part."""

    @abstractmethod
    def shown(self, status: str) -> Json:
        """Return the item as it is now."""

    def _event(self, kind: str, **fields: Any) -> Json:
        return {"type": f"response.{kind}", "item_id": self._item_id, "output_index": self.index, **fields}


class _Message(Item):
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


class _Reasoning(Item):
    """A thought. Its summary has one part, if it is shown."""

    def __init__(self, item_id: str, index: int, seal: Seal | None, *, summarizes: bool) -> None:
        super().__init__(item_id, index)
        self._seal = seal
        self._text: list[str] = []
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
        # A thought that was cut off can't be sent back: an upstream's signature of it would be missing.
        if self._seal is not None and status == "completed":
            item["encrypted_content"] = self._seal(text)
        return item


class _Call(Item):
    """A call of a tool. `whole` are the arguments of a call that comes without pieces."""

    def __init__(self, item_id: str, index: int, called: Called, call_id: str, whole: str) -> None:
        super().__init__(item_id, index)
        self.running = True
        self._called = called
        self._call_id = call_id
        self._whole = whole
        self._pieces: list[str] = []

    @property
    def complete(self) -> bool:
        """True if the arguments so far are JSON, so that no more can follow."""
        try:
            msgspec.json.decode("".join(self._pieces))
        except (ValueError, RecursionError):
            return False
        return True

    def _head(self, kind: str) -> Json:
        head = {"id": self._item_id, "type": kind, "call_id": self._call_id, "name": self._called.name}
        return head if self._called.namespace is None else {**head, "namespace": self._called.namespace}


class _FunctionCall(_Call):
    """A call of a function."""

    def more(self, text: str) -> Iterator[Json]:
        if text and self.running:
            self._pieces.append(text)
            yield self._event("function_call_arguments.delta", delta=text)

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

    def __init__(self, item_id: str, index: int, called: Called, call_id: str, whole: str) -> None:
        super().__init__(item_id, index, called, call_id, whole)
        self._input = CustomInput()

    def more(self, text: str) -> Iterator[Json]:
        if text and self.running:
            self._pieces.append(text)
            yield from self._delta(self._input.read(text))

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
