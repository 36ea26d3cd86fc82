"""Credentials of one session, as their holders make them: by another implementation of macaroons."""

from __future__ import annotations

import base64
from typing import Any

from msgspec.structs import replace
from pymacaroons import Macaroon
from pymacaroons.serializers import BinarySerializer

from satmeter.actors.domain import idempotency_keys
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.credentials.macaroon import MacaroonId, mint, session_id, verify

KEY = bytes(range(32))
MACAROON_ID = MacaroonId("ab" * 32, session_id(bytes(range(24))), generation=1)
ROOT = mint(KEY, MACAROON_ID)


def appended(token: str, *caveats: str) -> str:
    """The macaroon with these caveats more."""
    macaroon = Macaroon.deserialize(base64.urlsafe_b64encode(base64.b64decode(token)).decode())
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return base64.standard_b64encode(BinarySerializer().serialize_raw(macaroon)).decode()


def grant_of(*caveats: str) -> Grant:
    """Return the grant that the server reads in the session's macaroon with these caveats."""
    return verify(KEY, appended(ROOT, *caveats))[1]


def keyed(command: Any, by: Grant) -> Any:
    """The command as this credential's, under the key that its name stands for."""
    return replace(command, grant=by, once=idempotency_keys.operation(by, command.once.name, command.once.digest))
