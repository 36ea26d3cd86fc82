"""HTTP answers of refusals: status, body and headers. Texts of exceptions never get here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ...actors.domain.errors import IN_DOUBT, Code, Refusal, RefusedError, unavailable
from ...actors.ports import TransientError
from ..request_facts import RequestFacts
from .advice import INTERNAL_ERROR, advice_for_defect, advice_of
from .error_formats import Shape, anthropic, plain

STATUS: Final[Mapping[Code, int]] = {
    Code.INVALID_REQUEST: 400,
    Code.MISSING_CREDENTIAL: 401,
    Code.INVALID_CREDENTIAL: 401,
    Code.PAYMENT_REQUIRED: 402,
    Code.INSUFFICIENT_BALANCE: 402,
    Code.CAVEAT_VIOLATED: 403,
    Code.NOT_FOUND: 404,
    Code.MODEL_NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.REQUEST_TIMEOUT: 408,
    Code.WRONG_STATE: 409,
    Code.IDEMPOTENCY_CONFLICT: 409,
    Code.EXPIRED: 410,
    Code.CLOSED: 410,
    Code.BODY_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.HEADERS_TOO_LARGE: 431,
    Code.REFUND_PENDING: 425,
    Code.RATE_LIMITED: 429,
    Code.MODEL_FAILED: 502,
    Code.UNAVAILABLE: 503,
    Code.OVERLOADED: 503,
}
"""The contract's table of errors."""

# The WWW-Authenticate header of a 401 (RFC 9110, and RFC 6750 for the second).
_CHALLENGES: Final[Mapping[Code, str]] = {
    Code.MISSING_CREDENTIAL: "Bearer",
    Code.INVALID_CREDENTIAL: 'Bearer error="invalid_token"',
}
# Anthropic's own statuses for some codes, which clients of its API know.
_ANTHROPIC_STATUS: Final[Mapping[Code, int]] = {Code.OVERLOADED: 529}
# Clients try a wrong key and an unpaid call again for minutes, unless they are told not to. They repeat a 503 without a
# key, too, so a charge with an unknown outcome would be charged again.
_FINAL: Final = frozenset({401, 402, 403})
Told = tuple[int, dict[str, Any], dict[str, str]]
"""An error's status, its body in this server's own format, and its headers."""
RETRY_AFTER: Final = "retryAfterSeconds"
"""The field with the figure of the Retry-After header."""
PAY_PAGE: Final = "payPage"
"""The field with the address of the page that shows the invoice to pay."""
_INTERNAL: Final = "Something is wrong in the server, not in your request; its operator finds it by the requestId."
_PATH_CHARS_MAX: Final = 100
_FIELD_CHARS_MAX: Final = 1_000


class ClosingError(RefusedError):
    """A refusal that closes the connection, as the rest of the body was left unread."""


class ChallengeError(RefusedError):
    """A refusal with an authentication challenge: `challenge` is the WWW-Authenticate header."""

    def __init__(self, refusal: Refusal, challenge: str) -> None:
        super().__init__(refusal)
        self.challenge = challenge


def invalid(path: str, message: str) -> RefusedError:
    """Return the refusal for one wrong field in a body, query or header."""
    return invalid_fields([{"path": path, "message": message}])


def invalid_fields(fields: list[dict[str, str]]) -> RefusedError:
    """Return the refusal for all wrong fields, by their paths."""
    fields = [{**field, "path": _writable(field["path"])} for field in fields]
    first = fields[0]
    place = f"{first['path']}: " if first["path"] else ""
    return RefusedError(Refusal(Code.INVALID_REQUEST, f"{place}{first['message']}.", {"fields": fields}))


def _writable(path: str) -> str:
    """Return a path that can be encoded: JSON lets a client name a member by half a character, or at any length."""
    return path[:_FIELD_CHARS_MAX].encode(errors="replace").decode()


def rate_limited(message: str, retry_after_s: int) -> RefusedError:
    """Return the refusal for a request over a client's rate limit."""
    return RefusedError(Refusal(Code.RATE_LIMITED, message, retry_after_s=retry_after_s))


def answer(error: Exception, facts: RequestFacts, shape: Shape = plain) -> Response:
    """Return the answer to a request that ended in this exception."""
    status, body, headers = told(error, facts)
    if isinstance(error, RefusedError):
        status = status_of(error.refusal.code, shape)
    headers["Cache-Control"] = "no-store"
    if facts.long:
        # The rest of its body is thrown away, and not all of it may be read.
        headers["Connection"] = "close"
    return Response(msgspec.json.encode(shape(status, body)), status, headers, "application/json")


def status_of(code: Code, shape: Shape) -> int:
    """Return the status of a refusal in this error format."""
    return _ANTHROPIC_STATUS.get(code, STATUS[code]) if shape is anthropic else STATUS[code]


def told(error: Exception, facts: RequestFacts) -> Told:
    """Return what a client is told of this exception: the only map from exceptions to answers."""
    if isinstance(error, RefusedError):
        headers = {"Connection": "close"} if isinstance(error, ClosingError) else {}
        if isinstance(error, ChallengeError):
            headers["WWW-Authenticate"] = error.challenge
        return _refused(error.refusal, facts, headers)
    if isinstance(error, TransientError):
        # In the front, only the store's clients raise this.
        return _refused(unavailable("The store"), facts, {})
    if isinstance(error, HTTPException) and error.status_code == 405:
        return _not_allowed(error, facts)
    if isinstance(error, HTTPException) and error.status_code == 404:
        # The router tells the path that was looked for.
        message = f"There is no path {error.detail[:_PATH_CHARS_MAX]} here; /docs lists those that exist."
        return _refused(Refusal(Code.NOT_FOUND, message), facts, {})
    named = {"error": _INTERNAL, "code": INTERNAL_ERROR, "requestId": facts.request_id}
    return 500, {**named, **advice_for_defect(facts)}, {}


def body_of(refusal: Refusal, facts: RequestFacts) -> dict[str, Any]:
    """Return the body of a refusal. It tells when to try again, too: an answer that has begun takes no more headers."""
    retry = {} if refusal.retry_after_s is None else {RETRY_AFTER: refusal.retry_after_s}
    named = {"error": refusal.message, "code": refusal.code.value, "requestId": facts.request_id}
    return {**named, **retry, **advice_of(refusal, facts), **refusal.details}


def allowed(error: HTTPException) -> str:
    """Return the methods of a path for an Allow header; Starlette's have no fixed order, and lack OPTIONS."""
    methods = (error.headers or {}).get("Allow", "")
    return ", ".join(sorted({*methods.split(", "), "OPTIONS"}))


def _not_allowed(error: HTTPException, facts: RequestFacts) -> Told:
    methods = allowed(error)
    refusal = Refusal(Code.METHOD_NOT_ALLOWED, f"This path takes {methods} and no other method.")
    return _refused(refusal, facts, {"Allow": methods})


def _refused(refusal: Refusal, facts: RequestFacts, headers: dict[str, str]) -> Told:
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    if STATUS[refusal.code] in _FINAL or IN_DOUBT in refusal.details:
        headers["X-Should-Retry"] = "false"
    if PAY_PAGE in refusal.details:
        headers["Link"] = f'<{refusal.details[PAY_PAGE]}>; rel="payment"'
    if refusal.code in _CHALLENGES:
        headers["WWW-Authenticate"] = _CHALLENGES[refusal.code]
    return STATUS[refusal.code], body_of(refusal, facts), headers
