"""Rights of a macaroon, as its identifier lists them: those that we need, and those that it has too many.

LND's macaroons are V2 binary (libmacaroons, `doc/format.txt`). Their identifier is a version byte 3, and then the
bakery's protobuf message: 1 nonce, 2 storage id, 3 operations, each of an entity (1) and its actions (2). The
operation "uri" lists single methods. Only LND knows whether the signature is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from .messages import Failure

GET_INFO: Final = "/lnrpc.Lightning/GetInfo"
# What each method asks for, and the method's own right. Source: LND's `MainRPCServerPermissions` and `routerrpc`.
_STATE: Final[Mapping[str, str]] = {
    GET_INFO: "info:read",
    "/lnrpc.Lightning/ChannelBalance": "offchain:read",
}
_INVOICES: Final[Mapping[str, str]] = {
    "/lnrpc.Lightning/AddInvoice": "invoices:write",
    "/lnrpc.Lightning/LookupInvoice": "invoices:read",
    "/lnrpc.Lightning/ListInvoices": "invoices:read",
    "/lnrpc.Lightning/SubscribeInvoices": "invoices:read",
}
_PAYOUTS: Final[Mapping[str, str]] = {
    "/lnrpc.Lightning/ListPayments": "offchain:read",
    "/routerrpc.Router/SendPaymentV2": "offchain:write",
    "/routerrpc.Router/TrackPaymentV2": "offchain:read",
}
NEEDED: Final = (*_STATE, *_INVOICES, *_PAYOUTS)
"""Methods that are called, as their URIs name them in `lncli bakemacaroon uri:...`."""

# Rights that these methods ask for.
_ASKED_FOR: Final = frozenset({*_STATE.values(), *_INVOICES.values(), *_PAYOUTS.values()})

_VERSION_2: Final = 2
_BAKERY_VERSION: Final = 3
_END, _IDENTIFIER = 0, 2
_LENGTH_DELIMITED: Final = 2
# LND's words when it does not take a macaroon, or not for this method. Most of them come with gRPC's UNKNOWN.
_UNAUTHENTICATED: Final = (7, 16)
_REFUSED: Final = (
    "permission denied",
    "verification failed",
    "cannot get macaroon",
    "cannot determine data format of binary-encoded macaroon",
    "expected 1 macaroon",
    "macaroon has expired",
    "caveat",
)


class MacaroonTrouble(StrEnum):
    """Faults of the macaroon. REFUSED: by the node, which knows whether it signed it, and whether it is still valid."""

    UNREADABLE = "macaroon_unreadable"
    REFUSED = "macaroon_refused"
    NO_INVOICES = "macaroon_without_invoices"
    NO_PAYOUTS = "macaroon_without_payouts"
    NO_STATE = "macaroon_without_state"


class MacaroonError(ValueError):
    """The text or file is not a macaroon of LND's."""


def is_about_macaroon(failure: Failure) -> bool:
    """Return whether LND refused the macaroon, before it looked at the request."""
    return failure.code in _UNAUTHENTICATED or failure.message.lower().startswith(_REFUSED)


def rights_of(macaroon: bytes) -> frozenset[str]:
    """Return the rights, as `entity:action`, that a macaroon's identifier lists. Raises `MacaroonError`.

    Caveats may narrow them further: for how long, and from where.
    """
    identifier = _identifier(macaroon)
    if identifier[:1] != bytes((_BAKERY_VERSION,)):
        raise MacaroonError("not a macaroon of LND's")
    found = set()
    for field, operation in _fields(identifier[1:]):
        if field == 3:
            parts = list(_fields(operation))
            entity = next((_text(value) for number, value in parts if number == 1), "")
            found |= {f"{entity}:{_text(value)}" for number, value in parts if number == 2}
    return frozenset(found)


def shortage(rights: frozenset[str]) -> MacaroonTrouble | None:
    """Return the first thing that these rights do not allow, of all that is done here."""
    for trouble, methods in (
        (MacaroonTrouble.NO_INVOICES, _INVOICES),
        (MacaroonTrouble.NO_PAYOUTS, _PAYOUTS),
        (MacaroonTrouble.NO_STATE, _STATE),
    ):
        if not all(may(rights, method) for method in methods):
            return trouble
    return None


def surplus(rights: frozenset[str]) -> Sequence[str]:
    """Return the rights beside those needed, save rights to read."""
    needed = {f"uri:{method}" for method in NEEDED}
    return sorted(right for right in rights - needed - _ASKED_FOR if not right.endswith(":read"))


def may(rights: frozenset[str], method: str) -> bool:
    """Return whether these rights allow one of the methods in `NEEDED`."""
    right = {**_STATE, **_INVOICES, **_PAYOUTS}[method]
    return right in rights or f"uri:{method}" in rights


def caveats_of(macaroon: bytes) -> Sequence[str]:
    """Return what the macaroon is narrowed by, such as `time-before 2027-01-01T00:00:00Z`. Raises `MacaroonError`."""
    return [_text(identifier) for identifier in list(_identifiers(macaroon))[1:]]


def _identifier(macaroon: bytes) -> bytes:
    for identifier in _identifiers(macaroon):
        return identifier
    raise MacaroonError("a macaroon without an identifier")


def _identifiers(macaroon: bytes) -> Iterator[bytes]:
    """Yield the macaroon's identifier, and then those of its caveats. Raises `MacaroonError`."""
    if macaroon[:1] != bytes((_VERSION_2,)):
        raise MacaroonError("not a macaroon of version 2")
    rest = macaroon[1:]
    while rest:
        kind, rest = _varint(rest)
        if kind == _END:
            continue
        length, rest = _varint(rest)
        if length > len(rest):
            raise MacaroonError("a macaroon that was cut off")
        if kind == _IDENTIFIER:
            yield rest[:length]
        rest = rest[length:]


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and contents of a protobuf message's texts and messages. Raises `MacaroonError`."""
    while message:
        tag, message = _varint(message)
        if tag & 7 != _LENGTH_DELIMITED:
            raise MacaroonError("an identifier with other fields than LND's")
        length, message = _varint(message)
        if length > len(message):
            raise MacaroonError("an identifier that was cut off")
        yield tag >> 3, message[:length]
        message = message[length:]


def _varint(data: bytes) -> tuple[int, bytes]:
    number = 0
    for position, byte in enumerate(data[:9]):
        number |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return number, data[position + 1 :]
    raise MacaroonError("a number that was cut off")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
