"""OpenAPI operations of the paths that speak Anthropic's protocol."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from ..openapi.operation import BODY_ERRORS, JSON, LLM, SESSIONS, SPENDER, Answer, Operation, Parameter, idempotent
from ..response import sse
from ..response.error_formats import anthropic
from ..sessions import schemas as schemas_sessions
from . import schemas

CREDENTIAL_ERRORS: Final = (
    Code.MISSING_CREDENTIAL,
    Code.INVALID_CREDENTIAL,
    Code.CAVEAT_VIOLATED,
    Code.NOT_FOUND,
    Code.MODEL_NOT_FOUND,
    Code.PAYMENT_REQUIRED,
    Code.EXPIRED,
    Code.CLOSED,
    Code.RATE_LIMITED,
    Code.UNAVAILABLE,
)
COST_HEADERS: Final = ("Satmeter-Debited-Msat", "Satmeter-Balance-Msat", "Satmeter-Max-Tokens", "Request-Id")
CHALLENGED: Final = (
    "Without a credential the answer is a 402 with an L402 challenge in `WWW-Authenticate`: the invoice is a deposit "
    "that covers the request, and with the credential `L402 <macaroon>:<preimage>` the same request, and others for "
    "the rest of the deposit, are answered. A credential with a preimage gets a challenge again when its session has "
    "ended, and one over a top-up when it is used up."
)
_VERSION: Final = (
    Parameter("anthropic-version", "header", "Passed on.", {"type": "string", "maxLength": 2_000}),
    Parameter("anthropic-beta", "header", "Passed on.", {"type": "string", "maxLength": 2_000}),
)

ASK_ERRORS: Final = (
    *BODY_ERRORS,
    *CREDENTIAL_ERRORS,
    Code.INSUFFICIENT_BALANCE,
    Code.IDEMPOTENCY_CONFLICT,
    Code.MODEL_FAILED,
    Code.OVERLOADED,
)

MESSAGES: Final = Operation(
    id="createMessage",
    tag=LLM,
    summary="Anthropic's Messages API",
    description="The body goes to the provider as it is, but for `max_tokens`, which is lowered to what the balance "
    "covers (`Satmeter-Max-Tokens` says to what); its answer comes back as it is, and its `usage` (in a stream: the "
    "last one) has `cost_msat`, `cost_usd` (before the margin) and `balance_msat` besides. Before the call the most "
    "that it can cost "
    "is put on hold, after it the actual cost is debited, cache reads and writes at their own rates.\n\n"
    "A model whose upstream speaks OpenAI's chat completions gets the call translated, and its answer back; fields "
    "that then have no effect are named in `Satmeter-Ignored`, and what that API can't hold is refused by name.\n\n"
    "Not possible is what has a price that isn't known beforehand: tools that the provider runs, MCP servers, "
    "documents by address, files by their id, fast mode. The provider's `web_search_20250305` is possible where its "
    "model has a `webSearchPer1000Usd`, and with `max_uses`: its fee is held for so many searches, and the model's "
    "context eleven times for what they find.\n\n"
    'With `"stream": true` the provider\'s events come as it sends them, and behind them a comment line with the cost '
    "and the balance. While the model is silent, `event: ping` comes every few seconds; what fails after the head went "
    "out is an `error` event. A whole answer that takes longer than that begins with line breaks, and has its cost in "
    "the body alone; if it fails then, the connection is cut behind the error, and nothing was charged "
    "unless the error says `inDoubt`.\n\n"
    "A refusal without a word costs nothing, nor does what fails before anything was given; a stream that breaks off "
    "costs what was given. "
    "A client that goes away stops the model, and pays for what was used until then: for the prompt at least. An SDK "
    "that gives up and sends the same again gets the answer of its first call.\n\n" + CHALLENGED,
    secured=True,
    challenges=True,
    body=schemas.MessagesRequest,
    error=schemas.MessagesError,
    error_format=anthropic,
    parameters=(*_VERSION, idempotent("one charge and the same answer, to the byte"), SPENDER),
    answers=(Answer(200, "The answer.", {JSON: schemas.Message, sse.MEDIA_TYPE: None}, COST_HEADERS),),
    errors=ASK_ERRORS,
)
COUNT_TOKENS: Final = Operation(
    id="countTokens",
    tag=LLM,
    summary="Count the tokens of a prompt",
    description="The provider's own count, for nothing; an estimate for a model whose upstream does not count. A "
    "session that can spend may ask for some a minute. It takes the action `llm` or `read`.",
    secured=True,
    body=schemas.CountRequest,
    error=schemas.MessagesError,
    error_format=anthropic,
    parameters=_VERSION,
    answers=(Answer(200, "The count.", {JSON: schemas.TokenCount}, ("Request-Id",)),),
    errors=(*BODY_ERRORS, *CREDENTIAL_ERRORS, Code.MODEL_FAILED, Code.OVERLOADED),
)
ASK: Final = Operation(
    id="ask",
    tag=SESSIONS,
    summary="Have a request answered, with the session from the credential",
    description="As POST /sessions/{sessionId}/request.\n\n" + CHALLENGED,
    secured=True,
    challenges=True,
    body=schemas_sessions.NewRequest,
    parameters=(idempotent("one charge and the same answer"), SPENDER),
    answers=(
        Answer(
            200,
            "The answer, or why it was rejected.",
            {JSON: schemas_sessions.RequestResult, sse.MEDIA_TYPE: None},
        ),
    ),
    errors=ASK_ERRORS,
)
