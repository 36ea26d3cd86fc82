"""Requests of the LNbits client: the address it was given, one key, and a body declared as JSON."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.ports import InvoiceOrder, PortError
from tests.helpers.invoices import FEE_LIMIT

HASH = "ab" * 32
ORDER = InvoiceOrder(21, "Satmeter: café", 600, "job_a")
TARGET = PayoutTarget("lnbcrt1", HASH, Msat(1_000))


class Wire(httpx.AsyncBaseTransport):
    """Keeps what was asked, and answers rubbish."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(200, content=b"rubbish", headers={"Set-Cookie": "sticky=7"})


async def asked_of(url: str) -> list[httpx.Request]:
    """One request of each kind, as it left the client."""
    wire = Wire()
    lightning = LnbitsLightning(url, "invoice", admin_key="admin", timeout_s=7, concurrency=1, transport=wire)
    for call in (
        lightning.create_invoice(ORDER),
        lightning.lookup(HASH),
        lightning.settlements(5),
        lightning.pay_out(TARGET, "job_a", FEE_LIMIT),
        lightning.payout(TARGET, "job_a"),
        lightning.check(),
    ):
        with pytest.raises(PortError):
            await call
    await lightning.close()
    return wire.asked


@pytest.mark.parametrize("base", ["http://node.test", "http://node.test/", "https://node.test:8443/ln/bits"])
async def test_each_request_goes_to_the_node_s_address(base: str) -> None:
    requests = await asked_of(base)
    prefix = f"{base.rstrip('/')}/api/v1"
    assert [(request.method, str(request.url.copy_with(query=None))) for request in requests] == [
        ("POST", f"{prefix}/payments"),
        ("GET", f"{prefix}/payments/{HASH}"),
        ("GET", f"{prefix}/payments"),
        ("POST", f"{prefix}/payments"),
        ("GET", f"{prefix}/payments/paginated"),
        ("GET", f"{prefix}/wallet"),
    ]
    assert requests[2].url.params["limit"] == "5" and not requests[3].url.query


async def test_each_request_has_one_key_and_what_the_client_always_says() -> None:
    requests = await asked_of("http://node.test")
    keys = [request.headers.get_list("X-Api-Key") for request in requests]
    assert keys == [["invoice"], ["invoice"], ["invoice"], ["admin"], ["admin"], ["invoice"]]
    for request in requests:
        assert request.headers["Accept"] == "application/json"
        assert request.headers["Host"] == "node.test"
        assert request.extensions["timeout"]["read"] == 7


async def test_only_a_body_is_said_to_be_json() -> None:
    for request in await asked_of("http://node.test"):
        assert request.headers.get_list("Content-Type") == ["application/json"] * (request.method == "POST")
        assert int(request.headers.get("Content-Length", "0")) == len(request.content)


async def test_an_order_says_what_was_ordered() -> None:
    order, *_, payout, _, _ = await asked_of("http://node.test")
    assert msgspec.json.decode(order.content) == {
        "out": False,
        "unit": "sat",
        "amount": 21,
        "memo": "Satmeter: café",
        "expiry": 600,
        "extra": {"tag": "satmeter", "satmeter_actor": "job_a"},
    }
    assert msgspec.json.decode(payout.content)["out"] is True
