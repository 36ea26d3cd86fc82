"""Refusals of a request by an upstream, in OpenAI's error format."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from ...actors.domain.errors import Code, Refusal
from ..request_facts import RequestFacts
from ..response.advice import advice_of
from ..response.error_formats import CONTEXT_LENGTH, context_length, openai_type, prompt_length
from ..upstreams.chat_errors import refusal_of

# How the Messages API says that a prompt does not fit. Clients of OpenAI's APIs know it by a code, or by its words.
_TOO_LONG: Final = ("prompt is too long", "input length and `max_tokens` exceed")
_PROMPT_AND_ANSWER: Final = re.compile(
    r"input length and `max_tokens` exceed[^:]*: (\d{1,12}) \+ (\d{1,12}) > (\d{1,12})"
)


class _ProviderError(msgspec.Struct):
    type: str = ""
    message: str = ""


class _ProviderAnswer(msgspec.Struct):
    error: _ProviderError


def of_provider(status: int, body: bytes, request_id: str) -> dict[str, Any]:
    """Return the error body for a refusal of the Messages API, with this server's own fields beside OpenAI's."""
    try:
        found = msgspec.json.decode(body, type=_ProviderAnswer).error
    except (ValueError, RecursionError):
        found = _ProviderError()
    message = found.message or "The model provider does not take this request."
    too_long = found.message.startswith(_TOO_LONG) or status == 413
    kind = CONTEXT_LENGTH if too_long else found.type or None
    message = _at_openai(message)
    error = {"message": message, "type": openai_type(status), "param": None, "code": kind}
    return {"error": error, **own_fields(status, message, request_id)}


def own_fields(status: int, message: str, request_id: str) -> dict[str, Any]:
    """Return this server's own fields for a refusal of the provider, with its advice."""
    code = Code.BODY_TOO_LARGE if status == 413 else Code.INVALID_REQUEST
    advice = advice_of(Refusal(code, message), RequestFacts(request_id, pays=True))
    # A path that the provider names may be one of a translated body, which the client did not send.
    fields = {} if status == 413 else {"fields": [{"path": "", "message": message}]}
    return {"code": code.value, "requestId": request_id, **advice, **fields}


def _at_openai(message: str) -> str:
    """Return OpenAI's sentence for a prompt that is too long; other sentences as they are."""
    if lengths := prompt_length(message):
        return context_length(lengths[1], lengths[0])
    if found := _PROMPT_AND_ANSWER.match(message):
        prompt, answer, most = (int(number) for number in found.groups())
        return _too_long(prompt, answer, most)
    return message


def _too_long(prompt: int, answer: int, most: int) -> str:
    return (
        f"This model's maximum context length is {most} tokens. However, you requested {prompt + answer} tokens "
        f"({prompt} in the messages, {answer} in the completion). Please reduce the length of the messages or "
        "completion."
    )


def of_chat(status: int, body: bytes, request_id: str) -> dict[str, Any]:
    """Return the error body for a refusal of chat completions, whose servers each have words of their own.

    The field that it names is one of the translated body, which the client did not send.
    """
    found = refusal_of(body)
    message, kind = found.message, found.code or found.kind
    if found.too_long or status == 413:
        kind = CONTEXT_LENGTH
        if found.prompt_tokens and found.context_tokens:
            message = (
                _too_long(found.prompt_tokens, found.answer_tokens, found.context_tokens)
                if found.answer_tokens
                else context_length(found.context_tokens, found.prompt_tokens)
            )
    error = {"message": message, "type": openai_type(status), "param": None, "code": kind}
    return {"error": error, **own_fields(status, message, request_id)}


def of_passed_chat(status: int, body: bytes, request_id: str) -> dict[str, Any]:
    """Return the error body for a refusal of chat completions, where the client's body went on as it was."""
    told = of_chat(status, body, request_id)
    found = refusal_of(body)
    kind = found.kind or told["error"]["type"]
    return {**told, "error": {**told["error"], "type": kind, "param": found.param}}
