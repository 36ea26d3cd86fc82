"""Relay of calls in a provider's own protocol, paid for from a session. All paths that speak one share it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace
from starlette.requests import Request

from ...actors.catalogue.loading import model_catalogue
from ...actors.domain.errors import Code, Refusal, RefusedError, cut_off
from ...actors.domain.llm.answers import Ending, Held
from ...actors.domain.llm.catalogue import Api
from ...actors.domain.llm.relays import RelayBytes, RelayHead
from ...actors.domain.money import usd_text
from ...actors.domain.session.messages import Relay, Relayed
from ...actors.messages import WrongReplyError
from ...actors.operator_terms import session_terms
from ..payments.solvency_gate import refusal_of_calls
from ..request.auth import Holder
from ..request.body import Larger, read_bytes
from ..request.idempotency import attempt_of, operation_key_of
from ..request.spender import spender_of
from ..request_id import request_id_of
from ..response.errors import ChallengeError, invalid
from ..response.replies import Replies, head_after_s
from ..response.sse import Closable
from ..sessions import answer as results
from ..sessions.l402 import L402, NOBODY
from ..state import AppState
from ..upstreams.provider_call import ProviderCall
from ..upstreams.served_models import ServedModels
from .prompt_length import CountedRefusalError, too_long
from .token_counts import Counts, bound_of, is_beta, passed_headers

# Refusals that a tighter bound may avoid, and the smallest bound for which a count by the provider is worthwhile.
_TOO_DEAR: Final = frozenset({Code.INSUFFICIENT_BALANCE, Code.CAVEAT_VIOLATED})
_WORTH_COUNTING_TOKENS: Final = 4_000
# Results count as input each time that the model goes on after a search, and nothing limits them but its context.
# Source: the provider's guide "Web search tool". Its loop of samplings pauses after ten ("Handling stop reasons",
# pause_turn), also when the model asks for more than `max_uses`. One is added for the answer after the last search.
_SAMPLINGS_MAX: Final = 11
DEBITED: Final = "Satmeter-Debited-Msat"
BALANCE: Final = "Satmeter-Balance-Msat"
MAX_TOKENS: Final = "Satmeter-Max-Tokens"
Answer = RelayHead | RelayBytes | Relayed
"""Answers to a `Relay` behind the notice of its hold. A call that is not streamed has only the last."""


@dataclass(frozen=True, slots=True)
class RelayStream:
    """A streamed answer whose head may be sent: `parts` are its bytes, as the provider sent them, and then a `Relayed`.

    Close both `parts` and the `source` that they come from. `parts` raise `RefusedError` when the model has failed, or
    the actor was lost on the way.
    """

    head: Held
    parts: AsyncGenerator[RelayBytes | Relayed, None]
    source: Closable


@dataclass(frozen=True, slots=True)
class RelaySlow:
    """A whole answer that takes long; its only reply is a `Relayed`. See `whole_answer`."""

    held: Held
    replies: Replies[Answer]


class Relays:
    """Relay of calls to the session's actor, whichever protocol the client speaks. `models` are those that are sold.

    `counts`: counts of prompts, for the routes that share the relay.
    """

    def __init__(self, state: AppState, l402: L402) -> None:
        self._state = state
        self._l402 = l402
        self.counts = Counts(state, l402.unseen_payments)
        self._terms = session_terms(state.settings)
        self.models = ServedModels(model_catalogue(state.settings))

    async def read(self, request: Request, holder: Holder | None) -> bytes:
        """Return the body of a call, or of a count. Raises `RefusedError`.

        A client that has paid may send more than others, as conversations with images are long.
        """
        settings = self._state.settings
        admit = None if holder is None else partial(self._l402.admit, holder)
        limit_bytes = max(settings.body_limit_bytes, settings.llm_body_limit_bytes)
        return await read_bytes(request, settings.body_limit_bytes, larger=Larger(limit_bytes, admit))

    async def carry_out(
        self, request: Request, holder: Holder | None, call: ProviderCall, key: str | None, sent: bytes
    ) -> Relayed | RelayStream | RelaySlow:
        """Return the answer, or the beginning of a streamed one. `sent`: the client's own body.

        Raises `RefusedError`; without a holder always, as a challenge.

        An answer with a status from 400 on is the provider's refusal of the body. A broken-off answer is returned, too.
        """
        tokens_max, counted, is_messages = call.prompt_tokens_max, None, call.api is Api.ANTHROPIC
        refused = await refusal_of_calls(self._state, call.model)
        if tokens_max is None and refused is not None:
            # No new call begins. An answer that this key already has was counted before.
            tokens_max = 0
        elif call.web_searches:
            tokens_max = self._searched(call.model)
        elif tokens_max is None:
            counted = await self.counts.needed(request, holder, call.model, call.body.data)
            tokens_max = bound_of(counted)
        command = Relay(
            request_id=request_id_of(request.scope),
            model=call.model,
            body=call.body.made_of(sent),
            headers=passed_headers(request) if is_messages else {},
            beta=is_messages and is_beta(request),
            stream=call.stream,
            prompt_tokens_max=tokens_max,
            prompt_rate=call.prompt_rate,
            least_tokens=call.least_tokens,
            once=operation_key_of(request, key, sent, None if holder is None else holder.grant),
            grant=NOBODY if holder is None else holder.grant,
            btc_price=await self._state.prices.current(),
            billed_as=call.billed_as,
            prompt_tokens=counted,
            refused=refused,
            attempt=attempt_of(request, key, sent, head_after_s=self._head_after_s(request) if call.stream else None),
            tells_hold=True,
            web_searches=call.web_searches,
            spender=spender_of(request, NOBODY if holder is None else holder.grant),
        )
        if holder is None:
            await self._l402.challenge(request, key, command)
        await self._l402.settled(holder)
        try:
            return await self._l402.retried(holder, partial(self._send_or_count, request, holder, command))
        except RefusedError as error:
            told = await self._l402.refused(request, key, command, holder, error.refusal)
            if isinstance(error, CountedRefusalError) and not isinstance(told, ChallengeError):
                # A wallet that is challenged pays by itself.
                # To send less is possible also while no invoice can be made.
                wanting = error.refusal if told.refusal.code is Code.UNAVAILABLE else told.refusal
                told = too_long(self._terms, command, error.tokens, wanting) or told
            raise told from None

    def _searched(self, model: str) -> int:
        """Return the most tokens that the provider may count for a call that searches. Raises `RefusedError`."""
        context_tokens = self.models.named(model).context_tokens
        if context_tokens is None:
            raise invalid("tools", "What searches find has no bound here, as the model's context is not known")
        return _SAMPLINGS_MAX * context_tokens

    async def _send_or_count(
        self, request: Request, holder: Holder, command: Relay
    ) -> Relayed | RelayStream | RelaySlow:
        """Send the command, and again with the provider's count if the bytes' bound is too high for the balance."""
        try:
            return await self._send(request, holder.session_id, command)
        except RefusedError as error:
            # A count does not show what searches will find.
            countable = not command.web_searches and command.prompt_tokens_max >= _WORTH_COUNTING_TOKENS
            if error.refusal.code not in _TOO_DEAR or not countable:
                raise
            counted = command.prompt_tokens
            if counted is None:
                counted = await self.counts.maybe(request, holder, command.model, command.body.data)
            if counted is None:
                raise
            if bound_of(counted) >= command.prompt_tokens_max:
                raise CountedRefusalError(error.refusal, counted) from None
        tighter = replace(command, prompt_tokens_max=bound_of(counted), prompt_tokens=counted)
        try:
            return await self._send(request, holder.session_id, tighter)
        except RefusedError as error:
            raise CountedRefusalError(error.refusal, counted) from None

    def _send(self, request: Request, session_id: str, command: Relay) -> Awaitable[Relayed | RelayStream | RelaySlow]:
        """Return what brings the answer. A coroutine that only awaited it would take memory as long as a model does."""
        replies: Replies[Answer] = Replies(request, self._state.router.open(session_id, command))
        return self._streamed(request, replies) if command.stream else self._whole(replies)

    async def _streamed(self, request: Request, replies: Replies[Answer]) -> Relayed | RelayStream:
        # Waited for here, so that a request that is refused is an error and not a stream.
        first = await replies.soon(self._head_after_s(request))
        if first is None:
            assert replies.held is not None
            return RelayStream(replies.held, _parts(replies), replies)
        if isinstance(first, RelayHead):
            return RelayStream(Held(first.max_tokens, first.at_ms), _parts(replies), replies)
        await replies.aclose()
        if isinstance(first, RelayBytes):
            raise WrongReplyError(Relay, first)
        if first.status >= 400:
            return first
        # The answer was given before: a repeated request gets the same bytes, and the same end.
        again = _again(first)
        return RelayStream(Held(first.max_tokens, first.at_ms), again, again)

    def _head_after_s(self, request: Request) -> float:
        return head_after_s(request, self._state.head_after_s)

    async def _whole(self, replies: Replies[Answer]) -> Relayed | RelaySlow:
        first = await replies.soon(self._state.settings.ping_s)
        if first is None:
            assert replies.held is not None
            return RelaySlow(replies.held, replies)
        await replies.aclose()
        return whole_answer(first)


def whole_answer(reply: Answer) -> Relayed:
    """Return the answer. Raises `RefusedError` if its client hung up: the repeated request may be too late for it."""
    if not isinstance(reply, Relayed):
        raise WrongReplyError(Relay, reply)
    if reply.status < 400 and reply.ending is Ending.LEFT:
        raise RefusedError(cut_off())
    return reply


def cost_headers(answer: Relayed) -> dict[str, str]:
    """Return the headers with the cost of a call."""
    return {
        DEBITED: str(answer.cost.debit_msat.value),
        BALANCE: str(answer.balance_msat.value),
        MAX_TOKENS: str(answer.max_tokens),
    }


def cost_fields(answer: Relayed) -> dict[str, int | str]:
    """Return the fields with the cost of a call, for the `usage` of a body.

    A slow answer has its cost only there, and some programs see no headers. `cost_usd` is the cost before the margin,
    as in a cost ledger.
    """
    return {
        "cost_msat": answer.cost.debit_msat.value,
        "cost_usd": usd_text(answer.cost.cost_usd),
        "balance_msat": answer.balance_msat.value,
    }


def cost_comment(answer: Relayed) -> bytes:
    """Return the cost of a call as the last line of a stream, a comment that clients skip."""
    return f": {DEBITED}: {answer.cost.debit_msat.value}, {BALANCE}: {answer.balance_msat.value}\n\n".encode()


def broken_refusal(answer: Relayed) -> RefusedError:
    """Return the error that reports a broken-off answer to its client."""
    return RefusedError(results.broken_refusal(answer.request_id, answer.cost.debit_msat, answer.balance_msat))


def refused_late(answer: Relayed) -> RefusedError:
    """Return the error for an answer that was begun before the provider refused the body."""
    message = f"The model provider refused this call with status {answer.status}; nothing was charged for it."
    return RefusedError(Refusal(Code.INVALID_REQUEST, message))


async def _parts(replies: Replies[Answer]) -> AsyncGenerator[RelayBytes | Relayed, None]:
    async with aclosing(replies.rest()) as rest:
        async for reply in rest:
            if not isinstance(reply, RelayHead):
                if isinstance(reply, Relayed) and reply.status < 400 and reply.body:
                    # The head had gone out before the connection to the host broke; the answer was kept meanwhile.
                    yield RelayBytes(reply.body)
                    reply = replace(reply, body=b"")  # noqa: PLW2901
                yield reply


async def _again(answer: Relayed) -> AsyncGenerator[RelayBytes | Relayed, None]:
    yield RelayBytes(answer.body)
    yield replace(answer, body=b"")
