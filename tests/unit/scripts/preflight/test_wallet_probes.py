"""The wallet as `satmeter check` and the start see it: an LNbits that is too old is named with its remedy."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.preflight.wallet_probes import probed_wallet

HASH = "5b" * 32
# What LNbits 0.12 told of a payment, and of a new invoice.
ROW = {"checking_id": HASH, "payment_hash": HASH, "pending": True, "amount": 1_000, "fee": 0, "bolt11": "lnbc1"}
INVOICE = {"payment_hash": HASH, "payment_request": "lnbc1", "checking_id": HASH, "lnurl_response": None}


@pytest.mark.parametrize("rows", [[ROW], []])
async def test_an_lnbits_before_1_0_is_named_with_its_remedy(rows: list[Any]) -> None:
    def old(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/wallet"):
            return httpx.Response(200, json={"id": "w1", "name": "shop", "balance": 0})
        return httpx.Response(200, json=INVOICE if request.method == "POST" else rows)

    values: dict[str, Any] = {"LNBITS_URL": "http://127.0.0.1:1", "LNBITS_INVOICE_KEY": "a", "LNBITS_ADMIN_KEY": "b"}
    async with httpx.AsyncClient(transport=httpx.MockTransport(old)) as http:
        (problem,) = (await probed_wallet(Settings(**values), http)).problems
    assert problem.variable == "LNBITS_URL"
    assert "older than 1.0" in problem.message and "upgrade" in problem.message
