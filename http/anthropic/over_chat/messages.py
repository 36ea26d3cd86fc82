"""Translation of the Messages API's turns to messages of chat completions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ...response.errors import invalid
from ...responses.thoughts import ChatThought, UnreadableThoughtError, opened
from ...translation.chat_turns import Turns
from ...upstreams.chat_costs import check_address
from . import request_schema as wire

Json = dict[str, Any]
TOOL_ID: Final = "toolu_"
_BETWEEN: Final = "\n\n"
_FAILED: Final = "The tool failed: "
_NOT_TEXT: Final = "This model takes no documents but text: send what is in it as text"
_IMAGE_TYPE: Final = re.compile(r"image/[\w.+-]+")


class Told:
    """The messages of a request, and the path of the first image in them, None without any."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._turns = Turns()
        self.image: str | None = None

    def read(self, request: wire.MessagesRequest) -> list[Json]:
        """Return the messages. Raises `RefusedError` (400) for what chat completions can't hold."""
        system = request.system
        self._turns.instruct(system if isinstance(system, str) else _BETWEEN.join(text.text for text in system or ()))
        for number, message in enumerate(request.messages):
            self._add(message, f"messages.{number}.content")
        return self._turns.messages([], "messages")

    def _add(self, message: wire.Message, path: str) -> None:
        content = message.content
        blocks: list[wire.Block] = [wire.Text(content)] if isinstance(content, str) else content or []
        match message.role:
            case "system":
                self._turns.instruct(_BETWEEN.join(block.text for block in blocks if isinstance(block, wire.Text)))
            case "user":
                self._asked(blocks, path)
            case _:
                self._answered(blocks, path)

    def _asked(self, blocks: list[wire.Block], path: str) -> None:
        parts: list[Json] = []
        for number, block in enumerate(blocks):
            where = f"{path}.{number}"
            match block:
                case wire.ToolResult():
                    # Results stand behind their calls, wherever the user has put them.
                    self._turns.result(_call_id(block.tool_use_id), list(self._result(block, where)), where)
                case wire.Text() | wire.Image() | wire.Document() | wire.SearchResult():
                    parts += self._parts(block, where)
                case _:
                    raise invalid(f"{where}.type", "The user's messages hold no such block")
        self._turns.ask(parts)

    def _answered(self, blocks: list[wire.Block], path: str) -> None:
        for number, block in enumerate(blocks):
            match block:
                case wire.Text():
                    self._turns.say(block.text)
                case wire.ToolUse():
                    arguments = msgspec.json.encode(block.input).decode()
                    self._turns.call(_call_id(block.id), block.name, arguments)
                case wire.Thinking():
                    if (thought := _own(block, self._model)) is not None:
                        self._turns.think(thought)
                case wire.RedactedThinking():
                    if (thought := _own(wire.Thinking("", block.data), self._model)) is not None:
                        self._turns.think(thought)
                case _:
                    raise invalid(f"{path}.{number}.type", "The model's messages hold no such block")

    def _result(self, block: wire.ToolResult, path: str) -> Iterator[Json]:
        if block.is_error:
            yield _text(_FAILED)
        if isinstance(block.content, str):
            yield _text(block.content)
            return
        for number, inner in enumerate(block.content or ()):
            yield from self._parts(inner, f"{path}.content.{number}")

    def _parts(self, block: wire.Inner, path: str) -> Iterator[Json]:
        match block:
            case wire.Text():
                if block.text:
                    yield _text(block.text)
            case wire.Image():
                self.image = self.image or path
                yield {"type": "image_url", "image_url": {"url": _url(block.source, path)}}
            case wire.Document():
                yield from self._document(block, path)
            case wire.SearchResult():
                texts = [block.title, block.source, *(text.text for text in block.content)]
                yield _text("\n".join(filter(None, texts)))

    def _document(self, block: wire.Document, path: str) -> Iterator[Json]:
        for text in filter(None, (block.title, block.context)):
            yield _text(text)
        source = block.source
        if source.type == "text" and source.data is not None:
            yield _text(source.data)
        elif source.type == "content" and isinstance(source.content, str):
            yield _text(source.content)
        elif source.type == "content":
            try:
                blocks = msgspec.convert(source.content, list[wire.Text | wire.Image])
            except (msgspec.ValidationError, RecursionError):
                raise invalid(f"{path}.source.content", "Must be text, or blocks of text and images") from None
            for number, inner in enumerate(blocks):
                yield from self._parts(inner, f"{path}.source.content.{number}")
        else:
            raise invalid(f"{path}.source", _NOT_TEXT)


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _url(source: wire.Source, path: str) -> str:
    if source.type == "url" and source.url is not None:
        check_address(source.url, f"{path}.source.url")
        return source.url
    if source.type != "base64" or source.data is None or not _IMAGE_TYPE.fullmatch(source.media_type or ""):
        raise invalid(f"{path}.source", "An image must be sent as base64 with its media_type, or by its address")
    return f"data:{source.media_type};base64,{source.data}"


def _call_id(given: str) -> str:
    """Return the upstream's own id of a call: clients know it with the prefix of the Messages API."""
    return given.removeprefix(TOOL_ID) or given


def _own(block: wire.Thinking, model: str) -> ChatThought | None:
    """Return a thought that this model had; None for those of others, which no upstream takes."""
    try:
        thought = opened(block.signature)
    except UnreadableThoughtError:
        return None
    if not isinstance(thought, ChatThought) or thought.model != model:
        return None
    return replace(thought, text=block.thinking)
