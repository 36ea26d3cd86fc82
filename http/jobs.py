"""Jobs: pay per piece of work."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from ..actors.domain.errors import Code, RefusedError, not_found
from ..actors.domain.job import FINAL_STATES, CreateJob, GetJob, JobState, JobView, WatchJob
from ..actors.messages import WireReply
from ..actors.ports import TransientError
from . import errors, ids, schemas, sse, views
from .body import read_json
from .client import Clients
from .edge import request_id_of
from .front import Front

_log = structlog.get_logger(__name__)


class Jobs:
    """The routes under /jobs."""

    def __init__(self, front: Front, clients: Clients) -> None:
        self._front = front
        self._clients = clients

    async def create(self, request: Request) -> Response:
        """POST /jobs: a new job, or the one that the Idempotency-Key already led to."""
        key = _idempotency_key(request)
        body = await read_json(request, schemas.NewJob, self._front.settings.body_limit_bytes)
        client = self._clients.digest(request)
        job_id = ids.job_id_of(self._front.id_key, client, key) if key is not None else ids.new_job_id()
        view = await self._open(job_id, CreateJob(request=body.request, client=client))
        return views.json_response(views.job_created(view), 201, {"Location": f"/jobs/{job_id}"})

    async def show(self, request: Request) -> Response:
        """GET /jobs/{jobId}: the job as it is now."""
        view = _view(await self._front.router.call(_job_id(request), GetJob()))
        return views.json_response(views.job_status(view))

    async def events(self, request: Request) -> Response:
        """GET /jobs/{jobId}/events: the job now and after each change."""
        job_id = _job_id(request)
        if request.method == "HEAD":
            await self._front.router.call(job_id, GetJob())
            return views.head_only(sse.MEDIA_TYPE)
        changes = self._front.router.stream(job_id, WatchJob())
        # Waited for here, so that a job that doesn't exist is a 404 and not a stream.
        first = _view(await anext(changes))
        if first.state in FINAL_STATES and request.headers.get("last-event-id") == _event_id(first):
            # A browser's EventSource connects again after every end; only this status makes it stop.
            await changes.aclose()
            return Response(status_code=204)
        return sse.EventStream(_events(first, changes, request_id_of(request.scope)), self._front.ending)

    # Limits on unpaid invoices

    async def _open(self, job_id: str, command: CreateJob) -> JobView:
        if not self._front.settings.rate_limits:
            return _view(await self._front.router.call(job_id, command))
        await self._reserve(job_id, command.client)
        try:
            view = _view(await self._front.router.call(job_id, command))
        except RefusedError as error:
            # After a conflict the reservation is that of the job under this key, whose invoice is still open: given
            # back here, it would let a client have any number of them.
            if error.refusal.code is not Code.IDEMPOTENCY_CONFLICT:
                await self._release(job_id, command.client)
            raise
        if view.state is not JobState.AWAITING_EVAL_PAYMENT:
            await self._release(job_id, command.client)
        return view

    async def _reserve(self, job_id: str, client: str) -> None:
        settings = self._front.settings
        until_ms = self._front.now_ms() + settings.invoice_expiry_s * 1_000
        wait_s = await self._front.limits.reserve(client, job_id, settings.unpaid_per_ip, until_ms)
        if wait_s is not None:
            raise errors.rate_limited(
                f"You have {settings.unpaid_per_ip} unpaid invoices: pay one, or try again in {wait_s} s.", wait_s
            )

    async def _release(self, job_id: str, client: str) -> None:
        try:
            await self._front.limits.release(client, job_id)
        except TransientError as error:
            # It lapses with the invoice; the client's answer is another one.
            _log.warning("an unpaid invoice stays counted", error=str(error))


async def _events(
    first: JobView, changes: AsyncGenerator[WireReply, None], request_id: str
) -> AsyncGenerator[bytes, None]:
    async with aclosing(changes):
        last = _event(first)
        yield last
        try:
            async for reply in changes:
                following = _event(_view(reply))
                # When the actor's host changed, its successor shows the present state once more.
                if following != last:
                    last = following
                    yield following
        except RefusedError as error:
            yield sse.event("error", msgspec.json.encode(errors.body_of(error.refusal, request_id)))


def _event(view: JobView) -> bytes:
    return sse.event("state", views.encode(views.job_status(view)), _event_id(view))


def _event_id(view: JobView) -> str:
    return f"{view.state.value}.{view.updated_at_ms}"


def _view(reply: WireReply) -> JobView:
    assert isinstance(reply, JobView)
    return reply


def _job_id(request: Request) -> str:
    job_id: str = request.path_params["jobId"]
    if not ids.is_job_id(job_id):
        raise RefusedError(not_found("job"))
    return job_id


def _idempotency_key(request: Request) -> str | None:
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not ids.is_idempotency_key(keys[0]):
        raise errors.invalid("Idempotency-Key", "Must be one key of 1 to 255 visible ASCII characters")
    return keys[0]
