"""OpenAPI operations of the paths that speak OpenAI's Responses API."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from ..anthropic.openapi import ASK_ERRORS, CHALLENGED, COST_HEADERS, CREDENTIAL_ERRORS
from ..openai.schemas import ChatError
from ..openapi.operation import BODY_ERRORS, JSON, LLM, SPENDER, Answer, Operation, idempotent
from ..response import sse
from . import schemas

RESPONSES: Final = Operation(
    id="createResponse",
    tag=LLM,
    summary="OpenAI's Responses API",
    description="Translated to the API of the model's upstream and paid for as a call of that: input as text or items, "
    "function tools, custom tools, namespaces of tools, JSON schemas, images, reasoning, streaming.\n\n"
    "Nothing is remembered: `store` is taken as false, and `previous_response_id`, `conversation`, `background` and "
    "`prompt` are refused by name, as are files by their id, `logprobs` and tools that the provider would run. "
    "`web_search` and `image_generation` are left out, and named in `Satmeter-Ignored` with all else that has no "
    'effect. With `include: ["reasoning.encrypted_content"]` thoughts come with what the provider needs back: send '
    "the items as they came in the next request's `input`, to the same model. All instructions go to the system "
    "prompt, wherever among the items they stand. Models behind chat completions take no files but images.\n\n"
    'With `"stream": true` every event has a `type` and a `sequence_number`, and the last one the whole response with '
    "its cost in `usage`; a comment line before it has the cost, too. While the model is silent, comments come "
    "every few seconds; what fails after the head went out is an `error` event and then `response.failed`. A whole "
    "answer that takes longer than that begins with line breaks; if it fails then, the connection is cut behind the "
    "error, and nothing was charged.\n\n"
    "A refusal without a word costs nothing, nor does what fails before anything was given; a stream that breaks off "
    "costs what was given. "
    "A client that goes away stops the model, and pays for what was used until then: for the prompt at least.\n\n"
    + CHALLENGED,
    secured=True,
    challenges=True,
    body=schemas.ResponsesRequest,
    error=ChatError,
    parameters=(idempotent("one charge and the same answer, to the byte"), SPENDER),
    answers=(
        Answer(
            200,
            "The response.",
            {JSON: schemas.ResponseResource, sse.MEDIA_TYPE: None},
            (*COST_HEADERS, "Satmeter-Ignored"),
        ),
    ),
    errors=ASK_ERRORS,
)
INPUT_TOKENS: Final = Operation(
    id="countInputTokens",
    tag=LLM,
    summary="Count the tokens of a response's input",
    description="The provider's own count, or an estimate where the model's upstream does not count, for nothing; a "
    "session that can spend may ask for some a minute. It takes the action `llm` or `read`.",
    secured=True,
    body=schemas.InputTokensRequest,
    error=ChatError,
    answers=(Answer(200, "The count.", {JSON: schemas.InputTokens}, ("Request-Id",)),),
    errors=(*BODY_ERRORS, *CREDENTIAL_ERRORS, Code.MODEL_FAILED, Code.OVERLOADED),
)
