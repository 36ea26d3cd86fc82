"""Interface of the HTTP client under the adapters of upstreams, with its three kinds of failure.

They differ in what may have been done, and so in what may be billed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol


class HttpError(Exception):
    """Failure of an HTTP exchange. The text names the kind of error alone, never what was sent."""


class NotSent(HttpError):  # noqa: N818 - named by what is known
    """Failure before the request was sent: the server has done nothing."""


class SentUnknown(HttpError):  # noqa: N818 - named by what is known
    """Failure after it: the server may have carried the request out."""


class Silent(HttpError):  # noqa: N818 - named by what is known
    """Silence of the server for too long, after the request was sent or in the middle of an answer."""


class Response(Protocol):
    """An answer, whose body is read chunk by chunk. The names of headers are in lower case."""

    @property
    def status(self) -> int:
        """Status of the answer."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer."""
        ...

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """Bytes of the body as they come. Raises `SentUnknown`, `Silent`."""
        ...

    async def aclose(self) -> None:
        """End the exchange; the connection too, if the body was not read to its end."""
        ...


class HttpClient(Protocol):
    """A client that keeps connections. One call is one attempt, and follows no redirect."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a body. Raises `HttpError`."""
        ...

    async def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Ask for a resource. Raises `HttpError`."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...
