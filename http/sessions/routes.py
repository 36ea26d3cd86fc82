"""Routes of sessions: deposit once, pay per request."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError
from ...actors.domain.session.messages import (
    CloseSession,
    GetLedger,
    GetSession,
    NameRefundDestination,
    PlanPayout,
    SessionView,
    TopUp,
)
from ..payments.destinations import RefundDestinations
from ..payments.pay_pages import PayPages
from ..payments.refunds import PayoutOrder, Refunds
from ..payments.schemas import RefundDestination, WithdrawLink
from ..payments.solvency_gate import refuse_deposits
from ..payments.webhooks import WebhookOrders
from ..payments.withdrawals import Withdrawals
from ..request.auth import Credentials
from ..request.body import read_json, unfit
from ..request.client_address import ClientAddresses
from ..request.idempotency import idempotency_key, operation_key_of
from ..request.query import refuse_unknown
from ..response import errors, json
from ..state import AppState
from . import schemas
from . import views as views_sessions
from .opening import Openings
from .top_up_offers import TopUpOffers
from .unseen_payments import UnseenPayments

_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_OF_LEDGER: Final = ("after", "limit")
_NO_ORDER: Final = schemas.CloseOrder()
_NOTHING: Final = schemas.Nothing()


class Sessions:
    """The routes under /sessions, except the requests. `opening` and `amount` are bodies with the operator's bounds."""

    def __init__(
        self,
        state: AppState,
        clients: ClientAddresses,
        credentials: Credentials,
        unseen_payments: UnseenPayments,
        opening: type[schemas.Opening],
        amount: type[schemas.Amount],
    ) -> None:
        self._state = state
        self._credentials = credentials
        self._unseen_payments = unseen_payments
        self._opening = opening
        self._amount = amount
        self._openings = Openings(state, clients)
        self._webhooks = WebhookOrders(state)
        self._top_up_offers = TopUpOffers(state)
        self._payouts = Refunds(state)
        self._destinations = RefundDestinations(state)
        self._withdrawals = Withdrawals(state)
        self._pages = PayPages(state)

    async def open(self, request: Request) -> Response:
        """Answer POST /sessions with a new session, or the one of the Idempotency-Key."""
        key = idempotency_key(request)
        body = await read_json(request, self._opening, self._state.settings.body_limit_bytes)
        webhook = self._webhooks.ordered(body.webhook)
        refund_to = self._destinations.named(body.refund_to)
        created, token, of_previous = await self._openings.open(
            request, body.amount_sats, key, webhook=webhook, refund_to=refund_to
        )
        made = self._webhooks.made(created.session_id, webhook, of_previous_key=of_previous)
        opened = views_sessions.session_opened(created, token, self._pages, made, of_previous_key=of_previous)
        return json.json_response(opened, 201, {"Location": f"/sessions/{created.session_id}"})

    async def show(self, request: Request) -> Response:
        """Answer GET /sessions/{sessionId} with the session as it is now."""
        session_id, grant, *_ = self._credentials.session(request)
        return self._status(await self._state.router.call(session_id, GetSession(grant)))

    async def top_up(self, request: Request) -> Response:
        """Answer POST /sessions/{sessionId}/topup with a further invoice."""
        holder = self._credentials.session(request)
        session_id, grant = holder.session_id, holder.grant
        key = idempotency_key(request)
        body = await read_json(request, self._amount, self._state.settings.body_limit_bytes)
        await refuse_deposits(self._state)
        command = TopUp(amount_sats=body.amount_sats, once=operation_key_of(request, key, body, grant), grant=grant)
        try:
            reply = await self._unseen_payments.retried(holder, partial(self._state.router.call, session_id, command))
        except RefusedError as error:
            raise RefusedError(await self._top_up_offers.improve(error.refusal, session_id, grant)) from None
        return json.json_response(views_sessions.top_up(session_id, reply.invoice, self._pages), 201)

    async def ledger(self, request: Request) -> Response:
        """Answer GET /sessions/{sessionId}/ledger with the session's movements, oldest first."""
        session_id, grant, *_ = self._credentials.session(request)
        query = _query(request)
        page = await self._state.router.call(session_id, GetLedger(query.after, query.limit, grant))
        return json.json_response(views_sessions.ledger(page))

    async def close(self, request: Request) -> Response:
        """Answer POST /sessions/{sessionId}/close: close the session, and pay its rest out where that is to be."""
        session_id, grant, *_ = self._credentials.session(request)
        key = idempotency_key(request)
        body = await read_json(request, schemas.CloseOrder, self._state.settings.body_limit_bytes, empty=_NO_ORDER)
        once = operation_key_of(request, key, body, grant)
        if body.payment_request is None:
            if body.amount_sats is not None:
                raise errors.invalid("amountSats", "Must come with a paymentRequest")
            return self._status(await self._state.router.call(session_id, CloseSession(None, once, grant)))
        order = PayoutOrder(body.payment_request, body.amount_sats)
        view = await self._payouts.pay(
            session_id,
            order,
            lambda amount_msat: PlanPayout(amount_msat, once, grant),
            lambda target: CloseSession(target, once, grant),
        )
        return self._status(view)

    async def name_destination(self, request: Request) -> Response:
        """Answer PUT /sessions/{sessionId}/refund-destination: have the rest paid there by itself from now on."""
        session_id, grant, *_ = self._credentials.session(request)
        body = await read_json(request, RefundDestination, self._state.settings.body_limit_bytes)
        destination = self._destinations.named(body.refund_to)
        assert destination is not None
        return self._status(await self._state.router.call(session_id, NameRefundDestination(destination, grant)))

    async def withdraw(self, request: Request) -> Response:
        """Answer POST /sessions/{sessionId}/withdraw: close the session, and give a link by which its rest is taken."""
        session_id, grant, *_ = self._credentials.session(request)
        key = idempotency_key(request)
        body = await read_json(request, schemas.Nothing, self._state.settings.body_limit_bytes, empty=_NOTHING)
        self._withdrawals.refuse_without_address()
        self._payouts.refuse_without_payouts()
        once = operation_key_of(request, key, body, grant)
        view = await self._state.router.call(session_id, CloseSession(None, once, grant, for_bearer=True))
        return self._status(view, self._withdrawals.link(session_id, grant.generation))

    def _status(self, view: SessionView, withdraw: WithdrawLink | None = None) -> Response:
        return json.json_response(views_sessions.session_status(view, self._pages, withdraw))


def _query(request: Request) -> schemas.LedgerQuery:
    asked: dict[str, int] = {}
    refuse_unknown(request, *_OF_LEDGER)
    for name in _OF_LEDGER:
        values = request.query_params.getlist(name)
        if values and (len(values) > 1 or not _NUMBER.fullmatch(values[0])):
            raise errors.invalid(name, "Must be one whole number")
        if values:
            asked[name] = int(values[0])
    try:
        return schemas.LedgerQuery.model_validate(asked)
    except ValidationError as error:
        raise unfit(error) from None
