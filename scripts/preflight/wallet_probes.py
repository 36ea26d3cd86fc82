"""Probe of the wallet: its keys have the rights that they should have, and the node does what will be asked of it."""

from __future__ import annotations

from typing import Final

import httpx

from ...actors.adapters.lightning.backend import Probed
from ...actors.adapters.lightning_backends import backend_of
from ...config.named_settings import is_set
from ...config.settings import Settings

_TIMEOUT_S: Final = 5.0


async def probed_wallet(settings: Settings, http: httpx.AsyncClient | None = None, *, may_order: bool = True) -> Probed:
    """Return what is wrong with the wallet, and what was shown to work. It moves no money.

    A node that does not answer is reported as a problem of its address.
    """
    backend = backend_of(settings)
    if not all(is_set(settings, variable) for variable in backend.needed):
        return Probed()
    if http is not None:
        return await backend.probe(settings, http, may_order=may_order)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as own:
        return await backend.probe(settings, own, may_order=may_order)
