"""Errors of chat completions: with their status, in a body of status 200, or in the middle of a stream.

Most servers send `{"error": {"message", "type", "code"}}`, and put a status into `code` where there is no other;
OpenRouter puts such an object beside the choices, older vLLM sends the inner one alone. Their texts may quote the
request, so that none gets into an error or a log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog

from ...domain.llm.half_characters import whole_characters
from ...domain.llm.relays import RelayEnd
from ...domain.provider_faults import ModelFault
from ...ports import ModelError, PermanentError, PortError
from ..upstream.statuses import CLIENT_STATUSES, NOT_FOUND, fault_of, status_error

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_DEFAULT_STATUS: Final = 500
# Kinds of errors by their `type` or `code`, with the status that they would have. Sources: OpenAI's guide to error
# codes, llama.cpp's server (`exceed_context_size_error`), OpenRouter's and Groq's pages on errors.
_STATUSES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("invalid_request_error", "context_length_exceeded", "exceed_context_size_error"), 400),
    **dict.fromkeys(("content_policy_violation", "invalid_prompt", "BadRequestError"), 400),
    **dict.fromkeys(("authentication_error", "auth_error", "invalid_api_key", "AuthenticationError"), 401),
    **dict.fromkeys(("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "budget_exceeded"), 402),
    **dict.fromkeys(("permission_error", "permission_denied_error", "account_deactivated"), 403),
    **dict.fromkeys(("not_found_error", "model_not_found", "NotFoundError"), 404),
    **dict.fromkeys(("rate_limit_error", "rate_limit_exceeded", "tokens", "requests", "RateLimitError"), 429),
    **dict.fromkeys(("unavailable_error", "service_unavailable", "engine_overloaded"), 503),
    "overloaded_error": 529,
}
# Errors of our account that come with any status: OpenAI says with a 429 that there is no credit, LiteLLM with a 400.
_REFUSED: Final = frozenset({401, 402, 403})
_log = structlog.get_logger(__name__)


class ClientsFaultError(PermanentError):
    """Refusal of a body by the upstream. `end` is its answer, which may quote the body: for the client alone."""

    def __init__(self, message: str, end: RelayEnd) -> None:
        super().__init__(message)
        self.end = end


def error_in(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the error in a body or in a stream's event, if it is one."""
    error = event.get("error")
    if error:
        return error if isinstance(error, dict) else {"message": error}
    return event if event.get("object") == "error" else None


def status_of(error: Mapping[str, Any]) -> int:
    """Return the status that an error without one would have; 500 where it does not tell."""
    code = error.get("code", error.get("status"))
    if isinstance(code, str) and re.fullmatch(r"[45]\d\d", code):
        code = int(code)
    if type(code) is int and 400 <= code <= 599:
        return code
    return next(iter(_by_words(error)), _DEFAULT_STATUS)


def failure(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    error: Mapping[str, Any] | None = None,
    *,
    expected: bool = False,
) -> PortError:
    """Return the error of an answer that came before anything else. `error`: where the body is not one itself.

    `expected`: the operator has nothing to mend, whatever the status.
    """
    # It may quote the request, and such a quotation may end in the middle of a character.
    body = whole_characters(body)
    found = (_error_of(body) if error is None else error) or {}
    told = f"the upstream answered {status}{_words(found)}"
    fault, meant = fault_of(status), {status_of(found), *_by_words(found)}
    if meant & _REFUSED:
        fault = ModelFault.REFUSED
    if fault is None and NOT_FOUND in meant:
        status = NOT_FOUND
    if not expected and (fault is ModelFault.REFUSED or status == NOT_FOUND):
        _log.error("upstream_refuses_us", status=status, hint="check the upstream's key, credit, address and models")
    if fault is None and status in CLIENT_STATUSES:
        content_type = "application/json" if error is not None else headers.get("content-type", "application/json")
        return ClientsFaultError(told, RelayEnd(status, {"content-type": content_type}, body, None))
    return status_error(told, status, headers, fault)


def failure_in_answer(error: Mapping[str, Any]) -> PortError:
    """Return the error that stands in an answer of status 200, in place of all else."""
    status = status_of(error)
    return failure(status, {}, msgspec.json.encode({"error": error}), error)


def failure_midway(error: Mapping[str, Any]) -> PortError:
    """Return the error that broke off an answer, of which something had come, and is billed."""
    told = broken_off(error)
    return PermanentError(told) if status_of(error) in CLIENT_STATUSES else ModelError(told, ModelFault.FAILING)


def broken_off(error: Mapping[str, Any]) -> str:
    """Return the words for a stream that an error broke off."""
    return f"the upstream broke off its answer: {status_of(error)}{_words(error)}"


def _by_words(error: Mapping[str, Any]) -> list[int]:
    """Return the statuses that the words of an error stand for, that of its code first."""
    words = (error.get("code"), error.get("type"))
    return [_STATUSES[word] for word in words if isinstance(word, str) and word in _STATUSES]


def _words(error: Mapping[str, Any]) -> str:
    """Return the kinds of an error, if they are identifiers."""
    words = dict.fromkeys(word for word in (error.get("type"), error.get("code")) if isinstance(word, str))
    return "".join(f" {word}" for word in words if _WORD.fullmatch(word))


def _error_of(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return error_in(found) if isinstance(found, dict) else None
