"""HTTP exchanges with one upstream, in either API: sends, reads the answer piece by piece, names what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from ...domain.llm.relays import Give
from ...domain.provider_faults import ModelFault
from ...ports import ModelError, PermanentError, PortError, SilentError, TransientError
from .http import HttpAnswer, HttpClient, HttpError, NotSentError, SilentServerError, Take
from .key_filter import LEFT_OUT, KeyFilter

T = TypeVar("T")
ReadError = Callable[[int, Mapping[str, str], bytes], PortError]
"""Reader of an answer with any status but 200, from its status, headers and body."""

# No model writes for so long. An upstream that sends comments for ever would otherwise keep a job under way for ever.
_ANSWER_MAX_S: Final = 3_600.0
_ERROR_MAX_BYTES: Final = 1 << 20
# A body ends with its last event; an upstream that forgets to end it costs us this, and the connection.
_READ_UP_S: Final = 0.25


class Flow(NamedTuple):
    """Direct way of a stream's bytes and counts, past the generators that its other parts go through.

    `feed` gives each chunk to its taker as it comes, as `Answer.feed`; `give` takes what is made of it.
    """

    feed: Callable[[Take], Awaitable[bool]]
    give: Give


class Exchanges:
    """Exchanges with an upstream. `headers` are those of every call; a call's own come before them.

    `key` goes with every call. What an upstream says of it is left out, since its words may go on to a client.
    """

    def __init__(
        self, http: HttpClient, base_url: str, headers: Mapping[str, str], read_error: ReadError, key: str | None = None
    ) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._headers = headers if key is None else {**headers, "authorization": f"Bearer {key}"}
        self._read_error = read_error
        self._key = key or ""

    def post(self, path: str, body: bytes, headers: Mapping[str, str] = {}) -> Coroutine[Any, Any, Answer]:
        """Post a body, and return the answer, which the caller must close. Raises `PortError`."""
        return self._answer(self._http.post(self._base_url + path, {**self._headers, **headers}, body))

    def get(self, path: str) -> Coroutine[Any, Any, Answer]:
        """Ask for a resource. Returns and raises as `post`."""
        return self._answer(self._http.get(self._base_url + path, self._headers))

    async def close(self) -> None:
        """End connections."""
        await self._http.aclose()

    async def _answer(self, call: Awaitable[HttpAnswer]) -> Answer:
        try:
            answer = Answer(await call, self._key)
        except Exception as error:
            failed = _port_error(error)
        else:
            if answer.status == 200:
                return answer
            failed = await self._refusal(answer)
        # Raised outside the handler: the client's error must not become the context of ours.
        raise failed

    async def _refusal(self, answer: Answer) -> PortError:
        async with answer:
            body = b""
            with suppress(PortError):
                body = await answer.body(_ERROR_MAX_BYTES)
        return self._read_error(answer.status, answer.headers, body)


class _Headers(dict[str, str]):
    """Headers whose names are found in any case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): text for name, text in headers.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def _without(key: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    if not key or not any(key in text for text in headers.values()):
        return headers
    return _Headers({name: text.replace(key, LEFT_OUT) for name, text in headers.items()})


class Answer:
    """Answer whose body is read piece by piece, and closed in the end. All raise `PortError`, nothing else.

    `key` is left out of its pieces.
    """

    def __init__(self, response: HttpAnswer, key: str = "") -> None:
        self._filter = KeyFilter(key.encode())
        self.status = response.status
        self.headers = _without(key, response.headers)
        self._response = response
        self._chunks: AsyncIterator[bytes] = aiter(response.chunks())
        self._ends_by_s = asyncio.get_running_loop().time() + _ANSWER_MAX_S

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()
        with suppress(Exception):
            await self._response.aclose()

    @property
    def whole(self) -> bool:
        """Return whether the answer is one JSON body, not a stream of events."""
        return self.headers.get("content-type", "").startswith("application/json")

    async def chunk(self) -> bytes | None:
        """Return the next bytes; None at the end."""
        while True:
            if asyncio.get_running_loop().time() > self._ends_by_s:
                raise self._endless()
            chunk = await _or_port_error(anext(self._chunks, None))
            if chunk is None:
                return self._filter.rest() or None
            if told := self._filter.passed(chunk):
                return told

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield all chunks."""
        while (chunk := await self.chunk()) is not None:
            yield chunk

    async def feed(self, take: Take) -> bool:
        """Give the next chunks to `take` as they come, until it wants no more; return False at the end.

        What `take` raises is raised, too.
        """
        failed: PortError
        passed = self._filter.passed
        feeding = asyncio.timeout_at(self._ends_by_s)
        try:
            async with feeding:
                stopped = await self._response.feed(lambda chunk: bool(told := passed(chunk)) and take(told))
                if not stopped and (rest := self._filter.rest()):
                    take(rest)
                return stopped
        except HttpError as error:
            failed = _port_error(error)
        except TimeoutError:
            if not feeding.expired():
                raise
            failed = self._endless()
        raise failed

    def _endless(self) -> PermanentError:
        return PermanentError(f"the model provider's answer did not end within {_ANSWER_MAX_S:.0f} s")

    def flow(self, give: Give | None) -> Flow | None:
        """Return the direct way to a taker, if there is one."""
        return None if give is None else Flow(self.feed, give)

    async def body(self, max_bytes: int | None = None) -> bytes:
        """Return all chunks at once. Raises `TransientError` for more than `max_bytes`."""
        pieces, size = [], 0
        while (chunk := await self.chunk()) is not None:
            pieces.append(chunk)
            size += len(chunk)
            if max_bytes is not None and size > max_bytes:
                raise TransientError("the model provider's answer is too large")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_up(self) -> None:
        """Read the empty rest behind the last event: only then the connection can serve another call."""
        with suppress(Exception):
            async with asyncio.timeout(_READ_UP_S):
                async for _ in self._chunks:
                    pass


async def _or_port_error(call: Awaitable[T]) -> T:
    """Return the call's result. Raises `PortError` for the client's errors, and for a defect in it."""
    try:
        return await call
    except Exception as error:
        failed = _port_error(error)
    # Raised outside the handler: the client's error must not become the context of ours.
    raise failed


def _port_error(error: Exception) -> PortError:
    if not isinstance(error, HttpError):
        return TransientError(f"the exchange with the model provider failed: {type(error).__name__}")
    if isinstance(error, NotSentError):
        return ModelError(f"the model provider can't be reached: {error}", ModelFault.UNREACHABLE)
    if isinstance(error, SilentServerError):
        return SilentError(f"the model provider fell silent: {error}")
    # The provider received the call, may have carried it out, and would then bill it.
    return ModelError(f"the model provider broke the connection: {error}", ModelFault.FAILING)
