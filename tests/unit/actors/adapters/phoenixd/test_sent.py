"""The list of payments that went out, over a node that lists the oldest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from satmeter.actors.adapters.phoenixd.sent import SentPayments
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


class Node:
    """The list, with the filters that the node has."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.queries: list[Mapping[str, str]] = []

    async def ask(self, query: Mapping[str, str]) -> bytes:
        self.queries.append(query)
        since, until = int(query["from"]), int(query.get("to", 1 << 62))
        found = [row for row in self.rows if since <= row["completedAt"] <= until]
        offset = int(query["offset"])
        return msgspec.json.encode(found[offset : offset + int(query["limit"])])

    def add(self, name: str, age_ms: int, **changes: Any) -> None:
        row = {
            "subType": "lightning",
            "paymentId": name,
            "paymentHash": "ab" * 32,
            "isPaid": True,
            "sent": 5,
            "fees": 4_004,
            "completedAt": NOW_MS - age_ms,
            "createdAt": NOW_MS - age_ms,
        }
        self.rows.append({**row, **changes})


def reader(node: Node) -> SentPayments:
    return SentPayments(node.ask, lambda: NOW_MS)


async def test_the_newest_come_first_in_pages_without_gap_or_repetition() -> None:
    node = Node()
    ages = [age * HOUR_MS for age in (90_000, 9_000, 900, 100, 50, 30, 20, 3, 2, 1)]
    for number, age_ms in enumerate(ages):
        node.add(str(number), age_ms)
    sent = reader(node)
    pages = [await sent.newest(3, offset) for offset in (0, 3, 6, 9, 12)]
    assert [[each.row_id for each in page] for page in pages] == [
        ["9", "8", "7"],
        ["6", "5", "4"],
        ["3", "2", "1"],
        ["0"],
        [],
    ]


async def test_a_payment_at_the_edge_of_a_step_is_listed_once() -> None:
    node = Node()
    node.add("older", 30 * HOUR_MS)
    node.add("at the edge", 24 * HOUR_MS)
    assert [each.row_id for each in await reader(node).newest(10, 0)] == ["at the edge", "older"]


async def test_the_newest_payments_are_found_without_reading_all_of_the_list() -> None:
    node = Node()
    for number in range(2_000):
        node.add(f"old {number}", 9_000 * HOUR_MS)
    node.add("new", HOUR_MS)
    assert [each.row_id for each in await reader(node).newest(1, 0)] == ["new"]
    assert len(node.queries) == 1


async def test_a_caller_that_begins_again_sees_what_is_new() -> None:
    node = Node()
    node.add("first", HOUR_MS)
    sent = reader(node)
    assert len(await sent.newest(10, 0)) == 1
    node.add("second", 0)
    assert [each.row_id for each in await sent.newest(10, 0)] == ["second", "first"]


async def test_a_page_that_is_asked_for_alone_is_the_same() -> None:
    node = Node()
    for number in range(4):
        node.add(str(number), (4 - number) * HOUR_MS)
    assert [each.row_id for each in await reader(node).newest(2, 2)] == ["1", "0"]


async def test_of_payments_in_one_millisecond_the_last_one_listed_is_the_newest() -> None:
    node = Node()
    node.add("first", HOUR_MS)
    node.add("second", HOUR_MS)
    assert [each.row_id for each in await reader(node).newest(2, 0)] == ["second", "first"]


async def test_more_than_one_page_of_the_node_is_read() -> None:
    node = Node()
    for number in range(1_001):
        node.add(str(number), HOUR_MS)
    assert len(await reader(node).newest(2_000, 0)) == 1_001


async def test_what_a_channel_cost_and_what_is_not_paid_is_no_payment() -> None:
    node = Node()
    node.add("channel", HOUR_MS, subType="auto_liquidity", paymentHash=None)
    node.add("failed", HOUR_MS, isPaid=False)
    assert await reader(node).newest(10, 0) == []


async def test_a_payment_has_its_amount_its_fee_and_its_time_and_no_actor() -> None:
    node = Node()
    text = sign_invoice(
        "11" * 32,
        payment_hash="ab" * 32,
        payment_secret="cd" * 32,
        amount_msat=Msat(1_234_567),
        memo="",
        at_s=1_700_000_000,
        expiry_s=60,
    )
    node.add("ours", HOUR_MS, invoice=text, sent=1_243, fees=8_938)
    node.add("an offer's", 2 * HOUR_MS)
    ours, offer = await reader(node).newest(10, 0)
    assert (ours.amount_msat, ours.fee_msat, ours.actor_id) == (Msat(1_234_567), Msat(8_938), "")
    assert ours.at_ms == NOW_MS - HOUR_MS
    assert (offer.amount_msat, offer.payment_hash) == (Msat(996), "ab" * 32)
