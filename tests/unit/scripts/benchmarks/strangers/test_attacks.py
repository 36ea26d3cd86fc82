"""Attacks of strangers: what they send, and from where."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from satmeter.scripts.benchmarks.strangers.attacks import ATTACKS, Attacker, addresses_of, get, post
from tests.helpers.hosts import until


def test_addresses_are_of_loopback_and_never_the_payers() -> None:
    addresses = addresses_of(600)
    assert len(set(addresses)) == 600
    assert all(address.startswith("127.0.") for address in addresses) and "127.0.0.1" not in addresses


def test_requests_are_whole() -> None:
    assert get("/metrics", "X: y") == b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n"
    head, _, body = post("/jobs", {"request": "x"}).partition(b"\r\n\r\n")
    assert body == b'{"request":"x"}' and b"Content-Length: 15" in head


@pytest.mark.parametrize("name", ATTACKS)
async def test_each_attack_counts_its_answers_from_many_addresses(name: str) -> None:
    peers = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername")[0])
        with contextlib.suppress(ConnectionError):
            await reader.read(1_024)
            body = b'{"jobId":"job_x"}'
            status = b"201 Created" if name == "streams" else b"429 Too Many Requests"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    attacker = Attacker(server.sockets[0].getsockname()[1])
    attack = asyncio.ensure_future(ATTACKS[name](attacker))

    async def answered() -> bool:
        return sum(attacker.answers.values()) >= 5 and len(peers) >= 2

    await until(answered)
    attack.cancel()
    await asyncio.gather(attack, return_exceptions=True)
    attacker.close()
    server.close()
