"""Payouts that the node would not even try, or that are asked about in another wallet: faults of the operator's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.payments.payout_flow import PATIENCE_MS
from satmeter.actors.domain.payments.payouts import RefundState
from satmeter.actors.domain.session.messages import TopUp, TopUpInvoice
from tests.helpers.hosts import until
from tests.helpers.payout_scene import DEPOSIT_MSAT, TARGET, Scene, closing, ordered, payout_scene, refused_as_pending
from tests.helpers.session_steps import GRANT, SES, opened
from tests.helpers.slow_lnbits import row


@pytest.fixture
async def scene(redis: Redis) -> AsyncIterator[Scene]:
    async with payout_scene(redis) as made:
        yield made


@pytest.mark.parametrize("lost", [[0], [1], [0, 1]])
async def test_a_wallet_that_lacks_any_deposit_is_not_believed(scene: Scene, lost: list[int]) -> None:
    """The operator exchanges the wallet or its key, or restores the wallet, while a payout is under way."""
    async with scene.serving() as router:
        first_deposit = (await opened(router, 500)).deposit_invoice.payment_hash
        top_up = await router.call(SES, TopUp(500, Once("t", "digest", keyed=True), GRANT))
        assert isinstance(top_up, TopUpInvoice)
        await router.call(SES, Settle(top_up.invoice.payment_hash, Msat.from_sats(500)))
        scene.says("pending")
        first = closing(router, TARGET)
        await scene.looked_up()
        deposits = sorted([first_deposit, top_up.invoice.payment_hash])
        scene.lnbits.forgotten = [deposits[place] for place in lost]
        scene.says(None)
        scene.world.offset_ms += 2 * PATIENCE_MS
        await scene.looked_up(5)
        await refused_as_pending(router)
        # What is found needs no such proof.
        scene.says("success")
        assert (await first).refund.paid_msat == Msat(900_000)


REFUSALS = [
    (403, {"detail": "Invoice (or Admin) key required."}, "key"),
    (404, {"detail": "Wallet not found."}, "key"),
    (520, {"detail": "Insufficient balance.", "status": "failed"}, "funds"),
    (520, {"detail": "Only incoming payments allowed.", "status": "failed"}, "rules"),
]


@pytest.mark.parametrize(("status", "body", "reason"), REFUSALS)
async def test_a_refusal_of_the_node_is_an_error_in_the_log_and_the_same_invoice_is_paid_later(
    scene: Scene, status: int, body: dict[str, str], reason: str
) -> None:
    async with scene.serving() as router:
        await opened(router, 1_000)
        scene.says(None)
        with capture_logs() as logs:
            first = closing(router, TARGET)
            await until(lambda: ordered(scene, 1))
            scene.lnbits.orders[0].answer.set_result((status, body))
            refund = (await first).refund
        assert (refund.state, refund.failed, refund.refusal) == (RefundState.OWED, True, reason)
        assert (refund.owed_msat, refund.payable_sats) == (Msat(DEPOSIT_MSAT), 990)
        (told,) = [log for log in logs if log["event"] == "payout_refused"]
        assert (told["log_level"], told["reason"]) == ("error", reason)
        assert (told["actor_id"], told["payment_hash"], told["amount_msat"]) == (SES, TARGET.payment_hash, 900_000)
        again = closing(router, TARGET, "again")
        await until(lambda: ordered(scene, 2))
        scene.lnbits.orders[1].answer.set_result((201, row(TARGET.payment_hash, 900_000, SES, "success")))
        assert (await again).refund.paid_msat == Msat(900_000)
