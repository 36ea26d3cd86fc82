"""LNbits as a row of the table of Lightning backends."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis

from ....config.held_secrets import held
from ....config.lightning_kind import LightningKind
from ....config.settings import Settings
from ...ports import Lightning
from ..lightning.backend import Backend
from .client import LnbitsLightning
from .keys import KeyTrouble
from .probe import ADMIN_KEY, INVOICE_KEY, URL, probe
from .reserve import RULE


def _place(settings: Settings) -> str:
    return f"LNbits at {settings.lnbits_url or 'no address yet'}"


def _build(settings: Settings, *, spending: bool, redis: Redis) -> Lightning:
    return LnbitsLightning(
        str(settings.lnbits_url),
        held(settings.lnbits_invoice_key) or "",
        admin_key=held(settings.lnbits_admin_key) if spending else None,
        timeout_s=settings.lightning_timeout_s,
        concurrency=settings.lightning_concurrency,
    )


LNBITS: Final = Backend(
    kind=LightningKind.LNBITS,
    title="LNbits",
    variables=(URL, INVOICE_KEY, ADMIN_KEY),
    needed={
        URL: "An LNbits key is set, but no server to use it with: set its address.",
        INVOICE_KEY: "LNBITS_URL is set: set the invoice key of your wallet there, too.",
    },
    place=_place,
    build=_build,
    probe=probe,
    fees=RULE,
    keeps_owner=True,
    pays_with=ADMIN_KEY,
    asks_with=INVOICE_KEY,
    troubles={
        KeyTrouble.INVOICE_KEY_UNKNOWN: "LNbits does not know LNBITS_INVOICE_KEY.",
        KeyTrouble.ADMIN_KEY_UNKNOWN: "LNbits does not know LNBITS_ADMIN_KEY: no refund can be paid.",
        KeyTrouble.ADMIN_KEY_MISSING: "LNBITS_ADMIN_KEY is not set: no refund can be paid.",
        KeyTrouble.NO_ADMIN_KEY: "LNBITS_ADMIN_KEY is an invoice key: no refund can be paid.",
        KeyTrouble.TWO_WALLETS: "LNBITS_ADMIN_KEY is of another wallet than LNBITS_INVOICE_KEY.",
        KeyTrouble.TOO_OLD: "LNbits is older than 1.0, and no invoice of it can be read: upgrade it.",
    },
    unusable={KeyTrouble.TOO_OLD: "its LNbits is older than 1.0: upgrade it"},
)
