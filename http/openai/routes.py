"""Route of OpenAI's chat completions, paid for from a session, and translated to calls of the Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.answers import Ending
from ...actors.domain.llm.relays import RelayBytes
from ...actors.domain.session.messages import Relayed
from ..anthropic.relay import RelayStream, broken_refusal, cost_comment, cost_fields
from ..request_facts import RequestFacts
from ..translation.provider_errors import of_provider
from ..translation.relaying import OverMessages
from ..upstreams.served_models import ServedModels
from .answer import completion
from .errors import error_chunk
from .request import Asked, asked_of
from .stream import DONE, ChatStream, data


class Chat(OverMessages[Asked]):
    """The dialect of POST /v1/chat/completions, over the Messages API."""

    def asked(self, body: bytes, models: ServedModels, user_key: bytes) -> Asked:
        """Translate a request. Raises `RefusedError` (400)."""
        return asked_of(body, models, user_key)

    def whole(self, asked: Asked, answer: Relayed) -> bytes:
        """Translate a whole answer. Raises `UnreadableAnswerError`."""
        return completion(answer.body, answer.at_ms // 1_000, cost_fields(answer))

    async def events(
        self, asked: Asked, stream: RelayStream, model: str, facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        """Yield the chunks, then the cost, then OpenAI's end mark. SDKs read nothing after the mark."""
        chat = ChatStream(model, stream.head.at_ms // 1_000, include_usage=asked.include_usage)
        try:
            async for part in stream.parts:
                if isinstance(part, RelayBytes):
                    if chunks := chat.read(part.data):
                        yield chunks
                    continue
                if part.status >= 400:
                    yield cost_comment(part) + data(of_provider(part.status, part.body, facts.request_id))
                    return
                if part.ending is Ending.BROKEN:
                    yield cost_comment(part) + error_chunk(broken_refusal(part), facts)
                    return
                yield chat.end(cost_fields(part)) + cost_comment(part) + DONE
        except RefusedError as error:
            yield error_chunk(error, facts)
        finally:
            await stream.parts.aclose()

    def refused(self, asked: Asked, told: Mapping[str, Any], model: str, at_s: int, request_id: str) -> bytes:
        """Return the event of a refusal."""
        return data(told)
