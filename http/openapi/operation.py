"""OpenAPI operations: their types, and the parts that many of them share.

The operations themselves are in the `openapi` modules of the route folders; `app.py` ties each of them to its
route.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from ...actors.domain.errors import Code
from ..response.error_formats import Shape, plain

JSON: Final = "application/json"
HTML: Final = "text/html"

JOBS: Final = "Jobs"
SESSIONS: Final = "Sessions"
LLM: Final = "With the clients of other providers"
AROUND: Final = "Around it"
DEVELOPMENT: Final = "Development"
TAGS: Final[Mapping[str, str]] = {
    JOBS: "Pay per piece of work: a small fee to have a request evaluated, then a price for the work. "
    "A payment moves a job on by itself, within two seconds; nobody needs to poll.",
    SESSIONS: "Deposit once, pay per request. Everything but opening one needs the session's macaroon, as "
    "`Authorization: Bearer <macaroon>` or `L402 <macaroon>:<preimage>`. Its holder can narrow it offline with the "
    "caveats `expires_at = <unix seconds>`, `max_msat = <n>`, `max_msat_per = <n>/<hour|day|week>` (a budget that "
    "renews at whole UTC hours, days, and weeks from Monday on), `max_msat_per_request = <n>`, "
    "`actions = request,read,topup,close,llm` and `name = <label>`. What one caveat refuses stays refused, whatever is "
    "appended after it. `read` shows all of the session, also what others spent. Nothing is paid out to a macaroon "
    "with `max_msat` or `max_msat_per`. A macaroon can have 64 caveats and 8,192 characters, and of these two 8 that "
    "are narrower than those before them.",
    LLM: "Speak another provider's protocol, so that its SDK works with this server as its base URL and the session's "
    "macaroon as its API key (`x-api-key` or `Authorization: Bearer`). The macaroon needs the action `llm`. Errors "
    "have that protocol's shape.",
    AROUND: "The free demo, prices, health, and this document.",
    DEVELOPMENT: "Exists only with the stub node, and never in production.",
}

WHEN: Final[Mapping[Code, str]] = {
    Code.INVALID_REQUEST: "The body, query or a header does not fit; `fields` says where.",
    Code.MISSING_CREDENTIAL: "The macaroon of the session is missing.",
    Code.INVALID_CREDENTIAL: "The macaroon is malformed, wrongly signed, too long, or of another session.",
    Code.PAYMENT_REQUIRED: "The deposit was not paid yet; `depositInvoice` is its invoice.",
    Code.INSUFFICIENT_BALANCE: "The balance does not cover the smallest useful answer; `topUpInvoice` mends it. "
    "While no invoice can be made, this is a 503.",
    Code.CAVEAT_VIOLATED: "The `caveat` of this macaroon forbids it; `renewsAt` says when a budget can be spent again.",
    Code.NOT_FOUND: "There is no such resource.",
    Code.MODEL_NOT_FOUND: "There is no such model.",
    Code.WRONG_STATE: "It is not possible in this `state`.",
    Code.IDEMPOTENCY_CONFLICT: "The Idempotency-Key was used with another body, or by another credential before the "
    "server told them apart.",
    Code.EXPIRED: "The session's time is over.",
    Code.CLOSED: "The session was closed.",
    Code.BODY_TOO_LARGE: "The body is over the limit: 1 MiB, and 32 MiB under `/v1/` for a session that is paid for, "
    "unless the operator chose others. Or a job's request has more than 100,000 characters.",
    Code.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON.",
    Code.HEADERS_TOO_LARGE: "The headers have more than 64 KiB or 100 fields.",
    Code.REFUND_PENDING: "A payout is under way and may still succeed; `Retry-After` says when to ask again.",
    Code.RATE_LIMITED: "Too much from one address, or from this server at its model provider; `Retry-After` says when "
    "it fits again.",
    Code.MODEL_FAILED: "The model provider failed for good; nothing was charged for it, or else `debitedMsat` "
    "says how much.",
    Code.UNAVAILABLE: "Store, Lightning node, model or actors can't be reached; nothing was charged, unless "
    "`inDoubt` says that this is not known.",
    Code.OVERLOADED: "The model provider or this server is overloaded; nothing was charged.",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path, the query or a header."""

    name: str
    place: str
    description: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer. `content` has a model for JSON, None for a text that no schema describes."""

    status: int
    description: str
    content: Mapping[str, type[BaseModel] | None]
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its description, parameters, body, answers and errors.

    `secured`: it takes a session's macaroon; `operators`: it takes the operator's token; `challenges`: without a
    macaroon, its answer is an invoice for a deposit. `error`: the shape of its errors, if another protocol defines it,
    and `error_format`, which chooses their statuses.
    """

    id: str
    tag: str
    summary: str
    description: str
    answers: tuple[Answer, ...]
    errors: tuple[Code, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    secured: bool = False
    operators: bool = False
    challenges: bool = False
    error: type[BaseModel] | None = None
    error_format: Shape = plain


def json_answer(description: str, model: type[BaseModel], status: int = 200) -> tuple[Answer]:
    """Return the only successful answer of an operation, as JSON."""
    return (Answer(status, description, {JSON: model}),)


def idempotent(promise: str) -> Parameter:
    """Return the Idempotency-Key parameter of an operation. `promise`: the effect of the same key and body."""
    return Parameter(
        "Idempotency-Key",
        "header",
        f"Makes it safe to send this again: the same key and body give {promise}, for at least 24 hours, also after a "
        "crash. A key belongs to the credential that it is sent with: what was bought under it is given to that "
        "credential and to those that it was narrowed from. Without one it belongs to the client's address. Make keys "
        "at random.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    )


SPENDER: Final = Parameter(
    "Satmeter-Spender",
    "header",
    "The `spender` in the ledger and in the receipt, for a credential without a `name` caveat. Without it the headers "
    "`X-Claude-Code-Agent-Id`, `X-Claude-Code-Session-Id` and `Session-Id`, which programs send by themselves, are "
    "read as it is. It has 1 to 64 letters, digits, or signs of `._:@-`; any other is left out.",
    {"type": "string"},
)
"""The header that names a spender."""
BODY_ERRORS: Final = (Code.INVALID_REQUEST, Code.BODY_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE)
"""Codes of the errors in reading a body."""
