"""Routes of jobs, which are paid per piece of work."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError, not_found
from ...actors.domain.job.state import (
    FINAL_STATES,
    CreateJob,
    GetJob,
    JobState,
    JobView,
    PlanJobPayout,
    RefundJob,
    WatchJob,
)
from ...actors.domain.payments.payouts import PayoutTarget
from ...actors.operator_terms import own_models
from ..edge.gate import watch
from ..payments.destinations import RefundDestinations
from ..payments.invoice_limits import InvoiceLimits, Payer
from ..payments.keyed_ids import KeyedIds
from ..payments.pay_pages import PayPages
from ..payments.refunds import PayoutOrder, Refunds
from ..payments.schemas import RefundOrder
from ..payments.solvency_gate import refuse_deposits
from ..payments.webhooks import WebhookOrders
from ..payments.withdrawals import Withdrawals
from ..request import ids
from ..request.body import read_json
from ..request.client_address import ClientAddresses
from ..request.idempotency import idempotency_key, operation_key_of
from ..request_facts import RequestFacts, facts_of, note_money
from ..response import errors, json, sse
from ..state import AppState
from . import schemas, views


class Jobs:
    """The routes under /jobs."""

    def __init__(self, state: AppState, clients: ClientAddresses) -> None:
        self._state = state
        self._clients = clients
        self._ids = KeyedIds(state, clients)
        self._invoice_limits = InvoiceLimits(state)
        self._payouts = Refunds(state)
        self._webhooks = WebhookOrders(state)
        self._destinations = RefundDestinations(state)
        self._withdrawals = Withdrawals(state)
        self._pages = PayPages(state)
        self._models = [entry.name for entry in own_models(state.settings)]

    async def create(self, request: Request) -> Response:
        """Answer POST /jobs with a new job, or the one of the Idempotency-Key."""
        key = idempotency_key(request)
        body = await read_json(request, schemas.NewJob, self._state.settings.body_limit_bytes, sized="request")
        await refuse_deposits(self._state, *self._models)
        client = self._clients.digest(request)
        job_id, of_previous_key = await self._ids.job(request, key)
        webhook = self._webhooks.ordered(body.webhook)
        refund_to = self._destinations.named(body.refund_to)
        command = CreateJob(request=body.request, client=client, webhook=webhook, refund_to=refund_to)

        async def opening() -> tuple[JobView, bool]:
            view = await self._state.router.call(job_id, command)
            return view, view.state is JobState.AWAITING_EVAL_PAYMENT

        payer = Payer(client, self._clients.wide_digest(request))
        text_bytes, expiry_s = len(body.request.encode()), self._state.settings.eval_expiry_s
        view = await self._invoice_limits.count(payer, job_id, opening, text_bytes, expiry_s)
        made = self._webhooks.made(job_id, webhook, of_previous_key=of_previous_key)
        created = views.job_created(view, self._pages, made, of_previous_key=of_previous_key)
        return json.json_response(created, 201, {"Location": f"/jobs/{job_id}"})

    async def show(self, request: Request) -> Response:
        """Answer GET /jobs/{jobId} with the job as it is now."""
        view = await self._state.router.call(_job_id(request), GetJob())
        return json.json_response(self._status(view))

    async def events(self, request: Request) -> Response:
        """Answer GET /jobs/{jobId}/events with the job now and after each change."""
        job_id = _job_id(request)
        if request.method == "HEAD":
            await self._state.router.call(job_id, GetJob())
            return json.head_only(sse.MEDIA_TYPE)
        watch(request.scope)
        changes = self._state.router.stream(job_id, WatchJob())
        # The first reply is awaited here, so that a job that doesn't exist is a 404 and not a stream.
        first = await anext(changes)
        if first.state in FINAL_STATES and request.headers.get("last-event-id") == _event_id(first):
            # A browser's EventSource connects again after every end; only this status makes it stop.
            await changes.aclose()
            return Response(status_code=204)
        events = self._events(first, changes, facts_of(request.scope))
        return sse.EventStream(events, changes, self._state.settings.ping_s, ending=self._state.ending)

    async def refund(self, request: Request) -> Response:
        """Answer POST /jobs/{jobId}/refund, and pay the job's debt to the client's invoice or destination."""
        job_id = _job_id(request)
        note_money(request.scope)
        key = idempotency_key(request)
        body = await read_json(request, RefundOrder, self._state.settings.body_limit_bytes)
        once = operation_key_of(request, key, body)
        order = PayoutOrder(body.payment_request, body.amount_sats)

        def pay(target: PayoutTarget | None) -> RefundJob:
            assert target is not None  # A job that owes nothing refuses to plan.
            return RefundJob(target, once)

        view = await self._payouts.pay(job_id, order, lambda amount_msat: PlanJobPayout(amount_msat, once), pay)
        return json.json_response(self._status(view))

    async def _events(
        self, first: JobView, changes: AsyncGenerator[JobView, None], facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(changes):
            last = self._event(first)
            yield last
            try:
                async for reply in changes:
                    following = self._event(reply)
                    # After a change of the actor's host, its successor repeats the present state.
                    if following != last:
                        last = following
                        yield following
            except RefusedError as error:
                yield sse.event("error", msgspec.json.encode(errors.body_of(error.refusal, facts)))

    def _event(self, view: JobView) -> bytes:
        return sse.event("state", json.encode(self._status(view)), _event_id(view))

    def _status(self, view: JobView) -> schemas.JobStatus:
        return views.job_status(view, self._pages, self._withdrawals.of_job(view))


def _event_id(view: JobView) -> str:
    return f"{view.state.value}.{view.updated_at_ms}"


def _job_id(request: Request) -> str:
    job_id: str = request.path_params["jobId"]
    if not ids.is_job_id(job_id):
        raise RefusedError(not_found("job"))
    return job_id
