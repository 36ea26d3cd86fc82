"""Membership in the store of a run: what the scripts in `actors/adapters/redis/membership.py` do, each in one step.

`tests/unit/actors/placement/test_membership_simulated.py` holds it to the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import replace

from ....actors.partitioning import NO_PLACEMENT, Placement
from ....actors.placement.membership import ClusterView, Server
from .server import StoreAccess, Writes

_LEAD_MS: Final = 3_000
_SILENT_MS: Final = 10_000
_FORGET_MS: Final = 60_000


class MembershipData:
    """Data of the membership, with the calls of `Membership` without waiting.

    The deployment's name is left out. Times are the store's.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._seen: dict[str, tuple[Server, int]] = {}
        self._lead: tuple[str, int] = "", 0
        self._wanted: int | None = None
        self.placement = NO_PLACEMENT

    @property
    def leader(self) -> str | None:
        """Server that leads, or None."""
        server_id, until_ms = self._lead
        return server_id if self._now_ms() < until_ms else None

    def beat(self, server: Server) -> ClusterView:
        """See `Membership.beat`."""
        now_ms = self._now_ms()
        _, last_ms = self._seen.get(server.server_id, (server, now_ms))
        if now_ms - last_ms > _SILENT_MS:
            # It can't tell how long the others have been silent.
            self._seen = {name: (other, now_ms) for name, (other, _) in self._seen.items()}
        self._seen[server.server_id] = server, now_ms
        if self.leader in (None, server.server_id):
            self._lead = server.server_id, now_ms + _LEAD_MS
        self._seen = {name: seen for name, seen in self._seen.items() if seen[1] > now_ms - _FORGET_MS}
        return replace(self.view(), leads=self.leader == server.server_id)

    def view(self) -> ClusterView:
        """See `Membership.view`."""
        now_ms = self._now_ms()
        seen = {name: at for name, at in sorted(self._seen.items()) if at[1] >= now_ms - _FORGET_MS}
        silent = [name for name, (_, at_ms) in seen.items() if at_ms <= now_ms - _SILENT_MS]
        return ClusterView(False, self._wanted, self.placement, [server for server, _ in seen.values()], silent)

    def leave(self, server_id: str) -> None:
        """See `Membership.leave`."""
        self._seen.pop(server_id, None)
        if self.leader == server_id:
            self._lead = "", 0

    def publish(self, server_id: str, placement: Placement) -> bool:
        """See `Membership.publish`."""
        if self.leader != server_id or self.placement.version != placement.version - 1:
            return False
        self.placement = placement
        self._lead = server_id, self._now_ms() + _LEAD_MS
        return True

    def want_hosts(self, count: int | None) -> None:
        """See `Membership.want_hosts`."""
        self._wanted = count


class SimulatedMembership:
    """`Membership` in the simulated store."""

    def __init__(self, access: StoreAccess, data: MembershipData) -> None:
        self._ask = access.ask
        self._data = data

    async def beat(self, server: Server) -> ClusterView:
        """Report that this server is there, and return the view. Raises `TransientError`."""
        return await self._ask(partial(self._data.beat, server), writes=Writes.KEYS)

    async def view(self) -> ClusterView:
        """Return the view of the cluster. Raises `TransientError`."""
        return await self._ask(self._data.view)

    async def leave(self, server_id: str) -> None:
        """Take a server out. Raises `TransientError`."""
        await self._ask(partial(self._data.leave, server_id), writes=Writes.KEYS)

    async def publish(self, server_id: str, placement: Placement) -> bool:
        """Replace the plan of the version below, and return whether that was done. Raises `TransientError`."""
        return await self._ask(partial(self._data.publish, server_id, placement), writes=Writes.KEYS)

    async def placement(self) -> Placement:
        """Return the plan. Raises `TransientError`."""
        return await self._ask(lambda: self._data.placement)

    async def want_hosts(self, count: int | None) -> None:
        """Set how many hosts there should be. Raises `TransientError`."""
        await self._ask(partial(self._data.want_hosts, count), writes=Writes.KEYS)

    async def deployment(self) -> str:
        """Return the deployment's name."""
        return "simulated"
