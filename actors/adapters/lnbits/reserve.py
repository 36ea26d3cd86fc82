"""Reserve that LNbits sets aside for a payout, beside ours: the admin of an LNbits may change it, and add a fee.

Source: LNbits 1.6.2, `fee_reserve_total`: the larger of a least sum and a part of the amount, and the service fee.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...domain.money import MSAT_PER_SAT, Msat
from ...domain.payments.routing_fees import RoutingFees
from ..lightning.reading import read, sane_msat
from .keys import Ask

RULE: Final = RoutingFees(per_million=10_000, least_msat=Msat(2_000))
"""LNbits's own, at its defaults: what it takes out of the wallet while a payment is under way."""
_PATH: Final = "/api/v1/payments/fee-reserve"
_MILLION: Final = 1_000_000


class _Reserve(msgspec.Struct, frozen=True):
    fee_reserve: int


async def reserve_at(ask: Ask, key: str, payment_request: str) -> Msat | None:
    """Return what LNbits would set aside to pay this invoice by a route; None where it does not tell."""
    status, body = await ask("GET", f"{_PATH}?invoice={payment_request}", key, None)
    return sane_msat(read(body, _Reserve).fee_reserve) if status == 200 else None


def shortfall(fees: RoutingFees, least_msat: Msat, amount_sats: int, reserve_msat: Msat) -> str | None:
    """Return in words where our reserve falls short of LNbits's, and what to set; None where it does not.

    `least_msat` is LNbits's reserve for a payout of 1 sat, `reserve_msat` that for one of `amount_sats`.
    """
    amount_msat = Msat.from_sats(amount_sats)
    ours_least_msat, ours_msat = fees.reserve(Msat.from_sats(1)), fees.reserve(amount_msat)
    if ours_least_msat >= least_msat and ours_msat >= reserve_msat:
        return None
    base_sats = -(-least_msat.value // MSAT_PER_SAT)
    per_million = -(-reserve_msat.value * _MILLION // amount_msat.value)
    return (
        f"LNbits sets {_sats(least_msat)} sats aside for a payout of 1 sat, and {_sats(reserve_msat)} for one of "
        f"{amount_sats:,}; this server {_sats(ours_least_msat)} and {_sats(ours_msat)}. A refund is refused where the "
        "wallet holds no more than what is owed, and what LNbits takes beyond this server's reserve is your loss: set "
        f"SATMETER_ROUTING_BASE_SATS={base_sats} and SATMETER_ROUTING_PER_MILLION={per_million}."
    )


def _sats(amount: Msat) -> str:
    return f"{-(-amount.value // MSAT_PER_SAT):,}"
