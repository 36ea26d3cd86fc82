"""Payouts by way of the treasury: each order is sent once, in time, or certainly not at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.host_link import LinkError, NoHostError
from satmeter.actors.ports import InvoiceOrder, PermanentError, TransientError, Urgency
from satmeter.actors.services.wallet_desk import TreasuryWallet, WalletDesk
from tests.helpers.fakes import FakeLightning
from tests.helpers.invoices import FEE_LIMIT
from tests.helpers.sessions import target

ONE, TWO = target(1, 900), target(2, 800)
PAID, NOT_SENT = PayoutReport(PayoutStatus.PAID), PayoutReport(PayoutStatus.FAILED)


@dataclass
class Scene:
    """A host's wallet, the way to the treasury with its faults, and the treasury's desk at a node.

    `ahead_ms`: how far the treasury's clock is before the host's.
    """

    node: FakeLightning = field(default_factory=FakeLightning)
    now_ms: int = 1_000_000
    ahead_ms: int = 0
    faults: list[Exception] = field(default_factory=list)
    loses_answers: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        self.starts()
        self.wallet = TreasuryWallet(self, uptime_ms=lambda: self.now_ms, pause=self.pause, answers_within_s=5)

    def starts(self) -> None:
        """The treasury begins, with a clock of its own."""
        self.desk = WalletDesk(self.node, lambda: self.now_ms + self.ahead_ms, lambda: self.now_ms + 7)

    async def ask(self, question: bytes) -> bytes:
        if self.faults:
            raise self.faults.pop(0)
        self.asked += b"\xa4time" not in question
        answer = await self.desk.answer(question)
        if self.loses_answers and b"\xa4time" not in question:
            raise LinkError("it died")
        return answer

    async def pause(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1_000)


async def test_the_treasury_pays_and_looks_up_for_the_actor_that_asks() -> None:
    scene = Scene()
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == PAID
    assert scene.node.payout_orders == [(ONE, "ses_1")]
    assert await scene.wallet.payout(ONE, "ses_1") == PAID
    assert await scene.wallet.payout(ONE, "ses_2") == PayoutReport(PayoutStatus.FAILED)
    assert await scene.wallet.payout(TWO, "ses_1") == PayoutReport(PayoutStatus.ABSENT)
    assert await scene.wallet.received("ab" * 32) is True
    await scene.wallet.check()


async def test_the_treasury_says_whether_an_invoice_is_the_node_s_own() -> None:
    scene = Scene(node=FakeLightning(own={ONE.payment_hash}))
    assert await scene.wallet.is_own(ONE) is True
    assert await scene.wallet.is_own(TWO) is False


async def test_a_lost_answer_leaves_open_whether_it_was_paid_and_nothing_is_sent_again() -> None:
    scene = Scene(loses_answers=True)
    with pytest.raises(TransientError, match="can't be reached"):
        await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT)
    assert len(scene.node.payout_orders) == scene.asked == 1


async def test_while_there_is_no_treasury_an_order_waits_and_is_sent_once() -> None:
    scene = Scene(faults=[NoHostError()] * 5)
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == PAID
    assert len(scene.node.payout_orders) == 1


async def test_an_order_that_found_no_treasury_in_time_was_not_sent() -> None:
    scene = Scene(faults=[NoHostError()] * 1_000)
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == NOT_SENT
    assert scene.node.payout_orders == [] and scene.now_ms == 1_020_000


async def test_a_treasury_that_stood_still_sends_nothing_that_is_too_late() -> None:
    scene = Scene()
    ask = scene.ask

    async def late(question: bytes) -> bytes:
        scene.now_ms += 20_000 if b"pay_out" in question else 0
        return await ask(question)

    scene.ask = late  # type: ignore[method-assign]
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == NOT_SENT
    assert scene.node.payout_orders == []


@pytest.mark.parametrize("ahead_ms", [-3_600_000, -300_000, -20_000, 0, 20_000, 3_600_000])
@pytest.mark.parametrize(("late_ms", "paid"), [(0, True), (19_999, True), (20_000, False), (299_000, False)])
async def test_an_order_is_as_old_as_the_treasury_finds_it_whatever_the_host_s_clock_says(
    ahead_ms: int, late_ms: int, paid: bool
) -> None:
    """A treasury whose clock is behind would send what its host has given up, one that is before it nothing at all."""
    scene = Scene(ahead_ms=ahead_ms)
    ask = scene.ask

    async def late(question: bytes) -> bytes:
        scene.now_ms += late_ms if b"pay_out" in question else 0
        return await ask(question)

    scene.ask = late  # type: ignore[method-assign]
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == (PAID if paid else NOT_SENT)
    assert len(scene.node.payout_orders) == paid


@pytest.mark.parametrize("set_by_ms", [-3_600_000, 3_600_000])
async def test_a_treasury_s_clock_that_is_set_meanwhile_makes_no_order_younger(set_by_ms: int) -> None:
    scene = Scene()
    ask = scene.ask

    async def late(question: bytes) -> bytes:
        if b"pay_out" in question:
            scene.ahead_ms += set_by_ms
            scene.now_ms += 20_000
        return await ask(question)

    scene.ask = late  # type: ignore[method-assign]
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == NOT_SENT
    assert scene.node.payout_orders == []


@pytest.mark.parametrize(("order_takes_ms", "paid"), [(13_000, True), (14_000, False), (16_000, False)])
async def test_a_slow_answer_about_the_time_gives_no_more_of_it(order_takes_ms: int, paid: bool) -> None:
    """The host does not know when within these four seconds the clock was read, and takes it for their end."""
    scene = Scene()
    ask = scene.ask

    async def slow(question: bytes) -> bytes:
        if b"pay_out" in question:
            scene.now_ms += order_takes_ms
            return await ask(question)
        scene.now_ms += 2_000
        answer = await ask(question)
        scene.now_ms += 2_000
        return answer

    scene.ask = slow  # type: ignore[method-assign]
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == (PAID if paid else NOT_SENT)
    assert len(scene.node.payout_orders) == paid


async def test_an_order_for_an_earlier_life_of_the_treasury_is_not_sent() -> None:
    scene = Scene()
    ask = scene.ask

    async def restarted(question: bytes) -> bytes:
        if b"pay_out" in question:
            scene.starts()
        return await ask(question)

    scene.ask = restarted  # type: ignore[method-assign]
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == NOT_SENT
    assert scene.node.payout_orders == []


@pytest.mark.parametrize("fault", [LinkError("it died"), NoHostError()])
async def test_a_treasury_that_does_not_tell_its_time_is_asked_again_and_ordered_nothing(fault: Exception) -> None:
    scene = Scene(faults=[fault] * 3)
    assert await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT) == PAID
    scene.faults = [fault] * 1_000
    assert await scene.wallet.pay_out(TWO, "ses_1", FEE_LIMIT) == NOT_SENT
    assert scene.node.payout_orders == [(ONE, "ses_1")]


async def test_orders_go_to_the_node_one_after_the_other_and_the_late_ones_never() -> None:
    scene = Scene()
    scene.node.gate.close()
    first = asyncio.create_task(scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT))
    await scene.node.gate.wait_for_arrival()
    second = asyncio.create_task(scene.wallet.pay_out(TWO, "ses_2", FEE_LIMIT))
    while scene.asked < 2:
        await asyncio.sleep(0)
    scene.now_ms += 20_000
    assert len(scene.node.payout_orders) == 1
    scene.node.gate.open()
    assert (await first, await second) == (PAID, NOT_SENT)
    assert scene.node.payout_orders == [(ONE, "ses_1")]


async def test_a_node_that_pays_several_at_once_is_given_as_many_and_no_more() -> None:
    scene = Scene()
    scene.desk = WalletDesk(scene.node, lambda: scene.now_ms, lambda: scene.now_ms, at_once=2)
    scene.node.gate.close()
    paying = [asyncio.create_task(scene.wallet.pay_out(target(n, 100), f"ses_{n}", FEE_LIMIT)) for n in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(scene.node.payout_orders) == 2
    scene.node.gate.open()
    assert await asyncio.gather(*paying) == [PAID] * 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(TransientError("busy", 7.5), TransientError), (PermanentError("no admin key"), PermanentError)],
)
async def test_the_nodes_errors_arrive_as_they_are(fault: Exception, kind: type[Exception]) -> None:
    scene = Scene(node=FakeLightning(fault=fault))
    for asking in (
        scene.wallet.payout(ONE, "ses_1"),
        scene.wallet.check(),
        scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT),
    ):
        with pytest.raises(kind, match=str(fault)) as caught:
            await asking
        if isinstance(caught.value, TransientError):
            assert caught.value.retry_after_s == 7.5


@pytest.mark.parametrize("fault", [NoHostError("none"), LinkError("died")])
async def test_without_a_treasury_questions_are_for_another_time(fault: Exception) -> None:
    for ask in ("check", "payout"):
        scene = Scene(faults=[fault])
        with pytest.raises(TransientError):
            await (scene.wallet.check() if ask == "check" else scene.wallet.payout(ONE, "ses_1"))


async def test_a_treasury_that_does_not_answer_is_not_waited_for_without_end() -> None:
    scene = Scene()
    scene.wallet = TreasuryWallet(scene, uptime_ms=lambda: scene.now_ms, answers_within_s=0.01)
    scene.node.gate.close()
    with pytest.raises(TransientError, match="TimeoutError"):
        await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT)
    scene.node.gate.open()


async def test_garbage_and_answers_to_other_questions_are_failures() -> None:
    scene = Scene()
    known = await scene.desk.answer(b"\x91\x82\xa4type\xa8received\xacpayment_hash\xa2ab")
    for answer in (b"", b"\x91\xc1", known):

        async def ask(question: bytes, answer: bytes = answer) -> bytes:
            return answer if b"pay_out" in question else await scene.desk.answer(question)

        scene.ask = ask  # type: ignore[method-assign]
        with pytest.raises(TransientError):
            await scene.wallet.pay_out(ONE, "ses_1", FEE_LIMIT)


async def test_the_limit_of_the_fee_reaches_the_node_and_former_hosts_have_their_reserve() -> None:
    scene = Scene()
    await scene.wallet.pay_out(ONE, "ses_1", Msat(7))
    former = msgspec.msgpack.encode(
        [
            {
                "type": "pay_out",
                "target": {**msgspec.structs.asdict(TWO), "amount_msat": TWO.amount_msat.value},
                "actor_id": "ses_2",
                "send_before_ms": scene.now_ms + 1,
            }
        ]
    )
    await scene.desk.answer(former)
    assert scene.node.fee_limits_msat == [7, 8_000]


ORDER = InvoiceOrder(12, "for a session", 600, "ses_1")


async def test_a_process_without_any_key_makes_and_looks_up_invoices_by_way_of_the_treasury() -> None:
    scene = Scene()
    invoice = await scene.wallet.create_invoice(ORDER)
    assert scene.node.orders == {invoice.payment_hash: ORDER} and invoice.amount_sats == 12
    assert await scene.wallet.lookup(invoice.payment_hash) is None
    scene.node.pay(invoice.payment_hash, 13_000)
    assert await scene.wallet.lookup(invoice.payment_hash) == Settlement(invoice.payment_hash, Msat(13_000), "ses_1")


async def test_an_invoice_waits_for_a_treasury_that_starts_again_but_not_without_end() -> None:
    scene = Scene(faults=[NoHostError()] * 5)
    assert (await scene.wallet.create_invoice(ORDER)).amount_sats == 12
    scene.faults = [NoHostError()] * 1_000
    with pytest.raises(TransientError, match="no treasury"):
        await scene.wallet.create_invoice(ORDER)
    tries = len(scene.faults)
    with pytest.raises(TransientError, match="no treasury"):
        await scene.wallet.create_invoice(msgspec.structs.replace(ORDER, urgency=Urgency.AHEAD))
    assert tries - len(scene.faults) == 1


async def test_an_invoice_whose_answer_was_lost_with_the_treasury_is_ordered_again() -> None:
    scene = Scene(faults=[LinkError("it died")] * 3)
    assert (await scene.wallet.create_invoice(ORDER)).amount_sats == 12
    scene.faults = [LinkError("it died")] * 1_000
    with pytest.raises(TransientError, match="no treasury"):
        await scene.wallet.create_invoice(ORDER)


async def test_look_ups_leave_room_for_payouts() -> None:
    scene = Scene()
    scene.node.gate.close()
    looking = [asyncio.create_task(scene.wallet.lookup(f"{n:064}")) for n in range(100)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert scene.asked == 32
    scene.node.gate.open()
    assert await asyncio.gather(*looking) == [None] * 100


async def test_a_process_with_a_key_for_invoices_uses_it_itself() -> None:
    own = FakeLightning()
    wallet = TreasuryWallet(Scene(faults=[NoHostError()] * 9), own)
    await wallet.lookup((await wallet.create_invoice(ORDER)).payment_hash)
    assert own.calls == ["create_invoice", "lookup"]


async def test_a_process_without_a_key_of_the_wallet_can_not_use_it() -> None:
    wallet = Scene().wallet
    with pytest.raises(PermanentError):
        await wallet.trouble()
    with pytest.raises(PermanentError):
        await wallet.balance()
    with pytest.raises(PermanentError):
        await wallet.settlements(1)
    await wallet.close()
