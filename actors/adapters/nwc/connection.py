"""Connection URL of Nostr Wallet Connect: the wallet's key, its relays, and the secret that may spend."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

_SCHEMES: Final = frozenset({"nostr+walletconnect", "nostrwalletconnect"})
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_RELAY_SCHEMES: Final = frozenset({"ws", "wss"})
_RELAYS_MAX: Final = 8


class Connection(msgspec.Struct, frozen=True):
    """Parts of a connection URL. `wallet` is the wallet's public key, `secret` our private one, both in hex."""

    wallet: str
    relays: tuple[str, ...]
    secret: str

    def __repr__(self) -> str:
        return f"Connection(wallet={self.wallet!r}, relays={self.relays!r})"


def read_connection(url: str) -> Connection:
    """Return the parts of a connection URL.

    Raises `ValueError` with words for the operator, which never hold a part of the URL: it is a secret as a whole.
    """
    try:
        parts = urlsplit(url.strip())
        query = parse_qs(parts.query)
    except ValueError:
        raise ValueError("it is not a URL") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("it does not begin with nostr+walletconnect://")
    wallet = (parts.netloc or parts.path).strip("/").lower()
    if _KEY.fullmatch(wallet) is None:
        raise ValueError("the wallet's public key is missing: 64 hex digits after nostr+walletconnect://")
    secrets = [secret.lower() for secret in query.get("secret", [])]
    if len(secrets) != 1 or _KEY.fullmatch(secrets[0]) is None:
        raise ValueError("its secret is missing: 64 hex digits after secret=")
    # The same relay twice would get each order twice.
    relays = tuple(dict.fromkeys(relay.strip().rstrip("/") for relay in query.get("relay", [])))
    if not relays:
        raise ValueError("it names no relay: relay=wss://...")
    if len(relays) > _RELAYS_MAX or not all(_is_relay(relay) for relay in relays):
        raise ValueError(f"its relays must be 1 to {_RELAYS_MAX} addresses that begin with wss:// or ws://")
    return Connection(wallet, relays, secrets[0])


def _is_relay(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in _RELAY_SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
