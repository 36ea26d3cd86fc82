"""The client for LND over a node that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnd.client import LndLightning
from satmeter.actors.adapters.lnd.rights import NEEDED
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutStatus, PayoutTarget
from satmeter.actors.ports import InvoiceOrder, PermanentError, PortError, TransientError
from tests.helpers.invoices import FEE_LIMIT
from tests.lightning.stand_ins.lnd.macaroons import INVOICES, READ_ONLY, bake
from tests.lnbits.answers import HASH, invoice_text

KEY = b"k" * 32
MACAROON = bake(KEY, [f"uri:{method}" for method in NEEDED])
R_HASH = base64.b64encode(bytes.fromhex(HASH)).decode()
ORDER = InvoiceOrder(21, "memo", 600, "job_1")
TARGET = PayoutTarget("lnbcrt1x", HASH, Msat(1_000))

Handler = Callable[[httpx.Request], httpx.Response]
CALLS: dict[str, Callable[[LndLightning], Awaitable[Any]]] = {
    "create_invoice": lambda lightning: lightning.create_invoice(ORDER),
    "lookup": lambda lightning: lightning.lookup(HASH),
    "settlements": lambda lightning: lightning.settlements(5),
    "received": lambda lightning: lightning.received(HASH),
    "pay_out": lambda lightning: lightning.pay_out(TARGET, "job_1", FEE_LIMIT),
    "payout": lambda lightning: lightning.payout(TARGET, "job_1"),
    "sent": lambda lightning: lightning.sent(5),
    "balance": lambda lightning: lightning.balance(),
    "receivable": lambda lightning: lightning.receivable(),
    "check": lambda lightning: lightning.check(),
    "trouble": lambda lightning: lightning.trouble(),
    "hints": lambda lightning: anext(lightning.hints()),
}


def client(handler: Handler, macaroon: bytes = MACAROON, timeout_s: float = 5.0) -> LndLightning:
    transport = httpx.MockTransport(handler)
    return LndLightning("https://node.test:8080/lnd", macaroon, timeout_s=timeout_s, concurrency=4, transport=transport)


def saying(status: int, body: Any) -> Handler:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda _: httpx.Response(status, content=content)


def error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "details": []}


async def failure(call: str, handler: Handler) -> PortError:
    lightning = client(handler)
    with pytest.raises(PortError) as caught:
        await CALLS[call](lightning)
    await lightning.close()
    shown = "".join(traceback.format_exception(caught.value))
    assert MACAROON.hex() not in shown, "an exception, or what caused it, tells the macaroon"
    assert "node.test" not in shown
    return caught.value


@pytest.mark.parametrize("call", sorted(CALLS.keys() - {"hints"}))
@pytest.mark.parametrize(
    "handler",
    [
        saying(200, b"<html>well</html>"),
        saying(200, b'{"invoices": [{"r_hash": '),
        saying(502, b"<html>bad gateway</html>"),
        saying(404, b"404 page not found"),
        saying(404, error(5, "Not Found")),
        saying(500, error(2, "wallet locked, unlock it to enable full RPC access")),
        saying(500, error(2, "the RPC server is in the process of starting up, but not yet ready to accept calls")),
    ],
)
async def test_what_says_nothing_is_worth_another_try(call: str, handler: Handler) -> None:
    assert isinstance(await failure(call, handler), TransientError)


@pytest.mark.parametrize("call", sorted(CALLS.keys() - {"pay_out", "trouble", "hints"}))
@pytest.mark.parametrize("in_stream", [True, False])
async def test_a_refused_macaroon_is_the_operator_s_to_mend(call: str, in_stream: bool) -> None:
    told = error(2, f"permission denied for {MACAROON.hex()}")
    found = await failure(call, saying(500, {"error": told} if in_stream else told))
    assert isinstance(found, PermanentError)
    assert "permission denied for [key]" in str(found)


async def test_a_refused_macaroon_orders_nothing() -> None:
    lightning = client(saying(500, {"error": error(2, "permission denied")}))
    report = await lightning.pay_out(TARGET, "job_1", FEE_LIMIT)
    assert (report.status, report.refusal) == (PayoutStatus.FAILED, PayoutRefusal.KEY)
    assert await lightning.trouble() == "macaroon_refused"


async def test_each_request_carries_the_macaroon_to_the_address_and_no_further() -> None:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(302, headers={"Location": "https://elsewhere.test/"})

    for call in CALLS.values():
        lightning = client(handle)
        with pytest.raises(PortError):
            await call(lightning)
        await lightning.close()
    assert {request.url.host for request in asked} == {"node.test"}
    assert {request.headers["Grpc-Metadata-macaroon"] for request in asked} == {MACAROON.hex()}
    assert [(request.method, request.url.path) for request in asked][:3] == [
        ("POST", "/lnd/v1/invoices"),
        ("GET", f"/lnd/v1/invoice/{HASH}"),
        ("GET", "/lnd/v1/invoices"),
    ]


async def test_an_invoice_names_its_actor_at_its_end_and_shows_private_channels() -> None:
    bodies: list[dict[str, Any]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"r_hash": R_HASH, "payment_request": invoice_text()})

    made = await client(handle).create_invoice(ORDER)
    assert made.payment_hash == HASH
    assert bodies == [{"memo": "memo (job_1)", "value": "21", "expiry": "600", "private": True}]


async def test_only_lnd_s_own_word_says_that_an_invoice_is_unknown() -> None:
    assert await client(saying(404, error(5, "unable to locate invoice"))).lookup(HASH) is None
    # A node that has never made an invoice has another code for it.
    assert await client(saying(500, error(2, "there are no existing invoices"))).lookup(HASH) is None
    assert isinstance(await failure("lookup", saying(404, error(5, "Not Found"))), TransientError)


async def test_a_node_that_has_never_made_an_invoice_has_an_empty_list() -> None:
    words = "unable to query invoices: there are no existing invoices"
    assert await client(saying(500, error(2, words))).settlements(5) == []


async def test_many_look_ups_wait_in_line_and_leave_room_for_the_sweep() -> None:
    let_go, at_once, most = asyncio.Event(), 0, 0

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal at_once, most
        if request.url.path.endswith("/v1/invoices"):
            return httpx.Response(200, json={"invoices": []})
        at_once += 1
        most = max(most, at_once)
        await let_go.wait()
        at_once -= 1
        return httpx.Response(404, json=error(5, "unable to locate invoice"))

    transport = httpx.MockTransport(handle)
    lightning = LndLightning("https://node.test", MACAROON, timeout_s=5, concurrency=16, transport=transport)
    hashes = [f"{number:064x}" for number in range(200)]
    waiting = [asyncio.create_task(lightning.lookup(payment_hash)) for payment_hash in hashes]
    while at_once < 2:
        await asyncio.sleep(0)
    assert await lightning.settlements(5) == []
    let_go.set()
    assert await asyncio.gather(*waiting) == [None] * 200
    assert most == 2


async def test_another_invoice_s_answer_says_nothing_about_ours() -> None:
    other = {"r_hash": base64.b64encode(b"x" * 32).decode(), "state": "SETTLED", "amt_paid_msat": "5"}
    assert isinstance(await failure("lookup", saying(200, other)), TransientError)


async def test_a_list_that_passes_over_its_bounds_is_not_believed() -> None:
    row = {"r_hash": R_HASH, "state": "OPEN", "memo": "x (job_1)"}
    rows = [{**row, "add_index": str(index)} for index in range(1_000, 1_100)]
    assert isinstance(await failure("settlements", saying(200, {"invoices": rows})), TransientError)


async def test_a_pending_payment_is_told_at_once_though_its_stream_stays_open() -> None:
    async def updates() -> AsyncIterator[bytes]:
        yield json.dumps({"result": {"payment_hash": HASH, "status": "IN_FLIGHT"}}).encode() + b"\n"
        await asyncio.Event().wait()

    lightning = client(lambda _: httpx.Response(200, content=updates()))
    assert (await lightning.payout(TARGET, "job_1")).status is PayoutStatus.PENDING


async def test_an_order_without_an_answer_in_time_may_have_been_sent() -> None:
    async def silence() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    lightning = client(lambda _: httpx.Response(200, content=silence()), timeout_s=0.05)
    with pytest.raises(TransientError):
        await lightning.pay_out(TARGET, "job_1", FEE_LIMIT)


async def test_the_balance_is_ours_and_what_can_come_in_is_the_others() -> None:
    body = {
        "balance": "5",
        "local_balance": {"sat": "5", "msat": "5999"},
        "remote_balance": {"sat": "7", "msat": "7001"},
    }
    lightning = client(saying(200, body))
    assert await lightning.balance() == Msat(5_999)
    assert await lightning.receivable() == Msat(7_001)


@pytest.mark.parametrize(
    ("macaroon", "trouble"),
    [
        (MACAROON, None),
        (bake(KEY, INVOICES), "macaroon_without_payouts"),
        (bake(KEY, READ_ONLY), "macaroon_without_invoices"),
        (bake(KEY, [*INVOICES, "offchain:read", "offchain:write"]), "macaroon_without_state"),
        (b"not a macaroon", "macaroon_unreadable"),
    ],
)
async def test_what_the_macaroon_lacks_is_told(macaroon: bytes, trouble: str | None) -> None:
    assert await client(saying(200, {"identity_pubkey": "02"}), macaroon).trouble() == trouble


def event(number: int, state: str = "SETTLED", memo: str = "coffee (ses_1)") -> bytes:
    r_hash = base64.b64encode(bytes((number,)) * 32).decode()
    row = {"r_hash": r_hash, "state": state, "memo": memo, "settle_index": str(number)}
    return json.dumps({"result": row}).encode() + b"\n"


async def test_a_stream_that_is_refused_is_an_error_and_not_the_end_of_hints() -> None:
    for handler in (saying(404, error(5, "Not Found")), saying(500, {"error": error(2, "permission denied")})):
        await failure("hints", handler)


async def test_hints_are_of_paid_invoices_and_go_on_where_they_broke_off() -> None:
    queries: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        queries.append(request.url.query.decode())
        if len(queries) == 1:
            others = event(3, "OPEN") + event(9, memo="coffee") + event(8, "CANCELED")
            return httpx.Response(200, content=event(7) + others + event(5))
        return httpx.Response(200, content=event(10) + b'{"error": {"code": 2, "message": "shutting down"}}\n')

    lightning, heard = client(handle), list[str]()

    async def listen() -> None:
        async for payment_hash in lightning.hints():
            heard.append(payment_hash)

    with pytest.raises(TransientError):
        await listen()
    assert heard == [(bytes((number,)) * 32).hex() for number in (7, 5, 10)]
    assert queries == ["", "settle_index=9"]
