"""Messages about payments that we make."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from satmeter.actors.adapters.phoenixd.payouts import (
    is_unknown,
    is_unknown_path,
    payment_form,
    read_order_answer,
    read_payment,
)
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import TransientError

HASH = "ab" * 32
TARGET = PayoutTarget("lnbc1invoice", HASH, Msat(250_000))
PAID, FAILED = PayoutReport(PayoutStatus.PAID), PayoutReport(PayoutStatus.FAILED)
PENDING = PayoutReport(PayoutStatus.PENDING)


def answer(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def failed(reason: str) -> bytes:
    return answer(paymentHash=HASH, reason=reason)


def refused(refusal: PayoutRefusal) -> PayoutReport:
    return PayoutReport(PayoutStatus.FAILED, refusal=refusal)


def test_the_order_leaves_the_amount_to_the_invoice() -> None:
    assert payment_form(TARGET) == {"invoice": "lnbc1invoice"}


def test_a_preimage_says_paid() -> None:
    body = answer(recipientAmountSat=250, routingFeeSat=5, paymentId="1", paymentHash=HASH, paymentPreimage="00" * 32)
    assert read_order_answer(200, body, TARGET) == PAID


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("recipient node rejected the payment", FAILED),
        ("routing fees are insufficient", FAILED),
        ("wallet restarted while a payment was ongoing", FAILED),
        ("not enough funds in wallet to afford payment", refused(PayoutRefusal.FUNDS)),
        ("not enough funds", refused(PayoutRefusal.FUNDS)),
        (
            "payment could not be sent through existing channels, check individual failures for more details",
            refused(PayoutRefusal.FUNDS),
        ),
        ("channel is not connected yet, please retry when connected", refused(PayoutRefusal.RULES)),
        ("channel creation is in progress, please retry when ready", refused(PayoutRefusal.RULES)),
        ("this invoice has already been paid", PENDING),
        ("another payment is in progress for that invoice", PENDING),
    ],
)
def test_a_reason_says_whether_the_node_tried(reason: str, expected: PayoutReport) -> None:
    assert read_order_answer(200, failed(reason), TARGET) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b"Invalid authentication (use basic auth with ...)", refused(PayoutRefusal.KEY)),
        (401, b"<html>Sign in</html>", None),
        (400, b"Request parameter invoice couldn't be parsed/converted to bolt11invoice", FAILED),
        (400, b"<html>400 Bad Request</html>", None),
        (400, b"", None),
        (400, b"Bad Request", None),
        (404, b"Unknown endpoint (check api doc)", None),
        (500, b"something", None),
        (502, b"<html>", None),
    ],
)
def test_an_error_is_a_failure_only_by_the_node_s_own_words(
    status: int, body: bytes, expected: PayoutReport | None
) -> None:
    assert read_order_answer(status, body, TARGET) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"{",
        b"{}",
        answer(paymentHash="cd" * 32, reason="recipient node rejected the payment"),
        answer(paymentHash="cd" * 32, paymentPreimage="00" * 32),
    ],
)
def test_an_answer_that_answers_something_else_leaves_the_outcome_open(body: bytes) -> None:
    with pytest.raises(TransientError):
        read_order_answer(200, body, TARGET)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(404, b"Not found", True), (404, b"<html>Not found</html>", False), (200, b"Not found", False)],
)
def test_only_the_node_itself_says_that_it_knows_no_such_payment(status: int, body: bytes, expected: bool) -> None:
    assert is_unknown(status, body) is expected
    assert not is_unknown_path(status, body)


def test_a_path_that_old_releases_do_not_know_is_told_apart() -> None:
    assert is_unknown_path(404, b"Unknown endpoint (check api doc)")


def payment(**changes: Any) -> bytes:
    row = {
        "type": "outgoing_payment",
        "subType": "lightning",
        "paymentId": "dddfb160-f5dc-4930-b0d9-bc7a2ebf7b21",
        "paymentHash": HASH,
        "isPaid": True,
        "sent": 255,
        "fees": 5_000,
        "completedAt": 1_738_348_627_503,
        "createdAt": 1_738_348_626_053,
    }
    return msgspec.json.encode({name: value for name, value in {**row, **changes}.items() if value is not None})


def test_a_payment_is_paid_with_its_exact_fee_under_way_or_failed() -> None:
    assert read_payment(payment(), TARGET) == PayoutReport(PayoutStatus.PAID, Msat(5_000))
    assert read_payment(payment(isPaid=False, completedAt=None, fees=0), TARGET) == PENDING
    assert read_payment(payment(isPaid=False, fees=0), TARGET) == FAILED


@pytest.mark.parametrize("changes", [{"paymentHash": "cd" * 32}, {"paymentHash": None}, {"subType": "splice_out"}])
def test_another_payment_than_the_one_asked_for_is_rubbish(changes: dict[str, Any]) -> None:
    with pytest.raises(TransientError):
        read_payment(payment(**changes), TARGET)
