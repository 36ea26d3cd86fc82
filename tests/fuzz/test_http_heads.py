"""The HTTP parser under any bytes, cut anywhere: no error, one answer at most to each request, bounded memory."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

import httptools
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from satmeter.http.edge.connections import Connections
from satmeter.http.edge.shares import Caps
from satmeter.http.protocol import HttpProtocol
from tests.fuzz.mutations import broken, cut, places

HEAD_MAX_BYTES = 65_536
FIELDS_MAX = 100
# What the application is told in the place of an unknown method.
STAND_IN = "PROPFIND"

token = st.text("abcdefghijklmnopqrstuvwxyzABC-0123456789", min_size=1, max_size=12).map(str.encode)
header = st.one_of(
    st.tuples(token, st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n\0"))),
    st.tuples(token, st.binary(max_size=20)),
    st.sampled_from(
        [
            *(
                (b"Content-Length", value)
                for value in (b"0", b"3", b"-1", b"3, 3", b"99999999999999999999", b"+3", b"")
            ),
            *((b"Transfer-Encoding", value) for value in (b"chunked", b"gzip, chunked", b"identity", b"chunked, x")),
            *((b"Connection", value) for value in (b"close", b"keep-alive", b"Upgrade", b"upgrade, close", b"")),
            *((b"Upgrade", value) for value in (b"h2c", b"websocket", b"")),
            *((b"Expect", value) for value in (b"100-continue", b"200-ok")),
            *((b"Host", value) for value in (b"x", b"", b"x:y:z")),
        ]
    ),
)
heads = st.builds(
    lambda method, target, version, headers, end: b"".join(
        (method, b" ", target, b" HTTP/", version, end, *(b"%b: %b%b" % (*pair, end) for pair in headers), end)
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"PRI", b"CONNECT", b"FOO", b"get", b""]),
    st.one_of(
        st.sampled_from([b"/", b"/jobs?a=%ff", b"*", b"x:80", b"http://x/y", b"//", b""]), st.binary(max_size=12)
    ),
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0", b"2.0", b"0.9", b""]),
    st.lists(header, max_size=5),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]),
)
bodies = st.sampled_from(
    [
        b"",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"3;x=y\r\nabc\r\n0\r\nT: r\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"x",
    ]
)
WHOLE = (
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: r\r\n\r\n",
    b"POST /d HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /f HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /g HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
)
pieces = st.one_of(
    st.sampled_from(WHOLE),
    st.tuples(heads, bodies).map(b"".join),
    st.sampled_from(WHOLE).flatmap(broken),
    st.binary(max_size=40),
)


class Wire(asyncio.Transport):
    """A transport that notes what is written to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self.written = bytearray()
        self.closing = False
        self.ended = False
        self.protocol: HttpProtocol | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("198.51.100.7", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        if not self.closing:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            assert self.protocol is not None
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


@dataclass
class Heard:
    """Outcome of some bytes: the requests that the application saw, and the statuses that the client got."""

    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)


class Bench:
    """One event loop for all examples, which each have a connection of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.heard = Heard()
        self.loop.set_exception_handler(lambda _, context: self.heard.errors.append(context))
        self.config = Config(
            self._app,
            interface="asgi3",
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
        )
        self.config.load()
        self.connections: Connections

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        number = len(self.heard.asked)
        self.heard.asked.append((scope["method"], scope["raw_path"].decode("latin-1"), b""))
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message["body"]
            if not message["more_body"]:
                break
        self.heard.asked[number] = (*self.heard.asked[number][:2], body)
        headers = [(b"content-length", b"2"), (b"x-number", b"%d" % number)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def _converse(self, data: bytes, at: list[int], *, waits: bool) -> tuple[Heard, HttpProtocol]:
        self.heard = Heard()
        self.connections = Connections(Caps(10, 10, 10))
        protocol = HttpProtocol(
            config=self.config,
            server_state=ServerState(),
            app_state={},
            _loop=self.loop,
            connections=self.connections,
        )
        wire = Wire(self.loop)
        wire.protocol = protocol
        protocol.connection_made(wire)
        for piece in cut(data, at):
            if wire.closing:
                break
            if piece:
                protocol.data_received(piece)
                bounded(protocol, len(piece))
            if waits:
                await self._settle()
        for _ in range(20):
            await self._settle()
        if not wire.closing:
            protocol.eof_received()
            wire.close()
        await self._settle()
        assert self.connections.total == 0
        if self.connections._timer is not None:
            self.connections._timer.cancel()
        read_answers(bytes(wire.written), self.heard)
        return self.heard, protocol

    def converse(self, data: bytes, at: list[int], *, waits: bool = True) -> tuple[Heard, HttpProtocol]:
        """Send the bytes in pieces, and return what became of them."""
        heard, protocol = self.loop.run_until_complete(self._converse(data, at, waits=waits))
        assert heard.errors == []
        return heard, protocol


def bounded(protocol: HttpProtocol, piece_bytes: int) -> None:
    """Check that no more is kept of a head than may be."""
    headers = protocol.headers or []
    assert len(headers) <= FIELDS_MAX + 1
    assert sum(len(name) + len(value) for name, value in headers) <= HEAD_MAX_BYTES + piece_bytes
    assert protocol._deaf or protocol._untold_bytes <= HEAD_MAX_BYTES
    assert len(protocol.pipeline) <= 16


class _Answers:
    """Callbacks of the parser of answers."""

    def __init__(self, heard: Heard, parser: list[Any]) -> None:
        self._heard, self._parser = heard, parser

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-number":
            self._heard.labels.append(value)

    def on_headers_complete(self) -> None:
        self._heard.statuses.append(self._parser[0].get_status_code())


def read_answers(data: bytes, heard: Heard) -> None:
    """Read the answers, of which a HEAD's has no body: they come one behind the other, and nothing else does."""
    rest = data
    while rest:
        head, found, after = rest.partition(b"\r\n\r\n")
        assert found and head.startswith(b"HTTP/1.1 "), rest
        parser: list[Any] = []
        parser.append(httptools.HttpResponseParser(_Answers(heard, parser)))
        parser[0].feed_data(head + b"\r\n\r\n")
        status = heard.statuses[-1]
        if status == 100:
            heard.statuses.pop()
            rest = after
            continue
        (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        number = len(heard.labels) - 1
        bodiless = b"x-number" in head and heard.asked[number][0] == "HEAD"
        rest = after if bodiless else after[int(length.partition(b":")[2]) :]
    assert heard.labels == [b"%d" % number for number in range(len(heard.labels))]


BENCH = Bench()


@given(st.lists(pieces, max_size=5).map(b"".join), places, st.booleans())
@example(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab\0GET / HTTP/1.1\r\n\r\n", [], True)
@example(b"".join(WHOLE) * 4, [], False)
@example(b"CONNECT / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", [], True)
def test_any_bytes_get_one_answer_for_each_request_and_then_one_refusal_at_most(
    data: bytes, at: list[int], waits: bool
) -> None:
    heard, _ = BENCH.converse(data, at, waits=waits)
    refused = [status for status in heard.statuses if status != 200]
    assert set(refused) <= {400, 431}
    assert len(refused) <= 1 and heard.statuses[-len(refused) :] == refused if refused else True
    assert len(heard.statuses) - len(refused) <= len(heard.asked)


@given(st.lists(pieces, max_size=5).map(b"".join), places)
@example(WHOLE[0] + WHOLE[1], [28])
@example(WHOLE[1] + WHOLE[6][2:], [len(WHOLE[1])])
def test_how_the_bytes_are_cut_changes_nothing(data: bytes, at: list[int]) -> None:
    whole, _ = BENCH.converse(data, [])
    pieces_of_it, _ = BENCH.converse(data, at)
    known = min(before_unknown(whole), before_unknown(pieces_of_it))
    if known == math.inf:
        assert pieces_of_it.statuses == whole.statuses
        known = len(whole.labels)
        assert len(pieces_of_it.labels) == known
    # Of others the application may have had a part.
    answered = int(min(known, len(whole.labels)))
    assert pieces_of_it.labels[:answered] == whole.labels[:answered]
    assert pieces_of_it.asked[:answered] == whole.asked[:answered]
    assert pieces_of_it.statuses[:answered] == whole.statuses[:answered]


def before_unknown(heard: Heard) -> float:
    """Return the number of requests before one with an unknown method.

    Such a one is refused by the server or by the application: its place is known only where it begins the bytes.
    """
    unknown = [number for number, (method, *_) in enumerate(heard.asked) if method == STAND_IN]
    return unknown[0] if unknown else math.inf


@given(
    st.sampled_from([b"GET / HTTP/1.1\r\n", b"GET /", b"", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"]),
    st.sampled_from([b"a: b\r\n", b"x", b" ", b"\r\n", b"X-" + b"y" * 70 + b": z\r\n", b"1;" + b"e" * 90, b"\0"]),
    st.integers(200, 9_000),
    st.integers(0, 40),
)
def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(
    begun: bytes, piece: bytes, size: int, pause: int
) -> None:
    data = begun + piece * (2 * HEAD_MAX_BYTES // len(piece))
    heard, protocol = BENCH.converse(data, list(range(pause, len(data), size)), waits=False)
    # Line breaks before a request mean nothing, and are kept nowhere.
    assert protocol._deaf or not protocol.headers
    assert len([status for status in heard.statuses if status != 200]) <= 1
