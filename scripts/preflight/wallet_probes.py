"""Probes of the LNbits keys: both must be of the same wallet, and the admin key must be able to spend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from ...actors.adapters.lnbits.keys import KeyTrouble, key_trouble
from ...actors.ports import TransientError
from ...config.problem import Problem
from ...config.settings import Settings

_TIMEOUT_S: Final = 5.0
_AGAIN: Final = "copy it again from the wallet's page."
_PROBLEMS: Final[Mapping[KeyTrouble, Problem]] = {
    KeyTrouble.INVOICE_KEY_UNKNOWN: Problem("LNBITS_INVOICE_KEY", f"LNbits does not know this key: {_AGAIN}"),
    KeyTrouble.ADMIN_KEY_UNKNOWN: Problem("LNBITS_ADMIN_KEY", f"LNbits does not know this key: {_AGAIN}"),
    KeyTrouble.ADMIN_KEY_MISSING: Problem(
        "LNBITS_ADMIN_KEY", "Without the wallet's admin key no refund can be paid: set it."
    ),
    KeyTrouble.NO_ADMIN_KEY: Problem(
        "LNBITS_ADMIN_KEY", "This is an invoice key, which can't pay refunds: set the wallet's admin key."
    ),
    KeyTrouble.TWO_WALLETS: Problem(
        "LNBITS_ADMIN_KEY",
        "This key is of another wallet than LNBITS_INVOICE_KEY, which refunds would be paid from: set both of one.",
    ),
    KeyTrouble.TOO_OLD: Problem(
        "LNBITS_URL", "This LNbits is older than 1.0, and its invoices can't be read: upgrade it."
    ),
}


async def wallet_problems(settings: Settings, http: httpx.AsyncClient | None = None) -> list[Problem]:
    """Return the problems of the wallet's keys; none with the stub node. It moves no money.

    An LNbits that does not answer is reported as a problem of LNBITS_URL.
    """
    invoice_key, admin_key = settings.lnbits_invoice_key, settings.lnbits_admin_key
    if settings.lnbits_url is None or invoice_key is None:
        return []
    if http is None:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as own:
            return await wallet_problems(settings, own)
    base = settings.lnbits_url.rstrip("/")

    async def ask(method: str, path: str, key: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        try:
            response = await http.request(method, base + path, headers={"X-Api-Key": key}, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransientError(type(error).__name__) from None
        return response.status_code, response.content

    try:
        trouble = await key_trouble(
            ask,
            invoice_key.get_secret_value(),
            None if admin_key is None else admin_key.get_secret_value(),
            may_order=True,
        )
    except TransientError as error:
        return [Problem("LNBITS_URL", f"LNbits can't be asked about the keys ({error}): look whether it runs.")]
    return [] if trouble is None else [_PROBLEMS[trouble]]
