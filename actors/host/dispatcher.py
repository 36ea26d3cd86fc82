"""Dispatcher of a host: it admits calls, and keeps their answers in a queue for each router."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from ..domain.errors import not_found, unavailable
from ..messages import Answer, Call, Cancel, NotOwner, Ping, Pong
from ..partitioning import partition_of
from .partitions import Partitions
from .replies import ReplyQueue, ReplyTo

LONG_POLL_S: Final = 20.0
_QUEUE_LIFE_S: Final = 90.0


class Dispatcher:
    """Dispatcher, which takes calls in batches, and keeps the answers until their router fetches them.

    Calls for actors that are the host's own go to `serve`. `kinds`: the prefixes of ids that exist. `only`: the one
    actor that a process of its own is there for. When `closed`, no calls are served any more.
    """

    def __init__(
        self,
        partitions: Partitions,
        kinds: Collection[str],
        serve: Callable[[Call, ReplyTo], None],
        only: str | None = None,
    ) -> None:
        self._partitions = partitions
        self._kinds = kinds
        self._serve = serve
        self._only = only
        self._queues: dict[str, ReplyQueue] = {}
        self.closed = False

    def accept(self, call: Call, reply_to: ReplyTo) -> None:
        """Have a call served, or answer why it is not."""
        if isinstance(call.command, Ping):
            reply_to.answer(Pong())
        elif self.closed:
            reply_to.answer(unavailable("The server is restarting and"))
        elif not self.serves(call.actor_id):
            reply_to.answer(NotOwner())
        elif self._partitions.puts_aside(partition_of(call.actor_id), call, reply_to):
            return
        elif call.actor_id.partition("_")[0] not in self._kinds:
            reply_to.answer(not_found("id"))
        else:
            self._serve(call, reply_to)

    def serves(self, actor_id: str) -> bool:
        """Return whether the actor is this host's own."""
        return partition_of(actor_id) in self._partitions and self._only in (None, actor_id)

    def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Take calls; their answers go to this queue."""
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
                self.accept(call, queue.reply_to(call.call_id, tells_hold=tells_hold))

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
