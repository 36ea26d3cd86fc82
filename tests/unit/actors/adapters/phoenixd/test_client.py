"""The client of phoenixd, over answers that a test makes up."""

from __future__ import annotations

import asyncio
import base64
import secrets
import traceback
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from satmeter.actors.adapters.phoenixd.client import PhoenixdLightning
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import InvoiceOrder, PermanentError, PortError, TransientError

PASSWORD = "the-password-that-must-not-show"
HASH = "ab" * 32
TARGET = PayoutTarget("lnbc1invoice", HASH, Msat(250_000))
ORDER = InvoiceOrder(21, "memo", 600, "job_1")
LIMIT = Msat(5_000)

Handler = Callable[[httpx.Request], httpx.Response]
Call = Callable[[PhoenixdLightning], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "create_invoice": lambda node: node.create_invoice(ORDER),
    "lookup": lambda node: node.lookup(HASH),
    "settlements": lambda node: node.settlements(10),
    "pay_out": lambda node: node.pay_out(TARGET, "job_1", LIMIT),
    "payout": lambda node: node.payout(TARGET, "job_1"),
    "received": lambda node: node.received(HASH),
    "sent": lambda node: node.sent(10),
    "balance": lambda node: node.balance(),
    "check": lambda node: node.check(),
    "trouble": lambda node: node.trouble(),
}


def node(handler: Handler, *, timeout_s: float = 5.0, concurrency: int = 8) -> PhoenixdLightning:
    return PhoenixdLightning(
        "http://node.test",
        PASSWORD,
        timeout_s=timeout_s,
        concurrency=concurrency,
        transport=httpx.MockTransport(handler),
        now_ms=lambda: 1_800_000_000_000,
    )


def saying(status: int, body: Any) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        if isinstance(body, str):
            return httpx.Response(status, text=body)
        return httpx.Response(status, json=body)

    return handler


def paths(answers: dict[str, httpx.Response]) -> Handler:
    """Answer by the path."""
    return lambda request: answers.get(request.url.path) or httpx.Response(404, text="Not found")


def paid(**changes: Any) -> dict[str, Any]:
    row = {"paymentId": "1", "paymentHash": HASH, "isPaid": True, "createdAt": 1, "completedAt": 2, "fees": 5_004}
    return {**row, **changes}


async def test_the_password_goes_with_every_call_and_no_name() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500, text="no")

    lightning = node(handler)
    for call in CALLS.values():
        with pytest.raises(PortError):
            await call(lightning)
    expected = f"Basic {base64.b64encode(f':{PASSWORD}'.encode()).decode()}"
    assert {request.headers["Authorization"] for request in seen} == {expected}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "handler",
    [
        saying(502, "<html>the proxy</html>"),
        saying(500, f"an error of {PASSWORD} and {base64.b64encode(f':{PASSWORD}'.encode()).decode()}"),
        saying(200, "<html>{"),
        saying(200, {"rubbish": True}),
        saying(404, "<html>Not found</html>"),
    ],
)
async def test_nonsense_is_an_error_that_shows_no_password(name: str, handler: Handler) -> None:
    with pytest.raises(PortError) as caught:
        await CALLS[name](node(handler))
    shown = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in shown
    assert base64.b64encode(f":{PASSWORD}".encode()).decode() not in shown


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("pay_out", "trouble")])
async def test_a_password_that_the_node_does_not_take_is_for_the_operator_to_mend(name: str) -> None:
    with pytest.raises(PermanentError):
        await CALLS[name](node(saying(401, "Invalid authentication (use basic auth)")))


async def test_an_invoice_is_ordered_by_a_form() -> None:
    key, forms = secrets.token_hex(32), []

    def handler(request: httpx.Request) -> httpx.Response:
        forms.append(parse_qs(request.content.decode()))
        text = sign_invoice(
            key,
            payment_hash=HASH,
            payment_secret="cd" * 32,
            amount_msat=Msat(21_000),
            memo="memo",
            at_s=1_800_000_000,
            expiry_s=600,
        )
        return httpx.Response(200, json={"amountSat": 21, "paymentHash": HASH, "serialized": text})

    invoice = await node(handler).create_invoice(ORDER)
    assert invoice.payment_hash == HASH
    assert forms == [
        {"description": ["memo"], "amountSat": ["21"], "expirySeconds": ["600"], "externalId": ["satmeter:job_1"]}
    ]


@pytest.mark.parametrize("text", ["Not found", "Unknown endpoint (check api doc)"])
async def test_an_invoice_that_the_node_does_not_know_is_not_settled(text: str) -> None:
    """Releases before 0.6 have the second text for it. The path itself was always there."""
    lightning = node(saying(404, text))
    assert await lightning.lookup(HASH) is None
    assert not await lightning.received(HASH)


@pytest.mark.parametrize("call", [CALLS["lookup"], CALLS["payout"]])
async def test_another_program_s_404_is_asked_again(call: Call) -> None:
    with pytest.raises(TransientError):
        await call(node(saying(404, "no such page")))


async def test_look_ups_that_wait_do_not_run_out_of_time() -> None:
    at_once, most = 0, 0

    async def handler(request: httpx.Request) -> httpx.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return httpx.Response(404, text="Not found")

    lightning = PhoenixdLightning(
        "http://node.test", PASSWORD, timeout_s=5, concurrency=16, transport=httpx.MockTransport(handler)
    )
    assert set(await asyncio.gather(*(lightning.lookup(HASH) for _ in range(200)))) == {None}
    assert most == 2


async def test_a_payment_has_its_exact_fee_from_the_look_up() -> None:
    answers = {
        "/payinvoice": httpx.Response(200, json={"paymentHash": HASH, "paymentPreimage": "00", "routingFeeSat": 5}),
        f"/payments/outgoingbyhash/{HASH}": httpx.Response(200, json=paid()),
    }
    assert await node(paths(answers)).pay_out(TARGET, "job_1", LIMIT) == PayoutReport(PayoutStatus.PAID, Msat(5_004))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502),
        httpx.Response(200, text="{"),
        httpx.Response(404, text="Not found"),
        httpx.Response(200, json={**paid(), "isPaid": False, "completedAt": 2}),
    ],
)
async def test_a_payment_whose_fee_is_not_told_yet_is_looked_up_again(answer: httpx.Response) -> None:
    answers = {
        "/payinvoice": httpx.Response(200, json={"paymentHash": HASH, "paymentPreimage": "00", "routingFeeSat": 5}),
        f"/payments/outgoingbyhash/{HASH}": answer,
    }
    assert await node(paths(answers)).pay_out(TARGET, "job_1", LIMIT) == PayoutReport(PayoutStatus.PENDING)


async def test_the_limited_password_orders_nothing_for_certain() -> None:
    report = await node(saying(401, "Invalid authentication (use ...)")).pay_out(TARGET, "job_1", LIMIT)
    assert report == PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)


async def test_an_order_is_sent_once_and_without_its_answer_may_have_been_carried_out() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        raise httpx.ReadError("cut")

    with pytest.raises(TransientError):
        await node(handler).pay_out(TARGET, "job_1", LIMIT)
    assert seen == ["/payinvoice"]


async def test_a_payment_that_the_node_does_not_know_is_absent() -> None:
    assert await node(saying(404, "Not found")).payout(TARGET, "job_1") == PayoutReport(PayoutStatus.ABSENT)


@pytest.mark.parametrize(("version", "absent"), [("0.5.1-abc", True), ("0.4.2-24b817a", False), ("my own", False)])
async def test_a_release_without_the_path_says_nothing_about_the_payment(version: str, absent: bool) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/getinfo":
            return httpx.Response(200, json={"channels": [], "version": version})
        return httpx.Response(404, text="Unknown endpoint (check api doc)")

    call = node(handler).payout(TARGET, "job_1")
    if absent:
        assert await call == PayoutReport(PayoutStatus.ABSENT)
    else:
        with pytest.raises(TransientError):
            await call


async def test_the_fee_credit_is_no_balance() -> None:
    assert await node(saying(200, {"balanceSat": 7, "feeCreditSat": 20_000})).balance() == Msat(7_000)


async def test_the_rights_are_asked_for_without_an_order() -> None:
    forms: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/getinfo":
            return httpx.Response(200, json={"channels": [], "version": "0.8.0"})
        forms.append(request.content.decode())
        return httpx.Response(401, text="Invalid authentication")

    assert await node(handler).trouble() == "limited_password"
    assert forms == ["invoice="]


async def test_hints_come_from_the_source_that_is_given() -> None:
    async def source() -> Any:
        yield HASH

    lightning = PhoenixdLightning("http://node.test", PASSWORD, timeout_s=5, concurrency=4, hints=source)
    assert [each async for each in lightning.hints()] == [HASH]
    await lightning.close()


async def test_an_own_invoice_goes_out_like_any_other() -> None:
    assert not await node(saying(500, "")).is_own(TARGET)
