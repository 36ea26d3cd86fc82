"""Credentials: a macaroon in the Authorization header, alone or with the preimage of the invoice that paid for it."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache, partial
from typing import Final, NamedTuple

from starlette.requests import HTTPConnection

from ...actors.domain.credentials import macaroon
from ...actors.domain.credentials.caveats import CaveatError, Grant, violated
from ...actors.domain.credentials.macaroon import InvalidMacaroonError, OversizedMacaroonError
from ...actors.domain.errors import Code, Refusal, RefusedError, not_found
from ..request_facts import note_money
from . import ids

_BEARER: Final = "bearer"
# The scheme of L402, and its former name.
_L402: Final = frozenset({"l402", "lsat"})
_PREIMAGE: Final = re.compile(r"[0-9a-fA-F]{64}")
# The cache of verified credentials. Any client can make valid ones of any length, so long ones are not cached.
_KEPT_MAX: Final = 8_192
_KEPT_CHARS_MAX: Final = 1_024

MISSING: Final = Refusal(
    Code.MISSING_CREDENTIAL,
    "Send the session's macaroon as `Authorization: Bearer <macaroon>`; POST /sessions sells one.",
)
_INVALID: Final = Refusal(
    Code.INVALID_CREDENTIAL, "This credential is not valid here: send the macaroon of this session, whole and once."
)
_PREIMAGE_WRONG: Final = Refusal(
    Code.INVALID_CREDENTIAL,
    "An L402 macaroon is followed by `:` and the preimage of the invoice that paid for it, in hex. Without one, as "
    "after a payment inside one node, send the macaroon alone as `Authorization: Bearer <macaroon>`.",
)


class Holder(NamedTuple):
    """The holder of a credential: its session, its grant, and whether it came with the preimage, as after L402.

    `token` is the macaroon, `payment_hash` that of the invoice which it was made for. `of_previous_key`: it was minted
    with the previous root key.
    """

    session_id: str
    grant: Grant
    shows_preimage: bool
    token: str
    payment_hash: str
    of_previous_key: bool = False


class Credentials:
    """Verifier of requests' credentials.

    `key` is the one that the macaroons were minted with, `previous` the one that earlier ones may be of.
    """

    def __init__(self, key: bytes, previous: bytes | None = None) -> None:
        self._verify = partial(macaroon.verify_by_any, (key,) if previous is None else (key, previous))
        # The cache keeps results but not exceptions: a refused credential is verified again each time.
        self._verify_kept = lru_cache(_KEPT_MAX)(self._verify)

    def session(self, connection: HTTPConnection) -> Holder:
        """Return the holder of the credential for the session in the path. Raises `RefusedError` (401, 403, 404).

        The session's actor checks that the session exists, and that the grant is sufficient.
        """
        headers = connection.headers.getlist("authorization")
        if not headers:
            raise RefusedError(MISSING)
        session_id: str = connection.path_params["sessionId"]
        if not ids.is_session_id(session_id):
            raise RefusedError(not_found("session"))
        if len(headers) > 1:
            raise RefusedError(_INVALID)
        holder = self._of_header(headers[0])
        if holder.session_id != session_id:
            raise RefusedError(_INVALID)
        note_money(connection.scope)
        return holder

    def holder(self, connection: HTTPConnection) -> Holder | None:
        """Return the holder of the request's credential, or None without one. Raises `RefusedError` (401, 403).

        The credential is in the Authorization header, or is the `x-api-key` of an SDK. The header wins: an SDK
        requires a key, of any kind, even if a wallet pays.
        """
        headers = connection.headers.getlist("authorization")
        keys = [key for key in connection.headers.getlist("x-api-key") if key.strip(" ")]
        if not headers and not keys:
            return None
        if len(headers) > 1 or (not headers and len(keys) > 1):
            raise RefusedError(_INVALID)
        holder = self._of_header(headers[0]) if headers else self._verified(keys[0].strip(" "), None)
        note_money(connection.scope)
        return holder

    def _of_header(self, header: str) -> Holder:
        scheme, _, rest = header.strip(" ").partition(" ")
        scheme, token, preimage = scheme.lower(), rest.lstrip(" "), None
        if scheme in _L402:
            token, _, preimage = token.partition(":")
        elif scheme != _BEARER:
            raise RefusedError(_INVALID)
        return self._verified(token, preimage)

    def _verified(self, token: str, preimage: str | None) -> Holder:
        verify = self._verify_kept if len(token) <= _KEPT_CHARS_MAX else self._verify
        try:
            macaroon_id, grant, key_number = verify(token)
        except OversizedMacaroonError as error:
            raise RefusedError(Refusal(Code.INVALID_CREDENTIAL, f"{error}.")) from None
        except InvalidMacaroonError:
            raise RefusedError(_INVALID) from None
        except CaveatError as error:
            raise RefusedError(violated(error.caveat, str(error))) from None
        if preimage is not None and not _pays(preimage, macaroon_id.payment_hash):
            raise RefusedError(_PREIMAGE_WRONG)
        session_id, payment_hash = macaroon_id.session_id, macaroon_id.payment_hash
        return Holder(session_id, grant, preimage is not None, token, payment_hash, key_number > 0)


def _pays(preimage: str, payment_hash: str) -> bool:
    """Return True for the preimage of the payment hash. L402 requires it, but only the node's word proves a payment."""
    if not _PREIMAGE.fullmatch(preimage):
        return False
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == payment_hash
