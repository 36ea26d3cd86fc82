"""For `scripts/bench`: the same front and the same host in one process, with no Ray between them.

    python -m satmeter.scripts.bench_local PORT DATA_DIR

It shows what the way over Ray costs. It is no way to serve: when this process dies, everything is down.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
import uvloop

from ..actors.compose import build_host, build_parts, build_treasury
from ..actors.domain.pricing import BtcPrice, PriceOrigin
from ..actors.local import LocalLink
from ..actors.placement import PARTITIONS
from ..actors.router import Router
from ..config.logging import configure_logging
from ..config.memory import settle_in
from ..config.root_key import derive_key, with_root_key
from ..config.settings import Settings
from ..http.app import create_app
from ..http.front import Front
from .store import EmbeddedStore


class _Fallback:
    """The fallback price, for ever."""

    def __init__(self, settings: Settings) -> None:
        self._price = BtcPrice(settings.btc_price_usd_fallback, PriceOrigin.FALLBACK, 0)

    async def current(self) -> BtcPrice:
        return self._price


async def _serve(port: int, data_dir: Path) -> None:
    store = EmbeddedStore(data_dir)
    settings = Settings(data_dir=data_dir, redis_url=await store.start(), rate_limits=False, log_level="error")
    settings = with_root_key(settings)
    configure_logging(settings.log_level)
    parts, prices = build_parts(settings), _Fallback(settings)
    host = build_host("host-0", settings, parts, prices.current)
    await host.start(range(PARTITIONS))
    router = Router(parts.journal.owners, {"host-0": LocalLink(host)}.__getitem__)
    watching = asyncio.create_task(build_treasury(settings, parts, router).run())
    front = Front(
        settings=settings,
        router=router,
        prices=prices,
        limits=parts.limits,
        stub_node=parts.stub_node,
        checks={"store": parts.journal.check},
        id_key=derive_key(settings, "ids"),
        macaroon_key=derive_key(settings, "macaroons"),
    )
    config = uvicorn.Config(create_app(front), port=port, http="httptools", log_config=None, access_log=False)
    settle_in()
    try:
        await uvicorn.Server(config).serve()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await router.close()
        await host.stop()
        await parts.close()
        await store.stop()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
