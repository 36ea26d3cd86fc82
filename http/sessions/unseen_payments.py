"""Payments that the node has and the session does not: looked for before a request is refused for want of them.

A client pays and sends its request at once. The session hears of the payment a moment later, or with the treasury's
next look-up if the node's hint is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from ...actors.domain.credentials.caveats import Grant
from ...actors.domain.errors import Code, Refusal, RefusedError, node_unavailable
from ...actors.domain.session.messages import CheckPayment, GetSession, SessionView
from ...actors.domain.session.state import SessionState
from ...actors.ports import TransientError
from ..edge.buckets import Buckets
from ..request.auth import Holder
from ..state import AppState

_NOT_SEEN: Final = {
    Code.PAYMENT_REQUIRED: "It can't be seen just now whether the deposit was paid.",
    Code.INSUFFICIENT_BALANCE: "The balance is too small, and it can't be seen just now whether a top-up was paid.",
}
# A slow node must not delay the refusal any longer.
_PATIENCE_S: Final = 2.0
# A node that is not done within both is taken for away only if it answers no simple question either.
_ANSWERS_WITHIN_S: Final = 1.5
# Until then a node that was away counts as away without being asked.
_AWAY_S: Final = 2.0
# An unpaid session costs nothing, so its holder could have the node asked without end.
_OF_SESSION_PER_S: Final = 2.0
_OF_SESSION_BURST: Final = 4.0
_OF_ALL_PER_S: Final = 20.0
_OF_ALL_BURST: Final = 40.0
_ALL: Final = "all"
# The newest ones: the client has just paid.
_TOP_UPS_MAX: Final = 3
AnswerT = TypeVar("AnswerT")
_Key = tuple[str, int, Code]


class _Seen(NamedTuple):
    """Findings of a look-up. `blind`: the node is away, so that an open invoice may have been paid."""

    views: Sequence[SessionView]
    blind: bool = False


class UnseenPayments:
    """Look-ups of a session's open invoices, as many as a front may have the node asked for.

    Requests of a session that come together share a look-up.
    """

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._of_session = Buckets(_OF_SESSION_PER_S, _OF_SESSION_BURST)
        self._of_all = Buckets(_OF_ALL_PER_S, _OF_ALL_BURST)
        self._looks: dict[_Key, asyncio.Task[_Seen]] = {}
        self._asking_node: asyncio.Task[bool] | None = None
        self._away_until_s = 0.0

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
        """Return True if a payment was credited, so that the refused request is worth another try.

        Raises `RefusedError` (503) while the node is away: that no payment is known does not mean that none was made.
        """
        if refusal.code not in _NOT_SEEN:
            return False
        key = holder.session_id, holder.grant.generation, refusal.code
        look = self._under_way(key)
        seen = _Seen(()) if look is None else await asyncio.shield(look)
        if not seen.blind and not _shows(seen.views, refusal):
            # A look-up that was under way may have begun before this client paid.
            look = self._under_way(key) or self._begun(key)
            seen = _Seen((), blind=await self._is_blind(key)) if look is None else await asyncio.shield(look)
        if _shows(seen.views, refusal):
            return True
        if seen.blind:
            away = node_unavailable()
            raise RefusedError(replace(away, message=f"{_NOT_SEEN[refusal.code]} {away.message}"))
        return False

    def _under_way(self, key: _Key) -> asyncio.Task[_Seen] | None:
        look = self._looks.get(key)
        return None if look is None or look.done() else look

    def _begun(self, key: _Key) -> asyncio.Task[_Seen] | None:
        """Return a new look-up; None if there were too many of late."""
        now_s = asyncio.get_running_loop().time()
        if self._of_session.wait_s(key[0], now_s) or self._of_all.wait_s(_ALL, now_s):
            return None
        self._of_session.charge(key[0], now_s, 1)
        self._of_all.charge(_ALL, now_s, 1)
        look = self._looks[key] = asyncio.create_task(self._look(key))
        look.add_done_callback(lambda _: self._ended(key, look))
        return look

    def _ended(self, key: _Key, look: asyncio.Task[_Seen]) -> None:
        if self._looks.get(key) is look:
            del self._looks[key]

    async def _look(self, key: _Key) -> _Seen:
        """Return the session as it was after each of the node's answers; nothing if it gave none in time."""
        session_id, generation, code = key
        # Without caveats: a holder that may only make requests may not read the session.
        grant, call = Grant(generation), self._state.router.call
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if code is Code.PAYMENT_REQUIRED:
                    return _Seen((await call(session_id, CheckPayment(grant)),))
                view = await call(session_id, GetSession(grant))
                checks = [CheckPayment(grant, found.payment_hash) for found in view.pending_invoices[-_TOP_UPS_MAX:]]
                return _Seen((view, *await asyncio.gather(*(call(session_id, check) for check in checks))))
        except RefusedError:
            return _Seen(())
        except (TransientError, TimeoutError):
            return _Seen((), blind=await self._is_node_away())

    async def _is_blind(self, key: _Key) -> bool:
        """Return whether an open invoice of the session can't be looked at, as the node was away a moment ago."""
        session_id, generation, code = key
        if asyncio.get_running_loop().time() >= self._away_until_s:
            return False
        if code is Code.PAYMENT_REQUIRED:
            return True
        try:
            async with asyncio.timeout(_PATIENCE_S):
                view = await self._state.router.call(session_id, GetSession(Grant(generation)))
        except (RefusedError, TransientError, TimeoutError):
            return False
        return bool(view.pending_invoices)

    async def _is_node_away(self) -> bool:
        if self._asking_node is None or self._asking_node.done():
            self._asking_node = asyncio.create_task(self._node_answers())
        away = not await asyncio.shield(self._asking_node)
        if away:
            self._away_until_s = asyncio.get_running_loop().time() + _AWAY_S
        return away

    async def _node_answers(self) -> bool:
        check = self._state.checks.get("lightning")
        if check is None:
            return True
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                await check()
        except Exception:  # As readiness does: whatever it raises, the node was not reached.
            return False
        return True


def _shows(views: Sequence[SessionView], refusal: Refusal) -> bool:
    """Return True if the session has what it lacked when it refused."""
    if refusal.code is Code.PAYMENT_REQUIRED:
        return any(view.state is not SessionState.AWAITING_PAYMENT for view in views)
    balance_msat = refusal.details.get("balanceMsat", 0)
    return any(view.balance_msat.value > balance_msat for view in views)
