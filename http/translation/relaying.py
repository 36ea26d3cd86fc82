"""Relay of calls whose dialect is translated to the Messages API, paid for from a session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError
from ...actors.domain.session.messages import Relayed
from ...actors.operator_terms import model_prices
from ..anthropic.body import read_call
from ..anthropic.relay import (
    MAX_TOKENS,
    Answer,
    Relays,
    RelaySlow,
    RelayStream,
    broken_refusal,
    cost_fields,
    cost_headers,
    refused_late,
    whole_answer,
)
from ..request.auth import Credentials, Holder
from ..request.idempotency import idempotency_key
from ..request_facts import RequestFacts, facts_of
from ..request_id import request_id_of
from ..response import errors, sse
from ..response.error_formats import CONTEXT_LENGTH, openai
from ..response.late_head import in_time
from ..response.slow_json import CutShortError, SlowAnswer
from ..state import AppState
from ..upstreams.provider_call import ProviderCall, UnreadableAnswerError
from .provider_errors import of_provider
from .request import user_key

IGNORED = "Satmeter-Ignored"


class Translated(Protocol):
    """A translated request."""

    @property
    def thinks(self) -> bool:
        """True if the model may think before it answers."""
        ...

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the fields that have no effect."""
        ...

    def encoded(self, default_tokens: int) -> bytes:
        """Return the body for the Messages API."""
        ...


AskedT = TypeVar("AskedT", bound=Translated)


class Dialect(ABC, Generic[AskedT]):
    """A dialect that is translated to the Messages API, and back.

    `tells_length_in_stream`: a stream's prompt that is too long is refused by an event, and not by a status.
    """

    tells_length_in_stream = False

    @abstractmethod
    def asked(self, body: bytes, models: Mapping[str, Any], user_key: bytes) -> AskedT:
        """Translate a request. Raises `RefusedError` (400)."""

    @abstractmethod
    def whole(self, asked: AskedT, body: bytes, created_s: int, cost: Mapping[str, int | str]) -> bytes:
        """Translate a whole answer. Raises `UnreadableAnswerError`."""

    @abstractmethod
    def events(
        self, asked: AskedT, stream: RelayStream, model: str, facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        """Translate a streamed answer, with its cost, and with the error if it fails."""

    @abstractmethod
    def refused(self, asked: AskedT, told: Mapping[str, Any], model: str, at_s: int, request_id: str) -> bytes:
        """Return the events of a stream that was refused after its head, from the body of the error."""


class TranslatedCalls(Generic[AskedT]):
    """The calls of one dialect."""

    def __init__(self, state: AppState, credentials: Credentials, relays: Relays, dialect: Dialect[AskedT]) -> None:
        self._state = state
        self._credentials = credentials
        self._relays = relays
        self._dialect = dialect
        self._models = model_prices(state.settings)

    async def answer(self, request: Request) -> Response:
        """Answer a request, whole or streamed."""
        holder = self._credentials.holder(request)
        key = idempotency_key(request)
        settings = self._state.settings
        body, asked = await self.read(request, holder)
        # Thinking may be long, and must leave room for the answer after it.
        default_tokens = settings.session_tokens_max if asked.thinks else settings.session_tokens
        call = read_call(asked.encoded(default_tokens), self._models)
        making = self._carry_out(request, holder, call, asked, key, body)
        if holder is None:
            return await making  # A challenge has its status, however long it takes.

        def refused(told: Mapping[str, Any]) -> bytes:
            at_s = self._state.now_ms() // 1_000
            return self._dialect.refused(asked, told, call.model, at_s, request_id_of(request.scope))

        try:
            response = await in_time(request, making, settings.ping_s, stream=call.stream, refused=refused)
        except RefusedError as error:
            response = errors.answer(error, facts_of(request.scope), openai)
            if not self._told_in_stream(call, response):
                raise
        if self._told_in_stream(call, response):
            told = msgspec.json.decode(bytes(response.body))
            return Response(refused(told), 200, {"Cache-Control": "no-store"}, sse.MEDIA_TYPE)
        return response

    def _told_in_stream(self, call: ProviderCall, response: Response) -> bool:
        if not call.stream or not self._dialect.tells_length_in_stream or response.status_code != 400:
            return False
        return bool(msgspec.json.decode(bytes(response.body))["error"]["code"] == CONTEXT_LENGTH)

    async def _carry_out(
        self, request: Request, holder: Holder | None, call: ProviderCall, asked: AskedT, key: str | None, body: bytes
    ) -> Response:
        settings = self._state.settings
        answer = await self._relays.carry_out(request, holder, call, key, body)
        request_id = request_id_of(request.scope)
        if isinstance(answer, RelayStream):
            headers = {MAX_TOKENS: str(answer.head.max_tokens), **_ignored(asked)}
            # A stream holds money until its end. When the server stops, it may go on for as long as other requests.
            events = self._dialect.events(asked, answer, call.model, facts_of(request.scope))
            return sse.EventStream(events, answer.source, settings.ping_s, headers=headers)
        if isinstance(answer, RelaySlow):
            headers = {MAX_TOKENS: str(answer.held.max_tokens), **_ignored(asked)}
            return SlowAnswer(answer.replies, partial(self._slow, asked, request_id), settings.ping_s, headers)
        headers = {**cost_headers(answer), **_ignored(asked), "Cache-Control": "no-store"}
        return Response(self._whole(asked, request_id, answer), answer.status, headers, "application/json")

    async def read(self, request: Request, holder: Holder | None) -> tuple[bytes, AskedT]:
        """Return the client's own body, and its translation. Raises `RefusedError`."""
        body = await self._relays.read(request, holder)
        secret = user_key(self._state.id_key, None if holder is None else holder.session_id)
        return body, self._dialect.asked(body, self._models, secret)

    def _whole(self, asked: AskedT, request_id: str, answer: Relayed) -> bytes:
        if answer.status >= 400:
            return msgspec.json.encode(of_provider(answer.status, answer.body, request_id))
        try:
            return self._dialect.whole(asked, answer.body, answer.at_ms // 1_000, cost_fields(answer))
        except UnreadableAnswerError:
            raise broken_refusal(answer) from None

    def _slow(self, asked: AskedT, request_id: str, reply: Answer) -> bytes:
        answer = whole_answer(reply)
        body = self._whole(asked, request_id, answer)
        if answer.status >= 400:
            raise CutShortError(refused_late(answer), body)
        return body


def _ignored(asked: Translated) -> dict[str, str]:
    return {IGNORED: ", ".join(asked.ignored)} if asked.ignored else {}
