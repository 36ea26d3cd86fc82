"""Macaroons: offline narrowing, and the session that a macaroon opens."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from .errors import SatmeterError


def caveats_of(
    *,
    max_msat: int | None,
    max_msat_per_request: int | None,
    max_msat_per: str | None = None,
    expires_at: datetime | int | None,
    actions: Collection[str] | None,
    name: str | None,
) -> list[str]:
    """Return caveats in a macaroon's form. Raises `ValueError`."""
    unix_s = int(expires_at.timestamp()) if isinstance(expires_at, datetime) else expires_at
    if isinstance(actions, str):
        raise ValueError("actions must be a list of actions")
    named = {
        "max_msat": max_msat,
        "max_msat_per_request": max_msat_per_request,
        "max_msat_per": max_msat_per,
        "expires_at": unix_s,
        "actions": ",".join(actions) if actions is not None else None,
        "name": name,
    }
    return [f"{caveat} = {value}" for caveat, value in named.items() if value is not None]


def narrow(macaroon: str, caveats: list[str]) -> str:
    """Return the macaroon with these caveats, offline. Raises `ValueError` if a server would refuse the result."""
    # Imported late, as it takes as long to load as all else here.
    from ..actors.domain.credentials import caveats as rules
    from ..actors.domain.credentials.macaroon import InvalidMacaroonError, OversizedMacaroonError, narrowed

    if not caveats:
        raise ValueError("nothing to narrow it by")
    for caveat in caveats:
        try:
            rules.narrow(rules.Grant(generation=0), caveat.encode(), counter="")
        except rules.UnknownCaveatError:
            raise ValueError(f"{caveat!r} is not a caveat that a server accepts") from None
    try:
        return narrowed(macaroon, caveats)
    except (OversizedMacaroonError, rules.CaveatError) as error:
        raise ValueError(f"a server would refuse it: {error}") from None
    except InvalidMacaroonError:
        raise ValueError("that is not a macaroon of a Satmeter server") from None


def session_id_of(macaroon: str) -> str:
    """Return the session that a macaroon opens. Raises `SatmeterError`."""
    from ..actors.domain.credentials.macaroon import InvalidMacaroonError, read

    try:
        return read(macaroon)[0].session_id
    except InvalidMacaroonError:
        raise SatmeterError("That is not a macaroon of a Satmeter server.") from None
