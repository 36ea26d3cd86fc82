"""Members of the cluster: the servers of its nodes, the plan for its hosts, and how many there should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ..partitioning import Placement


class Server(msgspec.Struct, frozen=True):
    """Running `satmeter serve`, on the Ray node where it runs; hosts live on nodes that have one.

    `key_digest` shows whether two servers sign credentials with the same key, and nothing more of it;
    `previous_key_digest` is that of another key whose credentials it takes. `leaving`: the server is to end, and the
    hosts of its node must give away what they own.
    """

    server_id: str
    node_id: str
    address: str
    cpus: int
    key_digest: str
    leaving: bool = False
    previous_key_digest: str = ""

    def takes_credentials_of(self, other: Server) -> bool:
        """Return True if credentials that another server makes are valid at this one."""
        return other.key_digest in (self.key_digest, self.previous_key_digest)


class ClusterView(msgspec.Struct, frozen=True):
    """Cluster as one look at the store shows it. `leads`: the server that looked is to keep it in order.

    `hosts_wanted` is the operator's number; None for one host for each CPU. `silent`: ids of servers that have said
    nothing for a while, and will be forgotten unless they come back.
    """

    leads: bool
    hosts_wanted: int | None
    placement: Placement
    servers: Sequence[Server]
    silent: Sequence[str] = ()


class Membership(Protocol):
    """Store's part of the cluster. All raise `TransientError`."""

    async def beat(self, server: Server) -> ClusterView:
        """Report that this server is there, and look around. One server that does so regularly leads."""
        ...

    async def view(self) -> ClusterView:
        """Look around without taking part."""
        ...

    async def leave(self, server_id: str) -> None:
        """Take a server out, and give up the lead if it had it."""
        ...

    async def publish(self, server_id: str, placement: Placement) -> bool:
        """Put a plan in the place of the one a version below.

        Return False when this server no longer leads, or is late.
        """
        ...

    async def placement(self) -> Placement:
        """Return the plan; `NO_PLACEMENT` before the first."""
        ...

    async def want_hosts(self, count: int | None) -> None:
        """Set how many hosts there should be; None for one for each CPU."""
        ...

    async def deployment(self) -> str:
        """Return the name of the deployment of this store; made at the first call, the same ever after."""
        ...
