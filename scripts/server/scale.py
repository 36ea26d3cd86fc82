"""`satmeter scale`: shows the hosts of the actors, and sets their number."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from ...actors.bootstrap import Parts, build_membership, build_parts
from ...actors.partitioning import PARTITIONS, owner_of
from ...actors.placement.membership import ClusterView
from ...actors.placement.planner import HOSTS_MAX, hosts_wanted
from ...actors.ports import TransientError
from ...config.settings import Settings
from ..store.embedded import running_store_url

_LOOK_EVERY_S: Final = 0.2

__all__ = ["HOSTS_MAX", "ScaleError", "scale", "show"]


class ScaleError(Exception):
    """A failed command; the text says why and what to do."""


async def show(settings: Settings, console: Console) -> None:
    """Print the servers and the hosts. Raises `ScaleError`."""
    async with _parts(settings) as parts:
        view = await _view(parts)
        owned = Counter((await parts.journal.owners(range(PARTITIONS))).values())
    servers = Table("Server", "Ray node", "Hosts of its own accord", "", box=None, padding=(0, 2, 0, 0))
    for server in view.servers:
        standing = "does not answer" if server.server_id in view.silent else "leaving" if server.leaving else ""
        servers.add_row(server.address, server.node_id[:8], str(server.cpus), standing)
    hosts = Table("Host", "Partitions", "", box=None, padding=(0, 2, 0, 0))
    for host_id in sorted({*view.placement.members, *view.placement.others, *owned}):
        hosts.add_row(host_id, str(owned[host_id]), _standing(host_id, view))
    console.print(servers, highlight=False)
    console.print()
    console.print(hosts, highlight=False)
    origin = "as asked for" if view.hosts_wanted else "as the servers have it"
    console.print(f"\n{len(view.placement.members)} of {hosts_wanted(view)} hosts ({origin}).", highlight=False)


async def scale(settings: Settings, count: int | None, timeout_s: float, console: Console) -> None:
    """Set the number of hosts, None for the servers' own number, and wait until all partitions have moved.

    Raises `ScaleError`, also when it takes longer than `timeout_s`; the move goes on all the same.
    """
    async with _parts(settings) as parts:
        await _view(parts)
        await build_membership(parts).want_hosts(count)
        if not await _moved(parts, timeout_s, console):
            raise ScaleError(
                f"Not all partitions have moved within {timeout_s:.0f} s; they go on. Look again with `satmeter scale`."
            )


async def _moved(parts: Parts, timeout_s: float, console: Console) -> bool:
    # Not by cancellation: until Python 3.12 the store's client may swallow it (see `ending`), and never end.
    deadline_s = time.monotonic() + timeout_s
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Moving partitions", total=PARTITIONS)
        while True:
            view = await _view(parts)
            placed = _placed(view, await parts.journal.owners(range(PARTITIONS)))
            here, wanted = len(view.placement.members), hosts_wanted(view)
            progress.update(task, completed=placed, description=f"{here} of {wanted} hosts, partitions in place")
            if here == wanted and placed == PARTITIONS:
                break
            if time.monotonic() >= deadline_s:
                return False
            await asyncio.sleep(_LOOK_EVERY_S)
    console.print(f"{wanted} {'host' if wanted == 1 else 'hosts'}, all partitions in place.", highlight=False)
    return True


def _placed(view: ClusterView, owners: Mapping[int, str]) -> int:
    """Return the number of partitions that are at their planned hosts."""
    members = view.placement.members
    return sum(owners.get(p) == owner_of(p, members) for p in range(PARTITIONS)) if members else 0


def _standing(host_id: str, view: ClusterView) -> str:
    if host_id in view.placement.members:
        return ""
    if host_id in view.placement.away:
        return "does not answer"
    return "coming or going" if host_id in view.placement.others else "no longer exists"


async def _view(parts: Parts) -> ClusterView:
    view = await build_membership(parts).view()
    if not view.servers:
        raise ScaleError("No server uses this store: start one with `satmeter serve`.")
    return view


@asynccontextmanager
async def _parts(settings: Settings) -> AsyncIterator[Parts]:
    url = settings.redis_url or running_store_url(settings.data_dir)
    if url is None:
        text = f"No server runs with the data directory {settings.data_dir}: name its --data-dir, or a --redis-url."
        raise ScaleError(text)
    parts = build_parts(settings.model_copy(update={"redis_url": url}))
    try:
        yield parts
    except TransientError as error:
        raise ScaleError(f"The store does not answer ({error}): mend REDIS_URL or --data-dir.") from None
    finally:
        await parts.close()
