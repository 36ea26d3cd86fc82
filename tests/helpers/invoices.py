"""Invoices that no honest node makes: signed well over whatever a test wants them to say."""

from __future__ import annotations

from hashlib import sha256

from btclib_secp256k1 import recovery

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments import bolt11_codec
from satmeter.actors.domain.payments.bolt11_codec import WORD_BITS, padded_bytes, to_words, word_of, words_for

NODE_KEY = "22" * 32
# What a route may cost at most, where a test does not say.
FEE_LIMIT = Msat.from_sats(100)
SIGNATURE_WORDS = 104


def as_words(data: bytes) -> bytes:
    count = words_for(len(data) * 8)
    return to_words(int.from_bytes(data, "big") << count * WORD_BITS - len(data) * 8, count)


def as_field(letter: str, words: bytes) -> bytes:
    return bytes((word_of(letter), *divmod(len(words), 32))) + words


def digest_of(human_part: str, body: bytes) -> bytes:
    """Digest the words of an invoice, without its signature, for signing."""
    return sha256(human_part.encode() + padded_bytes(body)).digest()


def signed_words(human_part: str, body: bytes, node_key: str = NODE_KEY) -> str:
    signature, recovery_id = recovery.sign(digest_of(human_part, body), bytes.fromhex(node_key))
    return with_signature(human_part, body, signature + bytes((recovery_id,)))


def with_signature(human_part: str, body: bytes, signature: bytes) -> str:
    """The invoice with this for its signature, whatever it is; the checksum is right."""
    return bolt11_codec.encode(human_part, body + as_words(signature))


def behind(human_part: str, invoice: str, node_key: str = NODE_KEY) -> str:
    """The invoice with another network and amount, signed again."""
    _, words = bolt11_codec.decode(invoice)
    return signed_words(human_part, words[:-SIGNATURE_WORDS], node_key)


def over_hash_of(memo: str, invoice: str, node_key: str = NODE_KEY) -> str:
    """The invoice with the hash of its description in the place of the text, signed again."""
    return over_hash(sha256(memo.encode()).digest(), memo, invoice, node_key)


def over_hash(digest: bytes, memo: str, invoice: str, node_key: str = NODE_KEY) -> str:
    """The invoice with this hash in the place of its description, which is `memo`, signed again."""
    human_part, words = bolt11_codec.decode(invoice)
    field = as_field("d", as_words(memo.encode()))
    assert words.count(field) == 1
    return signed_words(human_part, words[:-SIGNATURE_WORDS].replace(field, as_field("h", as_words(digest))), node_key)
