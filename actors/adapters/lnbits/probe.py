"""Probe of LNbits before money moves: its two keys are of one wallet, with the rights that they should have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec
from msgspec.structs import replace

from ....config.problem import Problem
from ....config.settings import Settings
from ...domain.money import MSAT_PER_SAT
from ...ports import InvoiceOrder, PortError, TransientError
from ..lightning.backend import Probed
from ..lightning.fees import fees_of
from ..lightning.reading import read
from .keys import Ask, KeyTrouble, key_trouble
from .messages import Status, detail_of, read_new_invoice
from .reserve import RULE, reserve_at, shortfall

URL: Final = "LNBITS_URL"
INVOICE_KEY: Final = "LNBITS_INVOICE_KEY"
ADMIN_KEY: Final = "LNBITS_ADMIN_KEY"
_PAYMENTS: Final = "/api/v1/payments"
_WALLET: Final = "/api/v1/wallet"
_REFUSED: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_AGAIN: Final = "copy it again from the wallet's page."
_TOO_MUCH: Final = "This is an admin key, which can spend, and every host holds it: set the wallet's invoice key."
_DETAIL_MAX_CHARS: Final = 200
# LNbits looks at its rule before it reads the invoice. No text that is none can be paid.
_NO_INVOICE: Final = "no invoice: satmeter asks whether refunds are allowed"
_INCOMING_ONLY: Final = "only incoming payments allowed"
_TEST_ORDER: Final = InvoiceOrder(1, "Satmeter: a test invoice, which lapses", 60, "")
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


class _Wallet(msgspec.Struct, frozen=True):
    balance: int | float
    id: str = ""


async def probe(settings: Settings, http: httpx.AsyncClient, *, may_order: bool) -> Probed:
    """Return what is wrong with LNbits and its keys, and what was shown to work (see `Probe`). It moves no money."""
    base, keys = str(settings.lnbits_url).rstrip("/"), _keys(settings)

    async def ask(method: str, path: str, key: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        try:
            response = await http.request(method, base + path, headers={"X-Api-Key": key}, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransientError(type(error).__name__) from None
        return response.status_code, response.content

    if found := await _status_problems(ask, keys):
        return Probed(found)
    # Both kinds of key pass the check above. The next one checks their rights, and their wallets.
    try:
        trouble = await key_trouble(ask, keys[INVOICE_KEY], keys.get(ADMIN_KEY), may_order=may_order)
        if trouble is not None:
            return Probed([_PROBLEMS[trouble]])
        return await _prove(ask, keys, settings, may_order=may_order)
    except PortError as error:
        return Probed([Problem(URL, f"LNbits can't be asked about the keys ({error}): look whether it runs.")])


def _keys(settings: Settings) -> dict[str, str]:
    keys = {INVOICE_KEY: settings.lnbits_invoice_key, ADMIN_KEY: settings.lnbits_admin_key}
    return {variable: key.get_secret_value() for variable, key in keys.items() if key is not None}


async def _status_problems(ask: Ask, keys: Mapping[str, str]) -> list[Problem]:
    found = []
    for variable, key in keys.items():
        try:
            status, _ = await ask("GET", _WALLET, key, None)
        except TransientError:
            return [Problem(URL, "LNbits does not answer: start it, or mend the address.")]
        if status in _REFUSED:
            found.append(Problem(variable, f"LNbits does not accept this key: {_AGAIN}"))
        # An unknown key gives a 404, and so does an address without LNbits. `key_trouble` tells them apart by text.
        elif status not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            found.append(Problem(URL, f"LNbits answers with status {status}: look whether the address is right."))
    return found


async def _prove(ask: Ask, keys: Mapping[str, str], settings: Settings, *, may_order: bool) -> Probed:
    """Return what both keys can do. Raises `TransientError`."""
    invoice_key, admin_key = keys[INVOICE_KEY], keys[ADMIN_KEY]
    wallet = read((await ask("GET", _WALLET, invoice_key, None))[1], _Wallet)
    # LNbits names the wallet's id to its admin key alone.
    warnings = [Problem(INVOICE_KEY, _TOO_MUCH)] if wallet.id else []
    proofs = [] if wallet.id else ["The invoice key can't spend, and the admin key can."]
    balance_sats = max(0, int(wallet.balance)) // MSAT_PER_SAT
    proofs.append(f"The wallet holds {balance_sats:,} sats. LNbits does not tell how much its node can receive.")
    refused = await _payout_refused(ask, admin_key)
    if refused is not None:
        return Probed([refused], warnings, proofs)
    if not may_order:
        return Probed([], warnings, proofs)
    status, body = await ask("POST", _PAYMENTS, invoice_key, _invoice_order(1))
    if status != httpx.codes.CREATED:
        said = detail_of(body) or f"status {status}"
        text = f"It makes no invoice ({said[:_DETAIL_MAX_CHARS]}): look at its funding source."
        return Probed([Problem(URL, text)], warnings, proofs)
    invoice = read_new_invoice(body, _TEST_ORDER)
    status, body = await ask("GET", f"{_PAYMENTS}/{invoice.payment_hash}", invoice_key, None)
    if status != httpx.codes.OK or read(body, Status).details is None:
        return Probed([Problem(URL, "It does not find an invoice that it has just made.")], warnings, proofs)
    proofs.append("A test invoice over 1 sat was made and found again.")
    return Probed([], [*warnings, *await _sums_warnings(ask, invoice_key, invoice.payment_request, settings)], proofs)


async def _sums_warnings(ask: Ask, key: str, least: str, settings: Settings) -> list[Problem]:
    """Return what is wrong with large sums: the largest deposit, and the reserve of its refund.

    `least`: the invoice over 1 sat. Raises `TransientError`.
    """
    most_sats = settings.session_max_sats
    status, body = await ask("POST", _PAYMENTS, key, _invoice_order(most_sats))
    if status != httpx.codes.CREATED:
        said = detail_of(body) or f"status {status}"
        text = f"It makes no invoice over {most_sats:,} sats, which a deposit may be ({said[:_DETAIL_MAX_CHARS]})"
        return [Problem(URL, f"{text}: have its limit raised, or set SATMETER_SESSION_MAX_SATS.")]
    most = read_new_invoice(body, replace(_TEST_ORDER, amount_sats=most_sats))
    least_msat = await reserve_at(ask, key, least)
    most_msat = await reserve_at(ask, key, most.payment_request)
    if least_msat is None or most_msat is None:
        return []
    short = shortfall(fees_of(RULE, settings), least_msat, most_sats, most_msat)
    return [] if short is None else [Problem(URL, short)]


def _invoice_order(amount_sats: int) -> Mapping[str, Any]:
    return {
        "out": False,
        "unit": "sat",
        "amount": amount_sats,
        "memo": _TEST_ORDER.memo,
        "expiry": _TEST_ORDER.expiry_s,
    }


async def _payout_refused(ask: Ask, admin_key: str) -> Problem | None:
    """Return why LNbits would pay nothing at all: ordered to pay what can't be an invoice, it tells its rule first."""
    _, body = await ask("POST", _PAYMENTS, admin_key, {"out": True, "bolt11": _NO_INVOICE})
    if (detail_of(body) or "").lower().startswith(_INCOMING_ONLY):
        return Problem(URL, "It allows incoming payments only, so that no refund can be paid: have it changed.")
    return None
