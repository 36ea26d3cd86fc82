"""A front over a router that plays what a test wants, for what no actor needs to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, cast

import httpx
from starlette.types import ASGIApp

from satmeter.actors.bootstrap import build_wallet_words
from satmeter.actors.domain.credentials import macaroon
from satmeter.actors.domain.credentials.macaroon import MacaroonId, attenuate, mint
from satmeter.actors.domain.errors import Refusal, RefusedError
from satmeter.actors.domain.job.state import WatchJob
from satmeter.actors.domain.llm.answers import Ending, TextDelta
from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.invoices import Invoice
from satmeter.actors.domain.payments.payouts import PayoutTarget, RefundState, RefundView
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.session.messages import CheckPayment, GetSession, RequestAnswer, RequestCost, SessionView
from satmeter.actors.domain.session.state import SessionState
from satmeter.actors.ports import TransientError
from satmeter.config.settings import Settings
from satmeter.http.app import create_app
from satmeter.http.state import AppState
from tests.helpers.conversations import Played
from tests.helpers.fakes import FakeLimits, FakeSolvency, FixedPrices
from tests.helpers.http.fronts import (
    ID_KEY,
    MACAROON_KEY,
    PAY_PAGE_KEY,
    RECEIPT_KEY,
    WEBHOOK_KEY,
    WITHDRAW_KEY,
    client_of,
    reachable,
    signed_invoice,
)
from tests.helpers.jobs import BTC, START_MS, invoice
from tests.helpers.lnurl_servers import FakeDestinations

SESSION = macaroon.session_id(b"s" * macaroon.SESSION_BYTES)
OTHER_SESSION = macaroon.session_id(b"t" * macaroon.SESSION_BYTES)
PREIMAGE = "07" * 32
PAYMENT_HASH = "4bb06f8e4e3a7715d201d573d0aa423762e55dabd61a2c02278fa56cc6d294e0"


def token(*caveats: str, session: str = SESSION, payment_hash: str = PAYMENT_HASH, key: bytes = MACAROON_KEY) -> str:
    """A macaroon of generation 1 with these caveats."""
    return attenuate(mint(key, MacaroonId(payment_hash, session, 1)), list(caveats))


def bearer(*caveats: str) -> dict[str, str]:
    """The header that carries it."""
    return {"Authorization": f"Bearer {token(*caveats)}"}


@dataclass
class StubRouter:
    """Notes what is asked, and answers by the kind of the command: the next of its replies, the last one for ever.

    A refusal and an exception are raised; a session that is not played can't be looked at. Before each streamed reply
    after the first, `gate` must be passed.
    """

    replies: dict[type, list[Any]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    gate: asyncio.Semaphore | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, actor_id: str, command: Any) -> Any:
        self.asked.append((actor_id, command))
        if type(command) not in self.replies and isinstance(command, GetSession | CheckPayment):
            raise TransientError("this session is not played")
        planned = self.replies[type(command)]
        reply = planned.pop(0) if len(planned) > 1 else planned[0]
        if reply is FOREVER:
            await asyncio.Event().wait()
        return _raised(reply)

    def open(self, actor_id: str, command: Any) -> Played:
        return Played(self.stream(actor_id, command))

    async def stream(self, actor_id: str, command: Any) -> AsyncGenerator[Any, None]:
        if not getattr(command, "stream", isinstance(command, WatchJob)):
            try:
                yield await self.call(actor_id, command)
            finally:
                self.closed.set()
            return
        self.asked.append((actor_id, command))
        try:
            for number, reply in enumerate(self.replies[type(command)]):
                if number and self.gate is not None:
                    await self.gate.acquire()
                if reply is FOREVER:
                    await asyncio.Event().wait()
                yield _raised(reply)
        finally:
            self.closed.set()

    def commands(self, kind: type) -> list[Any]:
        """The commands of this kind, in their order."""
        return [command for _, command in self.asked if type(command) is kind]


FOREVER = object()
"""A reply that does not come."""


def _raised(reply: Any) -> Any:
    if isinstance(reply, Refusal):
        raise RefusedError(reply)
    if isinstance(reply, Exception):
        raise reply
    return reply


@dataclass
class StubWallet:
    """The stub node's side door."""

    async def pay(self, payment_hash: str) -> str | None:
        return "07" * 32

    async def invoice(self, amount_sats: int) -> Invoice:
        return signed_invoice(amount_sats * 1_000, START_MS // 1_000)


@dataclass
class Stubbed:
    """The front, and a client of it."""

    router: StubRouter
    limits: FakeLimits
    destinations: FakeDestinations
    state: AppState
    app: ASGIApp
    http: httpx.AsyncClient

    def plays(self, command: type, *replies: Any) -> None:
        """Set the actors' answer to this kind of command from now on."""
        self.router.replies[command] = list(replies)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Posts to a path of the session, with its macaroon unless another credential is named."""
        return await self.http.post(f"/sessions/{SESSION}{path}", json=body, headers={**bearer(), **headers})

    async def get(self, path: str = "", **headers: str) -> httpx.Response:
        """Gets a path of the session, with its macaroon unless another credential is named."""
        return await self.http.get(f"/sessions/{SESSION}{path}", headers={**bearer(), **headers})

    async def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return cast(dict[str, Any], (await self.http.get("/openapi.json")).json())


@asynccontextmanager
async def stubbed(
    is_own_invoice: Callable[[PayoutTarget], Awaitable[bool]] | None = None, **settings: Any
) -> AsyncIterator[Stubbed]:
    """A front with these settings, which needs no store."""
    router, limits, destinations = StubRouter(), FakeLimits(), FakeDestinations()
    state = AppState(
        settings=Settings(**settings),
        wallet=build_wallet_words(Settings(**settings)),
        router=router,  # type: ignore[arg-type]
        prices=FixedPrices(BTC),
        solvency=FakeSolvency(),
        limits=limits,
        destinations=destinations,
        stub_node=StubWallet(),
        checks={"store": reachable},
        id_key=ID_KEY,
        macaroon_key=MACAROON_KEY,
        receipt_key=RECEIPT_KEY,
        webhook_key=WEBHOOK_KEY,
        withdraw_key=WITHDRAW_KEY,
        pay_page_key=PAY_PAGE_KEY,
        now_ms=lambda: START_MS,
    )
    if is_own_invoice is not None:
        state = replace(state, is_own_invoice=is_own_invoice)
    app = create_app(state)
    async with client_of(app) as http:
        yield Stubbed(router, limits, destinations, state, app, http)


# What actors say


def session_view(state: SessionState = SessionState.ACTIVE, **changes: Any) -> SessionView:
    """A session with 1,000 sats, of which some were spent and some are held."""
    shown: dict[str, Any] = {
        "session_id": SESSION,
        "state": state,
        "balance_msat": Msat(899_999),
        "held_msat": Msat(50_000),
        "deposited_msat": Msat(1_000_000),
        "spent_msat": Msat(50_001),
        "refund": RefundView(ZERO, ZERO, RefundState.NONE),
        "expires_at_ms": START_MS + 86_400_000,
        "pending_invoices": (invoice(7, 200), invoice(8, 300)),
    }
    return SessionView(**{**shown, **changes})


COST = RequestCost(
    model="sonnet",
    usage=Usage(100, 200, 7, 3, 2),
    cost_usd=Decimal("0.003014"),
    evaluation_cost_usd=Decimal("0.000314"),
    held_msat=Msat(9_870),
    debit_msat=Msat(4_220),
)


def answer(ending: Ending = Ending.COMPLETE, **changes: Any) -> RequestAnswer:
    """The end of a request."""
    shown: dict[str, Any] = {
        "request_id": "req_first",
        "ending": ending,
        "text": "the answer",
        "reason": None,
        "stop_reason": "end_turn",
        "model": "sonnet",
        "max_tokens": 500,
        "cost": COST,
        "balance_msat": Msat(995_780),
    }
    return RequestAnswer(**{**shown, **changes})


def pieces(*texts: str) -> list[TextDelta]:
    """Pieces of a streamed answer."""
    return [TextDelta(text) for text in texts]


# The wire of `answer()`
DONE = {
    "requestId": "req_first",
    "state": "complete",
    "result": "the answer",
    "model": "sonnet",
    "maxTokens": 500,
    "stopReason": "end_turn",
    "costLedger": {
        "model": "sonnet",
        "actualInputTokens": 100,
        "actualOutputTokens": 200,
        "totalTokens": 300,
        "cacheReadTokens": 7,
        "cacheWriteTokens": 5,
        "actualCostUsd": "0.003014",
        "evaluationCostUsd": "0.000314",
        "chargedMsat": 4_220,
        "paidMsat": 9_870,
        "refundMsat": 5_650,
    },
    "debitedMsat": 4_220,
    "balanceMsat": 995_780,
    "balanceSats": 995,
}
