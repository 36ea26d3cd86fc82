"""A session on a host that is closed to an invoice, over an LNbits whose word on payments a test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutTarget, Refunds, RefundState
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.domain.session.messages import CloseSession, SessionView
from satmeter.actors.host.rehydrate import rehydrate
from satmeter.actors.partitioning import partition_of
from satmeter.actors.router.router import Router
from tests.helpers.hosts import HOST_SESSION_TERMS, World, until
from tests.helpers.session_steps import GRANT, SES, show
from tests.helpers.slow_lnbits import SlowLnbits, row, slow_lnbits

DEPOSIT_MSAT = 1_000_000
TARGET = PayoutTarget("lnbcrt9u1first", "ab" * 32, Msat(900_000))
SECOND = PayoutTarget("lnbcrt9u1second", "cd" * 32, Msat(900_000))
ANSWER_WITHIN_S = 0.2


class PayingLightning:
    """The test world's node, but for payouts, which go to an LNbits on a socket."""

    def __init__(self, world: World, lnbits: LnbitsLightning) -> None:
        self._rest, self._lnbits = world.lightning, lnbits

    def __getattr__(self, name: str) -> object:
        return getattr(self._lnbits if name in {"pay_out", "payout", "received"} else self._rest, name)


@dataclass
class Scene:
    """A host, and the LNbits that it pays out with."""

    world: World
    lnbits: SlowLnbits
    lightning: LnbitsLightning

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Router]:
        """A host that serves; at the end it dies."""
        async with self.world.serving() as (_, router):
            yield router

    async def refunds_of(self, actor_id: str) -> Refunds | None:
        """The actor's payouts as its journal in the store tells them."""
        stored = await self.world.journal.load(partition_of(actor_id), actor_id)
        state = rehydrate(SessionBehaviour(HOST_SESSION_TERMS), actor_id, stored)
        return None if state is None else state.refunds

    async def looked_up(self, times: int = 3) -> None:
        """Returns once the node was asked that many times more what became of the payment."""
        seen = len(self.lnbits.look_ups) + times

        async def often_enough() -> bool:
            return len(self.lnbits.look_ups) >= seen

        await until(often_enough)

    def says(self, status: str | None, fee_msat: int = 0, target: PayoutTarget = TARGET) -> None:
        """Set what the node's list tells of the first payment from now on; it tells nothing of another one."""
        shown = [] if status is None else [row(target.payment_hash, target.amount_msat.value, SES, status, fee_msat)]
        self.lnbits.look_up = lambda payment_hash: shown if payment_hash == target.payment_hash else []


@asynccontextmanager
async def payout_scene(redis: Redis) -> AsyncIterator[Scene]:
    world = World(redis)
    async with slow_lnbits() as lnbits:
        lightning = LnbitsLightning(
            lnbits.url, "invoice-key", admin_key="admin-key", timeout_s=ANSWER_WITHIN_S, concurrency=4
        )
        fake, world.lightning = world.lightning, PayingLightning(world, lightning)  # type: ignore[assignment]
        yield Scene(world, lnbits, lightning)
        world.lightning = fake
        await lightning.close()


def closing(router: Router, target: PayoutTarget, name: str = "c") -> asyncio.Task[SessionView]:
    """Has the session closed, and what is left of it paid to the invoice."""

    async def close() -> SessionView:
        view = await router.call(SES, CloseSession(target, Once(name, target.payment_hash, keyed=True), GRANT))
        assert isinstance(view, SessionView)
        return view

    return asyncio.create_task(close())


async def refused_as_pending(router: Router) -> None:
    with pytest.raises(RefusedError) as refused:
        await closing(router, SECOND, "c2")
    assert refused.value.refusal.code is Code.REFUND_PENDING and refused.value.refusal.retry_after_s == 5
    view = await show(router)
    assert (view.refund.state, view.refund.owed_msat, view.refund.paid_msat) == (
        RefundState.PENDING,
        Msat(DEPOSIT_MSAT),
        Msat(0),
    )


async def ordered(scene: Scene, count: int) -> bool:
    return len(scene.lnbits.orders) >= count
