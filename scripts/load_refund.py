"""Closes the sessions of a load test, and has what is left paid back to the LNbits wallet that paid for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from ..actors.domain.money import Msat
from ..actors.domain.payouts import largest_payout
from .load_api import Holder, Server, refusal
from .load_opening import each
from .load_options import LoadError
from .load_wallets import LnbitsWallet

_AT_ONCE: Final = 8
# A minute in all.
_LOOKS: Final = 60
_LOOK_EVERY_S: Final = 1.0
_PENDING: Final = 425


class Refunds(msgspec.Struct, kw_only=True):
    """What was paid back. `left_msat` is what remains owed: a reserve for routing that was not needed, mostly.

    `failed` counts the sessions that could not be closed or whose payout did not succeed in time.
    """

    sessions: int = 0
    paid_back_msat: int = 0
    left_msat: int = 0
    failed: int = 0
    first_failure: str | None = None


async def refund_all(server: Server, wallet: LnbitsWallet, holders: Sequence[Holder], run_id: str) -> Refunds:
    """Closes all of them; one that can't be refunded is counted, and does not keep the others from it."""
    refunds = Refunds()

    async def refund(holder: Holder) -> None:
        refunds.sessions += 1
        try:
            paid_msat, left_msat = await _refund(server, wallet, holder, run_id)
        except LoadError as error:
            refunds.failed += 1
            refunds.first_failure = refunds.first_failure or str(error)
        else:
            refunds.paid_back_msat += paid_msat
            refunds.left_msat += left_msat

    await each(holders, refund, _AT_ONCE)
    return refunds


async def _refund(server: Server, wallet: LnbitsWallet, holder: Holder, run_id: str) -> tuple[int, int]:
    """What was paid back, and what is left."""
    balance_msat = (await server.show(holder)).balance_msat
    payout_sats = largest_payout(Msat(balance_msat)).whole_sats
    # Less than the least reserve can't be paid out; then the session is only closed.
    invoice = await wallet.invoice(payout_sats) if payout_sats else None
    delivery = await server.close_session(holder, invoice, f"load-{run_id}-close")
    if delivery.answer is None or delivery.answer.status not in (200, _PENDING):
        raise LoadError(f"{holder.session_id} can't be closed: {refusal(delivery)}")
    status = await server.show(holder)
    for _ in range(_LOOKS):
        if status.refund.state != "pending":
            break
        await asyncio.sleep(_LOOK_EVERY_S)
        status = await server.show(holder)
    if payout_sats and status.refund.state != "paid":
        raise LoadError(
            f"{holder.session_id} is closed, but its payout is {status.refund.state}: {status.refund.owed_msat} msat "
            "stay owed, which its macaroon can still collect."
        )
    return status.refund.paid_msat, status.refund.owed_msat
