"""Content blocks of the Messages API, from the texts, images, files and calls of OpenAI's APIs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

from ..response.errors import invalid

Block = dict[str, Any]
Mark = dict[str, Any] | None

_IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF: Final = "application/pdf"
_DATA_URL: Final = re.compile(r"data:(?P<type>[\w.+/-]*)(?:;[\w.+=-]+)*;base64,(?P<data>.*)", re.DOTALL | re.IGNORECASE)
# The first bytes of a file, as a pattern, and its type.
_SIGNATURES: Final = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"\x89PNG"), "image/png"),
    (re.compile(rb"GIF8"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"%PDF"), _PDF),
)
# Base64 of the 12 bytes that the longest signature needs.
_SIGNATURE_CHARS: Final = 16
# Ids of calls that another provider made may have any character.
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})


class Conversation:
    """A system prompt and turns of two roles, as the Messages API takes them.

    Instructions between turns go to the system prompt, too: not every model takes them there, and no model takes them
    everywhere.
    """

    def __init__(self) -> None:
        self._instructions: list[list[Block]] = []
        self._turns: list[Block] = []

    def instruct(self, blocks: list[Block]) -> None:
        """Add a message with instructions."""
        if blocks:
            self._instructions.append(blocks)

    def add(self, role: str, blocks: list[Block]) -> None:
        """Add blocks to the turn of this role, or begin one. The API treats empty messages as an error."""
        _append(self._turns, role, blocks)

    def finished(self, path: str) -> tuple[list[Block], list[Block]]:
        """Return the system prompt and the turns. Raises `RefusedError` that names `path` without any message.

        If there are instructions alone, the last ones are the user's message.
        """
        turns: list[Block] = []
        for turn in self._turns:
            _append(
                turns, turn["role"], _without_last_thoughts(turn) if turn["role"] == "assistant" else turn["content"]
            )
        if not turns and self._instructions:
            _append(turns, "user", self._instructions.pop())
        if not turns:
            raise invalid(path, "At least one message of the user with a content is needed")
        for turn in turns:
            # The API takes the results of a turn's calls only at the beginning of the next turn.
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
        last = turns[-1]["content"][-1]
        if turns[-1]["role"] == "assistant" and last["type"] == "text":
            # The API refuses white space at the end of an answer that it is to continue.
            last["text"] = last["text"].rstrip()
        return [block for blocks in self._instructions for block in blocks], turns


def _append(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": [*blocks]})


def _without_last_thoughts(turn: Block) -> list[Block]:
    """Return the blocks without thoughts that nothing follows: the API refuses a turn that ends in one."""
    blocks: list[Block] = turn["content"]
    end = len(blocks)
    while end and blocks[end - 1]["type"] in _THOUGHTS:
        end -= 1
    return blocks[:end]


def text(words: str) -> Iterator[Block]:
    """Yield the text as a block; nothing for white space alone, which the API refuses."""
    if words.strip():
        yield {"type": "text", "text": words}


def marked(block: Block, cache_control: Mark, breakpoint_: Mark = None) -> Block:
    """Return the block with its cache mark, if it has one of either kind."""
    if cache_control is not None:
        return {**block, "cache_control": cache_control}
    if breakpoint_ is not None:
        return {**block, "cache_control": {"type": "ephemeral"}}
    return block


def tool_use(call_id: str, name: str, arguments: dict[str, Any]) -> Block:
    """Return a call that the model made."""
    return {"type": "tool_use", "id": tool_use_id(call_id), "name": name, "input": arguments}


def tool_result(call_id: str, blocks: list[Block]) -> Block:
    """Return the result of a call."""
    result: Block = {"type": "tool_result", "tool_use_id": tool_use_id(call_id)}
    return {**result, "content": blocks} if blocks else result


def tool_use_id(given: str) -> str:
    """Return the id of a call in the characters that the Messages API takes."""
    return _NOT_IN_AN_ID.sub("_", given)


def image(url: str, path: str) -> Block:
    """Return an image by its address or from a data URL. Raises `RefusedError`."""
    if url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, data = _data(url, path)
    if media_type not in _IMAGE_TYPES:
        raise invalid(path, "An image must be JPEG, PNG, GIF or WebP")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def document(url: str, filename: str | None, path: str) -> Block:
    """Return a PDF from a data URL. Raises `RefusedError`."""
    media_type, data = _data(url, path)
    if media_type != _PDF:
        raise invalid(path, "A file must be a PDF; send text as text")
    made: Block = {"type": "document", "source": {"type": "base64", "media_type": _PDF, "data": data}}
    return {**made, "title": filename} if filename else made


def _data(url: str, path: str) -> tuple[str, str]:
    """Return the media type and the base64 of a data URL. The first bytes tell the type: labels are often wrong."""
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise invalid(path, "Must be a data URL in base64")
    data = "".join(found["data"].split())
    labelled = found["type"].lower().replace("image/jpg", "image/jpeg")
    try:
        head = base64.b64decode(data[:_SIGNATURE_CHARS])
    except ValueError:
        return labelled, data
    return next((kind for signature, kind in _SIGNATURES if signature.match(head)), labelled), data
