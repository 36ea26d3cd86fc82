"""Model provider client on top of Anthropic's own SDK."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import structlog

from ...domain.llm.answers import StreamPart
from ...domain.llm.relays import RelayEnd, RelayPart
from ...domain.provider_faults import ModelFault
from ...ports import (
    Completion,
    Evaluation,
    ModelError,
    PermanentError,
    PortError,
    SilentError,
    TransientError,
)
from ..upstream.statuses import CLIENT_STATUSES, NOT_FOUND, fault_of, status_error
from .answers import listed_models, read_completion, read_evaluation
from .messages import evaluation_message, own_prompt, work_message
from .relay import counted_by, kept_headers, message_end, streamed, whole_end
from .stream import StreamedAnswer

if TYPE_CHECKING:
    import httpx2
    from anthropic import APIStatusError, AsyncAnthropic

T = TypeVar("T")
_log = structlog.get_logger(__name__)

DEFAULT_BASE_URL: Final = "https://api.anthropic.com"
_CONNECT_TIMEOUT_S: Final = 5.0
# No model writes for so long. A provider that sends pings for ever would otherwise keep a job under way for ever.
_ANSWER_MAX_S: Final = 3_600.0
# A body ends with its last event; a provider that forgets to end it costs us this, and the connection.
_READ_UP_S: Final = 0.25

# The API also says with a 400 that our account there has no credit or has reached its limit.
_OPERATORS_FAULT: Final = re.compile(rb"credit balance|usage limits|billing")
_MESSAGES: Final = "/v1/messages"
_MODELS: Final = "/v1/models?limit=1000"
_COUNT_TIMEOUT_S: Final = 12.0


class _ClientsFaultError(PermanentError):
    """Refusal of a body by the provider. `end` is its answer, which may quote the body: for the client alone."""

    def __init__(self, message: str, end: RelayEnd) -> None:
        super().__init__(message)
        self.end = end


class AnthropicProvider:
    """Implementation of `ports.Provider`. One for each process: it holds the connections.

    One call is one attempt (`max_retries=0`); `timeout_s` bounds the provider's silence, not its answer. The SDK takes
    a second to import. It is imported, and the client built, in a thread at the first call: a host is ready sooner, and
    its loop goes on. Text of a request or an answer is never put into a log or an exception.
    """

    def __init__(
        self,
        *,
        api_key: str,
        timeout_s: float,
        base_url: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._base_url = base_url or DEFAULT_BASE_URL
        self._transport = transport
        self._building: asyncio.Task[AsyncAnthropic] | None = None

    def prepare(self) -> asyncio.Task[AsyncAnthropic]:
        """Import the SDK and build the client, in a thread."""
        if self._building is None:
            self._building = asyncio.create_task(asyncio.to_thread(self._build))
        return self._building

    async def evaluate(self, request: str, *, model: str) -> Evaluation:
        """Judge a request, as `read_evaluation` reads it. Raises `TransientError` or `PermanentError`."""
        body = msgspec.json.encode(evaluation_message(model, request))
        async with self._reading(await self._send(_MESSAGES, body, {})) as answer:
            return read_evaluation(await answer.body(), model, answer.response.headers)

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Do the work. Raises `TransientError` or `PermanentError`; see `read_completion`.

        The answer is requested piece by piece: so a provider that writes for minutes can be told from a silent one.
        Servers that run a plain call to its end after we hung up also stop a streamed one.
        """
        async with aclosing(self.stream(request, model=model, max_tokens=max_tokens)) as parts:
            async for part in parts:
                if isinstance(part, Completion):
                    return part
        raise TransientError("the model's answer has no end")

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Do the work piece by piece. Raises `TransientError` or `PermanentError`, also in the middle.

        Ending it before its end, by `aclose` or by cancelling the task that waits for it, ends the HTTP exchange.
        """
        body = msgspec.json.encode(work_message(model, max_tokens, request, stream=True))
        async with self._reading(await self._send(_MESSAGES, body, {})) as answer:
            if answer.whole:
                # A server that does not know `stream` answers so.
                yield read_completion(await answer.body(), model, answer.response.headers)
                return
            written = StreamedAnswer(model, answer.response.headers)
            while not written.ended:
                for part in written.read(await answer.chunk()):
                    yield part
            await answer.read_up()
        yield written.completion()

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool
    ) -> AsyncGenerator[RelayPart, None]:
        """Pass a call on as it is. Raises `PortError`, also in the middle; ends as `stream` does."""
        try:
            response = await self._send(f"{_MESSAGES}?beta=true" if beta else _MESSAGES, body, headers)
        except _ClientsFaultError as error:
            yield error.end
            return
        async with self._reading(response) as answer:
            if not stream:
                yield message_end(response.status_code, response.headers, await answer.body())
                return
            async with aclosing(streamed(response.headers, answer.chunks())) as parts:
                async for part in parts:
                    yield part

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Have the API count a prompt. Raises `PortError`."""
        path = f"{_MESSAGES}/count_tokens" + ("?beta=true" if beta else "")
        try:
            async with asyncio.timeout(_COUNT_TIMEOUT_S):
                response = await self._send(path, body, headers)
                async with self._reading(response) as answer:
                    return whole_end(response.status_code, response.headers, await answer.body())
        except _ClientsFaultError as error:
            return error.end
        except TimeoutError:
            raise TransientError("the model provider's count took too long") from None

    async def prompt_tokens(self, request: str, *, model: str, max_tokens: int | None) -> int:
        """Have the API count a prompt of ours. Raises `PortError`."""
        return counted_by(await self.count_tokens(own_prompt(request, model, max_tokens), {}, beta=False))

    async def models(self) -> Sequence[str] | None:
        """Return the names of the API's models; None where the answer is not a list of them. Raises `PortError`."""
        client = await _or_port_error(self._client())
        import httpx2

        call = client.get(_MODELS, cast_to=httpx2.Response, stream=True)
        async with self._reading(await _or_port_error(call, self._timeout_s + _CONNECT_TIMEOUT_S)) as answer:
            return listed_models(await answer.body())

    async def close(self) -> None:
        """End connections."""
        if self._building is None:
            return
        await asyncio.wait([self._building])
        if not self._building.cancelled() and self._building.exception() is None:
            await self._building.result().close()

    def _reading(self, response: httpx2.Response) -> _Answer:
        return _Answer(response, self._timeout_s)

    async def _send(self, path: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        """Post a body, and return the response unread, which the caller must close.

        Raises `PortError`, nothing else. This is how the SDK sends a request that it has no method for. It adds its
        key, headers and errors without its models, which take any answer for a good one and have to be got round
        anyway.
        """
        client = await _or_port_error(self._client())
        import httpx2

        call = client.post(path, cast_to=httpx2.Response, content=body, stream=True, options={"headers": headers})
        # Connecting has a time of its own, so that an unreachable server can be told from a silent one.
        return await _or_port_error(call, self._timeout_s + _CONNECT_TIMEOUT_S)

    async def _client(self) -> AsyncAnthropic:
        building = self.prepare()
        # Shielded: a first caller that gives up must not cancel the build for the other callers.
        return await asyncio.shield(building)

    def _build(self) -> AsyncAnthropic:
        import httpx2
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

        # At debug level, which ANTHROPIC_LOG in the environment can ask for, the SDK logs whole requests.
        logging.getLogger("anthropic").setLevel(logging.WARNING)
        return AsyncAnthropic(
            api_key=self._api_key,
            base_url=self._base_url,
            timeout=httpx2.Timeout(self._timeout_s, connect=min(_CONNECT_TIMEOUT_S, self._timeout_s)),
            max_retries=0,
            open_telemetry=False,
            http_client=None if self._transport is None else DefaultAsyncHttpxClient(transport=self._transport),
        )


class _Answer:
    """Answer whose body is read piece by piece, and closed in the end. All raise `PortError`, nothing else."""

    def __init__(self, response: httpx2.Response, silence_max_s: float) -> None:
        self.response = response
        self._chunks = response.aiter_bytes()
        self._silence_max_s = silence_max_s
        self._ends_by_s = asyncio.get_running_loop().time() + _ANSWER_MAX_S

    async def __aenter__(self) -> _Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await self.response.aclose()

    @property
    def whole(self) -> bool:
        """Return whether the answer is one JSON body, not a stream of events."""
        media_type: str = self.response.headers.get("content-type", "")
        return media_type.startswith("application/json")

    async def chunk(self) -> bytes | None:
        """Return the next bytes; None at the end. Each may be waited for as long as the provider may be silent."""
        if asyncio.get_running_loop().time() > self._ends_by_s:
            raise PermanentError(f"the model provider's answer did not end within {_ANSWER_MAX_S:.0f} s")
        return await _or_port_error(anext(self._chunks, None), self._silence_max_s)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield all chunks."""
        while (chunk := await self.chunk()) is not None:
            yield chunk

    async def body(self) -> bytes:
        """Return all chunks at once."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def read_up(self) -> None:
        """Read the empty rest behind the last event: only then the connection can serve another call."""
        with suppress(Exception):
            async with asyncio.timeout(_READ_UP_S):
                async for _ in self._chunks:
                    pass


async def _or_port_error(call: Awaitable[T], longest_s: float | None = None) -> T:
    """Return the call's result. Raises `PortError`, nothing else; `SilentError` when it takes longer."""
    failure: PortError
    try:
        async with asyncio.timeout(longest_s):
            return await call
    except Exception as error:
        failure = _as_port_error(error)
    # Raised outside the handler: the SDK's error, which holds the request, must not become the context of ours.
    raise failure


def _as_port_error(error: Exception) -> PortError:
    import httpx2
    from anthropic import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return _of_status(error)
    # The SDK wraps what its HTTP library raises.
    cause = (error.__cause__ or error) if isinstance(error, APIConnectionError) else error
    if isinstance(cause, TimeoutError | httpx2.ReadTimeout):
        return SilentError(f"the model provider fell silent: {type(cause).__name__}")
    told = f"the model provider can't be reached: {type(cause).__name__}"
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return ModelError(told, ModelFault.UNREACHABLE)
    if isinstance(cause, httpx2.TransportError | OSError) and not isinstance(cause, httpx2.PoolTimeout):
        # The provider received the call, may have carried it out, and would then bill it.
        return ModelError(told, ModelFault.FAILING)
    return TransientError(told)


def _of_status(error: APIStatusError) -> PortError:
    """Return the API's error by its status. Its text is left out: it may quote the request."""
    status, headers = error.status_code, error.response.headers
    told = " ".join(
        word
        for word in (f"the model provider answered {status}", error.type, error.request_id)
        if word and re.fullmatch(r"[\w ]{1,80}", word)
    )
    fault = fault_of(status)
    if status in CLIENT_STATUSES and _OPERATORS_FAULT.search(error.response.content):
        fault = ModelFault.REFUSED
    if fault is ModelFault.REFUSED or status == NOT_FOUND:
        _log.error(
            "model_provider_refuses_us", status=status, hint="check ANTHROPIC_API_KEY, credit, EVAL_MODEL, WORK_MODEL"
        )
    if fault is None and status in CLIENT_STATUSES and headers.get("x-should-retry") != "true":
        return _ClientsFaultError(told, RelayEnd(status, kept_headers(headers), error.response.content, None))
    return status_error(told, status, headers, fault)
