"""Reception of a host's calls and delivery of its answers: an inbox for each router."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

from ..domain.errors import not_found, unavailable
from ..messages import Answer, Call, Cancel, NotOwner, Ping, Pong
from ..partitioning import partition_of
from ..ports import TransientError
from .partitions import Partitions
from .replies import Caller, Inbox

# Actors at work at once. With more than about a second's worth, the host takes no further calls until some are done.
_AT_WORK_MAX: Final = 2_000
# This is less than the time after which others take a host for dead, and take its partitions over.
_PULSE_MISSED_S: Final = 2.5
_PULSE_S: Final = 0.5
LONG_POLL_S: Final = 20.0
_INBOX_LIFE_S: Final = 90.0


class Reception:
    """Reception, which takes calls in batches, and keeps the answers until their router fetches them.

    Calls for actors that are the host's own go to `serve`. `kinds`: the prefixes of ids that exist. `only`: the one
    actor that a process of its own is there for. When `closed`, no calls are served any more.
    """

    def __init__(
        self,
        partitions: Partitions,
        kinds: Collection[str],
        serve: Callable[[Call, Caller], None],
        only: str | None = None,
    ) -> None:
        self._partitions = partitions
        self._kinds = kinds
        self._serve = serve
        self._only = only
        self._inboxes: dict[str, Inbox] = {}
        self.closed = False

    def accept(self, call: Call, caller: Caller) -> None:
        """Have a call served, or answer why it is not."""
        if isinstance(call.command, Ping):
            caller.answer(Pong())
        elif self.closed:
            caller.answer(unavailable("The server is restarting and"))
        elif not self.serves(call.actor_id):
            caller.answer(NotOwner())
        elif self._partitions.puts_aside(partition_of(call.actor_id), call, caller):
            return
        elif call.actor_id.partition("_")[0] not in self._kinds:
            caller.answer(not_found("id"))
        else:
            self._serve(call, caller)

    def serves(self, actor_id: str) -> bool:
        """Return whether the actor is this host's own."""
        return partition_of(actor_id) in self._partitions and self._only in (None, actor_id)

    def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Take calls; their answers go to the inbox."""
        inbox = self._inbox(inbox_id)
        for call in calls:
            if isinstance(call, Cancel):
                inbox.cancel(call.call_id)
                for former in call.inboxes:
                    if (other := self._inboxes.get(former)) is not None:
                        other.cancel(call.call_id)
            elif call.call_id not in inbox.callers:
                # A call that came twice must not be answered, or streamed to, twice.
                tells_hold = getattr(call.command, "tells_hold", False)
                self.accept(call, inbox.caller(call.call_id, tells_hold=tells_hold))

    async def collect(self, inbox_id: str, longest_s: float = LONG_POLL_S) -> list[Answer]:
        """Return the answers that are ready; wait for the first one for at most `longest_s`."""
        inbox = self._inbox(inbox_id)
        answers = await inbox.collect(longest_s)
        inbox.last_seen_s = time.monotonic()
        return answers

    def sweep(self) -> None:
        """Forget routers that are gone."""
        now_s = time.monotonic()
        for inbox_id, inbox in list(self._inboxes.items()):
            if now_s - inbox.last_seen_s > _INBOX_LIFE_S:
                inbox.abandon()
                del self._inboxes[inbox_id]

    def _inbox(self, inbox_id: str) -> Inbox:
        inbox = self._inboxes.setdefault(inbox_id, Inbox(time.monotonic()))
        inbox.last_seen_s = time.monotonic()
        return inbox


class Pulse:
    """Detector of pauses of the process, after which it has the host verify what others may have changed."""

    def __init__(self, verify: Callable[[], Awaitable[None]], clock: Callable[[], float] | None = None) -> None:
        self._verify = verify
        self._clock = clock or time.monotonic
        self._last_s = self._clock()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.steady()
            self._last_s = self._clock()
            await asyncio.sleep(_PULSE_S)

    async def steady(self) -> None:
        """Re-verify partition ownership if the process was paused; otherwise return immediately."""
        if self._clock() - self._last_s > _PULSE_MISSED_S:
            # Without the store, ownership can't be verified. But nothing can be written then, either.
            with suppress(TransientError):
                await self._verify()
                self._last_s = self._clock()


class Workload:
    """Count of the actors at work; routers that bring further calls wait while it is too high."""

    def __init__(self, most: int = _AT_WORK_MAX) -> None:
        self._most = most
        self._count = 0
        self._eased = asyncio.Event()

    def begin(self) -> None:
        """Count one more actor at work."""
        self._count += 1

    def end(self) -> None:
        """Count one actor less at work."""
        self._count -= 1
        self._eased.set()

    async def room(self) -> None:
        """Return once there is room for more."""
        while self._count >= self._most:
            self._eased.clear()
            await self._eased.wait()
