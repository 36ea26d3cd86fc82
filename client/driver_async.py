"""Driver of the asynchronous client: it performs the actions of flows on asyncio."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx

from .errors import SatmeterError
from .flow import Action, Emit, Exclusive, Flow, Invoke, Lost, Now, OpenStream, ReadStream, Reply, Request, Send, Sleep
from .models import Answer
from .transport import http_request, lost, reply_of, timeouts

T = TypeVar("T")


class AsyncRunner:
    """The performer of flows' actions, one after the other."""

    def __init__(self, timeout_s: float, connect_timeout_s: float, transport: httpx.AsyncBaseTransport | None) -> None:
        self._http = httpx.AsyncClient(timeout=timeouts(timeout_s, connect_timeout_s), transport=transport)
        self._exclusive = asyncio.Lock()

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow and return its result. Emitted pieces of text are dropped."""
        steps: Steps[T] = self.steps(flow)
        try:
            while await steps.piece() is not None:
                pass
            return steps.result
        finally:
            await steps.close()

    def steps(self, flow: Flow[T]) -> Steps[T]:
        """Return the flow as steps, which run it piece by piece."""
        return Steps(self, self._http, flow)

    async def perform(self, action: Action, stream: _Stream) -> Any:
        """Perform an action and return its outcome."""
        match action:
            case Send(request):
                return await self._send(request)
            case OpenStream(request):
                return await stream.open(request)
            case ReadStream():
                return await stream.read()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Now():
                return time.time()
            case Invoke(function, arguments):
                return await _invoke(function, arguments)
            case Exclusive(flow):
                async with self._exclusive:
                    return await self.run(flow)
        return None

    async def _send(self, request: Request) -> Reply | Lost:
        try:
            return reply_of(await self._http.send(http_request(self._http, request)))
        except httpx.HTTPError as error:
            return lost(error)

    async def close(self) -> None:
        """Close connections."""
        await self._http.aclose()


async def _invoke(function: Any, arguments: tuple[Any, ...]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    # A function that blocks must not block the event loop.
    returned = await asyncio.to_thread(function, *arguments)
    return await returned if inspect.isawaitable(returned) else returned


class Steps(Generic[T]):
    """A flow that is run from one piece of text to the next; `result` is set after the last one."""

    result: T

    def __init__(self, runner: AsyncRunner, http: httpx.AsyncClient, flow: Flow[T]) -> None:
        self._runner = runner
        self._stream = _Stream(http)
        self._flow = flow
        self._ended = False

    async def piece(self) -> str | None:
        """Return the next piece; None at the end. Raises what the flow raises."""
        if self._ended:
            return None
        try:
            action = self._flow.send(None)
            while not isinstance(action, Emit):
                try:
                    outcome = await self._runner.perform(action, self._stream)
                except Exception as error:
                    action = self._flow.throw(error)
                else:
                    action = self._flow.send(outcome)
            return action.text
        except StopIteration as stop:
            self.result = stop.value
        except BaseException:
            await self.close()
            raise
        await self.close()
        return None

    async def close(self) -> None:
        """End the flow, and close its stream."""
        self._ended = True
        self._flow.close()
        await self._stream.close()


class _Stream:
    """The streamed answer that is being read, at most one at a time."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def open(self, request: Request) -> Reply | Lost:
        await self.close()
        try:
            self._response = await self._http.send(http_request(self._http, request), stream=True)
            if self._response.status_code != 200:
                await self._response.aread()
                return reply_of(self._response)
            self._pieces = self._response.aiter_bytes()
            return reply_of(self._response, body=b"")
        except httpx.HTTPError as error:
            return lost(error)

    async def read(self) -> bytes | Lost | None:
        assert self._pieces is not None
        try:
            return await anext(self._pieces, None)
        except httpx.HTTPError as error:
            return lost(error)

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()


class AsyncAnswerStream:
    """A streamed answer: iterate over its text; afterwards `answer()` returns the whole answer with its cost.

    Leaving the `async with` block before the end stops the model; the text until then is charged.
    """

    def __init__(self, steps: Steps[Answer]) -> None:
        self._steps = steps

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        piece = await self._steps.piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def answer(self) -> Answer:
        """Return the whole answer, after reading the rest of the stream."""
        async for _ in self:
            pass
        if not hasattr(self._steps, "result"):
            raise SatmeterError("The stream was closed before its end.")
        return self._steps.result

    async def close(self) -> None:
        """End the stream."""
        await self._steps.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
