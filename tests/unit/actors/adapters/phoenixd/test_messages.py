"""Messages about the node and what it received."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
import pytest

from satmeter.actors.adapters.phoenixd.messages import (
    Incoming,
    NodeInfo,
    actor_of,
    external_id,
    hinted_hash,
    invoice_form,
    read_incoming,
    read_new_invoice,
    read_received,
)
from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.quotes import digest_in
from satmeter.actors.ports import InvoiceOrder, TransientError

HASH = "ab" * 32
ORDER = InvoiceOrder(21, "memo", 600, "job_1")


def bolt11(*, payment_hash: str = HASH, amount_sats: int = 21) -> str:
    return sign_invoice(
        secrets.token_hex(32),
        payment_hash=payment_hash,
        payment_secret="cd" * 32,
        amount_msat=Msat.from_sats(amount_sats),
        memo="memo",
        at_s=1_800_000_000,
        expiry_s=600,
    )


def row(**changes: Any) -> Any:
    shown = {
        "type": "incoming_payment",
        "subType": "lightning",
        "paymentHash": HASH,
        "preimage": "00" * 32,
        "externalId": "satmeter:job_1",
        "isPaid": True,
        "receivedSat": 21,
        "requestedSat": 21,
        "fees": 0,
        "completedAt": 1_800_000_100_000,
        "createdAt": 1_800_000_000_000,
    }
    return {name: value for name, value in {**shown, **changes}.items() if value is not None}


def settlement(**changes: Any) -> Settlement | None:
    return msgspec.convert(row(**changes), Incoming).settlement()


def test_a_payment_credits_the_actor_that_the_invoice_names() -> None:
    assert settlement() == Settlement(HASH, Msat(21_000), "job_1")


@pytest.mark.parametrize("changes", [{"isPaid": False, "receivedSat": 0}, {"paymentHash": "AB" * 32}])
def test_what_is_unpaid_or_unnamed_credits_nothing(changes: dict[str, Any]) -> None:
    assert settlement(**changes) is None


@pytest.mark.parametrize("text", [None, "", "order-17", "satmeter:", "job_1"])
def test_an_invoice_of_another_program_names_no_actor(text: str | None) -> None:
    found = settlement(externalId=text)
    assert found is not None
    assert found.actor_id is None


def test_an_id_goes_to_the_node_and_comes_back() -> None:
    assert actor_of(external_id("ses_1")) == "ses_1"


def test_the_client_is_credited_what_it_paid_where_a_channel_was_paid_from_it() -> None:
    """Figures of a first channel, as another program's operator told them."""
    assert settlement(requestedSat=18_037, receivedSat=2_234, fees=15_803_000) == Settlement(
        HASH, Msat(18_037_000), "job_1", kept_msat=Msat(15_803_000)
    )


def test_a_fee_that_was_partly_paid_by_the_fee_credit_is_not_credited() -> None:
    """Newer releases may tell the whole price of the channel, also what earlier payments have paid of it."""
    found = settlement(requestedSat=12_235, receivedSat=3_825, fees=22_149_000)
    assert found == Settlement(HASH, Msat(12_235_000), "job_1", kept_msat=Msat(8_410_000))


def test_what_arrived_above_the_invoice_s_amount_is_credited() -> None:
    assert settlement(receivedSat=40) == Settlement(HASH, Msat(40_000), "job_1")


def test_releases_that_do_not_tell_the_amount_asked_for_tell_the_invoice() -> None:
    found = settlement(requestedSat=None, receivedSat=1, fees=20_000, invoice=bolt11())
    assert found == Settlement(HASH, Msat(21_000), "job_1", kept_msat=Msat(20_000))
    assert settlement(requestedSat=None, receivedSat=5, invoice="lnbc1rubbish") == Settlement(
        HASH, Msat(5_000), "job_1"
    )


def test_an_absurd_amount_is_rubbish() -> None:
    with pytest.raises(TransientError):
        settlement(receivedSat=10**16)


def test_a_page_has_the_paid_ones_in_its_order() -> None:
    other = "cd" * 32
    page = [row(), row(paymentHash="ef" * 32, isPaid=False), row(paymentHash=other, externalId=None)]
    assert read_received(msgspec.json.encode(page)) == [
        Settlement(HASH, Msat(21_000), "job_1"),
        Settlement(other, Msat(21_000), None),
    ]


def test_another_payment_than_the_one_asked_for_is_rubbish() -> None:
    with pytest.raises(TransientError):
        read_incoming(msgspec.json.encode(row()), "cd" * 32)


def test_an_order_becomes_a_form() -> None:
    assert invoice_form(ORDER) == {
        "description": "memo",
        "amountSat": "21",
        "expirySeconds": "600",
        "externalId": "satmeter:job_1",
    }


@pytest.mark.parametrize("letters", [24, 31, 32, 200])
def test_a_long_description_is_cut_and_keeps_the_quote_s_digest(letters: int) -> None:
    memo = f"Satmeter: work by {'m' * letters}, quote sha256:{'0a' * 32}"
    text = invoice_form(InvoiceOrder(9, memo, 600, "job_1"))["description"]
    assert len(text) <= 128
    assert digest_in(text) == "0a" * 32
    assert (text == memo) == (len(memo) <= 128)


def test_a_new_invoice_is_held_to_its_order() -> None:
    def made(**changes: Any) -> bytes:
        return msgspec.json.encode({"amountSat": 21, "paymentHash": HASH, "serialized": bolt11(), **changes})

    invoice = read_new_invoice(made(), ORDER)
    assert (invoice.payment_hash, invoice.amount_sats) == (HASH, 21)
    assert invoice.expires_at_ms == 1_800_000_600_000
    for changes in (
        {"serialized": bolt11(amount_sats=22)},
        {"serialized": bolt11(payment_hash="cd" * 32)},
        {"serialized": "lnbc1nonsense"},
        {"paymentHash": "cd" * 32},
    ):
        with pytest.raises(TransientError):
            read_new_invoice(made(**changes), ORDER)


@pytest.mark.parametrize(
    ("version", "release"),
    [("0.8.0-de6f8ae", (0, 8)), ("v0.10.1", (0, 10)), ("1.2", (1, 2)), ("", None), ("dev", None)],
)
def test_a_version_has_two_numbers_that_count(version: str, release: tuple[int, int] | None) -> None:
    assert NodeInfo([], version).release == release


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (f'{{"type": "payment_received", "amountSat": 15, "paymentHash": "{HASH}"}}', HASH),
        (f'{{"type": "payment_sent", "paymentHash": "{HASH}"}}', None),
        ('{"type": "payment_received", "paymentHash": "x"}', None),
        ('{"type": "payment_received"}', None),
        ('"payment_received"', None),
        (b"\xff", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_an_event_hints_at_a_payment_that_came_in(message: str | bytes, expected: str | None) -> None:
    assert hinted_hash(message) == expected
