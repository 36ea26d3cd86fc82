"""Driver of the synchronous client: it performs the actions of flows."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx

from .errors import SatmeterError
from .flow import Action, Emit, Exclusive, Flow, Invoke, Lost, Now, OpenStream, ReadStream, Reply, Send, Sleep
from .models import Answer
from .transport import http_request, lost, reply_of, timeouts

T = TypeVar("T")


class Runner:
    """The performer of flows' actions, one after the other."""

    def __init__(self, timeout_s: float, connect_timeout_s: float, transport: httpx.BaseTransport | None) -> None:
        self._http = httpx.Client(timeout=timeouts(timeout_s, connect_timeout_s), transport=transport)
        self._exclusive = threading.Lock()

    def run(self, flow: Flow[T]) -> T:
        """Run a flow and return its result. Emitted pieces of text are dropped."""
        steps = self.steps(flow)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return cast(T, stop.value)

    def steps(self, flow: Flow[T]) -> Generator[str, None, T]:
        """Run a flow, yielding the pieces of text that it emits; return its result."""
        stream = _Stream(self._http)
        try:
            action = next(flow)
            while True:
                try:
                    outcome: Any = None
                    if isinstance(action, Emit):
                        yield action.text
                    else:
                        outcome = self._perform(action, stream)
                except Exception as error:
                    action = flow.throw(error)
                else:
                    action = flow.send(outcome)
        except StopIteration as stop:
            return cast(T, stop.value)
        finally:
            stream.close()
            flow.close()

    def _perform(self, action: Action, stream: _Stream) -> Any:
        match action:
            case Send(request):
                return self._send(request)
            case OpenStream(request):
                return stream.open(request)
            case ReadStream():
                return stream.read()
            case Sleep(seconds):
                time.sleep(seconds)
            case Now():
                return time.time()
            case Invoke(function, arguments):
                returned = function(*arguments)
                if inspect.iscoroutine(returned):
                    returned.close()
                    raise SatmeterError("A coroutine function goes with AsyncSatmeter.")
                return returned
            case Exclusive(flow):
                with self._exclusive:
                    return self.run(flow)
        return None

    def _send(self, request: Any) -> Reply | Lost:
        try:
            return reply_of(self._http.send(http_request(self._http, request)))
        except httpx.HTTPError as error:
            return lost(error)

    def close(self) -> None:
        """Close connections."""
        self._http.close()


class _Stream:
    """The streamed answer that is being read, at most one at a time."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def open(self, request: Any) -> Reply | Lost:
        self.close()
        try:
            self._response = self._http.send(http_request(self._http, request), stream=True)
            if self._response.status_code != 200:
                self._response.read()
                return reply_of(self._response)
            self._pieces = self._response.iter_bytes()
            return reply_of(self._response, body=b"")
        except httpx.HTTPError as error:
            return lost(error)

    def read(self) -> bytes | Lost | None:
        try:
            return next(self._pieces, None)
        except httpx.HTTPError as error:
            return lost(error)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


class AnswerStream:
    """A streamed answer: iterate over its text; afterwards `answer` has the whole answer with its cost.

    Leaving the `with` block before the end stops the model; the text until then is charged.
    """

    def __init__(self, steps: Generator[str, None, Answer]) -> None:
        self._steps = steps
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._steps)
        except StopIteration as stop:
            # A generator returns its result only once, and None at each later call.
            self._answer = stop.value or self._answer
            raise StopIteration from None

    @property
    def answer(self) -> Answer:
        """The whole answer, after reading the rest of the stream."""
        for _ in self:
            pass
        if self._answer is None:
            raise SatmeterError("The stream was closed before its end.")
        return self._answer

    def close(self) -> None:
        """End the stream."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
