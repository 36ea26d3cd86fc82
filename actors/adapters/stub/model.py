"""Stub model without HTTP between: the server's own, when it has no provider's key.

It sends the same bodies and reads the same answers as `AnthropicProvider`, so that all but HTTP is as it is with a real
model.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx2
import msgspec

from ...domain.llm.answers import StreamPart
from ...domain.llm.relays import Give, RelayEnd, RelayPart
from ...domain.provider_faults import ModelFault
from ...ports import Completion, Evaluation, ModelError
from ..anthropic.answers import read_completion, read_evaluation
from ..anthropic.messages import evaluation_message, own_prompt, work_message
from ..anthropic.relay import counted_by, streamed, whole_end
from ..anthropic.stream import StreamedAnswer
from .messages_api import StubMessagesApi, headers_of


class StubProvider:
    """Implementation of `ports.Provider`. Its rules are those of `StubMessagesApi`."""

    def __init__(self, api: StubMessagesApi) -> None:
        self._api = api

    def prepare(self) -> None:
        """Return at once: the stub is always ready."""

    async def evaluate(self, request: str, *, model: str) -> Evaluation:
        """Judge a request by the stub's rules. Raises `TransientError`."""
        answer, headers = await self._whole(evaluation_message(model, request))
        return read_evaluation(answer, model, headers)

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Make an answer up. Raises `TransientError`, `PermanentError`."""
        answer, headers = await self._whole(work_message(model, max_tokens, request))
        return read_completion(answer, model, headers)

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Make an answer up, piece by piece. Raises as `complete` does, also in the middle."""
        answer = StreamedAnswer(model)
        async with aclosing(await self._api.events(work_message(model, max_tokens, request, stream=True))) as events:
            async for event in events:
                for part in answer.read(event):
                    yield part
        yield answer.completion()

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """Answer a call in the stub's own way, all of it in parts. Raises `TransientError`."""
        response = await self._exchange("/v1/messages", body)
        if response.status_code >= 400 or not stream:
            yield whole_end(response.status_code, response.headers, await response.aread())
            return
        async with aclosing(response.aiter_raw()) as chunks, aclosing(streamed(response.headers, chunks)) as parts:
            async for part in parts:
                yield part

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Count a prompt by the stub's rule. Raises `TransientError`."""
        response = await self._exchange("/v1/messages/count_tokens", body)
        return whole_end(response.status_code, response.headers, await response.aread())

    async def prompt_tokens(self, request: str, *, model: str, max_tokens: int | None) -> int:
        """Count a prompt of ours by the stub's rule. Raises `TransientError`."""
        body = own_prompt(request, model, max_tokens)
        return counted_by(await self.count_tokens(body, {}, beta=False))

    async def models(self) -> None:
        """Return None: the stub knows every model."""

    async def close(self) -> None:
        """Return at once: the stub has no connections."""

    async def _exchange(self, path: str, body: bytes) -> httpx2.Response:
        response = await self._api.handle_async_request(httpx2.Request("POST", f"http://stub{path}", content=body))
        if response.status_code >= 500:
            raise ModelError("the stub model plays a bad day", ModelFault.FAILING)
        return response

    async def _whole(self, message: Mapping[str, Any]) -> tuple[bytes, Mapping[str, str]]:
        answer = await self._api.whole(message)
        if answer is None:
            raise ModelError("the stub model plays a bad day", ModelFault.FAILING)
        return msgspec.json.encode(answer), headers_of(answer)
