"""Rule of a Lightning node for the reserve that a payout's route needs."""

from __future__ import annotations

from typing import Final

import msgspec

from ..money import MSAT_PER_SAT, ZERO, Msat

_MILLION: Final = 1_000_000
_PPM_PER_PERCENT: Final = 10_000


class RoutingFees(msgspec.Struct, frozen=True):
    """Reserve for routing: `base_msat` and `per_million` msat for each million, rounded up; at least `least_msat`."""

    base_msat: Msat = ZERO
    per_million: int = 0
    least_msat: Msat = ZERO

    def __post_init__(self) -> None:
        if self.per_million < 0:
            raise ValueError(f"a route can't cost {self.per_million} for a million")

    def reserve(self, amount_msat: Msat) -> Msat:
        """Return the reserve for the route of a payment of this amount."""
        part = -(-amount_msat.value * self.per_million // _MILLION)
        return max(self.least_msat, self.base_msat + Msat(part))

    def largest_payout(self, owed_msat: Msat) -> Msat:
        """Return the largest invoice, in whole sats, that what is owed covers with its reserve; 0 if none."""
        # A sum that is rounded up fits into a whole number exactly if the sum itself does.
        proportional = (owed_msat.value - self.base_msat.value) * _MILLION // (_MILLION + self.per_million)
        most = min(owed_msat.value - self.least_msat.value, proportional)
        return Msat.from_sats(max(0, most) // MSAT_PER_SAT)

    @property
    def words(self) -> str:
        """The rule in words, such as "2 sats or 1 %, whichever is more"."""
        parts = [_sats(self.base_msat)] if self.base_msat else []
        parts += [f"{_decimal(self.per_million, _PPM_PER_PERCENT)} %"] if self.per_million else []
        rule = " and ".join(parts)
        if not self.least_msat:
            return rule or "nothing"
        return f"{_sats(self.least_msat)} or {rule}, whichever is more" if rule else _sats(self.least_msat)


def _sats(amount: Msat) -> str:
    return "1 sat" if amount == Msat.from_sats(1) else f"{_decimal(amount.value, MSAT_PER_SAT)} sats"


def _decimal(number: int, divisor: int) -> str:
    """Return number / divisor as an exact decimal; the divisor is a power of ten."""
    whole, rest = divmod(number, divisor)
    places = str(divisor + rest)[1:].rstrip("0")
    return f"{whole}.{places}" if places else str(whole)
