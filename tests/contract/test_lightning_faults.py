"""The LNbits client against answers that a good node never gives: nothing of them may credit anything."""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.bolt11_invoices import read_invoice, sign_invoice
from satmeter.actors.adapters.lnbits import LnbitsLightning
from satmeter.actors.adapters.lnbits_wire import hinted_hash
from satmeter.actors.domain.invoices import Settlement
from satmeter.actors.domain.money import Msat
from satmeter.actors.ports import InvoiceOrder, PermanentError, PortError, TransientError

KEY = "the-invoice-key-that-must-not-show"
ORDER = InvoiceOrder(21, "memo", 600, "job_1")
HASH = "ab" * 32
CREATED_AT_S = 1_800_000_000

Handler = Callable[[httpx.Request], httpx.Response]
Call = Callable[[LnbitsLightning], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "create_invoice": lambda node: node.create_invoice(ORDER),
    "lookup": lambda node: node.lookup(HASH),
    "settlements": lambda node: node.settlements(100),
    "check": lambda node: node.check(),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


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


# A node that is down, slow or somebody else


@every_call
async def test_a_node_that_is_down_is_a_transient_failure(call: Call) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"no route to {request.url} with {request.headers}")

    assert isinstance(await failure(call, handler), TransientError)


class _Silent(httpx.AsyncByteStream):
    """A body that begins and never goes on."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.Event().wait()


@every_call
async def test_a_node_that_is_slow_is_given_up_in_time(call: Call) -> None:
    error = await failure(call, lambda request: httpx.Response(200, stream=_Silent()), timeout_s=0.05)
    assert isinstance(error, TransientError)


async def test_waiting_for_a_free_slot_counts_as_waiting_for_the_node() -> None:
    lightning = node(lambda request: httpx.Response(200, stream=_Silent()), timeout_s=0.05, concurrency=1)
    outcomes = await asyncio.gather(*(lightning.check() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TransientError] * 3
    await lightning.close()


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    under_way, most = 0, 0
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            arrived.release()
            await go_on.wait()
            under_way -= 1
            return httpx.Response(200, json={"balance": 0})

    lightning = LnbitsLightning("http://node.test", KEY, timeout_s=5, concurrency=2, transport=Transport())
    calls = [asyncio.create_task(lightning.check()) for _ in range(5)]
    async with asyncio.timeout(5):
        await arrived.acquire()
        await arrived.acquire()
        go_on.set()
        await asyncio.gather(*calls)
    assert most == 2
    await lightning.close()


class _Flood(httpx.AsyncByteStream):
    """A body without end."""

    sent_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            _Flood.sent_bytes += 1_048_576
            yield b" " * 1_048_576


@every_call
async def test_a_body_without_end_is_given_up(call: Call) -> None:
    _Flood.sent_bytes = 0
    assert isinstance(await failure(call, lambda request: httpx.Response(200, stream=_Flood())), TransientError)
    assert _Flood.sent_bytes < 20 * 1_048_576


@every_call
@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>502</html>",
        "null",
        "5",
        '"paid"',
        "{}",
        "[1]",
        "[{}]",
        '{"paid": "yes"}',
        '{"paid": 1, "details": {}}',
        '{"balance": "much"}',
        '[{"payment_hash": 1, "amount": "21000", "status": true}]',
        b"\xff\xfe",
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("status", [200, 201])
async def test_rubbish_is_a_transient_failure(call: Call, status: int, text: str | bytes) -> None:
    assert isinstance(await failure(call, saying(status, text=text)), TransientError)


@every_call
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_a_permanent_failure(call: Call, status: int) -> None:
    error = await failure(call, saying(status, {"detail": f"Invalid key {KEY}"}))
    assert isinstance(error, PermanentError)
    assert "Invalid key" in str(error)


@every_call
async def test_a_body_that_does_not_fit_is_a_permanent_failure(call: Call) -> None:
    assert isinstance(await failure(call, saying(400, {"detail": [{"msg": "no"}]})), PermanentError)


@every_call
@pytest.mark.parametrize("status", [301, 307, 408, 425, 429, 500, 502, 503, 520])
async def test_a_node_in_trouble_is_a_transient_failure(call: Call, status: int) -> None:
    error = await failure(call, saying(status, {"detail": "retry", "status": "failed"}, Location="http://x.test"))
    assert isinstance(error, TransientError)
    assert str(status) in str(error)


@every_call
@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_proxy_s_page_is_transient_even_where_the_node_s_own_word_would_be_final(
    call: Call, status: int
) -> None:
    assert isinstance(await failure(call, saying(status, text="<html>not here</html>")), TransientError)


@pytest.mark.parametrize(("sent", "wait_s"), [("7", 7.0), ("86400", 60.0), ("soon", None), ("-1", None)])
async def test_the_node_s_wish_for_a_pause_is_passed_on_within_reason(sent: str, wait_s: float | None) -> None:
    error = await failure(CALLS["check"], saying(429, {"detail": "slow down"}, **{"Retry-After": sent}))
    assert isinstance(error, TransientError)
    assert error.retry_after_s == wait_s


# Invoices


async def test_an_invoice_is_ordered_with_everything_that_finds_its_actor_again() -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(201, json=payment(bolt11=invoice_text(), status="pending"))

    lightning = node(handler)
    invoice = await lightning.create_invoice(ORDER)
    assert (asked[0].method, asked[0].url.path, asked[0].headers["X-Api-Key"]) == ("POST", "/api/v1/payments", KEY)
    assert asked[0].read() == (
        b'{"out":false,"unit":"sat","amount":21,"memo":"memo","expiry":600,'
        b'"extra":{"tag":"satmeter","satmeter_actor":"job_1"}}'
    )
    assert (invoice.payment_hash, invoice.amount_sats) == (HASH, 21)
    assert invoice.expires_at_ms == (CREATED_AT_S + 600) * 1_000
    await lightning.close()


@pytest.mark.parametrize(
    "row",
    [
        payment(bolt11=invoice_text(amount_sats=20)),
        payment(bolt11=invoice_text(), amount=20_000),
        payment(bolt11=invoice_text(payment_hash="ba" * 32)),
        payment(bolt11=invoice_text(), payment_hash="ba" * 32),
        payment(bolt11=invoice_text()[:-1] + "q"),
        payment(bolt11=invoice_text()[:-20]),
        payment(bolt11="lnbc1" + "q" * 5_000),
        payment(bolt11="pay me"),
        payment(bolt11=""),
    ],
    ids=["amount", "claimed amount", "hash", "claimed hash", "checksum", "cut", "long", "words", "none"],
)
async def test_an_invoice_that_is_not_the_ordered_one_is_rubbish(row: dict[str, Any]) -> None:
    error = await failure(CALLS["create_invoice"], saying(201, row))
    assert isinstance(error, TransientError)
    assert "answered rubbish" in str(error)


def test_an_invoice_without_an_amount_is_none_of_ours() -> None:
    # The specification's own example: BOLT 11, "Please make a donation of any amount".
    donation = (
        "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rq"
        "wzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxd"
        "wk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql"
    )
    with pytest.raises(ValueError, match="without an amount"):
        read_invoice(donation)


# What counts as paid


async def looked_up(answer: Any) -> Settlement | None:
    lightning = node(saying(200, answer))
    try:
        return await lightning.lookup(HASH)
    finally:
        await lightning.close()


async def test_a_paid_invoice_is_settled_with_what_arrived() -> None:
    settled = await looked_up({"paid": True, "preimage": "0" * 64, "details": payment(amount=22_500)})
    assert settled == Settlement(HASH, Msat(22_500), "job_1")


@pytest.mark.parametrize(
    "answer",
    [
        {"paid": False, "details": payment()},
        {"paid": True, "details": payment(status="pending")},
        {"paid": True, "details": payment(status="failed")},
        {"paid": True, "details": payment(status="SUCCESS")},
        {"paid": True, "details": payment(amount=0)},
        # LNbits tells the owner the preimage of what nobody has paid: knowing it proves nothing.
        {"paid": False, "status": "pending", "preimage": "11" * 32, "details": payment(status="pending")},
    ],
)
async def test_anything_short_of_paid_and_successful_is_not_settled(answer: Any) -> None:
    assert await looked_up(answer) is None


async def test_the_status_that_a_stranger_sees_is_not_taken() -> None:
    # Without a key that owns it, LNbits may show another wallet's half of the payment, and shows no details.
    for paid in (True, False):
        with pytest.raises(PermanentError):
            await looked_up({"paid": paid, "preimage": "0" * 64})


async def test_details_of_another_payment_are_rubbish() -> None:
    with pytest.raises(TransientError, match="rubbish"):
        await looked_up({"paid": True, "details": payment(payment_hash="ba" * 32)})


@pytest.mark.parametrize("extra", [None, [], "x", {}, {"satmeter_actor": 5}, {"satmeter_actor": None}])
async def test_a_payment_without_an_actor_of_ours_has_none(extra: Any) -> None:
    assert await looked_up({"paid": True, "details": payment(extra=extra)}) == Settlement(HASH, Msat(21_000), None)


async def test_an_amount_above_all_bitcoin_is_rubbish() -> None:
    with pytest.raises(TransientError, match="rubbish"):
        await looked_up({"paid": True, "details": payment(amount=10**20)})


async def test_of_a_payment_to_ourselves_only_the_incoming_half_counts() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/api/v1/payments":
            return httpx.Response(200, json={"paid": True, "details": payment(amount=-21_000)})
        assert request.url.params["payment_hash[eq]"] == HASH
        return httpx.Response(200, json=incoming)

    for incoming, expected in (
        ([payment()], Settlement(HASH, Msat(21_000), "job_1")),
        ([], None),
        ([payment(payment_hash="ba" * 32)], None),  # a node that does not know the filter
        ([payment(amount=-21_000)], None),
    ):
        lightning = node(handler)
        assert await lightning.lookup(HASH) == expected
        await lightning.close()


async def test_only_our_settled_incoming_payments_are_listed() -> None:
    rows = [
        payment(),
        payment(payment_hash="01" * 32, amount=-21_000),
        payment(payment_hash="02" * 32, status="pending"),
        payment(payment_hash="03" * 32, extra={"tag": "satmeter"}),
        payment(payment_hash="04" * 32, extra=None),
        payment(payment_hash="nonsense"),
    ]
    lightning = node(saying(200, rows))
    assert await lightning.settlements(100) == [Settlement(HASH, Msat(21_000), "job_1")]
    await lightning.close()


@pytest.mark.parametrize(
    "message",
    [
        "",
        "paid!",
        "[]",
        "{}",
        '{"payment": null}',
        '{"payment": []}',
        '{"payment": {"payment_hash": 1}}',
        '{"payment": {"payment_hash": "' + "AB" * 32 + '"}}',
        '{"payment": {"payment_hash": "../wallet"}}',
        b"\xff\xfe\x00",
        "[" * 100_000,
        '{"payment":' * 50_000,
    ],
)
def test_a_push_that_is_not_about_a_payment_hints_nothing(message: str | bytes) -> None:
    assert hinted_hash(message) is None


@pytest.mark.parametrize("message", [f'{{"payment": {{"payment_hash": "{HASH}"}}, "wallet_balance": 1}}'])
def test_a_push_about_a_payment_hints_its_hash(message: str) -> None:
    assert hinted_hash(message) == HASH
    assert hinted_hash(message.encode()) == HASH
