"""Route of OpenAI's chat completions, paid for from a session, and translated to calls of the Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.answers import Ending
from ...actors.domain.llm.relays import RelayBytes
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
    cost_comment,
    cost_fields,
    cost_headers,
    refused_late,
    whole_answer,
)
from ..middleware import request_id_of
from ..request.auth import Credentials
from ..request.body import read_bytes
from ..request.idempotency import idempotency_key
from ..response import errors, sse
from ..response.error_formats import openai
from ..response.slow_json import CutShortError, SlowAnswer
from ..state import Front
from ..translation.message import UnreadableAnswerError
from ..translation.provider_errors import of_provider
from ..translation.request import user_key
from .answer import completion
from .request import Asked, asked_of
from .stream import DONE, ChatStream, data

IGNORED = "Satmeter-Ignored"


class Chat:
    """POST /v1/chat/completions."""

    def __init__(self, front: Front, credentials: Credentials, relays: Relays) -> None:
        self._front = front
        self._credentials = credentials
        self._relays = relays
        self._models = model_prices(front.settings)

    async def complete(self, request: Request) -> Response:
        """Answer POST /v1/chat/completions, whole or in chunks."""
        holder = self._credentials.holder(request)
        key = idempotency_key(request)
        settings = self._front.settings
        body = await read_bytes(request, settings.body_limit_bytes)
        asked = asked_of(body, self._models, user_key(self._front.id_key, holder.session_id if holder else None))
        # Thinking may be long, and must leave room for the answer after it.
        default_tokens = settings.session_tokens_max if asked.thinks else settings.session_tokens
        call = read_call(asked.encoded(default_tokens), self._models)
        answer = await self._relays.carry_out(request, holder, call, key, body)
        request_id = request_id_of(request.scope)
        if isinstance(answer, RelayStream):
            headers = {MAX_TOKENS: str(answer.head.max_tokens), **_ignored(asked)}
            # A stream holds money until its end. When the server stops, it may go on for as long as other requests.
            chunks = _chunks(answer, call.model, asked, request_id)
            return sse.EventStream(chunks, answer.source, settings.ping_s, headers=headers)
        if isinstance(answer, RelaySlow):
            headers = {MAX_TOKENS: str(answer.held.max_tokens), **_ignored(asked)}
            return SlowAnswer(answer.replies, partial(_slow, request_id), settings.ping_s, headers)
        headers = {**cost_headers(answer), **_ignored(asked), "Cache-Control": "no-store"}
        return Response(_whole(answer, request_id), answer.status, headers, "application/json")


def _whole(answer: Relayed, request_id: str) -> bytes:
    if answer.status >= 400:
        return msgspec.json.encode(of_provider(answer.status, answer.body, request_id))
    try:
        return completion(answer.body, answer.at_ms // 1_000, cost_fields(answer))
    except UnreadableAnswerError:
        raise broken_refusal(answer) from None


def _slow(request_id: str, reply: Answer) -> bytes:
    answer = whole_answer(reply)
    body = _whole(answer, request_id)
    if answer.status >= 400:
        raise CutShortError(refused_late(answer), body)
    return body


async def _chunks(stream: RelayStream, model: str, asked: Asked, request_id: str) -> AsyncGenerator[bytes, None]:
    """Yield the chunks, then the cost, then OpenAI's end mark. SDKs read nothing after the mark."""
    chat = ChatStream(model, stream.head.at_ms // 1_000, include_usage=asked.include_usage)
    try:
        async for part in stream.parts:
            if isinstance(part, RelayBytes):
                if chunks := chat.read(part.data):
                    yield chunks
                continue
            if part.status >= 400:
                yield cost_comment(part) + data(of_provider(part.status, part.body, request_id))
                return
            if part.ending is Ending.BROKEN:
                yield cost_comment(part) + _error(broken_refusal(part), request_id)
                return
            yield chat.end(cost_fields(part)) + cost_comment(part) + DONE
    except RefusedError as error:
        yield _error(error, request_id)
    finally:
        await stream.parts.aclose()


def _error(error: RefusedError, request_id: str) -> bytes:
    body = errors.body_of(error.refusal, request_id)
    return data(openai(errors.STATUS[error.refusal.code], body))


def _ignored(asked: Asked) -> dict[str, str]:
    return {IGNORED: ", ".join(asked.ignored)} if asked.ignored else {}
