"""Server for `scripts/bench`: the same front and hosts, but one Ray call for each command instead of shared ones.

    python -m satmeter.scripts.benchmarks.direct PORT DATA_DIR

It shows what coalescing is worth. It is not fit for production: a command whose host dies is not sent again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import ray
import uvloop

from ...actors import cluster
from ...actors.bootstrap import build_parts
from ...actors.domain.errors import Refusal, RefusedError, unavailable
from ...actors.host.host import ActorHost
from ...actors.host.replies import Inbox
from ...actors.messages import ANSWERS, CALLS, Answer, Call, NotOwner, WireCommand, WireReply
from ...actors.partitioning import PARTITIONS, Placement, owner_of, partition_of
from ...actors.placement.coordinator import HostReport
from ...actors.ray_actors import HostShell
from ...actors.router.router import Router
from ...actors.router.routing_table import Owners
from ...config.logging import configure_logging
from ...config.root_key import with_root_key
from ...config.settings import Settings
from ..server.ray_dir import make_ray_dir
from ..store.embedded import EmbeddedStore
from .serving import serve_front

_NAMESPACE: Final = "satmeter-bench"
_CONCURRENCY: Final = 1_000
_LONGEST_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.05


class DirectShell(HostShell):
    """A host that takes one call and returns its answers."""

    async def ask(self, call: bytes) -> bytes:
        """Return all answers to a call, up to the last."""
        await self._started()
        assert isinstance(self._host, ActorHost)
        inbox, answers = Inbox(0.0), list[Answer]()
        for one in CALLS.decode(call):
            assert isinstance(one, Call)
            self._host.serve(one, inbox.caller(one.call_id))
        while not (answers and answers[-1].last):
            answers += await inbox.collect(_LONGEST_S)
        return ANSWERS.encode(answers)


class DirectRouter(Router):
    """Router that makes one Ray call for each command, and awaits its reply."""

    def __init__(self, owners: Owners, handles: Mapping[str, Any]) -> None:
        super().__init__(owners, cluster.connect)
        self._handles = [handles[owner_of(partition, list(handles))] for partition in range(PARTITIONS)]
        self._numbers = itertools.count(1)

    async def call(self, actor_id: str, command: WireCommand) -> WireReply:
        """Return the actor's answer. Raises `RefusedError`."""
        return (await self._ask(actor_id, command))[0].reply

    async def stream(self, actor_id: str, command: WireCommand) -> AsyncGenerator[WireReply, None]:
        """Yield all answers of the actor, once the last is there. Raises `RefusedError`."""
        for answer in await self._ask(actor_id, command):
            yield answer.reply

    async def _ask(self, actor_id: str, command: WireCommand) -> list[Answer]:
        call = CALLS.encode([Call(next(self._numbers), actor_id, command)])
        answers = ANSWERS.decode(await self._handles[partition_of(actor_id)].ask.remote(call))
        for answer in answers:
            if isinstance(answer.reply, NotOwner):
                raise RefusedError(unavailable("The actor's host"))
            if isinstance(answer.reply, Refusal):
                raise RefusedError(answer.reply)
        return answers


async def _start_hosts(settings: Settings) -> dict[str, Any]:
    """Start as many hosts as `satmeter serve` does, with all partitions between them."""
    names = tuple(f"host-{number}" for number in range(settings.hosts or os.cpu_count() or 1))
    options: dict[str, Any] = {"max_concurrency": _CONCURRENCY, "num_cpus": 0, "max_restarts": 0}
    begin: Any = ray.remote(DirectShell)
    values = settings.model_dump()
    handles = {
        name: await asyncio.to_thread(partial(begin.options(name=name, **options).remote, cluster.wiring, values, name))
        for name in names
    }
    plan, owned = msgspec.json.encode(Placement(1, names)), 0
    while owned < PARTITIONS:
        reports = await asyncio.gather(*(handle.report.remote(plan) for handle in handles.values()))
        owned = sum(msgspec.json.decode(report, type=HostReport).owned for report in reports)
        await asyncio.sleep(_LOOK_EVERY_S)
    return handles


async def serve(port: int, data_dir: Path) -> None:
    """Serve until SIGTERM."""
    store = EmbeddedStore(data_dir)
    settings = with_root_key(Settings(data_dir=data_dir, redis_url=await store.start()))
    configure_logging(settings.log_level)
    ray_dir = make_ray_dir()
    parts = build_parts(settings)
    try:
        # Ray is started in this thread, as its processes end with the thread that started them.
        cluster.start_local(ray_dir, os.cpu_count() or 1, _NAMESPACE)
        handles = await _start_hosts(settings)
        await serve_front(port, settings, parts, DirectRouter(parts.journal.owners, handles))
    finally:
        cluster.leave()
        shutil.rmtree(ray_dir, ignore_errors=True)
        await parts.close()
        await store.stop()


if __name__ == "__main__":
    # The module is imported by its own name, as Ray's workers look for the class of the hosts there.
    from . import direct

    uvloop.run(direct.serve(int(sys.argv[1]), Path(sys.argv[2])))
