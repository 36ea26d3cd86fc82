"""For `scripts/bench`: work over sessions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .bench_client import Connection, Work

_OPENING_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Holder:
    """An open session: its id and its credential."""

    session_id: str
    macaroon: str


async def open_sessions(port: int, count: int, amount_sats: int) -> list[Holder]:
    """So many sessions, paid for and active."""
    connections = [Connection(port) for _ in range(min(count, _OPENING_AT_ONCE))]
    numbers = iter(range(count))

    async def opener(connection: Connection) -> list[Holder]:
        return [await _open(connection, amount_sats) for _ in numbers]

    holders = [holder for found in await asyncio.gather(*map(opener, connections)) for holder in found]
    await _until_active(connections[0], holders)
    for connection in connections:
        await connection.close()
    return holders


def opening(amount_sats: int) -> Work:
    """Opens a session, up to its macaroon and its deposit's invoice."""

    async def work(connection: Connection) -> None:
        await _post(connection, "/sessions", {"amountSats": amount_sats}, 201)

    return work


def asking(holders: Sequence[Holder], body: dict[str, Any]) -> Work:
    """A metered request, by one session after the other."""
    turns = itertools.cycle(holders)

    async def work(connection: Connection) -> None:
        holder = next(turns)
        await _post(connection, f"/sessions/{holder.session_id}/request", body, 200, holder.macaroon)

    return work


async def _open(connection: Connection, amount_sats: int) -> Holder:
    created = await _post(connection, "/sessions", {"amountSats": amount_sats}, 201)
    await _post(connection, f"/dev/stub/pay/{created['depositInvoice']['paymentHash']}", None, 200)
    return Holder(created["sessionId"], created["macaroon"])


async def _until_active(connection: Connection, holders: Sequence[Holder]) -> None:
    for holder in holders:
        state = ""
        while state != "active":
            path, token = f"/sessions/{holder.session_id}", {"Authorization": f"Bearer {holder.macaroon}"}
            _, answer = await connection.request("GET", path, headers=token)
            state = msgspec.json.decode(answer)["state"]


async def _post(connection: Connection, path: str, body: Any, expected: int, macaroon: str = "") -> Any:
    headers = {"Authorization": f"Bearer {macaroon}"} if macaroon else {}
    status, answer = await connection.request("POST", path, body, headers=headers)
    assert status == expected, answer
    return msgspec.json.decode(answer)
