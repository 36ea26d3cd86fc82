"""A front over a real host on a real store, in one process; and a real HTTP server for what only sockets show."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import httpx
import uvicorn
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from satmeter.actors.adapters.redis.limits import RedisLimits
from satmeter.actors.adapters.redis.membership import RedisMembership
from satmeter.actors.adapters.redis.operator_board import RedisOperatorBoard
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.behaviour import Behaviour
from satmeter.actors.domain.job.behaviour import JobBehaviour
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Invoice, Settle
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.host.rehydrate import rehydrate
from satmeter.actors.operator.books import OperatorBooks
from satmeter.actors.router.router import Router
from satmeter.config.settings import Settings
from satmeter.http.app import create_app
from satmeter.http.edge.connections import Connections
from satmeter.http.edge.shares import Caps
from satmeter.http.protocol import HttpProtocol
from satmeter.http.state import AppState
from tests.helpers.fakes import FakeModelNews, FakeSolvency, FixedPrices
from tests.helpers.hosts import World, until
from tests.helpers.jobs import BTC
from tests.helpers.lnurl_servers import FakeDestinations
from tests.helpers.patience import PATIENCE_S

CLIENT = "198.51.100.7"
ID_KEY = b"a key of a test"
MACAROON_KEY = b"another key of a test, of 32 bytes"
RECEIPT_KEY = b"a third key of a test"
WEBHOOK_KEY = b"a fourth key of a test"
WITHDRAW_KEY = b"a fifth key of a test"
PAY_PAGE_KEY = b"a sixth key of a test"
OPERATOR_TOKEN = "the operator's token of a test"
AS_OPERATOR = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
Json = dict[str, Any]


async def reachable() -> None:
    """A check that finds its part."""


@dataclass
class Wallet:
    """Pays invoices of the fake node and tells their jobs, as the treasury does."""

    world: World
    router: Router

    async def pay(self, payment_hash: str) -> str | None:
        order = self.world.lightning.orders.get(payment_hash)
        if order is None:
            return None
        self.world.lightning.pay(payment_hash)
        await self.router.call(order.actor_id, Settle(payment_hash, Msat(order.amount_sats * 1_000)))
        return "07" * 32

    async def invoice(self, amount_sats: int) -> Invoice:
        return signed_invoice(amount_sats * 1_000, self.world.now_ms() // 1_000)


def signed_invoice(amount_msat: int, at_s: int, expiry_s: int = 3_600) -> Invoice:
    """An invoice of a client's wallet, as a node would sign it."""
    payment_hash = hashlib.sha256(f"{amount_msat}:{at_s}".encode()).hexdigest()
    payment_request = sign_invoice(
        "11" * 32,
        payment_hash=payment_hash,
        payment_secret="22" * 32,
        amount_msat=Msat(amount_msat),
        memo="refund",
        at_s=at_s,
        expiry_s=expiry_s,
    )
    return Invoice(payment_request, payment_hash, amount_msat // 1_000, (at_s + expiry_s) * 1_000)


@dataclass
class Api:
    """A front, what lies behind it, and a client of it."""

    world: World
    state: AppState
    app: ASGIApp
    http: httpx.AsyncClient

    async def create(self, request: str = "say hello", **headers: str) -> Json:
        answer = await self.http.post("/jobs", json={"request": request}, headers=headers)
        assert answer.status_code == 201, answer.text
        return cast(Json, answer.json())

    async def show(self, job_id: str) -> Json:
        answer = await self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return cast(Json, answer.json())

    async def pay(self, invoice: Json) -> None:
        answer = await self.http.post(f"/dev/stub/pay/{invoice['paymentHash']}")
        assert answer.json()["paid"] is True

    async def job_in(self, job_id: str, state: str) -> Json:
        """The job once it has come to that state."""
        found: list[Json] = []

        async def arrived() -> bool:
            found.append(await self.show(job_id))
            return bool(found[-1]["state"] == state)

        await until(arrived)
        return found[-1]

    async def complete(self) -> Json:
        """A job that was paid through."""
        job = await self.create()
        await self.pay(job["evalInvoice"])
        await self.pay((await self.job_in(job["jobId"], "awaiting_work_payment"))["workInvoice"])
        return await self.job_in(job["jobId"], "complete")


def make_app_state(world: World, router: Router, **settings: Any) -> AppState:
    """A front as composition would build it, with stand-ins for what lies outside."""
    return AppState(
        settings=Settings(**{"operator_token": OPERATOR_TOKEN, **settings}),
        router=router,
        prices=FixedPrices(BTC),
        solvency=FakeSolvency(),
        model=FakeModelNews(),
        limits=world.limits,
        destinations=FakeDestinations(),
        stub_node=Wallet(world, router),
        checks={"store": reachable, "actors": reachable, "lightning": reachable},
        id_key=ID_KEY,
        macaroon_key=MACAROON_KEY,
        receipt_key=RECEIPT_KEY,
        webhook_key=WEBHOOK_KEY,
        withdraw_key=WITHDRAW_KEY,
        pay_page_key=PAY_PAGE_KEY,
        books=books_of(world),
        now_ms=world.now_ms,
        is_own_invoice=world.lightning.is_own,
    )


def books_of(world: World) -> OperatorBooks:
    """The operator's figures of a world, as composition would build them."""
    kinds: dict[str, Behaviour[Any]] = {
        "job": JobBehaviour(world.job_terms),
        "ses": SessionBehaviour(world.session_terms),
    }
    return OperatorBooks(
        RedisOperatorBoard(world.redis),
        world.journal.load,
        rehydrate,
        kinds,
        world.journal.owners,
        RedisMembership(world.redis, "cluster").view,
        {},
        world.lightning.payout,
    )


def client_of(app: ASGIApp, address: str = CLIENT) -> httpx.AsyncClient:
    """A client that calls the application without a network, as if from this address."""
    transport = httpx.ASGITransport(app, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://satmeter.test", timeout=20)


@asynccontextmanager
async def api_over(redis: Redis, **settings: Any) -> AsyncIterator[Api]:
    """Everything in one process."""
    world = World(redis)
    world.limits = cast(Any, RedisLimits(redis, world.now_ms))
    async with world.serving() as (_, router):
        state = make_app_state(world, router, **settings)
        app = create_app(state)
        async with client_of(app) as http:
            yield Api(world, state, app, http)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@dataclass
class Listening:
    """A server on a port, and the means to end it."""

    port: int
    server: uvicorn.Server
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def listening(app: ASGIApp, connections: Connections | None = None) -> AsyncIterator[Listening]:
    """A real HTTP server, set up as in production."""
    connections = connections or Connections(Caps(1_000, 1_000, 1_000))
    config = uvicorn.Config(
        app,
        http=partial(HttpProtocol, connections=connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    sock = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield Listening(sock.getsockname()[1], server, task)
    finally:
        server.should_exit = True
        await task
        sock.close()


class _Front:
    """An application that is made once its address is known."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@asynccontextmanager
async def listening_publicly(state: AppState) -> AsyncIterator[Listening]:
    """A real HTTP server whose links lead to itself."""
    front = _Front()
    async with listening(front) as served:
        settings = state.settings.model_copy(update={"public_url": served.url})
        front.app = create_app(replace(state, settings=settings))
        yield served


async def converse(port: int, sent: bytes, *, until_closed: bool = False) -> bytes:
    """Return the server's answer to these bytes: one answer's head, or all until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(sent)
            return await reader.read() if until_closed else await reader.readuntil(b"}")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
