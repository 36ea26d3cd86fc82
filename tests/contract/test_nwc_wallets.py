"""Our client with the wallet sides of others: `@getalby/sdk`, and `applesauce-wallet-connect`.

They are skipped where npm can't install them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from satmeter.actors.adapters.nwc.client import NwcLightning
from satmeter.actors.adapters.nwc.probe import probe
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import InvoiceOrder, PermanentError
from satmeter.config.settings import Settings
from tests.helpers import installed
from tests.helpers.patience import PATIENCE_S
from tests.lightning.others.nwc.wallet import LIBRARIES, OthersWallet, program, wallet_by
from tests.lightning.stand_ins.nwc.books import ROUTE_MSAT, foreign_invoice
from tests.lightning.stand_ins.nwc.relay import RelayProcess
from tests.lightning.waiting import soon
from tests.lightning.world import Fate

ACTOR = "ses_0123456789abcdefghijklmnopqrstuv"
LIMIT = Msat(10_000)
PAID = PayoutReport(PayoutStatus.PAID, Msat(ROUTE_MSAT))
REFUSALS = {
    "RATE_LIMITED": PayoutRefusal.RULES,
    "QUOTA_EXCEEDED": PayoutRefusal.RULES,
    "INSUFFICIENT_BALANCE": PayoutRefusal.FUNDS,
    "RESTRICTED": PayoutRefusal.KEY,
}


@dataclass
class Scene:
    wallet: OthersWallet
    lightning: NwcLightning


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return program(tmp_path_factory.mktemp("nwc"))
    except installed.NotInstalledError as error:
        pytest.skip(f"needs the wallets of others, from npm: {error}")


@pytest_asyncio.fixture(params=LIBRARIES)
async def scene(request: pytest.FixtureRequest, script: Path, nostr_relay: RelayProcess) -> AsyncIterator[Scene]:
    async with wallet_by(request.param, script, nostr_relay.url) as wallet:
        lightning = NwcLightning(wallet.connection, timeout_s=PATIENCE_S, concurrency=8)
        yield Scene(wallet, lightning)
        await lightning.close()


def target(amount_sats: int = 100) -> PayoutTarget:
    return foreign_invoice(amount_sats, int(time.time()))


async def test_the_check_proves_the_wallet(scene: Scene) -> None:
    found = await probe(Settings(**cast(Any, {"NWC_URL": scene.wallet.connection})), cast(Any, None), may_order=True)
    assert not found.problems
    assert [each.message for each in found.warnings] == ["The wallet is on regtest: its sats are worth nothing."]
    assert found.proofs[0] == "A test invoice over 1 sat was made and found again."


async def test_an_invoice_is_made_pushed_and_credited_once(scene: Scene) -> None:
    made = await scene.lightning.create_invoice(InvoiceOrder(21, "memo", 600, ACTOR))
    assert await scene.lightning.lookup(made.payment_hash) is None
    heard = asyncio.create_task(first_hint(scene.lightning))
    await soon(lambda: bool(scene.lightning._exchange._listeners))
    await scene.wallet.receive(made.payment_hash)
    assert await heard == made.payment_hash
    paid = Settlement(made.payment_hash, Msat.from_sats(21), ACTOR)
    assert await scene.lightning.lookup(made.payment_hash) == paid
    assert await scene.lightning.settlements(5) == [paid]
    assert await scene.lightning.lookup("ab" * 32) is None


async def test_a_payout_is_made_once_and_its_cost_is_told(scene: Scene) -> None:
    to = target()
    assert await scene.lightning.pay_out(to, ACTOR, LIMIT) == PAID
    assert await scene.lightning.payout(to, ACTOR) == PAID
    assert (await scene.lightning.pay_out(to, ACTOR, LIMIT)).status is PayoutStatus.FAILED
    assert await scene.lightning.payout(to, ACTOR) == PAID
    assert [each.payment_hash for each in await scene.lightning.sent(5)] == [to.payment_hash]


async def test_a_refusal_is_read_and_nothing_was_paid(scene: Scene) -> None:
    for code, refusal in REFUSALS.items():
        scene.wallet.manners.refusal = (code, "no")
        to = target()
        assert await scene.lightning.pay_out(to, ACTOR, LIMIT) == PayoutReport(PayoutStatus.FAILED, refusal=refusal)
        assert (await scene.lightning.payout(to, ACTOR)).status is PayoutStatus.ABSENT


async def test_a_payment_that_failed_has_failed(scene: Scene) -> None:
    scene.wallet.books.fates.append(Fate.FAILED)
    to = target()
    assert await scene.lightning.pay_out(to, ACTOR, LIMIT) == PayoutReport(PayoutStatus.FAILED)
    assert (await scene.lightning.payout(to, ACTOR)).status is PayoutStatus.FAILED


async def test_a_connection_without_the_right_to_look_up_is_not_well(scene: Scene) -> None:
    await scene.lightning.check()
    scene.wallet.manners.allowed = ("get_info",)
    with pytest.raises(PermanentError, match="RESTRICTED"):
        await scene.lightning.check()


async def first_hint(lightning: NwcLightning) -> str:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(aiter(lightning.hints()))
