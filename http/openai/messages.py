"""Translation of OpenAI's messages: a separate system prompt, turns of two roles, results first in their turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..response.errors import invalid
from ..translation import content as blocks_of
from ..translation.content import Block, Conversation, marked, tool_result, tool_use
from ..upstreams.tool_arguments import arguments_of
from . import request_schema as wire

_Marked = wire.System | wire.Developer | wire.User | wire.Assistant | wire.ToolResult


def split(messages: Sequence[wire.Message]) -> tuple[list[Block], list[Block]]:
    """Return the system prompt's blocks, and the conversation. Raises `RefusedError` for unsupported content."""
    conversation = Conversation()
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        match message:
            case wire.System(content=content) | wire.Developer(content=content):
                conversation.instruct(_up_to(message, _texts(content, path)))
            case wire.Assistant():
                conversation.add("assistant", _up_to(message, list(_said(message, path))))
            case wire.User(content=content):
                conversation.add("user", _up_to(message, list(_blocks(content, f"{path}.content"))))
            case wire.ToolResult():
                blocks = list(_blocks(message.content, f"{path}.content"))
                conversation.add("user", _up_to(message, [tool_result(message.tool_call_id, blocks)]))
            case wire.FunctionResult():
                raise invalid(f"{path}.role", "Functions are not offered: use tools, whose results have the role tool")
    return conversation.finished("messages")


def _up_to(message: _Marked, blocks: list[Block]) -> list[Block]:
    """Return the blocks of a message; its own cache mark goes to its last block, where the cached part ends."""
    if message.cache_control is not None and blocks:
        blocks[-1] = marked(blocks[-1], message.cache_control)
    return blocks


def _texts(content: wire.Content, path: str) -> list[Block]:
    blocks = list(_blocks(content, f"{path}.content"))
    for block in blocks:
        if block["type"] != "text":
            raise invalid(f"{path}.content", "Only a message of the user may hold more than text")
    return blocks


def _said(message: wire.Assistant, path: str) -> Iterator[Block]:
    yield from _texts(message.content, path)
    if message.refusal:
        yield from blocks_of.text(message.refusal)
    for call in message.tool_calls or ():
        yield tool_use(call.id, call.function.name, arguments_of(call.function.arguments))


def _blocks(content: wire.Content, path: str) -> Iterator[Block]:
    if content is None:
        return
    if isinstance(content, str):
        yield from blocks_of.text(content)
        return
    for number, part in enumerate(content):
        where = f"{path}[{number}]"
        match part:
            case wire.Text():
                for block in blocks_of.text(part.text):
                    yield marked(block, part.cache_control, part.prompt_cache_breakpoint)
            case wire.Refused():
                yield from blocks_of.text(part.refusal)
            case wire.Image():
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                block = blocks_of.image(url, f"{where}.image_url.url")
                yield marked(block, part.cache_control, part.prompt_cache_breakpoint)
            case wire.File():
                yield marked(_document(part.file, f"{where}.file"), part.cache_control, part.prompt_cache_breakpoint)
            case wire.Audio():
                raise invalid(f"{where}.type", "Audio is not accepted: send a transcript as text")


def _document(file: wire.FileData, path: str) -> Block:
    if file.file_data is None:
        raise invalid(f"{path}.file_id", "There are no uploaded files here: send the file itself as file_data")
    return blocks_of.document(file.file_data, file.filename, f"{path}.file_data")
