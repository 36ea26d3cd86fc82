"""Server for `scripts/bench`: the same front and the same host in one process, without Ray between them.

    python -m satmeter.scripts.benchmarks.local PORT DATA_DIR

It shows what the way over Ray costs. It is not fit for production: when this process dies, everything is down.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

from ...actors.bootstrap import build_host, build_parts
from ...actors.partitioning import PARTITIONS
from ...actors.router.router import Router
from ...config.gc_tuning import settle_in
from ...config.logging import configure_logging
from ...config.root_key import with_root_key
from ...config.settings import Settings
from ..store.embedded import EmbeddedStore
from .local_link import LocalLink
from .serving import FallbackPrice, serve_front


async def _serve(port: int, data_dir: Path) -> None:
    store = EmbeddedStore(data_dir)
    settings = with_root_key(Settings(data_dir=data_dir, redis_url=await store.start()))
    configure_logging(settings.log_level)
    parts = build_parts(settings)
    host = build_host("host-0", settings, parts, FallbackPrice(settings).current)
    await host.start(range(PARTITIONS))
    router = Router(parts.journal.owners, {"host-0": LocalLink(host)}.__getitem__)
    settle_in()
    try:
        await serve_front(port, settings, parts, router)
    finally:
        await host.stop()
        await parts.close()
        await store.stop()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
