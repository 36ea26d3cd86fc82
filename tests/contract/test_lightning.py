"""One contract for the port, held by a real LNbits and by the stub node alike."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.stub.node import KEY, URL, StubNode
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11_reading import read_fields
from satmeter.actors.domain.payments.invoices import Invoice, Settlement
from satmeter.actors.domain.quotes import digest_in
from satmeter.actors.ports import InvoiceOrder, PermanentError, TransientError
from tests.helpers.hosts import until
from tests.helpers.patience import PATIENCE_S
from tests.lnbits.server import Lnbits

ACTOR_ID = "job_0123456789abcdefghijklmnopqrstuv"
_CLOCK_SLACK_MS = 5_000


@dataclass(frozen=True)
class Node:
    """A node under test: our client for it, a way to pay, and a way to put any text on its push channel."""

    lightning: LnbitsLightning
    pay: Callable[[Invoice], Awaitable[None]]
    push: Callable[[str], Awaitable[None]]
    raw: httpx.AsyncClient
    """The API as anyone with the invoice key sees it."""


def order(amount_sats: int = 21, *, expiry_s: int = 600, actor_id: str = ACTOR_ID) -> InvoiceOrder:
    return InvoiceOrder(amount_sats, "Satmeter: evaluation of a request", expiry_s, actor_id)


class Hearing:
    """Listens to a node's hints, from `__aenter__` on."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    async def __aenter__(self) -> Hearing:
        self._task = asyncio.create_task(self._listen())
        # The connection stands once anything comes through.
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self._node.push(claim_about(secrets.token_hex(32)))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._heard.get(), 0.1)
                    return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        async for payment_hash in self._node.lightning.hints():
            self._heard.put_nowait(payment_hash)

    async def until(self, payment_hash: str) -> None:
        """Returns when this hash was hinted."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._heard.get() != payment_hash:
                pass


def claim_about(payment_hash: str) -> str:
    """Make up the message that LNbits pushes when a payment arrives."""
    payment = f'{{"payment_hash": "{payment_hash}", "amount": 21000, "status": "success", "preimage": "{"0" * 64}"}}'
    return f'{{"wallet_balance": 21, "payment": {payment}}}'


class LightningContract:
    """Contract of every node."""

    async def test_an_invoice_is_real_bolt11_over_what_was_ordered(self, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order(1_234, expiry_s=700))
        said = read_fields(invoice.payment_request)
        assert said.amount_msat == 1_234_000 == invoice.amount_sats * 1_000
        assert said.payment_hash == invoice.payment_hash
        assert said.memo == "Satmeter: evaluation of a request"
        assert abs(invoice.expires_at_ms - (time.time_ns() // 1_000_000 + 700_000)) < _CLOCK_SLACK_MS

    async def test_a_memo_that_commits_to_a_quote_is_signed_as_it_is(self, node: Node) -> None:
        """As text, and not as its digest: the payer of the invoice can read what it commits to."""
        memo = f"Satmeter: work by {'m' * 200}, quote sha256:{'0a' * 32}"
        invoice = await node.lightning.create_invoice(InvoiceOrder(9, memo, 600, ACTOR_ID))
        assert read_fields(invoice.payment_request).memo == memo
        assert digest_in(memo) == "0a" * 32

    async def test_an_unpaid_invoice_is_not_settled(self, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order())
        assert await node.lightning.lookup(invoice.payment_hash) is None
        assert await node.lightning.settlements(100) == []

    async def test_an_unknown_hash_is_not_settled(self, node: Node) -> None:
        assert await node.lightning.lookup(secrets.token_hex(32)) is None

    @pytest.mark.parametrize("text", ["", "..", "../wallet", "A" * 64, "0" * 63, "0" * 65, "é" * 64])
    async def test_what_is_no_hash_is_not_settled(self, node: Node, text: str) -> None:
        assert await node.lightning.lookup(text) is None

    async def test_a_paid_invoice_is_settled_with_its_amount_and_its_actor(self, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order(77))
        await node.pay(invoice)
        assert await node.lightning.lookup(invoice.payment_hash) == Settlement(
            invoice.payment_hash, Msat(77_000), ACTOR_ID
        )

    async def test_the_settled_ones_are_listed_newest_payment_first(self, node: Node) -> None:
        made = [await node.lightning.create_invoice(order(amount_sats)) for amount_sats in (1, 2, 3, 4)]
        for index in (2, 0, 3):
            await node.pay(made[index])
        listed = await node.lightning.settlements(100)
        assert [settlement.amount_msat for settlement in listed] == [Msat(4_000), Msat(1_000), Msat(3_000)]
        assert {settlement.actor_id for settlement in listed} == {ACTOR_ID}

    async def test_the_list_comes_in_pages(self, node: Node) -> None:
        for amount_sats in (1, 2, 3):
            await node.pay(await node.lightning.create_invoice(order(amount_sats)))
        pages = [await node.lightning.settlements(2, offset) for offset in (0, 2, 4)]
        assert [[settlement.amount_msat.whole_sats for settlement in page] for page in pages] == [[3, 2], [1], []]

    async def test_many_look_ups_at_once_are_answered_like_each_alone(self, node: Node) -> None:
        made = [await node.lightning.create_invoice(order(1 + number)) for number in range(9)]
        for invoice in made[:3]:
            await node.pay(invoice)
        made.append(lapsed := await node.lightning.create_invoice(order(50, expiry_s=1)))

        async def is_over() -> bool:
            return time.time_ns() // 1_000_000 > lapsed.expires_at_ms + 1_000

        await until(is_over)
        hashes = [secrets.token_hex(32), *(invoice.payment_hash for invoice in made)]
        together = await asyncio.gather(*(node.lightning.lookup(payment_hash) for payment_hash in hashes))
        paid = [Settlement(invoice.payment_hash, Msat.from_sats(invoice.amount_sats), ACTOR_ID) for invoice in made[:3]]
        assert together == [None, *paid, *[None] * 7]
        assert together == [await node.lightning.lookup(payment_hash) for payment_hash in hashes]

    async def test_a_list_by_hashes_holds_the_incoming_payments_with_them_and_no_other(self, node: Node) -> None:
        made = [await node.lightning.create_invoice(order(1 + number)) for number in range(4)]
        await node.pay(made[0])
        hashes = [secrets.token_hex(32), *(invoice.payment_hash for invoice in made[:3])]
        query = {"payment_hash[in]": ",".join(hashes), "amount[gt]": "0", "recheck_pending": "true", "limit": "4"}
        rows = (await node.raw.get("/api/v1/payments/paginated", params=query)).raise_for_status().json()["data"]
        assert {(row["payment_hash"], row["status"]) for row in rows} == {
            (hashes[1], "success"),
            (hashes[2], "pending"),
            (hashes[3], "pending"),
        }

    async def test_a_payment_is_hinted_at_once(self, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order())
        async with Hearing(node) as hearing:
            await node.pay(invoice)
            await hearing.until(invoice.payment_hash)

    async def test_a_forged_push_is_only_a_hint_and_the_node_says_unpaid(self, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order())
        async with Hearing(node) as hearing:
            for noise in ("", "null", "[]", '{"payment": 1}', '{"payment": {"payment_hash": "x"}}', "{" * 1_000):
                await node.push(noise)
            await node.push(claim_about(invoice.payment_hash))
            await hearing.until(invoice.payment_hash)
        assert await node.lightning.lookup(invoice.payment_hash) is None
        assert await node.lightning.settlements(100) == []

    async def test_a_node_that_serves_passes_the_check(self, node: Node) -> None:
        await node.lightning.check()

    async def test_the_preimage_of_an_unpaid_invoice_is_never_in_what_we_keep(self, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order())
        answer = (await node.raw.get(f"/api/v1/payments/{invoice.payment_hash}")).json()
        known = answer.get("preimage") or answer["details"].get("preimage")
        if known is not None:  # LNbits tells it to the owner's key before anybody has paid.
            assert hashlib.sha256(bytes.fromhex(known)).hexdigest() == invoice.payment_hash
        assert known is None or known not in repr(invoice)
        assert await node.lightning.lookup(invoice.payment_hash) is None


class TestLnbits(LightningContract):
    """The contract, and what only a real LNbits can show."""

    @pytest.fixture
    async def node(self, lnbits: Lnbits) -> AsyncIterator[Node]:
        async with (
            httpx.AsyncClient(base_url=lnbits.url, headers={"X-Api-Key": lnbits.payer.admin_key}) as payer,
            httpx.AsyncClient(base_url=lnbits.url) as anyone,
        ):
            # A wallet for each test, so that it starts empty.
            wallet = (await anyone.post("/api/v1/account", json={"name": "test"})).raise_for_status().json()
            anyone.cookies.clear()

            async def pay(invoice: Invoice) -> None:
                body = {"out": True, "bolt11": invoice.payment_request}
                paid = (await payer.post("/api/v1/payments", json=body)).raise_for_status().json()
                assert paid["status"] == "success"

            async def push(text: str) -> None:
                (await anyone.post(f"/api/v1/ws/{wallet['inkey']}", params={"data": text})).raise_for_status()

            lightning = LnbitsLightning(lnbits.url, wallet["inkey"], timeout_s=10, concurrency=4)
            anyone.headers["X-Api-Key"] = wallet["inkey"]
            yield Node(lightning, pay, push, anyone)
            await lightning.close()

    async def test_a_wrong_key_is_a_permanent_failure_of_every_call(self, lnbits: Lnbits, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order())
        await node.pay(invoice)
        wrong = LnbitsLightning(lnbits.url, "0" * 32, timeout_s=10, concurrency=4)
        with pytest.raises(PermanentError):
            await wrong.check()
        with pytest.raises(PermanentError):
            await wrong.create_invoice(order())
        with pytest.raises(PermanentError):
            await wrong.settlements(100)
        with pytest.raises(PermanentError):
            await wrong.lookup(invoice.payment_hash)
        await wrong.close()

    async def test_another_wallet_s_payment_is_none_of_ours(self, lnbits: Lnbits, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order())
        await node.pay(invoice)
        other = LnbitsLightning(lnbits.url, lnbits.payee.invoice_key, timeout_s=10, concurrency=4)
        assert await other.lookup(invoice.payment_hash) is None
        await other.close()

    async def test_a_payment_that_went_out_credits_nothing(self, lnbits: Lnbits, node: Node) -> None:
        invoice = await node.lightning.create_invoice(order())
        await node.pay(invoice)
        paid_from = LnbitsLightning(lnbits.url, lnbits.payer.invoice_key, timeout_s=10, concurrency=4)
        assert await paid_from.lookup(invoice.payment_hash) is None
        assert invoice.payment_hash not in [each.payment_hash for each in await paid_from.settlements(100)]
        await paid_from.close()

    async def test_an_invoice_that_the_same_wallet_pays_is_settled_too(self, lnbits: Lnbits) -> None:
        lightning = LnbitsLightning(lnbits.url, lnbits.payer.invoice_key, timeout_s=10, concurrency=4)
        invoice = await lightning.create_invoice(order(5))
        async with httpx.AsyncClient(base_url=lnbits.url, headers={"X-Api-Key": lnbits.payer.admin_key}) as payer:
            body = {"out": True, "bolt11": invoice.payment_request}
            (await payer.post("/api/v1/payments", json=body)).raise_for_status()
        assert await lightning.lookup(invoice.payment_hash) == Settlement(invoice.payment_hash, Msat(5_000), ACTOR_ID)
        await lightning.close()

    async def test_payments_of_others_in_the_wallet_are_not_listed(self, node: Node) -> None:
        body = {"out": False, "amount": 9, "unit": "sat", "memo": "not ours"}
        made = (await node.raw.post("/api/v1/payments", json=body)).raise_for_status().json()
        await node.pay(Invoice(made["bolt11"], made["payment_hash"], 9, 0))
        assert await node.lightning.settlements(100) == []
        assert await node.lightning.lookup(made["payment_hash"]) == Settlement(made["payment_hash"], Msat(9_000), None)

    async def test_no_node_breaks_the_hints_for_the_time_being(self) -> None:
        lightning = LnbitsLightning("http://127.0.0.1:9", "key-that-must-not-show", timeout_s=1, concurrency=1)
        with pytest.raises(TransientError) as caught:
            await anext(lightning.hints())
        assert "key-that-must-not-show" not in str(caught.value)
        await lightning.close()


class TestStubNode(LightningContract):
    """The contract, held by the stub."""

    @pytest.fixture
    async def node(self, redis: Redis) -> AsyncIterator[Node]:
        stub = StubNode(redis)

        async def pay(invoice: Invoice) -> None:
            preimage = await stub.pay(invoice.payment_hash)
            assert preimage is not None
            assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == invoice.payment_hash

        async def push(text: str) -> None:
            # The channel carries bare hashes; noise comes through as it is.
            _, _, rest = text.partition('"payment_hash": "')
            await redis.publish("satmeter:{stub}:hints", rest[:64] or text)

        lightning = LnbitsLightning(URL, KEY, timeout_s=5, concurrency=4, transport=stub, hints=stub.hints)
        async with httpx.AsyncClient(base_url=URL, transport=stub) as raw:
            yield Node(lightning, pay, push, raw)
        await lightning.close()
