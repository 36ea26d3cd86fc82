"""One contract for payouts, held by a real LNbits and by the stub node alike."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.adapters.stub.node import KEY, URL, StubNode
from satmeter.actors.domain.behaviour import Done
from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.intents import SendPayout
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payout_flow import fold, intents, outcome, start
from satmeter.actors.domain.payments.payouts import (
    OwingBooks,
    PayoutRefusal,
    PayoutReport,
    PayoutStatus,
    PayoutTarget,
    Refunds,
    network_of,
    payout_refusal,
)
from satmeter.actors.effects.payout_calls import PayoutCalls
from satmeter.actors.ports import InvoiceOrder, PermanentError
from tests.helpers.invoices import FEE_LIMIT
from tests.helpers.jobs import FEES
from tests.lnbits.server import Lnbits

ACTOR = "ses_0123456789abcdefghijklmnopqrstuv"
OTHER_ACTOR = "ses_vutsrqponmlkjihgfedcba9876543210"
FUNDS_SATS = 10_000

PAID = PayoutReport(PayoutStatus.PAID)
FAILED = PayoutReport(PayoutStatus.FAILED)
NO_KEY = PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)
NO_FUNDS = PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.FUNDS)
ABSENT = PayoutReport(PayoutStatus.ABSENT)


@dataclass(frozen=True)
class Node:
    """A node under test, with `FUNDS_SATS` in our wallet: our client, and a way to get invoices of a customer's."""

    lightning: LnbitsLightning
    raw: httpx.AsyncClient
    """The API as the owner of our wallet sees it."""
    customer_invoice: Callable[[int], Awaitable[str]]

    async def target(self, amount_sats: int) -> PayoutTarget:
        """An invoice of a customer's wallet."""
        return target_of(await self.customer_invoice(amount_sats))

    async def balance_sats(self) -> int:
        """Return the balance of our wallet."""
        return await balance_sats(self.raw)


def target_of(payment_request: str) -> PayoutTarget:
    read = read_invoice(payment_request)
    return PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)


def foreign_target() -> PayoutTarget:
    """An invoice of a node that nobody knows."""
    payment_request = sign_invoice(
        secrets.token_hex(32),
        payment_hash=secrets.token_hex(32),
        payment_secret=secrets.token_hex(32),
        amount_msat=Msat(21_000),
        memo="",
        at_s=int(time.time()),
        expiry_s=600,
    )
    return target_of(payment_request)


async def balance_sats(wallet: httpx.AsyncClient) -> int:
    balance_msat: int = (await wallet.get("/api/v1/wallet")).raise_for_status().json()["balance"]
    return balance_msat // 1_000


class PayoutContract:
    """Contract of every node."""

    async def test_an_invoice_is_paid_and_the_node_says_so_later_too(self, node: Node) -> None:
        target = await node.target(250)
        assert await node.lightning.payout(target, ACTOR) == ABSENT
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == PAID
        assert await node.lightning.payout(target, ACTOR) == PAID
        assert await node.balance_sats() == FUNDS_SATS - 250

    async def test_a_second_order_does_not_pay_twice_nor_unpay(self, node: Node) -> None:
        target = await node.target(250)
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == PAID
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) != PAID
        assert await node.lightning.payout(target, ACTOR) == PAID
        assert await node.balance_sats() == FUNDS_SATS - 250

    async def test_orders_at_once_pay_once(self, node: Node) -> None:
        target = await node.target(250)
        reports = await asyncio.gather(*(node.lightning.pay_out(target, ACTOR, FEE_LIMIT) for _ in range(5)))
        assert reports.count(PAID) == 1
        assert await node.balance_sats() == FUNDS_SATS - 250

    async def test_an_unknown_payment_is_absent(self, node: Node) -> None:
        target = PayoutTarget("lnbc1unknown", secrets.token_hex(32), Msat(1_000))
        assert await node.lightning.payout(target, ACTOR) == ABSENT

    async def test_more_than_the_wallet_has_is_not_paid(self, node: Node) -> None:
        target = await node.target(FUNDS_SATS + 1)
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == NO_FUNDS
        assert await node.lightning.payout(target, ACTOR) == ABSENT
        assert await node.balance_sats() == FUNDS_SATS

    async def test_what_is_no_invoice_is_not_paid(self, node: Node) -> None:
        target = PayoutTarget("lnbc1nonsense", secrets.token_hex(32), Msat(1_000))
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == FAILED
        assert await node.lightning.payout(target, ACTOR) == ABSENT

    async def test_an_invoice_of_our_own_wallet_is_paid_and_settled(self, node: Node) -> None:
        own = await node.lightning.create_invoice(InvoiceOrder(250, "deposit", 600, OTHER_ACTOR))
        target = target_of(own.payment_request)
        assert await node.lightning.payout(target, ACTOR) == ABSENT, "what may come in has not gone out"
        assert await node.lightning.lookup(own.payment_hash) is None
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == PAID
        assert await node.lightning.payout(target, ACTOR) == PAID
        settlement = Settlement(own.payment_hash, Msat(250_000), OTHER_ACTOR)
        assert await node.lightning.lookup(own.payment_hash) == settlement
        assert settlement in await node.lightning.settlements(100)
        assert await node.balance_sats() == FUNDS_SATS

    async def test_an_unpaid_invoice_of_the_node_is_its_own(self, node: Node) -> None:
        own = await node.lightning.create_invoice(InvoiceOrder(250, "deposit", 600, OTHER_ACTOR))
        assert await node.lightning.is_own(target_of(own.payment_request))
        assert await node.lightning.pay_out(target_of(own.payment_request), ACTOR, FEE_LIMIT) == PAID
        assert not await node.lightning.is_own(target_of(own.payment_request))
        assert not await node.lightning.is_own(foreign_target())

    async def test_another_actor_s_payment_is_a_failure_of_ours(self, node: Node) -> None:
        target = await node.target(250)
        assert await node.lightning.pay_out(target, OTHER_ACTOR, FEE_LIMIT) == PAID
        assert await node.lightning.payout(target, ACTOR) == FAILED
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) != PAID
        assert await node.lightning.payout(target, ACTOR) == FAILED
        assert await node.lightning.payout(target, OTHER_ACTOR) == PAID

    async def test_a_payment_credits_nothing(self, node: Node) -> None:
        target = await node.target(250)
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == PAID
        assert await node.lightning.lookup(target.payment_hash) is None
        listed = await node.lightning.settlements(100)
        assert target.payment_hash not in [settlement.payment_hash for settlement in listed]

    async def test_what_went_out_is_listed_newest_first_and_missing_from_the_wallet(self, node: Node) -> None:
        targets = [await node.target(amount_sats) for amount_sats in (250, 350)]
        for target in targets:
            assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == PAID
        listed = await node.lightning.sent(100)
        assert [(p.payment_hash, p.amount_msat, p.fee_msat, p.actor_id) for p in listed] == [
            (target.payment_hash, target.amount_msat, ZERO, ACTOR) for target in reversed(targets)
        ]
        assert await node.lightning.sent(1, 1) == listed[1:]
        assert await node.lightning.balance() == Msat.from_sats(FUNDS_SATS - 600)

    async def test_a_wallet_knows_what_it_received_and_nothing_else(self, node: Node) -> None:
        own = await node.lightning.create_invoice(InvoiceOrder(250, "deposit", 600, ACTOR))
        # A wallet that was restored may have forgotten that the invoice was paid.
        assert not await node.lightning.received(own.payment_hash)
        assert await node.lightning.pay_out(target_of(own.payment_request), ACTOR, FEE_LIMIT) == PAID
        assert await node.lightning.received(own.payment_hash)
        assert not await node.lightning.received(secrets.token_hex(32))

    async def test_a_payment_by_hand_is_not_ours(self, node: Node) -> None:
        target = await node.target(250)
        body = {"out": True, "bolt11": target.payment_request}
        (await node.raw.post("/api/v1/payments", json=body)).raise_for_status()
        assert await node.lightning.payout(target, ACTOR) == FAILED


class TestLnbits(PayoutContract):
    """The contract, and what only a real LNbits can show."""

    @pytest.fixture
    async def customer(self, lnbits: Lnbits) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=lnbits.url, headers={"X-Api-Key": lnbits.payee.invoice_key}) as client:
            yield client

    @pytest.fixture
    async def node(self, lnbits: Lnbits, customer: httpx.AsyncClient) -> AsyncIterator[Node]:
        async def customer_invoice(amount_sats: int) -> str:
            return await _invoice(customer, amount_sats)

        async with (
            httpx.AsyncClient(base_url=lnbits.url, headers={"X-Api-Key": lnbits.payer.admin_key}) as payer,
            httpx.AsyncClient(base_url=lnbits.url) as ours,
        ):
            # A wallet for each test, filled by the payer.
            wallet = (await ours.post("/api/v1/account", json={"name": "test"})).raise_for_status().json()
            ours.cookies.clear()
            ours.headers["X-Api-Key"] = wallet["adminkey"]
            funding = {"out": True, "bolt11": await _invoice(ours, FUNDS_SATS)}
            (await payer.post("/api/v1/payments", json=funding)).raise_for_status()
            lightning = _client(lnbits, wallet["inkey"], wallet["adminkey"])
            yield Node(lightning, ours, customer_invoice)
            await lightning.close()

    async def test_the_customer_gets_what_was_paid(self, node: Node, customer: httpx.AsyncClient) -> None:
        before = await balance_sats(customer)
        target = await node.target(250)
        for _ in range(2):
            await node.lightning.pay_out(target, ACTOR, FEE_LIMIT)
        assert await balance_sats(customer) == before + 250

    async def test_all_that_is_owed_is_paid_within_lnbits_exactly(
        self, node: Node, customer: httpx.AsyncClient
    ) -> None:
        """LNbits sets nothing aside for its own invoices either, so that the wallet may hold no more."""
        before = await balance_sats(customer)
        target = replace(await node.target(FUNDS_SATS), internal=True)
        assert await node.lightning.is_own(target)
        books, refunds = OwingBooks(owed=Msat.from_sats(FUNDS_SATS)), Refunds()
        assert payout_refusal(refunds, target, books.owed, FEES, network_of(target.payment_request)) is None
        books, refunds = fold(books, refunds, start(refunds, books.owed, target, FEES, None, 1))
        (sending,) = intents(ACTOR, refunds, FEES, ())
        assert isinstance(sending, SendPayout) and sending.fee_limit_msat == ZERO
        report = await PayoutCalls(node.lightning, asyncio.sleep, lambda: 2).send(sending)
        paid = outcome(refunds, Done(sending, report), 3)
        assert paid is not None
        assert fold(books, refunds, paid)[0] == OwingBooks(refunded=Msat.from_sats(FUNDS_SATS))
        assert (await balance_sats(customer), await node.balance_sats()) == (before + FUNDS_SATS, 0)

    async def test_a_payment_that_the_node_could_not_make_failed_for_good(self, node: Node) -> None:
        # LNbits's test node pays no invoice that it did not make.
        target = foreign_target()
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == FAILED
        assert await node.lightning.payout(target, ACTOR) == FAILED
        # The second time LNbits shows the failed payment as if it had taken the order.
        assert await node.lightning.pay_out(target, ACTOR, FEE_LIMIT) == PayoutReport(PayoutStatus.PENDING)
        assert await node.lightning.payout(target, OTHER_ACTOR) == FAILED
        assert await node.balance_sats() == FUNDS_SATS

    async def test_an_invoice_key_or_a_wrong_key_pays_nothing(self, lnbits: Lnbits, node: Node) -> None:
        target = await node.target(250)
        for key in (lnbits.payer.invoice_key, "0" * 32):
            wrong = _client(lnbits, lnbits.payer.invoice_key, key)
            assert await wrong.pay_out(target, ACTOR, FEE_LIMIT) == NO_KEY
            await wrong.close()
        assert await node.lightning.payout(target, ACTOR) == ABSENT

    async def test_a_wrong_key_is_not_told_that_there_is_no_payment(self, lnbits: Lnbits, node: Node) -> None:
        target = await node.target(250)
        await node.lightning.pay_out(target, ACTOR, FEE_LIMIT)
        wrong = _client(lnbits, lnbits.payer.invoice_key, "0" * 32)
        with pytest.raises(PermanentError):
            await wrong.payout(target, ACTOR)
        await wrong.close()

    async def test_another_wallet_does_not_know_what_ours_received(self, lnbits: Lnbits, node: Node) -> None:
        """Neither an open invoice nor a payment that has settled, which LNbits confirms to anybody."""
        own = await node.lightning.create_invoice(InvoiceOrder(250, "deposit", 600, ACTOR))
        other = _client(lnbits, lnbits.payer.invoice_key, lnbits.payer.admin_key)
        assert not await other.received(own.payment_hash)
        assert await node.lightning.pay_out(target_of(own.payment_request), ACTOR, FEE_LIMIT) == PAID
        assert not await other.received(own.payment_hash)
        assert await node.lightning.received(own.payment_hash)
        await other.close()

    async def test_an_order_of_the_wrong_shape_is_refused_before_it_is_looked_at(self, node: Node) -> None:
        broken: Any = PayoutTarget(["lnbc1"], secrets.token_hex(32), Msat(1_000))  # type: ignore[arg-type]
        assert await node.lightning.pay_out(broken, ACTOR, FEE_LIMIT) == FAILED


class TestStubNode(PayoutContract):
    """The contract, held by the stub."""

    @pytest.fixture
    async def node(self, redis: Redis) -> AsyncIterator[Node]:
        stub = StubNode(redis)

        async def customer_invoice(amount_sats: int) -> str:
            return (await stub.invoice(amount_sats)).payment_request

        lightning = LnbitsLightning(
            URL, KEY, admin_key=KEY, timeout_s=5, concurrency=4, transport=stub, hints=stub.hints
        )
        async with httpx.AsyncClient(base_url=URL, transport=stub) as raw:
            funding = await lightning.create_invoice(InvoiceOrder(FUNDS_SATS, "funds", 600, "ses_funder"))
            assert await stub.pay(funding.payment_hash)
            yield Node(lightning, raw, customer_invoice)
        await lightning.close()


def _client(lnbits: Lnbits, invoice_key: str, admin_key: str) -> LnbitsLightning:
    return LnbitsLightning(lnbits.url, invoice_key, admin_key=admin_key, timeout_s=10, concurrency=4)


async def _invoice(wallet: httpx.AsyncClient, amount_sats: int) -> str:
    body = {"out": False, "amount": amount_sats, "unit": "sat", "memo": "payout"}
    payment_request: str = (await wallet.post("/api/v1/payments", json=body)).raise_for_status().json()["bolt11"]
    return payment_request
