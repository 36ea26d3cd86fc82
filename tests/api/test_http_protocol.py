"""Malformed HTTP and offers of other protocols: below the application, on real sockets."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.api.test_bad_input import assert_error
from tests.helpers.http.fronts import Api, converse, listening
from tests.helpers.patience import PATIENCE_S

NO_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "a method in small letters": b"get /jobs HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method of any length": b"F" * 40 + b" /jobs HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method of no request": b"FOO /jobs FTP/1.1\r\n\r\n",
    "a length that is no number": b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
    "a framing that the offer of another protocol hid": b"CONNECT / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
    "two ways to say the length": b"POST /jobs HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_what_is_no_http_gets_an_error_in_the_form_of_all(api: Api, name: str) -> None:
    async with listening(api.app) as server:
        answer = await converse(server.port, NO_HTTP[name], until_closed=True)
    head, _, content = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert status == "HTTP/1.1 400 Bad Request"
    assert headers["connection"] == "close"
    assert_error(httpx.Response(400, headers=headers, content=content), 400, "invalid_request")


UNKNOWN = {
    "whole": (b"FOO /jobs HTTP/1.1\r\nHost: x\r\n\r\n",),
    "with the beginning of a known one": (b"GETX /jobs HTTP/1.1\r\nHost: x\r\n\r\n",),
    "with a body": (b"UPDATE-IT /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",),
    "in pieces": (b"FOO /jo", b"bs HTTP/1.1\r\nHost: x\r\n", b"\r\n"),
    "known to the parser": (b"PROPFIND /jobs HTTP/1.1\r\nHost: x\r\n\r\n",),
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_an_unknown_method_is_told_what_the_path_takes(api: Api, name: str) -> None:
    """The connection goes on, also where a request had come before."""
    fine = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with listening(api.app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(2):
                for part in UNKNOWN[name]:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.split(": ", 1) for line in head.decode().strip().split("\r\n")[1:])
                content = await reader.readexactly(int(lines["content-length"]))
                answer = httpx.Response(405, headers=lines, content=content)
                assert head.startswith(b"HTTP/1.1 405 ") and lines["allow"] == "OPTIONS, POST"
                assert_error(answer, 405, "method_not_allowed")
                writer.write(fine)
                assert (await reader.readuntil(b'{"status":"ok"}')).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_an_unknown_method_behind_another_request_is_no_readable_one(api: Api) -> None:
    """The place of its method in the bytes is not known: a body before it may look like one."""
    first = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nFOO "
    async with listening(api.app) as server:
        answer = await converse(server.port, first + b"FOO /jobs HTTP/1.1\r\n\r\n", until_closed=True)
    assert answer.count(b"HTTP/1.1 400 ") == 2


HEADS = {
    "fields": b"".join(b"X-%d: y\r\n" % number for number in range(100)),
    "bytes": b"X: %b\r\nY: %b\r\n" % (b"x" * 33_000, b"y" * 33_000),
}


@pytest.mark.parametrize("name", HEADS)
async def test_too_many_headers_are_a_431(api: Api, name: str) -> None:
    async with listening(api.app) as server:
        sent = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + HEADS[name] + b"\r\n"
        answer = await converse(server.port, sent, until_closed=True)
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ") and b"connection: close" in head
    assert b'"code":"headers_too_large"' in content


UNREADABLE = {
    "too many headers": (431, HEADS["fields"] + b"\r\n"),
    "a broken chunk": (400, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/messages", "invalid_request_error"),
        ("/v1/v1/chat/completions?x=1", "invalid_request_error"),
        ("/v1/responses", "invalid_request_error"),
    ],
)
async def test_what_can_t_be_read_is_told_in_the_format_of_the_path(api: Api, name: str, path: str, kind: str) -> None:
    status, rest = UNREADABLE[name]
    async with listening(api.app) as server:
        sent = f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode() + rest
        answer = await converse(server.port, sent, until_closed=True)
    head, _, content = answer.partition(b"\r\n\r\n")
    body = json.loads(content)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert body["error"]["type"] == kind and body["error"]["message"]
    assert f"\r\nrequest-id: {body['requestId']}\r\n".encode() in head


async def test_as_many_headers_as_may_be_are_read(api: Api) -> None:
    fields = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 600) for number in range(98))
    async with listening(api.app) as server:
        sent = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n"
        answer = await converse(server.port, sent, until_closed=True)
    assert answer.startswith(b"HTTP/1.1 200 ")


OFFERS = {
    "HTTP/2, as Java's client makes": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    "a WebSocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\n",
}
BODIES = {
    "of a given length": (b"Content-Length: 19\r\n", b'{"request":"hello"}'),
    "in chunks": (b"Transfer-Encoding: chunked\r\n", b'8\r\n{"reques\r\nb\r\nt":"hello"}\r\n0\r\n\r\n'),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_of_another_protocol_is_ignored_and_the_body_read(api: Api, offer: str, body: str) -> None:
    framing, content = BODIES[body]
    head = b"POST /jobs HTTP/1.1\r\nHost: x\r\n" + OFFERS[offer] + framing + b"\r\n"
    next_one = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with listening(api.app) as server:
        for parts in (
            (head + content + next_one,),
            (head, content, next_one),
            (head + content[:9], content[9:], next_one),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE_S):
                answers = await reader.read()
            writer.close()
            assert answers.startswith(b"HTTP/1.1 201 Created\r\n")
            assert answers.endswith(b'{"status":"ok"}')
