"""The check of LNbits's version, by the answers of one before 1.0. A real LNbits holds the keys, in the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from satmeter.actors.adapters.lnbits.keys import KeyTrouble, key_trouble

HASH = "5b" * 32
# What LNbits 0.12 told of a payment and of a new invoice, and what 1.0 and later ones tell.
FORMER_ROW = {"checking_id": HASH, "payment_hash": HASH, "pending": True, "amount": 1_000, "fee": 0, "bolt11": "lnbc1"}
FORMER_INVOICE = {"payment_hash": HASH, "payment_request": "lnbc1", "checking_id": HASH, "lnurl_response": None}
ROW = {"checking_id": HASH, "payment_hash": HASH, "status": "pending", "amount": 1_000, "bolt11": "lnbc1"}


def answer_of(method: str, path: str, rows: list[Any], new: Mapping[str, Any]) -> Any:
    if path.endswith("/wallet"):
        return {"id": "w1", "name": "shop", "balance": 0}
    if method == "POST":
        return new
    return {"paid": False, "details": rows[0] if rows else ROW} if path.endswith(HASH) else rows


async def trouble(rows: list[Any], new: Mapping[str, Any] = ROW, *, may_order: bool = True) -> KeyTrouble | None:
    async def ask(method: str, path: str, key: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        return 200, msgspec.json.encode(answer_of(method, path.partition("?")[0], rows, new))

    return await key_trouble(ask, "invoice", "admin", may_order=may_order)


async def test_a_server_before_1_0_is_known_by_its_payments() -> None:
    assert await trouble([FORMER_ROW], may_order=False) is KeyTrouble.TOO_OLD
    assert await trouble([ROW], may_order=False) is None


async def test_an_empty_wallet_of_a_server_before_1_0_is_known_by_a_new_invoice() -> None:
    assert await trouble([], FORMER_INVOICE) is KeyTrouble.TOO_OLD
    assert await trouble([], ROW) is None
    assert await trouble([], FORMER_INVOICE, may_order=False) is None
