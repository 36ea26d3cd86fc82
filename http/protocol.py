"""The HTTP protocol of fronts: uvicorn's, made to answer in our own form what is no HTTP, and to ignore upgrades."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .request import ids
from .response import errors

_CLOSE: Final = b"connection: close\r\n"
# What says how long a body is.
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_OF_HEADS: Final = ("on_message_begin", "on_url", "on_header", "on_headers_complete")


class HttpProtocol(HttpToolsProtocol):
    """What can't be parsed never becomes a request, so that no application could answer it.

    A client may offer another protocol with its request (RFC 9110, 7.8), and Java's does so for every plain `http://`
    address. The parser then takes the body for that protocol's, and the request would be answered as an empty one.
    """

    _resuming = False

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.logger.warning("http_unreadable")
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """A 400 as from everywhere else; `msg` would be uvicorn's own text for it."""
        request_id = ids.new_request_id()
        answer = errors.answer(errors.invalid("", "This is no HTTP/1.1 request that can be read"), request_id)
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join((STATUS_LINE[400], *lines, _CLOSE, b"\r\n", bytes(answer.body))))
        self.transport.close()

    def _read_on(self, rest: bytes) -> None:
        """Goes on as if there had been no offer, with a parser that knows of it nothing but how long the body is."""
        framing = [name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING]
        # Only connections with such an offer pay for this: a method here would be called for every header of all.
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
