"""Table of the Lightning backends, and the choice of one. No other file asks which backend it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ...config.lightning_kind import LightningKind
from ...config.named_settings import is_set
from ...config.problem import Problem
from ...config.settings import Settings
from .lightning.backend import Backend
from .lnbits.backend import LNBITS
from .lnd.backend import LND
from .nwc.backend import NWC
from .phoenixd.backend import PHOENIXD
from .stub.backend import STUB

BACKENDS: Final[Mapping[LightningKind, Backend]] = {row.kind: row for row in (LNBITS, LND, PHOENIXD, NWC, STUB)}

USUAL: Final = LNBITS
"""Backend that is named where none is chosen."""
CHOICE: Final = "SATMETER_LIGHTNING"
"""Environment name of the setting that chooses a row."""


def backend_of(settings: Settings) -> Backend:
    """Return the backend that is named, else the one that is configured, else the stub."""
    if settings.lightning is not None:
        return BACKENDS.get(settings.lightning, STUB)
    return next((row for row in _real() if row.given(settings)), STUB)


def choice_problems(settings: Settings) -> Iterator[Problem]:
    """Yield what is wrong with the choice: two backends are configured, or what the chosen one needs is missing."""
    if settings.lightning is not None and settings.lightning not in BACKENDS:
        names = ", ".join(f"`{kind}`" for kind in BACKENDS)
        yield Problem(CHOICE, f"This version has no {settings.lightning.value}: choose one of {names}.")
        return
    configured = [row for row in _real() if is_set(settings, row.address)]
    if settings.lightning is None and len(configured) > 1:
        addresses = " and ".join(row.address for row in configured)
        names = " or ".join(f"`{row.kind.value}`" for row in configured)
        yield Problem(CHOICE, f"{addresses} are set, and only one can be used: set {CHOICE} to {names}.")
        return
    row = configured[0] if settings.lightning is None and configured else backend_of(settings)
    missing = {variable: sentence for variable, sentence in row.needed.items() if not is_set(settings, variable)}
    if row.address in missing and settings.lightning is None:
        missing = {row.address: missing[row.address]}
    for variable, sentence in missing.items():
        chosen = f"{CHOICE} is {row.kind.value}: set {variable}, too."
        yield Problem(variable, sentence if settings.lightning is None else chosen)


def _real() -> list[Backend]:
    return [row for row in BACKENDS.values() if not row.stub]
