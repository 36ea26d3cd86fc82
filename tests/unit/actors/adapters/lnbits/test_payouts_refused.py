"""Refusals of LNbits to pay any invoice, told from a payment that failed; and a wallet told from another one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus
from satmeter.actors.ports import PortError
from tests.unit.actors.adapters.lnbits.test_payouts import (
    HASH,
    OTHER_HASH,
    PENDING,
    answering,
    client_of,
    outcome,
    refused,
    row,
)

KEY, FUNDS, RULES = PayoutRefusal.KEY, PayoutRefusal.FUNDS, PayoutRefusal.RULES


@pytest.mark.parametrize(
    ("status", "detail", "refusal"),
    [
        (401, "No Api Key provided.", KEY),
        (403, "Invoice (or Admin) key required.", KEY),
        (403, "Invalid adminkey.", KEY),
        (404, "Wallet not found.", KEY),
        (400, [{"loc": ["body", "bolt11"], "msg": "str type expected"}], None),
        (422, [{"loc": ["body", "bolt11"], "msg": "str type expected"}], None),
        (400, "Daily withdrawal limit of 5 sats reached.", RULES),
        (400, "It is not allowed to spend funds from this server.", RULES),
    ],
)
async def test_what_lnbits_refuses_at_the_door_was_not_paid(
    status: int, detail: Any, refusal: PayoutRefusal | None
) -> None:
    report = PayoutReport(PayoutStatus.FAILED, refusal=refusal)
    assert await outcome("pay_out", httpx.Response(status, json={"detail": detail})) == report


@pytest.mark.parametrize(
    ("detail", "refusal"),
    [
        ("Insufficient balance.", FUNDS),
        ("You must reserve at least (2  sat) to cover potential routing fees.", FUNDS),
        ("Only incoming payments allowed.", RULES),
        ("Wallet does not have permission to pay invoices.", RULES),
        ("The time limit of 10 seconds between payments has been reached.", RULES),
        ("Payment failed: no route.", None),
        ("Payment failed: insufficient balance in the channel.", None),
        ("Internal invoice already paid.", None),
    ],
)
async def test_what_lnbits_would_pay_to_no_invoice_is_told_from_a_payment_that_failed(
    detail: str, refusal: PayoutRefusal | None
) -> None:
    report = PayoutReport(PayoutStatus.FAILED, refusal=refusal)
    assert await outcome("pay_out", refused("failed", detail)) == report
    assert await outcome("pay_out", refused("pending", detail)) == PENDING


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (httpx.Response(200, json={"paid": True, "details": {**row(), "amount": 900_000}}), True),
        (httpx.Response(200, json={"paid": False, "details": row("pending")}), False),
        (httpx.Response(200, json={"paid": True}), False),
        (httpx.Response(200, json={"paid": True, "details": row(payment_hash=OTHER_HASH)}), False),
        (httpx.Response(404, json={"detail": "Payment does not exist."}), False),
        (httpx.Response(404, json={"detail": "Wallet not found."}), None),
        (httpx.Response(403, json={"detail": "Invalid adminkey."}), None),
        (httpx.Response(404, html="<h1>no such server</h1>"), None),
        (httpx.Response(502), None),
    ],
)
async def test_a_wallet_is_known_by_what_it_received(answer: httpx.Response, known: bool | None) -> None:
    async with client_of(answering(answer)) as lightning:
        if known is not None:
            assert await lightning.received(HASH) is known
            return
        with pytest.raises(PortError):
            await lightning.received(HASH)
