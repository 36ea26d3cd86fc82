"""Invoices of the same LNbits, by what it says of their payment to anybody."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from satmeter.actors.ports import PortError
from tests.unit.actors.adapters.lnbits.test_payouts import TARGET, answering, client_of

UNKNOWN = httpx.Response(404, json={"detail": "Payment does not exist."})


async def is_own(answer: httpx.Response | Exception) -> bool:
    async with client_of(answering(answer)) as lightning:
        return await lightning.is_own(TARGET)


@pytest.mark.parametrize(
    ("shown", "own"),
    [
        ({"paid": False}, True),
        ({"paid": False, "preimage": None}, True),
        ({"paid": False, "status": "pending"}, True),
        ({"paid": False, "status": "failed"}, False),
        ({"paid": True, "preimage": "ab"}, False),
        ({"paid": True, "status": "pending"}, False),
    ],
)
async def test_an_unpaid_invoice_that_lnbits_knows_is_its_own(shown: dict[str, Any], own: bool) -> None:
    assert await is_own(httpx.Response(200, json=shown)) is own


async def test_an_unknown_invoice_is_another_node_s() -> None:
    assert await is_own(UNKNOWN) is False


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, text="no such page"),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(500, json={"detail": "oh"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"paid": "no"}),
        httpx.Response(200, json={}),
        httpx.ConnectError("no"),
    ],
)
async def test_anything_else_is_no_answer(answer: httpx.Response | Exception) -> None:
    with pytest.raises(PortError):
        await is_own(answer)


async def test_the_question_is_asked_without_a_key() -> None:
    """With one, LNbits says of another wallet's invoice that it does not exist."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return UNKNOWN

    async with client_of(handle) as lightning:
        await lightning.is_own(TARGET)
    (request,) = asked
    assert (request.method, request.url.path) == ("GET", f"/api/v1/payments/{TARGET.payment_hash}")
    assert "x-api-key" not in request.headers
