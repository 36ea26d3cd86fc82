"""Work over sessions for `scripts/bench`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..http_client import Connection
from .measuring import Work, connect
from .servers import BenchError

REQUEST: Final[dict[str, Any]] = {"request": "Name three uses of a sextant.", "maxTokens": 200}
"""Body of a request."""
_OPENING_AT_ONCE: Final = 32
_ACTIVE_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Holder:
    """An open session: its id and its credential."""

    session_id: str
    macaroon: str

    @property
    def path(self) -> str:
        """Path under which everything of the session is."""
        return f"/sessions/{self.session_id}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that let the holder in."""
        return {"Authorization": f"Bearer {self.macaroon}"}


async def open_sessions(port: int, count: int, amount_sats: int) -> list[Holder]:
    """Open this many sessions, paid for and active. Raises `BenchError`."""
    connections = [connect(port) for _ in range(min(count, _OPENING_AT_ONCE))]
    numbers = iter(range(count))

    async def opener(connection: Connection) -> list[Holder]:
        return [await open_session(connection, amount_sats) for _ in numbers]

    try:
        holders = [holder for found in await asyncio.gather(*map(opener, connections)) for holder in found]
        for holder in holders:
            await until_active(connections[0], holder)
    finally:
        for connection in connections:
            connection.close()
    return holders


def opening(amount_sats: int) -> Work:
    """Return work that opens a session, up to its macaroon and its deposit's invoice."""

    async def work(connection: Connection) -> None:
        await post(connection, "/sessions", {"amountSats": amount_sats}, 201)

    return work


def asking(holders: Sequence[Holder], body: dict[str, Any]) -> Work:
    """Return work that makes a metered request, by one session after the other."""
    turns = itertools.cycle(holders)

    async def work(connection: Connection) -> None:
        await ask(connection, next(turns), body)

    return work


async def ask(connection: Connection, holder: Holder, body: dict[str, Any]) -> None:
    """Make one metered request. Raises `BenchError`."""
    await post(connection, f"{holder.path}/request", body, 200, holder.headers)


async def open_session(connection: Connection, amount_sats: int) -> Holder:
    """Open a session whose deposit is paid, but may not have been seen yet. Raises `BenchError`."""
    created = msgspec.json.decode(await post(connection, "/sessions", {"amountSats": amount_sats}, 201))
    await post(connection, f"/dev/stub/pay/{created['depositInvoice']['paymentHash']}", None, 200)
    return Holder(created["sessionId"], created["macaroon"])


async def until_active(connection: Connection, holder: Holder) -> None:
    """Wait until the session can be spent from. Raises `BenchError`."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _ACTIVE_WITHIN_S
    while msgspec.json.decode(await show(connection, holder))["state"] != "active":
        if loop.time() > deadline_s:
            raise BenchError(f"a session did not become active within {_ACTIVE_WITHIN_S:.0f} s after its payment")
        await asyncio.sleep(_LOOK_EVERY_S)


async def show(connection: Connection, holder: Holder) -> bytes:
    """Return the body of a GET of the session. Raises `BenchError`."""
    status, _, answer = await connection.request("GET", holder.path, headers=holder.headers)
    return _expected(status, answer, 200, holder.path)


async def post(
    connection: Connection, path: str, body: Any, expected: int, headers: dict[str, str] | None = None
) -> bytes:
    """Return the body of a good answer. Raises `BenchError`."""
    status, _, answer = await connection.request("POST", path, body, headers=headers)
    return _expected(status, answer, expected, path)


def _expected(status: int, answer: bytes, expected: int, path: str) -> bytes:
    if status != expected:
        raise BenchError(f"{path} was answered with {status}: {answer.decode(errors='replace')[:500]}")
    return answer
