"""Kinds of Lightning backends, by the values of SATMETER_LIGHTNING."""

from __future__ import annotations

from enum import StrEnum


class LightningKind(StrEnum):
    """Kind of a Lightning backend: each is a row in `actors/adapters/lightning_backends.py`."""

    LNBITS = "lnbits"
    LND = "lnd"
    PHOENIXD = "phoenixd"
    NWC = "nwc"
    STUB = "stub"
