"""No new money is taken while the wallet holds less than what is its clients' already."""

from __future__ import annotations

from ..actors.domain.errors import RefusedError, wallet_short
from .front import Front


async def refuse_deposits_when_short(front: Front) -> None:
    """Raises `RefusedError` before anything is ordered. What was paid in and is owed goes on all the same."""
    standing = await front.solvency.current()
    if standing is not None and not standing.solvent:
        raise RefusedError(wallet_short())
