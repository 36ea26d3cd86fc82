"""Attacks of strangers on a server of `scripts/bench`, from many addresses of loopback, in a process of their own.

    python -m satmeter.scripts.benchmarks.strangers.attacks NAME PORT SECONDS

It prints the answers that it got by status, as JSON; `lost` are connections that ended without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import secrets
import sys
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import msgspec
import uvloop

from ....actors.domain.credentials import macaroon

# An attacker is another machine, which takes no time from the server; here it may take only what is left over.
_NICENESS: Final = 19
_CONNECTS_WITHIN_S: Final = 10.0
_PAUSE_S: Final = 0.05
_HEAD_END: Final = b"\r\n\r\n"
_JOB_CHARS: Final = 100_000
_HALF_HEADS: Final = 5_000
_STREAMS: Final = 10_000
_SLOW_READERS: Final = 2_000
_FLOODED_BYTES: Final = 40_000_000
_FULL_SPEED: Final = 64
_CAVEATS: Final = 60
_TURNED_AWAY: Final = (429, 503)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Attack = Callable[["Attacker"], Awaitable[None]]


class Attacker:
    """An attacker, and the answers that it got."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: Counter[str] = Counter()
        self._held: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()

    async def connect(self, address: str) -> Streams:
        """Open a connection from this address. Raises `OSError`."""
        async with asyncio.timeout(_CONNECTS_WITHIN_S):
            streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        self._held.add(streams[1])
        return streams

    async def ask(self, streams: Streams, request: bytes) -> tuple[int, bytes]:
        """Send a request and return its answer's status and body. Raises `OSError` for a connection that ended."""
        reader, writer = streams
        writer.write(request)
        try:
            head = await reader.readuntil(_HEAD_END)
            lines = head.lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            body = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError(str(error)) from None
        status = int(head[9:12])
        self.answers[str(status)] += 1
        return status, body

    async def keep_asking(self, addresses: list[str], request: Callable[[], bytes], at_once: int) -> None:
        """Ask over so many connections as fast as answers come."""
        turns = itertools.cycle(addresses)
        await asyncio.gather(*(self._asker(next(turns), request) for _ in range(at_once)))

    async def _asker(self, address: str, request: Callable[[], bytes]) -> None:
        while True:
            try:
                streams = await self.connect(address)
                while (await self.ask(streams, request()))[0] not in _TURNED_AWAY:
                    pass
                # A connection that was refused is not read for a while, and another one is.
                streams[1].close()
                continue
            except (OSError, TimeoutError):
                self.answers["lost"] += 1
            await asyncio.sleep(_PAUSE_S)

    async def hold(self, addresses: list[str], count: int, sent: Callable[[str], bytes]) -> None:
        """Hold so many connections open after sending this, and open each again when it ends."""
        turns = itertools.cycle(addresses)
        await asyncio.gather(*(self._holder(next(turns), sent, number) for number in range(count)))

    async def _holder(self, address: str, sent: Callable[[str], bytes], number: int) -> None:
        await asyncio.sleep(number / 2_000)
        while True:
            try:
                reader, writer = await self.connect(address)
                try:
                    writer.write(sent(address))
                    first = await reader.read(12)
                    self.answers[first[9:12].decode() or "lost"] += 1
                    if first[9:12] == b"200":
                        # Nothing more is read: the stream's reader stops once its own buffer is full.
                        await asyncio.Event().wait()
                finally:
                    writer.transport.abort()
            except (OSError, TimeoutError):
                self.answers["lost"] += 1
            await asyncio.sleep(1.0)

    async def job(self, address: str, text: str) -> str:
        """Create a job and return its id. Raises `OSError`."""
        streams = await self.connect(address)
        status, body = await self.ask(streams, post("/jobs", {"request": text}))
        streams[1].close()
        if status != 201:
            raise ConnectionError(f"a job was answered with {status}")
        created: Mapping[str, str] = msgspec.json.decode(body)
        return created["jobId"]

    def close(self) -> None:
        """End all connections."""
        for writer in self._held:
            writer.transport.abort()


def addresses_of(count: int) -> list[str]:
    """Return so many addresses of loopback, none of which is the payer's."""
    return [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]


def post(path: str, body: object, *headers: str) -> bytes:
    """Return a POST with a JSON body."""
    payload = msgspec.json.encode(body)
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(payload)}", "", ""]).encode() + payload


def get(path: str, *headers: str) -> bytes:
    """Return a GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def unpaid_jobs(attacker: Attacker) -> None:
    """Create jobs of the longest text from 100 addresses."""
    texts = (f"{secrets.token_hex(8)} {'x' * (_JOB_CHARS - 17)}" for _ in itertools.count())
    await attacker.keep_asking(addresses_of(100), lambda: post("/jobs", {"request": next(texts)}), _FULL_SPEED)


async def streams(attacker: Attacker) -> None:
    """Open 10,000 event streams from 100 addresses."""
    job_id = await attacker.job("127.0.1.1", "watched by many")
    request = get(f"/jobs/{job_id}/events")
    await attacker.hold(addresses_of(100), _STREAMS, lambda _: request)


async def half_heads(attacker: Attacker) -> None:
    """Open 5,000 connections that send half of a head, from 50 addresses."""
    await attacker.hold(addresses_of(50), _HALF_HEADS, lambda _: b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: ")


async def header_floods(attacker: Attacker) -> None:
    """Send heads of 40 MB over 32 connections, again and again."""

    async def flood(address: str) -> None:
        part = b"y" * 65_536
        while True:
            try:
                reader, writer = await attacker.connect(address)
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
                for _ in range(_FLOODED_BYTES // len(part)):
                    writer.write(part)
                    await writer.drain()
                first = await reader.read(12)
                attacker.answers[first[9:12].decode() or "lost"] += 1
                writer.close()
            except (OSError, TimeoutError):
                attacker.answers["lost"] += 1
            await asyncio.sleep(_PAUSE_S)

    await asyncio.gather(*map(flood, addresses_of(32)))


async def bad_credentials(attacker: Attacker) -> None:
    """Send long macaroons with a wrong signature at full speed, also from the payer's address."""
    macaroon_id = macaroon.MacaroonId("ab" * 32, macaroon.session_id(secrets.token_bytes(24)), 1)
    caveats = [f"max_msat = {1_000_000_000 - number}" for number in range(_CAVEATS)]
    token = macaroon.attenuate(macaroon.mint(secrets.token_bytes(32), macaroon_id), caveats)
    request = post("/ask", {"request": "hello"}, f"Authorization: Bearer {token}")
    await attacker.keep_asking(["127.0.0.1", *addresses_of(31)], lambda: request, _FULL_SPEED)


async def metrics(attacker: Attacker) -> None:
    """Ask for the metrics at full speed."""
    request = get("/metrics")
    await attacker.keep_asking(addresses_of(32), lambda: request, _FULL_SPEED)


async def challenges(attacker: Attacker) -> None:
    """Ask for the 402 of a call without a credential at full speed."""
    request = post("/ask", {"request": "hello"})
    await attacker.keep_asking(addresses_of(100), lambda: request, _FULL_SPEED)


async def slow_readers(attacker: Attacker) -> None:
    """Ask for a long answer again and again over 2,000 connections, and read none."""
    request = get("/openapi.json") * 8
    await attacker.hold(addresses_of(100), _SLOW_READERS, lambda _: request)


ATTACKS: Final[Mapping[str, Attack]] = {
    "unpaid-jobs": unpaid_jobs,
    "streams": streams,
    "half-heads": half_heads,
    "header-floods": header_floods,
    "bad-credentials": bad_credentials,
    "metrics": metrics,
    "challenges": challenges,
    "slow-readers": slow_readers,
}
"""Attacks that can be measured, in the order in which they are."""


async def _attack(name: str, port: int, seconds: float) -> Counter[str]:
    attacker = Attacker(port)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ATTACKS[name](attacker)
    attacker.close()
    return attacker.answers


def _arguments(words: list[str]) -> Iterator[str]:
    if len(words) != 3 or words[0] not in ATTACKS:
        raise SystemExit(f"NAME PORT SECONDS, with a name of {', '.join(ATTACKS)}")
    yield from words


def main() -> None:
    """Attack, and print the answers."""
    name, port, seconds = _arguments(sys.argv[1:])
    os.nice(_NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    answers = uvloop.run(_attack(name, int(port), float(seconds)))
    sys.stdout.write(msgspec.json.encode(answers).decode())


if __name__ == "__main__":
    main()
