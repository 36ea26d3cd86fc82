"""The LNbits client against answers that a good node never gives: nothing of them may credit anything."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnbits.messages import hinted_hash
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import PermanentError, TransientError
from tests.lnbits.answers import CREATED_AT_S, HASH, KEY, ORDER, failure, invoice_text, node, payment, saying

# Invoices


def misspelt(text: str) -> str:
    return text[:-1] + ("p" if text.endswith("q") else "q")


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
        payment(bolt11=misspelt(invoice_text())),
        payment(bolt11=invoice_text()[:-20]),
        payment(bolt11="lnbc1" + "q" * 5_000),
        payment(bolt11="pay me"),
        payment(bolt11=""),
    ],
    ids=["amount", "claimed amount", "hash", "claimed hash", "checksum", "cut", "long", "words", "none"],
)
async def test_an_invoice_that_is_not_the_ordered_one_is_rubbish(row: dict[str, Any]) -> None:
    error = await failure(lambda lightning: lightning.create_invoice(ORDER), saying(201, row))
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


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([payment()], Settlement(HASH, Msat(21_000), "job_1")),
        ([], None),
        ([payment(payment_hash="ba" * 32)], None),  # a node that does not know the filter
        ([payment(amount=-21_000)], None),
    ],
    ids=["both halves", "one half", "another payment", "one half twice"],
)
async def test_of_a_payment_to_ourselves_only_the_incoming_half_counts(
    listed: list[dict[str, Any]], expected: Settlement | None
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/api/v1/payments":
            return httpx.Response(200, json={"paid": True, "details": payment(amount=-21_000)})
        assert request.url.params["payment_hash[eq]"] == HASH
        return httpx.Response(200, json=listed)

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
