"""LND's words about payments that we order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.actors.adapters.lnd import payouts
from satmeter.actors.adapters.lnd.messages import Failure
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import TransientError

HASH = "fb" * 32
TARGET = PayoutTarget("lnbcrt1the-invoice", HASH, Msat(250_000))
PENDING = PayoutReport(PayoutStatus.PENDING)
FAILED = PayoutReport(PayoutStatus.FAILED)


def payment(**changes: Any) -> dict[str, Any]:
    row = {
        "payment_hash": HASH,
        "value_msat": "250000",
        "status": "SUCCEEDED",
        "fee_msat": "1234",
        "fee_sat": "1",
        "failure_reason": "FAILURE_REASON_NONE",
        "htlcs": [],
        "payment_index": "7",
        "creation_time_ns": "1800000000123456789",
    }
    return {**row, **changes}


def update(**changes: Any) -> PayoutReport:
    return payouts.read_update(json.dumps({"result": payment(**changes)}).encode(), TARGET)


def test_an_order_holds_the_fee_limit_in_msat_and_never_allows_a_payment_to_ourselves() -> None:
    order = payouts.payment_order(TARGET, Msat(2_500))
    assert order["payment_request"] == TARGET.payment_request
    assert order["fee_limit_msat"] == "2500"
    assert order["timeout_seconds"] > 0
    assert order["no_inflight_updates"] is True
    assert "allow_self_payment" not in order


def test_a_hash_with_slashes_and_pluses_is_a_path() -> None:
    path = payouts.track_path("ffbf" * 16)
    assert path == "/v2/router/track/" + "_7__v_-__7__v_-__7__v_-__7__v_-__7__v_-__78=" or path.count("/") == 4
    assert "+" not in path


def test_a_paid_payment_tells_the_cost_of_its_route() -> None:
    assert update() == PayoutReport(PayoutStatus.PAID, Msat(1_234))


@pytest.mark.parametrize("status", ["IN_FLIGHT", "INITIATED", "UNKNOWN"])
def test_a_payment_that_is_not_over_is_pending(status: str) -> None:
    assert update(status=status, value_msat="0", fee_msat="0") == PENDING


@pytest.mark.parametrize(
    "reason",
    [
        "FAILURE_REASON_TIMEOUT",
        "FAILURE_REASON_NO_ROUTE",
        "FAILURE_REASON_ERROR",
        "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS",
        "FAILURE_REASON_CANCELED",
        "FAILURE_REASON_OF_LATER_VERSIONS",
    ],
)
def test_a_failure_is_one_of_this_invoice(reason: str) -> None:
    assert update(status="FAILED", failure_reason=reason) == FAILED


def test_too_little_money_is_a_refusal_where_nothing_was_tried() -> None:
    reason = "FAILURE_REASON_INSUFFICIENT_BALANCE"
    assert update(status="FAILED", failure_reason=reason).refusal is PayoutRefusal.FUNDS
    assert update(status="FAILED", failure_reason=reason, htlcs=[{"status": "FAILED"}]) == FAILED


def test_a_failed_payment_with_a_part_under_way_is_not_failed_yet() -> None:
    assert update(status="FAILED", htlcs=[{"status": "FAILED"}, {"status": "IN_FLIGHT"}]) == PENDING


@pytest.mark.parametrize(
    "changes",
    [
        {"payment_hash": "ab" * 32},
        {"value_msat": "250001"},
        {"value_msat": "249999", "status": "FAILED"},
        {"status": "PAID"},
        {"status": "FAILED", "htlcs": [{"status": "SUCCEEDED"}]},
        {"fee_msat": "-1"},
    ],
)
def test_an_update_that_is_not_about_this_payment_says_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(TransientError):
        update(**changes)


@pytest.mark.parametrize("line", [b"", b"{}", b"<html>", b'{"result": null}', b'{"result": {"status": "FAILED"}}'])
def test_rubbish_says_nothing(line: bytes) -> None:
    with pytest.raises(TransientError):
        payouts.read_update(line, TARGET)


@pytest.mark.parametrize(
    ("failure", "report"),
    [
        (Failure(6, "invoice is already paid"), PENDING),
        (Failure(2, "invoice is already paid"), PENDING),
        (Failure(6, "payment is in transition"), PENDING),
        (Failure(2, "self-payments not allowed"), FAILED),
        (Failure(2, "invoice expired. Valid until 2026-01-01 00:00:00 +0000 UTC"), FAILED),
        (Failure(2, "invoice not for current active network 'mainnet'"), FAILED),
        (Failure(2, "permission denied"), PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)),
        (Failure(2, "wallet locked, unlock it to enable full RPC access"), None),
        (Failure(14, "transport is closing"), None),
        (Failure(4, "context deadline exceeded"), None),
        (Failure(5, "Not Found"), None),
    ],
)
def test_an_error_is_a_failure_only_where_lnd_tried_nothing(failure: Failure, report: PayoutReport | None) -> None:
    assert payouts.read_order_failure(failure) == report


def test_only_lnd_s_own_word_says_that_a_payment_is_unknown() -> None:
    absent = PayoutReport(PayoutStatus.ABSENT)
    assert payouts.read_track_failure(Failure(5, "payment isn't initiated")) == absent
    for failure in (Failure(5, "Not Found"), Failure(2, "payment isn't initiated"), Failure(2, "permission denied")):
        assert payouts.read_track_failure(failure) is None


def test_what_went_out_is_listed_the_newest_first_by_its_index() -> None:
    rows = [payment(payment_index="7"), payment(payment_index="9", payment_hash="ab" * 32, fee_msat="0")]
    found = payouts.read_sent(json.dumps({"payments": rows}).encode())
    assert [index for index, _ in found] == [9, 7]
    first, second = (sent for _, sent in found)
    assert (first.row_id, first.payment_hash, first.actor_id) == ("9", "ab" * 32, "")
    assert (second.amount_msat, second.fee_msat, second.at_ms) == (Msat(250_000), Msat(1_234), 1_800_000_000_123)


@pytest.mark.parametrize("changes", [{"status": "IN_FLIGHT"}, {"payment_index": "0"}])
def test_a_list_of_other_payments_than_those_asked_for_is_rubbish(changes: dict[str, str]) -> None:
    with pytest.raises(TransientError):
        payouts.read_sent(json.dumps({"payments": [payment(**changes)]}).encode())


def test_a_paid_payment_is_paid_whatever_reason_for_a_failure_stands_beside_it() -> None:
    """As some payments of 0.18 have it: an early attempt timed out, and a later one was paid."""
    assert update(failure_reason="FAILURE_REASON_TIMEOUT") == PayoutReport(PayoutStatus.PAID, Msat(1_234))
