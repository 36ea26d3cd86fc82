"""Link from a router to a host: what carries calls and answers, and how it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .messages import Answer, Call, Cancel


class LinkError(Exception):
    """Failure to reach a host, or its death during a call, which may or may not have been carried out."""


class NoHostError(LinkError):
    """Lack of such a host: it does not exist, and is not being started."""


class HostLink(Protocol):
    """Link to one host. Raises `LinkError`."""

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hand calls over; return when the host has taken them."""
        ...

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        """Wait some seconds for answers."""
        ...

    async def close(self) -> None:
        """End the link. Raises nothing."""
        ...
