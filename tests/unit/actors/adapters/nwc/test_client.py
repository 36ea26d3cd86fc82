"""The client over a real relay, with wallets that differ from Alby Hub: see `tests/contract/nodes` for what all do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from satmeter.actors.adapters.nwc import client
from satmeter.actors.adapters.nwc.client import NwcLightning
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import InvoiceOrder, PermanentError, TransientError
from tests.lightning.stand_ins.nwc.books import Row, foreign_invoice, shown
from tests.lightning.stand_ins.nwc.relay import RelayProcess
from tests.lightning.stand_ins.nwc.wallet import METHODS, Manners, NwcWallet
from tests.lightning.waiting import soon
from tests.lightning.world import FUNDS_SATS, Fate

ACTOR = "job_0123456789abcdefghijklmnopqrstuv"
LIMIT = Msat(10_000)
TIMEOUT_S = 0.5


@asynccontextmanager
async def client_of(
    relay: RelayProcess, settles_s: float = 0, concurrency: int = 8, **manners: Any
) -> AsyncIterator[tuple[NwcWallet, NwcLightning]]:
    wallet = NwcWallet((relay.url,), manners=Manners(**manners))
    await wallet.start()
    lightning = NwcLightning(wallet.url(), timeout_s=TIMEOUT_S, concurrency=concurrency, settles_s=settles_s)
    try:
        yield wallet, lightning
    finally:
        await lightning.close()
        await wallet.stop()


def order(amount_sats: int = 21) -> InvoiceOrder:
    return InvoiceOrder(amount_sats, "memo", 600, ACTOR)


async def own_target(lightning: NwcLightning) -> PayoutTarget:
    read = read_invoice((await lightning.create_invoice(order(100))).payment_request)
    return PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)


def target(amount_sats: int = 100) -> PayoutTarget:
    return foreign_invoice(amount_sats, int(time.time()))


def without(*names: str) -> Any:
    """Return the way of a wallet that leaves these fields out of a row."""

    def show(row: Row) -> dict[str, Any]:
        return {name: value for name, value in shown(row).items() if name not in names}

    return show


async def test_an_invoice_over_the_hash_of_its_description_is_taken_and_credited(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay) as (wallet, lightning):
        wallet.books.hashes_descriptions = True
        made = await lightning.create_invoice(order())
        assert read_invoice(made.payment_request).description_hash
        await wallet.receive(made.payment_hash)
        paid = Settlement(made.payment_hash, Msat.from_sats(21), ACTOR)
        assert await lightning.lookup(made.payment_hash) == paid
        assert await lightning.settlements(5) == [paid]


@pytest.mark.parametrize("page_max", [1, 3, 50])
async def test_pages_are_put_together_whatever_their_size_at_the_wallet(
    nostr_relay: RelayProcess, page_max: int
) -> None:
    async with client_of(nostr_relay, page_max=page_max) as (wallet, lightning):
        made = [(await lightning.create_invoice(order(number))).payment_hash for number in range(1, 8)]
        for payment_hash in made:
            await wallet.receive(payment_hash)
        newest = made[::-1]
        assert [each.payment_hash for each in await lightning.settlements(5)] == newest[:5]
        assert [each.payment_hash for each in await lightning.settlements(5, 5)] == newest[5:]
        assert await lightning.settlements(5, 10) == []


async def test_a_page_that_is_larger_than_a_relay_takes_is_asked_for_in_parts(nostr_relay: RelayProcess) -> None:
    def show(row: Row) -> dict[str, Any]:
        return {**shown(row), "metadata": {"zap": "x" * 5_000}}

    async with client_of(nostr_relay, show=show) as (wallet, lightning):
        made = [wallet.books.make_invoice(1_000 + number, "a stranger's", 600) for number in range(45)]
        for row in made:
            wallet.books.receive(row.payment_hash)
        newest = [row.payment_hash for row in made[::-1]]
        assert [each.payment_hash for each in await lightning.settlements(100)] == newest
        assert lightning._page_max < 20
        asked = len(wallet.requests)
        assert [each.payment_hash for each in await lightning.settlements(100)] == newest
        assert len(wallet.requests) - asked <= 1 + 45 // lightning._page_max


async def test_a_wallet_that_is_away_does_not_shorten_pages(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay, hears_nothing=True) as (_, lightning):
        with pytest.raises(TransientError):
            await lightning.settlements(100)
        assert lightning._page_max == 20


async def test_payments_of_others_are_listed_without_an_actor(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay) as (wallet, lightning):
        row = wallet.books.make_invoice(5_000, "the operator's own", 600)
        wallet.books.receive(row.payment_hash)
        (settlement,) = await lightning.settlements(10)
        assert settlement.actor_id is None


async def test_a_row_that_cannot_be_credited_does_not_hold_up_the_others(nostr_relay: RelayProcess) -> None:
    def show(row: Row) -> dict[str, Any]:
        return {**shown(row), "amount": None} if row.amount == 1_000 else shown(row)

    async with client_of(nostr_relay, show=show) as (wallet, lightning):
        for amount_sats in (1, 2):
            await wallet.receive((await lightning.create_invoice(order(amount_sats))).payment_hash)
        assert [each.amount_msat for each in await lightning.settlements(10)] == [Msat(2_000)]


async def test_without_states_the_time_of_settlement_counts(nostr_relay: RelayProcess) -> None:
    def show(row: Row) -> dict[str, Any]:
        return {**without("state")(row), "created_at": row.created_at - 5}

    async with client_of(nostr_relay, show=show) as (wallet, lightning):
        payment_hash = (await lightning.create_invoice(order())).payment_hash
        assert await lightning.lookup(payment_hash) is None
        await wallet.receive(payment_hash)
        assert await lightning.lookup(payment_hash) is not None
        to = target()
        assert (await lightning.pay_out(to, ACTOR, LIMIT)).status is PayoutStatus.PAID
        assert (await lightning.payout(to, ACTOR)).status is PayoutStatus.PAID


async def test_a_lapsed_invoice_of_an_old_lnbits_is_not_taken_for_paid(nostr_relay: RelayProcess) -> None:
    def show(row: Row) -> dict[str, Any]:
        lapsed = row.state == "expired"
        return {**without("state")(row), "preimage": row.preimage, **({"settled_at": row.created_at} if lapsed else {})}

    async with client_of(nostr_relay, show=show) as (wallet, lightning):
        payment_hash = (await lightning.create_invoice(order())).payment_hash
        wallet.books.expire(payment_hash)
        with pytest.raises(PermanentError, match="does not tell whether an invoice was paid"):
            await lightning.lookup(payment_hash)


async def test_a_fee_that_the_wallet_keeps_to_itself_leaves_the_payout_open(nostr_relay: RelayProcess) -> None:
    manners = {"show": without("fees_paid"), "paid_answer": lambda row: {"preimage": row.preimage}}
    async with client_of(nostr_relay, **manners) as (_, lightning):
        to = target()
        assert await lightning.pay_out(to, ACTOR, LIMIT) == PayoutReport(PayoutStatus.PENDING)
        with pytest.raises(PermanentError, match="what the route of a payment cost"):
            await lightning.payout(to, ACTOR)


async def test_a_fee_that_only_the_look_up_tells_is_booked(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay, paid_answer=lambda row: {"preimage": row.preimage}) as (_, lightning):
        to = target()
        assert await lightning.pay_out(to, ACTOR, LIMIT) == PayoutReport(PayoutStatus.PENDING)
        assert await lightning.payout(to, ACTOR) == PayoutReport(PayoutStatus.PAID, Msat(1_000))


async def test_an_own_invoice_s_two_halves_are_told_apart(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay) as (_, lightning):
        to = await own_target(lightning)
        assert (await lightning.payout(to, ACTOR)).status is PayoutStatus.ABSENT
        assert (await lightning.pay_out(to, ACTOR, LIMIT)).status is PayoutStatus.PAID
        settlement = await lightning.lookup(to.payment_hash)
        assert settlement is not None
        assert settlement.amount_msat == to.amount_msat
        assert (await lightning.payout(to, ACTOR)).status is PayoutStatus.PAID


async def test_an_own_invoice_that_somebody_else_paid_tells_nothing_of_our_order(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay) as (wallet, lightning):
        to = await own_target(lightning)
        await wallet.receive(to.payment_hash)
        with pytest.raises(PermanentError, match="an invoice of its own"):
            await lightning.payout(to, ACTOR)


async def test_a_wallet_that_pages_in_a_circle_is_given_up(
    nostr_relay: RelayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PAGES_MAX", 5)
    async with client_of(nostr_relay) as (wallet, lightning):
        await wallet.receive((await lightning.create_invoice(order())).payment_hash)
        (row,) = wallet.books.rows
        wallet.books.listed = lambda direction, *, unpaid: [row] * 5_000  # type: ignore[method-assign]
        assert len(await lightning.settlements(50)) == 50
        with pytest.raises(TransientError, match="too many"):
            await lightning.payout(target_of(row), ACTOR)


def target_of(row: Row) -> PayoutTarget:
    return PayoutTarget(row.invoice, row.payment_hash, Msat(row.amount))


async def test_an_order_that_was_lost_is_absent_only_after_a_while(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay, settles_s=300) as (wallet, lightning):
        wallet.books.fates.append(Fate.NOT_RECEIVED)
        to = target()
        with pytest.raises(TransientError):
            await lightning.pay_out(to, ACTOR, LIMIT)
        with pytest.raises(TransientError, match="may still get the order"):
            await lightning.payout(to, ACTOR)


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("RESTRICTED", PayoutRefusal.KEY),
        ("QUOTA_EXCEEDED", PayoutRefusal.RULES),
        ("INSUFFICIENT_BALANCE", PayoutRefusal.FUNDS),
    ],
)
@pytest.mark.parametrize("named", ["code", "type"])
async def test_a_refusal_is_certain_at_once(
    nostr_relay: RelayProcess, code: str, refusal: PayoutRefusal, named: str
) -> None:
    async with client_of(nostr_relay, settles_s=300, refusal=(code, "no"), names_code=named) as (_, lightning):
        to = target()
        assert await lightning.pay_out(to, ACTOR, LIMIT) == PayoutReport(PayoutStatus.FAILED, refusal=refusal)
        assert (await lightning.payout(to, ACTOR)).status is PayoutStatus.ABSENT


async def test_an_internal_error_is_not_the_end_of_a_payment(nostr_relay: RelayProcess) -> None:
    """Alby Hub answers so when a payment takes too long, and goes on with it."""
    async with client_of(nostr_relay, settles_s=300) as (wallet, lightning):
        wallet.books.fates.append(Fate.PENDING)
        to = target()
        wallet.books.order(to.payment_request)
        report = await lightning.pay_out(to, ACTOR, LIMIT)
        assert report == PayoutReport(PayoutStatus.FAILED)
        assert (await lightning.payout(to, ACTOR)).status is PayoutStatus.PENDING


async def test_a_payment_that_failed_is_known_to_have_failed_when_its_invoice_lapses(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay, settles_s=300) as (wallet, lightning):
        wallet.books.fates.append(Fate.FAILED)
        to = target()
        await lightning.pay_out(to, ACTOR, LIMIT)
        assert (await lightning.payout(to, ACTOR)).status is PayoutStatus.FAILED
        row = wallet.books.payment(to.payment_hash)
        assert row is not None
        row.state = "expired"
        assert (await lightning.payout(to, ACTOR)).status is PayoutStatus.FAILED


@pytest.mark.parametrize("named", ["code", "type"])
async def test_the_check_fails_with_a_wallet_that_does_not_serve_us(nostr_relay: RelayProcess, named: str) -> None:
    async with client_of(nostr_relay, names_code=named) as (wallet, lightning):
        await lightning.check()
        assert await lightning.balance() == Msat.from_sats(FUNDS_SATS)
        wallet.manners.methods = tuple(method for method in METHODS if method != "lookup_invoice")
        with pytest.raises(PermanentError, match="RESTRICTED"):
            await lightning.check()


async def test_a_wallet_that_is_away_is_told_within_the_time_out(nostr_relay: RelayProcess) -> None:
    async with client_of(nostr_relay, concurrency=2, hears_nothing=True) as (_, lightning):
        async with asyncio.timeout(20 * TIMEOUT_S):
            answers = await asyncio.gather(
                *(lightning.lookup(f"{number:064x}") for number in range(5)), return_exceptions=True
            )
        assert all(isinstance(answer, TransientError) for answer in answers)


async def test_closing_leaves_no_thread_and_no_task(nostr_relay: RelayProcess) -> None:
    def threads() -> int:
        folder = Path("/proc/self/task")
        return len(list(folder.iterdir())) if folder.exists() else 0

    before, tasks = threads(), asyncio.all_tasks()
    async with client_of(nostr_relay) as (_, lightning):
        await lightning.check()
        assert threads() == before, "the library has begun a runtime of its own"
    await soon(lambda: asyncio.all_tasks() == tasks)
