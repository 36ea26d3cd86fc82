"""The HTTP client over TLS and proxies, and when it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from satmeter.actors.adapters.upstream.http import NotSentError
from satmeter.actors.adapters.upstream.http_client import environment_proxy
from tests.helpers.http.certificates import contexts
from tests.helpers.http.raw_server import HEAD, Peer, raw_server
from tests.helpers.http.upstream import BODY, KEY, SECRET, client, exchange, failure_of

# Cancelling


async def endless(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"6\r\nso far\r\n")
    await peer.until_gone()


async def unanswered(peer: Peer) -> None:
    await peer.request()
    await peer.until_gone()


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("serve", [endless, unanswered])
async def test_cancelling_closes_the_connection_within_a_second(
    tmp_path: Path, serve: Callable[[Peer], Awaitable[None]], *, over_tls: bool
) -> None:
    ours, theirs = contexts(tmp_path)
    async with raw_server(serve, ours if over_tls else None) as server, client(tls=theirs) as made:
        reading = asyncio.create_task(exchange(server, made))
        while not server.requests:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(server.gone.wait(), 1.0)


async def test_a_reader_that_stops_early_closes_the_connection() -> None:
    async with raw_server(endless) as server, client() as made:
        answer = await made.post(server.url, KEY, BODY)
        assert await anext(answer.chunks()) == b"so far"
        await answer.aclose()
        await asyncio.wait_for(server.gone.wait(), 1.0)


# TLS and proxies


async def answers(peer: Peer) -> None:
    await peer.request()
    await peer.answer()


async def test_an_authority_of_the_environment_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = contexts(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with raw_server(answers, ours) as server, client() as made:
        assert await exchange(server, made) == b"ok"


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.2"], ids=["unknown authority", "another name"])
async def test_a_certificate_that_cannot_be_verified_was_sent_nothing(tmp_path: Path, name: str) -> None:
    ours, theirs = contexts(tmp_path, name)
    async with (
        raw_server(answers, ours) as server,
        client(tls=None if name == "127.0.0.1" else theirs) as made,
    ):
        failure = await failure_of(made.post(server.url, KEY, BODY))
        assert isinstance(failure, NotSentError) and server.requests == []
        assert "CERTIFICATE_VERIFY_FAILED" in str(failure)


async def test_calls_go_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"by proxy")

    async with raw_server(serve) as proxy, raw_server(answers) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with client() as made:
            assert await exchange(server, made) == b"by proxy"
            assert proxy.requests[0].startswith(f"POST {server.url} HTTP/1.1".encode())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with client() as made:
            assert await exchange(server, made) == b"ok"


async def test_a_proxy_that_refuses_was_sent_nothing_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    connects: list[bytes] = []

    async def serve(peer: Peer) -> None:
        connects.append(await peer.reader.readuntil(b"\r\n\r\n"))
        await peer.answer(b"", "407 Proxy Authentication Required")

    async with raw_server(serve) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        async with client() as made:
            failure = await failure_of(made.post("https://api.test/v1/messages", KEY, BODY))
    assert isinstance(failure, NotSentError)
    assert connects[0].startswith(b"CONNECT api.test:443") and SECRET.encode() not in connects[0]


@pytest.mark.parametrize(
    ("no_proxy", "host", "expected"),
    [
        ("", "api.test", "http://p:1"),
        ("api.test", "api.test", None),
        (".test", "api.test", None),
        ("other.test, api.test:8443", "api.test", None),
        ("other.test", "api.test", "http://p:1"),
        ("*", "api.test", None),
    ],
)
def test_no_proxy_excepts_servers(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, expected: str | None
) -> None:
    monkeypatch.setenv("https_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert environment_proxy("https", host, 8443) == expected


async def test_a_proxy_of_another_kind_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    async with client() as made:
        failure = await failure_of(made.post("http://api.test/", KEY, BODY))
    assert isinstance(failure, NotSentError) and "not an HTTP proxy" in str(failure)
