"""Whether this process answers, and whether all that it needs can be reached."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from ..actors.domain.errors import Code, Refusal, RefusedError
from . import schemas, views
from .front import Front

_CHECK_S: Final = 3.0
# Anybody may ask, and each time asks the node: so those who ask at once share an answer, and it holds for a moment.
_HOLDS_S: Final = 1.0
_RETRY_AFTER_S: Final = 5
_NAMES: Final = {"store": "the store", "actors": "the actors", "lightning": "the Lightning node"}
_log = structlog.get_logger(__name__)


class Health:
    """GET /healthz and GET /readyz."""

    def __init__(self, front: Front, check_s: float = _CHECK_S) -> None:
        self._checks = front.checks
        self._store_trouble = front.store_trouble
        self._check_s = check_s
        self._asking: asyncio.Task[list[str]] | None = None
        self._asked_s = 0.0

    async def alive(self, request: Request) -> Response:
        """The process answers; nothing else is asked."""
        return views.json_response(schemas.Health(status="ok"))

    async def ready(self, request: Request) -> Response:
        """Whether all parts can be reached; a 503 names those that can't."""
        unreachable = await self._unreachable()
        if unreachable:
            names = " and ".join(_NAMES.get(name, name) for name in unreachable)
            trouble = self._store_trouble() if "store" in unreachable else None
            reason = f": {trouble}" if trouble else ""
            message = f"{names[0].upper()}{names[1:]} can't be reached just now{reason}."
            details = {"unreachable": unreachable}
            raise RefusedError(Refusal(Code.UNAVAILABLE, message, details, retry_after_s=_RETRY_AFTER_S))
        return views.json_response(schemas.Ready(status="ready", checks=dict.fromkeys(self._checks, "ok")))

    async def _unreachable(self) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now_s - self._asked_s > _HOLDS_S):
            self._asked_s = now_s
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> list[str]:
        answers = await asyncio.gather(*(self._reaches(name) for name in self._checks))
        return [name for name, reached in zip(self._checks, answers, strict=True) if not reached]

    async def _reaches(self, name: str) -> bool:
        try:
            async with asyncio.timeout(self._check_s):
                await self._checks[name]()
        except Exception as error:
            _log.warning("not ready", part=name, error=type(error).__name__)
            return False
        return True
