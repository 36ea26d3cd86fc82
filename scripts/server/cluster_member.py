"""A server's place in its cluster: the hosts of its node are kept in order while it runs, and moved when it leaves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ...actors.cancellation import end_tasks
from ...actors.cluster import RayCrew, node_is_gone
from ...actors.partitioning import PARTITIONS, Placement
from ...actors.placement.coordinator import Keeper
from ...actors.placement.membership import Roster, Server, View
from ...actors.ports import TransientError
from ...actors.router.router import LinkError

_LOOK_EVERY_S: Final = 0.1
_TELL_EVERY_S: Final = 10.0
_WATCH_EVERY_S: Final = 2.0
# In a cluster, a node's hosts give away what they own while its fronts end: SIGTERM to the end in 15 s at most.
_MOVED_WITHIN_S: Final = 11.0
_HOST_PATIENCE_S: Final = 3.0
_ANSWERS_WITHIN_S: Final = 2.0


class KeyMismatchError(Exception):
    """Another server of the cluster signs with another key. The text is for the operator."""


class Place:
    """Runs the keeper of a server, from `enter` until `leave`.

    on_lost: told when the server's Ray node is dead: it can do nothing more then.
    tell: given a line for the operator now and then, while the actors are slow to come. tell_every_s: how often.
    """

    def __init__(
        self,
        server: Server,
        roster: Roster,
        crew: RayCrew,
        prefix: str,
        on_lost: Callable[[], None],
        tell: Callable[[str], None],
        *,
        tell_every_s: float = _TELL_EVERY_S,
    ) -> None:
        self._server = server
        self._roster = roster
        self._crew = crew
        self._on_lost = on_lost
        self._tell = tell
        self._tell_every_s = tell_every_s
        self._keeper = Keeper(server, roster, crew, prefix=prefix)
        self._keeping: asyncio.Task[None] | None = None
        self._left = threading.Event()

    async def enter(self, *, alone: bool) -> None:
        """Takes part from now on; with a cluster of its own, returns when all actors are served.

        Raises `KeyMismatchError`, `TransientError`.
        """
        if not alone:
            await self._refuse_other_keys()
        self._keeping = asyncio.create_task(self._keeper.run())
        # A daemon: the end of the process does not wait for it.
        threading.Thread(target=self._watch_node, args=(asyncio.get_running_loop(),), daemon=True).start()
        if alone:
            await self._until_all_is_served()

    async def _until_all_is_served(self) -> None:
        """Waits as long as it takes: a large store, or a slow machine, needs its time. Whoever waits sees what for."""
        served = asyncio.create_task(self._keeper.settled.wait())
        try:
            while not (await asyncio.wait([served], timeout=self._tell_every_s))[0]:
                coming = self._keeper.coming
                self._tell(
                    f"Waiting for the actors: {coming.answering} of {coming.hosts} hosts answer, and serve "
                    f"{coming.partitions:,} of {PARTITIONS:,} partitions …"
                )
        finally:
            await end_tasks([served])

    async def _refuse_other_keys(self) -> None:
        """Credentials that one server signs must be good at all of them."""
        view = await self._roster.view()
        for other in view.servers:
            if other.key_digest != self._server.key_digest:
                raise KeyMismatchError(
                    f"The server at {other.address} in this cluster has another MACAROON_ROOT_KEY, so that neither "
                    "would take the other's credentials: set the same key on all servers."
                )

    def _watch_node(self, loop: asyncio.AbstractEventLoop) -> None:
        """A server whose node is dead must not go on to draw hosts there. In a thread: Ray may be away for a minute."""
        while not self._left.wait(_WATCH_EVERY_S):
            if node_is_gone():
                with suppress(RuntimeError):  # It ends just now anyway.
                    loop.call_soon_threadsafe(self._on_lost)
                return

    async def give_away(self) -> None:
        """Has the hosts of this node give what they own to others; if there are no others, ends all in good order."""
        self._keeper.leave()
        deadline_s = time.monotonic() + _MOVED_WITHIN_S
        while time.monotonic() < deadline_s:
            with suppress(TransientError):
                if self._is_last(await self._roster.view()) or not await self._hosts_here():
                    return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def leave(self, *, alone: bool, drain: bool = True) -> None:
        """Takes part no longer. The last server of a cluster ends the actors: nobody would watch over them.

        drain: false for a server that never served: its hosts may not even answer yet, and owe no client an answer.
        """
        self._left.set()
        await end_tasks([self._keeping])
        with suppress(TransientError):
            view = await self._roster.view()
            placement = view.placement
            if alone or self._is_last(view):
                hosts = (*placement.members, *placement.others)
                if drain:
                    await self._crew.drain(hosts, _HOST_PATIENCE_S)
                if not alone:
                    await self._crew.end_all(hosts)
            await self._roster.leave(self._server.server_id)

    def _is_last(self, view: View) -> bool:
        # One that was killed will not end the actors later.
        gone = {self._server.server_id, *view.silent}
        return all(server.leaving or server.server_id in gone for server in view.servers)

    async def _hosts_here(self) -> list[str]:
        """The hosts that still live on this node. Raises `TransientError`."""
        placement = await self._roster.placement()
        names = (*placement.members, *placement.others)
        nodes = await asyncio.gather(*(self._node_of(name, placement) for name in names))
        return [name for name, node_id in zip(names, nodes, strict=True) if node_id == self._server.node_id]

    async def _node_of(self, host_id: str, placement: Placement) -> str | None:
        with suppress(LinkError, TimeoutError):
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                return (await self._crew.ask(host_id, placement)).node_id
        return None
