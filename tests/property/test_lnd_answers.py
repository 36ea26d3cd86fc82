"""Answers of LND with anything in them: none is taken for a payment unless it says so itself, in full."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.lightning.descriptions import actor_in
from satmeter.actors.adapters.lnd import payouts
from satmeter.actors.adapters.lnd.messages import Row, failure_in, read
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import TransientError

HASH = "ab" * 32
R_HASH = base64.b64encode(bytes.fromhex(HASH)).decode()
TARGET = PayoutTarget("lnbcrt1x", HASH, Msat(250_000))
PAYMENT = {
    "payment_hash": HASH,
    "status": "SUCCEEDED",
    "value_msat": "250000",
    "fee_msat": "1000",
    "failure_reason": "FAILURE_REASON_NONE",
    "htlcs": [{"status": "SUCCEEDED"}],
}
INVOICE = {"r_hash": R_HASH, "state": "SETTLED", "memo": "coffee (ses_1)", "amt_paid_msat": "21000"}
WORDS = st.sampled_from(
    ["SUCCEEDED", "FAILED", "IN_FLIGHT", "SETTLED", "OPEN", "CANCELED", "250000", "250001", "-1", "0", HASH, R_HASH, ""]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), WORDS, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)


def changed(row: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The row with some of its fields gone, or with other values."""
    kept = st.dictionaries(st.sampled_from(sorted(row)), VALUES, max_size=3)
    gone = st.sets(st.sampled_from(sorted(row)), max_size=2)
    return st.builds(lambda new, lost: {k: v for k, v in {**row, **new}.items() if k not in lost}, kept, gone)


def is_number(value: Any, number: int) -> bool:
    return not isinstance(value, bool) and value in (number, str(number), float(number))


@given(changed(PAYMENT))
def test_a_payment_counts_as_paid_only_by_its_state_amount_and_hash(row: dict[str, Any]) -> None:
    try:
        report = payouts.read_update(json.dumps({"result": row}).encode(), TARGET)
    except TransientError:
        return
    assert row["payment_hash"] == HASH
    if report.status is PayoutStatus.PAID:
        assert row["status"] == "SUCCEEDED"
        assert is_number(row["value_msat"], 250_000)
    if report.status is PayoutStatus.FAILED:
        assert row["status"] == "FAILED"
    assert report.status is not PayoutStatus.ABSENT


@given(changed(INVOICE))
def test_an_invoice_is_credited_only_by_its_state_and_with_what_arrived(row: dict[str, Any]) -> None:
    try:
        settlement = read(json.dumps(row).encode(), Row).settlement(lambda row: actor_in(row.memo))
    except TransientError:
        return
    if settlement is not None:
        assert row["state"] == "SETTLED"
        assert settlement.payment_hash == base64.b64decode(row["r_hash"]).hex()
        assert is_number(row["amt_paid_msat"], settlement.amount_msat.value)
        assert settlement.amount_msat


@given(st.dictionaries(st.sampled_from(["code", "message", "error", "details"]), VALUES))
def test_an_error_never_says_that_a_payment_was_made(body: dict[str, Any]) -> None:
    for found in (body, {"error": body}):
        failure = failure_in(json.dumps(found).encode())
        if failure is None:
            continue
        report = payouts.read_order_failure(failure)
        assert report is None or report.status in (PayoutStatus.FAILED, PayoutStatus.PENDING)
        assert payouts.read_track_failure(failure) in (None, PayoutReport(PayoutStatus.ABSENT))


@given(st.binary(max_size=300))
def test_other_bytes_say_nothing(data: bytes) -> None:
    failure_in(data)
    for reading in (lambda: payouts.read_update(data, TARGET), lambda: read(data, Row)):
        try:
            reading()
        except TransientError:
            continue
