"""Events: the wallet alone reads what we sign, and only what the wallet has signed is its word."""

from __future__ import annotations

import json
import sys

import msgspec
import nostr_sdk
import pytest

from satmeter.actors.adapters.nwc.connection import Connection
from satmeter.actors.adapters.nwc.nostr import Encryption, Identity, RawEvent, Signed, encryptions
from satmeter.actors.ports import PermanentError


def pair() -> tuple[nostr_sdk.Keys, Identity]:
    wallet, ours = nostr_sdk.Keys.generate(), nostr_sdk.Keys.generate()
    connection = Connection(wallet.public_key().to_hex(), ("wss://relay.example",), ours.secret_key().to_hex())
    return wallet, Identity(connection)


def read(signed: Signed) -> RawEvent:
    return msgspec.json.decode(signed.json, type=RawEvent)


def response(wallet: nostr_sdk.Keys, text: str, **changes: object) -> RawEvent:
    event = nostr_sdk.EventBuilder(nostr_sdk.Kind(23195), text).finalize(wallet)
    return msgspec.convert({**json.loads(event.as_json()), **changes}, RawEvent)


@pytest.mark.parametrize("encryption", Encryption)
def test_the_wallet_reads_a_request(encryption: Encryption) -> None:
    wallet, identity = pair()
    signed = identity.request('{"method":"get_info"}', encryption, 1_800_000_000)
    event = read(signed)
    assert nostr_sdk.Event.from_json(signed.json).verify()
    assert (event.id, event.pubkey, event.kind) == (signed.id, identity.public_key, 23194)
    assert event.tagged("p") == [wallet.public_key().to_hex()]
    assert event.tagged("encryption") == [encryption]
    assert event.tagged("expiration") == ["1800000000"]
    decrypt = wallet.nip04_decrypt if encryption is Encryption.NIP04 else wallet.nip44_decrypt
    assert decrypt(nostr_sdk.PublicKey.parse(identity.public_key), event.content) == '{"method":"get_info"}'


def test_a_question_has_no_end_of_its_life() -> None:
    _, identity = pair()
    assert read(identity.request("{}", Encryption.NIP44, None)).tagged("expiration") == []


@pytest.mark.parametrize("encryption", Encryption)
def test_the_wallet_s_words_are_read_in_either_encryption(encryption: Encryption) -> None:
    wallet, identity = pair()
    encrypt = wallet.nip04_encrypt if encryption is Encryption.NIP04 else wallet.nip44_encrypt
    event = response(wallet, encrypt(nostr_sdk.PublicKey.parse(identity.public_key), "Grüße"))
    assert identity.is_of_wallet(event)
    assert identity.decrypted(event) == "Grüße"


@pytest.mark.parametrize("content", ["", "nonsense", "a?iv=b", "AgAA"])
def test_what_is_not_encrypted_for_us_is_told(content: str) -> None:
    wallet, identity = pair()
    with pytest.raises(ValueError, match="not encrypted for us"):
        identity.decrypted(response(wallet, content))


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "another"},
        {"sig": "00" * 64},
        {"id": "ab" * 32},
        {"tags": [["p", "x"]]},
        {"created_at": 1},
        {"sig": ""},
    ],
)
def test_a_word_that_was_changed_is_not_the_wallet_s(changes: dict[str, object]) -> None:
    wallet, identity = pair()
    assert identity.is_of_wallet(response(wallet, "hello"))
    assert not identity.is_of_wallet(response(wallet, "hello", **changes))


def test_a_stranger_s_word_is_not_the_wallet_s() -> None:
    wallet, identity = pair()
    stranger = nostr_sdk.Keys.generate()
    assert not identity.is_of_wallet(response(stranger, "hello"))
    assert not identity.is_of_wallet(response(stranger, "hello", pubkey=wallet.public_key().to_hex()))


def test_without_the_library_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nostr_sdk", None)
    with pytest.raises(PermanentError, match=r"pip install 'satmeter\[nwc\]'"):
        Identity(Connection("ab" * 32, ("wss://relay.example",), "cd" * 32))


@pytest.mark.parametrize(("wallet", "secret"), [("ff" * 32, "cd" * 32), ("ab" * 32, "00" * 32)])
def test_keys_that_cannot_be_are_refused_without_telling_them(wallet: str, secret: str) -> None:
    with pytest.raises(PermanentError) as caught:
        Identity(Connection(wallet, ("wss://relay.example",), secret))
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("nip44_v2 nip04", {Encryption.NIP44, Encryption.NIP04}),
        ("nip04,nip44_v2", {Encryption.NIP44, Encryption.NIP04}),
        ("NIP44_V2", {Encryption.NIP44}),
        ("nip99", {Encryption.NIP04}),
        (None, {Encryption.NIP04}),
    ],
)
def test_encryptions_are_those_that_the_wallet_names(tag: str | None, expected: set[Encryption]) -> None:
    tags = [] if tag is None else [["encryption", tag]]
    assert encryptions(RawEvent("", "", 13194, 0, tags, "", "")) == expected
