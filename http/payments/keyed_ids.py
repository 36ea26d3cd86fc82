"""Ids of jobs and sessions by the Idempotency-Keys of their clients, also while the root key is changed."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.requests import Request

from ...actors.domain.behaviour import Command
from ...actors.domain.credentials.caveats import Grant
from ...actors.domain.errors import Code, RefusedError
from ...actors.domain.job.state import GetJob
from ...actors.domain.session.messages import GetSession
from ..request import ids
from ..request.client_address import ClientAddresses
from ..state import AppState

# No session has this generation, so that an existing one refuses the question for another reason than a missing one.
_NO_GRANT = Grant(generation=-1)


class FoundId(NamedTuple):
    """An id, and whether it derives from the previous root key, as then all does that its client was given."""

    actor_id: str
    of_previous_key: bool = False


class KeyedIds:
    """Finder of ids. What a client began before the root key was changed, it finds again under the same key."""

    def __init__(self, state: AppState, clients: ClientAddresses) -> None:
        self._state = state
        self._clients = clients
        previous = state.previous_keys
        self._previous = None if previous is None else previous.ids
        self._previous_clients = (
            None if previous is None else ClientAddresses(state.settings.trusted_proxies, previous.ids)
        )

    async def job(self, request: Request, key: str | None) -> FoundId:
        """Return the id of the job for this key, a new one without a key. Raises `RefusedError`."""
        if key is None:
            return FoundId(ids.new_job_id())
        if self._previous is not None and self._previous_clients is not None:
            former = ids.job_id_of(self._previous, self._previous_clients.digest(request), key)
            if await self._exists(former, GetJob()):
                return FoundId(former, of_previous_key=True)
        return FoundId(ids.job_id_of(self._state.id_key, self._clients.digest(request), key))

    async def session(self, request: Request, key: str | None, path: str) -> FoundId:
        """Return the id of the session for this key on a path (see `job`). Raises `RefusedError`."""
        if key is None:
            return FoundId(ids.new_session_id())
        if self._previous is not None and self._previous_clients is not None:
            former = ids.session_id_of(self._previous, self._previous_clients.digest(request), key, path)
            if await self._exists(former, GetSession(_NO_GRANT)):
                return FoundId(former, of_previous_key=True)
        return FoundId(ids.session_id_of(self._state.id_key, self._clients.digest(request), key, path))

    async def _exists(self, actor_id: str, question: Command[Any]) -> bool:
        try:
            await self._state.router.call(actor_id, question)
        except RefusedError as error:
            if error.refusal.code in (Code.UNAVAILABLE, Code.OVERLOADED):
                # A second job or session would be made, and paid for, beside the one that can't be seen just now.
                raise
            return error.refusal.code is not Code.NOT_FOUND
        return True
