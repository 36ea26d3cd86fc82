"""The Messages API over an upstream that speaks chat completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any

import msgspec

from ....actors.domain.errors import RefusedError
from ....actors.domain.llm.answers import Ending
from ....actors.domain.llm.relays import RelayBytes
from ....actors.domain.session.messages import Relayed
from ...request_facts import RequestFacts
from ...response import sse
from ...response.error_formats import PROMPT_TOKENS, PROMPT_TOKENS_MAX, anthropic
from ...translation.provider_errors import own_fields
from ...translation.relaying import Dialect
from ...translation.request import user_digest
from ...upstreams.chat_errors import ChatRefusal, refusal_of
from ...upstreams.provider_call import ProviderCall
from ...upstreams.served_models import ServedModels
from ..relay import RelayStream, broken_refusal, cost_comment, cost_fields
from ..stream_events import PING, error_event
from .answer import MessageStream, message
from .request import Asked, chat_of


class MessagesOverChat(Dialect[Asked]):
    """The dialect of POST /v1/messages, over chat completions."""

    ping = PING

    def asked(self, body: bytes, models: ServedModels, user_key: bytes) -> Asked:
        """Translate a request. Raises `RefusedError` (400)."""
        return chat_of(body, models, partial(user_digest, user_key))

    def call(self, asked: Asked, default_tokens: int, models: ServedModels) -> ProviderCall:
        """Return the call. Raises `RefusedError` (400)."""
        return asked.call(default_tokens)

    def whole(self, asked: Asked, answer: Relayed) -> bytes:
        """Translate a whole answer. Raises `UnreadableAnswerError`."""
        return message(answer.body, asked, answer.cost.usage, cost_fields(answer))

    async def events(
        self, asked: Asked, stream: RelayStream, model: str, facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events, and then the cost."""
        made = MessageStream(asked)
        try:
            async for part in stream.parts:
                if isinstance(part, RelayBytes):
                    if events := made.read(part.data):
                        yield events
                elif part.status >= 400:
                    told = self.error(part.status, part.body, facts.request_id)
                    yield sse.event("error", msgspec.json.encode(told)) + cost_comment(part)
                elif part.ending is Ending.BROKEN:
                    yield error_event(broken_refusal(part), facts) + cost_comment(part)
                else:
                    yield made.end(part.cost.usage, cost_fields(part)) + cost_comment(part)
        except RefusedError as error:
            yield error_event(error, facts)
        finally:
            await stream.parts.aclose()

    def refused(self, asked: Asked, told: Mapping[str, Any], model: str, at_s: int, request_id: str) -> bytes:
        """Return the event of a refusal."""
        return sse.event("error", msgspec.json.encode(told))

    def error(self, status: int, body: bytes, request_id: str) -> dict[str, Any]:
        """Return the body of an error from the upstream's refusal, in the words by which programs know it."""
        found = refusal_of(body)
        text, figures = _words(found)
        return anthropic(status, {"error": text, **own_fields(status, text, request_id), **figures})


def _words(found: ChatRefusal) -> tuple[str, dict[str, int]]:
    """Return the sentence, and the figures of a prompt that is too long, with which the sentence begins elsewhere."""
    if not found.too_long:
        return found.message, {}
    prompt, answer, most = found.prompt_tokens, found.answer_tokens, found.context_tokens
    if prompt and answer and most and prompt <= most:
        limit = f"input length and `max_tokens` exceed context limit: {prompt} + {answer} > {most}"
        return f"{limit}, decrease input length or `max_tokens` and try again", {}
    if prompt and most:
        return found.message, {PROMPT_TOKENS: prompt, PROMPT_TOKENS_MAX: most}
    return f"prompt is too long: {found.message}", {}
