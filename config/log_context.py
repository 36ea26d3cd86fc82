"""Context of log entries: the request, and the session or job, that the present work is for.

Each entry of a task has both as fields, those of libraries included. Work that many requests share begins without any:
it would keep the ids of the request that happened to start it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from typing import Any, Final, TypeVar

import structlog
from structlog.typing import EventDict, WrappedLogger

T = TypeVar("T")
STEPS: Final = "satmeter.steps"
"""The logger of steps that went well, which are told only where the operator asks for them."""
_steps = structlog.get_logger(STEPS)
_steps_level: Final = logging.getLogger(STEPS)


class LogContext:
    """The ids of the present work, "" for those that it has not. A front learns the actor's only on the way.

    traceparent: the span that the work belongs to, where it is traced. It is in no entry.
    """

    __slots__ = ("actor_id", "request_id", "traceparent")

    def __init__(self, request_id: str = "", actor_id: str = "", traceparent: str = "") -> None:
        self.request_id = request_id
        self.actor_id = actor_id
        self.traceparent = traceparent


_context: ContextVar[LogContext | None] = ContextVar("satmeter_log_context", default=None)


def log_as(request_id: str = "", actor_id: str = "", traceparent: str = "") -> LogContext:
    """Give the entries of this task, and of those that it starts, these ids. Return the context."""
    context = LogContext(request_id, actor_id, traceparent)
    _context.set(context)
    return context


def note_actor(actor_id: str) -> None:
    """Add the id of the request's session or job, for all tasks of the request."""
    if (context := _context.get()) is not None:
        context.actor_id = actor_id


def present_request_id() -> str:
    """Return the id of the request for which the present work is done, or ""."""
    context = _context.get()
    return "" if context is None else context.request_id


def present_traceparent() -> str:
    """Return the span that the present work belongs to, or ""."""
    context = _context.get()
    return "" if context is None else context.traceparent


def in_background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work for many requests, without the ids of the one that starts it."""
    return asyncio.get_running_loop().create_task(work, context=Context())


def tells_steps() -> bool:
    """Return whether steps that went well are logged: to gather an entry's fields costs more than to ask."""
    return _steps_level.isEnabledFor(logging.INFO)


def tell_step(event: str, **fields: Any) -> None:
    """Log a step of a request, session or job that went well."""
    _steps.info(event, **fields)


def add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the present work that the entry has not itself."""
    context = _context.get()
    if context is not None:
        if context.request_id:
            event.setdefault("request_id", context.request_id)
        if context.actor_id:
            event.setdefault("actor_id", context.actor_id)
    return event


def name_actor(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name a session's or a job's id as people do."""
    actor_id = event.get("actor_id")
    if isinstance(actor_id, str):
        name = _NAMES.get(actor_id.partition("_")[0])
        if name is not None:
            event.setdefault(name, event.pop("actor_id"))
    return event


_NAMES: Final = {"ses": "session_id", "job": "job_id"}
