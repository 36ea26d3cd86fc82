"""Front process: HTTP on a socket from the supervisor, actors through the router. `satmeter serve` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.types import ASGIApp

from ...actors import cluster
from ...actors.bootstrap import (
    build_destinations,
    build_findings_cache,
    build_model_news,
    build_operator_books,
    build_parts,
    build_solvency_cache,
    build_wallet_words,
)
from ...actors.cancellation import cancel_and_wait
from ...actors.clock import system_now_ms
from ...actors.metrics.link import ask_totals, hand_over
from ...actors.metrics.tracing import start_tracing
from ...actors.operator.answer_counts import AnswerCounts
from ...actors.services.oracle import PriceCache
from ...config.gc_tuning import settle_in
from ...config.held_secrets import Role
from ...config.logging import log_by
from ...config.root_key import Keys
from ...config.settings import Settings
from ...http.app import create_app, metrics_of
from ...http.edge.connections import Connections, Patience
from ...http.edge.limits import limits_of
from ...http.protocol import HttpProtocol
from ...http.state import AppState
from ..store.disk_space import lacks_room
from .lifeline import Lifeline
from .metrics_port import Server, serving_metrics

# The time that requests under way get to end; event streams end at once.
_GRACE_S: Final = 5


@dataclass(frozen=True, slots=True)
class Orders:
    """The supervisor's orders for a front: its settings, the actors' cluster, and the socket to listen on.

    `settings` have the secrets that a front may hold. `store_dir`: the directory of the embedded store, None with the
    operator's own store.
    """

    settings: Settings
    keys: Keys
    previous_keys: Keys | None
    cluster_address: str
    namespace: str
    node_ip: str | None
    socket_fd: int
    store_dir: Path | None


def main() -> None:
    """Read orders from standard input and serve until SIGTERM, or until the supervisor is gone."""
    orders: Orders = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    lifeline = Lifeline()
    log_by(orders.settings, "front")
    start_tracing("front", orders.settings.otlp_endpoint)
    uvloop.run(_serve(orders, lifeline))


async def _serve(orders: Orders, lifeline: Lifeline) -> None:
    cluster.join(orders.cluster_address, orders.namespace, orders.node_ip)
    try:
        await _serve_http(orders, lifeline)
    finally:
        cluster.leave()


async def _serve_http(orders: Orders, lifeline: Lifeline) -> None:
    state, close = build_app_state(orders)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await close()

    node_id = cluster.this_node()
    metrics = metrics_of(state, partial(ask_totals, node_id))
    server = Server(server_config(create_app(state, lifespan=lifespan, metrics=metrics), orders.settings))
    _end_on_signal(server, state, lifeline)
    settle_in()
    counting = asyncio.create_task(hand_over(metrics.registry, Role.FRONT.value, node_id))
    async with serving_metrics(metrics, orders.settings):
        await server.serve(sockets=[socket.socket(fileno=orders.socket_fd)])
    await cancel_and_wait([counting])


def server_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how the front listens and answers."""
    patience = Patience(idle_s=settings.keep_alive_s)
    limits = limits_of(settings)
    trusted = settings.trusted_proxies
    connections = Connections(limits.connections, trusted, patience, limits.arrivals, limits.rests)
    return uvicorn.Config(
        app,
        http=partial(HttpProtocol, connections=connections),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Uvicorn would trust X-Forwarded-For of any peer on loopback. The trusted proxies are a setting here.
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


def build_app_state(orders: Orders) -> tuple[AppState, Any]:
    """Return the front's services over Ray, and a function that closes them."""
    settings, keys, store_dir = orders.settings, orders.keys, orders.store_dir
    parts = build_parts(settings, cluster.RayTreasury())
    router = cluster.connect_router(parts.journal.owners)
    destinations = build_destinations(settings)
    prices = PriceCache(cluster.ask_price, settings.btc_price_usd_fallback, system_now_ms)

    def store_trouble() -> str | None:
        return "the disk that it writes to is full" if store_dir is not None and lacks_room(store_dir) else None

    books = build_operator_books(settings, parts)
    state = AppState(
        settings=settings,
        router=router,
        prices=prices,
        findings=build_findings_cache(parts),
        wallet=build_wallet_words(settings),
        solvency=build_solvency_cache(parts),
        model=build_model_news(settings, parts),
        limits=parts.limits,
        destinations=destinations,
        stub_node=parts.stub_node,
        is_own_invoice=parts.lightning.is_own,
        checks={"store": parts.journal.check, "actors": router.check, "lightning": parts.lightning.check},
        store_trouble=store_trouble,
        id_key=keys.ids,
        macaroon_key=keys.macaroons,
        receipt_key=keys.receipts,
        webhook_key=keys.webhooks,
        withdraw_key=keys.withdrawals,
        pay_page_key=keys.pay_pages,
        previous_keys=orders.previous_keys,
        books=books,
        answers=AnswerCounts(books.board, system_now_ms),
    )

    async def close() -> None:
        await router.close()
        await prices.close()
        await destinations.close()
        await parts.close()

    return state, close


def _end_on_signal(server: uvicorn.Server, state: AppState, lifeline: Lifeline) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        # Event streams end first: uvicorn waits for open answers, and these would not end by themselves.
        state.ending.set()
        server.should_exit = True

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, end)

    def end_from_afar() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(end)

    lifeline.when_cut(end_from_afar)


if __name__ == "__main__":
    main()
