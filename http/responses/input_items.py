"""Translation of the input of a Responses request to a system prompt and turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from ..response.errors import invalid
from ..translation import content as blocks_of
from ..translation.content import Block, Conversation, marked, tool_result, tool_use
from ..upstreams.tool_arguments import arguments_of
from . import request_schema as wire
from .thoughts import Thought
from .tools import INPUT, Tools

_NO_FILES: Final = "There are no uploaded files here: send the {what} itself as {field}"


def split(
    instructions: str | None, given: str | list[wire.Item] | None, tools: Tools, thoughts: Mapping[int, Thought]
) -> tuple[list[Block], list[Block]]:
    """Return the system prompt's blocks, and the conversation. Raises `RefusedError` for unsupported content.

    `thoughts` are those that are sent back, by the number of their item.
    """
    conversation = Conversation()
    conversation.instruct(list(blocks_of.text(instructions or "")))
    if isinstance(given, str):
        conversation.add("user", list(blocks_of.text(given)))
    else:
        for number, item in enumerate(given or ()):
            if number in thoughts:
                conversation.add("assistant", [msgspec.to_builtins(thoughts[number])])
            _add(conversation, item, f"input[{number}]", tools)
    return conversation.finished("input")


def _add(conversation: Conversation, item: wire.Item, path: str, tools: Tools) -> None:
    match item:
        case wire.Message(role="user"):
            conversation.add("user", list(_blocks(item.content, f"{path}.content")))
        case wire.Message(role="assistant"):
            conversation.add("assistant", _texts(item.content, f"{path}.content"))
        case wire.Message():
            conversation.instruct(_texts(item.content, f"{path}.content"))
        case wire.FunctionCall():
            name = tools.flat(item.name, item.namespace)
            conversation.add("assistant", [tool_use(item.call_id, name, arguments_of(item.arguments))])
        case wire.CustomToolCall():
            name = tools.flat(item.name, item.namespace)
            conversation.add("assistant", [tool_use(item.call_id, name, {INPUT: item.input})])
        case wire.FunctionCallOutput() | wire.CustomToolCallOutput():
            blocks = list(_blocks(item.output, f"{path}.output"))
            conversation.add("user", [tool_result(item.call_id, blocks)])


def _texts(content: wire.Content, path: str) -> list[Block]:
    blocks = list(_blocks(content, path))
    for block in blocks:
        if block["type"] != "text":
            raise invalid(path, "Only a message of the user may hold more than text")
    return blocks


def _blocks(content: wire.Content, path: str) -> Iterator[Block]:
    if content is None:
        return
    if isinstance(content, str):
        yield from blocks_of.text(content)
        return
    for number, part in enumerate(content):
        where = f"{path}[{number}]"
        match part:
            case wire.InputText():
                for block in blocks_of.text(part.text):
                    yield marked(block, None, part.prompt_cache_breakpoint)
            case wire.OutputText():
                yield from blocks_of.text(part.text)
            case wire.Refused():
                yield from blocks_of.text(part.refusal)
            case wire.InputImage():
                if part.image_url is None:
                    raise invalid(f"{where}.file_id", _NO_FILES.format(what="image", field="image_url"))
                yield marked(blocks_of.image(part.image_url, f"{where}.image_url"), None, part.prompt_cache_breakpoint)
            case wire.InputFile():
                yield marked(_document(part, where), None, part.prompt_cache_breakpoint)
            case wire.InputAudio():
                raise invalid(f"{where}.type", "Sound is not taken: send a transcript as text")


def _document(file: wire.InputFile, path: str) -> Block:
    if file.file_data is None:
        if file.file_url is not None:
            raise invalid(f"{path}.file_url", "What an address holds can not be priced: send the file as file_data")
        raise invalid(f"{path}.file_id", _NO_FILES.format(what="file", field="file_data"))
    return blocks_of.document(file.file_data, file.filename, f"{path}.file_data")
