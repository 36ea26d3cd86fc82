"""HTTP protocol of fronts: uvicorn's, with a JSON error for malformed requests, and with upgrades ignored."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..actors.domain.errors import Code, Refusal, RefusedError
from .request_facts import RequestFacts
from .request_id import new_request_id
from .response import errors

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_HEAD_MAX_BYTES: Final = 65_536
_FIELDS_MAX: Final = 100
_TOO_LARGE: Final = Refusal(
    Code.HEADERS_TOO_LARGE, f"The headers have more than {_HEAD_MAX_BYTES} bytes or {_FIELDS_MAX} fields."
)
_CLOSE: Final = b"connection: close\r\n"
# The headers that give a body's length.
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_OF_HEADS: Final = ("on_message_begin", "on_url", "on_header", "on_headers_complete")


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol that also answers malformed requests, which never reach the application.

    A client may offer another protocol with its request (RFC 9110, 7.8), and Java's does so for every plain `http://`
    address. The parser then takes the body for that protocol's, and the request would be answered as an empty one.
    """

    _resuming = False
    _head_bytes = 0

    def on_headers_complete(self) -> None:
        """Begin a request; uvicorn would answer it in chunks, which a client of HTTP/1.0 takes for the body."""
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            _end_at_close(self.cycle)

    def data_received(self, data: bytes) -> None:
        """Parse the client's bytes; a malformed request is answered with a 400."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._head_too_large():
                self._send_refusal(RefusedError(_TOO_LARGE))
                return
            self.logger.warning("http_unreadable")
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Raises `ValueError`, which ends the parsing, for one too many."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        if self._head_too_large():
            raise ValueError

    def _head_too_large(self) -> bool:
        # Before the first request there is no list.
        return self._head_bytes > _HEAD_MAX_BYTES or len(self.headers or ()) > _FIELDS_MAX

    def send_400_response(self, msg: str) -> None:
        """Send a 400 with the error body of the contract. `msg`, uvicorn's own text, is ignored."""
        self._send_refusal(errors.invalid("", "This is not a readable HTTP/1.1 request"))

    def _send_refusal(self, refused: RefusedError) -> None:
        request_id = new_request_id()
        answer = errors.answer(refused, RequestFacts(request_id))
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join((STATUS_LINE[answer.status_code], *lines, _CLOSE, b"\r\n", bytes(answer.body))))
        self.transport.close()

    def _read_on(self, rest: bytes) -> None:
        """Read on without the upgrade, in a new parser that gets only the headers with the body's length."""
        framing = [name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING]
        # Only connections with an upgrade pay for these wrappers. A method would run for every header of all requests.
        listener = {name: self._unless_resuming(getattr(self, name)) for name in _OF_HEADS}
        body = {"on_body": self.on_body, "on_message_complete": self.on_message_complete}
        self.parser = httptools.HttpRequestParser(SimpleNamespace(**listener, **body))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if framing:
            self.cycle.more_body = self._resuming = True
            self.parser.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *framing, b"\r\n")))
            self._resuming = False
        if rest:
            self.data_received(rest)

    def _unless_resuming(self, callback: Callable[..., None]) -> Callable[..., None]:
        def relay(*args: bytes) -> None:
            if not self._resuming:
                callback(*args)

        return relay


def _end_at_close(cycle: RequestResponseCycle) -> None:
    """Have a body of unknown length end when the connection closes."""
    send, endless = cycle.send, False

    async def send_until_closed(message: ASGISendEvent) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            endless = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            cycle.chunked_encoding = False if endless else None
            if endless:
                cycle.transport = _Resetting(cycle)  # type: ignore[assignment]
        elif endless and message["type"] == "http.response.body":
            # Uvicorn holds a body without chunks to its length; each part has its own.
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_until_closed  # type: ignore[method-assign]


class _Resetting:
    """Transport of a body that ends with its connection. A body that breaks off ends with a reset of the connection.

    A proxy of HTTP/1.0 would take an orderly end for the end of a whole answer, and its client would read an error as
    the success that the head has announced.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close the connection, with a reset if the answer is not complete."""
        if not self._cycle.response_complete:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.close()
