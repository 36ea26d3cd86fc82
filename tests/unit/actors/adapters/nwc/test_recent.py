"""The newest paid invoices: complete whatever is remembered, and asked for as seldom as may be."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.nwc.messages import Transaction
from satmeter.actors.adapters.nwc.recent import RecentInvoices


class Setting:
    """A wallet that lists what was paid last first, `page_max` rows at most, in a time of its own."""

    def __init__(self, rest_s: float = 5, page_max: int = 20) -> None:
        self.now_s = 1_000.0
        self.paid: list[Transaction] = []
        self.asked: list[tuple[int, int]] = []
        self.hears_since_s: float | None = None
        self.page_max = page_max
        self.recent = RecentInvoices(
            self.fetch, lambda: self.hears_since_s, rest_s=rest_s, monotonic_s=lambda: self.now_s
        )

    async def fetch(self, limit: int, offset: int) -> Sequence[Transaction]:
        self.asked.append((limit, offset))
        return self.paid[offset : offset + min(limit, self.page_max)]

    def pay(self, count: int, at: int = 0) -> None:
        for _ in range(count):
            number = len(self.paid)
            self.paid.insert(at, Transaction(payment_hash=f"{number:064x}", amount=1))

    async def sees(self, limit: int = 100) -> bool:
        return await self.recent.newest(limit) == self.paid[:limit]


async def test_what_is_known_is_not_asked_for_again() -> None:
    setting = Setting()
    setting.pay(60)
    assert await setting.sees()
    assert len(setting.asked) == 4
    setting.asked.clear()
    assert await setting.sees()
    assert setting.asked == [(5, 0)]


async def test_news_are_read_until_a_page_has_none() -> None:
    setting = Setting()
    setting.pay(60)
    await setting.sees()
    for count in (1, 4, 5, 6, 30, 99, 100, 101):
        setting.pay(count)
        assert await setting.sees(), count


async def test_an_old_invoice_that_is_listed_by_its_age_is_found_within_a_minute() -> None:
    setting = Setting()
    setting.pay(60)
    await setting.sees()
    setting.pay(1, at=40)
    assert not await setting.sees()
    setting.now_s += 60
    assert await setting.sees()


async def test_while_the_wallet_pushes_it_is_left_alone_for_a_while() -> None:
    setting = Setting()
    setting.pay(3)
    setting.hears_since_s = setting.now_s
    await setting.sees()
    setting.asked.clear()
    setting.now_s += 4
    assert await setting.sees()
    assert not setting.asked
    setting.now_s += 1
    assert await setting.sees()
    assert setting.asked == [(5, 0)]


async def test_after_a_break_it_is_asked_at_once() -> None:
    setting = Setting()
    setting.pay(3)
    setting.hears_since_s = setting.now_s
    await setting.sees()
    setting.now_s += 1
    setting.pay(1)
    setting.hears_since_s = None
    assert await setting.sees()
    setting.now_s += 1
    setting.pay(1)
    setting.hears_since_s = setting.now_s - 0.5
    assert await setting.sees(), "it listens again, but not since the last question"


async def test_a_larger_list_is_read_whole() -> None:
    setting = Setting()
    setting.pay(60)
    assert await setting.sees(10)
    assert await setting.sees(100)
    assert await setting.sees(10)


@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=12),
    limit=st.integers(1, 60),
    page_max=st.integers(1, 50),
)
async def test_it_is_always_what_the_wallet_has(steps: list[tuple[int, int]], limit: int, page_max: int) -> None:
    setting = Setting(page_max=page_max)
    for paid, seconds in steps:
        setting.pay(paid)
        setting.now_s += seconds
        assert await setting.sees(limit)
