"""Wallets' answers, each in its own shape: what proves that an invoice was paid, and what does not."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from satmeter.actors.adapters.nwc.exchange import Answer, WalletError
from satmeter.actors.adapters.nwc.messages import (
    Page,
    State,
    Transaction,
    failure,
    hinted_hash,
    invoiced_at_s,
    is_not_found,
    is_preimage_of,
    read_new_invoice,
)
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.ports import InvoiceOrder, PermanentError, TransientError
from tests.helpers.invoices import over_hash_of

AT_S = 1_800_000_000
PREIMAGE = "11" * 32
HASH = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
ACTOR = "job_0123456789abcdefghijklmnopqrstuv"
ORDER = InvoiceOrder(21, "memo", 600, ACTOR)


def text(memo: str = f"memo ({ACTOR})", payment_hash: str = HASH, amount_msat: int = 21_000) -> str:
    return sign_invoice(
        "22" * 32,
        payment_hash=payment_hash,
        payment_secret="33" * 32,
        amount_msat=Msat(amount_msat),
        memo=memo,
        at_s=AT_S,
        expiry_s=600,
    )


def row(**fields: Any) -> Transaction:
    return msgspec.convert({"invoice": text(), **fields}, Transaction)


UNPAID_ALBY = {
    "type": "incoming", "state": "pending", "preimage": "", "amount": 21_000, "fees_paid": 0, "created_at": AT_S,
    "expires_at": AT_S + 600, "settled_at": None, "settle_deadline": None, "metadata": {},
}  # fmt: skip
PAID_ALBY = {**UNPAID_ALBY, "state": "settled", "settled_at": AT_S + 5, "preimage": PREIMAGE}
# LNbits shows the preimage of an unpaid invoice, and with a lapsed one a time of settlement.
UNPAID_LNBITS = {**UNPAID_ALBY, "preimage": PREIMAGE}
LAPSED_LNBITS = {**UNPAID_LNBITS, "state": "failed", "settled_at": AT_S}
LAPSED_OLD_LNBITS = {key: value for key, value in LAPSED_LNBITS.items() if key != "state"}
# coinos names no state, and an internal id for a preimage where the payment was within it.
UNPAID_COINOS = {"type": "incoming", "created_at": AT_S - 600, "settled_at": None}
PAID_COINOS = {**UNPAID_COINOS, "amount": 21_000, "settled_at": AT_S + 5, "preimage": "5ff1e5a0-7b0e-4a3f-9a61-0f4d1c"}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        (UNPAID_ALBY, State.UNPAID),
        (PAID_ALBY, State.SETTLED),
        ({**PAID_ALBY, "state": "SETTLED"}, State.SETTLED),
        ({**UNPAID_ALBY, "state": "expired"}, State.UNPAID),
        ({**UNPAID_ALBY, "state": "accepted"}, State.UNPAID),
        ({**PAID_ALBY, "state": "odd"}, State.UNTOLD),
        (UNPAID_LNBITS, State.UNPAID),
        (LAPSED_LNBITS, State.UNPAID),
        (LAPSED_OLD_LNBITS, State.UNTOLD),
        (UNPAID_COINOS, State.UNPAID),
        (PAID_COINOS, State.SETTLED),
        ({"type": "incoming", "settled_at": 0}, State.UNPAID),
    ],
)
def test_an_invoice_counts_as_paid_by_its_state_or_by_a_time_of_its_own(fields: dict[str, Any], state: State) -> None:
    assert row(**fields).incoming_state() is state


def test_in_a_list_of_paid_invoices_one_time_is_enough() -> None:
    listed = row(type="incoming", created_at=AT_S, settled_at=AT_S, amount=21_000)
    assert listed.incoming_state(listed_as_paid=True) is State.SETTLED
    assert row(**UNPAID_ALBY).incoming_state(listed_as_paid=True) is State.UNPAID


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"state": "settled"}, State.SETTLED),
        ({"state": "failed"}, State.FAILED),
        ({"state": "pending"}, State.UNPAID),
        ({"state": "accepted"}, State.UNPAID),
        # Alby Hub says so of payments under way, too, when the invoice has lapsed.
        ({"state": "expired"}, State.LAPSED),
        ({"state": "odd"}, State.UNTOLD),
        ({"settled_at": AT_S, "preimage": PREIMAGE}, State.SETTLED),
        ({"settled_at": AT_S, "preimage": PREIMAGE.upper()}, State.SETTLED),
        # LNbits of before 2026 says so of payments that failed.
        ({"settled_at": AT_S, "preimage": "00" * 32}, State.UNTOLD),
        ({"settled_at": AT_S}, State.UNTOLD),
        ({"preimage": PREIMAGE}, State.UNPAID),
        ({}, State.UNPAID),
    ],
)
def test_a_payment_has_ended_only_by_its_state_or_by_its_preimage(fields: dict[str, Any], state: State) -> None:
    assert row(type="outgoing", **fields).outgoing_state() is state


def test_the_invoice_s_own_hash_comes_before_what_the_wallet_calls_one() -> None:
    assert row(payment_hash="5ff1e5a0-7b0e").hash == HASH
    assert row(invoice=None, payment_hash="AB" * 32).hash == "ab" * 32
    assert row(invoice="lnbc1nonsense", payment_hash="ab" * 32).hash == "ab" * 32
    assert row(invoice=None, payment_hash="5ff1e5a0-7b0e").hash is None


def test_the_invoice_s_own_text_names_the_actor() -> None:
    assert row(description="edited (job_another)").actor_id == ACTOR
    assert row(invoice=None, description=f"memo ({ACTOR})").actor_id == ACTOR
    assert row(invoice=text("a stranger's")).actor_id is None
    assert row(invoice=None).actor_id is None


def test_where_the_invoice_has_a_hash_alone_the_wallet_s_text_must_be_what_it_is_of() -> None:
    memo = f"memo ({ACTOR})"
    hashed = over_hash_of(memo, text())
    assert row(invoice=hashed, description=memo).actor_id == ACTOR
    for told in ("edited (job_another)", f"edited ({ACTOR})", "", "\ud800", None):
        assert row(invoice=hashed, description=told).actor_id is None


def test_a_new_invoice_may_be_over_the_hash_of_its_description() -> None:
    hashed = over_hash_of(f"memo ({ACTOR})", text())
    assert read_new_invoice(Answer(result={"invoice": hashed}), ORDER).payment_hash == HASH
    for memo in (f"another ({ACTOR})", "memo"):
        with pytest.raises(PermanentError, match="descriptions"):
            read_new_invoice(Answer(result={"invoice": over_hash_of(memo, text(memo))}), ORDER)


@pytest.mark.parametrize("fields", [{"amount": None}, {"amount": 0}, {"amount": -1}, {"amount": 10**30}])
def test_a_payment_without_a_sane_amount_credits_nothing(fields: dict[str, Any]) -> None:
    with pytest.raises(TransientError):
        row(**{**PAID_ALBY, **fields}).settlement()


def test_the_wallet_s_amount_is_credited() -> None:
    assert row(**{**PAID_ALBY, "amount": 30_007}).settlement().amount_msat == Msat(30_007)


@pytest.mark.parametrize(
    "result",
    [
        {**UNPAID_ALBY, "invoice": text(), "payment_hash": HASH},
        {"type": "incoming", "invoice": text().upper(), "amount": 21_000},  # coinos names no hash
    ],
)
def test_a_new_invoice_is_read_from_its_own_text(result: dict[str, Any]) -> None:
    invoice = read_new_invoice(Answer(result=result), ORDER)
    assert (invoice.payment_request, invoice.payment_hash) == (text(), HASH)
    assert (invoice.amount_sats, invoice.expires_at_ms) == (21, (AT_S + 600) * 1_000)


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (None, TransientError),
        ([], TransientError),
        ({}, TransientError),
        ({"invoice": "lnbc1nonsense"}, TransientError),
        ({"invoice": text(amount_msat=20_000)}, TransientError),
        ({"invoice": text(), "payment_hash": "ab" * 32}, TransientError),
        ({"invoice": text("memo")}, PermanentError),
        ({"invoice": text("")}, PermanentError),
        ({"invoice": text("memo (job_another)")}, PermanentError),
    ],
)
def test_an_invoice_that_was_not_ordered_is_not_given_out(result: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_new_invoice(Answer(result=result), ORDER)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("RATE_LIMITED", TransientError),
        ("INTERNAL", TransientError),
        ("OTHER", TransientError),
        ("RESTRICTED", PermanentError),
        ("UNAUTHORIZED", PermanentError),
        ("NOT_IMPLEMENTED", PermanentError),
        ("ODD", PermanentError),
        (None, PermanentError),
    ],
)
def test_an_error_may_pass_or_not(code: str | None, error: type[Exception]) -> None:
    assert type(failure(WalletError(code, "words" * 1_000))) is error
    assert len(str(failure(WalletError("C" * 1_000, "words" * 1_000)))) < 300


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("NOT_FOUND", None, True),
        ("INTERNAL", "Payment not found", True),  # LNbits
        ("INTERNAL", "Payment not found.", True),
        ("INTERNAL", "no such table", False),
        ("OTHER", "Payment not found", False),
        (None, None, False),
    ],
)
def test_only_the_wallet_s_own_words_mean_that_it_never_heard_of_it(
    code: str | None, message: str | None, expected: bool
) -> None:
    assert is_not_found(WalletError(code, message)) is expected


def test_a_hint_is_the_hash_of_a_received_payment() -> None:
    assert hinted_hash("payment_received", {"payment_hash": "AB" * 32}) == "ab" * 32
    assert hinted_hash("payment_sent", {"payment_hash": "ab" * 32}) is None
    odds: list[Any] = [None, [], {}, {"payment_hash": 1}, {"payment_hash": "x"}]
    for odd in odds:
        assert hinted_hash("payment_received", odd) is None


def test_a_preimage_is_one_by_its_hash() -> None:
    assert is_preimage_of(PREIMAGE, HASH)
    for odd in (None, "", "00" * 32, "x" * 64, PREIMAGE[:-2]):
        assert not is_preimage_of(odd, HASH)


def test_the_time_before_an_invoice_is_known_from_its_text() -> None:
    assert invoiced_at_s(row()) == AT_S - 600
    assert invoiced_at_s(row(invoice=None)) is None
    assert invoiced_at_s(row(invoice="lnbc1nonsense")) is None


def test_a_row_that_cannot_be_read_does_not_hide_the_others() -> None:
    page = msgspec.convert({"transactions": [None, {"amount": "x"}, {"type": "incoming", "amount": 5}]}, Page)
    assert page.rows == [Transaction(), Transaction(), Transaction(type="incoming", amount=5)]
