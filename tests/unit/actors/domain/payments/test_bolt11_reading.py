"""Reading an invoice's fields: the examples of BOLT 11, and who signed."""

from __future__ import annotations

import pytest
from btclib_secp256k1 import keys, recovery

from satmeter.actors.domain.payments import bolt11_codec
from satmeter.actors.domain.payments.bolt11 import description_of, read_invoice
from satmeter.actors.domain.payments.bolt11_reading import InvoiceFields, read_fields
from tests.helpers.invoices import (
    NODE_KEY,
    SIGNATURE_WORDS,
    as_field,
    as_words,
    digest_of,
    signed_words,
    with_signature,
)

# Source: BOLT 11, "Examples": the key that signs all of them, and those that have a payment secret.
PAYEE = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
COFFEE_BEANS = (
    "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3z"
    "yg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq67gye39hfg3zd8rgc80k32tvy9xk2xunwm5lzexnvpx6fd77en8qaq424dxgt56"
    "cag2dpt359k3ssyhetktkpqh24jqnjyw6uqd08sgptq44qu"
)
WITH_FIELDS_TO_IGNORE = "".join(
    (
        COFFEE_BEANS[:-110],
        "2qrqqq",  # an unknown field
        "fppn" + "q" * 32,  # a kind of address that does not exist
        *(f"{letter}{length}" + "q" * count for letter in "phs" for length, count in (("pn", 51), ("p4", 53))),
        "np5" + "q" * 52 + "npk" + "q" * 54,
        "2jxxfsnucm4jf4zwtznpaxphce606fvhvje5x7d4gw7n73994hgs7nteqvenq8a4ml8aqtchv5d9pf7l558889hp4yyrqv6a7zpq9fgpskqhza",
    )
)


@pytest.mark.parametrize("text", [COFFEE_BEANS, WITH_FIELDS_TO_IGNORE], ids=["plain", "with fields to ignore"])
def test_the_examples_of_the_standard_are_read(text: str) -> None:
    assert read_fields(text) == InvoiceFields(
        currency="bc",
        amount_msat=2_500_000_000,
        payment_hash="0001020304050607080900010203040506070809000102030405060708090102",
        at_s=1_496_314_658,
        expiry_s=3_600,
        memo="coffee beans",
        payee=PAYEE,
    )
    assert read_invoice(text.upper()) == read_invoice(text)
    assert description_of(text.upper()) == "coffee beans"


HUMAN_PART = "lnbcrt210n"
BODY = bytes(7) + b"".join(
    (as_field("p", as_words(b"\xab" * 32)), as_field("s", as_words(b"\xcd" * 32)), as_field("d", as_words(b"memo")))
)
ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
OWN_KEY = keys.pubkey_from_prvkey(bytes.fromhex(NODE_KEY))
OTHER_KEY = keys.pubkey_from_prvkey(bytes.fromhex("33" * 32))


def naming(payee: bytes) -> bytes:
    return BODY + as_field("n", as_words(payee))


def signature_of(body: bytes) -> tuple[bytes, int]:
    return recovery.sign(digest_of(HUMAN_PART, body), bytes.fromhex(NODE_KEY))


def turned(signature: bytes, recovery_id: int) -> bytes:
    """The other signature by the same key: with the high s."""
    high = (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    return signature[:32] + high + bytes((recovery_id ^ 1,))


def test_who_signed_is_told() -> None:
    assert read_fields(signed_words(HUMAN_PART, BODY)).payee == OWN_KEY.hex()
    assert read_fields(signed_words(HUMAN_PART, BODY, "33" * 32)).payee == OTHER_KEY.hex()


def test_a_payee_that_the_invoice_names_must_have_signed() -> None:
    assert read_fields(signed_words(HUMAN_PART, naming(OWN_KEY))).payee == OWN_KEY.hex()
    with pytest.raises(ValueError, match="payee"):
        read_fields(signed_words(HUMAN_PART, naming(OTHER_KEY)))
    with pytest.raises(ValueError, match="key"):
        read_fields(signed_words(HUMAN_PART, naming(b"\x05" * 33)))


def test_a_high_signature_counts_only_where_the_key_is_recovered() -> None:
    """BOLT 11: a reader that recovers the key takes both forms; one that knows it takes the low one alone."""
    recovered = with_signature(HUMAN_PART, BODY, turned(*signature_of(BODY)))
    assert read_fields(recovered).payee == OWN_KEY.hex()
    with pytest.raises(ValueError, match="payee"):
        read_fields(with_signature(HUMAN_PART, naming(OWN_KEY), turned(*signature_of(naming(OWN_KEY)))))


@pytest.mark.parametrize("body", [BODY, naming(OWN_KEY)], ids=["recovered", "named"])
@pytest.mark.parametrize("recovery_id", [4, 27, 255])
def test_a_recovery_id_that_does_not_exist_is_refused(body: bytes, recovery_id: int) -> None:
    signature, _ = signature_of(body)
    with pytest.raises(ValueError, match="signature"):
        read_fields(with_signature(HUMAN_PART, body, signature + bytes((recovery_id,))))


@pytest.mark.parametrize(
    "signature",
    [
        bytes(65),
        b"\xff" * 64 + b"\0",
        # The x of no point of the curve: BOLT 11, "Signature is not recoverable".
        (5).to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\0",
    ],
    ids=["zero", "beyond the order", "no point"],
)
def test_a_signature_that_nobody_can_have_made_is_refused(signature: bytes) -> None:
    with pytest.raises(ValueError):
        read_fields(with_signature(HUMAN_PART, BODY, signature))


def test_every_word_that_is_signed_matters_to_who_signed() -> None:
    human_part, words = bolt11_codec.decode(signed_words(HUMAN_PART, naming(OWN_KEY)))
    for at in range(len(words) - SIGNATURE_WORDS):
        changed = words[:at] + bytes((words[at] ^ 1,)) + words[at + 1 :]
        try:
            read = read_fields(bolt11_codec.encode(human_part, changed))
        except ValueError:
            continue
        # What named the payee is no longer a field of that name: the key is recovered, and is another one.
        assert read.payee != OWN_KEY.hex()


def test_a_memo_that_is_a_hash_is_not_told_as_text() -> None:
    body = BODY[: -len(as_field("d", as_words(b"memo")))] + as_field("h", as_words(b"\xef" * 32))
    text = signed_words(HUMAN_PART, body)
    assert read_fields(text).memo is None
    assert description_of(text) == ""
