"""The dialect of POST /v1/responses, over each API that upstreams speak."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from ...actors.domain.errors import Code, RefusedError
from ...actors.domain.llm.answers import Ending
from ...actors.domain.llm.chat_prompt import estimated_prompt
from ...actors.domain.llm.relays import RelayBytes, countable
from ...actors.domain.session.messages import Relayed
from ..anthropic.body import read_count
from ..anthropic.relay import RelayStream, broken_refusal, cost_comment, cost_fields
from ..request_facts import RequestFacts
from ..response import errors
from ..response.error_formats import CONTEXT_LENGTH, openai
from ..translation.provider_errors import of_chat
from ..translation.relaying import Dialect, OverMessages, Translated
from ..translation.request import user_digest
from ..upstreams.provider_call import ProviderCall
from ..upstreams.served_models import ServedModels
from . import answer as from_messages
from .events import Events
from .over_chat import answer as from_chat
from .over_chat.request import Asked as AskedOfChat
from .over_chat.request import chat_of
from .over_chat.stream import ChatResponseStream
from .reading import read_request
from .request import Asked, asked_of
from .stream import ResponseStream

AskedT = TypeVar("AskedT", bound=Translated)
# Source: the codes of a failed response in OpenAI's own SDK.
_CODES: Final[Mapping[Code, str]] = {
    Code.RATE_LIMITED: "rate_limit_exceeded",
    Code.INVALID_REQUEST: "invalid_prompt",
    Code.BODY_TOO_LARGE: "invalid_prompt",
}


class Responding(Dialect[AskedT]):
    """The events of a response, whichever API they come from.

    Codex shortens its conversation only where a stream says that it is too long: it takes a 400 for a mistake.
    """

    tells_length_in_stream = True

    @abstractmethod
    def counted(self, asked: AskedT, models: ServedModels) -> tuple[str, bytes]:
        """Return the model and the body of a count of the prompt. Raises `RefusedError` (400)."""

    def estimate(self, asked: AskedT) -> int | None:
        """Return an estimate of the prompt, for an upstream that does not count; None if all do."""
        return None

    @abstractmethod
    def made(self, asked: AskedT, model: str, created_s: int, fallback_id: str) -> Events:
        """Return the events of an answer that has not begun. `fallback_id` is its id if it never does."""

    async def events(
        self, asked: AskedT, stream: RelayStream, model: str, facts: RequestFacts
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events, with the cost before the last one: clients read nothing after that."""
        made = self.made(asked, model, stream.head.at_ms // 1_000, facts.request_id)
        try:
            async for part in stream.parts:
                if isinstance(part, RelayBytes):
                    if events := made.read(part.data):
                        yield events
                    continue
                cost = cost_fields(part)
                if part.status >= 400:
                    told = self.error(part.status, part.body, facts.request_id)
                elif part.ending is Ending.BROKEN:
                    told = _told(broken_refusal(part), facts)
                else:
                    yield cost_comment(part) + made.end(cost)
                    return
                yield cost_comment(part) + _failed(made, told, cost)
        except RefusedError as error:
            yield _failed(made, _told(error, facts), {})
        finally:
            await stream.parts.aclose()

    def refused(self, asked: AskedT, told: Mapping[str, Any], model: str, at_s: int, request_id: str) -> bytes:
        """Return the events of a response that failed before it began."""
        return _failed(self.made(asked, model, at_s, request_id), told, {})


class ResponsesOverMessages(Responding[Asked], OverMessages[Asked]):
    """The dialect over the Messages API."""

    def asked(self, body: bytes, models: ServedModels, user_key: bytes) -> Asked:
        """Translate a request. Raises `RefusedError` (400)."""
        return asked_of(body, models, user_key)

    def whole(self, asked: Asked, answer: Relayed) -> bytes:
        """Translate a whole answer. Raises `UnreadableAnswerError`."""
        return from_messages.response(answer.body, asked.wanted, answer.at_ms // 1_000, cost_fields(answer))

    def counted(self, asked: Asked, models: ServedModels) -> tuple[str, bytes]:
        """Return the model and the body of a count. Raises `RefusedError` (400)."""
        return read_count(countable(asked.encoded(1)), models)

    def made(self, asked: Asked, model: str, created_s: int, fallback_id: str) -> ResponseStream:
        """Return the events."""
        return ResponseStream(asked.wanted, model, created_s, fallback_id)


class ResponsesOverChat(Responding[AskedOfChat]):
    """The dialect over chat completions."""

    def asked(self, body: bytes, models: ServedModels, user_key: bytes) -> AskedOfChat:
        """Translate a request. Raises `RefusedError` (400)."""
        given = read_request(body)
        entry = models.named(given.asked.model)
        return chat_of(given, entry, models.limit_field(entry), partial(user_digest, user_key))

    def call(self, asked: AskedOfChat, default_tokens: int, models: ServedModels) -> ProviderCall:
        """Return the call. Raises `RefusedError` (400)."""
        return asked.call(default_tokens)

    def whole(self, asked: AskedOfChat, answer: Relayed) -> bytes:
        """Translate a whole answer. Raises `UnreadableAnswerError`."""
        model, created_s = asked.entry.name, answer.at_ms // 1_000
        return from_chat.response(answer.body, asked.wanted, model, created_s, cost_fields(answer))

    def error(self, status: int, body: bytes, request_id: str) -> dict[str, Any]:
        """Return the body of an error."""
        return of_chat(status, body, request_id)

    def counted(self, asked: AskedOfChat, models: ServedModels) -> tuple[str, bytes]:
        """Return the model and the body of a count. Raises `RefusedError` (400)."""
        return asked.entry.name, countable(asked.call(1).body.data)

    def estimate(self, asked: AskedOfChat) -> int:
        """Return an estimate."""
        return estimated_prompt(asked.body, asked.entry.upstream_model).tokens

    def made(self, asked: AskedOfChat, model: str, created_s: int, fallback_id: str) -> ChatResponseStream:
        """Return the events."""
        return ChatResponseStream(asked.wanted, model, created_s, fallback_id)


def _told(error: RefusedError, facts: RequestFacts) -> dict[str, Any]:
    body = errors.body_of(error.refusal, facts)
    return openai(errors.STATUS[error.refusal.code], body)


def _failed(made: Events, told: Mapping[str, Any], cost: Mapping[str, int | str]) -> bytes:
    """Return the events of a failure, whose `error` has the fields of an error body, flat and as SDKs raise them."""
    code = Code(told["code"])
    event = {**told, "code": told["error"]["code"], "message": told["error"]["message"]}
    kind = CONTEXT_LENGTH if event["code"] == CONTEXT_LENGTH else _CODES.get(code, "server_error")
    return made.fail(event, kind, cost)
