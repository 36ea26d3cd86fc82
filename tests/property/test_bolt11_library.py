"""Our way to sign and read invoices against the library's: the same invoices, the same fields, the same refusals."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from satmeter.actors.adapters.stub.bolt11_signing import CURRENCY, sign_invoice
from satmeter.actors.domain.money import MSAT_MAX, MSAT_PER_BTC, Msat
from satmeter.actors.domain.payments import bolt11_codec
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.bolt11_reading import InvoiceFields, read_fields

pytest.importorskip("bolt11", reason="what the library needs has no wheels for this Python")
import bech32
import bolt11
import coincurve
from bolt11.models.features import Feature, FeatureExtra, Features, FeatureState

KEY = coincurve.PrivateKey.from_hex("22" * 32)
LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
HALF_THE_ORDER = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0
WEEK_S = 7 * 86_400

hashes = st.binary(min_size=32, max_size=32)
node_keys = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big").hex())
times = st.integers(0, 2**35 - 1)
# Each unit's own amounts, not only the huge ones that a range is made of for the most part.
amounts = st.one_of(
    st.integers(1, MSAT_MAX),
    st.builds(lambda count, unit: min(count * unit, MSAT_MAX), st.integers(1, 10_000), st.sampled_from([1, 10**3])),
    st.builds(lambda count, power: count * 10**power, st.integers(1, 999), st.integers(0, 15)),
)
memos = st.text(max_size=150)
words = st.binary(max_size=60).map(lambda data: bytes(byte & 31 for byte in data))


def as_words(data: bytes) -> bytes:
    """The library's way, bit by bit."""
    found = bech32.convertbits(data, 8, 5)
    assert found is not None
    return bytes(found)


def as_field(letter: str, data: bytes) -> bytes:
    return bytes((LETTERS.index(letter), *divmod(len(data), 32))) + data


def with_signature(human_part: str, body: bytes) -> str:
    """An invoice of whatever words, well signed: what is refused of it is refused for what it says."""
    signed = bech32.convertbits(body, 5, 8)
    assert signed is not None
    signature = KEY.sign_recoverable(human_part.encode() + bytes(signed))
    return bech32.bech32_encode(human_part, [*body, *as_words(signature)])


def in_the_library(text: str) -> InvoiceFields | None:
    """Return the library's reading, None where it refuses."""
    try:
        read = bolt11.decode(text)
        amount_msat = None if read.amount_msat is None else int(read.amount_msat)
        assert read.payee is not None
        said = (read.currency, amount_msat, read.payment_hash, read.date, read.expiry, read.description, read.payee)
        return InvoiceFields(*said, memo_hash=read.description_hash)
    except Exception:
        # From garbage it raises errors of five libraries.
        return None


def in_ours(text: str) -> InvoiceFields | None:
    try:
        return read_fields(text)
    except ValueError:
        return None


def both_read_the_same(text: str) -> None:
    """Check that both read the same fields, or none."""
    assert in_ours(text) == in_the_library(text)


GOOD = sign_invoice(
    "22" * 32,
    payment_hash="ab" * 32,
    payment_secret="33" * 32,
    amount_msat=Msat(21_000),
    memo="memo",
    at_s=1_800_000_000,
    expiry_s=600,
)

# Fields as they should be, which most invoices below have, so that what is odd about them is odd by itself.
REQUIRED = [as_field("p", as_words(b"\xab" * 32)), as_field("s", as_words(b"\xcd" * 32)), as_field("d", as_words(b"m"))]
fields = st.one_of(
    st.builds(as_field, st.sampled_from(["p", "s", "h"]), hashes.map(as_words)),
    st.builds(as_field, st.just("d"), st.binary(max_size=20).map(as_words)),
    st.builds(as_field, st.just("d"), memos.map(str.encode).map(as_words)),
    st.builds(as_field, st.sampled_from(["x", "c"]), st.integers(0, 2**40).map(lambda n: bolt11_codec.to_words(n, 9))),
    # Every letter, those that mean nothing included, and lengths that are wrong for it.
    st.builds(as_field, st.sampled_from(LETTERS), words),
    st.builds(as_field, st.sampled_from(["p", "s", "h"]), st.sampled_from([51, 53]).map(bytes)),
    # Routes through other nodes, of one hop, two, and a bit less and more.
    st.builds(as_field, st.just("r"), st.integers(78, 170).map(lambda length: b"\x11" * length)),
    st.just(as_field("n", as_words(KEY.public_key.format()))),
)
bodies = st.one_of(
    st.lists(fields, max_size=4).map(lambda more: [*REQUIRED, *more]),
    st.lists(fields, max_size=3).flatmap(lambda more: st.permutations([*REQUIRED, *more])),
    st.lists(fields, max_size=6),
).map(b"".join)
human_parts = st.one_of(
    st.builds(
        "ln{}{}{}".format,
        st.sampled_from(["bc", "tb", "tbs", "bcrt"]),
        st.one_of(st.just(""), st.integers(0, 10**19).map(str)),
        st.sampled_from(["", "m", "u", "n", "p"]),
    ),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["ln", "l", "lnbc", "lntbs", "lnbcrt", "lnsb", "lntb10u", "lnbc25p"]),
        st.text(string.digits + "munpx", max_size=4),
        st.text([chr(number) for number in range(128) if not chr(number).isupper()], max_size=3),
    ),
)


@given(node_keys, hashes, hashes, amounts, memos, times, st.integers(1, 2**59))
def test_what_is_signed_is_letter_for_letter_what_the_library_signs(
    node_key: str, payment_hash: bytes, secret: bytes, amount_msat: int, memo: str, at_s: int, expiry_s: int
) -> None:
    text = sign_invoice(
        node_key,
        payment_hash=payment_hash.hex(),
        payment_secret=secret.hex(),
        amount_msat=Msat(amount_msat),
        memo=memo,
        at_s=at_s,
        expiry_s=expiry_s,
    )
    read = bolt11.decode(text, strict=True)
    assert (read.currency, read.amount_msat, read.date, read.expiry) == (CURRENCY, amount_msat, at_s, expiry_s)
    assert (read.payment_hash, read.payment_secret) == (payment_hash.hex(), secret.hex())
    assert (read.description, read.min_final_cltv_expiry) == (memo, 18)
    payee = coincurve.PrivateKey.from_hex(node_key).public_key.format().hex()
    assert read.payee == payee and read.signature is not None and read.signature.verify(payee)
    assert 0 < int(read.signature.s, 16) <= HALF_THE_ORDER
    # Of thousands of bitcoin the library signs thousandths.
    if amount_msat % (1_000 * MSAT_PER_BTC):
        assert text == bolt11.encode(rebuilt(read), node_key, strict=True)


def rebuilt(read: bolt11.Bolt11) -> bolt11.Bolt11:
    """Rebuild the invoice from its values alone, without its text."""
    features: dict[Feature | FeatureExtra, FeatureState] = {
        Feature.var_onion_optin: FeatureState.required,
        Feature.payment_secret: FeatureState.required,
        Feature.basic_mpp: FeatureState.supported,
    }
    tags = [
        bolt11.Tag(bolt11.TagChar.payment_hash, read.payment_hash),
        bolt11.Tag(bolt11.TagChar.payment_secret, read.payment_secret),
        bolt11.Tag(bolt11.TagChar.description, read.description),
        bolt11.Tag(bolt11.TagChar.expire_time, read.expiry),
        bolt11.Tag(bolt11.TagChar.min_final_cltv_expiry, 18),
        bolt11.Tag(bolt11.TagChar.features, Features.from_feature_list(features)),
    ]
    return bolt11.Bolt11(read.currency, read.date, bolt11.Tags(tags), read.amount_msat)


@given(amounts, memos, times, st.integers(1, WEEK_S))
def test_what_is_signed_is_read_back(amount_msat: int, memo: str, at_s: int, expiry_s: int) -> None:
    text = sign_invoice(
        "22" * 32,
        payment_hash="ab" * 32,
        payment_secret="33" * 32,
        amount_msat=Msat(amount_msat),
        memo=memo,
        at_s=at_s,
        expiry_s=expiry_s,
    )
    payee = KEY.public_key.format().hex()
    assert read_fields(text) == InvoiceFields(CURRENCY, amount_msat, "ab" * 32, at_s, expiry_s, memo, payee)


@settings(max_examples=300, deadline=None)
@given(human_parts)
@example("lnbc10u x")
@example("lnbc10u\x7f")
@example("lnbc10u-")
@example("lnbc" + "0" * 78 + "1")
@example("lnbc" + "0" * 79 + "1")
def test_of_a_network_and_an_amount_the_library_s_reading_is_ours(human_part: str) -> None:
    both_read_the_same(with_signature(human_part, bytes(7) + b"".join(REQUIRED)))


@settings(max_examples=300, deadline=None)
@given(times.map(lambda at_s: bolt11_codec.to_words(at_s, 7)), bodies)
@example(bytes(7), b"".join(REQUIRED[:2]) + as_field("h", bytes(52)) + as_field("d", b"\x1f" * 8))
@example(bytes(7), b"".join(REQUIRED[:2]) + as_field("d", b"\x1f" * 8) + as_field("h", bytes(52)))
@example(bytes(7), b"".join(REQUIRED) + as_field("x", b""))
@example(bytes(7), b"".join(REQUIRED) + as_field("c", b""))
@example(bytes(7), b"".join(REQUIRED) + as_field("f", b""))
@example(bytes(7), b"".join(REQUIRED) + as_field("x", b"\x01") + as_field("x", b"\x02"))
@example(bytes(7), b"".join(REQUIRED) + as_field("x", b"\x01") + as_field("x", b""))
@example(bytes(7), as_field("p", bytes(51)) + b"".join(REQUIRED) + as_field("p", bytes(52)))
@example(bytes(6), b"")
def test_of_fields_the_library_s_reading_is_ours(at: bytes, body: bytes) -> None:
    both_read_the_same(with_signature("lnbcrt210n", at + body))


@settings(max_examples=200, deadline=None)
@given(bodies.flatmap(lambda body: st.tuples(st.just(body), st.integers(0, len(body)))), words)
def test_of_fields_that_are_cut_off_or_run_into_others_the_library_s_reading_is_ours(
    cut: tuple[bytes, int], end: bytes
) -> None:
    body, length = cut
    both_read_the_same(with_signature("lnbcrt210n", bytes(7) + b"".join(REQUIRED) + body[:length] + end))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=127)), min_size=1, max_size=4),
    st.integers(0, len(GOOD)),
)
def test_wrong_letters_and_missing_ends_are_noticed_by_both(wrong: list[tuple[int, str]], length: int) -> None:
    letters = list(GOOD)
    for at, letter in wrong:
        letters[at] = letter
    for text in ("".join(letters), GOOD[:length]):
        # The library takes a mixture of cases, which `read_invoice` refuses before it reads any field.
        both_read_the_same(text.lower())
        assert in_ours(text) == (in_ours(GOOD) if text == GOOD else None)


@given(st.data())
def test_upper_case_is_the_same_invoice_and_a_mixture_is_none(data: st.DataObject) -> None:
    assert read_invoice(GOOD.upper()) == read_invoice(f"LIGHTNING:{GOOD}") == read_invoice(GOOD)
    at = data.draw(st.sampled_from([at for at, letter in enumerate(GOOD) if letter.isalpha()]))
    with pytest.raises(ValueError, match="mixed"):
        read_invoice(GOOD[:at] + GOOD[at].upper() + GOOD[at + 1 :])


HUMAN_PART, WORDS = bolt11_codec.decode(GOOD)
BODY = WORDS[:-104]
payees = st.one_of(
    st.just(KEY.public_key.format()),
    node_keys.map(lambda node_key: coincurve.PrivateKey.from_hex(node_key).public_key.format()),
    st.binary(min_size=33, max_size=33),
)
signatures = st.one_of(
    st.binary(min_size=65, max_size=65),
    st.tuples(st.binary(min_size=64, max_size=64), st.integers(0, 4)).map(lambda both: both[0] + bytes([both[1]])),
    # Of small numbers half are the x of a point.
    st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(0, 4)).map(
        lambda three: three[0].to_bytes(32, "big") + three[1].to_bytes(32, "big") + bytes([three[2]])
    ),
)


@given(st.one_of(st.none(), payees), st.one_of(st.none(), signatures))
def test_of_signatures_the_library_s_reading_is_ours(payee: bytes | None, signature: bytes | None) -> None:
    body = BODY if payee is None else BODY + as_field("n", as_words(payee))
    good = with_signature(HUMAN_PART, body)
    text = good if signature is None else bolt11_codec.encode(HUMAN_PART, body + as_words(signature))
    both_read_the_same(text)


@given(st.text(string.ascii_lowercase + string.digits + "!~", min_size=1, max_size=83), words)
def test_bech32_is_the_library_s(human_part: str, data: bytes) -> None:
    text = bolt11_codec.encode(human_part, data)
    assert text == bech32.bech32_encode(human_part, data)
    assert bolt11_codec.decode(text) == (human_part, data)


@given(st.integers(0, 2**600), st.integers(0, 3))
def test_numbers_become_words_and_numbers_again(number: int, more: int) -> None:
    fit = bolt11_codec.words_for(number.bit_length())
    assert bolt11_codec.to_number(bolt11_codec.to_words(number, fit + more)) == number
    if number:
        with pytest.raises(OverflowError):
            bolt11_codec.to_words(number, fit - 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_s": -1},
        {"at_s": 2**35},
        {"expiry_s": 0},
        {"memo": "m" * 640},
        {"memo": "\ud800"},
        {"payment_hash": "ab" * 31},
        {"payment_secret": "no hex"},
    ],
    ids=str,
)
def test_what_no_invoice_can_say_is_not_signed(wrong: dict[str, object]) -> None:
    digest = hashlib.sha256(b"preimage").hexdigest()
    good: dict[str, object] = {
        "payment_hash": digest,
        "payment_secret": digest,
        "amount_msat": Msat(1_000),
        "memo": "memo",
        "at_s": 0,
        "expiry_s": 1,
    }
    assert read_fields(sign_invoice("22" * 32, **good)).payment_hash == digest  # type: ignore[arg-type]  # by name
    with pytest.raises(ValueError):
        sign_invoice("22" * 32, **(good | wrong))  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("node_key", ["", "22", "00" * 32, "ff" * 32, "no hex"])
def test_what_is_no_key_signs_nothing(node_key: str) -> None:
    with pytest.raises(ValueError):
        sign_invoice(
            node_key,
            payment_hash="ab" * 32,
            payment_secret="33" * 32,
            amount_msat=Msat(1_000),
            memo="memo",
            at_s=0,
            expiry_s=1,
        )


@pytest.mark.parametrize("bitcoins", [1, 10, 1_000, 2_000, 1_000_000, 21_000_000])
def test_a_fortune_is_signed_whole(bitcoins: int) -> None:
    text = sign_invoice(
        "22" * 32,
        payment_hash="ab" * 32,
        payment_secret="33" * 32,
        amount_msat=Msat(bitcoins * MSAT_PER_BTC),
        memo="memo",
        at_s=0,
        expiry_s=1,
    )
    assert bolt11.decode(text).amount_msat == bitcoins * MSAT_PER_BTC
