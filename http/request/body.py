"""Reader of JSON bodies, also of bodies that are too large, endless, malformed, or of another type or shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.message import Message
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from ...actors.domain.errors import Code, Refusal, RefusedError
from ..request_facts import REST_MAX_BYTES, declared_length
from ..response.errors import ClosingError, invalid, invalid_fields
from .body_room import keep_room, reading_of, take_room

ModelT = TypeVar("ModelT", bound=BaseModel)

_JSON: Final = "application/json"
# A body that is too large is read on for this time, up to `REST_MAX_BYTES`, before it is refused.
_DRAIN_S: Final = 5.0
# The standard library reads a longer one in the square of its length: 64 KiB would take most of a second.
_TYPE_CHARS_MAX: Final = 255
# A client that sends a body more slowly only holds a connection.
READ_S: Final = 30.0
# A large body may take longer, as many clients send no faster than this.
_SLOWEST_BYTES_S: Final = 131_072
_TOO_SLOW: Final = Refusal(
    Code.OVERLOADED,
    "The body came so slowly that others needed its room; nothing was charged. Send it again, or a smaller one.",
    retry_after_s=30,
)
# Enough fields to correct a body; a client may send a hundred thousand wrong ones.
_FIELDS_MAX: Final = 20
_PATH_CHARS_MAX: Final = 100
# Own messages for these errors, as pydantic's mention Python or regular expressions.
_SENTENCES: Final = {
    "missing": "This field is required",
    "extra_forbidden": "There is no such field",
    "string_pattern_mismatch": "Must not be only white space",
    "model_type": "Must be a JSON object",
}


class Larger(NamedTuple):
    """The limit of bodies from clients that may send more than others.

    `admit` is awaited before more is read, and raises `RefusedError` if the client may not. None: it may not.
    """

    limit_bytes: int
    admit: Callable[[], Awaitable[None]] | None


async def read_json(
    request: Request,
    model: type[ModelT],
    limit_bytes: int,
    read_s: float = READ_S,
    *,
    empty: ModelT | None = None,
    sized: str | None = None,
) -> ModelT:
    """Return the body as this model; `empty` is the result for an empty body, which is otherwise refused.

    `sized`: a field that makes the body too large when it is too long.

    Raises `RefusedError` (400, 413, 415), or `ClientDisconnect`.
    """
    if empty is None:
        _check_media_type(request)
    body = await _read(request, limit_bytes, read_s)
    if not body:
        if empty is not None:
            return empty
        raise invalid("", "The body is empty; send a JSON object")
    # The type of an optional body is checked only here: clients send any type with an empty body.
    if empty is not None:
        _check_media_type(request)
    try:
        found = model.model_validate_json(body)
    except ValidationError as error:
        raise _oversized(error, sized) or unfit(error) from None
    # Only now, as a body that fits is nested no deeper than its model. What only pydantic can read stays as it read it.
    with suppress(ValueError):
        _members.decode(body.decode())
    return found


def _once(members: list[tuple[str, Any]]) -> None:
    """Refuse an object with a name that stands twice: another program on the way may have read the other value."""
    names: set[str] = set()
    for name, _ in members:
        if name in names:
            raise invalid(name, "Must be there once")
        names.add(name)


_members: Final = json.JSONDecoder(object_pairs_hook=_once)


def _oversized(error: ValidationError, sized: str | None) -> RefusedError | None:
    if sized is None or error.error_count() > _FIELDS_MAX:
        return None
    for item in error.errors(include_url=False, include_input=False):
        if item["loc"] == (sized,) and item["type"] == "string_too_long":
            limit: int = item["ctx"]["max_length"]
            message = f"The {sized} has more than {limit} characters."
            return RefusedError(Refusal(Code.BODY_TOO_LARGE, message, {"limitChars": limit}))
    return None


async def read_bytes(
    request: Request, limit_bytes: int, read_s: float = READ_S, *, larger: Larger | None = None
) -> bytes:
    """Return a JSON body as it was sent, unparsed.

    Raises `RefusedError` (400, 413, 415, 429, 503, or as `larger` does), or `ClientDisconnect`.
    """
    _check_media_type(request)
    if larger is None or not _may_exceed(request, limit_bytes):
        return await _read(request, limit_bytes, read_s)
    if larger.admit is None:
        return await _read(request, limit_bytes, read_s, beyond_bytes=larger.limit_bytes)
    if declared_length(request.scope) <= larger.limit_bytes:
        await larger.admit()
    return await _read(request, larger.limit_bytes, read_s + larger.limit_bytes / _SLOWEST_BYTES_S)


def _may_exceed(request: Request, limit_bytes: int) -> bool:
    return "content-length" not in request.headers or declared_length(request.scope) > limit_bytes


def unfit(error: ValidationError) -> RefusedError:
    """Return the refusal for a validation error. The input is left out: a client knows it, and it may be long."""
    if error.error_count() > 10 * _FIELDS_MAX:
        return invalid("", "Far too many fields are wrong")
    fields = [
        {
            "path": ".".join(map(str, item["loc"]))[:_PATH_CHARS_MAX],
            "message": _SENTENCES.get(item["type"], item["msg"]),
        }
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return invalid_fields(fields[:_FIELDS_MAX])


def _check_media_type(request: Request) -> None:
    # Of a header that is there twice, another program on the way may have read the other one.
    for header in request.headers.getlist("content-type"):
        if header != _JSON and not _is_json(header):
            raise _unsupported("Send the body as application/json.")
    if any(header.lower() != "identity" for header in request.headers.getlist("content-encoding")):
        raise _unsupported("Send the body without a Content-Encoding.")


def _is_json(content_type: str) -> bool:
    if len(content_type) > _TYPE_CHARS_MAX:
        return False
    message = Message()
    message["content-type"] = content_type
    kind = message.get_content_type()
    charset = message.get_content_charset("utf-8")
    return (kind == _JSON or kind.endswith("+json")) and charset in {"utf-8", "utf8", "us-ascii"}


def _unsupported(message: str) -> RefusedError:
    return RefusedError(Refusal(Code.UNSUPPORTED_MEDIA_TYPE, message))


async def _read(request: Request, limit_bytes: int, read_s: float, *, beyond_bytes: int = 0) -> bytes:
    """Return the body. `beyond_bytes`: the limit with a credential, if that is higher."""
    declared_bytes = declared_length(request.scope)
    if declared_bytes > limit_bytes:
        raise await _too_large(request, limit_bytes, 0, beyond_bytes=beyond_bytes)
    await take_room(request, declared_bytes if "content-length" in request.headers else limit_bytes)
    chunks: list[bytes] = []
    size_bytes = 0
    reading = None
    try:
        async with asyncio.timeout(read_s) as timeout:
            with reading_of(request, timeout) as reading:
                while True:
                    chunk, more = await _receive(request)
                    chunks.append(chunk)
                    size_bytes += len(chunk)
                    if size_bytes > limit_bytes or not more:
                        break
                    if reading is not None:
                        reading.add(len(chunk), asyncio.get_running_loop().time())
    except TimeoutError:
        if reading is not None and reading.ended:
            raise ClosingError(_TOO_SLOW) from None
        late = invalid("", f"The body did not arrive within {read_s:g} s")
        raise ClosingError(late.refusal) from None
    if size_bytes > limit_bytes:
        raise await _too_large(request, limit_bytes, size_bytes, more, beyond_bytes=beyond_bytes)
    keep_room(request, size_bytes)
    return b"".join(chunks)


async def _receive(request: Request) -> tuple[bytes, bool]:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _too_large(
    request: Request, limit_bytes: int, read_bytes: int, more: bool = True, *, beyond_bytes: int = 0
) -> RefusedError:
    message = f"The body has more than {limit_bytes} bytes."
    if beyond_bytes:
        message = f"{message} With the macaroon of a session that is paid for it may have {beyond_bytes}."
    refusal = Refusal(Code.BODY_TOO_LARGE, message, {"limitBytes": limit_bytes})
    if "expect" in request.headers or declared_length(request.scope) > REST_MAX_BYTES:
        # The client waits for permission to send its body, and gets the refusal instead. Or it sends more than is read
        # here: proxies pass the refusal on at once, and the rest is thrown away, see `HttpProtocol`.
        return ClosingError(refusal)
    try:
        async with asyncio.timeout(_DRAIN_S):
            while more and read_bytes <= REST_MAX_BYTES:
                chunk, more = await _receive(request)
                read_bytes += len(chunk)
    except TimeoutError:
        return ClosingError(refusal)
    return ClosingError(refusal) if more else RefusedError(refusal)
