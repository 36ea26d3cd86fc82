"""Payouts against a node that answers late, says `failed` too early, or breaks the connection: nobody is paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.payments.payout_flow import PATIENCE_MS, verdict
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, RefundState
from satmeter.actors.domain.session.messages import CloseSession, OpenSession, SessionCreated, SessionView
from satmeter.actors.ports import PortError
from satmeter.actors.router.router import Router
from satmeter.actors.services.payout_watch import Comparison, PayoutWatch
from tests.helpers.hosts import until
from tests.helpers.invoices import FEE_LIMIT
from tests.helpers.payout_scene import (
    DEPOSIT_MSAT,
    SECOND,
    TARGET,
    Scene,
    closing,
    ordered,
    payout_scene,
    refused_as_pending,
)
from tests.helpers.session_steps import GRANT, SES, opened, show
from tests.helpers.slow_lnbits import row

FAILED, PENDING = PayoutStatus.FAILED, PayoutStatus.PENDING
ABSENT, PAID = PayoutStatus.ABSENT, PayoutStatus.PAID


@pytest.fixture
async def scene(redis: Redis) -> AsyncIterator[Scene]:
    async with payout_scene(redis) as made:
        yield made


async def test_a_node_that_fails_a_payment_before_it_pays_it_pays_one_invoice(scene: Scene) -> None:
    """The paying call outlasts our time-out; a look-up meanwhile says `failed`; then the payment succeeds."""
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says("failed")
        first = closing(router, TARGET)
        await scene.looked_up()
        assert not first.done()
        await refused_as_pending(router)
        scene.world.offset_ms += PATIENCE_MS - 10_000
        await scene.looked_up()
        await refused_as_pending(router)
        scene.says("success", fee_msat=1_300)
        view = await first
        assert (view.refund.paid_msat, view.refund.owed_msat, view.spent_msat) == (
            Msat(900_000),
            Msat(98_700),
            Msat(1_300),
        )
    assert [order.bolt11 for order in scene.lnbits.orders] == [TARGET.payment_request]


async def test_a_node_that_goes_on_saying_failed_is_believed_after_five_minutes(scene: Scene) -> None:
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says("failed")
        first = closing(router, TARGET)
        await scene.looked_up()
        await refused_as_pending(router)
        scene.world.offset_ms += PATIENCE_MS + 1_000
        view = await first
        assert (view.refund.state, view.refund.failed, view.refund.owed_msat) == (
            RefundState.OWED,
            True,
            Msat(DEPOSIT_MSAT),
        )
        second = closing(router, SECOND, "c2")
        await until(lambda: ordered(scene, 2))
        scene.lnbits.orders[1].answer.set_result((201, row(SECOND.payment_hash, 900_000, SES, "success")))
        assert (await second).refund.paid_msat == Msat(900_000)
        # Then it makes the first one all the same: no journal tells of that, and it must be seen.
        rows = [row(target.payment_hash, 900_000, SES, "success", 1_300) for target in (TARGET, SECOND)]
        scene.lnbits.sent = [{**paid, "updated_at": "2026-11-29T14:00:00.250000"} for paid in rows]
        watch = PayoutWatch(scene.lightning, scene.refunds_of, lambda: 1_796_000_000_000)
        # 29 November 2026, 14:00 UTC.
        assert await watch.look() == Comparison(1, 901_300, 2, 1_795_960_800_250)


async def test_failed_then_pending_begins_the_patience_again(scene: Scene) -> None:
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says("failed")
        first = closing(router, TARGET)
        await scene.looked_up()
        scene.world.offset_ms += PATIENCE_MS - 20_000
        scene.says("pending")
        await scene.looked_up()
        scene.says("failed")
        # More than five minutes after the call, but not after the node last said that it is at work.
        scene.world.offset_ms += 60_000
        await scene.looked_up()
        await refused_as_pending(router)
        scene.says("success")
        assert (await first).refund.paid_msat == Msat(900_000)


async def test_failed_as_the_call_s_own_answer_is_not_final_while_the_list_says_pending(scene: Scene) -> None:
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says("pending")
        first = closing(router, TARGET)
        await until(lambda: ordered(scene, 1))
        scene.lnbits.orders[0].answer.set_result((520, {"detail": "Payment failed: timeout.", "status": "failed"}))
        await scene.looked_up()
        scene.says("failed")
        await scene.looked_up()
        await refused_as_pending(router)
        scene.says("success")
        view = await first
        assert (view.refund.paid_msat, view.refund.owed_msat) == (Msat(900_000), Msat(100_000))


@pytest.mark.parametrize("listed", ["failed", None])
async def test_failed_by_the_call_and_by_the_list_is_final_at_once(scene: Scene, listed: str | None) -> None:
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says(listed)
        first = closing(router, TARGET)
        await until(lambda: ordered(scene, 1))
        scene.lnbits.orders[0].answer.set_result((520, {"detail": "Payment failed: no route.", "status": "failed"}))
        view = await first
        assert (view.refund.state, view.refund.owed_msat) == (RefundState.OWED, Msat(DEPOSIT_MSAT))


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_connection_that_breaks_leaves_the_outcome_unknown(scene: Scene, arrived: bool) -> None:
    """Before the node has read the order, or after: the same five minutes, and the node's last word counts."""
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says("failed" if arrived else None)
        first = closing(router, TARGET)
        await until(lambda: ordered(scene, 1))
        scene.lnbits.orders[0].answer.set_result(None)
        await scene.looked_up()
        await refused_as_pending(router)
        if arrived:
            scene.says("success")
            assert (await first).refund.paid_msat == Msat(900_000)
        else:
            scene.world.offset_ms += PATIENCE_MS + 1_000
            assert (await first).refund.state is RefundState.OWED


async def test_a_pending_answer_of_the_call_has_the_same_patience(scene: Scene) -> None:
    """LNbits answers after five seconds, and goes on with the payment in a task of its own."""
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says("failed")
        first = closing(router, TARGET)
        await until(lambda: ordered(scene, 1))
        scene.lnbits.orders[0].answer.set_result((201, row(TARGET.payment_hash, 900_000, SES, "pending")))
        await scene.looked_up()
        await refused_as_pending(router)
        scene.says("success")
        assert (await first).refund.paid_msat == Msat(900_000)


async def test_a_host_that_starts_again_does_not_know_how_long_the_call_took(scene: Scene) -> None:
    async with scene.serving() as router:
        await opened(router, 1_000)
        first = closing(router, TARGET)
        await until(lambda: ordered(scene, 1))
    with pytest.raises(RefusedError):
        await first
    scene.says("failed")
    # The order is old by now, but the call may have been made just before the host died.
    scene.world.offset_ms += PATIENCE_MS + 60_000
    async with scene.serving() as router:
        await show(router)
        await scene.looked_up()
        await refused_as_pending(router)
    async with scene.serving() as router:
        await show(router)
        await scene.looked_up()
        await refused_as_pending(router)
        scene.says("success")
        assert (await closing(router, TARGET)).refund.paid_msat == Msat(900_000)
    assert len(scene.lnbits.orders) == 1


async def test_several_payouts_at_once_keep_their_own_patience(scene: Scene) -> None:
    """One payment waits for the other within our own client too, and neither is sent again."""
    async with scene.serving() as router:
        actors = [f"ses_{number:032d}" for number in range(3)]
        for actor in actors:
            await _opened_as(router, actor)
        targets = {actor: replace(TARGET, payment_hash=f"{n:02x}" * 32) for n, actor in enumerate(actors, 1)}
        status = {target.payment_hash: "failed" for target in targets.values()}
        owner = {target.payment_hash: actor for actor, target in targets.items()}
        scene.lnbits.look_up = lambda h: [row(h, 900_000, owner[h], status[h])]
        closings = {
            actor: asyncio.create_task(
                router.call(actor, CloseSession(target, Once("c", target.payment_hash, keyed=True), GRANT))
            )
            for actor, target in targets.items()
        }
        await scene.looked_up(9)
        assert not any(task.done() for task in closings.values())
        status[targets[actors[0]].payment_hash] = "success"
        paid = await closings[actors[0]]
        assert isinstance(paid, SessionView) and paid.refund.paid_msat == Msat(900_000)
        assert not closings[actors[1]].done() and not closings[actors[2]].done()
        scene.world.offset_ms += PATIENCE_MS + 1_000
        for actor in actors[1:]:
            view = await closings[actor]
            assert isinstance(view, SessionView) and view.refund.owed_msat == Msat(DEPOSIT_MSAT)
    assert len(scene.lnbits.orders) <= 3


async def _opened_as(router: Router, actor_id: str) -> None:
    created = await router.call(actor_id, OpenSession(1_000, "client"))
    assert isinstance(created, SessionCreated)
    await router.call(actor_id, Settle(created.deposit_invoice.payment_hash, Msat(DEPOSIT_MSAT)))


async def test_the_answer_of_a_look_up_speaks_of_no_time_after_its_question(scene: Scene) -> None:
    """A look-up that was asked in time and answered late does not make an absence final."""
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says(None)
        first = closing(router, TARGET)
        await scene.looked_up()
        paid = False

        def answer(_: str) -> list[dict[str, object]]:
            nonlocal paid
            if not paid:
                # The clock passes the end of the patience, and the payment arrives, while the answer is on its way.
                paid = True
                scene.world.offset_ms += PATIENCE_MS + 60_000
                return []
            return [row(TARGET.payment_hash, 900_000, SES, "success")]

        scene.lnbits.look_up = answer
        assert (await first).refund.paid_msat == Msat(900_000)


@pytest.mark.parametrize(
    ("said", "asked_after_ms", "final"),
    [
        (PAID, -PATIENCE_MS, PAID),
        (FAILED, -1, None),
        (FAILED, 0, FAILED),
        (ABSENT, -1, None),
        (ABSENT, 0, ABSENT),
        (PENDING, -PATIENCE_MS, None),
        (PENDING, -PATIENCE_MS // 2 - 1, None),
        (PENDING, -PATIENCE_MS // 2, PENDING),
        (PENDING, 0, PENDING),
    ],
)
def test_when_a_node_s_word_is_final(said: PayoutStatus, asked_after_ms: int, final: PayoutStatus | None) -> None:
    at_ms = 1_800_000_000_000
    report = verdict(PayoutReport(said), at_ms, at_ms + asked_after_ms)
    assert (report.status if report else None) is final


async def test_a_call_that_is_not_answered_raises(scene: Scene) -> None:
    with pytest.raises(PortError):
        await scene.lightning.pay_out(TARGET, SES, FEE_LIMIT)
