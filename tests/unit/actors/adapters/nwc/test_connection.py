"""Connection URLs: whatever wallets hand out is read, and what can't be read is refused without a word of it."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.nwc.connection import Connection, read_connection

WALLET = "b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4"
SECRET = "71a8c14c1407c113601079c4302dab36460f0ccd0ad506f1f2dc73b5100e4f3c"
RELAY = "wss%3A%2F%2Frelay.example.com"
READ = Connection(WALLET, ("wss://relay.example.com",), SECRET)


@pytest.mark.parametrize(
    "url",
    [
        f"nostr+walletconnect://{WALLET}?relay={RELAY}&secret={SECRET}",
        f"nostr+walletconnect://{WALLET}?relay=wss://relay.example.com/&secret={SECRET}&lud16=a@b.example",
        f"nostr+walletconnect:{WALLET}?secret={SECRET}&relay={RELAY}",
        f"nostrwalletconnect://{WALLET}?relay={RELAY}&secret={SECRET}",
        f"  nostr+walletconnect://{WALLET.upper()}?relay={RELAY}&secret={SECRET.upper()}\n",
        f"nostr+walletconnect://{WALLET}?relay={RELAY}&relay={RELAY}&secret={SECRET}",
    ],
)
def test_it_is_read_as_wallets_write_it(url: str) -> None:
    assert read_connection(url) == READ


def test_several_relays_are_all_used() -> None:
    url = f"nostr+walletconnect://{WALLET}?relay={RELAY}&relay=ws%3A%2F%2F127.0.0.1%3A7000%2Fa&secret={SECRET}"
    assert read_connection(url).relays == ("wss://relay.example.com", "ws://127.0.0.1:7000/a")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "nostr\\+walletconnect"),
        (f"https://{WALLET}?relay={RELAY}&secret={SECRET}", "nostr\\+walletconnect"),
        (f"nostr+walletconnect://[{WALLET}?relay={RELAY}&secret={SECRET}", "not a URL"),
        (f"nostr+walletconnect://{WALLET[:-1]}?relay={RELAY}&secret={SECRET}", "public key"),
        (f"nostr+walletconnect://{WALLET}?relay={RELAY}", "secret"),
        (f"nostr+walletconnect://{WALLET}?relay={RELAY}&secret={SECRET[:-1]}", "secret"),
        (f"nostr+walletconnect://{WALLET}?relay={RELAY}&secret={SECRET}&secret={SECRET}", "secret"),
        (f"nostr+walletconnect://{WALLET}?secret={SECRET}", "no relay"),
        (f"nostr+walletconnect://{WALLET}?relay=https://relay.example.com&secret={SECRET}", "wss"),
        (f"nostr+walletconnect://{WALLET}?relay=wss://relay:99999&secret={SECRET}", "wss"),
        (f"nostr+walletconnect://{WALLET}?{'&'.join(f'relay=wss://r{n}' for n in range(9))}&secret={SECRET}", "8"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read_connection(url)
    assert SECRET[:-1] not in str(caught.value)
    assert WALLET[:-1] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_it_does_not_show_its_secret() -> None:
    assert SECRET not in repr(READ)
    assert SECRET not in f"{READ}"
