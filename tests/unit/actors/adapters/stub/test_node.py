"""The stub node beyond the contract: what wallets expect of its invoices, and what it keeps for how long."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.stub.node import KEY, URL, StubNode
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11_reading import read_fields
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import InvoiceOrder, PermanentError, TransientError

NOW_S = 1_800_000_000
WEEK_S = 7 * 86_400


def lightning_over(stub: StubNode) -> LnbitsLightning:
    return LnbitsLightning(URL, KEY, timeout_s=5, concurrency=4, transport=stub, hints=stub.hints)


@pytest.fixture
async def stub(redis: Redis) -> StubNode:
    return StubNode(redis, now_s=lambda: NOW_S)


@pytest.fixture
async def lightning(stub: StubNode) -> AsyncIterator[LnbitsLightning]:
    made = lightning_over(stub)
    yield made
    await made.close()


def order(amount_sats: int = 21, expiry_s: int = 600, memo: str = "Satmeter") -> InvoiceOrder:
    return InvoiceOrder(amount_sats, memo, expiry_s, "job_1")


async def shown(stub: StubNode, payment_hash: str) -> Any:
    async with httpx.AsyncClient(base_url=URL, transport=stub) as client:
        return (await client.get(f"/api/v1/payments/{payment_hash}")).json()


async def test_a_wallet_finds_all_that_it_needs_in_an_invoice(lightning: LnbitsLightning) -> None:
    bolt11 = pytest.importorskip("bolt11", reason="the library has no wheels for this Python")
    invoice = await lightning.create_invoice(order(2_100_000, 700, "café"))
    decoded = bolt11.decode(invoice.payment_request, strict=True)
    assert decoded.is_regtest()
    assert (decoded.amount_msat, decoded.date, decoded.expiry) == (2_100_000_000, NOW_S, 700)
    assert decoded.description == "café"
    assert decoded.min_final_cltv_expiry == 18
    assert decoded.payment_secret is not None and decoded.payment_secret != decoded.payment_hash
    assert decoded.features is not None
    assert decoded.features.readable == {
        "var_onion_optin": "required",
        "payment_secret": "required",
        "basic_mpp": "supported",
    }
    assert invoice.expires_at_ms == (NOW_S + 700) * 1_000


@pytest.mark.parametrize("amount_sats", [1, 10, 99, 100, 1_000, 12_345, 100_000, 100_000_000, 2_099_999_999_999_999])
async def test_every_amount_survives_the_invoice(lightning: LnbitsLightning, amount_sats: int) -> None:
    invoice = await lightning.create_invoice(order(amount_sats))
    assert read_fields(invoice.payment_request).amount_msat == amount_sats * 1_000


async def test_all_processes_sign_as_the_same_node(redis: Redis) -> None:
    stubs = [StubNode(redis) for _ in range(4)]
    invoices = await asyncio.gather(*(lightning_over(stub).create_invoice(order()) for stub in stubs))
    payees = {read_fields(invoice.payment_request).payee for invoice in invoices}
    assert len(payees) == 1
    assert len({invoice.payment_hash for invoice in invoices}) == 4


async def test_a_payment_made_through_one_process_is_seen_by_another(redis: Redis) -> None:
    one, other = StubNode(redis), StubNode(redis)
    invoice = await lightning_over(one).create_invoice(order())
    assert await other.pay(invoice.payment_hash)
    assert await lightning_over(one).lookup(invoice.payment_hash) is not None


async def test_the_preimage_is_told_after_payment_and_not_before(stub: StubNode, lightning: LnbitsLightning) -> None:
    invoice = await lightning.create_invoice(order())
    unpaid = await shown(stub, invoice.payment_hash)
    assert (unpaid["paid"], unpaid["preimage"], unpaid["details"]["preimage"]) == (False, None, None)
    await stub.pay(invoice.payment_hash)
    paid = await shown(stub, invoice.payment_hash)
    assert paid["paid"] is True
    assert hashlib.sha256(bytes.fromhex(paid["preimage"])).hexdigest() == invoice.payment_hash


async def test_paying_twice_pays_once(redis: Redis, stub: StubNode, lightning: LnbitsLightning) -> None:
    first, second = await lightning.create_invoice(order(5)), await lightning.create_invoice(order(7))
    for payment_hash in (first.payment_hash, second.payment_hash, first.payment_hash):
        assert await stub.pay(payment_hash)
    assert await redis.get("satmeter:{stub}:balance_msat") == b"12000"
    listed = await lightning.settlements(100)
    assert [settlement.amount_msat for settlement in listed] == [Msat(7_000), Msat(5_000)]


@pytest.mark.parametrize("payment_hash", ["", "nonsense", "0" * 64])
async def test_an_unknown_invoice_can_t_be_paid(stub: StubNode, lightning: LnbitsLightning, payment_hash: str) -> None:
    assert not await stub.pay(payment_hash)
    assert await lightning.settlements(100) == []


async def test_an_invoice_can_be_paid_after_it_expired(redis: Redis, lightning: LnbitsLightning) -> None:
    invoice = await lightning.create_invoice(order(expiry_s=1))
    later = StubNode(redis, now_s=lambda: NOW_S + 3_600)
    assert await later.pay(invoice.payment_hash)
    assert await lightning.lookup(invoice.payment_hash) == Settlement(invoice.payment_hash, Msat(21_000), "job_1")


async def test_an_unpaid_invoice_leaves_the_store_a_week_after_its_expiry(
    redis: Redis, stub: StubNode, lightning: LnbitsLightning
) -> None:
    invoice = await lightning.create_invoice(order(expiry_s=600))
    key = f"satmeter:{{stub}}:payment:{invoice.payment_hash}"
    assert WEEK_S < await redis.ttl(key) <= WEEK_S + 600
    await stub.pay(invoice.payment_hash)
    assert await redis.ttl(key) == -1, "what was paid stays"


async def test_an_unpaid_invoice_costs_the_store_one_key(redis: Redis, lightning: LnbitsLightning) -> None:
    await lightning.create_invoice(order())
    before = await redis.dbsize()
    await lightning.create_invoice(order())
    assert await redis.dbsize() == before + 1


@pytest.mark.parametrize(
    "bad",
    [order(amount_sats=0), order(amount_sats=-1), order(expiry_s=0), order(memo="m" * 640), order(memo="é" * 320)],
    ids=["nothing", "negative", "expired", "long memo", "long in bytes"],
)
async def test_an_order_that_makes_no_invoice_is_refused(lightning: LnbitsLightning, bad: InvoiceOrder) -> None:
    with pytest.raises((PermanentError, TransientError)):
        await lightning.create_invoice(bad)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/v1/payments", b"{", 400),
        ("POST", "/api/v1/payments", b'{"amount": "21"}', 400),
        ("POST", "/api/v1/payments", b'{"amount": 21}', 400),  # `out` is true by default, as in LNbits
        ("GET", "/api/v1/payments", b"", 400),
        ("GET", f"/api/v1/payments/{'0' * 64}", b"", 404),
        ("GET", "/api/v1/audit", b"", 404),
        ("DELETE", "/api/v1/payments", b"", 404),
    ],
)
async def test_what_it_does_not_know_it_refuses(
    stub: StubNode, method: str, path: str, body: bytes, status: int
) -> None:
    async with httpx.AsyncClient(base_url=URL, transport=stub) as client:
        response = await client.request(method, path, content=body)
    assert response.status_code == status
    assert "detail" in response.json()


async def test_a_store_that_is_gone_is_a_node_that_is_down() -> None:
    gone: Redis = Redis(host="127.0.0.1", port=9, retry=Retry(NoBackoff(), 0))
    stub = StubNode(gone)
    lightning = lightning_over(stub)
    with pytest.raises(TransientError):
        await lightning.create_invoice(order())
    with pytest.raises(TransientError):
        await lightning.lookup(secrets.token_hex(32))
    with pytest.raises(TransientError):
        await lightning.check()
    with pytest.raises(TransientError):
        await stub.pay(secrets.token_hex(32))
    with pytest.raises(TransientError):
        await anext(stub.hints())
    await lightning.close()
    await gone.aclose()
