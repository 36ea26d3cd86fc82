"""Look-ups of many invoices at once: few calls, and of each invoice the same word as of one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import TransientError
from tests.helpers.patience import PATIENCE_S
from tests.helpers.settlement import let_all_run
from tests.lnbits.answers import payment

PAGE = "/api/v1/payments/paginated"


def hash_of(number: int) -> str:
    return f"{number:064x}"


def row(number: int, **changes: Any) -> dict[str, Any]:
    return payment(payment_hash=hash_of(number), **{"status": "pending", **changes})


class Node(httpx.AsyncBaseTransport):
    """A node that knows these payments. `filters` off: it passes over filters by hash. `most`: more are too slow."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = {each["payment_hash"]: each for each in rows}
        self.filters = True
        self.most = 1_000
        self.down: Exception | None = None
        self.asked: list[list[str]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    @property
    def lists(self) -> list[int]:
        return [len(hashes) for hashes in self.asked if len(hashes) > 1]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        many = request.url.path == PAGE
        hashes = query["payment_hash[in]"].split(",") if many else [request.url.path.rpartition("/")[2]]
        self.asked.append(hashes)
        await self.go_on.wait()
        if self.down is not None:
            raise self.down
        if not many:
            return self._one(hashes[0])
        assert (query["amount[gt]"], query["recheck_pending"]) == ("0", "true")
        if len(hashes) > self.most:
            raise httpx.ReadTimeout("too slow")
        found = [each for each in self.rows.values() if not self.filters or each["payment_hash"] in hashes]
        return httpx.Response(200, json={"data": found[: int(query["limit"])], "total": len(found)})

    def _one(self, payment_hash: str) -> httpx.Response:
        found = self.rows.get(payment_hash)
        if found is None:
            return httpx.Response(404, json={"detail": "Payment does not exist."})
        return httpx.Response(200, json={"paid": found["status"] == "success", "details": found})


@asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[LnbitsLightning]:
    lightning = LnbitsLightning("http://node.test", "key", timeout_s=5, concurrency=4, transport=node)
    yield lightning
    await lightning.close()


async def look_up(lightning: LnbitsLightning, numbers: Iterable[int]) -> list[Settlement | BaseException | None]:
    return await asyncio.gather(*(lightning.lookup(hash_of(number)) for number in numbers), return_exceptions=True)


async def test_a_thousand_invoices_that_lapse_at_once_are_looked_up_in_a_few_calls() -> None:
    node = Node(*(row(n, status="success" if n % 10 == 0 else "failed") for n in range(1_000)))
    async with client_of(node) as lightning:
        found = await look_up(lightning, range(1_000))
    for number, settlement in enumerate(found):
        assert settlement == (None if number % 10 else Settlement(hash_of(number), Msat(21_000), "job_1"))
    assert len(node.asked) <= 17 and max(node.lists) == 64


async def test_one_alone_is_asked_about_by_itself() -> None:
    node = Node(row(1, status="success"))
    async with client_of(node) as lightning:
        assert await lightning.lookup(hash_of(1)) == Settlement(hash_of(1), Msat(21_000), "job_1")
    assert node.asked == [[hash_of(1)]]


async def test_the_same_hash_is_asked_about_once_while_it_waits() -> None:
    node = Node(row(1), row(2, status="success"))
    node.go_on.clear()
    async with client_of(node) as lightning:
        looking = [asyncio.create_task(lightning.lookup(hash_of(number))) for number in (1, 2, 2, 2)]
        await let_all_run()
        node.go_on.set()
        found = await asyncio.gather(*looking)
    assert found[0] is None and len(set(map(repr, found[1:]))) == 1
    assert sum(hash_of(2) in hashes for hashes in node.asked) == 1


UNSURE = {
    "missing": None,
    "outgoing, of a payment to itself": row(7, amount=-21_000, status="success"),
    "in a state that there is not": row(7, status="odd"),
    "over an absurd amount": row(7, amount=22 * 10**17, status="success"),
}


@pytest.mark.parametrize("listed", UNSURE.values(), ids=UNSURE.keys())
async def test_what_a_list_does_not_tell_for_certain_is_asked_about_by_itself(listed: dict[str, Any] | None) -> None:
    node = Node(*(row(number) for number in range(10) if number != 7), *([] if listed is None else [listed]))
    async with client_of(node) as lightning:
        found = await look_up(lightning, range(10))
    assert [hash_of(7)] in node.asked
    assert [each for number, each in enumerate(found) if number != 7] == [None] * 9


async def test_a_node_that_passes_over_the_filter_is_asked_about_each_from_then_on() -> None:
    node = Node(*(row(number, status="success") for number in range(20)))
    node.filters = False
    async with client_of(node) as lightning:
        for _ in range(2):
            found = await look_up(lightning, range(5, 15))
            told = [each.payment_hash for each in found if isinstance(each, Settlement)]
            assert told == [hash_of(number) for number in range(5, 15)]
    assert len(node.lists) == 1


async def test_lists_that_are_too_slow_get_shorter_until_they_are_answered() -> None:
    node = Node(*(row(number) for number in range(64)))
    node.most = 5
    async with client_of(node) as lightning:
        open_ = [*range(64)]
        for _ in range(12):
            found = await look_up(lightning, open_)
            assert all(each is None or type(each) is TransientError for each in found)
            open_ = [number for number, each in zip(open_, found, strict=True) if each is not None]
    assert open_ == [] and 5 in node.lists


async def test_when_the_node_is_down_each_is_told_so_and_asked_about_again_later() -> None:
    node = Node(*(row(number, status="success") for number in range(50)))
    async with client_of(node) as lightning:
        node.down = httpx.ConnectError("down")
        assert {type(each) for each in await look_up(lightning, range(50))} == {TransientError}
        node.down = None
        assert {type(each) for each in await look_up(lightning, range(50))} == {Settlement}
        node.asked.clear()
        await look_up(lightning, range(50))
        assert len(node.asked) < 50


async def test_who_gives_up_waiting_takes_no_answer_from_others() -> None:
    node = Node(*(row(number, status="success") for number in range(5)))
    node.go_on.clear()
    async with client_of(node) as lightning:
        looking = [asyncio.create_task(lightning.lookup(hash_of(number))) for number in (0, 1, 1, 2, 3)]
        await let_all_run()
        looking[1].cancel()
        node.go_on.set()
        found = await asyncio.gather(*looking, return_exceptions=True)
    assert [type(each) for each in found] == [Settlement, asyncio.CancelledError, *[Settlement] * 3]


async def test_closing_tells_those_who_wait() -> None:
    node = Node()
    node.go_on.clear()
    async with client_of(node) as lightning:
        looking = [asyncio.create_task(lightning.lookup(hash_of(number))) for number in range(5)]
        await let_all_run()
    found = await asyncio.wait_for(asyncio.gather(*looking, return_exceptions=True), PATIENCE_S)
    assert {type(each) for each in found} == {TransientError}
