"""The HTTP protocol of fronts: uvicorn's, whose own answer to what is no HTTP gets the form of all errors."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..http import errors, ids

_CLOSE = b"connection: close\r\n"


class HttpProtocol(HttpToolsProtocol):
    """What can't be parsed never becomes a request, so that no application could answer it."""

    def send_400_response(self, msg: str) -> None:
        """A 400 as from everywhere else; `msg` is uvicorn's own text, and is for the log."""
        request_id = ids.new_request_id()
        answer = errors.answer(errors.invalid("", "This is no HTTP/1.1 request that can be read"), request_id)
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join((STATUS_LINE[400], *lines, _CLOSE, b"\r\n", bytes(answer.body))))
        self.transport.close()
