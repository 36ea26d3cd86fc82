"""Payments that the node has and the session does not: looked for before a request is refused for want of them.

A client pays and sends its request at once. The session hears of the payment a moment later, or with the treasury's
next look-up if the node's hint is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ...actors.domain.credentials.caveats import Grant
from ...actors.domain.errors import Code, Refusal, RefusedError
from ...actors.domain.session.messages import CheckPayment, GetSession
from ...actors.domain.session.state import SessionState
from ...actors.ports import TransientError
from ..edge.buckets import Buckets
from ..request.auth import Holder
from ..state import AppState

_MENDED_BY_PAYMENT: Final = frozenset({Code.PAYMENT_REQUIRED, Code.INSUFFICIENT_BALANCE})
# A slow node must not delay the refusal any longer.
_PATIENCE_S: Final = 2.0
# An unpaid session costs nothing, so its holder could have the node asked without end.
_OF_SESSION_PER_S: Final = 2.0
_OF_SESSION_BURST: Final = 4.0
_OF_ALL_PER_S: Final = 20.0
_OF_ALL_BURST: Final = 40.0
_ALL: Final = "all"
# The newest ones: the client has just paid.
_TOP_UPS_MAX: Final = 3
AnswerT = TypeVar("AnswerT")


class UnseenPayments:
    """Look-ups of a session's open invoices, as many as a front may have the node asked for."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._of_session = Buckets(_OF_SESSION_PER_S, _OF_SESSION_BURST)
        self._of_all = Buckets(_OF_ALL_PER_S, _OF_ALL_BURST)

    async def retried(self, holder: Holder, send: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Return what `send` returns, once more if it is refused for want of a payment that the node has.

        Raises `RefusedError`.
        """
        try:
            return await send()
        except RefusedError as error:
            if not await self.credited(holder, error.refusal):
                raise
        return await send()

    async def credited(self, holder: Holder, refusal: Refusal) -> bool:
        """Return True if a payment was credited, so that the refused request is worth another try. Raises nothing."""
        if refusal.code not in _MENDED_BY_PAYMENT or not self._may_look(holder.session_id):
            return False
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if refusal.code is Code.PAYMENT_REQUIRED:
                    return await self._deposit_is_paid(holder)
                return await self._balance_has_grown(holder, refusal.details.get("balanceMsat", 0))
        except (RefusedError, TransientError, TimeoutError):
            return False

    async def _deposit_is_paid(self, holder: Holder) -> bool:
        view = await self._state.router.call(holder.session_id, CheckPayment(_unnarrowed(holder)))
        return view.state is not SessionState.AWAITING_PAYMENT

    async def _balance_has_grown(self, holder: Holder, balance_msat: int) -> bool:
        grant, call = _unnarrowed(holder), self._state.router.call
        view = await call(holder.session_id, GetSession(grant))
        newest = view.pending_invoices[-_TOP_UPS_MAX:]
        checks = [CheckPayment(grant, invoice.payment_hash) for invoice in newest]
        views = [view, *await asyncio.gather(*(call(holder.session_id, check) for check in checks))]
        return any(view.balance_msat.value > balance_msat for view in views)

    def _may_look(self, session_id: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        if self._of_session.wait_s(session_id, now_s) or self._of_all.wait_s(_ALL, now_s):
            return False
        self._of_session.charge(session_id, now_s, 1)
        self._of_all.charge(_ALL, now_s, 1)
        return True


def _unnarrowed(holder: Holder) -> Grant:
    """Return the grant without its caveats: a holder that may only make requests may not read the session."""
    return Grant(holder.grant.generation)
