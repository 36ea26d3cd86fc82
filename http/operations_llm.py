"""What the OpenAPI document says of the paths that speak a provider's protocol."""

from __future__ import annotations

from typing import Final

from ..actors.domain.errors import Code
from . import schemas_llm as schemas
from . import sse
from .operations import BODY_ERRORS, JSON, LLM, Answer, Operation, Parameter, idempotent

CREDENTIAL_ERRORS: Final = (
    Code.MISSING_CREDENTIAL,
    Code.INVALID_CREDENTIAL,
    Code.CAVEAT_VIOLATED,
    Code.NOT_FOUND,
    Code.PAYMENT_REQUIRED,
    Code.EXPIRED,
    Code.CLOSED,
    Code.RATE_LIMITED,
    Code.UNAVAILABLE,
)
COST_HEADERS: Final = ("Satmeter-Debited-Msat", "Satmeter-Balance-Msat", "Satmeter-Max-Tokens", "Request-Id")
_VERSION: Final = (
    Parameter("anthropic-version", "header", "Passed on.", {"type": "string", "maxLength": 2_000}),
    Parameter("anthropic-beta", "header", "Passed on.", {"type": "string", "maxLength": 2_000}),
)

MESSAGES: Final = Operation(
    id="createMessage",
    tag=LLM,
    summary="Anthropic's Messages API",
    description="The body goes to the provider as it is, but for `max_tokens`, which is lowered to what the balance "
    "covers (`Satmeter-Max-Tokens` says to what); its answer comes back as it is. Before the call the most that it can "
    "cost is put on hold, after it the actual cost is debited, cache reads and writes at their own rates.\n\n"
    "Not possible is what has a price that isn't known beforehand: tools that the provider runs, MCP servers, images "
    "and documents by address or file id, fast mode.\n\n"
    'With `"stream": true` the provider\'s events come as it sends them, and behind them a comment line with the cost '
    "and the balance. Whoever goes away stops the model, and pays for what was used until then.",
    secured=True,
    body=schemas.MessagesRequest,
    error=schemas.MessagesError,
    parameters=(*_VERSION, idempotent("one charge and the same answer, to the byte")),
    answers=(Answer(200, "The answer.", {JSON: schemas.Message, sse.MEDIA_TYPE: None}, COST_HEADERS),),
    errors=(
        *BODY_ERRORS,
        *CREDENTIAL_ERRORS,
        Code.INSUFFICIENT_BALANCE,
        Code.IDEMPOTENCY_CONFLICT,
        Code.MODEL_FAILED,
    ),
)
