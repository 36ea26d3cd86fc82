"""The client for LND over a node that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnd.client import LndLightning
from satmeter.actors.adapters.lnd.marks import is_marked, new_preimage
from satmeter.actors.adapters.lnd.rights import NEEDED
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutStatus, PayoutTarget
from satmeter.actors.ports import InvoiceOrder, PermanentError, PortError, TransientError
from tests.helpers.invoices import FEE_LIMIT
from tests.lightning.keys import KeyInMemory
from tests.lightning.stand_ins.lnd.macaroons import INVOICES, READ_ONLY, bake
from tests.lnbits.answers import HASH, invoice_text

KEY = b"k" * 32
INVOICE_KEY = b"i" * 32
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
    return LndLightning(
        "https://node.test:8080/lnd",
        macaroon,
        KeyInMemory(INVOICE_KEY),
        timeout_s=timeout_s,
        concurrency=4,
        transport=transport,
    )


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


async def test_an_invoice_names_its_actor_and_shows_private_channels_and_its_preimage_proves_it() -> None:
    bodies: list[dict[str, Any]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        payment_hash = hashlib.sha256(base64.b64decode(bodies[-1]["r_preimage"])).hexdigest()
        r_hash = base64.b64encode(bytes.fromhex(payment_hash)).decode()
        return httpx.Response(200, json={"r_hash": r_hash, "payment_request": invoice_text(payment_hash=payment_hash)})

    await client(handle).create_invoice(ORDER)
    preimage = base64.b64decode(bodies[0].pop("r_preimage"))
    assert is_marked(preimage, INVOICE_KEY, "job_1")
    assert bodies == [{"memo": "memo (job_1)", "value": "21", "expiry": "600", "private": True}]


async def test_an_invoice_over_another_preimage_is_not_shown_to_a_client() -> None:
    made = {"r_hash": R_HASH, "payment_request": invoice_text()}
    assert isinstance(await failure("create_invoice", saying(200, made)), TransientError)


def settled(preimage: bytes, memo: str = "coffee (ses_1)") -> dict[str, str]:
    r_hash = base64.b64encode(hashlib.sha256(preimage).digest()).decode()
    proof = base64.b64encode(preimage).decode()
    return {"r_hash": r_hash, "state": "SETTLED", "memo": memo, "amt_paid_msat": "21000", "r_preimage": proof}


@pytest.mark.parametrize(
    ("preimage", "actor_id"),
    [
        (new_preimage(INVOICE_KEY, "ses_1"), "ses_1"),
        (new_preimage(INVOICE_KEY, "ses_2"), None),
        (new_preimage(KEY, "ses_1"), None),
        (b"p" * 32, None),
    ],
    ids=["ours", "of another id", "by another key", "of a stranger"],
)
async def test_a_stranger_s_invoice_that_names_an_actor_is_not_ours(preimage: bytes, actor_id: str | None) -> None:
    row = settled(preimage)
    payment_hash = hashlib.sha256(preimage).hexdigest()
    found = await client(saying(200, row)).lookup(payment_hash)
    assert found is not None
    assert (found.actor_id, found.amount_msat) == (actor_id, Msat(21_000))
    listed = await client(saying(200, {"invoices": [{**row, "add_index": "1"}]})).settlements(5)
    assert [each.actor_id for each in listed] == ([actor_id] if actor_id else [])


async def test_without_a_key_in_the_store_nothing_is_ours_and_none_is_made() -> None:
    key = KeyInMemory()
    row = {**settled(new_preimage(b"k" * 32, "ses_1")), "add_index": "1"}
    transport = httpx.MockTransport(saying(200, {"invoices": [row]}))
    lightning = LndLightning("https://node.test", MACAROON, key, timeout_s=5, concurrency=4, transport=transport)
    assert await lightning.settlements(5) == []
    assert key.key is None


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
    lightning = LndLightning(
        "https://node.test", MACAROON, KeyInMemory(), timeout_s=5, concurrency=16, transport=transport
    )
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


def event(number: int, state: str = "SETTLED", memo: str = "coffee (ses_1)") -> tuple[str, bytes]:
    """The hash of an invoice, and LND's news of it."""
    preimage = new_preimage(INVOICE_KEY, "ses_1")
    row = {**settled(preimage, memo), "state": state, "settle_index": str(number)}
    return hashlib.sha256(preimage).hexdigest(), json.dumps({"result": row}).encode() + b"\n"


async def test_a_stream_that_is_refused_is_an_error_and_not_the_end_of_hints() -> None:
    for handler in (saying(404, error(5, "Not Found")), saying(500, {"error": error(2, "permission denied")})):
        await failure("hints", handler)


async def test_hints_are_of_paid_invoices_of_ours_and_go_on_where_they_broke_off() -> None:
    queries: list[str] = []
    others = [event(3, "OPEN"), event(9, memo="coffee"), event(9, memo="coffee (ses_2)"), event(8, "CANCELED")]
    first, second, third = event(7), event(5), event(10)

    def handle(request: httpx.Request) -> httpx.Response:
        queries.append(request.url.query.decode())
        if len(queries) == 1:
            return httpx.Response(200, content=b"".join(news for _, news in (first, *others, second)))
        return httpx.Response(200, content=third[1] + b'{"error": {"code": 2, "message": "shutting down"}}\n')

    lightning, heard = client(handle), list[str]()

    async def listen() -> None:
        async for payment_hash in lightning.hints():
            heard.append(payment_hash)

    with pytest.raises(TransientError):
        await listen()
    assert heard == [payment_hash for payment_hash, _ in (first, second, third)]
    assert queries == ["", "settle_index=9"]
