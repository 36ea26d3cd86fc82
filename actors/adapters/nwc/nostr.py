"""Events of Nostr by the library `nostr-sdk`: keys, signatures, and the two encryptions of NIP-47.

Only what has no threads of its own is used of it. Its clients run in a runtime whose thread no call ends, and which a
forked process does not have; the connections to relays are `relay.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

from ...ports import PermanentError
from .connection import Connection

_REMEDY: Final = "Nostr Wallet Connect needs the package nostr-sdk: pip install 'satmeter[nwc]'"


class Kind(IntEnum):
    """Kinds of events, by NIP-47 and NIP-42. LEGACY_NOTICE is a notification in the older encryption."""

    INFO = 13194
    AUTHENTICATION = 22242
    REQUEST = 23194
    RESPONSE = 23195
    LEGACY_NOTICE = 23196
    NOTICE = 23197


class Encryption(StrEnum):
    """Encryptions of NIP-47, as the wallet's info event names them."""

    NIP04 = "nip04"
    NIP44 = "nip44_v2"


class RawEvent(msgspec.Struct, frozen=True):
    """An event as it comes from a relay, of which nothing is verified yet."""

    id: str
    pubkey: str
    kind: int
    created_at: int
    tags: list[list[str]]
    content: str
    sig: str

    def tagged(self, name: str) -> Sequence[str]:
        """Return the values of all tags of this name."""
        return [tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name]


class Signed(msgspec.Struct, frozen=True):
    """An event of ours: its id, and the JSON that relays get."""

    id: str
    json: str


class Identity:
    """Our key of a connection, beside the wallet's. It signs and encrypts, verifies and decrypts.

    Raises `PermanentError` where the library is missing, or takes a key for invalid.
    """

    def __init__(self, connection: Connection) -> None:
        self._library: Any = _library()
        try:
            self._keys = self._library.Keys.parse(connection.secret)
            self._wallet_key = self._library.PublicKey.parse(connection.wallet)
            # That a key is on no curve shows only when it is used.
            self._keys.nip44_encrypt(self._wallet_key, "-")
        except self._library.NostrSdkError:
            raise PermanentError("NWC_URL holds a key that is not valid") from None
        self.wallet = connection.wallet
        self.public_key: str = self._keys.public_key().to_hex()

    def request(self, content: str, encryption: Encryption, expires_at_s: int | None) -> Signed:
        """Return a request for the wallet. From `expires_at_s` on, relays and wallets leave it alone."""
        tags = [["p", self.wallet], ["encryption", encryption]]
        if expires_at_s is not None:
            tags.append(["expiration", str(expires_at_s)])
        return self._signed(Kind.REQUEST, self._encrypted(content, encryption), tags)

    def authentication(self, relay: str, challenge: str) -> Signed:
        """Return the answer to a relay that asks who we are (NIP-42)."""
        return self._signed(Kind.AUTHENTICATION, "", [["relay", relay], ["challenge", challenge]])

    def is_of_wallet(self, event: RawEvent) -> bool:
        """Return whether the wallet has signed this event: relays are not trusted."""
        if event.pubkey != self.wallet:
            return False
        try:
            return bool(self._library.Event.from_json(msgspec.json.encode(event).decode()).verify())
        except self._library.NostrSdkError:
            return False

    def decrypted(self, event: RawEvent) -> str:
        """Return what the wallet wrote to us, in whichever encryption. Raises `ValueError` when it can't be read."""
        decrypt = self._keys.nip04_decrypt if "?iv=" in event.content else self._keys.nip44_decrypt
        try:
            return str(decrypt(self._wallet_key, event.content))
        except self._library.NostrSdkError:
            raise ValueError("not encrypted for us") from None

    def _encrypted(self, content: str, encryption: Encryption) -> str:
        encrypt = self._keys.nip04_encrypt if encryption is Encryption.NIP04 else self._keys.nip44_encrypt
        return str(encrypt(self._wallet_key, content))

    def _signed(self, kind: Kind, content: str, tags: Sequence[Sequence[str]]) -> Signed:
        made = [self._library.Tag.parse(list(tag)) for tag in tags]
        event = self._library.EventBuilder(self._library.Kind(int(kind)), content).tags(made).finalize(self._keys)
        return Signed(event.id().to_hex(), event.as_json())


def _library() -> Any:
    """Import the library where it is needed first: only a server with this backend has to have it."""
    try:
        import nostr_sdk
    except ImportError:
        raise PermanentError(_REMEDY) from None
    return nostr_sdk


def answered_requests(event: RawEvent) -> Sequence[str]:
    """Return the ids of the requests that a response is for."""
    return event.tagged("e")


def encryptions(info: RawEvent) -> frozenset[Encryption]:
    """Return the encryptions that a wallet's info event names; without a word on it, the older one (NIP-47)."""
    named = {word for text in info.tagged("encryption") for word in text.replace(",", " ").lower().split()}
    return frozenset(kind for kind in Encryption if kind in named) or frozenset({Encryption.NIP04})


def words_of(info: RawEvent, tag: str) -> frozenset[str]:
    """Return the words in a tag of the info event."""
    return frozenset(word for text in info.tagged(tag) for word in text.split())


def body(method: str, params: Mapping[str, Any]) -> str:
    """Return the text of a request, before encryption."""
    return msgspec.json.encode({"method": method, "params": params}).decode()
