"""Nostr Wallet Connect as a row of the table of Lightning backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import Redis

from ....config.held_secrets import ElsewhereError, held
from ....config.lightning_kind import LightningKind
from ....config.settings import Settings
from ...domain.money import Msat
from ...domain.payments.routing_fees import RoutingFees
from ...ports import Lightning
from ..lightning.backend import Backend
from .client import PAYOUTS_AT_ONCE, NwcLightning
from .connection import read_connection
from .probe import TROUBLES, URL, probe
from .rights import RightsTrouble


def _place(settings: Settings) -> str:
    """Name the hosts of the relays: the rest of the address is a secret."""
    hosts = [urlsplit(relay).hostname or "" for relay in _relays(settings)]
    return "a wallet by Nostr Wallet Connect" + (f", over {' and '.join(hosts)}" if hosts else "")


def _relays(settings: Settings) -> Sequence[str]:
    try:
        return read_connection(held(settings.nwc_url) or "").relays
    except (ElsewhereError, ValueError):
        return ()


def _build(settings: Settings, *, spending: bool, redis: Redis) -> Lightning:
    return NwcLightning(
        held(settings.nwc_url) or "",
        timeout_s=settings.lightning_timeout_s,
        concurrency=settings.lightning_concurrency,
    )


NWC: Final = Backend(
    kind=LightningKind.NWC,
    title="NWC",
    variables=(URL,),
    needed={URL: "A wallet by Nostr Wallet Connect needs its connection: nostr+walletconnect://…."},
    place=_place,
    build=_build,
    probe=probe,
    # Alby Hub sets so much aside for each payment, and so do most; LNbits and coinos take less. No limit can be sent.
    fees=RoutingFees(per_million=10_000, least_msat=Msat(10_000)),
    keeps_owner=False,
    payouts_at_once=PAYOUTS_AT_ONCE,
    hidden_addresses=_relays,
    pays_with=URL,
    troubles=TROUBLES,
    unusable={
        RightsTrouble.KEY_UNKNOWN: "its wallet does not know our connection",
        RightsTrouble.NO_MAKE_INVOICE: "its wallet does not let us make invoices",
        RightsTrouble.NO_LOOKUP_INVOICE: "its wallet does not let us look payments up",
    },
)
