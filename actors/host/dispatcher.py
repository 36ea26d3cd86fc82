"""Dispatcher of a host: it admits calls, and keeps their answers in a queue for each router."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from ..domain.errors import not_found, unavailable
from ..messages import Answer, Call, Cancel, NotOwner, Ping, Pong
from ..partitioning import partition_of
from .admission import AdmissionControl
from .partitions import Partitions
from .replies import ReplyQueue, ReplyTo
from .stall_detector import StallDetector

LONG_POLL_S: Final = 20.0
_QUEUE_LIFE_S: Final = 90.0


class Dispatcher:
    """Dispatcher, which takes calls in batches, and keeps the answers until their router fetches them.

    Calls for actors that are the host's own go to `deliver`. `kinds`: the prefixes of ids that exist. `only`: the one
    actor that a process of its own is there for. When `closed`, no calls are served any more.
    """

    def __init__(
        self,
        partitions: Partitions,
        kinds: Collection[str],
        deliver: Callable[[Call, ReplyTo], None],
        only: str | None = None,
    ) -> None:
        self._partitions = partitions
        self._kinds = kinds
        self._deliver = deliver
        self._only = only
        self._queues: dict[str, ReplyQueue] = {}
        self.admission = AdmissionControl()
        self.stall_detector = StallDetector(partitions.verify)
        self.closed = False

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Take calls, as soon as the host is not behind with its work; their answers go to this queue."""
        await self.stall_detector.verify_after_stall()
        await self.admission.admit()
        queue = self._queue(queue_id)
        for call in calls:
            if isinstance(call, Cancel):
                queue.cancel(call.call_id)
                for former in call.queue_ids:
                    if (other := self._queues.get(former)) is not None:
                        other.cancel(call.call_id)
            elif call.call_id not in queue.open_calls:
                # A call that came twice must not be answered, or streamed to, twice.
                tells_hold = getattr(call.command, "tells_hold", False)
                self._accept(call, queue.reply_to(call.call_id, tells_hold=tells_hold))

    def _accept(self, call: Call, reply_to: ReplyTo) -> None:
        """Have a call served, or answer why it is not."""
        if isinstance(call.command, Ping):
            reply_to.answer(Pong())
        elif self.closed:
            reply_to.answer(unavailable("The server is restarting and"))
        elif not self.serves(call.actor_id):
            reply_to.answer(NotOwner())
        elif (rest := self._partitions.rest_of(partition_of(call.actor_id))) is not None:
            rest.add_done_callback(lambda _: self._accept_parked(call, reply_to))
        elif call.actor_id.partition("_")[0] not in self._kinds:
            reply_to.answer(not_found("id"))
        else:
            self._deliver(call, reply_to)

    def _accept_parked(self, call: Call, reply_to: ReplyTo) -> None:
        # A caller that left meanwhile could not leave again, and what is begun for it might run to its end.
        if not reply_to.cancelled:
            self._accept(call, reply_to)

    def serves(self, actor_id: str) -> bool:
        """Return whether the actor is this host's own."""
        return partition_of(actor_id) in self._partitions and self._only in (None, actor_id)

    async def collect(self, queue_id: str, longest_s: float = LONG_POLL_S) -> list[Answer]:
        """Return the answers that are ready; wait for the first one for at most `longest_s`."""
        queue = self._queue(queue_id)
        answers = await queue.collect(longest_s)
        queue.last_seen_s = time.monotonic()
        return answers

    def sweep(self) -> None:
        """Forget routers that are gone."""
        now_s = time.monotonic()
        for queue_id, queue in list(self._queues.items()):
            if now_s - queue.last_seen_s > _QUEUE_LIFE_S:
                queue.abandon()
                del self._queues[queue_id]

    def _queue(self, queue_id: str) -> ReplyQueue:
        queue = self._queues.setdefault(queue_id, ReplyQueue(time.monotonic()))
        queue.last_seen_s = time.monotonic()
        return queue
