"""Link to a host in the front's own process, without Ray between them."""

from __future__ import annotations

from collections.abc import Sequence

from ...actors.dedicated.host import DedicatedHost
from ...actors.host.host import ActorHost
from ...actors.messages import Answer, Call, Cancel


class LocalLink:
    """`HostLink` to a host in this process."""

    def __init__(self, host: ActorHost | DedicatedHost) -> None:
        self._host = host

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hand calls over."""
        await self._host.submit(queue_id, calls)

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        """Wait some seconds for answers."""
        return await self._host.collect(queue_id)

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""
