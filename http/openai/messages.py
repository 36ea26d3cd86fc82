"""Translation of OpenAI's messages: a separate system prompt, turns of two roles, results first in their turn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ..response.errors import invalid
from . import request_schema as wire

Block = dict[str, Any]
_Marked = wire.System | wire.Developer | wire.User | wire.Assistant | wire.ToolResult

_IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF: Final = "application/pdf"
_DATA_URL: Final = re.compile(r"data:(?P<type>[\w.+/-]*)(?:;[\w.+=-]+)*;base64,(?P<data>.*)", re.DOTALL | re.IGNORECASE)
# Ids of calls that another provider made may have any character.
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")


def split(messages: Sequence[wire.Message]) -> tuple[list[Block], list[Block]]:
    """Return the system prompt's blocks, and the conversation. Raises `RefusedError` for unsupported content.

    Instructions between turns go to the system prompt, too: not every model takes them there, and no model takes them
    everywhere. Empty messages are left out, as only the Messages API treats them as an error.
    """
    system: list[Block] = []
    turns: list[Block] = []
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        match message:
            case wire.System(content=content) | wire.Developer(content=content):
                system += _up_to(message, _texts(content, path))
            case wire.Assistant():
                _add(turns, "assistant", _up_to(message, list(_said(message, path))))
            case wire.User(content=content):
                _add(turns, "user", _up_to(message, list(_blocks(content, f"{path}.content"))))
            case wire.ToolResult():
                _add(turns, "user", _up_to(message, [_result(message, path)]))
            case wire.FunctionResult():
                raise invalid(f"{path}.role", "Functions are not offered: use tools, whose results have the role tool")
    if not turns:
        raise invalid("messages", "At least one message of the user with a content is needed")
    for turn in turns:
        # The API takes the results of a turn's calls only at the beginning of the next turn.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return system, turns


def call_id(given: str) -> str:
    """Return the id of a call in the characters that the Messages API takes."""
    return _NOT_IN_AN_ID.sub("_", given)


def marked(block: Block, cache_control: wire.Mark, breakpoint_: wire.Mark = None) -> Block:
    """Return the block with its cache mark, if it has one of either kind."""
    if cache_control is not None:
        return {**block, "cache_control": cache_control}
    if breakpoint_ is not None:
        return {**block, "cache_control": {"type": "ephemeral"}}
    return block


def _up_to(message: _Marked, blocks: list[Block]) -> list[Block]:
    """Return the blocks of a message; its own cache mark goes to its last block, where the cached part ends."""
    if message.cache_control is not None and blocks:
        blocks[-1] = marked(blocks[-1], message.cache_control)
    return blocks


def _add(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _texts(content: wire.Content, path: str) -> list[Block]:
    blocks = list(_blocks(content, f"{path}.content"))
    for block in blocks:
        if block["type"] != "text":
            raise invalid(f"{path}.content", "Only a message of the user may hold more than text")
    return blocks


def _said(message: wire.Assistant, path: str) -> Iterator[Block]:
    yield from _texts(message.content, path)
    if message.refusal:
        yield {"type": "text", "text": message.refusal}
    for number, call in enumerate(message.tool_calls or ()):
        yield {
            "type": "tool_use",
            "id": call_id(call.id),
            "name": call.function.name,
            "input": _arguments(call.function.arguments, f"{path}.tool_calls[{number}].function.arguments"),
        }


def _arguments(given: str | dict[str, Any] | None, path: str) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    if not given or not given.strip():
        return {}
    try:
        arguments = msgspec.json.decode(given)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise invalid(path, "Must be a JSON object in a string")
    return arguments


def _result(message: wire.ToolResult, path: str) -> Block:
    result: Block = {"type": "tool_result", "tool_use_id": call_id(message.tool_call_id)}
    blocks = list(_blocks(message.content, f"{path}.content"))
    return {**result, "content": blocks} if blocks else result


def _blocks(content: wire.Content, path: str) -> Iterator[Block]:
    if content is None:
        return
    if isinstance(content, str):
        if content:
            yield {"type": "text", "text": content}
        return
    for number, part in enumerate(content):
        where = f"{path}[{number}]"
        match part:
            case wire.Text():
                if part.text:
                    yield marked({"type": "text", "text": part.text}, part.cache_control, part.prompt_cache_breakpoint)
            case wire.Refused():
                if part.refusal:
                    yield {"type": "text", "text": part.refusal}
            case wire.Image():
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                source = _image_source(url, f"{where}.image_url.url")
                yield marked({"type": "image", "source": source}, part.cache_control, part.prompt_cache_breakpoint)
            case wire.File():
                yield marked(_document(part.file, f"{where}.file"), part.cache_control, part.prompt_cache_breakpoint)
            case wire.Audio():
                raise invalid(f"{where}.type", "Sound is not taken: send a transcript as text")


def _image_source(url: str, path: str) -> Block:
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    media_type, data = _data(url, path)
    media_type = media_type.replace("image/jpg", "image/jpeg")
    if media_type not in _IMAGE_TYPES:
        raise invalid(path, "An image must be JPEG, PNG, GIF or WebP")
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(file: wire.FileData, path: str) -> Block:
    if file.file_data is None:
        raise invalid(f"{path}.file_id", "There are no uploaded files here: send the file itself as file_data")
    media_type, data = _data(file.file_data, f"{path}.file_data")
    if media_type != _PDF:
        raise invalid(f"{path}.file_data", "A file must be a PDF; send text as text")
    document: Block = {"type": "document", "source": {"type": "base64", "media_type": _PDF, "data": data}}
    return {**document, "title": file.filename} if file.filename else document


def _data(url: str, path: str) -> tuple[str, str]:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise invalid(path, "Must be a data URL in base64")
    return found["type"].lower(), found["data"]
