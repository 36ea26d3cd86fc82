"""Macaroons as LND bakes them, written and verified by pymacaroons.

The identifier is a byte 3 and the bakery's protobuf message, which is written here by hand: 1 nonce, 2 storage id,
3 operations of an entity (1) and actions (2).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection, Iterator

from pymacaroons import MACAROON_V2, Macaroon, Verifier
from pymacaroons.exceptions import MacaroonException

# The rights of the files that LND itself writes.
_ENTITIES = ("onchain", "offchain", "address", "message", "peers", "info", "invoices", "signer", "macaroon")
_READ = tuple(f"{entity}:read" for entity in _ENTITIES)
_WRITE = tuple(f"{entity}:write" for entity in _ENTITIES if entity != "signer")
ADMIN = (*_READ, *_WRITE, "signer:generate", "macaroon:generate")
INVOICES = ("address:read", "address:write", "invoices:read", "invoices:write", "onchain:read")
READ_ONLY = _READ


def bake(root_key: bytes, rights: Collection[str], caveats: Collection[str] = ()) -> bytes:
    """A macaroon with these rights, in its binary form. A time in its caveats is taken for one to come."""
    by_entity: dict[str, list[str]] = {}
    for right in rights:
        entity, _, action = right.partition(":")
        by_entity.setdefault(entity, []).append(action)
    operations = b"".join(
        _field(3, _field(1, entity.encode()) + b"".join(_field(2, action.encode()) for action in actions))
        for entity, actions in by_entity.items()
    )
    identifier = b"\x03" + _field(1, secrets.token_bytes(16)) + _field(2, b"0") + operations
    made = Macaroon(location="lnd", identifier=identifier, key=root_key, version=MACAROON_V2)
    for caveat in caveats:
        made.add_first_party_caveat(caveat)
    text = made.serialize()
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def refusal(root_key: bytes, macaroon_hex: str | None, method: str, right: str) -> str | None:
    """LND's words when it does not let this macaroon call a method, which needs a right."""
    if not macaroon_hex:
        return "expected 1 macaroon, got 0"
    try:
        found = Macaroon.deserialize(base64.urlsafe_b64encode(bytes.fromhex(macaroon_hex)).decode())
    except (MacaroonException, ValueError):
        return "cannot determine data format of binary-encoded macaroon"
    try:
        verifier = Verifier()
        verifier.satisfy_general(lambda caveat: caveat.startswith("time-before "))
        verifier.verify(found, root_key)
    except MacaroonException:
        return "verification failed: signature mismatch after caveat verification"
    rights = set(_rights(found.identifier_bytes))
    return None if right in rights or f"uri:{method}" in rights else "permission denied"


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*written, number))


def _rights(identifier: bytes) -> Iterator[str]:
    for number, operation in _read(identifier[1:]):
        if number == 3:
            (_, entity), *actions = _read(operation)
            yield from (f"{entity.decode()}:{action.decode()}" for _, action in actions)


def _read(message: bytes) -> list[tuple[int, bytes]]:
    found, position = [], 0
    while position < len(message):
        number, position = message[position] >> 3, position + 1
        length, shift = 0, 0
        while True:
            byte, position = message[position], position + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append((number, message[position : position + length]))
        position += length
    return found
