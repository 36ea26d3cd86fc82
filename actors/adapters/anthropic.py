"""The model provider by way of Anthropic's own SDK."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog

from ..domain.answers import StreamPart
from ..domain.relays import RelayEnd, RelayPart
from ..ports import Completion, Evaluation, PermanentError, PortError, TransientError
from .anthropic_answers import read_completion, read_evaluation
from .anthropic_messages import evaluation_message, work_message
from .anthropic_relay import kept_headers, streamed, whole_end
from .anthropic_stream import StreamedAnswer

if TYPE_CHECKING:
    import httpx2
    from anthropic import APIStatusError, AsyncAnthropic

T = TypeVar("T")
_log = structlog.get_logger(__name__)

DEFAULT_BASE_URL: Final = "https://api.anthropic.com"
_CONNECT_TIMEOUT_S: Final = 5.0
_RETRY_AFTER_MAX_S: Final = 3_600.0
# A body ends with its last event; a provider that forgets to end it costs us this, and the connection.
_READ_UP_S: Final = 0.25

# Statuses below 500 that may pass: time-out, lock conflict, rate limit (source: the SDK's own retry policy).
_TRANSIENT_STATUSES: Final = frozenset({408, 409, 429})
# No credit, no right, wrong key, wrong model or address: every request will fail until the operator mends it.
_OPERATOR_STATUSES: Final = frozenset({401, 402, 403, 404})
# What is wrong with a body is for whoever wrote it to know.
_CLIENT_STATUSES: Final = frozenset({400, 413, 422})
# The API also says with a 400 that our account there has no credit or has reached its limit.
_OPERATORS_FAULT: Final = re.compile(rb"credit balance|usage limits|billing")
_MESSAGES: Final = "/v1/messages"
_COUNT_TIMEOUT_S: Final = 30.0


class _ClientsFaultError(PermanentError):
    """The provider refused a body. `end` is what it said, which may quote the body: for the client alone."""

    def __init__(self, message: str, end: RelayEnd) -> None:
        super().__init__(message)
        self.end = end


class AnthropicModel:
    """Implements `ports.Model`. One for each process: it holds the connections.

    One call is one attempt (`max_retries=0`); `timeout_s` bounds it as a whole. The SDK takes a second to import, so
    it is imported, and the client built, in a thread at the first call: a host is ready sooner, and its loop goes on.
    Nothing of a request or an answer is ever put into a log or an exception.
    """

    def __init__(
        self,
        *,
        api_key: str,
        eval_model: str,
        timeout_s: float,
        base_url: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._api_key = api_key
        self._eval_model = eval_model
        self._timeout_s = timeout_s
        self._base_url = base_url or DEFAULT_BASE_URL
        self._transport = transport
        self._building: asyncio.Task[AsyncAnthropic] | None = None

    def prepare(self) -> asyncio.Task[AsyncAnthropic]:
        """Imports the SDK and builds the client, in a thread."""
        if self._building is None:
            self._building = asyncio.create_task(asyncio.to_thread(self._build))
        return self._building

    async def evaluate(self, request: str) -> Evaluation:
        """Judges a request. Raises `TransientError` or `PermanentError`; `read_evaluation` says what is a verdict."""
        return read_evaluation(await self._whole(evaluation_message(self._eval_model, request)), self._eval_model)

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Does the work. Raises `TransientError` or `PermanentError`; see `read_completion`."""
        return read_completion(await self._whole(work_message(model, max_tokens, request)), model)

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Does the work piece by piece. Raises `TransientError` or `PermanentError`, also in the middle.

        Ending it before its end, by `aclose` or by cancelling the task that waits for it, ends the HTTP exchange.
        """
        message = work_message(model, max_tokens, request, stream=True)
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        answer = StreamedAnswer(model)
        response = await _by(deadline_s, self._post(message, stream=True))
        chunks = response.aiter_bytes()
        try:
            while not answer.ended:
                for part in answer.read(await _by(deadline_s, anext(chunks, None))):
                    yield part
            await _read_up(chunks)
        finally:
            with suppress(Exception):
                await response.aclose()
        yield answer.completion()

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, beta: bool, stream: bool
    ) -> AsyncGenerator[RelayPart, None]:
        """Passes a call on as it is. Raises `PortError`, also in the middle; ends as `stream` does."""
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        path = f"{_MESSAGES}?beta=true" if beta else _MESSAGES
        try:
            response = await _by(deadline_s, self._send(path, body, headers, stream=stream))
        except _ClientsFaultError as error:
            yield error.end
            return
        if not stream:
            yield whole_end(response.status_code, response.headers, response.content)
            return
        try:
            async with aclosing(streamed(response.headers, _chunks(deadline_s, response))) as parts:
                async for part in parts:
                    yield part
        finally:
            with suppress(Exception):
                await response.aclose()

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Has the API count a prompt. Raises `PortError`."""
        path = f"{_MESSAGES}/count_tokens" + ("?beta=true" if beta else "")
        deadline_s = asyncio.get_running_loop().time() + min(self._timeout_s, _COUNT_TIMEOUT_S)
        try:
            response = await _by(deadline_s, self._send(path, body, headers))
        except _ClientsFaultError as error:
            return error.end
        return whole_end(response.status_code, response.headers, response.content)

    async def close(self) -> None:
        """Ends connections."""
        if self._building is None:
            return
        await asyncio.wait([self._building])
        if not self._building.cancelled() and self._building.exception() is None:
            await self._building.result().close()

    async def _whole(self, message: Mapping[str, Any]) -> bytes:
        """The body of the API's answer, unread. Raises `PortError`, nothing else."""
        response = await _by(asyncio.get_running_loop().time() + self._timeout_s, self._post(message))
        return response.content

    async def _post(self, message: Mapping[str, Any], *, stream: bool = False) -> httpx2.Response:
        """Sends a message of ours."""
        return await self._send(_MESSAGES, msgspec.json.encode(message), {}, stream=stream)

    async def _send(
        self, path: str, body: bytes, headers: Mapping[str, str], *, stream: bool = False
    ) -> httpx2.Response:
        """Posts a body. A streamed answer's body is left to be read, and must be closed.

        This is how the SDK sends what it has no method for: its key, headers and errors without its models, which take
        any answer for a good one and have to be got round anyway.
        """
        client = await self._client()
        import httpx2

        response: httpx2.Response = await client.post(
            path, cast_to=httpx2.Response, content=body, stream=stream, options={"headers": headers}
        )
        return response

    async def _client(self) -> AsyncAnthropic:
        building = self.prepare()
        # Shielded: a first caller that gives up must not take the client away from those who wait with it.
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


async def _by(deadline_s: float, call: Awaitable[T]) -> T:
    """What the call gives before a time of the loop's clock. Raises `PortError`, nothing else."""
    failure: PortError
    try:
        async with asyncio.timeout_at(deadline_s):
            return await call
    except Exception as error:
        failure = _as_port_error(error)
    # Raised out here, so that the SDK's error, which holds the request, does not hang on ours as its context.
    raise failure


async def _chunks(deadline_s: float, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises `PortError`, nothing else."""
    chunks = response.aiter_bytes()
    while (chunk := await _by(deadline_s, anext(chunks, None))) is not None:
        yield chunk


async def _read_up(chunks: AsyncIterator[bytes]) -> None:
    """Reads what follows the last event, which is nothing: only then the connection can serve another call."""
    with suppress(Exception):
        async with asyncio.timeout(_READ_UP_S):
            async for _ in chunks:
                pass


def _as_port_error(error: Exception) -> PortError:
    from anthropic import APIStatusError

    if isinstance(error, APIStatusError):
        return _of_status(error)
    return TransientError(f"the model provider can't be reached: {type(error).__name__}")


def _of_status(error: APIStatusError) -> PortError:
    """The API's error by its status. Its text is left out: it may quote the request."""
    status, headers = error.status_code, error.response.headers
    told = " ".join(
        word
        for word in (f"the model provider answered {status}", error.type, error.request_id)
        if word and re.fullmatch(r"[\w ]{1,80}", word)
    )
    may_pass = status in _TRANSIENT_STATUSES or not 400 <= status < 500
    if may_pass or headers.get("x-should-retry") == "true":
        return TransientError(told, _retry_after_s(headers))
    if status in _CLIENT_STATUSES and not _OPERATORS_FAULT.search(error.response.content):
        return _ClientsFaultError(told, RelayEnd(status, kept_headers(headers), error.response.content, None))
    if status in _OPERATOR_STATUSES or status in _CLIENT_STATUSES:
        _log.error(
            "model_provider_refuses_us", status=status, hint="check ANTHROPIC_API_KEY, credit, EVAL_MODEL, WORK_MODEL"
        )
    return PermanentError(told)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that the provider asks for, at most an hour; None without a readable one."""
    for name, units_per_s in (("retry-after-ms", 1_000.0), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[name]) / units_per_s
        except (KeyError, ValueError):
            continue
        if math.isfinite(wait_s) and wait_s >= 0:
            return min(wait_s, _RETRY_AFTER_MAX_S)
    return None
