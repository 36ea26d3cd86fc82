"""HTTP protocol of fronts: uvicorn's, with a JSON error for malformed requests, and with upgrades ignored."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..actors.domain.errors import Code, Refusal, RefusedError
from .aliases import meant
from .edge.connections import CONNECTION, Connections
from .edge.endings import end_at_close
from .edge.joined_writes import JoinedWrites
from .edge.networks import UNKNOWN
from .edge.shares import Full
from .edge.slim import SlimEvent, SlimQueue
from .edge.taken_bytes import bytes_taken
from .edge.unknown_methods import readable
from .middleware import id_names
from .request_facts import REST_MAX_BYTES, RequestFacts
from .request_id import new_request_id
from .response import errors
from .response.error_formats import shape_of

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_HEAD_MAX_BYTES: Final = 65_536
_FIELDS_MAX: Final = 100
_FULL_RETRY_S: Final = 5
_TOO_LARGE: Final = Refusal(
    Code.HEADERS_TOO_LARGE, f"The headers have more than {_HEAD_MAX_BYTES} bytes or {_FIELDS_MAX} fields."
)
_TOO_SLOW: Final = Refusal(Code.REQUEST_TIMEOUT, "The request's headers did not arrive in time.")
_FULL: Final = {
    Full.OWN: Refusal(
        Code.RATE_LIMITED,
        "There are too many connections from your address: close some, or wait for their answers.",
        retry_after_s=_FULL_RETRY_S,
    ),
    Full.ALL: Refusal(
        Code.OVERLOADED,
        f"The server has no connection left; nothing was charged. Try again in {_FULL_RETRY_S} s.",
        retry_after_s=_FULL_RETRY_S,
    ),
}
_CLOSE: Final = b"connection: close\r\n"
# Requests of one connection that wait for the first one's answer. A single packet may hold thousands.
_PIPELINED_MAX: Final = 16
# What a trailer counts beside its bytes, so that there are no more than a thousand.
_TRAILER_BYTES: Final = 64
# More than an API's prefix has.
_PATH_BYTES_MAX: Final = 64
# The headers that give a body's length.
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_OF_HEADS: Final = ("on_message_begin", "on_url", "on_header", "on_headers_complete")

_log = structlog.get_logger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol that also answers malformed requests, which never reach the application.

    A client may offer another protocol with its request (RFC 9110, 7.8), and Java's does so for every plain `http://`
    address. The parser then takes the body for that protocol's, and the request would be answered as an empty one.

    What a client may take of memory and time is bounded before anything is read, see `Connections`. `due_s`: when the
    connection is looked at next.
    """

    # Beside uvicorn's own attributes these would be too many for a compact object: 1.3 kB more for each connection.
    __slots__ = (
        "_bounds",
        "_deaf",
        "_dropped_bytes",
        "_head_bytes",
        "_head_timed",
        "_held_s",
        "_in_head",
        "_left",
        "_lingers",
        "_lost",
        "_patience",
        "_refusal",
        "_resuming",
        "_running",
        "_taken",
        "_untold_bytes",
        "due_s",
        "has_paid",
        "origin",
    )

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = connections
        self._patience = connections.patience
        self.pipeline = SlimQueue()  # type: ignore[assignment]
        self.due_s = math.inf
        self._resuming = False
        # Bytes that the parser has had without telling of them: of a head, of chunks' lengths, or of trailers.
        self._untold_bytes = 0
        self._head_bytes = 0
        self._in_head = self._head_timed = False
        # Nothing more is read, as the last answer was given.
        self._deaf = False
        # It is still read, and thrown away.
        self._lingers = False
        self._dropped_bytes = 0
        # The request that the application works on; later ones wait in the pipeline, and `cycle` is the last.
        self._running: RequestResponseCycle | None = None
        # What is answered to bytes that are no request, once all requests before them are answered.
        self._refusal: RefusedError | None = None
        self._held_s = 0.0
        self.origin = UNKNOWN
        self.has_paid = False
        self._taken: tuple[int, float] | None = None
        self._lost = False
        self._left: asyncio.Future[None] | None = None

    # Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to read, or turn the client away."""
        super().connection_made(transport)
        self.flow._is_writable_event = SlimEvent(is_set=True)  # type: ignore[assignment]  # noqa: SLF001
        full = self._bounds.arrive(self, None if self.client is None else self.client[0])
        now_s = self.loop.time()
        if full is None:
            self.due_s = now_s + self._patience.head_s
            return
        self._deaf = True
        self._warn("connections_full", now_s)
        if self._bounds.tells(now_s):
            self._write_refusal(RefusedError(_FULL[full]))
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request under way, of which uvicorn notifies only the last one of the connection."""
        self._bounds.leave(self)
        _disconnect(self._running)
        super().connection_lost(exc)
        self._let_go()
        self._lost = True
        if self._left is not None and not self._left.done():
            self._left.set_result(None)

    def _let_go(self) -> None:
        """Let go of the requests: else they and the connection would hold each other until the collector looks."""
        if self.scope is not None:
            self.scope.pop(CONNECTION, None)  # type: ignore[typeddict-item]
        if self._running is not None:
            self._running.scope.pop(CONNECTION, None)  # type: ignore[typeddict-item]
        for cycle, _ in self.pipeline:
            # The application has not seen them, and never will.
            cycle.scope.pop(CONNECTION, None)  # type: ignore[typeddict-item]
            cycle.on_response = _nothing
        self.pipeline.clear()

    def left(self) -> asyncio.Future[None]:
        """Return a future that is done once the connection has ended. All who wait share it: none may cancel it."""
        if self._left is None:
            self._left = self.loop.create_future()
            if self._lost:
                self._left.set_result(None)
        if not self._lost:
            # Only who reads sees the end.
            self.flow.resume_reading()
        return self._left

    def look(self, now_s: float) -> None:
        """End the connection if its client is too slow."""
        if self.transport.is_closing():
            self._look_at_answer(now_s)
        elif self._in_head and not self._deaf:
            self._warn("head_too_slow", now_s)
            self._refuse(RefusedError(_TOO_SLOW))
        elif self._answering or (self._lingers and self.transport.get_write_buffer_size()):
            self._look_at_answer(now_s)
        elif self._deaf:
            self.transport.abort()
        else:
            self.transport.close()
            self.due_s = now_s + self._patience.rest_s

    def _look_at_answer(self, now_s: float) -> None:
        """End the connection of a client that takes nothing of its answer: its bytes wait in memory."""
        self.due_s = now_s + self._patience.stall_s / 3
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._taken = None
            return
        taken = bytes_taken(self.transport, waiting)
        if self._taken is None or taken - self._taken[0] >= self._patience.stall_bytes:
            self._taken = taken, now_s
        elif now_s - self._taken[1] >= self._patience.stall_s:
            self._warn("answer_not_taken", now_s)
            self.transport.abort()

    def hold(self, seconds: float) -> None:
        """Read nothing for a while, once the request under way is answered: its client asks too often."""
        self._held_s = seconds

    def welcome(self) -> None:
        """Take note that the client has paid."""
        self._bounds.welcome(self)

    def give_way(self) -> None:
        """End the connection, as one of a client that has paid needs its place."""
        self._warn("connection_gave_way", self.loop.time())
        self.transport.abort()

    def on_response_complete(self) -> None:
        """Go on with the next request; uvicorn would set a timer for each."""
        self.server_state.total_requests += 1
        if self._running is not None and self._running.body:
            # A body that the application did not read. `cycle` may be a later request, which needs its own.
            self._running.body.clear()
        if not self.pipeline:
            self._bounds.rest(self)
        if self.transport.is_closing():
            self.due_s = 0.0
            return
        if self._held_s:
            self.flow.pause_reading()
            self.loop.call_later(self._held_s, self._read_again)
            self._held_s = 0.0
        else:
            self.flow.resume_reading()
        if self.pipeline:
            if not self._in_head:
                self.due_s = 0.0
            self._start_asgi_task(*self.pipeline.pop())
        elif self._lingers:
            self.due_s = self.loop.time() + self._patience.linger_s
        elif self._deaf:
            self.loop.call_soon(self._answer_refused)
        elif not self._in_head:
            patience = self._patience
            self.due_s = self.loop.time() + (patience.rest_s if self.cycle.more_body else patience.idle_s)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._bounds.work(self)
        super()._start_asgi_task(cycle, app)

    @property
    def _answering(self) -> bool:
        """Return whether a request waits for the end of its answer."""
        running = self._running
        return running is not None and not (running.response_complete or running.disconnected)

    @property
    def _between_requests(self) -> bool:
        return not self._in_head and (self.cycle is None or not self.cycle.more_body)

    def _read_again(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    # Requests

    def data_received(self, data: bytes) -> None:
        """Parse the client's bytes; a malformed request is answered with a 400."""
        if self._deaf:
            self._throw_away(len(data))
            return
        self._untold_bytes += len(data)
        self._feed(data)
        if self._deaf:
            return
        if self._untold_bytes > _HEAD_MAX_BYTES:
            self._refuse(RefusedError(_TOO_LARGE))
        elif self._in_head and not self._head_timed:
            self._head_timed = True
            if self.cycle is not None:
                self.due_s = self.loop.time() + self._patience.head_s

    def _feed(self, data: bytes) -> None:
        last, between = self.cycle, self._between_requests
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            # Only if the data begin with this request is it known where the method stands.
            of_method = isinstance(error, httptools.HttpParserInvalidMethodError)
            if of_method and between and last is self.cycle and (request := readable(data)) is not None:
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self._feed(request)
                return
            if self._lingers:
                # Behind the body that was thrown away came a request, which is not answered.
                return
            if self._head_too_large():
                self._refuse(RefusedError(_TOO_LARGE))
                return
            self._refuse_unreadable()

    def _refuse_unreadable(self) -> None:
        self._warn("http_unreadable", self.loop.time())
        self.send_400_response("")

    def _drop(self, size_bytes: int) -> None:
        self._dropped_bytes += size_bytes
        if self._dropped_bytes > REST_MAX_BYTES:
            self._linger()

    def end_answer(self) -> None:
        """End the connection, as a whole answer was its last, or one was cut short."""
        running = self._running
        if running is not None and running.response_complete and running.more_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Send nothing more, and throw away what comes, until the client closes the connection.

        Closed while its client sends, it would be reset. Clients and proxies would tell of that in place of the answer.
        """
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = self._lingers = True
        self.transport.write_eof()
        self.due_s = self.loop.time() + self._patience.linger_s

    def _throw_away(self, size_bytes: int) -> None:
        if self._lingers and not self._bounds.takes_rest(self.origin, size_bytes):
            self._lingers = False
            self.due_s = self.loop.time() + self._patience.rest_s
        if not self._lingers:
            # The client reads the refusal before it is cut off. What it still sends waits in the system's buffer.
            self.flow.pause_reading()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]
        self._head_bytes = 0
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Raises `ValueError`, which ends the parsing, for one too many."""
        self._head_bytes += len(name) + len(value)
        if self._in_head:
            super().on_header(name, value)
        else:
            # A trailer. As a header it could change a request that has begun.
            self._head_bytes += _TRAILER_BYTES
        if self._head_too_large():
            raise ValueError

    def on_headers_complete(self) -> None:
        """Begin a request; uvicorn would answer it in chunks, which a client of HTTP/1.0 takes for the body.

        Raises `ValueError`, which ends the parsing, for a request too many or too large.
        """
        self._in_head = self._head_timed = False
        self._untold_bytes = 0
        if self._head_too_large() or len(self.pipeline) >= _PIPELINED_MAX or self._lingers:
            raise ValueError
        self.due_s = 0.0
        super().on_headers_complete()
        # The request's task has been created, and has not begun.
        self.cycle.message_event = SlimEvent()  # type: ignore[assignment]
        if self.scope["method"] != "HEAD":
            self.cycle.transport = JoinedWrites(self.transport, self.loop)  # type: ignore[assignment]
        if self.scope["http_version"] == "1.0":
            end_at_close(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._untold_bytes = 0
        if self.cycle.response_complete:
            self._drop(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._untold_bytes = self._dropped_bytes = 0
        cycle = self.cycle
        if cycle.response_complete:
            cycle.more_body = False
            self.due_s = self.loop.time() + self._patience.idle_s
        super().on_message_complete()

    def _head_too_large(self) -> bool:
        # Before the first request there is no list.
        if self._head_bytes > _HEAD_MAX_BYTES or len(self.headers or ()) > _FIELDS_MAX:
            return True
        return self.headers is not None and self._head_bytes + len(self.url) > _HEAD_MAX_BYTES

    # Refusals

    def send_400_response(self, msg: str) -> None:
        """Send a 400 with the error body of the contract. `msg`, uvicorn's own text, is ignored."""
        self._refuse(errors.invalid("", "This is not a readable HTTP/1.1 request"))

    def _refuse(self, refused: RefusedError) -> None:
        """Read no more, and answer so when it is the turn of what can't be read.

        Requests before it were whole. Without their answers, a client would take the refusal for theirs, and not know
        that it has paid.
        """
        self._deaf = True
        self._refusal = refused
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not self._in_head:
            # It is a part of this request, which gets one answer.
            if cycle.response_complete:
                self._refusal = None
            elif cycle is not self._running:
                del self.pipeline[0]
            elif cycle.response_started:
                self.transport.abort()
                return
            else:
                _disconnect(cycle)
        # An answer's head may wait for the end of this turn, see `JoinedWrites`.
        self.loop.call_soon(self._answer_refused)

    def _answer_refused(self) -> None:
        """Answer, and close the connection once the client has had time to read it: it may still be sending."""
        if self._answering or self.transport.is_closing():
            self.due_s = 0.0
            return
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            self._write_refusal(refusal)
        self.transport.write_eof()
        self.due_s = self.loop.time() + self._patience.rest_s

    def _write_refusal(self, refused: RefusedError) -> None:
        request_id, path = new_request_id(), self._path()
        answer = errors.answer(refused, RequestFacts(request_id), shape_of(path))
        ids = [(name, request_id.encode()) for name in id_names(path)]
        headers = [*answer.raw_headers, *ids, (b"x-content-type-options", b"nosniff")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join((STATUS_LINE[answer.status_code], *lines, _CLOSE, b"\r\n", bytes(answer.body))))

    def _path(self) -> str:
        """Return the path that was asked for last; empty if nothing was."""
        # Before the first request there is no address.
        url: bytes = getattr(self, "url", b"")
        return meant(url.partition(b"?")[0][:_PATH_BYTES_MAX].decode("latin-1"))

    def _warn(self, event: str, now_s: float) -> None:
        fields = self._bounds.sample.fields(now_s)
        if fields is not None:
            _log.warning(event, **fields)

    # Offers of other protocols

    def _read_on(self, rest: bytes) -> None:
        """Read on without the upgrade, in a new parser that gets only the headers with the body's length."""
        framing = [name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING]
        # Only connections with an upgrade pay for these wrappers. A method would run for every header of all requests.
        listener = {name: self._unless_resuming(getattr(self, name)) for name in _OF_HEADS}
        body = {"on_body": self.on_body, "on_message_complete": self.on_message_complete}
        self.parser = httptools.HttpRequestParser(SimpleNamespace(**listener, **body))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if framing:
            self.cycle.more_body = self._resuming = True
            try:
                self.parser.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *framing, b"\r\n")))
            except httptools.HttpParserError:
                self._refuse_unreadable()
                return
            finally:
                self._resuming = False
        if rest:
            self._feed(rest)

    def _unless_resuming(self, callback: Callable[..., None]) -> Callable[..., None]:
        def relay(*args: bytes) -> None:
            if not self._resuming:
                callback(*args)

        return relay


def _nothing() -> None:
    pass


def _disconnect(cycle: RequestResponseCycle | None) -> None:
    """Have the application know that its client takes no answer."""
    if cycle is not None and not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()
