"""Provider client for upstreams that speak Anthropic's Messages API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
import structlog

from ...domain.llm.answers import StreamPart
from ...domain.llm.half_characters import whole_characters
from ...domain.llm.relays import Give, RelayEnd, RelayPart
from ...domain.provider_faults import ModelFault
from ...ports import Completion, Evaluation, MissingModelError, PermanentError, PortError, TransientError
from ..upstream.exchange import Exchanges
from ..upstream.http import HttpClient
from ..upstream.statuses import CLIENT_STATUSES, NOT_FOUND, fault_of, status_error
from ..upstream.verdicts import completion_in
from .answers import listed_models, read_completion, read_evaluation
from .messages import evaluation_message, own_prompt, work_message
from .relay import counted_by, kept_headers, message_end, streamed, whole_end
from .stream import StreamedAnswer

_log = structlog.get_logger(__name__)

# The version that our own calls are written for; relayed calls bring their client's. Source: Anthropic's SDK 2.12.
_VERSION: Final = "2026-10-21"
# The API also says with a 400 that our account there has no credit or has reached its limit.
_OPERATORS_FAULT: Final = re.compile(rb"credit balance|usage limits|billing")
_WORD: Final = re.compile(r"[\w ]{1,80}")
_MESSAGES: Final = "/v1/messages"
_MODELS: Final = "/v1/models?limit=1000"
_MODELS_MAX_BYTES: Final = 8 << 20
_COUNT_TIMEOUT_S: Final = 12.0


class _ErrorKind(msgspec.Struct):
    type: Any = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorKind


class _ClientsFaultError(PermanentError):
    """Refusal of a body by the provider. `end` is its answer, which may quote the body: for the client alone."""

    def __init__(self, message: str, end: RelayEnd) -> None:
        super().__init__(message)
        self.end = end


class AnthropicProvider:
    """Implementation of `ports.Provider`. `base_url` ends before `/v1`; a server may need no key.

    One call is one attempt. Text of a request or an answer is never put into a log or an exception.
    """

    def __init__(self, http: HttpClient, *, base_url: str, key: str | None = None) -> None:
        headers = {"content-type": "application/json", "anthropic-version": _VERSION}
        self._exchanges = Exchanges(http, base_url, headers, _of_status, key)

    def prepare(self) -> None:
        """Return at once: the client needs no time to get ready."""

    async def evaluate(self, request: str, *, model: str) -> Evaluation:
        """Judge a request, as `read_evaluation` reads it. Raises `TransientError` or `PermanentError`."""
        body = msgspec.json.encode(evaluation_message(model, request))
        async with await self._exchanges.post(_MESSAGES, body) as answer:
            return read_evaluation(await answer.body(), model, answer.headers)

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Do the work. Raises `TransientError` or `PermanentError`; see `read_completion`."""
        return await completion_in(self.stream(request, model=model, max_tokens=max_tokens))

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Do the work piece by piece. Raises `TransientError` or `PermanentError`, also in the middle.

        Ending it before its end, by `aclose` or by cancelling the task that waits for it, ends the HTTP exchange.
        """
        body = msgspec.json.encode(work_message(model, max_tokens, request, stream=True))
        async with await self._exchanges.post(_MESSAGES, body) as answer:
            if answer.whole:
                # A server that does not know `stream` answers so.
                yield read_completion(await answer.body(), model, answer.headers)
                return
            written = StreamedAnswer(model, answer.headers)
            while not written.ended:
                for part in written.read(await answer.chunk()):
                    yield part
            await answer.read_up()
        yield written.completion()

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """Pass a call on as it is. Raises `PortError`, also in the middle; ends as `stream` does."""
        try:
            async with await self._exchanges.post(
                f"{_MESSAGES}?beta=true" if beta else _MESSAGES, body, headers
            ) as answer:
                if not stream:
                    yield message_end(answer.status, answer.headers, await answer.body())
                    return
                async with aclosing(streamed(answer.headers, answer.chunks(), answer.flow(give))) as parts:
                    async for part in parts:
                        yield part
        except _ClientsFaultError as error:
            yield error.end

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Have the API count a prompt. Raises `PortError`."""
        path = f"{_MESSAGES}/count_tokens" + ("?beta=true" if beta else "")
        try:
            async with asyncio.timeout(_COUNT_TIMEOUT_S), await self._exchanges.post(path, body, headers) as answer:
                return whole_end(answer.status, answer.headers, await answer.body())
        except _ClientsFaultError as error:
            return error.end
        except TimeoutError:
            raise TransientError("the model provider's count took too long") from None

    async def prompt_tokens(self, request: str, *, model: str, max_tokens: int | None) -> int:
        """Have the API count a prompt of ours. Raises `PortError`."""
        return counted_by(await self.count_tokens(own_prompt(request, model, max_tokens), {}, beta=False))

    async def models(self) -> Sequence[str] | None:
        """Return the names of the API's models; None where the answer is not a list of them. Raises `PortError`."""
        try:
            async with await self._exchanges.get(_MODELS) as answer:
                return listed_models(await answer.body(_MODELS_MAX_BYTES))
        except MissingModelError:
            return None

    async def close(self) -> None:
        """End connections."""
        await self._exchanges.close()


def _of_status(status: int, headers: Mapping[str, str], body: bytes) -> PortError:
    """Return the API's error by its status. Its text is left out: it may quote the request."""
    # Such a quotation may end in the middle of a character.
    body = whole_characters(body)
    words = (f"the model provider answered {status}", _kind_of(body), headers.get("request-id"))
    told = " ".join(word for word in words if word and _WORD.fullmatch(word))
    fault = fault_of(status)
    if status in CLIENT_STATUSES and _OPERATORS_FAULT.search(body):
        fault = ModelFault.REFUSED
    if fault is ModelFault.REFUSED or status == NOT_FOUND:
        _log.error("model_provider_refuses_us", status=status, hint="check the upstream's key, credit and models")
    if fault is None and status in CLIENT_STATUSES and headers.get("x-should-retry") != "true":
        return _ClientsFaultError(told, RelayEnd(status, kept_headers(headers), body, None))
    return status_error(told, status, headers, fault)


def _kind_of(body: bytes) -> str | None:
    try:
        kind = msgspec.json.decode(body, type=_ErrorBody).error.type
    except (ValueError, RecursionError):
        return None
    return kind if isinstance(kind, str) else None
