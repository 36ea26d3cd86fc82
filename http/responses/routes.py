"""Routes of OpenAI's Responses API, paid for from a session, and translated to calls in the API of an upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import Code, RefusedError
from ...actors.domain.llm.catalogue import Api
from ...actors.domain.session.messages import Counted
from ..anthropic.relay import Relays
from ..anthropic.token_counts import tokens_in
from ..payments.solvency_gate import refuse_calls
from ..request.auth import MISSING, Credentials, Holder
from ..request_id import request_id_of
from ..state import AppState
from ..translation.relaying import TranslatedCalls
from .dialects import Responding, ResponsesOverChat, ResponsesOverMessages


class Responses:
    """The routes under /v1/responses."""

    def __init__(self, state: AppState, credentials: Credentials, relays: Relays) -> None:
        self._state = state
        self._credentials = credentials
        self._counts = relays.counts
        self._relays = relays
        dialects: Mapping[Api, Responding[Any]] = {
            Api.ANTHROPIC: ResponsesOverMessages(),
            Api.OPENAI: ResponsesOverChat(),
        }
        self._calls = TranslatedCalls(state, credentials, relays, dialects)

    async def create(self, request: Request) -> Response:
        """Answer POST /v1/responses, whole or in events."""
        return await self._calls.answer(request)

    async def count_tokens(self, request: Request) -> Response:
        """Answer POST /v1/responses/input_tokens with the upstream's count, or with an estimate, free of charge."""
        holder = self._credentials.holder(request)
        if holder is None:
            raise RefusedError(MISSING)
        dialect, asked = self._calls.translated(holder, await self._relays.read(request, holder))
        assert isinstance(dialect, Responding)
        counted = await self._counted(request, holder, dialect, asked)
        if (tokens := tokens_in(counted)) is None:
            shown = dialect.error(counted.status, counted.body, request_id_of(request.scope))
        else:
            shown = {"object": "response.input_tokens", "input_tokens": tokens}
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(shown), counted.status, headers, "application/json")

    async def _counted(self, request: Request, holder: Holder, dialect: Responding[Any], asked: Any) -> Counted:
        model, body = dialect.counted(asked, self._relays.models)
        await refuse_calls(self._state, model, waits=False)
        try:
            return await self._counts.count(request, holder, model, body)
        except RefusedError as error:
            tokens = dialect.estimate(asked)
            if tokens is None or error.refusal.code is not Code.MODEL_FAILED:
                raise
            return Counted(200, {}, msgspec.json.encode({"input_tokens": tokens}))
