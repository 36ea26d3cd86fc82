"""Front for the benchmark's own servers: the real one over another way to the actors, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Generator

import uvicorn

from ...actors.bootstrap import Parts, build_solvency_cache, build_treasury
from ...actors.domain.pricing import BtcPrice, PriceOrigin
from ...actors.router.router import Router
from ...config.root_key import derive_key
from ...config.settings import Settings
from ...http.app import create_app
from ...http.state import Front


class FallbackPrice:
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


async def serve_front(port: int, settings: Settings, parts: Parts, router: Router) -> None:
    """Serve, and have payments seen, until SIGTERM."""
    front = Front(
        settings=settings,
        router=router,
        prices=FallbackPrice(settings),
        solvency=build_solvency_cache(parts),
        limits=parts.limits,
        stub_node=parts.stub_node,
        checks={"store": parts.journal.check},
        id_key=derive_key(settings, "ids"),
        macaroon_key=derive_key(settings, "macaroons"),
        receipt_key=derive_key(settings, "receipts"),
        webhook_key=derive_key(settings, "webhooks"),
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
