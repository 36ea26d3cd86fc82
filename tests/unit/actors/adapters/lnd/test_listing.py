"""Pages of paid invoices out of a list by the age of all invoices."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satmeter.actors.adapters.lightning.descriptions import actor_in
from satmeter.actors.adapters.lnd.listing import PaidInvoices, SentPayments
from satmeter.actors.adapters.lnd.messages import Row
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import SentPayment
from satmeter.actors.ports import TransientError


class Node:
    """Invoices of a node: the index of each with its state, and whether it is ours."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.asked = 0
        self.breaks_in = -1

    def add(self, count: int = 1, *, ours: bool = True, state: str = "OPEN") -> int:
        """Make invoices, and return the index of the last."""
        for _ in range(count):
            index = max(self.rows, default=0) + 1
            self.rows[index] = _row(index, state, ours=ours)
        return max(self.rows)

    def pay(self, index: int) -> None:
        """Settle one."""
        self.rows[index] = _row(index, "SETTLED", ours=self.rows[index].memo != "")

    async def ask(self, index: int, limit: int, is_reversed: bool) -> Sequence[Row]:
        self.asked += 1
        self.breaks_in -= 1
        if self.breaks_in == 0:
            raise TransientError("away")
        if is_reversed:
            return [self.rows[each] for each in sorted(self.rows) if not index or each < index][-limit:]
        return [self.rows[each] for each in sorted(self.rows) if each > index][:limit]


def _row(index: int, state: str, *, ours: bool) -> Row:
    memo = "coffee (ses_1)" if ours else ""
    r_hash = index.to_bytes(32, "big")
    return Row(base64.b64encode(r_hash).decode(), state, memo, "", 1_000, index, 0)


def index_of(payment_hash: str) -> int:
    return int(payment_hash, 16)


def listing(node: Node) -> PaidInvoices:
    return PaidInvoices(node.ask, lambda row: actor_in(row.memo))


async def all_of(paid: PaidInvoices, limit: int = 100) -> list[int]:
    """Read page after page, as an audit does."""
    found: list[int] = []
    while page := await paid.page(limit, len(found)):
        found += [index_of(each.payment_hash) for each in page]
    return found


async def test_an_old_invoice_that_is_paid_late_comes_first_within_a_few_looks() -> None:
    node = Node()
    old = node.add()
    node.add(3_000, ours=False)
    node.add(3_000)
    paid = listing(node)
    assert await all_of(paid) == []
    node.pay(old)
    found = [each.payment_hash for _ in range(20) for each in await paid.page(100, 0)]
    assert {index_of(each) for each in found} == {old}


async def test_a_look_costs_two_questions_however_many_invoices_are_open() -> None:
    node = Node()
    node.add(2_000)
    paid = listing(node)
    await all_of(paid)
    node.asked = 0
    await paid.page(100, 0)
    assert node.asked <= 2


async def test_an_open_invoice_among_many_of_other_programs_is_read_again() -> None:
    node = Node()
    node.add(500, ours=False, state="SETTLED")
    ours = node.add()
    node.add(500, ours=False, state="SETTLED")
    paid = listing(node)
    await all_of(paid)
    node.pay(ours)
    assert [index_of(each.payment_hash) for each in await paid.page(100, 0)] == [ours]


async def test_a_page_is_full_while_there_is_more_however_many_others_lie_between() -> None:
    node = Node()
    for _ in range(30):
        node.add(100, ours=False, state="SETTLED")
        node.pay(node.add())
    assert len(await listing(node).page(25, 0)) == 25
    assert len(set(await all_of(listing(node), 7))) == 30


async def test_payments_that_come_in_between_two_pages_push_none_out() -> None:
    node = Node()
    for _ in range(60):
        node.pay(node.add())
    paid = listing(node)
    first = await paid.page(20, 0)
    for _ in range(5):
        node.pay(node.add())
    await paid.page(20, 0)
    rest = [each for offset in (20, 40, 60) for each in await paid.page(20, offset)]
    assert {index_of(each.payment_hash) for each in (*first, *rest)} >= set(range(1, 61))


async def test_more_new_invoices_than_one_answer_holds_are_all_read() -> None:
    node = Node()
    paid = listing(node)
    await paid.page(100, 0)
    node.pay(node.add())
    await paid.page(100, 0)
    for _ in range(700):
        node.pay(node.add())
    assert sorted(await all_of(paid)) == list(range(1, 702))


@pytest.mark.parametrize("breaks_in", [1, 2])
async def test_a_look_that_broke_off_loses_nothing(breaks_in: int) -> None:
    node = Node()
    node.pay(node.add())
    paid = listing(node)
    await paid.page(100, 0)
    for _ in range(400):
        node.pay(node.add())
    node.breaks_in = breaks_in
    with pytest.raises(TransientError):
        await all_of(paid)
    assert sorted(await all_of(paid)) == list(range(1, 402))


async def test_invoices_that_lnd_has_deleted_are_not_waited_for() -> None:
    node = Node()
    node.add(300)
    paid = listing(node)
    await all_of(paid)
    for index in range(1, 150):
        del node.rows[index]
    for _ in range(5):
        await paid.page(100, 0)
    node.pay(160)
    found = [each.payment_hash for _ in range(5) for each in await paid.page(100, 0)]
    assert {index_of(each) for each in found} == {160}


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 150), st.booleans()),
            st.tuples(st.just("pay"), st.integers(0, 10**6), st.just(True)),
            st.tuples(st.just("look"), st.integers(0, 0), st.just(True)),
        ),
        max_size=25,
    )
)
async def test_every_paid_invoice_of_ours_is_listed_once(steps: list[tuple[str, int, bool]]) -> None:
    node = Node()
    paid = listing(node)
    for what, number, flag in steps:
        if what == "add":
            node.add(number, ours=flag)
        elif what == "look":
            await all_of(paid)
        elif node.rows:
            node.pay(sorted(node.rows)[number % len(node.rows)])
    expected = sorted(index for index, row in node.rows.items() if row.state == "SETTLED" and row.memo)
    for _ in range(25):
        await paid.page(40, 0)
    assert sorted(await all_of(paid, 40)) == expected


class Payer:
    """Payments with gaps between their indexes."""

    def __init__(self, count: int) -> None:
        self.payments = [
            (3 * number, SentPayment(str(3 * number), "ab" * 32, Msat(1_000), Msat(1), ""))
            for number in range(1, count)
        ]

    async def ask(self, limit: int, before_index: int) -> Sequence[tuple[int, SentPayment]]:
        below = [row for row in self.payments if not before_index or row[0] < before_index]
        return below[::-1][:limit]


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_what_went_out_is_in_pages_without_a_gap(limit: int) -> None:
    payer = Payer(251)
    sent, found = SentPayments(payer.ask), list[str]()
    while page := await sent.page(limit, len(found)):
        found += [each.row_id for each in page]
    assert found == [str(3 * number) for number in range(250, 0, -1)]


async def test_a_page_that_was_not_led_up_to_is_found_too() -> None:
    assert [each.row_id for each in await SentPayments(Payer(251).ask).page(2, 130)] == ["360", "357"]
    assert await SentPayments(Payer(5).ask).page(2, 130) == []
