"""Translation of the input of a Responses request to the messages of chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ...response.errors import invalid
from ...translation import content as blocks_of
from ...translation.chat_turns import Turns
from ...upstreams.chat_costs import check_address
from ...upstreams.tool_arguments import arguments_of
from .. import request_schema as wire
from ..thoughts import ChatThought
from ..tools import INPUT, Tools

Json = dict[str, Any]
_NO_FILES: Final = "There are no uploaded files here: send the image itself as image_url"
_NO_DOCUMENTS: Final = "This model takes no files but images: send what is in it as text"


def messages_of(
    asked: wire.ResponsesRequest, tools: Tools, thoughts: Mapping[int, Any], notes: list[str]
) -> tuple[list[Json], str | None]:
    """Return the messages, and the path of the first image; None without any.

    `thoughts` are those that are sent back, by the number of their item; `notes` are added to the instructions. Raises
    `RefusedError` (400) for what chat completions can't hold.
    """
    made = _Input(tools, thoughts)
    made.turns.instruct(asked.instructions or "")
    if isinstance(asked.input, str):
        made.turns.ask(blocks_of_text(asked.input))
    else:
        for number, item in enumerate(asked.input or ()):
            made.add(item, number)
    return made.turns.messages(notes, "input"), made.image


def blocks_of_text(text: str) -> list[Json]:
    """Return the text as a part of a message; nothing for an empty one."""
    return [{"type": "text", "text": text}] if text else []


class _Input:
    """The items of a request on their way to messages."""

    def __init__(self, tools: Tools, thoughts: Mapping[int, Any]) -> None:
        self.turns = Turns()
        self.image: str | None = None
        self._tools = tools
        self._thoughts = thoughts

    def add(self, item: wire.Item, number: int) -> None:
        """Add an item."""
        path, turns = f"input[{number}]", self.turns
        match item:
            case wire.Message(role="user"):
                turns.ask(list(self._parts(item.content, f"{path}.content")))
            case wire.Message(role="assistant"):
                turns.say("".join(self._texts(item.content, f"{path}.content")))
            case wire.Message():
                turns.instruct("\n\n".join(self._texts(item.content, f"{path}.content")))
            case wire.FunctionCall():
                turns.call(item.call_id, self._tools.flat(item.name, item.namespace), _arguments(item.arguments))
            case wire.CustomToolCall():
                arguments = msgspec.json.encode({INPUT: item.input}).decode()
                turns.call(item.call_id, self._tools.flat(item.name, item.namespace), arguments)
            case wire.FunctionCallOutput() | wire.CustomToolCallOutput():
                turns.result(item.call_id, list(self._parts(item.output, f"{path}.output")), f"{path}.call_id")
            case wire.Reasoning():
                if isinstance(thought := self._thoughts.get(number), ChatThought):
                    turns.think(thought)

    def _texts(self, content: wire.Content, path: str) -> list[str]:
        parts = list(self._parts(content, path))
        if any(part["type"] != "text" for part in parts):
            raise invalid(path, "Only a message of the user may hold more than text")
        return [part["text"] for part in parts]

    def _parts(self, content: wire.Content, path: str) -> Iterator[Json]:
        if content is None:
            return
        if isinstance(content, str):
            yield from blocks_of_text(content)
            return
        for number, part in enumerate(content):
            where = f"{path}[{number}]"
            match part:
                case wire.InputText() | wire.OutputText():
                    yield from blocks_of_text(part.text)
                case wire.Refused():
                    yield from blocks_of_text(part.refusal)
                case wire.InputImage():
                    if part.image_url is None:
                        raise invalid(f"{where}.file_id", _NO_FILES)
                    yield self._image(part.image_url, f"{where}.image_url", part.detail)
                case wire.InputFile():
                    if part.file_data is None or not part.file_data[:11].lower().startswith("data:image/"):
                        raise invalid(where, _NO_DOCUMENTS)
                    yield self._image(part.file_data, f"{where}.file_data")
                case wire.InputAudio():
                    raise invalid(f"{where}.type", "Sound is not taken: send a transcript as text")

    def _image(self, url: str, path: str, detail: str | None = None) -> Json:
        source = blocks_of.image(url, path)["source"]
        if source["type"] == "base64":
            # The type by the first bytes, as labels are often wrong.
            url = f"data:{source['media_type']};base64,{source['data']}"
        else:
            check_address(url, path)
        self.image = self.image or path
        return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}


def _arguments(given: str | dict[str, Any] | None) -> str:
    """Return the arguments of a call as a JSON object: chat templates fail on others, as on those that were cut off."""
    found = arguments_of(given)
    if isinstance(given, str) and given.strip().startswith("{") and "arguments" not in found:
        return given
    return msgspec.json.encode(found).decode()
