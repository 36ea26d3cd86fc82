"""Payouts by LNbits against any answer: paid and failed are only what LNbits itself says of our own payment."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import PermanentError, PortError, TransientError
from tests.helpers.invoices import FEE_LIMIT
from tests.helpers.patience import PATIENCE_S

INVOICE_KEY = "invoice-key-that-must-not-show"
ADMIN_KEY = "admin-key-that-must-not-show"
HASH = "ab" * 32
OTHER_HASH = "cd" * 32
ACTOR = "ses_a"
TARGET = PayoutTarget("lnbcrt210n1payme", HASH, Msat(21_000))

PAID = PayoutReport(PayoutStatus.PAID)
FAILED = PayoutReport(PayoutStatus.FAILED)
PENDING = PayoutReport(PayoutStatus.PENDING)
ABSENT = PayoutReport(PayoutStatus.ABSENT)

Answer = httpx.Response | Exception
Handler = Callable[[httpx.Request], Any]


@asynccontextmanager
async def client_of(
    handler: Handler, *, admin_key: str | None = ADMIN_KEY, timeout_s: float = 5
) -> AsyncIterator[LnbitsLightning]:
    lightning = LnbitsLightning(
        "http://lnbits.invalid",
        INVOICE_KEY,
        admin_key=admin_key,
        timeout_s=timeout_s,
        concurrency=2,
        transport=httpx.MockTransport(handler),
    )
    try:
        yield lightning
    finally:
        await lightning.close()


def answering(answer: Answer) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


async def outcome(call: str, answer: Answer) -> PayoutReport | PortError:
    """Return the result of the call, or the port's error that it raises, when the node gives this answer."""
    async with client_of(answering(answer)) as lightning:
        try:
            if call == "pay_out":
                return await lightning.pay_out(TARGET, ACTOR, FEE_LIMIT)
            return await lightning.payout(TARGET, ACTOR)
        except PortError as caught:
            error = caught
    shown = "".join(traceback.format_exception(error))
    assert INVOICE_KEY not in shown and ADMIN_KEY not in shown and "lnbits.invalid" not in str(error)
    return error


def row(status: Any = "success", **changes: Any) -> dict[str, Any]:
    """An outgoing payment as LNbits shows it."""
    shown = {
        "payment_hash": HASH,
        "amount": -21_000,
        "fee": 0,
        "status": status,
        "extra": {"tag": "satmeter", "satmeter_actor": ACTOR},
    }
    return {**shown, **changes}


def ordered(**changes: Any) -> httpx.Response:
    return httpx.Response(201, json=row(**changes))


def refused(status: Any, detail: Any = "Insufficient balance.") -> httpx.Response:
    return httpx.Response(520, json={"detail": detail, "status": status})


def listed(*rows: dict[str, Any], total: int | None = None) -> httpx.Response:
    return httpx.Response(200, json={"data": rows, "total": len(rows) if total is None else total})


SOMEBODY_ELSE_S = {"extra": {"tag": "satmeter", "satmeter_actor": "ses_b"}}
NOBODY_S: dict[str, Any] = {"extra": {}}

# What both calls must bear


BROKEN: dict[str, Answer] = {
    "no route": httpx.ConnectError(f"no route to http://lnbits.invalid/{ADMIN_KEY}"),
    "cut off": httpx.RemoteProtocolError("cut off"),
    "bad header": httpx.LocalProtocolError(f"Illegal header value b'{ADMIN_KEY}'"),
    "a proxy's 404": httpx.Response(404, html="<h1>no such server</h1>"),
    "a proxy's 403": httpx.Response(403, html="<h1>not you</h1>"),
    "a proxy's 401 without a word": httpx.Response(401),
    "a proxy's 502": httpx.Response(502, html="<h1>no upstream</h1>"),
    "a proxy's page": httpx.Response(200, html="<h1>It works!</h1>"),
    "500": httpx.Response(500, json={"detail": f"Unexpected error with {ADMIN_KEY}! ID: 5"}),
    "429": httpx.Response(429, json={"detail": "slow down"}),
    "204": httpx.Response(204),
    "202": httpx.Response(202, json={"status": "failed", "detail": "failed"}),
    "520 from a proxy": httpx.Response(520, html="<h1>Web server is returning an unknown error</h1>"),
    "520 without a status": httpx.Response(520, json={"detail": "failed"}),
    "520 without a detail": httpx.Response(520, json={"status": "failed"}),
    "520 with a strange status": refused("FAILED"),
    "520 with no status at all": refused(None),
    "201 with nothing": httpx.Response(201),
    "201 with half of it": httpx.Response(201, json={"status": "success"}),
    "201 with bits": httpx.Response(201, content=b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("call", ["pay_out", "payout"])
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_what_lnbits_does_not_say_itself_leaves_all_open(call: str, answer: Answer) -> None:
    error = await outcome(call, answer)
    if call == "payout" and isinstance(answer, httpx.Response) and answer.status_code in (401, 403):
        assert type(error) is PermanentError, "as for every other question"
    else:
        assert type(error) is TransientError


@pytest.mark.parametrize("call", ["pay_out", "payout"])
async def test_a_node_that_does_not_answer_in_time_leaves_all_open(call: str) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with client_of(never, timeout_s=0.02) as lightning:
        with pytest.raises(TransientError):
            await getattr(lightning, call)(TARGET, ACTOR, *([FEE_LIMIT] if call == "pay_out" else []))


async def test_without_an_admin_key_nothing_is_sent() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise AssertionError("something was sent")

    async with client_of(handle, admin_key=None) as lightning:
        assert await lightning.pay_out(TARGET, ACTOR, FEE_LIMIT) == PayoutReport(
            PayoutStatus.FAILED, refusal=PayoutRefusal.KEY
        )
        for call in (lightning.payout(TARGET, ACTOR), lightning.received(HASH)):
            with pytest.raises(PermanentError, match="no admin key"):
                await call


# Sending


async def test_a_payment_is_ordered_once_with_the_admin_key_and_its_actor() -> None:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return ordered()

    async with client_of(handle) as lightning:
        assert await lightning.pay_out(TARGET, ACTOR, FEE_LIMIT) == PAID
    [request] = asked
    assert (request.method, request.url.path, request.headers["X-Api-Key"]) == ("POST", "/api/v1/payments", ADMIN_KEY)
    assert json.loads(request.content) == {
        "out": True,
        "bolt11": TARGET.payment_request,
        "extra": {"tag": "satmeter", "satmeter_actor": ACTOR},
    }


async def test_all_else_is_asked_with_the_key_that_can_t_spend() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["X-Api-Key"] == INVOICE_KEY
        return httpx.Response(200, json={"balance": 0})

    async with client_of(handle) as lightning:
        await lightning.check()


@pytest.mark.parametrize(("fee", "fee_msat"), [(0, 0), (-1_500, 1_500), (1_500, 1_500)])
async def test_a_payment_that_succeeded_is_paid_with_its_fee(fee: int, fee_msat: int) -> None:
    # LNbits counts its node's fees below zero, and those between its own wallets above.
    report = PayoutReport(PayoutStatus.PAID, Msat(fee_msat))
    assert await outcome("pay_out", ordered(fee=fee)) == report
    assert await outcome("payout", listed(row(fee=fee))) == report


@pytest.mark.parametrize("status", ["pending", "failed", "SUCCESS", "", "held"])
async def test_a_payment_that_was_taken_but_did_not_succeed_yet_is_open(status: str) -> None:
    # The fee of one that has not ended is a reserve.
    assert await outcome("pay_out", ordered(status=status, fee=-2_000)) == PENDING


@pytest.mark.parametrize("changes", [SOMEBODY_ELSE_S, NOBODY_S, {"extra": None}])
async def test_somebody_else_s_success_is_not_taken_for_ours(changes: dict[str, Any]) -> None:
    assert await outcome("pay_out", ordered(**changes)) == PENDING


@pytest.mark.parametrize(
    "changes",
    [
        {"payment_hash": OTHER_HASH},
        {"amount": 21_000},
        {"amount": -21},
        {"amount": -22_000},
        {"fee": 10**20},
        {"fee": "0"},
        {"amount": None},
        {"status": True},
    ],
)
async def test_a_success_that_is_not_of_the_order_leaves_all_open(changes: dict[str, Any]) -> None:
    assert type(await outcome("pay_out", ordered(**changes))) is TransientError
    assert type(await outcome("payout", listed(row(**changes)))) is TransientError


async def test_a_payment_that_lnbits_says_failed_failed() -> None:
    assert await outcome("pay_out", refused("failed", "Payment failed: no route.")) == FAILED


@pytest.mark.parametrize("status", ["pending", "success"])
async def test_an_invoice_that_was_ordered_before_is_not_taken_for_ours(status: str) -> None:
    assert await outcome("pay_out", refused(status, "Payment already paid.")) == PENDING


@pytest.mark.parametrize(
    ("status", "detail"),
    [(400, "Payment already exists"), (400, ""), (404, "Not Found"), (404, "Payment does not exist."), (409, "no")],
)
async def test_what_lnbits_may_have_refused_later_leaves_all_open(status: int, detail: str) -> None:
    assert type(await outcome("pay_out", httpx.Response(status, json={"detail": detail}))) is TransientError


async def test_payments_are_sent_one_by_one_and_do_not_hold_up_questions() -> None:
    under_way = most = 0
    began, go_on = asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        if request.method != "POST":
            return httpx.Response(200, json={"balance": 0})
        under_way += 1
        most = max(most, under_way)
        began.set()
        await go_on.wait()
        under_way -= 1
        return ordered()

    async with client_of(handle) as lightning, asyncio.TaskGroup() as group:
        paying = [group.create_task(lightning.pay_out(TARGET, ACTOR, FEE_LIMIT)) for _ in range(5)]
        await asyncio.wait_for(began.wait(), PATIENCE_S)
        for _ in range(10):
            await lightning.check()
        go_on.set()
        assert await asyncio.gather(*paying) == [PAID] * 5
    assert most == 1


# Looking up


async def test_outgoing_payments_to_the_invoice_are_asked_for_with_the_key_that_paid() -> None:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return listed()

    async with client_of(handle) as lightning:
        assert await lightning.payout(TARGET, ACTOR) == ABSENT
    [request] = asked
    assert (request.method, request.url.path) == ("GET", "/api/v1/payments/paginated")
    assert request.headers["X-Api-Key"] == ADMIN_KEY
    assert (request.url.params["payment_hash[eq]"], request.url.params["amount[lt]"]) == (HASH, "0")


@pytest.mark.parametrize(("status", "report"), [("success", PAID), ("failed", FAILED), ("pending", PENDING)])
async def test_a_payment_of_ours_is_what_lnbits_says_it_is(status: str, report: PayoutReport) -> None:
    assert await outcome("payout", listed(row(status, fee=0))) == report


async def test_the_fee_of_a_payment_that_was_not_made_is_none() -> None:
    assert await outcome("payout", listed(row("failed", fee=-2_000))) == FAILED
    assert await outcome("payout", listed(row("pending", fee=-2_000))) == PENDING


@pytest.mark.parametrize("status", ["success", "failed", "pending"])
@pytest.mark.parametrize("changes", [SOMEBODY_ELSE_S, NOBODY_S, {"extra": None}, {"extra": [ACTOR]}])
async def test_somebody_else_s_payment_did_not_pay_our_client(status: str, changes: dict[str, Any]) -> None:
    assert await outcome("payout", listed(row(status, **changes))) == FAILED


@pytest.mark.parametrize(
    ("statuses", "report"),
    [(["failed", "success"], PAID), (["failed", "pending"], PENDING), (["pending", "success"], PAID)],
)
async def test_of_several_payments_of_ours_the_one_that_costs_us_counts(
    statuses: list[str], report: PayoutReport
) -> None:
    rows = [row("failed", **SOMEBODY_ELSE_S), *(row(status) for status in statuses)]
    assert await outcome("payout", listed(*rows)) == report
    assert await outcome("payout", listed(*reversed(rows))) == report


@pytest.mark.parametrize(
    "answer",
    [
        listed(row(payment_hash=OTHER_HASH)),
        listed(row(), row(payment_hash=OTHER_HASH)),
        listed(row(amount=21_000)),
        listed(row(amount=0)),
        listed(total=1),
        listed(row("held")),
        httpx.Response(200, json=[row()]),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json={"data": {}, "total": 0}),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(404, json={"detail": "Wallet not found."}),
        httpx.Response(401, json={"detail": "No Api Key provided."}),
        httpx.Response(520, json={"detail": "Payment does not exist.", "status": "failed"}),
    ],
)
async def test_an_answer_that_is_no_list_of_payments_to_the_invoice_says_nothing(answer: httpx.Response) -> None:
    assert isinstance(await outcome("payout", answer), PortError)
