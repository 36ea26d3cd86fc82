"""Chat completions over an upstream that speaks them: the bytes go through, with only what must change."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.answers import Ending
from ...actors.domain.llm.relays import RelayBytes
from ...actors.domain.session.messages import Relayed
from ..anthropic.relay import RelayStream, broken_refusal, cost_comment, cost_fields
from ..anthropic.usage import with_cost
from ..request_facts import RequestFacts
from ..translation.provider_errors import of_passed_chat
from ..translation.relaying import Dialect
from ..translation.request import user_digest
from ..upstreams.chat_call import ChatBody
from ..upstreams.error_events import ErrorEvents
from ..upstreams.provider_call import ProviderCall
from ..upstreams.served_models import ServedModels
from .errors import error_chunk
from .passed_chunks import PassedChunks
from .stream import DONE, data


class ChatOverChat(Dialect[ChatBody]):
    """The dialect of POST /v1/chat/completions, over an upstream that speaks it."""

    def asked(self, body: bytes, models: ServedModels, user_key: bytes) -> ChatBody:
        """Read a request. Raises `RefusedError` (400)."""
        return ChatBody(body, models, partial(user_digest, user_key))

    def call(self, asked: ChatBody, default_tokens: int, models: ServedModels) -> ProviderCall:
        """Return the call."""
        return asked.call(default_tokens)

    def whole(self, asked: ChatBody, answer: Relayed) -> bytes:
        """Return the upstream's answer, with the cost in its usage."""
        return with_cost(answer.body, cost_fields(answer))

    async def events(
        self, asked: ChatBody, stream: RelayStream, model: str, facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        """Yield the upstream's chunks, then the cost, then OpenAI's end mark. SDKs read nothing after the mark."""
        chunks, failing = PassedChunks(tells_usage=asked.tells_usage), ErrorEvents(named=False)
        try:
            async for part in stream.parts:
                if isinstance(part, RelayBytes):
                    if ready := failing.pass_on(chunks.read(part.data)):
                        yield ready
                elif part.status >= 400:
                    told = self.error(part.status, part.body, facts.request_id)
                    yield cost_comment(part) + data(told)
                elif part.ending is Ending.BROKEN:
                    ready = failing.pass_on(chunks.end(cost_fields(part), whole=part.told))
                    failed = failing.end(broken_refusal(part), facts, error_chunk)
                    yield ready + cost_comment(part) + failed + (DONE if chunks.done else b"")
                else:
                    yield failing.release() + chunks.end(cost_fields(part)) + cost_comment(part) + DONE
        except RefusedError as error:
            yield failing.end(error, facts, error_chunk)
        finally:
            await stream.parts.aclose()

    def refused(self, asked: ChatBody, told: Mapping[str, Any], model: str, at_s: int, request_id: str) -> bytes:
        """Return the event of a refusal."""
        return data(told)

    def error(self, status: int, body: bytes, request_id: str) -> dict[str, Any]:
        """Return the body of an error from the upstream's refusal."""
        return of_passed_chat(status, body, request_id)
