"""BOLT11 from any text: read or refused; what a changed invoice says is what it is signed for."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments import bolt11_codec
from satmeter.actors.domain.payments.bolt11 import ReadInvoice, description_of, normalised, read_invoice
from satmeter.actors.domain.payments.bolt11_reading import read_fields
from satmeter.actors.domain.payments.payment_texts import invoice_text, why_no_invoice
from tests.fuzz.mutations import broken

GOOD = sign_invoice(
    "22" * 32,
    payment_hash="ab" * 32,
    payment_secret="33" * 32,
    amount_msat=Msat(21_000),
    memo="memo",
    at_s=1_800_000_000,
    expiry_s=600,
)
HUMAN_PART, WORDS = bolt11_codec.decode(GOOD)
PAYEE = read_fields(GOOD).payee

human_parts = st.one_of(
    st.just(HUMAN_PART),
    st.builds(
        "ln{}{}{}".format, st.sampled_from(["bc", "tb", "bcrt", "tbs", "x"]), st.integers(0, 10**90), st.just("")
    ),
    st.builds(
        "ln{}{}{}".format,
        st.sampled_from(["bc", "bcrt"]),
        st.sampled_from(["", "0", "1", "21000000", "9" * 70]),
        st.sampled_from(["", "m", "u", "n", "p", "x"]),
    ),
)
# With a right checksum, so that what lies behind it is read.
summed = st.builds(
    bolt11_codec.encode,
    human_parts,
    st.one_of(
        st.just(WORDS).flatmap(broken).map(lambda words: bytes(word & 31 for word in words)),
        st.lists(st.integers(0, 31), max_size=300).map(bytes),
        st.lists(st.integers(0, 31), max_size=200).map(lambda front: bytes(front) + WORDS[-104:]),
    ),
)
texts = st.one_of(
    st.text(max_size=100),
    st.just(GOOD).flatmap(lambda good: broken(good.encode())).map(lambda raw: raw.decode("latin-1")),
    summed,
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["lightning:", "LIGHTNING://", "bitcoin:x?lightning=", " \n", "lnurl1", "me@", "ln" * 40]),
        st.sampled_from([GOOD, GOOD.upper(), "", "x.y"]),
        st.sampled_from(["", "&a=b", " \t", "?x", "\u212a", "\x00"]),
    ),
    st.sampled_from(["lnbc" + "1" * 5_000, "1" * 4_096, "lnbc1" + "q" * 4_000]),
)


def read(text: str) -> ReadInvoice | None:
    try:
        return read_invoice(text)
    except ValueError:
        return None


@given(texts)
def test_any_text_is_an_invoice_or_a_refusal(text: str) -> None:
    for given_text in (text, invoice_text(text)):
        with suppress(ValueError):
            description_of(given_text)
        found = read(given_text)
        if found is None:
            assert why_no_invoice(given_text)
            continue
        assert found.amount_msat.value >= 1 and found.expires_at_ms >= 0
        assert found.payment_request == normalised(given_text) and len(found.payment_hash) == 64
        assert read(found.payment_request) == found == read(found.payment_request.upper())


@given(summed)
def test_no_other_words_are_signed_by_the_same_node(text: str) -> None:
    with suppress(ValueError):
        fields = read_fields(text)
        # Without the payee's name in it, a changed invoice is some other key's.
        assert text == GOOD or fields.payee != PAYEE
