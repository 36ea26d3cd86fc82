"""A Messages API on loopback that is as strict as the real one, and does what the last message of the user says.

- `[[call NAME {"a": 1}]]` calls that tool, `[[run COMMAND]]` whichever tool of the client runs a command in a shell.
- `[[spend]]` counts as many tokens of output as were allowed.
- Results of tools are told back. A tool or a JSON schema that is asked for is followed with the least that fits.
- Everything else is told back, too.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.helpers.anthropic_streams import sse
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import free_port, patiently

Json = dict[str, Any]

_FIELDS: Final = frozenset(
    [
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    ]
)
_COUNTED: Final = frozenset(
    [
        "cache_control",
        "context_management",
        "messages",
        "model",
        "output_config",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    ]
)
# Fields of a message by its role. Claude Code sends the effort from here on in a message of the system.
_ROLES: Final = {
    "user": {"role", "content"},
    "assistant": {"role", "content"},
    "system": {"role", "content", "output_config"},
}
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_CALL: Final = re.compile(r"\[\[call ([\w-]+)\s*(\{.*?\})?\]\]", re.DOTALL)
_RUN: Final = re.compile(r"\[\[run (.+?)\]\]")
_SHELLS: Final = ("Bash", "bash", "exec_command", "shell_command", "shell", "container.exec")
_SHOWN_CHARS: Final = 300


class _RefusedError(Exception):
    """A body that the real API refuses; the text is its own way of saying why."""


def answer(body: Any) -> Json:
    """Return the message that answers this body. Raises `ValueError` with the reason when the real API refuses it."""
    try:
        _check(body, _FIELDS)
        if type(body.get("max_tokens")) is not int or body["max_tokens"] < 1:
            raise _RefusedError("max_tokens: Field required")
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    content, stop_reason = _content(body), "end_turn"
    if any(block["type"] == "tool_use" for block in content):
        stop_reason = "tool_use"
    output = body["max_tokens"] if "[[spend]]" in _last_text(body) else len(json.dumps(content)) // 4
    return {
        "id": f"msg_{next(_numbers)}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": len(json.dumps(body)) // 4,
            "output_tokens": output,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
        },
    }


_numbers = itertools.count(1)


def events(message: Json) -> bytes:
    """Return the message as the events of a stream."""
    usage = message["usage"]
    found: list[Json] = [
        {
            "type": "message_start",
            "message": {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}},
        }
    ]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, kind, name, text = {**block, "text": ""}, "text_delta", "text", block["text"]
        else:
            empty, kind, name = {**block, "input": {}}, "input_json_delta", "partial_json"
            text = json.dumps(block["input"])
        found.append({"type": "content_block_start", "index": index, "content_block": empty})
        size = max(1, len(text) // 4)
        found += [
            {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: text[start : start + size]}}
            for start in range(0, len(text), size)
        ]
        found.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    return sse(*found, {"type": "message_delta", "delta": stop, "usage": usage}, {"type": "message_stop"})


# What it says


def _content(body: Json) -> list[Json]:
    tools = {tool["name"]: tool for tool in body.get("tools") or []}
    choice = body.get("tool_choice") or {}
    if choice.get("type") == "tool":
        return [_use(choice["name"], _least(tools[choice["name"]].get("input_schema", {})))]
    last = [message for message in body["messages"] if message["role"] != "system"][-1]
    results = [block for block in _blocks(last) if block["type"] == "tool_result"]
    if results:
        return [_text("The tool said: " + "; ".join(_shown(block.get("content", "")) for block in results))]
    text = _last_text(body)
    if schema := ((body.get("output_config") or {}).get("format") or {}).get("schema"):
        return [_text(json.dumps(_least(schema)))]
    calls = [_use(name, json.loads(arguments or "{}")) for name, arguments in _CALL.findall(text) if name in tools]
    if (found := _RUN.search(text)) and (shell := next((name for name in _SHELLS if name in tools), None)):
        calls.append(_use(shell, _command(tools[shell]["input_schema"], found[1])))
    if calls:
        return [_text("I call a tool."), *calls]
    return [_text(f"You said: {text[-_SHOWN_CHARS:].strip()}")]


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _use(name: str, arguments: Any) -> Json:
    return {"type": "tool_use", "id": f"toolu_{next(_numbers)}", "name": name, "input": arguments}


def _command(schema: Json, command: str) -> Any:
    arguments = _least(schema)
    name = next(name for name in ("command", "cmd") if name in schema["properties"])
    in_words = schema["properties"][name].get("type") == "array"
    return {**arguments, name: ["bash", "-c", command] if in_words else command}


def _least(schema: Any) -> Any:
    """Return the least that fits a JSON schema, as far as clients here use them."""
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return _least(choices[0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _least(properties[name]) for name in schema.get("required", []) if name in properties}
    return {"array": [], "integer": 1, "number": 1, "boolean": False, "null": None}.get(kind, "sextant")


def _shown(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(block.get("text", block["type"]) for block in content)


def _last_text(body: Json) -> str:
    """Return the texts of the last message of the user."""
    last = next(message for message in reversed(body["messages"]) if message["role"] == "user")
    return "\n".join(block["text"] for block in _blocks(last) if block["type"] == "text")


# What it refuses


def _check(body: Any, fields: frozenset[str]) -> None:
    if not isinstance(body, dict):
        raise _RefusedError("The body must be an object")
    if extra := sorted(body.keys() - fields):
        raise _RefusedError(f"{extra[0]}: Extra inputs are not permitted")
    if not isinstance(body.get("model"), str):
        raise _RefusedError("model: Field required")
    _check_tools(body)
    for place, block in enumerate(_system(body)):
        _check_text(f"system.{place}", block)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _RefusedError("messages: at least one message is required")
    open_calls: set[str] = set()
    for place, message in enumerate(messages):
        open_calls = _check_message(f"messages.{place}", message, open_calls, last=place == len(messages) - 1)
    if open_calls:
        raise _RefusedError("messages: `tool_use` ids were found without `tool_result` blocks immediately after")


def _system(body: Json) -> Sequence[Json]:
    system = body.get("system") or []
    return [_text(system)] if isinstance(system, str) else system


def _check_tools(body: Json) -> None:
    tools, seen = body.get("tools") or [], set()
    for place, tool in enumerate(tools):
        if not isinstance(tool.get("name"), str) or not _NAME.fullmatch(tool["name"]):
            raise _RefusedError(f"tools.{place}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if tool["name"] in seen:
            raise _RefusedError("tools: Tool names must be unique.")
        seen.add(tool["name"])
        if tool.get("type", "custom") == "custom" and tool.get("input_schema", {}).get("type") != "object":
            raise _RefusedError(f"tools.{place}.custom.input_schema.type: Input should be 'object'")
    choice = body.get("tool_choice")
    if choice and not tools:
        raise _RefusedError("tool_choice: may only be specified while providing tools.")
    if choice and choice.get("type") not in {"auto", "any", "tool", "none"}:
        raise _RefusedError("tool_choice: Input tag does not match any of the expected tags")
    if choice and choice.get("type") == "tool" and choice.get("name") not in seen:
        raise _RefusedError("tool_choice: Tool not found in provided tools")


def _blocks(message: Json) -> list[Json]:
    content = message["content"]
    return [_text(content)] if isinstance(content, str) else content


def _check_text(where: str, block: Json) -> None:
    if not isinstance(block.get("text"), str) or not block["text"]:
        raise _RefusedError(f"{where}: text content blocks must be non-empty")
    if not block["text"].strip():
        raise _RefusedError(f"{where}: text content blocks must contain non-whitespace text")


def _check_message(where: str, message: Json, open_calls: set[str], *, last: bool) -> set[str]:
    """Return the calls of tools that the next message must answer."""
    if message.keys() - _ROLES.get(str(message.get("role")), set()):
        raise _RefusedError(f"{where}: role {message.get('role')!r} with {sorted(message)} is not permitted")
    if not message.get("content"):
        raise _RefusedError(f"{where}: all messages must have non-empty content")
    blocks = _blocks(message)
    for place, block in enumerate(blocks):
        _check_block(f"{where}.content.{place}", message["role"], block)
    made = {block["id"] for block in blocks if block["type"] == "tool_use"}
    answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
    if message["role"] == "system":  # It may be anywhere.
        return open_calls
    if answered - open_calls:
        raise _RefusedError(f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {answered - open_calls}")
    if open_calls - answered:
        raise _RefusedError(f"{where}: `tool_use` ids were found without `tool_result` blocks: {open_calls - answered}")
    if last and message["role"] == "assistant" and blocks[-1].get("text", "x") != blocks[-1].get("text", "x").rstrip():
        raise _RefusedError("messages: final assistant content cannot end with trailing whitespace")
    return made


def _check_block(where: str, role: str, block: Json) -> None:
    match block.get("type"):
        case "text":
            _check_text(where, block)
        case "tool_use" if role == "assistant":
            if not _TOOL_ID.fullmatch(block["id"]) or not isinstance(block["input"], dict):
                raise _RefusedError(f"{where}.tool_use: id or input is not valid")
        case "tool_result" if role == "user":
            pass
        case "thinking" if not block.get("signature"):
            raise _RefusedError(f"{where}.thinking.signature: Field required")
        case "thinking" | "redacted_thinking" | "image" | "document":
            pass
        case kind:
            raise _RefusedError(f"{where}: Input tag '{kind}' does not match")


# The server


class ScriptedMessages:
    """The API as a server. `refusals` are its own 400s, `bodies` what it was sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.bodies: list[Json] = []
        self.refusals: list[str] = []
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["POST"])])
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_config=None))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        """Return once it listens."""
        self._thread.start()
        patiently(lambda: self._server.started, "the scripted Messages API listens")

    def close(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)

    async def _answer(self, request: Request) -> Response:
        body = json.loads(await request.body())
        headers = {"request-id": f"req_{next(_numbers)}"}
        try:
            if request.url.path.endswith("/count_tokens"):
                _check(body, _COUNTED)
                return JSONResponse({"input_tokens": len(json.dumps(body)) // 4})
            self.bodies.append(body)
            message = answer(body)
        except (_RefusedError, ValueError) as error:
            self.refusals.append(str(error))
            return JSONResponse(refusal(str(error)), 400, headers)
        if body.get("stream") is True:
            return Response(events(message), media_type="text/event-stream", headers=headers)
        return JSONResponse(message, headers=headers)


def refusal(why: str) -> Mapping[str, Any]:
    """Return the body of the API's 400."""
    return {"type": "error", "error": {"type": "invalid_request_error", "message": why}}


@contextmanager
def scripted_messages() -> Iterator[ScriptedMessages]:
    """Serve it while the block runs."""
    api = ScriptedMessages()
    api.start()
    try:
        yield api
    finally:
        api.close()
