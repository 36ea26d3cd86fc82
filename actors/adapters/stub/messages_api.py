"""Messages API without a model, as an HTTP transport under the real SDK: for development and load tests.

It follows plain rules, so that the same input always costs the same:
- Tokens are the UTF-8 bytes of the texts, divided by four and rounded up.
- A prefix marked with `cache_control` is written to the cache when this process sees it first, and read after that.
- The answer says that it is a stub and quotes the request; it ends at `max_tokens` as the real one does.
- An evaluation, recognised by the verdict's JSON schema, accepts. It rejects text with `[reject]` or the word
  `malware`, and blank text. Size is `small` up to 400 characters, `medium` up to 4,000, else `large`.
- Work on a request that contains `[break]` fails as on a bad day: a whole answer with status 500, a streamed
  one with an `error` event after half of its text. So the effects of a failure can be seen without a real one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any, Final

import httpx2
import msgspec

from ...domain.llm.prompts import VERDICT_SCHEMA, judged_request
from ...domain.pricing import Size

_BYTES_PER_TOKEN: Final = 4
_SMALL_MAX_CHARS: Final = 400
_MEDIUM_MAX_CHARS: Final = 4_000
_EXCERPT_MAX_CHARS: Final = 400
_CACHED_PREFIXES_MAX: Final = 1_000
_DELTA_TOKENS: Final = 6
_DELTA_CHARS: Final = _DELTA_TOKENS * _BYTES_PER_TOKEN
# Fields that the real API refuses in a body whose tokens it is to count.
_OF_CALLS_ALONE: Final = frozenset(
    {"max_tokens", "metadata", "service_tier", "stop_sequences", "stream", "temperature", "top_k", "top_p"}
)
_BROKEN: Final = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}


class _InvalidRequestError(Exception):
    """Body that the Messages API does not take; the text says why."""


class _Prompt(msgspec.Struct, frozen=True):
    """Prompt of a call: its texts, in the order in which the API caches them, and the prefix marked for caching."""

    texts: tuple[str, ...]
    cached: int
    one_hour: bool

    @property
    def prefix(self) -> str:
        """Text up to the last cache mark."""
        return "".join(self.texts[: self.cached])

    @property
    def rest(self) -> str:
        """Text after the last cache mark."""
        return "".join(self.texts[self.cached :])


class StubMessagesApi(httpx2.AsyncBaseTransport):
    """Transport that answers `POST /v1/messages` (whole or streamed) and `/v1/messages/count_tokens`.

    `latency_s` is waited before every answer, and a streamed one then comes at `tokens_per_s`, or at once without it:
    so a load test can see a model that takes its time.
    """

    def __init__(self, latency_s: float = 0.0, tokens_per_s: float | None = None) -> None:
        self._latency_s = latency_s
        self._pause_s = _DELTA_TOKENS / tokens_per_s if tokens_per_s is not None else 0.0
        self._cached_prefixes: OrderedDict[bytes, None] = OrderedDict()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request, as httpx2 calls it."""
        sent = await request.aread()
        try:
            return await self._answer(request.method, request.url.path, sent)
        except _InvalidRequestError as error:
            return _error(400, "invalid_request_error", str(error))

    async def whole(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the message that answers this one; None on a bad day."""
        await self._take_time()
        return None if _breaks(body) else self._message(body, _prompt(body))

    async def events(self, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """Return the server-sent events of a streamed answer."""
        await self._take_time()
        return _Events(self._message(body, _prompt(body)), _breaks(body), self._pause_s).sent()

    async def _take_time(self) -> None:
        if self._latency_s > 0:
            await asyncio.sleep(self._latency_s)

    async def _answer(self, method: str, path: str, sent: bytes) -> httpx2.Response:
        counts = path.endswith("/v1/messages/count_tokens")
        if method != "POST" or not (counts or path.endswith("/v1/messages")):
            return _error(404, "not_found_error", "Not found")
        body = _body(sent)
        if counts:
            if extra := sorted(_OF_CALLS_ALONE & body.keys()):
                raise _InvalidRequestError(f"{extra[0]}: Extra inputs are not permitted")
            await self._take_time()
            return httpx2.Response(200, json={"input_tokens": _tokens("".join(_prompt(body).texts))})
        if body.get("stream") is True:
            headers = {"content-type": "text/event-stream", "request-id": _digest_id("req", body)}
            return httpx2.Response(200, headers=headers, stream=_Body(await self.events(body)))
        message = await self.whole(body)
        if message is None:
            return httpx2.Response(500, json=_BROKEN)
        return httpx2.Response(200, json=message, headers=headers_of(message))

    def _message(self, body: Mapping[str, Any], prompt: _Prompt) -> dict[str, Any]:
        max_tokens = body.get("max_tokens")
        if type(max_tokens) is not int or max_tokens < 1:
            raise _InvalidRequestError("max_tokens: a positive whole number is required")
        text = _verdict(body) if _is_evaluation(body) else _work(_last_user_text(body))
        kept = text.encode()[: max_tokens * _BYTES_PER_TOKEN].decode(errors="ignore")
        return {
            "id": _digest_id("msg", body),
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": kept}],
            "stop_reason": "end_turn" if kept == text else "max_tokens",
            "stop_sequence": None,
            "usage": {**self._input_usage(prompt), "output_tokens": _tokens(kept)},
        }

    def _input_usage(self, prompt: _Prompt) -> dict[str, Any]:
        prefix_tokens = _tokens(prompt.prefix)
        read = self._is_cached(prompt.prefix) if prefix_tokens else False
        written = 0 if read else prefix_tokens
        return {
            "input_tokens": _tokens(prompt.rest),
            "cache_read_input_tokens": prefix_tokens if read else 0,
            "cache_creation_input_tokens": written,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 0 if prompt.one_hour else written,
                "ephemeral_1h_input_tokens": written if prompt.one_hour else 0,
            },
        }

    def _is_cached(self, prefix: str) -> bool:
        key = hashlib.sha256(prefix.encode()).digest()
        known = key in self._cached_prefixes
        self._cached_prefixes[key] = None
        self._cached_prefixes.move_to_end(key)
        if len(self._cached_prefixes) > _CACHED_PREFIXES_MAX:
            self._cached_prefixes.popitem(last=False)
        return known


def headers_of(message: Mapping[str, Any]) -> dict[str, str]:
    """Return the header with the id of the call that this message answers."""
    return {"request-id": message["id"].replace("msg_", "req_")}


def _digest_id(kind: str, body: Mapping[str, Any]) -> str:
    return f"{kind}_stub_{hashlib.sha256(msgspec.json.encode(body)).hexdigest()[:24]}"


class _Body(httpx2.AsyncByteStream):
    """Events as the body of an answer."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events


class _Events:
    """Events of a message, server-sent. As with the real API, the first usage has a provisional count of the output.

    `breaks` puts an error in the place of the second half; `pause_s` passes before each delta.
    """

    def __init__(self, message: Mapping[str, Any], breaks: bool, pause_s: float) -> None:
        self._message = message
        self._breaks = breaks
        self._pause_s = pause_s

    async def sent(self) -> AsyncGenerator[bytes, None]:
        """Yield the events' bytes, one after the other."""
        for event in self._events():
            # The loop gets a turn even without a pause, so that a reader that goes away is noticed between two deltas.
            await asyncio.sleep(self._pause_s if event["type"] == "content_block_delta" else 0)
            yield b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))

    def _events(self) -> Iterable[dict[str, Any]]:
        message = self._message
        text, usage = message["content"][0]["text"], message["usage"]
        begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        yield {"type": "message_start", "message": begun}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "ping"}
        for start in range(0, len(text) // 2 if self._breaks else len(text), _DELTA_CHARS):
            delta = {"type": "text_delta", "text": text[start : start + _DELTA_CHARS]}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
        if self._breaks:
            yield _BROKEN
            return
        yield {"type": "content_block_stop", "index": 0}
        stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        yield {"type": "message_delta", "delta": stop, "usage": usage}
        yield {"type": "message_stop"}


def _breaks(body: Mapping[str, Any]) -> bool:
    return not _is_evaluation(body) and "[break]" in _last_user_text(body).casefold()


def _body(sent: bytes) -> Mapping[str, Any]:
    try:
        # The module `json` would take lone surrogates and NaN, which the real API refuses.
        body = msgspec.json.decode(sent)
    except (msgspec.DecodeError, RecursionError):
        raise _InvalidRequestError("The body is not JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise _InvalidRequestError("model: a string is required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(entry, dict) for entry in messages):
        raise _InvalidRequestError("messages: at least one message is required")
    return body


def _prompt(body: Mapping[str, Any]) -> _Prompt:
    """Return tools, system and messages in this order, in which the API builds the prefix that it caches."""
    blocks = [*(body.get("tools") or []), *_blocks(body.get("system") or [])]
    for message in body["messages"]:
        blocks += _blocks(message.get("content", []))
    marks = [(place, block["cache_control"]) for place, block in enumerate(blocks, 1) if _mark(block)]
    if _mark(body):
        marks.append((len(blocks), body["cache_control"]))
    cached, mark = marks[-1] if marks else (0, {})
    return _Prompt(tuple(_block_text(block) for block in blocks), cached, mark.get("ttl") == "1h")


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise _InvalidRequestError("content: a string or a list of blocks is required")
    return content


def _mark(block: Any) -> bool:
    return isinstance(block, dict) and isinstance(block.get("cache_control"), dict)


def _block_text(block: Any) -> str:
    if isinstance(block, dict) and isinstance(block.get("text"), str):
        return str(block["text"])
    return json.dumps(block, ensure_ascii=False)


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def _user_texts(body: Mapping[str, Any]) -> list[str]:
    """Return the texts of the last message of the user."""
    for message in reversed(body["messages"]):
        if message.get("role") == "user":
            return [_block_text(block) for block in _blocks(message.get("content", []))]
    raise _InvalidRequestError("messages: a message of the user is required")


def _last_user_text(body: Mapping[str, Any]) -> str:
    return "\n".join(_user_texts(body))


def _is_evaluation(body: Mapping[str, Any]) -> bool:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    return isinstance(wanted, dict) and wanted.get("schema") == VERDICT_SCHEMA


def _verdict(body: Mapping[str, Any]) -> str:
    request = judged_request(_user_texts(body)[0])
    size = Size.SMALL if len(request) <= _SMALL_MAX_CHARS else Size.MEDIUM
    if len(request) > _MEDIUM_MAX_CHARS:
        size = Size.LARGE
    refusal = _refusal(request)
    decision = "reject" if refusal else "accept"
    reason = refusal or "The stub model accepts this request."
    return msgspec.json.encode({"reason": reason, "decision": decision, "size": size}).decode()


def _refusal(request: str) -> str | None:
    lowered = request.casefold()
    if not lowered.strip():
        return "The request is empty: say what you would like to have done."
    if "[reject]" in lowered:
        return "The request contains [reject], by which the stub model shows a rejection."
    if "malware" in lowered:
        return "The stub model rejects every request that mentions malware, as an example of harmful work."
    return None


def _work(request: str) -> str:
    excerpt = " ".join(request.split())
    if len(excerpt) > _EXCERPT_MAX_CHARS:
        excerpt = excerpt[:_EXCERPT_MAX_CHARS] + "…"
    digest = hashlib.sha256(request.encode()).hexdigest()
    return (
        "This is Satmeter's stub model: no AI has read your request. With ANTHROPIC_API_KEY set, a real model answers "
        "here.\n\n"
        f"Your request was:\n> {excerpt}\n\n"
        f"It has {len(request)} characters and {len(request.split())} words; its SHA-256 is {digest}."
    )


def _error(status: int, kind: str, message: str) -> httpx2.Response:
    return httpx2.Response(status, json={"type": "error", "error": {"type": kind, "message": message}})
