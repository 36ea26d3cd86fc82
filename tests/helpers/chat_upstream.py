"""An upstream of chat completions that a test plays, and its streams as a test writes them down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from satmeter.actors.adapters.openai.client import OpenAiProvider
from satmeter.actors.adapters.upstream.http import HttpError, Take
from satmeter.actors.domain.llm.catalogue import Api
from satmeter.actors.domain.llm.relays import RelayBytes, RelayPart
from satmeter.actors.domain.llm.reported_usage import ReportedUsage

BASE_URL = "http://upstream.test/v1"
MODEL = "tiny-llama"
SECRET = "the-secret-words-of-a-client"
JSON, SSE = "application/json; charset=utf-8", "text/event-stream"
USAGE = {"prompt_tokens": 18, "completion_tokens": 16, "total_tokens": 34}
BODY = b'{ "model": "tiny-llama",\t"max_tokens":5, "messages":[{"role":"user","content":"h\\u00e9llo"}] }'


def choice(text: str | None = None, index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One choice of a chunk."""
    fields = delta if text is None else {"content": text, **delta}
    return {"index": index, "delta": fields, "finish_reason": finish}


def chunk(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return {**head, "choices": list(choices), **fields}


def sse(*events: dict[str, Any] | str, newline: str = "\n") -> bytes:
    """Events as they are sent; a text is the data as it is."""
    texts = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events]
    return "".join(f"data: {text}{newline}{newline}" for text in texts).encode()


DONE = "[DONE]"
STOP = chunk(choice(finish="stop"))
COUNTED = chunk(usage=USAGE)
WHOLE_STREAM = (
    chunk(choice(None, role="assistant", content=None)),
    chunk(choice("Héllo, ")),
    chunk(choice("wörld 🌍")),
    STOP,
    COUNTED,
    DONE,
)


def reported(*usages: Any, provider_id: str | None = None, **fields: Any) -> ReportedUsage:
    """The report of an answer with these usage objects; a text stands for itself."""
    later = tuple(usage if isinstance(usage, str) else json.dumps(usage) for usage in usages)
    return ReportedUsage(provider_id, later=later, api=Api.OPENAI, **fields)


def message(text: str | None = "Done.", usage: Any = USAGE, finish: str = "stop", **fields: Any) -> dict[str, Any]:
    """A whole answer."""
    told = {"role": "assistant", "content": text, **fields}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": told, "finish_reason": finish}],
        **({} if usage is None else {"usage": usage}),
    }


@dataclass
class Answer:
    """An answer of these chunks, an exception among which is raised. Hangs after them if told to."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": SSE})
    parts: Sequence[bytes | Exception] = ()
    hangs: bool = False
    closed: int = 0
    taken: int = 0
    fed: int = 0
    _begun: AsyncIterator[bytes] | None = None

    def chunks(self) -> AsyncIterator[bytes]:
        """Gives the body."""
        self._begun = self._chunks()
        return self._begun

    async def feed(self, take: Take) -> bool:
        """Gives the rest of the body to a taker."""
        assert self._begun is not None
        async for chunk in self._begun:
            self.fed += 1
            if take(chunk):
                return True
        return False

    async def _chunks(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            self.taken += 1
            if isinstance(part, Exception):
                raise part
            yield part
        if self.hangs:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Notes that it was closed."""
        self.closed += 1


def streaming(*parts: bytes | Exception, hangs: bool = False) -> Answer:
    return Answer(parts=parts, hangs=hangs)


def answering(status: int, body: Any, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"content-type": JSON, **headers}, (data,))


@dataclass
class Sent:
    """A request as it came."""

    url: str
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body or b"null")


class FakeHttp:
    """Implementation of `HttpClient` that notes what came, and answers by a function or always alike."""

    def __init__(self, reply: Answer | HttpError | Callable[[Sent], Answer | HttpError]) -> None:
        self._reply = reply
        self.sent: list[Sent] = []
        self.closed = 0

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See `HttpClient`."""
        return self._answer(Sent(url, headers, body))

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """See `HttpClient`."""
        return self._answer(Sent(url, headers, None))

    async def aclose(self) -> None:
        """See `HttpClient`."""
        self.closed += 1

    def _answer(self, sent: Sent) -> Answer:
        self.sent.append(sent)
        found = self._reply(sent) if callable(self._reply) else self._reply
        if isinstance(found, HttpError):
            raise found
        return found


def provider(reply: FakeHttp | Answer | HttpError, key: str | None = "sk-test") -> OpenAiProvider:
    http = reply if isinstance(reply, FakeHttp) else FakeHttp(reply)
    return OpenAiProvider(http, base_url=BASE_URL, key=key)


async def parts_of(
    reply: FakeHttp | Answer | HttpError, *, stream: bool = True, found: list[RelayPart] | None = None
) -> list[RelayPart]:
    found = [] if found is None else found
    async for part in provider(reply).relay(BODY, {}, model=MODEL, beta=False, stream=stream):
        found.append(part)
    return found


def data_of(parts: list[RelayPart]) -> bytes:
    return b"".join(part.data for part in parts if isinstance(part, RelayBytes))
