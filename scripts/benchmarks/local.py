"""Server for `scripts/bench`: the same front and the same host in one process, without Ray between them.

    python -m satmeter.scripts.benchmarks.local PORT DATA_DIR

It shows what the way over Ray costs. It is not fit for production: when this process dies, everything is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import uvicorn
import uvloop

from ...actors.bootstrap import (
    HostKeys,
    Parts,
    build_destinations,
    build_host,
    build_parts,
    build_solvency_cache,
    build_treasury,
)
from ...actors.catalogue.loading import upstream_keys
from ...actors.domain.pricing import BtcPrice, PriceOrigin
from ...actors.partitioning import PARTITIONS
from ...actors.router.router import Router
from ...config.gc_tuning import settle_in
from ...config.logging import configure_logging
from ...config.root_key import derived_keys, with_root_key
from ...config.settings import Settings
from ...http.app import create_app
from ...http.state import AppState
from ..store.embedded import EmbeddedStore
from .local_link import LocalLink


class _FallbackPrice:
    """`Prices` with the fallback price, for ever."""

    def __init__(self, settings: Settings) -> None:
        self._price = BtcPrice(settings.btc_price_usd_fallback, PriceOrigin.FALLBACK, 0)

    async def current(self) -> BtcPrice:
        """Return the price."""
        return self._price


class _Server(uvicorn.Server):
    """Server without signal handlers: uvicorn would raise a signal again after its shutdown, and so cut off ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _serve_front(port: int, settings: Settings, parts: Parts, router: Router) -> None:
    """Serve, and have payments seen, until SIGTERM."""
    keys = derived_keys(settings)
    front = AppState(
        settings=settings,
        router=router,
        prices=_FallbackPrice(settings),
        solvency=build_solvency_cache(parts),
        limits=parts.limits,
        destinations=build_destinations(settings),
        stub_node=parts.stub_node,
        checks={"store": parts.journal.check},
        id_key=keys.ids,
        macaroon_key=keys.macaroons,
        receipt_key=keys.receipts,
        webhook_key=keys.webhooks,
        withdraw_key=keys.withdrawals,
        pay_page_key=keys.pay_pages,
    )
    app = create_app(front)
    server = _Server(
        uvicorn.Config(
            app,
            port=port,
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
    )

    def end() -> None:
        front.ending.set()
        server.should_exit = True

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, end)
    watching = asyncio.create_task(build_treasury(settings, parts, router).run())
    try:
        await server.serve()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await router.close()


async def _serve(port: int, data_dir: Path) -> None:
    store = EmbeddedStore(data_dir)
    settings = with_root_key(Settings(data_dir=data_dir, redis_url=await store.start()))
    configure_logging(settings.log_level)
    parts = build_parts(settings)
    keys = HostKeys(upstream_keys(settings), [derived_keys(settings).webhooks])
    host = build_host("host-0", settings, parts, _FallbackPrice(settings).current, keys)
    await host.start(range(PARTITIONS))
    router = Router(parts.journal.owners, {"host-0": LocalLink(host)}.__getitem__)
    settle_in()
    try:
        await _serve_front(port, settings, parts, router)
    finally:
        await host.stop()
        await parts.close()
        await store.stop()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
