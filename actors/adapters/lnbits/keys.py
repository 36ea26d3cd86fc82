"""Check of LNbits and its two keys: it is not too old, and they are an invoice key and its wallet's admin key.

Source: LNbits 1.6.2. `GET /api/v1/wallet` takes either key and names the wallet's id to its admin key alone, so the
answer's status says nothing of a key's rights. Details of a payment are shown to the keys of its wallet alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from ...ports import TransientError
from ..lightning.reading import rubbish
from .messages import detail_of

_PAYMENTS: Final = "/api/v1/payments"
_WALLET: Final = "/api/v1/wallet"
_UNKNOWN_PAYMENT: Final = "payment does not exist"
# Invoice by which two empty wallets are told apart. It is never shown to a client, and lapses.
_PROBE: Final = {
    "out": False,
    "unit": "sat",
    "amount": 1,
    "memo": "Satmeter: are both keys of this wallet?",
    "expiry": 60,
}


class KeyTrouble(StrEnum):
    """Faults of the keys, or of the LNbits that they are for: TOO_OLD is one before 1.0."""

    INVOICE_KEY_UNKNOWN = "invoice_key_unknown"
    ADMIN_KEY_UNKNOWN = "admin_key_unknown"
    ADMIN_KEY_MISSING = "admin_key_missing"
    NO_ADMIN_KEY = "no_admin_key"
    TWO_WALLETS = "two_wallets"
    TOO_OLD = "too_old"


class _Wallet(msgspec.Struct, frozen=True):
    id: str = ""


class _Row(msgspec.Struct, frozen=True):
    payment_hash: str = ""
    status: Any = None
    pending: Any = None
    payment_request: Any = None

    @property
    def former(self) -> bool:
        """True for a payment as LNbits told it before 1.0: `pending` or `payment_request`, and no `status`."""
        return self.status is None and not (self.pending is None and self.payment_request is None)


class _Shown(msgspec.Struct, frozen=True):
    details: _Row | None = None


Ask = Callable[[str, str, str, Mapping[str, Any] | None], Awaitable[tuple[int, bytes]]]
"""Exchange with the node: method, path, key and body; returns status and body. Raises `TransientError`."""


async def key_trouble(ask: Ask, invoice_key: str, admin_key: str | None, *, may_order: bool) -> KeyTrouble | None:
    """Return the fault of the keys, if any. It moves no money.

    `may_order`: an invoice may be made where both wallets are empty, so that nothing else tells them apart. Raises
    `TransientError` when LNbits does not answer.
    """
    if await _wallet(ask, invoice_key) is None:
        return KeyTrouble.INVOICE_KEY_UNKNOWN
    newest = await _newest(ask, invoice_key)
    if newest is not None and newest.former:
        return KeyTrouble.TOO_OLD
    if admin_key is None:
        return KeyTrouble.ADMIN_KEY_MISSING
    wallet = await _wallet(ask, admin_key)
    if wallet is None:
        return KeyTrouble.ADMIN_KEY_UNKNOWN
    if not wallet.id:
        return KeyTrouble.NO_ADMIN_KEY
    if newest is None and await _newest(ask, admin_key) is not None:
        # The very first payment may have come between the two questions.
        newest = await _newest(ask, invoice_key)
        if newest is None:
            return KeyTrouble.TWO_WALLETS
    if newest is None and may_order:
        status, body = await ask("POST", _PAYMENTS, invoice_key, _PROBE)
        newest = _named(_good(status, body, _Row))
        if newest is not None and newest.former:
            return KeyTrouble.TOO_OLD
    return None if newest is None or await _knows(ask, admin_key, newest.payment_hash) else KeyTrouble.TWO_WALLETS


async def _wallet(ask: Ask, key: str) -> _Wallet | None:
    status, body = await ask("GET", _WALLET, key, None)
    if status in (401, 403, 404) and detail_of(body) is not None:
        return None
    wallet: _Wallet = _good(status, body, _Wallet)
    return wallet


async def _newest(ask: Ask, key: str) -> _Row | None:
    rows = _good(*await ask("GET", f"{_PAYMENTS}?limit=1", key, None), list[_Row])
    return _named(rows[0]) if rows else None


def _named(row: _Row) -> _Row | None:
    return row if row.payment_hash else None


async def _knows(ask: Ask, key: str, payment_hash: str) -> bool:
    status, body = await ask("GET", f"{_PAYMENTS}/{payment_hash}", key, None)
    if status == 404 and _UNKNOWN_PAYMENT in (detail_of(body) or "").lower():
        return False
    return _good(status, body, _Shown).details is not None


def _good(status: int, body: bytes, kind: Any) -> Any:
    if not 200 <= status < 300:
        raise TransientError(f"the Lightning node answered {status}")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise rubbish("not the expected JSON") from None
