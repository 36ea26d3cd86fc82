"""Relay of calls whose dialect is translated to the API of an upstream, paid for from a session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.catalogue import Api
from ...actors.domain.session.messages import Relayed
from ..anthropic.body import read_call
from ..anthropic.relay import (
    MAX_TOKENS,
    Answer,
    Relays,
    RelaySlow,
    RelayStream,
    broken_refusal,
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
from ..upstreams.served_models import ServedModels
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
    def ignored(self) -> Sequence[str]:
        """Names of the fields that have no effect."""
        ...


class Bodied(Translated, Protocol):
    """A translated request that is written once the limit of its answer is known."""

    def encoded(self, default_tokens: int) -> bytes:
        """Return the body in the upstream's API."""
        ...


AskedT = TypeVar("AskedT", bound=Translated)
BodiedT = TypeVar("BodiedT", bound=Bodied)


class Dialect(ABC, Generic[AskedT]):
    """A dialect that is translated to the API of an upstream, and back.

    `ping` is that of a silent stream. `tells_length_in_stream`: a stream's prompt that is too long is refused by an
    event, and not by a status.
    """

    ping: bytes = sse.COMMENT
    tells_length_in_stream = False

    @abstractmethod
    def asked(self, body: bytes, models: ServedModels, user_key: bytes) -> AskedT:
        """Translate a request. Raises `RefusedError` (400)."""

    @abstractmethod
    def call(self, asked: AskedT, default_tokens: int, models: ServedModels) -> ProviderCall:
        """Return the call. `default_tokens` is the limit if the client named none. Raises `RefusedError` (400)."""

    @abstractmethod
    def whole(self, asked: AskedT, answer: Relayed) -> bytes:
        """Translate a whole answer. Raises `UnreadableAnswerError`."""

    @abstractmethod
    def events(
        self, asked: AskedT, stream: RelayStream, model: str, facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        """Translate a streamed answer, with its cost, and with the error if it fails."""

    @abstractmethod
    def refused(self, asked: AskedT, told: Mapping[str, Any], model: str, at_s: int, request_id: str) -> bytes:
        """Return the events of a stream that was refused after its head, from the body of the error."""

    @abstractmethod
    def error(self, status: int, body: bytes, request_id: str) -> dict[str, Any]:
        """Return the body of an error from the upstream's refusal."""


class OverMessages(Dialect[BodiedT]):
    """A dialect of OpenAI's that is translated to the Messages API."""

    def call(self, asked: BodiedT, default_tokens: int, models: ServedModels) -> ProviderCall:
        """Return the call. Raises `RefusedError` (400)."""
        return read_call(asked.encoded(default_tokens), models)

    def error(self, status: int, body: bytes, request_id: str) -> dict[str, Any]:
        """Return the body of an error."""
        return of_provider(status, body, request_id)


class TranslatedCalls:
    """The calls of one dialect, which has a translation to each API that upstreams may speak."""

    def __init__(
        self, state: AppState, credentials: Credentials, relays: Relays, dialects: Mapping[Api, Dialect[Any]]
    ) -> None:
        self._state = state
        self._credentials = credentials
        self._relays = relays
        self._dialects = dialects

    async def answer(self, request: Request) -> Response:
        """Answer a request, whole or streamed."""
        holder = self._credentials.holder(request)
        key = idempotency_key(request)
        return await self.answer_to(request, holder, key, await self._relays.read(request, holder))

    async def answer_to(self, request: Request, holder: Holder | None, key: str | None, body: bytes) -> Response:
        """Answer a request whose body was read."""
        settings, models = self._state.settings, self._relays.models
        dialect, asked = self.translated(holder, body)
        # Thinking may be long, and must leave room for the answer after it.
        default_tokens = settings.session_tokens_max if asked.thinks else settings.session_tokens
        call = dialect.call(asked, default_tokens, models)
        making = _Answering(dialect, asked, self._relays, settings.ping_s).carry_out(request, holder, call, key, body)
        if holder is None:
            return await making  # A challenge has its status, however long it takes.

        def refused(told: Mapping[str, Any]) -> bytes:
            at_s = self._state.now_ms() // 1_000
            return dialect.refused(asked, told, call.model, at_s, request_id_of(request.scope))

        try:
            response = await in_time(
                request, making, settings.ping_s, stream=call.stream, ping=dialect.ping, refused=refused
            )
        except RefusedError as error:
            response = errors.answer(error, facts_of(request.scope), openai)
            if not _told_in_stream(dialect, call, response):
                raise
        if _told_in_stream(dialect, call, response):
            told = msgspec.json.decode(bytes(response.body))
            return Response(refused(told), 200, {"Cache-Control": "no-store"}, sse.MEDIA_TYPE)
        return response

    def translated(self, holder: Holder | None, body: bytes) -> tuple[Dialect[Any], Any]:
        """Return the dialect for the model that a body names, and the translated request. Raises `RefusedError`."""
        models = self._relays.models
        dialect = self._dialects.get(models.api_of(body))
        if dialect is None:
            raise errors.invalid("model", "This model is not offered through this path")
        previous = self._state.previous_keys
        of_previous = previous is not None and holder is not None and holder.of_previous_key
        id_key = previous.ids if previous is not None and of_previous else self._state.id_key
        secret = user_key(id_key, None if holder is None else holder.session_id)
        return dialect, dialect.asked(body, models, secret)


class _Answering(Generic[AskedT]):
    """One translated request, on its way to its answer."""

    def __init__(self, dialect: Dialect[AskedT], asked: AskedT, relays: Relays, ping_s: float) -> None:
        self._dialect = dialect
        self._asked = asked
        self._relays = relays
        self._ping_s = ping_s

    async def carry_out(
        self, request: Request, holder: Holder | None, call: ProviderCall, key: str | None, body: bytes
    ) -> Response:
        """Return the answer. Raises `RefusedError`."""
        answer = await self._relays.carry_out(request, holder, call, key, body)
        request_id, ignored = request_id_of(request.scope), _ignored(self._asked)
        if isinstance(answer, RelayStream):
            headers = {MAX_TOKENS: str(answer.head.max_tokens), **ignored}
            # A stream holds money until its end. When the server stops, it may go on for as long as other requests.
            events = self._dialect.events(self._asked, answer, call.model, facts_of(request.scope))
            return sse.EventStream(events, answer.source, self._ping_s, ping=self._dialect.ping, headers=headers)
        if isinstance(answer, RelaySlow):
            headers = {MAX_TOKENS: str(answer.held.max_tokens), **ignored}
            return SlowAnswer(answer.replies, partial(self._slow, request_id), self._ping_s, headers)
        headers = {**cost_headers(answer), **ignored, "Cache-Control": "no-store"}
        return Response(self._whole(request_id, answer), answer.status, headers, "application/json")

    def _whole(self, request_id: str, answer: Relayed) -> bytes:
        if answer.status >= 400:
            return msgspec.json.encode(self._dialect.error(answer.status, answer.body, request_id))
        try:
            return self._dialect.whole(self._asked, answer)
        except UnreadableAnswerError:
            raise broken_refusal(answer) from None

    def _slow(self, request_id: str, reply: Answer) -> bytes:
        answer = whole_answer(reply)
        body = self._whole(request_id, answer)
        if answer.status >= 400:
            raise CutShortError(refused_late(answer), body)
        return body


def _told_in_stream(dialect: Dialect[Any], call: ProviderCall, response: Response) -> bool:
    if not call.stream or not dialect.tells_length_in_stream or response.status_code != 400:
        return False
    return bool(msgspec.json.decode(bytes(response.body))["error"]["code"] == CONTEXT_LENGTH)


def _ignored(asked: Translated) -> dict[str, str]:
    return {IGNORED: ", ".join(asked.ignored)} if asked.ignored else {}
