"""Macaroons: credentials for a session that their holder can narrow offline.

Source: "Macaroons: Cookies with Contextual Caveats" (Birgisson et al., 2014); identifier layout and encoding of L402
(github.com/lightninglabs/L402, macaroon-spec.md). Signatures are those of all implementations, which the L402 text gets
wrong: the first one is keyed with HMAC("macaroons-key-generator", root key), not with the root key itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Final

import msgspec
from pymacaroons import MACAROON_V2, Macaroon
from pymacaroons.serializers import BinarySerializer

from .caveats import Grant, UnknownCaveatError, narrow_all

LOCATION: Final = "satmeter"
SESSION_BYTES: Final = 24
_SESSION_PREFIX: Final = "ses_"
_VERSION: Final = 0
# uint16 version, payment hash, token id: the session and the generation of its key (L402 macaroon-spec.md).
_IDENTIFIER: Final = struct.Struct(f">H32s{SESSION_BYTES}sQ")
# A credential with dozens of caveats has a few kB; verifying more is work that a stranger can cause.
_LENGTH_MAX: Final = 8_192
_CAVEATS_MAX: Final = 64
_SERIALIZER: Final = BinarySerializer()


class InvalidMacaroonError(Exception):
    """Error for a macaroon that is not ours: malformed, wrongly signed, or of another server."""


class OversizedMacaroonError(InvalidMacaroonError):
    """Error for a macaroon with too many caveats or characters to verify. The text is a sentence for its holder."""

    def __init__(self) -> None:
        super().__init__(f"A macaroon can have at most {_CAVEATS_MAX} caveats and {_LENGTH_MAX} characters")


class MacaroonId(msgspec.Struct, frozen=True):
    """The content of an identifier's 66 bytes."""

    payment_hash: str
    session_id: str
    generation: int


def mint(master_key: bytes, macaroon_id: MacaroonId) -> str:
    """Mint a session's macaroon without caveats, in L402's encoding: V2 binary, standard base64 with padding."""
    return _encode(_fresh(master_key, macaroon_id))


def attenuate(token: str, caveats: list[str]) -> str:
    """Append caveats to the macaroon, which needs no key. Raises `InvalidMacaroonError` for any other text.

    Raises `CaveatError` for a caveat that has no UTF-8.
    """
    macaroon = _decode(token)
    for caveat in caveats:
        try:
            macaroon.add_first_party_caveat(caveat.encode())
        except UnicodeEncodeError:
            raise UnknownCaveatError("not readable") from None
    return _encode(macaroon)


def narrowed(token: str, caveats: list[str]) -> str:
    """Append caveats as `attenuate` does, unless the server would refuse the result.

    Raises `InvalidMacaroonError`, or `CaveatError`, in that case.
    """
    longer = attenuate(token, caveats)
    read_grant(longer)
    return longer


def read(token: str) -> tuple[MacaroonId, list[str]]:
    """Read identifier and caveats, unverified. Raises `InvalidMacaroonError`."""
    macaroon = _decode(token)
    return _read_id(macaroon), [bytes(caveat.caveat_id_bytes).decode() for caveat in macaroon.caveats]


def read_grant(token: str) -> tuple[MacaroonId, Grant]:
    """Read identifier and grant, unverified, and without counts. Raises `InvalidMacaroonError`, `CaveatError`."""
    macaroon_id, caveats = read(token)
    return macaroon_id, narrow_all(Grant(macaroon_id.generation), [(caveat.encode(), "") for caveat in caveats])


def verify(master_key: bytes, token: str) -> tuple[MacaroonId, Grant]:
    """Verify that a macaroon is ours; return its identifier and grant. Raises `InvalidMacaroonError`, `CaveatError`.

    The session itself checks whether it and the generation still exist.
    """
    macaroon_id, grant, _ = verify_by_any([master_key], token)
    return macaroon_id, grant


def verify_by_any(master_keys: Sequence[bytes], token: str) -> tuple[MacaroonId, Grant, int]:
    """Verify a macaroon as `verify` does, by any of these keys; return the number of its key, too.

    All keys are tried in any case: the time that it takes must not tell which key a credential is of.
    """
    macaroon = _decode(token)
    macaroon_id = _read_id(macaroon)
    found: tuple[list[tuple[bytes, str]], int] | None = None
    for number, master_key in enumerate(master_keys):
        rebuilt = _fresh(master_key, macaroon_id)
        chain: list[tuple[bytes, str]] = []
        for caveat in macaroon.caveats:
            rebuilt.add_first_party_caveat(caveat.caveat_id_bytes)
            chain.append((bytes(caveat.caveat_id_bytes), rebuilt.signature))
        if hmac.compare_digest(rebuilt.signature_bytes, macaroon.signature_bytes):
            found = chain, number
    if found is None:
        raise InvalidMacaroonError("wrong signature")
    chain, number = found
    return macaroon_id, narrow_all(Grant(macaroon_id.generation), chain), number


def session_id(random_bytes: bytes) -> str:
    """Return the id of a session with these 24 bytes."""
    return _SESSION_PREFIX + base64.urlsafe_b64encode(random_bytes).decode()


def _session_bytes(session: str) -> bytes:
    return base64.urlsafe_b64decode(session.removeprefix(_SESSION_PREFIX))


def _fresh(master_key: bytes, macaroon_id: MacaroonId) -> Macaroon:
    """Build an identifier's macaroon without caveats.

    Each session and generation has a key of its own, so that closing one ends its macaroons and no others.
    """
    context = f"{macaroon_id.session_id}:{macaroon_id.generation}"
    key = hmac.digest(master_key, context.encode(), hashlib.sha256)
    identifier = _IDENTIFIER.pack(
        _VERSION,
        bytes.fromhex(macaroon_id.payment_hash),
        _session_bytes(macaroon_id.session_id),
        macaroon_id.generation,
    )
    return Macaroon(location=LOCATION, identifier=identifier, key=key, version=MACAROON_V2)


def _encode(macaroon: Macaroon) -> str:
    # The library's own text form is URL-safe and without padding, which L402's clients and servers don't read.
    return base64.standard_b64encode(_SERIALIZER.serialize_raw(macaroon)).decode()


def _decode(token: str) -> Macaroon:
    if len(token) > _LENGTH_MAX:
        raise OversizedMacaroonError
    try:
        padded = token.replace("-", "+").replace("_", "/").rstrip("=")
        raw = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        macaroon = _SERIALIZER.deserialize_raw(raw)
    except Exception:
        # The library raises all kinds of errors on bad bytes: IndexError, TypeError, its own.
        raise InvalidMacaroonError("malformed") from None
    if not all(_is_text(bytes(caveat.caveat_id_bytes)) for caveat in macaroon.caveats):
        # The library could not even check their signature.
        raise InvalidMacaroonError("a caveat that is not text")
    if macaroon.version != MACAROON_V2 or macaroon.third_party_caveats():
        raise InvalidMacaroonError("not a first-party V2 macaroon")
    if len(macaroon.caveats) > _CAVEATS_MAX:
        raise OversizedMacaroonError
    return macaroon


def _is_text(caveat: bytes) -> bool:
    try:
        caveat.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_id(macaroon: Macaroon) -> MacaroonId:
    try:
        version, payment_hash, session, generation = _IDENTIFIER.unpack(macaroon.identifier_bytes)
    except struct.error:
        raise InvalidMacaroonError("an identifier of another kind") from None
    if version != _VERSION:
        raise InvalidMacaroonError("an identifier of another version")
    return MacaroonId(payment_hash.hex(), session_id(session), generation)
