"""Interface of the HTTP client under the adapters of upstreams, with its three kinds of failure.

They differ in what may have been done, and so in what may be billed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

Take = Callable[[bytes], bool]
"""Taker of a body's next bytes, which returns whether it wants no more."""


class HttpError(Exception):
    """Failure of a call. Its text is made of names of errors: nothing of the request, the answer or the address."""


class NotSentError(HttpError):
    """Failure before anything was sent: no server can have received the request, or bill it."""


class SentUnknownError(HttpError):
    """Failure after the request was, or may have been, sent: the server may have received it, and may bill it."""


class SilentServerError(SentUnknownError):
    """No byte came for as long as a server may be silent. The request was sent, as far as the server read it."""


class HttpAnswer(Protocol):
    """Answer of a server: its head, and its body as it comes. Its reader must close it."""

    @property
    def status(self) -> int:
        """Status code. Redirections are not followed."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, whose names are found in any case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they come. Raises `SentUnknownError` for a body that breaks off or falls silent."""
        ...

    async def feed(self, take: Take) -> bool:
        """Give the bytes to `take` as they come, until it wants no more; return False if the body ended before.

        It costs less than `chunks`: no task is woken for each piece. Raises as `chunks` does, and what `take` raises.
        """
        ...

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else close it, so that the server stops."""
        ...


class HttpClient(Protocol):
    """Client with a pool of connections."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        """Send a request once, and return the answer when its head is there. Raises `HttpError`."""
        ...

    async def get(self, url: str, headers: Mapping[str, str]) -> HttpAnswer:
        """Ask for a resource, likewise."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
