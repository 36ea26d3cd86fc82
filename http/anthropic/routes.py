"""Routes of Anthropic's Messages API, paid for from a session, for its SDK and programs built on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import Code, RefusedError
from ...actors.domain.llm.answers import Ending
from ...actors.domain.llm.catalogue import Api
from ...actors.domain.llm.chat_prompt import estimated_prompt
from ...actors.domain.llm.relays import RelayBytes
from ...actors.domain.session.messages import Counted, Relayed
from ..payments.solvency_gate import refuse_calls
from ..request.auth import MISSING, Credentials, Holder
from ..request.idempotency import idempotency_key
from ..request_facts import RequestFacts, facts_of
from ..request_id import request_id_of
from ..response import sse
from ..response.late_head import in_time
from ..response.slow_json import CutShortError, SlowAnswer
from ..state import AppState
from ..translation.relaying import TranslatedCalls
from ..upstreams.error_events import ErrorEvents
from ..upstreams.provider_call import ProviderCall
from .body import read_call, read_count
from .over_chat.dialect import MessagesOverChat
from .provider_refusals import refusal_body
from .relay import (
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
from .stream_events import PING, error_event
from .token_counts import tokens_in
from .usage import LastUsage, with_cost

_JSON: Final = {"content-type": "application/json"}
# An empty line ends an event, with any of the line breaks of server-sent events.
_BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class MessagesRoutes:
    """The routes under /v1/messages."""

    def __init__(self, state: AppState, credentials: Credentials, relays: Relays) -> None:
        self._state = state
        self._credentials = credentials
        self._relays = relays
        self._counts = relays.counts
        self._over_chat = TranslatedCalls(state, credentials, relays, {Api.OPENAI: MessagesOverChat()})

    async def messages(self, request: Request) -> Response:
        """Answer POST /v1/messages with the provider's answer, whole or streamed.

        An upstream of the same API answers byte by byte as it came; the answer of another one is translated.
        """
        holder = self._credentials.holder(request)
        key = idempotency_key(request)
        body = await self._relays.read(request, holder)
        if self._relays.models.api_of(body) is Api.OPENAI:
            return await self._over_chat.answer_to(request, holder, key, body)
        call = read_call(body, self._relays.models)
        making = self._carry_out(request, holder, call, key, body)
        if holder is None:
            return await making  # A challenge has its status, however long it takes.
        return await in_time(request, making, self._state.settings.ping_s, stream=call.stream, ping=PING)

    async def _carry_out(
        self, request: Request, holder: Holder | None, call: ProviderCall, key: str | None, body: bytes
    ) -> Response:
        answer = await self._relays.carry_out(request, holder, call, key, body)
        if isinstance(answer, RelayStream):
            headers = {MAX_TOKENS: str(answer.head.max_tokens)}
            # A stream holds money until its end. When the server stops, it may go on for as long as other requests.
            events = _bytes(answer, facts_of(request.scope))
            return sse.EventStream(events, answer.source, self._state.settings.ping_s, ping=PING, headers=headers)
        if isinstance(answer, RelaySlow):
            headers = {MAX_TOKENS: str(answer.held.max_tokens)}
            slow = partial(_slow, request_id=request_id_of(request.scope))
            return SlowAnswer(answer.replies, slow, self._state.settings.ping_s, headers)
        headers = {**answer.headers, **cost_headers(answer), "Cache-Control": "no-store"}
        return Response(_whole(answer, request_id_of(request.scope)), answer.status, headers)

    async def count_tokens(self, request: Request) -> Response:
        """Answer POST /v1/messages/count_tokens with the provider's count, free of charge.

        Most upstreams of another API don't count: their prompts are estimated.
        """
        holder = self._credentials.holder(request)
        if holder is None:
            raise RefusedError(MISSING)
        body = await self._relays.read(request, holder)
        if self._relays.models.api_of(body) is Api.OPENAI:
            counted = await self._counted_over_chat(request, holder, body)
        else:
            model, body = read_count(body, self._relays.models)
            await refuse_calls(self._state, model, waits=False)
            counted = await self._counts.count(request, holder, model, body)
            if counted.status >= 400:
                told = refusal_body(counted.status, counted.body, request_id_of(request.scope))
                counted = Counted(counted.status, {**counted.headers, **_JSON}, told)
        return Response(counted.body, counted.status, {**counted.headers, "Cache-Control": "no-store"})

    async def _counted_over_chat(self, request: Request, holder: Holder, body: bytes) -> Counted:
        dialect, asked = self._over_chat.translated(holder, body)
        model = asked.entry.name
        await refuse_calls(self._state, model, waits=False)
        try:
            counted = await self._counts.count(request, holder, model, asked.encoded())
        except RefusedError as error:
            if error.refusal.code is not Code.MODEL_FAILED:
                raise
            tokens = estimated_prompt(asked.body, model).tokens
            return Counted(200, _JSON, msgspec.json.encode({"input_tokens": tokens}))
        if tokens_in(counted) is not None:
            return counted
        told = dialect.error(counted.status, counted.body, request_id_of(request.scope))
        return Counted(counted.status, _JSON, msgspec.json.encode(told))


async def _bytes(stream: RelayStream, facts: RequestFacts) -> AsyncGenerator[bytes, None]:
    """Yield the provider's bytes, event by event, and then their cost, which goes into the last usage, too.

    An incomplete event before an error is dropped: a client would fail to parse it, and never read the error.
    """
    begun = b""
    last, failing = LastUsage(), ErrorEvents(named=True)
    try:
        async for part in stream.parts:
            if isinstance(part, RelayBytes):
                begun += part.data
                if end := _whole_events(begun):
                    if ready := last.pass_on(failing.pass_on(begun[:end])):
                        yield ready
                    begun = begun[end:]
            elif part.status >= 400:
                # The head was sent before the provider refused the body.
                yield sse.event("error", refusal_body(part.status, part.body, facts.request_id)) + cost_comment(part)
            elif part.ending is Ending.BROKEN:
                told = failing.end(broken_refusal(part), facts, error_event, begun if part.told else b"")
                yield last.end(cost_fields(part)) + told + cost_comment(part)
            else:
                yield (
                    last.end(cost_fields(part))
                    + failing.release()
                    + (begun + b"\n\n" if begun else b"")
                    + cost_comment(part)
                )
    except RefusedError as error:
        yield last.end() + failing.end(error, facts, error_event)
    finally:
        await stream.parts.aclose()


def _whole_events(begun: bytes) -> int:
    """Return the length of the whole events in these bytes."""
    if begun.endswith(_BLANK_LINES):
        return len(begun)
    return max(begun.rfind(line) + len(line) if line in begun else 0 for line in _BLANK_LINES)


def _slow(reply: Answer, request_id: str) -> bytes:
    answer = whole_answer(reply)
    if answer.status >= 400:
        raise CutShortError(refused_late(answer), _whole(answer, request_id))
    return _whole(answer, request_id)


def _whole(answer: Relayed, request_id: str) -> bytes:
    if answer.status >= 400:
        return refusal_body(answer.status, answer.body, request_id)
    return with_cost(answer.body, cost_fields(answer))
