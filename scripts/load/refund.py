"""Refunds of a load test: sessions are closed, and what is left goes back to the LNbits wallet that paid for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from .api import Holder, Server, refusal
from .books import Status
from .opening import each
from .options import LoadError
from .wallets import LnbitsWallet

_AT_ONCE: Final = 8
_PAYOUTS_MAX: Final = 3
# The looks take a minute in all.
_LOOKS: Final = 60
_LOOK_EVERY_S: Final = 1.0
_PENDING: Final = 425


class Refunds(msgspec.Struct, kw_only=True):
    """Amounts paid back. `left_msat` is what remains owed: less than a payout needs, mostly.

    `failed` counts the sessions that could not be closed or whose payout did not succeed in time.
    """

    sessions: int = 0
    paid_back_msat: int = 0
    left_msat: int = 0
    failed: int = 0
    first_failure: str | None = None


async def refund_all(server: Server, wallet: LnbitsWallet, holders: Sequence[Holder], run_id: str) -> Refunds:
    """Close all sessions. One that can't be refunded is counted, and does not hinder the others."""
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
    """Close a session; return what was paid back, and what is left: less than a payout needs.

    Raises `LoadError` when it can't be closed, or its payout did not succeed in time.
    """
    status = await server.show(holder)
    for number in range(_PAYOUTS_MAX):
        payable_sats, paid_msat = status.refund.payable_sats, status.refund.paid_msat
        if number and not payable_sats:
            break
        # A further invoice collects a reserve for routing that was not needed. A session with too little is only
        # closed.
        invoice = await wallet.invoice(payable_sats) if payable_sats else None
        delivery = await server.close_session(holder, invoice, f"load-{run_id}-close-{number}")
        if delivery.answer is None or delivery.answer.status not in (200, _PENDING):
            raise LoadError(f"{holder.session_id} can't be closed: {refusal(delivery)}")
        status = await _settled(server, holder)
        if status.refund.paid_msat != paid_msat + payable_sats * 1_000:
            raise LoadError(
                f"{holder.session_id} is closed, but its payout is {status.refund.state}: {status.refund.owed_msat} "
                "msat stay owed, which its macaroon can still collect."
            )
    return status.refund.paid_msat, status.refund.owed_msat


async def _settled(server: Server, holder: Holder) -> Status:
    """Return the session once its payout has ended, or as it is when that takes too long."""
    status = await server.show(holder)
    for _ in range(_LOOKS):
        if status.refund.state != "pending":
            break
        await asyncio.sleep(_LOOK_EVERY_S)
        status = await server.show(holder)
    return status
