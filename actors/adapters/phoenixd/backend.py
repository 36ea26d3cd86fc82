"""phoenixd as a row of the table of Lightning backends."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis

from ....config.held_secrets import held
from ....config.lightning_kind import LightningKind
from ....config.settings import Settings
from ...domain.money import Msat
from ...domain.payments.routing_fees import RoutingFees
from ...ports import Lightning
from ..lightning.backend import Backend
from .access import Trouble
from .client import PAYOUTS_AT_ONCE, PhoenixdLightning
from .probe import PASSWORD, URL, probe


def _place(settings: Settings) -> str:
    return f"phoenixd at {settings.phoenixd_url or 'no address yet'}"


def _build(settings: Settings, *, spending: bool, redis: Redis) -> Lightning:
    return PhoenixdLightning(
        str(settings.phoenixd_url),
        held(settings.phoenixd_password) or "",
        timeout_s=settings.lightning_timeout_s,
        concurrency=settings.lightning_concurrency,
    )


PHOENIXD: Final = Backend(
    kind=LightningKind.PHOENIXD,
    title="phoenixd",
    variables=(URL, PASSWORD),
    needed={
        URL: "A password of phoenixd is set, but no node to use it with: set its address.",
        PASSWORD: "PHOENIXD_URL is set: set `http-password` of its phoenix.conf, too.",
    },
    place=_place,
    build=_build,
    probe=probe,
    # The price list of phoenixd's peer. It takes no limit.
    fees=RoutingFees(base_msat=Msat(4_000), per_million=4_000),
    keeps_owner=False,
    pays_with=PASSWORD,
    payouts_at_once=PAYOUTS_AT_ONCE,
    troubles={
        Trouble.UNKNOWN: "phoenixd does not know PHOENIXD_PASSWORD.",
        Trouble.LIMITED: "PHOENIXD_PASSWORD is the limited-access password: no refund can be paid.",
        Trouble.TOO_OLD: "phoenixd is older than 0.5, and can't be asked what became of a refund: upgrade it.",
    },
    unusable={Trouble.UNKNOWN: "its phoenixd does not know our password"},
)
