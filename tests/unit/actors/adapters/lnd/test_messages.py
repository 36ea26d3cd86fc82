"""Answers of LND about invoices, read as values or refused."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import pytest

from satmeter.actors.adapters.lightning.descriptions import actor_in
from satmeter.actors.adapters.lnd.messages import Failure, Row, failure_in, hex_of, read, read_new_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import InvoiceOrder, TransientError
from tests.lnbits.answers import HASH, invoice_text

ORDER = InvoiceOrder(21, "memo", 600, "job_1")
R_HASH = base64.b64encode(bytes.fromhex(HASH)).decode()
PREIMAGE = b"p" * 32
OURS = sha256(PREIMAGE).hexdigest()
OUR_R_HASH = base64.b64encode(bytes.fromhex(OURS)).decode()


def owner_of(row: Row) -> str | None:
    return actor_in(row.memo)


def row(**changes: Any) -> Row:
    body = {"r_hash": R_HASH, "state": "SETTLED", "memo": "coffee (job_1)", "amt_paid_msat": "21000", **changes}
    return read(json.dumps(body).encode(), Row)


def test_the_amount_that_arrived_is_credited() -> None:
    settled = row(value="21", value_msat="21000", amt_paid_msat="30007", add_index="7", settle_index="3")
    assert settled.settlement(owner_of) == Settlement(HASH, Msat(30_007), "job_1")
    assert (settled.add_index, settled.settle_index) == (7, 3)


@pytest.mark.parametrize("state", ["OPEN", "ACCEPTED", "CANCELED"])
def test_an_invoice_that_is_open_held_or_cancelled_is_not_paid(state: str) -> None:
    """Also where the deprecated field beside the state says so, and where a held amount is shown."""
    assert row(state=state, settled=True).settlement(owner_of) is None


def test_an_invoice_of_another_program_names_no_actor() -> None:
    found = row(memo="coffee").settlement(owner_of)
    assert found is not None
    assert found.actor_id is None


@pytest.mark.parametrize(
    "changes", [{"state": "PAID"}, {"amt_paid_msat": "0"}, {"amt_paid_msat": "-5"}, {"amt_paid_msat": str(10**19)}]
)
def test_what_no_node_says_is_not_a_payment(changes: dict[str, str]) -> None:
    with pytest.raises(TransientError):
        row(**changes).settlement(owner_of)


@pytest.mark.parametrize("text", ["", "ab", R_HASH[:-4], "é" * 44, f"{R_HASH} "])
def test_a_hash_that_is_not_32_bytes_is_rubbish(text: str) -> None:
    with pytest.raises(TransientError):
        hex_of(text)


def test_a_hash_is_read_in_either_alphabet() -> None:
    data = b"\xfb\xff" * 16
    assert hex_of(base64.b64encode(data).decode()) == hex_of(base64.urlsafe_b64encode(data).decode()) == data.hex()


def new_invoice(**changes: Any) -> bytes:
    body = {"r_hash": OUR_R_HASH, "payment_request": invoice_text(payment_hash=OURS), "add_index": "1", **changes}
    return json.dumps(body).encode()


def test_a_new_invoice_is_the_one_that_was_ordered() -> None:
    made = read_new_invoice(new_invoice(), ORDER, PREIMAGE)
    assert (made.payment_hash, made.amount_sats) == (OURS, 21)


@pytest.mark.parametrize(
    "changes",
    [
        {"payment_request": invoice_text(payment_hash=OURS, amount_sats=22)},
        {"payment_request": invoice_text(payment_hash="cd" * 32)},
        {"payment_request": invoice_text(), "r_hash": R_HASH},
        {"payment_request": "lnbc1nonsense"},
        {"r_hash": base64.b64encode(b"x" * 32).decode()},
        {"r_hash": 5},
    ],
)
def test_another_invoice_is_not_shown_to_a_client(changes: dict[str, Any]) -> None:
    with pytest.raises(TransientError):
        read_new_invoice(new_invoice(**changes), ORDER, PREIMAGE)


def test_an_error_is_found_in_an_answer_and_in_a_stream() -> None:
    told = {"code": 5, "message": "payment isn't initiated", "details": []}
    expected = Failure(5, "payment isn't initiated")
    assert failure_in(json.dumps(told).encode()) == failure_in(json.dumps({"error": told}).encode()) == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": "no"}', b'{"code": 5}', b'{"result": {"status": "FAILED"}}', b"\xff"]
)
def test_other_words_are_not_an_error_of_lnd_s(body: bytes) -> None:
    assert failure_in(body) is None


@pytest.mark.parametrize("text", ["", "ab", R_HASH[:-4], "é" * 44, "!" * 44])
def test_a_preimage_that_is_not_32_bytes_is_none(text: str) -> None:
    assert row(r_preimage=text).preimage == b""


def test_a_preimage_is_read() -> None:
    assert row(r_preimage=base64.b64encode(PREIMAGE).decode()).preimage == PREIMAGE
