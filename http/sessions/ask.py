"""A session's requests: the answer at once, or piece by piece while the model writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ...actors.catalogue.loading import model_catalogue
from ...actors.domain.errors import Code, RefusedError, model_not_found
from ...actors.domain.llm.answers import TextDelta
from ...actors.domain.llm.catalogue import ModelEntry
from ...actors.domain.session.messages import Ask, RequestAnswer
from ...actors.messages import WrongReplyError
from ...actors.operator_terms import own_models
from ..payments.solvency_gate import refusal_of_calls
from ..request.auth import Credentials, Holder
from ..request.body import read_json
from ..request.idempotency import attempt_of, idempotency_key, operation_key_of
from ..request.spender import spender_of
from ..request_facts import RequestFacts, facts_of
from ..request_id import request_id_of
from ..response import errors, sse
from ..response.late_head import in_time
from ..response.replies import Replies, head_after_s
from ..response.slow_json import SlowAnswer
from ..state import AppState
from . import answer, schemas
from .l402 import L402, NOBODY

# Both paths are the same operation: a key that was used at one of them means the same at the other.
_PATH = "/sessions/{sessionId}/request"
Answer = TextDelta | RequestAnswer
_HEADERS = {"Cache-Control": "no-store"}


class Requests:
    """POST /sessions/{sessionId}/request, and POST /ask, where the credential names the session."""

    def __init__(self, state: AppState, credentials: Credentials, l402: L402) -> None:
        self._state = state
        self._credentials = credentials
        self._l402 = l402
        self._catalogue = model_catalogue(state.settings)
        self._evaluator, self._worker = own_models(state.settings)

    async def ask_in_session(self, request: Request) -> Response:
        """Answer a request with the model's answer and its cost."""
        return await self._ask(request, self._credentials.session(request))

    async def ask(self, request: Request) -> Response:
        """Answer a request with the session from the credential; without one, with a challenge to pay a deposit."""
        return await self._ask(request, self._credentials.holder(request))

    async def _ask(self, request: Request, holder: Holder | None) -> Response:
        key = idempotency_key(request)
        body = await read_json(request, schemas.NewRequest, self._state.settings.body_limit_bytes)
        making = self._carry_out(request, holder, key, body)
        if holder is None:
            return await making  # A challenge has its status, however long it takes.
        return await in_time(request, making, self._state.settings.ping_s, stream=body.stream)

    async def _carry_out(
        self, request: Request, holder: Holder | None, key: str | None, body: schemas.NewRequest
    ) -> Response:
        known = self._worker if body.model is None else self._catalogue.find(body.model)
        model = body.model or "" if known is None else known.name
        grant = NOBODY if holder is None else holder.grant
        command = Ask(
            request_id=request_id_of(request.scope),
            request=body.request,
            model=model,
            max_tokens=self._max_tokens(body.max_tokens, known),
            stream=body.stream,
            once=operation_key_of(request, key, body, grant, _PATH),
            grant=grant,
            btc_price=await self._state.prices.current(),
            refused=await refusal_of_calls(self._state, self._evaluator.name, model),
            attempt=attempt_of(
                request, key, body, _PATH, head_after_s=self._head_after_s(request) if body.stream else None
            ),
            tells_hold=True,
            spender=spender_of(request, grant),
        )
        if holder is None:
            if known is None:
                raise RefusedError(model_not_found("/pricing"))
            await self._l402.challenge(request, key, command)
        await self._l402.settled(holder)
        try:
            return await self._l402.retried(holder, partial(self._send, request, holder.session_id, command))
        except RefusedError as error:
            if known is None and error.refusal.code is not Code.INSUFFICIENT_BALANCE:
                # There is no price that a deposit could be for. A host that names one knows the model.
                unfit = error.refusal.code is Code.INVALID_REQUEST
                raise RefusedError(model_not_found("/pricing") if unfit else error.refusal) from None
            raise await self._l402.refused(request, key, command, holder, error.refusal) from None

    async def _send(self, request: Request, session_id: str, command: Ask) -> Response:
        replies: Replies[Answer] = Replies(request, self._state.router.open(session_id, command))
        return await (self._stream(request, replies, command) if command.stream else self._whole(replies))

    def _max_tokens(self, asked: int | None, model: ModelEntry | None) -> int | None:
        """Return the limit of an answer, at most the model's own; None for the operator's default."""
        most = None if model is None else model.max_output_tokens
        if most is None or (asked or self._state.settings.session_tokens) <= most:
            return asked
        return most

    async def _whole(self, replies: Replies[Answer]) -> Response:
        ping_s = self._state.settings.ping_s
        reply = await replies.soon(ping_s)
        if reply is None:
            return SlowAnswer(replies, _result, ping_s)
        await replies.aclose()
        return Response(_result(reply), 200, _HEADERS, "application/json")

    async def _stream(self, request: Request, replies: Replies[Answer], command: Ask) -> Response:
        # The first reply is awaited here, so that a refused request gets an error and not a stream.
        first = await replies.soon(self._head_after_s(request))
        if isinstance(first, RequestAnswer) and (refusal := answer.broken(first)) is not None:
            await replies.aclose()
            raise RefusedError(refusal)
        # A stream holds money until its end. When the server stops, it may go on for as long as other requests.
        return sse.EventStream(_events(first, replies, facts_of(request.scope)), replies, self._state.settings.ping_s)

    def _head_after_s(self, request: Request) -> float:
        return head_after_s(request, self._state.head_after_s)


async def _events(first: Answer | None, replies: Replies[Answer], facts: RequestFacts) -> AsyncGenerator[bytes, None]:
    async with aclosing(replies):
        begun = isinstance(first, TextDelta)
        if isinstance(first, RequestAnswer) and first.text:
            # The answer was given before: a client that collects the pieces gets its text, too.
            yield _event(TextDelta(first.text), facts)
        if first is not None:
            yield _event(first, facts)
        try:
            async for reply in replies.rest():
                if isinstance(reply, RequestAnswer) and reply.text and not begun:
                    # The head had gone out before the connection to the host broke; the answer was kept meanwhile.
                    yield _event(TextDelta(reply.text), facts)
                begun = True
                yield _event(reply, facts)
        except RefusedError as error:
            yield sse.event("error", answer.encode(errors.body_of(error.refusal, facts)))


def _event(reply: Answer, facts: RequestFacts) -> bytes:
    if isinstance(reply, TextDelta):
        return sse.event("delta", answer.encode(answer.Piece(reply.text)))
    refusal = answer.broken(reply)
    if refusal is not None:
        return sse.event("error", answer.encode(errors.body_of(refusal, facts)))
    return sse.event("done", answer.encode(answer.result_of(reply)))


def _result(reply: Answer) -> bytes:
    if isinstance(reply, TextDelta):
        raise WrongReplyError(Ask, reply)
    refusal = answer.broken(reply)
    if refusal is not None:
        raise RefusedError(refusal)
    return answer.encode(answer.result_of(reply))
