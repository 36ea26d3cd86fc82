"""Payouts that are not sent any more."""

from __future__ import annotations

import asyncio

import pytest

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import SendPayout
from satmeter.actors.domain.payments.payouts import PayoutStatus, PayoutTarget
from satmeter.actors.effects.payout_calls import PayoutCalls
from satmeter.actors.ports import TransientError
from tests.helpers.fakes import FakeLightning

TARGET = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))
UNTIL_MS = 1_800_000_030_000


@pytest.mark.parametrize(("woke_ms", "sent"), [(UNTIL_MS - 1, True), (UNTIL_MS, False), (UNTIL_MS + 400_000, False)])
async def test_a_host_that_stood_still_for_too_long_leaves_the_payout_to_those_who_look_it_up(
    woke_ms: int, sent: bool
) -> None:
    """Its successor has perhaps been told already that the node knows of no such payment, and paid another invoice."""
    lightning = FakeLightning(now_ms=lambda: woke_ms)
    calls = PayoutCalls(lightning, asyncio.sleep, lambda: woke_ms)
    sending = calls.send(SendPayout("send_a", TARGET, "ses_a", UNTIL_MS, Msat(2_000)))
    if sent:
        assert (await sending).status is PayoutStatus.PAID
    else:
        with pytest.raises(TransientError):
            await sending
    assert lightning.calls.count("pay_out") == int(sent)
    assert lightning.fee_limits_msat == [2_000] * sent
