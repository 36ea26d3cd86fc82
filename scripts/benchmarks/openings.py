"""Rate of opened sessions and of whole jobs in a second, with the stub node (`scripts/bench`)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ..http_client import Connection
from . import servers
from .grid import Column, Grid, medians
from .measuring import Work, connect, measure
from .options import BenchOptions
from .servers import BenchError
from .sessions import REQUEST, open_session, opening, until_active

_CONNECTIONS: Final = 64
_DEPOSIT_SATS: Final = 1_000
_COLUMNS: Final = (
    Column("what", "what"),
    Column("connections", "connections"),
    Column("per_s", "per s"),
    Column("p50_ms", "p50 ms", 1),
    Column("p99_ms", "p99 ms", 1),
)


async def measure_openings(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure openings and whole jobs. Raises `BenchError`."""
    grid = Grid(
        title="What begins with an invoice, with the stub node",
        columns=_COLUMNS,
        note=f"Medians of {options.rounds} rounds of {options.duration_s:g} s each.",
    )
    async with servers.served(directory / "openings") as child:
        works = {
            "POST /sessions: macaroon and invoice": opening(_DEPOSIT_SATS),
            "session, opened, paid and active": _whole_session,
            "job, from its creation to complete": _whole_job(child.port),
        }
        for what, work in works.items():
            rounds = [
                (await measure(child.port, _CONNECTIONS, options.duration_s, work)).figures
                for _ in range(options.rounds)
            ]
            grid.add(what, _CONNECTIONS, *medians(rounds).values())
    return [grid]


async def _whole_session(connection: Connection) -> None:
    await until_active(connection, await open_session(connection, _DEPOSIT_SATS))


def _whole_job(port: int) -> Work:
    async def whole(connection: Connection) -> None:
        job_id = await new_job(connection)
        watching, state = connect(port), ""
        try:
            async for status in watching.events(f"/jobs/{job_id}/events"):
                state = status["state"]
                if state == "awaiting_eval_payment":
                    await _pay(connection, status["evalInvoice"]["paymentHash"])
                elif state == "awaiting_work_payment":
                    await _pay(connection, status["workInvoice"]["paymentHash"])
        finally:
            watching.close()
        if state != "complete":
            raise BenchError(f"a job ended as {state}")

    return whole


async def new_job(connection: Connection) -> str:
    """Create a job, and return its id. Raises `BenchError`."""
    status, _, body = await connection.request("POST", "/jobs", {"request": REQUEST["request"]})
    if status != 201:
        raise BenchError(f"a job can't be created: {body.decode(errors='replace')}")
    job_id: str = msgspec.json.decode(body)["jobId"]
    return job_id


async def _pay(connection: Connection, payment_hash: str) -> None:
    status, _, body = await connection.request("POST", f"/dev/stub/pay/{payment_hash}")
    if status != 200:
        raise BenchError(f"an invoice can't be paid: {body.decode(errors='replace')}")
