"""The LNbits client against any answer that a node, or a proxy before it, may give (honest ones: tests/contract)."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.invoices import Invoice, Settlement
from satmeter.actors.ports import InvoiceOrder, PermanentError, PortError, TransientError
from tests.helpers.invoices import behind

KEY = "5ec2e7key0f0the0wallet0000000000"
HASH = "ab" * 32
OTHER_HASH = "cd" * 32
PREIMAGE = "11" * 32
ORDER = InvoiceOrder(21, "Satmeter: evaluation of a request", 600, "job_a")

Handler = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]]
Call = Callable[[LnbitsLightning], Awaitable[object]]

CALLS: list[Call] = [
    lambda lightning: lightning.create_invoice(ORDER),
    lambda lightning: lightning.lookup(HASH),
    lambda lightning: lightning.settlements(100),
    lambda lightning: lightning.check(),
]
every_call = pytest.mark.parametrize("call", CALLS, ids=["create_invoice", "lookup", "settlements", "check"])


@asynccontextmanager
async def client_of(handler: Handler, *, timeout_s: float = 5, concurrency: int = 4) -> AsyncIterator[LnbitsLightning]:
    lightning = LnbitsLightning(
        "http://lnbits.invalid",
        KEY,
        timeout_s=timeout_s,
        concurrency=concurrency,
        transport=httpx.MockTransport(handler),  # type: ignore[arg-type]  # it takes both kinds of functions
    )
    try:
        yield lightning
    finally:
        await lightning.close()


async def outcome(call: Call, answer: httpx.Response | Exception) -> object:
    """Return the result of the call, or the port's error that it raises, when the node gives this answer."""

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with client_of(handle) as lightning:
        try:
            result = await call(lightning)
        except PortError as error:
            result = error
    if isinstance(result, PortError):
        assert KEY not in "".join(traceback.format_exception(result))
    return result


def signed(amount_msat: int = 21_000, payment_hash: str = HASH) -> str:
    return sign_invoice(
        "22" * 32,
        payment_hash=payment_hash,
        payment_secret="33" * 32,
        amount_msat=Msat(amount_msat),
        memo=ORDER.memo,
        at_s=int(time.time()),
        expiry_s=ORDER.expiry_s,
    )


def row(amount: Any = 21_000, status: str = "success", payment_hash: str = HASH, **more: Any) -> dict[str, Any]:
    """A payment as LNbits shows it."""
    extra = {"tag": "satmeter", "satmeter_actor": "job_a"}
    return {
        "payment_hash": payment_hash,
        "amount": amount,
        "status": status,
        "preimage": PREIMAGE,
        "extra": extra,
    } | more


def status_of(details: dict[str, Any] | None, *, paid: bool = True) -> httpx.Response:
    return httpx.Response(200, json={"paid": paid, "preimage": PREIMAGE, "details": details})


@every_call
@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError(f"no route to http://lnbits.invalid/{KEY}"),
        httpx.ReadTimeout(f"slow: {KEY}"),
        httpx.PoolTimeout("full"),
        httpx.RemoteProtocolError("cut off"),
        httpx.LocalProtocolError(f"Illegal header value b'{KEY}'"),
        httpx.DecodingError("bad gzip"),
        httpx.InvalidURL(f"bad address {KEY}"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_node_that_cannot_be_reached_may_work_later(call: Call, fault: Exception) -> None:
    assert type(await outcome(call, fault)) is TransientError


@every_call
async def test_a_node_that_does_not_answer_in_time_may_work_later(call: Call) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with client_of(never, timeout_s=0.02) as lightning:
        with pytest.raises(TransientError):
            await call(lightning)


@every_call
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><h1>It works!</h1></html>",
        b"null",
        b"7",
        b'"paid"',
        b"\xff\xfe\x00",
        b"[" * 5_000,
        b'{"paid": "true", "details": 1, "balance": "21", "payment_hash": 7, "amount": "21000", "bolt11": null}',
        b'[{"payment_hash": 7, "amount": "21000", "status": true}]',
    ],
)
async def test_rubbish_from_the_node_is_never_taken_for_an_answer(call: Call, body: bytes) -> None:
    assert type(await outcome(call, httpx.Response(200, content=body))) is TransientError


@every_call
async def test_an_answer_without_an_end_is_cut_off(call: Call) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1_048_576

    assert type(await outcome(call, httpx.Response(200, content=endless()))) is TransientError
    assert sent < 20


@every_call
@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_stays_refused(call: Call, status: int) -> None:
    for answer in (httpx.Response(status, json={"detail": f"Wrong key {KEY}"}), httpx.Response(status)):
        error = await outcome(call, answer)
        assert type(error) is PermanentError and str(status) in str(error)


@every_call
@pytest.mark.parametrize("status", [301, 408, 425, 429, 500, 502, 503, 520])
async def test_a_node_with_trouble_of_its_own_may_work_later(call: Call, status: int) -> None:
    error = await outcome(call, httpx.Response(status, json={"detail": f"Trouble with {KEY}"}))
    assert type(error) is TransientError and f"{status}: Trouble with [key]" in str(error)


@every_call
@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_proxy_s_refusal_is_not_the_node_s_word(call: Call, status: int) -> None:
    assert type(await outcome(call, httpx.Response(status, html="<h1>no such server</h1>"))) is TransientError


@every_call
async def test_the_node_s_own_refusal_is_for_good(call: Call) -> None:
    refused = httpx.Response(
        400, json={"detail": [{"loc": ["body", "amount"], "msg": f"not with {KEY}" + "x" * 9_000}]}
    )
    error = await outcome(call, refused)
    assert type(error) is PermanentError
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("header", "retry_after_s"),
    [("7", 7.0), ("9" * 400, 60.0), ("-1", None), ("²", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None)],
)
async def test_when_to_come_back_is_passed_on_within_reason(header: str, retry_after_s: float | None) -> None:
    answer = httpx.Response(429, headers={b"Retry-After": header.encode()})
    error = await outcome(CALLS[3], answer)
    assert isinstance(error, TransientError) and error.retry_after_s == retry_after_s


async def test_an_invoice_that_is_what_was_ordered_is_handed_out() -> None:
    text = signed()
    invoice = await outcome(CALLS[0], httpx.Response(201, json=row(status="pending", bolt11=text)))
    assert invoice == Invoice(text, HASH, 21, read_invoice(text).expires_at_ms)


def misspelt(text: str) -> str:
    return text[:-1] + ("p" if text.endswith("q") else "q")


WRONG_INVOICES = {
    "less in the invoice": row(bolt11=signed(20_000)),
    "more in the invoice": row(bolt11=signed(21_001)),
    "less beside it": row(amount=20_000, bolt11=signed()),
    "sats for msat": row(amount=21, bolt11=signed()),
    "outgoing": row(amount=-21_000, bolt11=signed()),
    "another hash beside it": row(payment_hash=OTHER_HASH, bolt11=signed()),
    "another hash in the invoice": row(bolt11=signed(payment_hash=OTHER_HASH)),
    "wrong checksum": row(bolt11=misspelt(signed())),
    "empty": row(bolt11=""),
    "cut off": row(bolt11="lnbc1"),
    "endless": row(bolt11="lnbcrt1" + "q" * 10_000),
    "none at all": row(),
}


@pytest.mark.parametrize("wrong", WRONG_INVOICES.values(), ids=WRONG_INVOICES.keys())
async def test_an_invoice_that_is_not_what_was_ordered_is_never_handed_out(wrong: dict[str, Any]) -> None:
    assert type(await outcome(CALLS[0], httpx.Response(201, json=wrong))) is TransientError


@pytest.mark.parametrize("human_part", ["lnbcrt", "lnbcrt22000000000"], ids=["no amount", "more than all bitcoin"])
async def test_an_invoice_without_a_sane_amount_is_never_handed_out(human_part: str) -> None:
    text = behind(human_part, signed())
    assert type(await outcome(CALLS[0], httpx.Response(201, json=row(bolt11=text)))) is TransientError


async def test_an_order_is_for_an_invoice_and_never_for_a_payment() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json=row(bolt11=signed()))

    async with client_of(handle) as lightning:
        await lightning.create_invoice(ORDER)
    [request] = seen
    assert request.headers["X-Api-Key"] == KEY
    assert KEY not in str(request.url)
    assert b'"out":false' in request.content and b'"unit":"sat"' in request.content


async def test_a_hash_unknown_to_the_node_is_not_settled() -> None:
    assert await outcome(CALLS[1], httpx.Response(404, json={"detail": "Payment does not exist."})) is None


@pytest.mark.parametrize("status", ["pending", "failed", "success"])
async def test_a_preimage_proves_nothing(status: str) -> None:
    assert await outcome(CALLS[1], status_of(row(status=status), paid=False)) is None


@pytest.mark.parametrize("status", ["pending", "failed", "SUCCESS", ""])
async def test_paid_is_nothing_while_the_payment_itself_did_not_succeed(status: str) -> None:
    assert await outcome(CALLS[1], status_of(row(status=status))) is None


async def test_paid_without_details_is_not_settled() -> None:
    assert type(await outcome(CALLS[1], status_of(None))) is PermanentError
    assert type(await outcome(CALLS[1], httpx.Response(200, json={"paid": True}))) is PermanentError


async def test_another_payment_than_the_one_asked_for_is_not_settled() -> None:
    assert type(await outcome(CALLS[1], status_of(row(payment_hash=OTHER_HASH)))) is TransientError


@pytest.mark.parametrize("amount", [0, 2**63, 10**30, 21.5, True, None])
async def test_an_absurd_amount_credits_nothing(amount: Any) -> None:
    found = await outcome(CALLS[1], status_of(row(amount=amount)))
    assert found is None or type(found) is TransientError


@pytest.mark.parametrize("extra", [None, [], "job_a", {}, {"satmeter_actor": 7}, {"satmeter_actor": None}])
async def test_a_payment_that_names_no_actor_is_unowned(extra: Any) -> None:
    assert await outcome(CALLS[1], status_of(row(extra=extra))) == Settlement(HASH, Msat(21_000), None)
    assert await outcome(CALLS[2], httpx.Response(200, json=[row(extra=extra)])) == []


@pytest.mark.parametrize(
    "listed", [[], [row(-21_000)], [row(payment_hash=OTHER_HASH)], [row(status="pending")]], ids=len
)
async def test_a_payment_that_went_out_is_never_settled(listed: list[dict[str, Any]]) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return status_of(row(-21_000)) if request.url.path.endswith(HASH) else httpx.Response(200, json=listed)

    async with client_of(handle) as lightning:
        assert await lightning.lookup(HASH) is None


async def test_only_what_came_in_and_succeeded_is_listed() -> None:
    rows = [
        row(),
        row(-21_000, payment_hash="01" * 32),
        row(status="pending", payment_hash="02" * 32),
        row(0, payment_hash="03" * 32),
        row(payment_hash="internal_" + HASH),
    ]
    assert await outcome(CALLS[2], httpx.Response(200, json=rows)) == [Settlement(HASH, Msat(21_000), "job_a")]


async def test_waiting_for_a_slot_counts_as_waiting_for_the_node() -> None:
    began = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with client_of(never, timeout_s=0.05, concurrency=1) as lightning:
        outcomes = await asyncio.gather(*(lightning.lookup(HASH) for _ in range(5)), return_exceptions=True)
    assert began.is_set()
    assert [type(each) for each in outcomes] == [TransientError] * 5


async def test_an_lnbits_before_1_0_is_named_as_too_old() -> None:
    answer = {"payment_hash": HASH, "payment_request": signed(), "checking_id": HASH, "lnurl_response": None}
    found = await outcome(CALLS[0], httpx.Response(201, json=answer))
    assert isinstance(found, TransientError) and "before 1.0" in str(found)
