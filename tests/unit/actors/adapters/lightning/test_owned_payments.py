"""Owners of payments at a node that does not keep them: the first claim wins, before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from satmeter.actors.adapters.lightning.descriptions import actor_in, description_of
from satmeter.actors.adapters.lightning.invoice_ids import is_of
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from satmeter.actors.ports import InvoiceOrder, TransientError
from tests.helpers.fakes import FakeBindings, FakeLightning
from tests.helpers.invoices import FEE_LIMIT
from tests.helpers.payout_owners import OwnersInMemory, owned
from tests.helpers.sessions import target
from tests.lightning.keys import KeyInMemory

ONE, TWO = target(1, 900), target(2, 800)
PAID, FAILED, ABSENT = map(PayoutReport, (PayoutStatus.PAID, PayoutStatus.FAILED, PayoutStatus.ABSENT))


@dataclass
class BareNode(FakeLightning):
    """A node that tells everybody of every payment, and lists them without an owner."""

    by_hand: list[SentPayment] = field(default_factory=list)

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        await self._called("payout")
        return self.outgoing.get(target.payment_hash, ABSENT)

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        ours = await super().sent(1_000)
        return [*self.by_hand, *(SentPayment(p.row_id, p.payment_hash, p.amount_msat, p.fee_msat, "") for p in ours)]


@dataclass
class Scene:
    """A bare node, the store's record of owners, and the wallet over both."""

    node: BareNode = field(default_factory=BareNode)
    owners: OwnersInMemory = field(default_factory=OwnersInMemory)
    bindings: FakeBindings = field(default_factory=FakeBindings)
    key: KeyInMemory = field(default_factory=KeyInMemory)

    def __post_init__(self) -> None:
        self.wallet = owned(self.node, self.owners, self.bindings, self.key)


async def test_an_actor_pays_and_looks_up_its_own_payment() -> None:
    scene = Scene()
    assert await scene.wallet.pay_out(ONE, "ses_1", Msat(7)) == PAID
    assert await scene.wallet.payout(ONE, "ses_1") == PAID
    assert scene.node.payout_orders == [(ONE, "ses_1")] and scene.node.fee_limits_msat == [7]


async def test_an_invoice_that_another_actor_pays_is_not_paid_a_second_time() -> None:
    scene = Scene()
    await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT)
    assert await scene.wallet.pay_out(ONE, "ses_2", FEE_LIMIT) == FAILED
    assert await scene.wallet.payout(ONE, "ses_2") == FAILED
    assert await scene.wallet.payout(ONE, "ses_1") == PAID
    assert scene.node.payout_orders == [(ONE, "ses_1")]


async def test_of_many_actors_with_one_invoice_one_pays() -> None:
    scene = Scene()
    reports = await asyncio.gather(*(scene.wallet.pay_out(ONE, f"ses_{n}", FEE_LIMIT) for n in range(20)))
    assert sorted(reports, key=str) == sorted([PAID] + [FAILED] * 19, key=str) and len(scene.node.payout_orders) == 1


async def test_a_claim_that_cannot_be_written_stops_the_order() -> None:
    scene = Scene(owners=OwnersInMemory(fault=TransientError("the store is away")))
    for ask in (scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT), scene.wallet.payout(ONE, "ses_1")):
        with pytest.raises(TransientError, match="the store is away"):
            await ask
    assert scene.node.calls == []


async def test_a_payment_by_hand_is_the_actors_that_asks() -> None:
    scene = Scene()
    scene.node.outgoing[ONE.payment_hash] = PAID
    assert await scene.wallet.payout(ONE, "ses_1") == PAID
    assert await scene.wallet.payout(TWO, "ses_1") == ABSENT


async def test_a_claim_that_the_store_lost_is_taken_back_by_the_next_look_up() -> None:
    scene = Scene()
    scene.node.payout_script = [TransientError("cut off")]
    scene.node.pays_before_fault = True
    with pytest.raises(TransientError):
        await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT)
    scene.owners.owners.clear()  # a failover to a replica that had not heard of it
    assert await scene.wallet.payout(ONE, "ses_1") == PAID
    assert await scene.wallet.pay_out(ONE, "ses_2", FEE_LIMIT) == FAILED
    assert await scene.wallet.payout(ONE, "ses_2") == FAILED


async def test_what_was_sent_names_its_owner_and_the_operators_own_payments_none() -> None:
    scene = Scene()
    by_hand = SentPayment("9", "ee" * 32, Msat(5_000), Msat(1), "")
    scene.node.by_hand = [by_hand]
    await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT)
    await scene.wallet.pay_out(TWO, "ses_2", FEE_LIMIT)
    sent = await scene.wallet.sent(100)
    assert sent[0] == by_hand and [payment.actor_id for payment in sent] == ["", "ses_2", "ses_1"]
    assert scene.owners.asked[-1] == ["ee" * 32, TWO.payment_hash, ONE.payment_hash]


async def test_all_else_is_the_nodes() -> None:
    scene = Scene(node=BareNode(wallet_msat=5, troubled="cannot_pay"))
    invoice = await scene.wallet.create_invoice(InvoiceOrder(3, "memo", 60, "ses_1"))
    scene.node.pay(invoice.payment_hash)
    settled = await scene.wallet.lookup(invoice.payment_hash)
    assert settled is not None and await scene.wallet.settlements(5) == [settled]
    assert await scene.wallet.received(invoice.payment_hash) and await scene.wallet.balance() == Msat(5)
    assert await scene.wallet.trouble() == "cannot_pay"
    await scene.wallet.check()
    scene.node.hint_queue.put_nowait("ab")
    assert await anext(aiter(scene.wallet.hints())) == "ab"
    await scene.wallet.close()


async def test_an_invoice_is_bound_to_its_actor_and_shows_no_trace_of_it() -> None:
    scene = Scene()
    invoice = await scene.wallet.create_invoice(InvoiceOrder(3, "memo", 60, "job_1"))
    ordered = scene.node.orders[invoice.payment_hash]
    assert "job_1" not in description_of(ordered)
    scene.node.pay(invoice.payment_hash)
    (settled,) = await scene.wallet.settlements(5)
    assert settled.made_ahead and actor_in(description_of(ordered)) == settled.actor_id
    assert await scene.bindings.owners_of_paid([invoice.payment_hash]) == {invoice.payment_hash: "job_1"}


async def test_an_invoice_made_ahead_gets_its_owner_later() -> None:
    scene = Scene()
    invoice = await scene.wallet.create_invoice(InvoiceOrder(3, "memo", 60, "pool_1"))
    named = scene.node.orders[invoice.payment_hash].actor_id
    assert scene.key.key is not None and is_of(scene.key.key, named) and scene.bindings.owners == {}
    scene.node.pay(invoice.payment_hash)
    (settled,) = await scene.wallet.settlements(5)
    assert settled.made_ahead and not settled.foreign


async def test_an_invoice_of_another_store_and_one_in_a_strangers_words_are_foreign() -> None:
    scene = Scene()
    other = owned(scene.node, OwnersInMemory(), FakeBindings(), KeyInMemory(first=b"x" * 32))
    theirs = await other.create_invoice(InvoiceOrder(3, "memo", 60, "ses_1"))
    ours = await scene.wallet.create_invoice(InvoiceOrder(3, "memo", 60, "ses_1"))
    for number, name in enumerate(("ses_1", "pool_1", "anything_1")):
        scene.node.orders[f"{number}" * 64] = InvoiceOrder(3, "memo", 60, name)
    for payment_hash in scene.node.orders:
        scene.node.pay(payment_hash)
    found = {each.payment_hash: each for each in await scene.wallet.settlements(10)}
    assert {each for each, settled in found.items() if not settled.foreign} == {ours.payment_hash}
    # A foreign name is never believed: only a binding of this store's would say whose the payment is.
    assert all(settled.made_ahead for settled in found.values())
    assert {payment_hash: await scene.wallet.lookup(payment_hash) for payment_hash in found} == found
    assert (await other.lookup(theirs.payment_hash)) == replace(found[theirs.payment_hash], foreign=False)


async def test_another_server_of_the_same_store_knows_our_invoices() -> None:
    """The audit is one. It has made no invoice itself."""
    scene = Scene()
    invoice = await scene.wallet.create_invoice(InvoiceOrder(3, "memo", 60, "ses_1"))
    scene.node.pay(invoice.payment_hash)
    (settled,) = await owned(scene.node, scene.owners, scene.bindings, scene.key).settlements(5)
    assert not settled.foreign


async def test_a_payment_of_another_program_stays_without_a_name() -> None:
    scene = Scene()
    scene.node.paid_msat["ab" * 32] = 5_000
    assert await scene.wallet.settlements(5) == [Settlement("ab" * 32, Msat(5_000), None)]
    assert scene.key.key is None


async def test_while_the_key_can_not_be_read_nothing_is_called_foreign() -> None:
    class Away(KeyInMemory):
        async def read(self) -> bytes | None:
            raise TransientError("the store is away")

    scene = Scene(key=Away())
    scene.node.orders["ab" * 32] = InvoiceOrder(3, "memo", 60, "pool_1")
    scene.node.pay("ab" * 32)
    for ask in (scene.wallet.settlements(5), scene.wallet.lookup("ab" * 32)):
        with pytest.raises(TransientError, match="the store is away"):
            await ask


async def test_an_invoice_without_an_owner_is_not_shown() -> None:
    scene = Scene(bindings=FakeBindings(fault=TransientError("the store is away")))
    with pytest.raises(TransientError, match="the store is away"):
        await scene.wallet.create_invoice(InvoiceOrder(3, "memo", 60, "job_1"))
    scene.bindings.fault = None
    (seen,) = scene.node.orders
    scene.bindings.owners[seen] = "job_2"
    scene.node.orders.clear()  # The next invoice is the same one again.
    with pytest.raises(TransientError, match="made before"):
        await scene.wallet.create_invoice(InvoiceOrder(3, "memo", 60, "job_1"))
