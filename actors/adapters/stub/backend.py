"""Stub node as a row of the table of Lightning backends."""

from __future__ import annotations

from typing import Final

import httpx
from redis.asyncio import Redis

from ....config.lightning_kind import LightningKind
from ....config.settings import Settings
from ...domain.money import Msat
from ...domain.payments.routing_fees import RoutingFees
from ...ports import Lightning
from ..lightning.backend import Backend, Probed
from ..lnbits.client import LnbitsLightning
from .node import KEY, URL, StubNode


def _place(settings: Settings) -> str:
    return "a stub node; set LNBITS_URL, or see docs/lightning.md"


def _build(settings: Settings, *, spending: bool, redis: Redis) -> Lightning:
    """Build the same client as for LNbits: the stub node is a transport under it."""
    node = StubNode(redis)
    return LnbitsLightning(
        URL,
        KEY,
        admin_key=KEY,
        timeout_s=settings.lightning_timeout_s,
        concurrency=settings.lightning_concurrency,
        transport=node,
        hints=node.hints,
    )


async def _probe(settings: Settings, http: httpx.AsyncClient, *, may_order: bool) -> Probed:
    return Probed()


STUB: Final = Backend(
    kind=LightningKind.STUB,
    title="Stub node",
    variables=(),
    needed={},
    place=_place,
    build=_build,
    probe=_probe,
    fees=RoutingFees(per_million=10_000, least_msat=Msat(2_000)),
    keeps_owner=True,
    pays_with=None,
    stub=True,
)
