"""Routes of LNURL-withdraw (LUD-03): a wallet asks what it can have, and sends an invoice over some of it.

Wallets read errors in bodies with the status 200, and browsers' wallets need `Access-Control-Allow-Origin` (LUD-01).
"""

from __future__ import annotations

import hmac
from typing import Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain import idempotency_keys
from ...actors.domain.behaviour import Once
from ...actors.domain.credentials.caveats import Grant
from ...actors.domain.credentials.withdrawals import Withdrawal
from ...actors.domain.errors import Refusal, RefusedError, not_found
from ...actors.domain.job.state import FINAL_STATES, GetJob, RefundJob
from ...actors.domain.money import ZERO, Msat
from ...actors.domain.payments.payouts import PayoutTarget, RefundState, RefundView
from ...actors.domain.session.messages import CloseSession, GetSession
from ...actors.domain.session.state import SessionState
from ..payments.refunds import PayoutOrder, Refunds
from ..payments.withdrawals import Withdrawals
from ..request_facts import note_money
from ..response import json
from ..state import AppState
from . import schemas
from .openapi import SVG
from .qr import svg_of

_DESCRIPTION: Final = "Satmeter: what is left comes back"
_LEAST: Final = Msat.from_sats(1)
_LENGTH_MAX: Final = 4_096
_ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
_PICTURE: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}
_FAILED: Final = "The payment of this invoice has failed: make another one."
_CANT_PAY: Final = "The server can't pay just now, and its operator is notified: try again later with another invoice."
_NOTHING: Final = RefundView(ZERO, ZERO, RefundState.NONE)
_OVER: Final = frozenset({SessionState.CLOSED, SessionState.EXPIRED})


class LnurlRoutes:
    """The routes under /lnurl."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._withdrawals = Withdrawals(state)
        self._payouts = Refunds(state)

    async def offer(self, request: Request) -> Response:
        """Answer GET /lnurl/withdraw/{token} with the sums that a wallet can have."""
        token: str = request.path_params["token"]
        try:
            withdrawal = self._read(request)
            owed = await self._owed(withdrawal)
        except RefusedError as error:
            return _told(schemas.WithdrawOffer(status="ERROR", reason=_reason(error.refusal)))
        most = Msat.from_sats(owed.payable_sats)
        offer = schemas.WithdrawOffer(
            tag="withdrawRequest",
            callback=f"{self._withdrawals.url(token)}/callback",
            k1=withdrawal.k1,
            default_description=_DESCRIPTION,
            min_withdrawable=min(_LEAST, most).value,
            max_withdrawable=most.value,
        )
        return _told(offer)

    async def take(self, request: Request) -> Response:
        """Answer GET /lnurl/withdraw/{token}/callback, and begin the payout to the wallet's invoice."""
        if request.method == "HEAD":
            # Starlette adds it to GET; programs that look ahead must not move money.
            return json.head_only("application/json")
        try:
            withdrawal = self._read(request)
            if not hmac.compare_digest(_word(request, "k1").encode(), withdrawal.k1.encode()):
                return _refused("The k1 is not the one of this link.")
            self._payouts.refuse_without_payouts()
            target = await self._payouts.target(PayoutOrder(_word(request, "pr")))
            await self._owed(withdrawal)
            begun = await self._begun(withdrawal, target)
        except RefusedError as error:
            return _refused(_reason(error.refusal))
        if begun.failed:
            return _refused(_FAILED if begun.refusal is None else _CANT_PAY)
        return _told(schemas.WithdrawOutcome(status="OK"))

    async def qr(self, request: Request) -> Response:
        """Answer GET /lnurl/withdraw/{token}/qr.svg with the link as a picture. Raises `RefusedError` (404)."""
        withdrawal = self._withdrawals.read(request.path_params["token"])
        if withdrawal is None:
            raise RefusedError(not_found("link"))
        link = self._withdrawals.link(withdrawal.actor_id, withdrawal.generation)
        return Response(svg_of(link.lnurl), headers=_PICTURE, media_type=SVG)

    def _read(self, request: Request) -> Withdrawal:
        """Return the content of the link's token."""
        self._withdrawals.refuse_without_address()
        withdrawal = self._withdrawals.read(request.path_params["token"])
        if withdrawal is None:
            raise RefusedError(not_found("link"))
        note_money(request.scope)
        return withdrawal

    async def _owed(self, withdrawal: Withdrawal) -> RefundView:
        """Return what the actor owes. A session must be over: the link is for its rest, and must not end it."""
        if withdrawal.actor_id.startswith("job_"):
            job = await self._state.router.call(withdrawal.actor_id, GetJob())
            return job.refund if job.refund is not None and job.state in FINAL_STATES else _NOTHING
        session = await self._state.router.call(withdrawal.actor_id, GetSession(Grant(withdrawal.generation)))
        if session.state not in _OVER:
            raise RefusedError(not_found("link"))
        return session.refund

    async def _begun(self, withdrawal: Withdrawal, target: PayoutTarget) -> RefundView:
        """Begin the payout, and return the refund once it is journaled; the same invoice again begins nothing."""
        name, digest = f"w{target.payment_hash}", target.payment_hash
        if withdrawal.actor_id.startswith("job_"):
            refund = RefundJob(target, Once(name, digest, keyed=True), waits=False)
            job = await self._payouts.carry_out(withdrawal.actor_id, refund)
            assert job.refund is not None
            return job.refund
        grant = Grant(withdrawal.generation)
        close = CloseSession(target, idempotency_keys.operation(grant, name, digest), grant, waits=False)
        return (await self._payouts.carry_out(withdrawal.actor_id, close)).refund


def _word(request: Request, name: str) -> str:
    """Return a parameter of the query; empty unless it is there once."""
    values = request.query_params.getlist(name)
    return values[0] if len(values) == 1 and len(values[0]) <= _LENGTH_MAX else ""


def _reason(refusal: Refusal) -> str:
    fields = refusal.details.get("fields")
    return f"{fields[0]['message']}." if fields else refusal.message


def _refused(reason: str) -> Response:
    return _told(schemas.WithdrawOutcome(status="ERROR", reason=reason))


def _told(body: BaseModel) -> Response:
    return json.json_response(body, headers=_ANY_ORIGIN)
