"""Probe of LNbits before money moves: its two keys are of one wallet, with the rights that they should have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from ....config.problem import Problem
from ....config.settings import Settings
from ...ports import TransientError
from ..lightning.backend import Probed
from .keys import KeyTrouble, key_trouble

URL: Final = "LNBITS_URL"
INVOICE_KEY: Final = "LNBITS_INVOICE_KEY"
ADMIN_KEY: Final = "LNBITS_ADMIN_KEY"
_REFUSED: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_AGAIN: Final = "copy it again from the wallet's page."
_PROBLEMS: Final[Mapping[KeyTrouble, Problem]] = {
    KeyTrouble.INVOICE_KEY_UNKNOWN: Problem(INVOICE_KEY, f"LNbits does not know this key: {_AGAIN}"),
    KeyTrouble.ADMIN_KEY_UNKNOWN: Problem(ADMIN_KEY, f"LNbits does not know this key: {_AGAIN}"),
    KeyTrouble.ADMIN_KEY_MISSING: Problem(ADMIN_KEY, "Without the wallet's admin key no refund can be paid: set it."),
    KeyTrouble.NO_ADMIN_KEY: Problem(
        ADMIN_KEY, "This is an invoice key, which can't pay refunds: set the wallet's admin key."
    ),
    KeyTrouble.TWO_WALLETS: Problem(
        ADMIN_KEY,
        "This key is of another wallet than LNBITS_INVOICE_KEY, which refunds would be paid from: set both of one.",
    ),
    KeyTrouble.TOO_OLD: Problem(URL, "This LNbits is older than 1.0, and its invoices can't be read: upgrade it."),
}


async def probe(settings: Settings, http: httpx.AsyncClient, *, may_order: bool) -> Probed:
    """Return what is wrong with LNbits and its keys (see `Probe`). It moves no money."""
    base, keys = str(settings.lnbits_url).rstrip("/"), _keys(settings)
    found = []
    for variable, key in keys.items():
        try:
            status = (await http.get(f"{base}/api/v1/wallet", headers={"X-Api-Key": key})).status_code
        except (httpx.HTTPError, httpx.InvalidURL):
            return Probed([Problem(URL, "LNbits does not answer: start it, or mend the address.")])
        if status in _REFUSED:
            found.append(Problem(variable, "LNbits does not accept this key: copy it again from the wallet's page."))
        # An unknown key gives a 404, and so does an address without LNbits. The check below tells them apart by text.
        elif status not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            found.append(Problem(URL, f"LNbits answers with status {status}: look whether the address is right."))
    # Both kinds of key pass the check above. The next one checks their rights, and their wallets.
    return Probed(found or await _key_problems(base, keys, http, may_order=may_order))


def _keys(settings: Settings) -> dict[str, str]:
    keys = {INVOICE_KEY: settings.lnbits_invoice_key, ADMIN_KEY: settings.lnbits_admin_key}
    return {variable: key.get_secret_value() for variable, key in keys.items() if key is not None}


async def _key_problems(
    base: str, keys: Mapping[str, str], http: httpx.AsyncClient, *, may_order: bool
) -> list[Problem]:
    async def ask(method: str, path: str, key: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        try:
            response = await http.request(method, base + path, headers={"X-Api-Key": key}, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransientError(type(error).__name__) from None
        return response.status_code, response.content

    try:
        trouble = await key_trouble(ask, keys[INVOICE_KEY], keys.get(ADMIN_KEY), may_order=may_order)
    except TransientError as error:
        return [Problem(URL, f"LNbits can't be asked about the keys ({error}): look whether it runs.")]
    return [] if trouble is None else [_PROBLEMS[trouble]]
