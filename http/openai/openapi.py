"""OpenAPI operations of the paths that speak OpenAI's API."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from ..anthropic.openapi import ASK_ERRORS, CHALLENGED, COST_HEADERS
from ..openapi.operation import JSON, LLM, SPENDER, Answer, Operation, Parameter, idempotent, json_answer
from ..response import sse
from . import model_schemas, schemas

CHAT: Final = Operation(
    id="createChatCompletion",
    tag=LLM,
    summary="OpenAI's chat completions",
    description="Translated to the provider's API and paid for as a call of that: messages, tools and their results, "
    "images by URL or data URL, PDFs as data URLs, stop sequences, JSON schemas, streaming.\n\n"
    "What would change the answer and can't be done is refused by its name: more than one choice (`n`), `logprobs`, "
    "`logit_bias`, sound, `functions`. What has no effect is named in the header `Satmeter-Ignored`: `seed`, "
    "penalties, `temperature` and `top_p` with models that don't take them, and so is what stands further in "
    "(`messages[].name`, `tools[].zip`). `cache_control` marks a prompt for the provider's cache, on a message, a part "
    "of one, a tool, or the request; four places at most. All instructions go to the system "
    "prompt, wherever among the messages they stand.\n\n"
    'With `"stream": true` the cost and the balance come in a comment line before `data: [DONE]`; '
    "`stream_options.include_usage` adds a last chunk with the tokens and the cost. While the model is "
    "silent, comments come every few seconds; what fails after the head went out is an event with `error`. A whole "
    "answer that takes longer than that begins with line breaks, and has its cost in `usage` alone "
    "(`cost_msat`, `cost_usd`, `balance_msat`); if it fails then, the connection is cut behind the error, and "
    "nothing was charged unless the error says `inDoubt`.\n\n"
    "A refusal without a word costs nothing, nor does what fails before anything was given; a stream that breaks off "
    "costs what was given. "
    "A client that goes away stops the model, and pays for what was used until then: for the prompt at least. An SDK "
    "that gives up and sends the same again gets the answer of its first call.\n\n" + CHALLENGED,
    secured=True,
    challenges=True,
    body=schemas.ChatRequest,
    error=schemas.ChatError,
    parameters=(idempotent("one charge and the same answer, to the byte"), SPENDER),
    answers=(
        Answer(
            200,
            "The answer.",
            {JSON: schemas.ChatCompletion, sse.MEDIA_TYPE: None},
            (*COST_HEADERS, "Satmeter-Ignored"),
        ),
    ),
    errors=ASK_ERRORS,
)
MODELS: Final = Operation(
    id="listModels",
    tag=LLM,
    summary="List the models with their prices",
    description="In the shapes of OpenAI's and Anthropic's lists at once. Needs no credential. Prices are those at the "
    "present exchange rate.",
    parameters=(Parameter("client_version", "query", "Sent by OpenAI's Codex.", {"type": "string"}),),
    answers=json_answer("All models.", model_schemas.Models),
    error=schemas.ChatError,
)
MODEL: Final = Operation(
    id="getModel",
    tag=LLM,
    summary="See one model with its prices",
    description="A dated version of a model is that model.",
    parameters=(Parameter("modelId", "path", "The model's name.", {"type": "string"}, required=True),),
    answers=json_answer("The model.", model_schemas.Model),
    errors=(Code.MODEL_NOT_FOUND,),
    error=schemas.ChatError,
)
