"""Actor host: has actors in memory, each with its mailbox, and forgets those that have nothing to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from ..cancellation import cancel_and_wait
from ..clock import system_now_ms
from ..domain.behaviour import Behaviour, Wake
from ..domain.session.state import Session
from ..effects.executor import Effects
from ..messages import Call, NotOwner
from ..metrics.host import HostMetrics, Load
from ..partitioning import partition_of
from ..ports import Journal
from .mailbox import HostServices, Mailbox
from .partition_host import PartitionHost
from .replies import ReplyTo

_SWEEP_S: Final = 5.0
# Unpaid actors in memory that no client asks. Each may hold a text of 400 kB.
_RESTING_MAX: Final = 64


class ActorHost(PartitionHost):
    """Host that runs all actors of its partitions.

    A command is acknowledged only after its events are in the journal. If a call to the host fails, the command may or
    may not have been carried out, and may be sent again: every command is idempotent.
    """

    def __init__(
        self,
        host_id: str,
        journal: Journal,
        effects: Effects,
        behaviours: Mapping[str, Behaviour[Any]],
        *,
        passivate_after_s: float = 60.0,
        now_ms: Callable[[], int] = system_now_ms,
        only: str | None = None,
        metrics: HostMetrics | None = None,
    ) -> None:
        super().__init__(host_id, journal, behaviours.keys(), now_ms=now_ms, only=only)
        self._effects = effects
        self._behaviours = behaviours
        self._passivate_after_s = passivate_after_s
        self._mailboxes: dict[str, Mailbox] = {}
        # Unpaid ones that rest, in the order in which they began to.
        self._resting: dict[str, Mailbox] = {}
        self._services = HostServices(
            journal,
            effects,
            self.partitions,
            self._dispatcher.admission,
            self._ticker,
            now_ms,
            self._retire,
            self._rest,
            metrics,
        )
        if metrics is not None:
            metrics.watch(self.load)

    # Life

    async def start(self, partitions: Sequence[int] = ()) -> None:
        """Begin to work, with these partitions. Raises `TransientError`."""
        self._effects.prepare()
        await super().start(partitions)

    async def lend(self, partition: int, epoch: int) -> None:
        """Work in a partition that its owner claimed, with the owner's epoch. Raises `TransientError`."""
        self.partitions.borrow(partition, epoch)
        await self._ticker.scan()

    async def stop(self, patience_s: float = 5.0) -> None:
        """Refuse further calls, let model calls end for `patience_s`, and stop.

        Work that is cut off is taken up later.
        """
        self._dispatcher.closed = True
        self.partitions.cancel()
        await cancel_and_wait(self._tasks)
        deadline_s = time.monotonic() + patience_s
        while (busy := self._busy(precious=True)) and (left_s := deadline_s - time.monotonic()) > 0:
            await asyncio.wait(busy, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        await cancel_and_wait(self._busy())
        await self._effects.close()

    @property
    def live_actors(self) -> int:
        """Number of actors in memory."""
        return len(self._mailboxes)

    @property
    def occupied(self) -> bool:
        """Return whether any actor has something under way."""
        return any(mailbox.occupied for mailbox in self._mailboxes.values())

    def load(self) -> Load:
        """Look at all actors in memory."""
        actors, waiting, holds, held_msat = dict.fromkeys(self._behaviours, 0), 0, 0, 0
        for mailbox in self._mailboxes.values():
            actors[mailbox.actor_id.partition("_")[0]] += 1
            waiting += mailbox.waiting
            state = mailbox.state
            if isinstance(state, Session) and state.holds:
                holds += len(state.holds)
                held_msat += state.books.held.value
        return Load(actors, waiting, holds, held_msat)

    def _busy(self, *, precious: bool = False) -> list[asyncio.Task[None]]:
        live = list(self._mailboxes.values())
        tasks = [task for m in live for task in (m.in_flight.precious_tasks if precious else m.in_flight.tasks)]
        return tasks + [mailbox.pump for mailbox in live if mailbox.pump is not None]

    # Actors

    def deliver(self, call: Call, reply_to: ReplyTo) -> None:
        """Take a call to an actor that is this host's own."""
        self._mailbox(call.actor_id).put(
            call.command, reply_to, resent=call.resent, request_id=call.request_id, traceparent=call.traceparent
        )

    def wake(self, actor_id: str) -> None:
        """Have an actor look at its times, if it is this host's own."""
        if self._dispatcher.serves(actor_id) and not self._dispatcher.closed:
            self._mailbox(actor_id).put(Wake())

    def _mailbox(self, actor_id: str) -> Mailbox:
        mailbox = self._mailboxes.get(actor_id)
        if mailbox is None:
            behaviour = self._behaviours[actor_id.partition("_")[0]]
            mailbox = Mailbox(actor_id, partition_of(actor_id), behaviour, self._services)
            self._mailboxes[actor_id] = mailbox
        return mailbox

    def _retire(self, mailbox: Mailbox) -> None:
        self._mailboxes.pop(mailbox.actor_id, None)
        self._resting.pop(mailbox.actor_id, None)

    def _rest(self, mailbox: Mailbox) -> None:
        """Keep few actors in memory that cost their clients nothing: strangers open as many as they like."""
        if not mailbox.unpaid:
            self._resting.pop(mailbox.actor_id, None)
            return
        self._resting.pop(mailbox.actor_id, None)
        self._resting[mailbox.actor_id] = mailbox
        while len(self._resting) > _RESTING_MAX:
            oldest = self._resting.pop(next(iter(self._resting)))
            # One that is at work again comes back here.
            if oldest.idle:
                self._retire(oldest)

    def busy_partitions(self, partitions: Collection[int]) -> set[int]:
        """Return those of these partitions that have something under way."""
        return {m.partition for m in self._mailboxes.values() if m.partition in partitions and m.occupied}

    def drop_partition(self, partition: int) -> None:
        """Forget the actors in memory of a partition that is no longer the host's."""
        for mailbox in [mailbox for mailbox in self._mailboxes.values() if mailbox.partition == partition]:
            self._retire(mailbox)
            mailbox.drop(NotOwner())

    async def _watch_actors(self) -> None:
        """Passivate idle actors and forget routers that are gone."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._passivate_after_s))
            self._dispatcher.sweep()
            now_s = time.monotonic()
            for mailbox in list(self._mailboxes.values()):
                mailbox.forget_cancelled()
                if mailbox.idle and now_s - mailbox.last_used_s > self._passivate_after_s:
                    self._retire(mailbox)
                elif mailbox.idle and mailbox.actor_id not in self._resting:
                    # Its watchers have left.
                    self._rest(mailbox)
