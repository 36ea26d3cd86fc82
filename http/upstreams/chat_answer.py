"""Answers of OpenAI's chat completions, as the translations read them: whole, or as the chunks of a stream.

Readers for the servers that speak this shape, each with deviations of its own: thoughts stand under two names, content
is a list of parts, a call has no index, or its arguments are an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from ...actors.domain.llm.half_characters import decoded
from .provider_call import UnreadableAnswerError
from .reasoning_details import ReasoningDetails

ThoughtField = Literal["reasoning_content", "reasoning", ""]
"""Names of a message's member with a thought; empty for a thought that stands elsewhere."""

# Without a limit, an endless line would fill the memory.
_LINE_MAX_BYTES: Final = 4 << 20
_DONE: Final = b"[DONE]"
_DATA: Final = b"data:"
# DeepSeek, vLLM and llama.cpp have the first name, OpenRouter and Groq the second; some servers send both.
_THOUGHTS: Final[tuple[Literal["reasoning_content", "reasoning"], ...]] = ("reasoning_content", "reasoning")
_THINKING: Final = "thinking"
SIGNED: Final = ("extra_content", "provider_specific_fields")
"""Members of a call with the signature of the thought that led to it: Google's name, and LiteLLM's."""
# The stop sequence that ended a choice: vLLM's name for it, and SGLang's. A number is a token, and the model's own end.
_STOPS: Final = ("stop_reason", "matched_stop")


class CallPiece(NamedTuple):
    """A call of a tool, or more of one. `place` is that among the calls, None where the server gives none.

    `signed` are the members that must come back with the call: Gemini refuses one without its thought's signature.
    """

    place: int | None
    id: str
    name: str
    arguments: str
    signed: Mapping[str, Any] = {}


class Piece(NamedTuple):
    """A message, or more of it. `finish_reason` is None until its end. `stop` is the text at which it was stopped.

    `details` are those of its thoughts (see `reasoning_details`).
    `thought_field` is the member in which the thought stands; empty for one among the parts of the content.
    """

    thought: str = ""
    text: str = ""
    refusal: str = ""
    calls: tuple[CallPiece, ...] = ()
    finish_reason: str | None = None
    thought_field: ThoughtField = ""
    stop: str = ""
    details: tuple[Mapping[str, Any], ...] = ()


class Chunk(NamedTuple):
    """A whole answer, or one chunk of a stream. `choices` are the indices in it, `piece` is that of the first choice.

    `usage` is None where the chunk has none.
    """

    id: str
    model: str
    choices: tuple[int, ...]
    piece: Piece
    usage: Mapping[str, Any] | None


def completion_of(body: bytes) -> Chunk:
    """Return a whole answer. Raises `UnreadableAnswerError` for a body without a message."""
    found = _object(body)
    choice = next(_choices(found), None) if found is not None else None
    if found is None or choice is None or not isinstance(choice.get("message"), dict):
        raise UnreadableAnswerError
    return _chunk(found, "message")


class ChunkReader:
    """Reader of a stream's chunks, however its bytes are cut. It keeps one unfinished line.

    `done`: the end mark has come.
    """

    def __init__(self) -> None:
        self._line = b""
        self.done = False

    def read(self, chunk: bytes) -> Iterator[Chunk]:
        """Yield the chunks whose lines are complete. Unreadable lines are skipped, and so are errors."""
        *lines, self._line = (self._line + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(self._line) > _LINE_MAX_BYTES:
            self._line = b""
        for line in lines:
            if not line.startswith(_DATA):
                continue
            data = line[len(_DATA) :].strip()
            if data == _DONE:
                self.done = True
            elif (found := _object(data)) is not None and isinstance(found.get("choices"), list):
                yield _chunk(found, "delta")


class CallNumbers:
    """Numbers of an answer's calls, in the order in which they begin.

    A piece belongs to the call of its index. Some servers give all calls the same index, or none: then a name or an id
    of its own begins another call.
    """

    def __init__(self) -> None:
        self._by_index: dict[int | None, int] = {}
        self._ids: list[str] = []

    def of(self, piece: CallPiece) -> tuple[int, bool]:
        """Return the number of the piece's call, and whether it begins here."""
        number = self._by_index.get(piece.place)
        if number is not None and not self._is_another(piece, self._ids[number]):
            self._ids[number] = self._ids[number] or piece.id
            return number, False
        number = self._by_index[piece.place] = len(self._ids)
        self._ids.append(piece.id)
        return number, True

    @staticmethod
    def _is_another(piece: CallPiece, begun_id: str) -> bool:
        if piece.id and begun_id:
            return piece.id != begun_id
        return piece.place is None and bool(piece.name)


def _chunk(found: Mapping[str, Any], member: str) -> Chunk:
    choices = list(_choices(found))
    usage = found.get("usage")
    first = next((choice for choice in choices if _index(choice) == 0), {})
    return Chunk(
        id=_text(found.get("id")),
        model=_text(found.get("model")),
        choices=tuple(map(_index, choices)),
        piece=_piece(first.get(member), first),
        usage=usage if isinstance(usage, dict) else None,
    )


def _choices(found: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    choices = found.get("choices")
    if isinstance(choices, list):
        yield from (choice for choice in choices if isinstance(choice, dict))


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if type(index) is int else 0


def _piece(given: Any, choice: Mapping[str, Any]) -> Piece:
    given = given if isinstance(given, dict) else {}
    finish_reason = choice.get("finish_reason")
    thought, text = _said(given.get("content"))
    field: ThoughtField = next((name for name in _THOUGHTS if _text(given.get(name))), "")
    calls, told = given.get("tool_calls"), given.get("reasoning_details")
    details = tuple(filter(_is_object, told)) if isinstance(told, list) else ()
    return Piece(
        # Some servers tell the thought in its details alone.
        thought=given[field] if field else thought or ReasoningDetails(details).text,
        text=text,
        refusal=_text(given.get("refusal")),
        calls=tuple(map(_call, filter(_is_object, calls))) if isinstance(calls, list) else (),
        finish_reason=finish_reason if isinstance(finish_reason, str) and finish_reason else None,
        thought_field=field,
        stop=next((stop for name in _STOPS if (stop := _text(choice.get(name)))), ""),
        details=details,
    )


def _said(content: Any) -> tuple[str, str]:
    """Return the thoughts and the text of a content, which Mistral's servers give in parts."""
    if not isinstance(content, list):
        return "", _text(content)
    thoughts, texts = [], []
    for part in filter(_is_object, content):
        if part.get("type") == _THINKING:
            inner = part.get(_THINKING)
            thoughts.append("".join(_said(inner)) if isinstance(inner, list) else _text(inner))
        else:
            texts.append(_text(part.get("text")))
    return "".join(thoughts), "".join(texts)


def _call(given: Mapping[str, Any]) -> CallPiece:
    custom, index = given.get("custom"), given.get("index")
    function = given.get("function") if isinstance(given.get("function"), dict) else custom
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments", function.get("input"))
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    return CallPiece(
        place=index if type(index) is int else None,
        id=_text(given.get("id")),
        name=_text(function.get("name")),
        arguments=_text(arguments),
        signed={name: given[name] for name in SIGNED if _is_object(given.get(name)) and given[name]},
    )


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = decoded(msgspec.json.decode, data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
