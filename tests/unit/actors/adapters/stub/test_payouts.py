"""The stub node's payouts: what the wallet has, once, to invoices of its own network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.stub.node import KEY, URL, StubNode
from satmeter.actors.domain.money import MSAT_MAX, Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.bolt11_reading import read_fields
from satmeter.actors.domain.payments.invoices import Invoice, Settlement
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import InvoiceOrder, TransientError
from tests.helpers.invoices import FEE_LIMIT, behind
from tests.helpers.patience import PATIENCE_S

NOW_S = 1_800_000_000
PAID = PayoutReport(PayoutStatus.PAID)
FAILED = PayoutReport(PayoutStatus.FAILED)
NO_FUNDS = PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.FUNDS)
PENDING = PayoutReport(PayoutStatus.PENDING)
ABSENT = PayoutReport(PayoutStatus.ABSENT)


def lightning_over(stub: StubNode) -> LnbitsLightning:
    return LnbitsLightning(URL, KEY, admin_key=KEY, timeout_s=5, concurrency=4, transport=stub, hints=stub.hints)


@pytest.fixture
async def stub(redis: Redis) -> StubNode:
    return StubNode(redis, now_s=lambda: NOW_S)


@pytest.fixture
async def lightning(stub: StubNode) -> AsyncIterator[LnbitsLightning]:
    made = lightning_over(stub)
    yield made
    await made.close()


def target_of(payment_request: str) -> PayoutTarget:
    read = read_invoice(payment_request)
    return PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)


async def fund(stub: StubNode, lightning: LnbitsLightning, sats: int) -> None:
    invoice = await lightning.create_invoice(InvoiceOrder(sats, "deposit", 600, "ses_funder"))
    assert await stub.pay(invoice.payment_hash)


async def raw(stub: StubNode, method: str, path: str, **request: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=URL, transport=stub) as client:
        return await client.request(method, path, **request)


async def balance_msat(stub: StubNode) -> int:
    balance: int = (await raw(stub, "GET", "/api/v1/wallet")).json()["balance"]
    return balance


async def test_a_customer_s_invoice_is_of_a_node_and_a_wallet_of_its_own(redis: Redis, stub: StubNode) -> None:
    before = await redis.dbsize()
    made = [await stub.invoice(250) for _ in range(3)]
    payees = {read_fields(invoice.payment_request).payee for invoice in made}
    assert len(payees) == 3, "none is this node's"
    assert await redis.dbsize() == before
    read = read_invoice(made[0].payment_request)
    assert (read.currency, read.amount_msat) == ("bcrt", Msat(250_000))
    assert made[0] == Invoice(read.payment_request, read.payment_hash, 250, (NOW_S + 3_600) * 1_000)


@pytest.mark.parametrize("amount_sats", [0, -1, MSAT_MAX])
async def test_a_customer_s_invoice_has_an_amount_that_can_be_paid(stub: StubNode, amount_sats: int) -> None:
    with pytest.raises(ValueError):
        await stub.invoice(amount_sats)


async def test_a_payout_lowers_the_balance_by_its_amount(stub: StubNode, lightning: LnbitsLightning) -> None:
    await fund(stub, lightning, 1_000)
    target = target_of((await stub.invoice(250)).payment_request)
    assert await lightning.payout(target, "ses_a") == ABSENT
    assert await lightning.pay_out(target, "ses_a", FEE_LIMIT) == PAID
    assert await lightning.payout(target, "ses_a") == PAID
    assert await balance_msat(stub) == 750_000


async def test_a_payout_is_no_deposit(stub: StubNode, lightning: LnbitsLightning) -> None:
    await fund(stub, lightning, 1_000)
    target = target_of((await stub.invoice(250)).payment_request)
    await lightning.pay_out(target, "ses_a", FEE_LIMIT)
    assert await lightning.lookup(target.payment_hash) is None
    assert [each.actor_id for each in await lightning.settlements(100)] == ["ses_funder"]


async def test_the_balance_can_be_paid_out_to_the_last_sat_and_no_further(
    stub: StubNode, lightning: LnbitsLightning
) -> None:
    await fund(stub, lightning, 1_000)
    too_much, all_of_it, one_more = [
        target_of((await stub.invoice(sats)).payment_request) for sats in (1_001, 1_000, 1)
    ]
    assert await lightning.pay_out(too_much, "ses_a", FEE_LIMIT) == NO_FUNDS
    assert await lightning.payout(too_much, "ses_a") == ABSENT
    assert await lightning.pay_out(all_of_it, "ses_a", FEE_LIMIT) == PAID
    assert await lightning.pay_out(one_more, "ses_a", FEE_LIMIT) == NO_FUNDS
    assert await balance_msat(stub) == 0


async def test_the_same_invoice_is_paid_once_by_however_many_at_once(redis: Redis) -> None:
    stubs = [StubNode(redis) for _ in range(8)]
    nodes = [lightning_over(stub) for stub in stubs]
    await fund(stubs[0], nodes[0], 1_000)
    target = target_of((await stubs[0].invoice(10)).payment_request)
    reports = await asyncio.gather(*(node.pay_out(target, f"ses_{n}", FEE_LIMIT) for n, node in enumerate(nodes)))
    assert sorted(report.status for report in reports) == [PayoutStatus.PAID] + [PayoutStatus.PENDING] * 7
    assert await balance_msat(stubs[0]) == 990_000
    told = [await nodes[0].payout(target, f"ses_{n}") for n in range(8)]
    assert told == [PAID if report == PAID else FAILED for report in reports]
    for node in nodes:
        await node.close()


async def test_payouts_at_once_never_spend_more_than_there_is(redis: Redis) -> None:
    stubs = [StubNode(redis) for _ in range(8)]
    nodes = [lightning_over(stub) for stub in stubs]
    await fund(stubs[0], nodes[0], 35)
    targets = [target_of((await stubs[0].invoice(10)).payment_request) for _ in nodes]
    orders = (node.pay_out(target, "ses_a", FEE_LIMIT) for node, target in zip(nodes, targets, strict=True))
    reports = await asyncio.gather(*orders)
    assert sorted(report.status for report in reports) == [PayoutStatus.FAILED] * 5 + [PayoutStatus.PAID] * 3
    assert await balance_msat(stubs[0]) == 5_000
    for node in nodes:
        await node.close()


async def test_an_invoice_of_its_own_is_settled_and_costs_nothing(
    redis: Redis, stub: StubNode, lightning: LnbitsLightning
) -> None:
    await fund(stub, lightning, 1_000)
    own = await lightning.create_invoice(InvoiceOrder(250, "deposit", 600, "ses_b"))
    target = target_of(own.payment_request)
    assert await lightning.payout(target, "ses_a") == ABSENT, "an unpaid invoice is no payment"
    assert await lightning.pay_out(target, "ses_a", FEE_LIMIT) == PAID
    assert await balance_msat(stub) == 1_000_000
    settlement = Settlement(own.payment_hash, Msat(250_000), "ses_b")
    assert await lightning.lookup(own.payment_hash) == settlement
    assert (await lightning.settlements(1)) == [settlement]
    assert await lightning.payout(target, "ses_a") == PAID
    assert await redis.ttl(f"satmeter:{{stub}}:payment:{own.payment_hash}") == -1, "what was paid stays"
    # Paying it once more as a wallet would changes nothing.
    assert await stub.pay(own.payment_hash)
    assert await balance_msat(stub) == 1_000_000


async def test_a_settled_invoice_of_its_own_is_hinted(redis: Redis, stub: StubNode, lightning: LnbitsLightning) -> None:
    await fund(stub, lightning, 1_000)
    own = await lightning.create_invoice(InvoiceOrder(250, "deposit", 600, "ses_b"))
    async with contextlib.aclosing(stub.hints()) as hints:  # type: ignore[type-var]  # it is a generator
        heard = asyncio.ensure_future(anext(hints))
        while await redis.pubsub_numsub("satmeter:{stub}:hints") != [(b"satmeter:{stub}:hints", 1)]:
            await asyncio.sleep(0)
        await lightning.pay_out(target_of(own.payment_request), "ses_a", FEE_LIMIT)
        assert await asyncio.wait_for(heard, PATIENCE_S) == own.payment_hash


async def test_an_invoice_of_its_own_that_a_wallet_paid_is_not_paid_again(
    stub: StubNode, lightning: LnbitsLightning
) -> None:
    await fund(stub, lightning, 1_000)
    own = await lightning.create_invoice(InvoiceOrder(250, "deposit", 600, "ses_b"))
    await stub.pay(own.payment_hash)
    target = target_of(own.payment_request)
    assert await lightning.pay_out(target, "ses_a", FEE_LIMIT) == FAILED
    assert await lightning.payout(target, "ses_a") == ABSENT
    assert await balance_msat(stub) == 1_250_000


async def test_another_invoice_with_the_hash_of_one_of_its_own_settles_nothing(
    stub: StubNode, lightning: LnbitsLightning
) -> None:
    await fund(stub, lightning, 1_000)
    own = await lightning.create_invoice(InvoiceOrder(250, "deposit", 600, "ses_b"))
    cheaper = behind("lnbcrt10n", own.payment_request)
    assert await lightning.pay_out(target_of(cheaper), "ses_a", FEE_LIMIT) == FAILED
    assert await lightning.lookup(own.payment_hash) is None


async def test_an_expired_invoice_is_not_paid(redis: Redis, stub: StubNode, lightning: LnbitsLightning) -> None:
    await fund(stub, lightning, 1_000)
    target = target_of((await stub.invoice(10)).payment_request)
    at_the_end = lightning_over(StubNode(redis, now_s=lambda: NOW_S + 3_600))
    assert await at_the_end.pay_out(target, "ses_a", FEE_LIMIT) == FAILED
    just_before = lightning_over(StubNode(redis, now_s=lambda: NOW_S + 3_599))
    assert await just_before.pay_out(target, "ses_a", FEE_LIMIT) == PAID
    await at_the_end.close()
    await just_before.close()


@pytest.mark.parametrize("human_part", ["lnbc210n", "lntb210n", "lntbs210n", "lnbcrt"])
async def test_other_networks_and_open_amounts_are_not_paid(
    stub: StubNode, lightning: LnbitsLightning, human_part: str
) -> None:
    await fund(stub, lightning, 1_000)
    good = await stub.invoice(21)
    target = PayoutTarget(behind(human_part, good.payment_request), good.payment_hash, Msat(21_000))
    assert await lightning.pay_out(target, "ses_a", FEE_LIMIT) == FAILED
    assert await lightning.payout(target, "ses_a") == ABSENT
    assert await balance_msat(stub) == 1_000_000


async def test_it_answers_in_the_words_of_lnbits(stub: StubNode, lightning: LnbitsLightning) -> None:
    await fund(stub, lightning, 1_000)
    order = {"out": True, "bolt11": (await stub.invoice(21)).payment_request, "extra": {"tag": "satmeter"}}
    paid = await raw(stub, "POST", "/api/v1/payments", json=order)
    assert (paid.status_code, paid.json()["status"], paid.json()["amount"], paid.json()["fee"]) == (
        201, "success", -21_000, 0
    )  # fmt: skip
    again = await raw(stub, "POST", "/api/v1/payments", json=order)
    assert (again.status_code, again.json()) == (520, {"detail": "Payment already paid.", "status": "success"})
    broken = await raw(stub, "POST", "/api/v1/payments", json={"bolt11": "lnbcrt1"})
    assert (broken.status_code, broken.json()["status"]) == (520, "failed")
    unasked = await raw(stub, "GET", "/api/v1/payments/paginated")
    assert unasked.status_code == 400


async def test_a_store_that_is_gone_leaves_a_payout_open() -> None:
    gone: Redis = Redis(host="127.0.0.1", port=9, retry=Retry(NoBackoff(), 0))
    stub = StubNode(gone)
    lightning = lightning_over(stub)
    target = target_of((await stub.invoice(10)).payment_request)
    with pytest.raises(TransientError):
        await lightning.pay_out(target, "ses_a", FEE_LIMIT)
    with pytest.raises(TransientError):
        await lightning.payout(target, "ses_a")
    await lightning.close()
    await gone.aclose()
