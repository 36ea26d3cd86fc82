"""Model provider for `scripts/bench` in a process of its own: answers Messages API calls, whole or event by event.

    python -m satmeter.scripts.benchmarks.provider PORT WAIT_S

A whole answer comes after `WAIT_S`. A streamed one brings as many events as the call's `max_tokens`, one each second
until `GET /every/SECONDS` sets another time for all. The text of each is the time at which it was sent, so that its
reader knows how long it was on the way. `GET /waiting` tells how many calls wait for a whole answer.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, cast

import httptools
import uvloop

EVERY: Final = "/every/"
"""Path before the seconds between a stream's events, which a GET of it sets."""
WAITING: Final = "/waiting"
"""Path whose body is the number of calls that wait."""
_EVENT_EVERY_S: Final = 1.0
MODEL: Final = "claude-haiku-5-5"
ANSWER: Final = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-5-5","content":[{"type":"text","text":'
    b'"It measures angles."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":20,"output_tokens":'
    b"8}}"
)
"""Body of a whole answer."""
# Streams take turns in so many groups, so that their events do not come all at once.
_GROUPS: Final = 20
_BACKLOG: Final = 4_096
_ASKED: Final = re.compile(rb'"max_tokens": ?(\d+)')
_SENT: Final = re.compile(rb'"text":"(\d{6,}) "')
_STREAM: Final = re.compile(rb'"stream": ?true')
_JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_BEGIN: Final = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"model":"claude-haiku-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,'
    b'"output_tokens":1}}}\n\nevent: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
    b'"%d "}}\n\n'
)
_END: Final = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\nevent: message_delta\ndata: {"type":'
    b'"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":%d}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def events(count: int) -> Iterator[bytes]:
    """Yield the pieces of a stream with this many events, the first at once and each other one when its time comes."""
    yield _BEGIN + _DELTA % time.monotonic_ns()
    for _ in range(count - 1):
        yield _DELTA % time.monotonic_ns()
    yield _END % count


def sent_at_ns(piece: bytes) -> list[int]:
    """Return when each event in these bytes was sent."""
    return [int(found) for found in _SENT.findall(piece)]


def events_asked(body: bytes) -> int | None:
    """Return how many events a call asks for; None for one that is not to be streamed."""
    if not _STREAM.search(body):
        return None
    asked = _ASKED.search(body)
    return int(asked[1]) if asked else 1


class _UnderWay:
    """Calls under way: how many wait, and streams in groups that have their turns one after the other."""

    def __init__(self) -> None:
        self._groups: list[dict[_Exchange, Iterator[bytes]]] = [{} for _ in range(_GROUPS)]
        self._next = 0
        self.every_s = _EVENT_EVERY_S
        self.waiting = 0

    def add(self, exchange: _Exchange, pieces: Iterator[bytes]) -> None:
        self._groups[self._next % _GROUPS][exchange] = pieces
        self._next += 1

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            for group in self._groups:
                for exchange, pieces in list(group.items()):
                    piece = next(pieces, None)
                    if not exchange.give(piece) or piece is None:
                        del group[exchange]
                due_s += self.every_s / _GROUPS
                await asyncio.sleep(max(0.0, due_s - loop.time()))


class _Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self, under_way: _UnderWay, wait_s: float) -> None:
        self._under_way = under_way
        self._wait_s = wait_s
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._url = b""
        self._transport: asyncio.Transport | None = None

    def give(self, piece: bytes | None) -> bool:
        """Send a piece of a stream, None for its end; return whether the connection still is."""
        if self._transport is None:
            return False
        self._transport.write(b"0\r\n\r\n" if piece is None else b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_begin(self) -> None:
        self._body = self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url
        _, asked, every_s = url.partition(EVERY.encode())
        if asked:
            self._under_way.every_s = float(every_s)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._transport is None:
            return
        count = events_asked(self._body)
        if count is not None:
            self._transport.write(_STREAM_HEAD)
            self._under_way.add(self, events(count))
        elif self._wait_s and self._body:
            self._under_way.waiting += 1
            asyncio.get_running_loop().call_later(self._wait_s, self._answer_late)
        elif self._url == WAITING.encode():
            self._answer(b"%d" % self._under_way.waiting)
        else:
            self._answer(ANSWER)

    def _answer_late(self) -> None:
        self._under_way.waiting -= 1
        self._answer(ANSWER)

    def _answer(self, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(_JSON_HEAD % len(body) + body)


async def _serve(port: int, wait_s: float) -> None:
    under_way = _UnderWay()
    await asyncio.get_running_loop().create_server(
        lambda: _Exchange(under_way, wait_s), "127.0.0.1", port, backlog=_BACKLOG
    )
    await under_way.run()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
