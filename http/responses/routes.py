"""Routes of OpenAI's Responses API, paid for from a session, and translated to calls of the Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import Code, RefusedError
from ...actors.domain.llm.answers import Ending
from ...actors.domain.llm.catalogue import Api
from ...actors.domain.llm.relays import RelayBytes, countable
from ...actors.domain.session.messages import Relayed
from ..anthropic.body import read_count
from ..anthropic.relay import Relays, RelayStream, broken_refusal, cost_comment, cost_fields
from ..anthropic.token_counts import Counts, tokens_in
from ..payments.solvency_gate import refuse_calls
from ..request.auth import MISSING, Credentials
from ..request_facts import RequestFacts
from ..request_id import request_id_of
from ..response import errors
from ..response.error_formats import CONTEXT_LENGTH, openai
from ..state import AppState
from ..translation.provider_errors import of_provider
from ..translation.relaying import OverMessages, TranslatedCalls
from ..upstreams.served_models import ServedModels
from .answer import response
from .request import Asked, asked_of
from .stream import ResponseStream

# Source: the codes of a failed response in OpenAI's own SDK.
_CODES: Final[Mapping[Code, str]] = {
    Code.RATE_LIMITED: "rate_limit_exceeded",
    Code.INVALID_REQUEST: "invalid_prompt",
    Code.BODY_TOO_LARGE: "invalid_prompt",
}


class ResponsesDialect(OverMessages[Asked]):
    """The dialect of POST /v1/responses, over the Messages API.

    Codex shortens its conversation only where a stream says that it is too long: it takes a 400 for a mistake.
    """

    tells_length_in_stream = True

    def asked(self, body: bytes, models: ServedModels, user_key: bytes) -> Asked:
        """Translate a request. Raises `RefusedError` (400)."""
        return asked_of(body, models, user_key)

    def whole(self, asked: Asked, answer: Relayed) -> bytes:
        """Translate a whole answer. Raises `UnreadableAnswerError`."""
        return response(answer.body, asked.wanted, answer.at_ms // 1_000, cost_fields(answer))

    async def events(
        self, asked: Asked, stream: RelayStream, model: str, facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events, with the cost before the last one: clients read nothing after that."""
        made = ResponseStream(asked.wanted, model, stream.head.at_ms // 1_000, facts.request_id)
        try:
            async for part in stream.parts:
                if isinstance(part, RelayBytes):
                    if events := made.read(part.data):
                        yield events
                    continue
                cost = cost_fields(part)
                if part.status >= 400:
                    told = of_provider(part.status, part.body, facts.request_id)
                elif part.ending is Ending.BROKEN:
                    told = _told(broken_refusal(part), facts)
                else:
                    yield cost_comment(part) + made.end(cost)
                    return
                yield cost_comment(part) + _failed(made, told, cost)
        except RefusedError as error:
            yield _failed(made, _told(error, facts), {})
        finally:
            await stream.parts.aclose()

    def refused(self, asked: Asked, told: Mapping[str, Any], model: str, at_s: int, request_id: str) -> bytes:
        """Return the events of a response that failed before it began."""
        return _failed(ResponseStream(asked.wanted, model, at_s, request_id), told, {})


class Responses:
    """The routes under /v1/responses."""

    def __init__(self, state: AppState, credentials: Credentials, relays: Relays) -> None:
        self._state = state
        self._credentials = credentials
        self._counts = Counts(state)
        self._relays = relays
        self._calls = TranslatedCalls(state, credentials, relays, {Api.ANTHROPIC: ResponsesDialect()})

    async def create(self, request: Request) -> Response:
        """Answer POST /v1/responses, whole or in events."""
        return await self._calls.answer(request)

    async def count_tokens(self, request: Request) -> Response:
        """Answer POST /v1/responses/input_tokens with the provider's count, free of charge."""
        holder = self._credentials.holder(request)
        if holder is None:
            raise RefusedError(MISSING)
        _, asked = self._calls.translated(holder, await self._relays.read(request, holder))
        model, body = read_count(countable(asked.encoded(1)), self._relays.models)
        await refuse_calls(self._state, model, waits=False)
        counted = await self._counts.count(request, holder, model, body)
        if (tokens := tokens_in(counted)) is None:
            shown = of_provider(counted.status, counted.body, request_id_of(request.scope))
        else:
            shown = {"object": "response.input_tokens", "input_tokens": tokens}
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(shown), counted.status, headers, "application/json")


def _told(error: RefusedError, facts: RequestFacts) -> dict[str, Any]:
    body = errors.body_of(error.refusal, facts)
    return openai(errors.STATUS[error.refusal.code], body)


def _failed(made: ResponseStream, told: Mapping[str, Any], cost: Mapping[str, int | str]) -> bytes:
    """Return the events of a failure, whose `error` has the fields of an error body, flat and as SDKs raise them."""
    code = Code(told["code"])
    event = {**told, "code": told["error"]["code"], "message": told["error"]["message"]}
    kind = CONTEXT_LENGTH if event["code"] == CONTEXT_LENGTH else _CODES.get(code, "server_error")
    return made.fail(event, kind, cost)
