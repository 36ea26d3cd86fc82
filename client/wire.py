"""HTTP requests to the server, and its answers as values or errors."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from .errors import BY_CODE, ApiError, SatmeterError, UnexpectedAnswerError
from .flow import UNAVAILABLE, Flow, Reply, Request, Retries, deliver

T = TypeVar("T")

_EVENT_END: Final = b"\n\n"


def _user_agent() -> str:
    try:
        return f"satmeter-client/{version('satmeter')}"
    except PackageNotFoundError:
        return "satmeter-client"


USER_AGENT: Final = _user_agent()


class Server:
    """A server by its address. `call` sends requests and reads their answers."""

    def __init__(self, url: str, retries: Retries) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"not the address of a server: {url!r}; give one as https://sats.example.org")
        self.url: Final = url.rstrip("/")
        self.retries: Final = retries

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        macaroon: str | None = None,
    ) -> Request:
        """Return a request to this server. A request that is repeated with the same `key` takes effect only once."""
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json, text/event-stream"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        if macaroon is not None:
            headers["Authorization"] = f"Bearer {macaroon}"
        encoded = None if body is None else msgspec.json.encode(body)
        return Request(method, f"{self.url}{path}", headers, encoded)

    def call(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        macaroon: str | None = None,
        again: Collection[int] = UNAVAILABLE,
    ) -> Flow[T]:
        """Send a request and return the answer as a value of this kind. Raises `SatmeterError`."""
        request = self.request(method, path, body=body, key=key, macaroon=macaroon)
        return read((yield from deliver(request, self.retries, again)), kind)


def new_key() -> str:
    """Return a unique Idempotency-Key."""
    return secrets.token_urlsafe(18)


def read(reply: Reply, kind: type[T]) -> T:
    """Return a successful answer as a value. Raises `SatmeterError` for a refusal."""
    if reply.status not in (200, 201):
        raise refusal(reply)
    return decode(reply.body, kind)


def decode(body: bytes, kind: type[T]) -> T:
    """Decode JSON to a value. Raises `UnexpectedAnswerError`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnexpectedAnswerError(f"The answer is not one of a Satmeter server: {error}") from None


class _Error(msgspec.Struct, frozen=True):
    error: str
    code: str
    request_id: str | None = msgspec.field(default=None, name="requestId")


def refusal(reply: Reply) -> SatmeterError:
    """Return the exception for an error answer."""
    retry_after_s = reply.retry_after_s
    try:
        said = msgspec.json.decode(reply.body, type=_Error)
        details: dict[str, Any] = msgspec.json.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return UnexpectedAnswerError(f"The answer has status {reply.status}, and is not one of a Satmeter server.")
    kind = BY_CODE.get(said.code, ApiError)
    return kind(
        said.error,
        status=reply.status,
        code=said.code,
        request_id=said.request_id,
        details={name: value for name, value in details.items() if name not in ("error", "code", "requestId")},
        retry_after_s=retry_after_s,
    )


class Events:
    """The parser of a stream into server-sent events: their names and their data."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        """Return the events that are complete with this piece. Comments are skipped."""
        *blocks, self._rest = (self._rest + piece).split(_EVENT_END)
        return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: bytes) -> tuple[str, bytes] | None:
    name, data = "message", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.strip().decode(errors="replace")
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return (name, b"\n".join(data)) if data else None
