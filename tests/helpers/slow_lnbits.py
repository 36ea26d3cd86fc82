"""An LNbits on a real socket, whose payments take as long as a test says and whose word on them a test scripts.

It knows what LNbits 1.6.2 knows of a payment: a row that its paying call makes, and what the look-up says of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Container
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

_STATUS: Final = {200: "OK", 201: "Created", 403: "Forbidden", 404: "Not Found", 520: "Unknown"}


@dataclass
class Order:
    """A paying call that came in. `answer` is set by the test; None breaks the connection without a word."""

    bolt11: str
    extra: dict[str, Any]
    answer: asyncio.Future[tuple[int, Any] | None]


@dataclass
class SlowLnbits:
    """`look_up` says what is in the list for a payment hash. `orders` holds every paying call, the first one first."""

    url: str = ""
    wallet_msat: int = 10_000_000
    orders: list[Order] = field(default_factory=list)
    look_ups: list[str] = field(default_factory=list)
    look_up: Callable[[str], list[dict[str, Any]]] = lambda _: []
    sent: list[dict[str, Any]] = field(default_factory=list)
    wallets: dict[str, dict[str, Any]] = field(default_factory=dict)
    forgotten: Container[str] = ()
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        answer = await self._answer(method, target, fields.get("x-api-key", ""), body)
        if answer is None:
            writer.transport.abort()
            return False
        data = msgspec.json.encode(answer[1])
        line = f"HTTP/1.1 {answer[0]} {_STATUS.get(answer[0], 'x')}\r\nContent-Type: application/json\r\n"
        writer.write(f"{line}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
        return True

    async def _answer(self, method: str, target: str, key: str, body: bytes) -> tuple[int, Any] | None:
        path, _, query = target.partition("?")
        if method == "POST" and path == "/api/v1/payments":
            ordered = msgspec.json.decode(body)
            order = Order(ordered["bolt11"], ordered["extra"], asyncio.get_running_loop().create_future())
            self.orders.append(order)
            return await order.answer
        if path == "/api/v1/wallet":
            wallet = self.wallets.get(key, {"name": "ours", "balance": self.wallet_msat})
            return (200, wallet) if wallet else (404, {"detail": "Wallet not found."})
        if path == "/api/v1/payments/paginated" and "payment_hash%5Beq%5D=" in query:
            payment_hash = query.partition("payment_hash%5Beq%5D=")[2][:64]
            self.look_ups.append(payment_hash)
            rows = self.look_up(payment_hash)
            return 200, {"data": rows, "total": len(rows)}
        if path == "/api/v1/payments/paginated":
            return 200, {"data": self.sent, "total": len(self.sent)}
        if path[-64:] in self.forgotten:
            return 404, {"detail": "Payment does not exist."}
        return 200, {"paid": True, "details": {"payment_hash": path[-64:], "amount": 1_000, "status": "success"}}

    def close(self) -> None:
        """Break all connections."""
        for order in self.orders:
            if not order.answer.done():
                order.answer.cancel()
        for writer in list(self._writers):
            writer.transport.abort()


def row(payment_hash: str, amount_msat: int, actor_id: str, status: str, fee_msat: int = 0) -> dict[str, Any]:
    """An outgoing payment as LNbits lists it."""
    return {
        "checking_id": payment_hash,
        "payment_hash": payment_hash,
        "amount": -amount_msat,
        "fee": -fee_msat,
        "status": status,
        "extra": {"tag": "satmeter", "satmeter_actor": actor_id},
    }


@contextlib.asynccontextmanager
async def slow_lnbits() -> AsyncIterator[SlowLnbits]:
    """The server at a free port of 127.0.0.1."""
    lnbits = SlowLnbits()
    server = await asyncio.start_server(lnbits.serve, "127.0.0.1", 0)
    lnbits.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield lnbits
    finally:
        server.close()
        lnbits.close()
