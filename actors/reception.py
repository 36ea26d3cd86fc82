"""Where a host's calls come in and its answers are fetched: an inbox for each router."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from .inbox import Caller, Inbox
from .messages import Answer, Call, Cancel

_LONG_POLL_S: Final = 20.0
_INBOX_LIFE_S: Final = 90.0


class Reception:
    """Takes calls in batches, hands each to `accept`, and keeps the answers until their router fetches them."""

    def __init__(self, accept: Callable[[Call, Caller], None]) -> None:
        self._accept = accept
        self._inboxes: dict[str, Inbox] = {}

    def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Takes calls; their answers go to the inbox."""
        inbox = self._inbox(inbox_id)
        for call in calls:
            if isinstance(call, Cancel):
                inbox.cancel(call.call_id)
            else:
                self._accept(call, inbox.caller(call.call_id))

    async def collect(self, inbox_id: str) -> list[Answer]:
        """The answers that are ready; waits some seconds for the first."""
        inbox = self._inbox(inbox_id)
        answers = await inbox.collect(_LONG_POLL_S)
        inbox.last_seen_s = time.monotonic()
        return answers

    def sweep(self) -> None:
        """Forgets routers that are gone."""
        now_s = time.monotonic()
        for inbox_id, inbox in list(self._inboxes.items()):
            if now_s - inbox.last_seen_s > _INBOX_LIFE_S:
                inbox.abandon()
                del self._inboxes[inbox_id]

    def _inbox(self, inbox_id: str) -> Inbox:
        inbox = self._inboxes.setdefault(inbox_id, Inbox(time.monotonic()))
        inbox.last_seen_s = time.monotonic()
        return inbox


class Workload:
    """How many actors are at work; whoever brings more waits while there are too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._eased = asyncio.Event()

    def begin(self) -> None:
        """One more is at work."""
        self._count += 1

    def end(self) -> None:
        """One has done its work."""
        self._count -= 1
        self._eased.set()

    async def room(self) -> None:
        """Returns once there is room for more."""
        while self._count >= self._most:
            self._eased.clear()
            await self._eased.wait()
