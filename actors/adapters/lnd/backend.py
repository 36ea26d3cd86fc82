"""LND as a row of the table of Lightning backends."""

from __future__ import annotations

from ssl import SSLContext
from typing import Final

import structlog
from redis.asyncio import Redis

from ....config.held_secrets import held
from ....config.lightning_kind import LightningKind
from ....config.settings import Settings
from ...domain.money import Msat
from ...domain.payments.routing_fees import RoutingFees
from ...ports import Lightning
from ..lightning.backend import Backend
from ..redis.invoice_key import RedisInvoiceKey
from .client import PAYOUTS_AT_ONCE, LndLightning
from .probe import CERT_FILE, MACAROON, TROUBLES, URL, probe
from .rights import MacaroonTrouble
from .tls import trust

_log = structlog.get_logger(__name__)


def _place(settings: Settings) -> str:
    return f"LND at {settings.lnd_rest_url or 'no address yet'}"


def _verify(settings: Settings) -> SSLContext | bool:
    try:
        return trust(settings.lnd_tls_cert_file)
    except OSError as error:
        # Without it no connection comes about, which is told wherever a node that is away is.
        _log.error("lnd_certificate_unreadable", error_type=type(error).__name__, hint="set LND_TLS_CERT_FILE")
        return True


def _build(settings: Settings, *, spending: bool, redis: Redis) -> Lightning:
    return LndLightning(
        str(settings.lnd_rest_url),
        bytes.fromhex(held(settings.lnd_macaroon) or ""),
        RedisInvoiceKey(redis),
        verify=_verify(settings),
        timeout_s=settings.lightning_timeout_s,
        concurrency=settings.lightning_concurrency,
    )


LND: Final = Backend(
    kind=LightningKind.LND,
    title="LND",
    variables=(URL, MACAROON, CERT_FILE),
    needed={
        URL: "A macaroon or certificate of LND is set, but no address to use it at: set it.",
        MACAROON: "LND_REST_URL is set: set a macaroon for it, too, as docs/lightning.md says.",
    },
    place=_place,
    build=_build,
    probe=probe,
    # LND keeps to the limit of each payment, so that the reserve is never exceeded. Beside a base fee of each hop a
    # small amount needs room of its own.
    fees=RoutingFees(per_million=10_000, least_msat=Msat(2_000)),
    keeps_owner=False,
    pays_with=MACAROON,
    payouts_at_once=PAYOUTS_AT_ONCE,
    troubles=TROUBLES,
    unusable={
        MacaroonTrouble.UNREADABLE: "its macaroon can't be read",
        MacaroonTrouble.REFUSED: "LND refuses its macaroon",
        MacaroonTrouble.NO_INVOICES: "its macaroon does not allow invoices",
        MacaroonTrouble.NO_STATE: "its macaroon does not allow to ask for its state",
    },
)
