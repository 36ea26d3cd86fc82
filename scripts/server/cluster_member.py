"""Cluster membership of a server: it keeps the hosts of its node running, and moves their partitions when it leaves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ...actors.cancellation import cancel_and_wait
from ...actors.cluster import RayProcessManager, node_is_gone
from ...actors.host_link import LinkError
from ...actors.partitioning import PARTITIONS, Placement
from ...actors.placement.coordinator import Coordinator
from ...actors.placement.membership import ClusterView, Membership, Server
from ...actors.ports import TransientError

_LOOK_EVERY_S: Final = 0.1
_TELL_EVERY_S: Final = 10.0
_WATCH_EVERY_S: Final = 2.0
# In a cluster, hosts hand over their partitions while the fronts end: SIGTERM to the end takes 15 s at most.
_MOVED_WITHIN_S: Final = 11.0
_HOST_PATIENCE_S: Final = 3.0
_ANSWERS_WITHIN_S: Final = 2.0


class KeyMismatchError(Exception):
    """A server of the cluster that signs with another key. The text is for the operator."""


class ClusterMember:
    """A server as a member of its cluster, which runs its coordinator from `enter` until `leave`.

    on_lost: called when the server's Ray node is dead, after which it can't serve.
    tell: gets a line for the operator every `tell_every_s`, while the actors are slow to start.
    """

    def __init__(
        self,
        server: Server,
        membership: Membership,
        processes: RayProcessManager,
        prefix: str,
        on_lost: Callable[[], None],
        tell: Callable[[str], None],
        *,
        tell_every_s: float = _TELL_EVERY_S,
    ) -> None:
        self._server = server
        self._membership = membership
        self._processes = processes
        self._on_lost = on_lost
        self._tell = tell
        self._tell_every_s = tell_every_s
        self._coordinator = Coordinator(server, membership, processes, prefix=prefix)
        self._coordinating: asyncio.Task[None] | None = None
        self._left = threading.Event()

    async def enter(self, *, alone: bool) -> None:
        """Join the cluster; with an own cluster, return when all actors are served.

        Raises `KeyMismatchError`, `TransientError`.
        """
        if not alone:
            await self._refuse_other_keys()
        self._coordinating = asyncio.create_task(self._coordinator.run())
        # A daemon thread does not delay the end of the process.
        threading.Thread(target=self._watch_node, args=(asyncio.get_running_loop(),), daemon=True).start()
        if alone:
            await self._until_all_is_served()

    async def _until_all_is_served(self) -> None:
        """Wait without a limit, as a large store or a slow machine takes long. The operator sees the progress."""
        served = asyncio.create_task(self._coordinator.settled.wait())
        try:
            while not (await asyncio.wait([served], timeout=self._tell_every_s))[0]:
                coming = self._coordinator.coming
                self._tell(
                    f"Waiting for the actors: {coming.answering} of {coming.hosts} hosts answer, and serve "
                    f"{coming.partitions:,} of {PARTITIONS:,} partitions …"
                )
        finally:
            await cancel_and_wait([served])

    async def _refuse_other_keys(self) -> None:
        """Raise `KeyMismatchError` if a server has another key: a credential of one must be valid at all of them."""
        view = await self._membership.view()
        for other in view.servers:
            if not (other.takes_credentials_of(self._server) and self._server.takes_credentials_of(other)):
                raise KeyMismatchError(
                    f"The server at {other.address} in this cluster has another MACAROON_ROOT_KEY, so that one would "
                    "not take the other's credentials: set the same key on all servers. To change it, follow the steps "
                    "in docs/operating.md."
                )

    def _watch_node(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report a dead Ray node: its server must not attract hosts. In a thread, as Ray may block for a minute."""
        while not self._left.wait(_WATCH_EVERY_S):
            if node_is_gone():
                with suppress(RuntimeError):  # The event loop is ending already.
                    loop.call_soon_threadsafe(self._on_lost)
                return

    async def give_away(self) -> None:
        """Have this node's hosts hand over their partitions, for at most 11 s; the last server can not."""
        self._coordinator.leave()
        deadline_s = time.monotonic() + _MOVED_WITHIN_S
        while time.monotonic() < deadline_s:
            with suppress(TransientError):
                if self._is_last(await self._membership.view()) or not await self._hosts_here():
                    return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def leave(self, *, alone: bool, drain: bool = True) -> None:
        """Leave the cluster. The last server ends the actors, as no other would watch over them.

        drain: false for a server that never served: its hosts may not answer yet, and owe no client an answer.
        """
        self._left.set()
        await cancel_and_wait([self._coordinating])
        with suppress(TransientError):
            view = await self._membership.view()
            placement = view.placement
            if alone or self._is_last(view):
                hosts = (*placement.members, *placement.others)
                if drain:
                    await self._processes.drain(hosts, _HOST_PATIENCE_S)
                if not alone:
                    await self._processes.end_all(hosts)
            await self._membership.leave(self._server.server_id)

    def _is_last(self, view: ClusterView) -> bool:
        # A killed server will not end the actors later, so it does not count.
        gone = {self._server.server_id, *view.silent}
        return all(server.leaving or server.server_id in gone for server in view.servers)

    async def _hosts_here(self) -> list[str]:
        """Return the hosts that still live on this node. Raises `TransientError`."""
        placement = await self._membership.placement()
        names = (*placement.members, *placement.others)
        nodes = await asyncio.gather(*(self._node_of(name, placement) for name in names))
        return [name for name, node_id in zip(names, nodes, strict=True) if node_id == self._server.node_id]

    async def _node_of(self, host_id: str, placement: Placement) -> str | None:
        with suppress(LinkError, TimeoutError):
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                return (await self._processes.ask(host_id, placement)).node_id
        return None
