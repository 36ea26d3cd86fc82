"""Provider client for upstreams that speak OpenAI's chat completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, TypeVar

import msgspec
import structlog

from ...domain.llm.answers import StreamPart
from ...domain.llm.catalogue import chat_limit_field
from ...domain.llm.relays import Give, RelayEnd, RelayPart, countable
from ...ports import (
    Completion,
    Evaluation,
    MissingModelError,
    ModelError,
    NotCountedError,
    PermanentError,
    PortError,
    TransientError,
)
from ..upstream.exchange import Exchanges
from ..upstream.http import HttpClient
from ..upstream.verdicts import completion_in, completion_of, verdict_of
from .errors import ClientsFaultError, failure
from .messages import evaluation_body, work_body
from .relay import streamed, whole_end
from .work import Work, WorkReader, work_in

T = TypeVar("T")

_COUNT_TIMEOUT_S: Final = 4.0
_MODELS_MAX_BYTES: Final = 8 << 20
_CHAT: Final = "/chat/completions"
# llama.cpp's; others answer that there is no such path.
_COUNT: Final = "/chat/completions/input_tokens"
_log = structlog.get_logger(__name__)


class _Listed(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Listed]


class OpenAiProvider:
    """Implementation of `ports.Provider`. `base_url` ends before `/chat/completions`; a server may need no key.

    One call is one attempt. Text of a request or an answer is never put into a log or an exception.
    """

    def __init__(self, http: HttpClient, *, base_url: str, key: str | None = None) -> None:
        self._limit_field = chat_limit_field(base_url)
        headers = {"content-type": "application/json"}
        self._exchanges = Exchanges(http, base_url, headers, _of_status, key)
        # Most servers have no path for counts: their refusal is for no operator to mend.
        self._counting = Exchanges(http, base_url, headers, partial(_of_status, expected=True), key)
        self._counts = True

    def prepare(self) -> None:
        """Return at once: the client needs no time to get ready."""

    async def evaluate(self, request: str, *, model: str) -> Evaluation:
        """Judge a request, as `verdict_of` reads it. Raises `PortError`.

        A server that does not heed the schema gives no verdict, and so a `TransientError`.
        """
        async with aclosing(self._written(evaluation_body(model, request, self._limit_field))) as parts:
            async for part in parts:
                if isinstance(part, Work):
                    verdict = verdict_of(part.text, part.stop_reason)
                    return Evaluation(verdict, model, part.usage, part.reported)
        raise TransientError("the evaluation's answer has no end")

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Do the work. Raises `PortError`; see `completion_of`."""
        return await completion_in(self.stream(request, model=model, max_tokens=max_tokens))

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Do the work piece by piece. Raises `PortError`, also in the middle.

        Ending it before its end, by `aclose` or by cancelling the task that waits for it, ends the HTTP exchange.
        """
        async with aclosing(self._written(work_body(model, max_tokens, request, self._limit_field))) as parts:
            async for part in parts:
                if isinstance(part, Work):
                    done = completion_of(part.text, model, part.usage, part.stop_reason, part.reported)
                    yield msgspec.structs.replace(done, given_bytes=0 if part.usage else part.given_bytes)
                else:
                    yield part

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """Pass a call on as it is. Raises `PortError`, also in the middle; ends as `stream` does."""
        try:
            async with await self._exchanges.post(_CHAT, body) as answer:
                if not stream:
                    yield whole_end(answer.headers, await answer.body())
                    return
                async with aclosing(streamed(answer.headers, answer.chunks(), answer.flow(give))) as parts:
                    async for part in parts:
                        yield part
        except ClientsFaultError as error:
            yield error.end

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Have a prompt counted by a server that counts. Raises `PortError`; `NotCountedError` if it does not.

        A server that has once answered that it does not is not asked again.
        """
        if not self._counts:
            raise NotCountedError("the upstream does not count prompts")
        try:
            async with asyncio.timeout(_COUNT_TIMEOUT_S), await self._counting.post(_COUNT, countable(body)) as answer:
                end = RelayEnd(200, {"content-type": "application/json"}, await answer.body(), None)
        except TimeoutError:
            raise TransientError("the upstream's count took too long") from None
        except MissingModelError:
            raise self._does_not_count() from None
        except (ModelError, PermanentError) as error:
            # Some gateways refuse a path that they don't know with a 403; that says nothing about our calls.
            raise NotCountedError(f"the upstream did not count a prompt: {error}") from None
        if end.counted is None:
            raise self._does_not_count()
        return msgspec.structs.replace(end, body=msgspec.json.encode({"input_tokens": end.counted}))

    def _does_not_count(self) -> NotCountedError:
        self._counts = False
        _log.info("upstream_does_not_count_prompts")
        return NotCountedError("the upstream does not count prompts")

    async def prompt_tokens(self, request: str, *, model: str, max_tokens: int | None) -> int:
        """Have a prompt of ours counted. Raises as `count_tokens`."""
        body = evaluation_body(model, request) if max_tokens is None else work_body(model, max_tokens, request)
        counted = (await self.count_tokens(body, {}, beta=False)).counted
        assert counted is not None
        return counted

    async def models(self) -> Sequence[str] | None:
        """Return the names in the server's list of models; None where it has none. Raises `PortError`."""
        try:
            async with await self._exchanges.get("/models") as answer:
                body = await answer.body(_MODELS_MAX_BYTES)
        except MissingModelError:
            return None
        try:
            return [entry.id for entry in msgspec.json.decode(body, type=_Models).data]
        except (ValueError, RecursionError):
            return None

    async def close(self) -> None:
        """End connections."""
        await self._exchanges.close()

    async def _written(self, body: bytes) -> AsyncGenerator[StreamPart | Work, None]:
        """Yield the parts of the answer to a call of ours; the `Work` ends it. Raises `PortError`."""
        async with await self._exchanges.post(_CHAT, body) as answer:
            if answer.whole:
                # A server that does not know `stream` answers so.
                yield work_in(await answer.body(), answer.headers)
                return
            reader = WorkReader(answer.headers)
            while reader.work is None:
                for part in reader.read(await answer.chunk()):
                    yield part
            await answer.read_up()
        yield reader.work


def _of_status(status: int, headers: Mapping[str, str], body: bytes, *, expected: bool = False) -> PortError:
    """Return the error of any status but 200. A redirect and a wrong method say that the address is wrong."""
    if 300 <= status < 400 or status == 405:
        return MissingModelError(f"the upstream answered {status}: its address may be wrong")
    if status < 300:
        return TransientError(f"the upstream answered {status}")
    return failure(status, headers, body, expected=expected)
