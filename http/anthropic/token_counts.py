"""Counts of a prompt's tokens by the provider, free of charge: for clients that ask, and where bytes don't bound it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request

from ...actors.domain.errors import Code, Refusal, RefusedError
from ...actors.domain.llm.relays import countable
from ...actors.domain.session.messages import Counted, CountTokens
from ..request.auth import Holder
from ..request_id import request_id_of
from ..response import errors
from ..response.error_formats import PROMPT_TOKENS, PROMPT_TOKENS_MAX, prompt_length
from ..sessions.top_up_offers import TopUpOffers
from ..sessions.unseen_payments import UnseenPayments
from ..state import AppState

# The client's headers that are meant for the provider.
_PASSED: Final = ("anthropic-version", "anthropic-beta")
HEADER_CHARS_MAX: Final = 2_000
# The limit of one session. The provider limits all sessions of this server together.
_PER_MINUTE: Final = 120
# The provider calls its count an estimate, so the bound adds a twentieth and a fixed number of tokens.
_SPARE_PART: Final = 20
_SPARE_TOKENS: Final = 500
_NOBODYS: Final = Refusal(
    Code.MISSING_CREDENTIAL,
    "What a PDF costs has to be counted, which is done for sessions only: open one with POST /sessions, and send its "
    "macaroon.",
)
_TOO_LONG: Final = Refusal(Code.INVALID_REQUEST, "The model takes no prompt as long as this.")


class _Count(msgspec.Struct):
    input_tokens: int


class _Inner(msgspec.Struct):
    message: str


class _Error(msgspec.Struct):
    error: _Inner


class Counts:
    """Token counts by the provider, limited to `_PER_MINUTE` for each session."""

    def __init__(self, state: AppState, unseen_payments: UnseenPayments) -> None:
        self._state = state
        self._top_up_offers = TopUpOffers(state)
        self._unseen_payments = unseen_payments

    async def count(self, request: Request, holder: Holder, model: str, body: bytes) -> Counted:
        """Return the provider's answer to a count. Raises `RefusedError`."""
        if self._state.settings.rate_limits:
            wait_s = await self._state.limits.hit("count_tokens", holder.session_id, _PER_MINUTE, 60)
            if wait_s is not None:
                raise errors.rate_limited(f"At most {_PER_MINUTE} counts a minute: try again in {wait_s} s.", wait_s)
        command = CountTokens(
            request_id_of(request.scope), body, passed_headers(request), model, is_beta(request), holder.grant
        )
        try:
            return await self._unseen_payments.retried(
                holder, partial(self._state.router.call, holder.session_id, command)
            )
        except RefusedError as error:
            raise RefusedError(
                await self._top_up_offers.improve(error.refusal, holder.session_id, holder.grant)
            ) from None

    async def needed(self, request: Request, holder: Holder | None, model: str, body: bytes) -> int:
        """Return the prompt's tokens for a call whose bytes don't bound them. Raises `RefusedError`."""
        if holder is None:
            raise RefusedError(_NOBODYS)
        counted = await self.count(request, holder, model, _countable(body))
        found = tokens_in(counted)
        if found is None:
            raise _too_long(counted) or errors.invalid("", _told(counted).rstrip("."))
        return found

    async def maybe(self, request: Request, holder: Holder, model: str, body: bytes) -> int | None:
        """Return the prompt's tokens, or None if the count failed or was refused.

        Raises `RefusedError` if the model takes no prompt as long as this.
        """
        try:
            counted = await self.count(request, holder, model, _countable(body))
        except RefusedError:
            return None
        if refused := _too_long(counted):
            raise refused
        return tokens_in(counted)


def _countable(body: bytes) -> bytes:
    try:
        return countable(body)
    except ValueError:
        raise errors.invalid("", "The prompt can't be counted: it is nested too deeply") from None


def bound_of(tokens: int) -> int:
    """Return an upper bound of the tokens of a prompt that was counted."""
    return tokens + tokens // _SPARE_PART + _SPARE_TOKENS


def passed_headers(request: Request) -> Mapping[str, str]:
    """Return the client's headers that are meant for the provider. Raises `RefusedError` for one that is too long.

    To leave it out would be to carry out another call than the client sent.
    """
    found = {name: ", ".join(request.headers.getlist(name)) for name in _PASSED}
    for name, value in found.items():
        if len(value) > HEADER_CHARS_MAX:
            raise errors.invalid(name, f"Must have at most {HEADER_CHARS_MAX} characters")
    return {name: value for name, value in found.items() if value}


def is_beta(request: Request) -> bool:
    """Return True if the client called an SDK's beta interface, which is a separate one at the provider, too."""
    return bool(request.scope.get("query_string")) and request.query_params.get("beta") == "true"


def tokens_in(counted: Counted) -> int | None:
    """Return the count in the provider's answer, or None if it is a refusal."""
    if counted.status != 200:
        return None
    try:
        return max(0, msgspec.json.decode(counted.body, type=_Count).input_tokens)
    except ValueError:
        return None


def prompt_too_long(tokens: int, most: int, refusal: Refusal) -> RefusedError:
    """Return the refusal of a prompt of so many tokens where `most` are possible; `refusal` says why."""
    fields = [{"path": "messages", "message": f"The prompt has {tokens} tokens, and at most {most} are possible"}]
    details = {**refusal.details, "fields": fields, PROMPT_TOKENS: tokens, PROMPT_TOKENS_MAX: most}
    return RefusedError(Refusal(Code.INVALID_REQUEST, refusal.message, details))


def _too_long(counted: Counted) -> RefusedError | None:
    """Return the refusal of a prompt that the model does not take; None if the provider did not say so."""
    lengths = prompt_length(_told(counted)) if counted.status >= 400 else None
    return None if lengths is None else prompt_too_long(*lengths, _TOO_LONG)


def _told(counted: Counted) -> str:
    """Return the provider's own sentence about a body that it refuses."""
    try:
        return msgspec.json.decode(counted.body, type=_Error).error.message
    except ValueError:
        return "The model provider could not count this prompt"
