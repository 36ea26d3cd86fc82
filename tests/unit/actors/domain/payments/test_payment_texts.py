"""Texts around invoices."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.payments.payment_texts import invoice_text, why_no_invoice


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (" lnbc1x\n", "lnbc1x"),
        ("lnbc1\r\n x", "lnbc1x"),
        ("lightning:lnbc1x", "lnbc1x"),
        ("LIGHTNING://LNBC1X", "LNBC1X"),
        ("bitcoin:bc1q?amount=1&lightning=lnbc1x", "lnbc1x"),
        ("BITCOIN:BC1Q?LIGHTNING=LNBC1X", "LNBC1X"),
        ("bitcoin:bc1q?amount=1", "bitcoin:bc1q?amount=1"),
        ("lightning:lightning:lnbc1x", "lightning:lnbc1x"),
    ],
)
def test_an_invoice_is_found_in_what_a_wallet_gives(given: str, text: str) -> None:
    assert invoice_text(given) == text


def test_any_other_text_must_be_an_invoice() -> None:
    for text in ("", "lnbc1", "hello", "é"):
        assert (
            why_no_invoice(text) == "Must be a BOLT11 invoice with an amount, a Lightning address or an LNURL-pay code"
        )
