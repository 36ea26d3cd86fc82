"""The lean client against servers that answer, break off, talk nonsense or close what is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from satmeter.scripts.http_client import Connection, LostError, Origin, Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nhi"


class _Script:
    """Answers each request with the next of these; None closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self.heads: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self._answers:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
                await reader.readexactly(int(length[16:]))
                answer = self._answers.pop(0)
                if answer is None:
                    return
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _serving(*answers: bytes | None) -> AsyncIterator[_Script]:
    script = _Script(*answers)
    server = await asyncio.start_server(script.talk, "127.0.0.1", 0)
    async with server:
        script.port = server.sockets[0].getsockname()[1]
        yield script


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8402", ("127.0.0.1", 8402, "", False)),
        ("https://example.org/satmeter/", ("example.org", 443, "/satmeter", True)),
        ("http://[::1]", ("::1", 80, "", False)),
    ],
)
def test_an_address_is_read(url: str, expected: tuple[str, int, str, bool]) -> None:
    origin = Origin.parse(url)
    assert (origin.host, origin.port, origin.base, origin.tls is not None) == expected


@pytest.mark.parametrize("url", ["", "example.org", "ftp://a", "http://", "http://a?b=c", "http://u:p@a", "http://a:x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Origin.parse(url)


async def test_connections_are_kept_and_used_again() -> None:
    async with _serving(OK, OK, OK) as script:
        pool = Pool(Origin.parse(f"http://127.0.0.1:{script.port}/base"), 5, 10)
        answers = [await pool.request("POST", "/path", {"a": 1}, {"X-Y": "z"}) for _ in range(3)]
        answer = answers[-1]
        assert (answer.status, answer.body, answer.retry_after_s) == (200, b"hi", 7)
        assert script.connections == 1
        assert script.heads[0].startswith(b"POST /base/path HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % script.port)
        assert b"\r\nX-Y: z\r\n" in script.heads[0] and b"\r\nContent-Length: 7\r\n" in script.heads[0]
        pool.close()


async def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with _serving(closing, OK) as script:
        pool = Pool(Origin.parse(f"http://127.0.0.1:{script.port}"), 5, 10)
        await pool.request("GET", "/")
        assert (await pool.request("GET", "/")).body == b"hi"
        assert script.connections == 2
        pool.close()


async def test_the_pool_is_bounded() -> None:
    async with _serving(*[OK] * 20) as script:
        pool = Pool(Origin.parse(f"http://127.0.0.1:{script.port}"), 2, 10)
        await asyncio.gather(*(pool.request("GET", "/") for _ in range(20)))
        assert script.connections <= 2
        pool.close()


async def test_pieces_of_a_body_are_handed_on_as_they_come() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with _serving(chunked) as script:
        pieces: list[bytes] = []
        connection = Connection(Origin("127.0.0.1", script.port))
        answer = await connection.request("GET", "/", on_body=pieces.append)
        assert (pieces, answer.body) == ([b"one", b"two"], b"onetwo")
        connection.close()


@pytest.mark.parametrize("half", [None, OK[:-1], b"", b"SMTP?\r\n\r\n"])
async def test_a_lost_answer_may_have_been_carried_out(half: bytes | None) -> None:
    async with _serving(*([half] if half is None else [half, None])) as script:
        connection = Connection(Origin("127.0.0.1", script.port), timeout_s=0.05)
        with pytest.raises(LostError) as caught:
            await connection.request("GET", "/")
        assert caught.value.sent
        assert not connection.reusable


async def test_without_a_connection_nothing_was_sent() -> None:
    with pytest.raises(LostError) as caught:
        await Connection(Origin("127.0.0.1", 1)).request("GET", "/")
    assert not caught.value.sent


async def test_events_are_read_as_they_come() -> None:
    events = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: {"a\r\na\r\n":1}\n\n: b\n\r\n0\r\n\r\n'
    async with _serving(events) as script:
        connection = Connection(Origin("127.0.0.1", script.port))
        assert [event async for event in connection.events("/")] == [{"a": 1}]
        connection.close()
