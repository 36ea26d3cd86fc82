"""Reading invoices: what a wallet would pay is read as it stands, and everything else is none."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import MSAT_MAX, Msat
from satmeter.actors.domain.payments.bolt11 import ReadInvoice, read_invoice
from tests.helpers import invoices
from tests.helpers.invoices import NODE_KEY

HASH = "ab" * 32
AT_S = 1_800_000_000


def signed(amount_msat: int = 21_000, expiry_s: int = 600) -> str:
    return sign_invoice(
        NODE_KEY,
        payment_hash=HASH,
        payment_secret="33" * 32,
        amount_msat=Msat(amount_msat),
        memo="memo",
        at_s=AT_S,
        expiry_s=expiry_s,
    )


def behind(human_part: str) -> str:
    """A good invoice with this in place of "lnbcrt" and the amount; signature and checksum fit."""
    return invoices.behind(human_part, signed())


def test_an_invoice_is_read_whole() -> None:
    text = signed()
    assert read_invoice(text) == ReadInvoice(text, HASH, Msat(21_000), (AT_S + 600) * 1_000, "bcrt")


@pytest.mark.parametrize("currency", ["bc", "tb", "tbs", "bcrt"])
@pytest.mark.parametrize(("amount", "amount_msat"), [("210n", 21_000), ("10p", 1), ("210p", 21), ("1m", 100_000_000)])
def test_the_network_is_told_apart_from_the_amount(currency: str, amount: str, amount_msat: int) -> None:
    invoice = read_invoice(behind(f"ln{currency}{amount}"))
    assert (invoice.currency, invoice.amount_msat) == (currency, Msat(amount_msat))


@pytest.mark.parametrize("prefix", ["", "lightning:", "LIGHTNING:", "Lightning:"])
def test_a_wallet_s_ways_to_write_an_invoice_are_read_as_the_same(prefix: str) -> None:
    text = signed()
    assert read_invoice(prefix + text) == read_invoice(prefix + text.upper()) == read_invoice(text)


def test_upper_and_lower_case_are_not_mixed() -> None:
    text = signed()
    for mixed in (text.replace("q", "Q"), text.capitalize(), text[:20].upper() + text[20:]):
        assert mixed.lower() == text != mixed
        with pytest.raises(ValueError, match="mixed"):
            read_invoice(mixed)


def test_a_letter_that_only_becomes_ascii_in_lower_case_is_none_of_an_invoice() -> None:
    # The sign for kelvin, whose lower case is the letter k.
    text = signed().upper()
    assert "K" in text
    with pytest.raises(ValueError, match="letters"):
        read_invoice(text.replace("K", "\N{KELVIN SIGN}"))


@pytest.mark.parametrize("human_part", ["lnbc25p", "lnbcrt1p", "lnbcrt", "lnbc", "lnbcrt0u", "lnbc0"])
def test_an_amount_that_can_t_be_paid_in_msat_is_none(human_part: str) -> None:
    with pytest.raises(ValueError, match=r"amount|nothing"):
        read_invoice(behind(human_part))


@pytest.mark.parametrize("human_part", ["lnxx10u", "lnbc10x", "lnbc-10u", "bc10u", "lnbc10u5", "lnbc\u0663u"])
def test_a_human_part_that_is_none_is_refused(human_part: str) -> None:
    with pytest.raises(ValueError):
        read_invoice(behind(human_part) if human_part.startswith("ln") else signed().replace("lnbcrt", human_part))


def test_more_than_all_bitcoin_is_refused() -> None:
    assert read_invoice(behind("lnbc21000000")).amount_msat == Msat(MSAT_MAX)
    for human_part in ("lnbc21000001", "lnbc" + "9" * 40):
        with pytest.raises(ValueError, match="all bitcoin"):
            read_invoice(behind(human_part))


def test_an_expiry_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="calendar"):
        read_invoice(signed(expiry_s=2**50))


@pytest.mark.parametrize(
    "text",
    ["", "1", "lightning:", "lightning:lightning:" + signed(), "bitcoin:" + signed(), " " + signed(), signed() + "\n"],
)
def test_what_is_no_invoice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a BOLT11 invoice"):
        read_invoice(text)


def test_every_wrong_letter_is_noticed() -> None:
    text = signed()
    for at in range(len("lnbcrt210n1"), len(text)):
        other = "q" if text[at] != "q" else "p"
        with pytest.raises(ValueError):
            read_invoice(text[:at] + other + text[at + 1 :])


def test_what_is_longer_than_any_invoice_is_not_even_decoded() -> None:
    with pytest.raises(ValueError, match="longer"):
        read_invoice("lnbcrt1" + "q" * 10_000_000)
