"""Health and readiness of the server: the process answers, and all parts that it needs can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import Code, Refusal, RefusedError
from ...actors.domain.provider_faults import ModelFault
from ...actors.model_health.outage import MODEL
from ...actors.ports import Findings, Refusals
from ..request.unknown_proxies import WARNING as UNKNOWN_PROXY
from ..response import json
from ..response.errors import invalid
from ..state import AppState
from . import schemas as around
from .findings import node_trouble, payouts_of, store_trouble, warnings_of

_CHECK_S: Final = 3.0
# Readiness asks the node, and any client may request it. So simultaneous requests share an answer for a moment.
_HOLDS_S: Final = 1.0
_RETRY_AFTER_S: Final = 5
_LIGHTNING: Final = "lightning"
_NAMES: Final = {"store": "the store", "actors": "the actors", "lightning": "the Lightning node", "model": "the model"}
MODEL_TROUBLES: Final[Mapping[ModelFault | None, str]] = {
    None: "it has not been asked yet",
    ModelFault.UNAVAILABLE: "its provider says so",
    ModelFault.OVERLOADED: "its provider is overloaded",
    ModelFault.FAILING: "its provider fails at every call",
    ModelFault.REFUSED: "its provider does not accept this server's key, or its account there lacks credit or rights, "
    "which only the operator can mend",
}
_log = structlog.get_logger(__name__)


class Health:
    """GET /healthz and GET /readyz."""

    def __init__(self, state: AppState, check_s: float = _CHECK_S) -> None:
        self._state = state
        self._checks = state.checks
        self._check_s = check_s
        self._asking: asyncio.Task[list[str]] | None = None
        self._asked_s = 0.0
        self._lost: set[str] = set()

    async def alive(self, request: Request) -> Response:
        """Answer that the process runs, without asking any part."""
        return json.json_response(around.Health(status="ok"))

    async def ready(self, request: Request) -> Response:
        """Answer 200 if all parts but those excluded by the client can be reached; a 503 names the parts that can't."""
        parts, excluded = [*self._checks, MODEL], set(request.query_params.getlist("exclude"))
        if not excluded <= set(parts):
            raise invalid("exclude", f"Must be one of {', '.join(parts)}")
        unreachable = [name for name in await self._unreachable() if name not in excluded]
        if unreachable:
            message = await self.told(unreachable)
            details = {"unreachable": unreachable, **await self._found()}
            raise RefusedError(Refusal(Code.UNAVAILABLE, message, details, retry_after_s=_RETRY_AFTER_S))
        findings = await self._state.findings.current()
        ready = around.Ready(
            status="ready",
            checks={part: "ok" for part in parts if part not in excluded},
            payouts=payouts_of(*findings, self._state.wallet),
            warnings=self._warnings(*findings),
        )
        return json.json_response(ready)

    async def unreachable(self) -> list[str]:
        """Return the parts that can't be reached just now."""
        return await self._unreachable()

    async def told(self, unreachable: Sequence[str]) -> str:
        """Return the sentence about these parts that can't be reached, with the causes that are known."""
        names = " and ".join(_NAMES.get(name, name) for name in unreachable)
        troubles = [trouble for name in unreachable if (trouble := await self._trouble(name))]
        reason = f": {'; '.join(troubles)}" if troubles else ""
        return f"{names[0].upper()}{names[1:]} can't be reached just now{reason}."

    async def _found(self) -> dict[str, Any]:
        """Return the treasury's findings for a 503: lost payouts must be reported also while a part is unreachable."""
        findings = await self._state.findings.current()
        payouts, warnings = payouts_of(*findings, self._state.wallet), self._warnings(*findings)
        found = None if payouts is None else payouts.model_dump(by_alias=True, exclude_none=True, mode="json")
        return {name: told for name, told in (("payouts", found), ("warnings", warnings)) if told}

    def _warnings(self, findings: Findings | None, refusals: Refusals) -> list[str] | None:
        proxy = [UNKNOWN_PROXY] if self._state.unknown_proxies.seen else []
        return [*(warnings_of(findings, refusals, self._state.wallet) or ()), *proxy] or None

    async def _trouble(self, name: str) -> str | None:
        """Return the cause of a part's trouble, if it is known."""
        if name == "store":
            return self._state.store_trouble() or await self._store_loss()
        if name == _LIGHTNING:
            return await self._node_trouble()
        outage = (await self._state.model.current()).outage_at(self._state.now_ms())
        return MODEL_TROUBLES.get(outage.fault) if name == MODEL and outage is not None else None

    async def _unreachable(self) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now_s - self._asked_s > _HOLDS_S):
            self._asked_s = now_s
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> list[str]:
        answers = await asyncio.gather(*(self._reaches(name) for name in self._checks))
        unreachable = [name for name, reached in zip(self._checks, answers, strict=True) if not reached]
        if "store" in self._checks and "store" not in unreachable and await self._store_loss() is not None:
            unreachable.append("store")
        if _LIGHTNING in self._checks and _LIGHTNING not in unreachable and await self._node_trouble() is not None:
            unreachable.append(_LIGHTNING)
        # Outages of the model are known from memory, and logged elsewhere.
        word = await self._state.model.current()
        return unreachable if word.closed(self._state.now_ms()) is None else [*unreachable, MODEL]

    async def _store_loss(self) -> str | None:
        """Return the reason to refuse the store, if it became less durable since production checked it at the start."""
        findings, _ = await self._state.findings.current()
        if not self._state.settings.production or findings is None or not findings.store_losses:
            return None
        return store_trouble(findings)

    async def _node_trouble(self) -> str | None:
        findings, _ = await self._state.findings.current()
        return None if findings is None else node_trouble(findings, self._state.wallet)

    async def _reaches(self, name: str) -> bool:
        try:
            async with asyncio.timeout(self._check_s):
                await self._checks[name]()
        except Exception as error:
            if name not in self._lost:
                _log.warning("part_not_ready", part=name, error_type=type(error).__name__)
            self._lost.add(name)
            return False
        if name in self._lost:
            _log.info("part_back", part=name)
        self._lost.discard(name)
        return True
