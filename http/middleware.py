"""Middleware of every request: its id, log line, metrics, and the answer to any exception."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..actors.domain.errors import RefusedError, cut_off
from ..actors.metrics.tracing import begin_request, end_span, is_tracing, traceparent_of
from ..actors.ports import TransientError
from ..config.log_context import log_as
from .edge.gate import Gate, Visit
from .edge.sampling import Sample
from .metrics import Metrics
from .operator.answers import counted_as
from .pages.error_page import error_page, is_for_a_person
from .request.body_room import BodyRoom
from .request_facts import facts_of, relies_on_money
from .request_id import give_request_id, request_id_of
from .response import errors
from .response.advice import INTERNAL_ERROR
from .response.error_formats import shape_of
from .response.logged import reason_of
from .state import AnswersCounted, NoAnswersCounted

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_NO_ROUTE: Final = "none"
_REQUEST: Final = "request"
# W3C Trace Context, version 0.
_TRACEPARENT: Final = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PROBES: Final = frozenset({"/readyz", "/healthz"})
# The client went away before there was an answer; nginx writes this status then.
_CLIENT_GONE: Final = 499

_log = structlog.get_logger(__name__)
_level = logging.getLogger(__name__)


class RequestMiddleware:
    """The outermost ASGI application. A single wrapper does everything, since it runs for every request.

    logs_all: log requests that went well, too.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        room: BodyRoom,
        gate: Gate,
        answers: AnswersCounted | None = None,
        *,
        logs_all: bool = False,
    ) -> None:
        self._app = app
        self._answers = answers or NoAnswersCounted()
        self._metrics = metrics
        self._room = room
        self._gate = gate
        self._sample = Sample()
        self._level_of_success = logging.INFO if logs_all else logging.DEBUG

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, also when the application raises."""
        # Starlette's router raises a 404 or 405 only if the scope has an application.
        scope["app"] = self
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = give_request_id(scope)
        context, span = log_as(request_id), None
        if is_tracing():
            span = begin_request(_REQUEST, client_span(scope))
            context.traceparent = traceparent_of(span)
        self._room.enter(scope)
        status, began_s, answered_s, sent_bytes = 0, time.perf_counter(), 0.0, 0
        visit: Visit | None = None
        reason: dict[str, Any] = {}

        async def reply(message: Message) -> None:
            nonlocal status, answered_s, sent_bytes
            if message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            elif message["type"] == "http.response.start":
                status, answered_s = message["status"], time.perf_counter()
                # The path may have been an alias when the request came.
                id_headers = [(name, request_id.encode()) for name in id_names(scope["path"])]
                message["headers"] = [*message["headers"], *id_headers, _NO_SNIFFING]
            await send(message)

        with self._metrics.in_progress.track_inprogress():
            try:
                visit = self._gate.enter(scope)
                await self._app(scope, receive, reply)
            except ClientDisconnect:
                pass
            except asyncio.CancelledError:
                # The server ends without an answer. Uvicorn would send a 500 without the error body of the contract.
                if status:
                    raise
                await _answer(RefusedError(cut_off()), scope)(scope, receive, reply)
            except Exception as error:
                self._note(error, scope)
                reason = reason_of(error)
                # An answer that has begun can't be replaced. The server then cuts the connection, which clients notice.
                if status:
                    _note_cut(error, scope)
                else:
                    await _answer(error, scope)(scope, receive, reply)
            finally:
                self._room.leave(scope)
                if visit is not None:
                    self._gate.leave(scope, visit, status, sent_bytes)
                route = getattr(scope.get("route"), "path", _NO_ROUTE)
                seconds = (answered_s or time.perf_counter()) - began_s
                self._finish(scope, route, status or _CLIENT_GONE, seconds, reason)
                if span is not None:
                    _end(span, scope, route, status or _CLIENT_GONE)

    def _note(self, error: Exception, scope: Scope) -> None:
        """Log an unforeseen error by type and place only: its text may hold a prompt or a credential."""
        request_id = request_id_of(scope)
        if isinstance(error, TransientError):
            # Its text is the port's own, and says all that the place would.
            _log.warning("store_silent", request_id=request_id, error=str(error))
        elif not isinstance(error, HTTPException | RefusedError):
            frames = traceback.extract_tb(error.__traceback__)
            _log.error(
                "unforeseen_error",
                request_id=request_id,
                error_type=type(error).__qualname__,
                places=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
            )

    def _finish(self, scope: Scope, route: str, status: int, seconds: float, reason: dict[str, Any]) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.answered(method, route, status, seconds)
        self._answers.add(*counted_as(route, status, seconds))
        # A probe that fails is told when it begins to, by what is not ready, and not at each time.
        quiet = status < 300 or route in _PROBES
        level = self._level_of_success if quiet else logging.INFO if status < 500 else logging.WARNING
        # The level is checked first: on the hot path, building an unread entry would cost more than all else here.
        if _level.isEnabledFor(level) and (more := self._more(scope, status)) is not None:
            # The path is left out, as a job's id in a log would give any reader access to the job.
            _log.log(
                level,
                "request_answered",
                method=method,
                route=route,
                status=status,
                ms=round(seconds * 1_000, 1),
                request_id=request_id_of(scope),
                **reason,
                **more,
            )

    def _more(self, scope: Scope, status: int) -> dict[str, int] | None:
        """Return further fields of a request's line; None to leave it out. Strangers must not fill the disk."""
        refused_stranger = status >= 400 and not relies_on_money(scope)
        return self._sample.fields(time.monotonic()) if refused_stranger else {}


def client_span(scope: Scope) -> str:
    """Return the client's own span, if it has sent one of the right form."""
    found = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    return found.decode("latin-1") if _TRACEPARENT.fullmatch(found) else ""


def _end(span: Any, scope: Scope, route: str, status: int) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    facts = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    end_span(span, failed=status >= 500, name=f"{method} {route}", facts=facts)


def _note_cut(error: Exception, scope: Scope) -> None:
    _log.info("answer_cut_short", request_id=request_id_of(scope), **{"code": INTERNAL_ERROR, **reason_of(error)})


_NO_SNIFFING: Final[tuple[bytes, bytes]] = (b"x-content-type-options", b"nosniff")


def id_names(path: str) -> Sequence[bytes]:
    """Return the headers that carry a request's id. The providers' SDKs look for it under `Request-Id`."""
    return (b"x-request-id", b"request-id") if f"{path}/".startswith("/v1/") else (b"x-request-id",)


def _answer(error: Exception, scope: Scope) -> Any:
    if scope["method"] == "OPTIONS" and isinstance(error, HTTPException) and error.status_code == 405:
        return Response(status_code=204, headers={"Allow": errors.allowed(error)})
    if is_for_a_person(scope):
        return error_page(scope["path"], *errors.told(error, facts_of(scope)))
    return errors.answer(error, facts_of(scope), shape_of(scope["path"]))
