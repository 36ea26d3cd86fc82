"""A node that answers whatever a test wants, under the real client."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.ports import InvoiceOrder, PortError

KEY = "the-invoice-key-that-must-not-show"
ORDER = InvoiceOrder(21, "memo", 600, "job_1")
HASH = "ab" * 32
CREATED_AT_S = 1_800_000_000

Handler = Callable[[httpx.Request], httpx.Response]
Call = Callable[[LnbitsLightning], Awaitable[Any]]


def node(handler: Handler, *, timeout_s: float = 5.0, concurrency: int = 4) -> LnbitsLightning:
    return LnbitsLightning(
        "http://node.test",
        KEY,
        timeout_s=timeout_s,
        concurrency=concurrency,
        transport=httpx.MockTransport(handler),
    )


def saying(status: int, body: Any = None, *, text: str | bytes | None = None, **headers: str) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        if text is not None:
            return httpx.Response(status, content=text, headers=headers)
        return httpx.Response(status, json=body, headers=headers)

    return handler


async def failure(call: Call, handler: Handler, timeout_s: float = 5.0) -> PortError:
    lightning = node(handler, timeout_s=timeout_s)
    with pytest.raises(PortError) as caught:
        await call(lightning)
    await lightning.close()
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in str(caught.value)
    assert KEY not in shown, "an exception, or what caused it, tells the key"
    return caught.value


def invoice_text(*, payment_hash: str = HASH, amount_sats: int = 21) -> str:
    return sign_invoice(
        secrets.token_hex(32),
        payment_hash=payment_hash,
        payment_secret="cd" * 32,
        amount_msat=Msat.from_sats(amount_sats),
        memo="memo",
        at_s=CREATED_AT_S,
        expiry_s=600,
    )


def payment(**changes: Any) -> dict[str, Any]:
    row = {
        "payment_hash": HASH,
        "amount": 21_000,
        "status": "success",
        "bolt11": "",
        "preimage": "0" * 64,
        "extra": {"tag": "satmeter", "satmeter_actor": "job_1"},
    }
    return {**row, **changes}
