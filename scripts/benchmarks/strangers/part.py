"""Payer beside strangers who attack, and the memory that these take (`scripts/bench --only strangers`)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ...http_client import Connection, LostError
from .. import servers
from ..grid import Column, Grid, percentile
from ..measuring import connect
from ..options import BenchOptions
from ..servers import BenchError, Child
from ..sessions import REQUEST, Holder, open_session, until_active
from ..store import BenchStore, store_of
from .attacks import ATTACKS

_PER_S: Final = 20
_CONNECTIONS: Final = 16
_DEPOSIT_SATS: Final = 100_000
_WARM_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.5
# An attack lasts so many times as long as other figures: what piles up takes time.
_TIMES: Final = 4
# The yardstick: what a payer's p99 may become.
_FACTOR: Final = 1.5
_SPARE_MS: Final = 20.0
_PARTS: Final = {"front": "server.front", "hosts": "HostActor"}
_STORE: Final = "store"
_SERVED: Final = (
    Column("attack", "attack"),
    Column("quiet_p99_ms", "p99 ms quiet", 1),
    Column("p50_ms", "p50 ms", 1),
    Column("p99_ms", "p99 ms", 1),
    Column("allowed_ms", "may be", 1),
    Column("asked", "asked"),
    Column("failed", "failed"),
    Column("answers", "strangers were answered"),
)
_MOMENTS: Final = ("before", "most", "after")
_MEMORY: Final = (
    Column("attack", "attack"),
    *(
        Column(f"{part}_{moment}_mb", f"{part} {moment}", 1 if part == _STORE else 0)
        for part in (*_PARTS, _STORE)
        for moment in _MOMENTS
    ),
)


@dataclass
class Payer:
    """A client with a session that asks at a fixed rate, whether answers come or not."""

    port: int
    holder: Holder
    latencies_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def ask_for(self, seconds: float) -> None:
        """Ask for so long, and wait for the answers."""
        loop = asyncio.get_running_loop()
        free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for _ in range(_CONNECTIONS):
            free.put_nowait(connect(self.port))
        begun_s = loop.time()
        asked = []
        for number in range(int(seconds * _PER_S)):
            due_s = begun_s + number / _PER_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            asked.append(asyncio.create_task(self._ask(free, due_s)))
        await asyncio.gather(*asked)
        while not free.empty():
            free.get_nowait().close()

    async def _ask(self, free: asyncio.LifoQueue[Connection], due_s: float) -> None:
        connection = await free.get()
        try:
            path, headers = f"{self.holder.path}/request", self.holder.headers
            status, _, body = await connection.request("POST", path, REQUEST, headers)
            if status != 200:
                self.failures.append(f"{status} {body[:100].decode(errors='replace')}")
        except (LostError, OSError) as error:
            self.failures.append(f"{type(error).__name__} {error}")
        finally:
            free.put_nowait(connection)
        # From the time that it was due: a client that waits for a slow server's connection waits, too.
        self.latencies_ms.append((asyncio.get_running_loop().time() - due_s) * 1_000)

    def take(self) -> list[float]:
        """Return the latencies so far, and forget them."""
        taken, self.latencies_ms = self.latencies_ms, []
        return taken


class Memory:
    """Memory of a server: what its processes have resident and its store has allocated, and the most that it was."""

    def __init__(self, child: Child, store: BenchStore) -> None:
        self._child = child
        self._store = store
        self.most_mb: dict[str, float] = {}

    async def now_mb(self) -> dict[str, float]:
        """Return the memory of each part, in MB."""
        now = {part: self._child.resident_kb(name) / 1_024 for part, name in _PARTS.items()}
        now[_STORE] = await self._store.used_bytes() / 1_048_576
        self.most_mb = {part: max(self.most_mb.get(part, 0.0), mb) for part, mb in now.items()}
        return now

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.now_mb()
            await asyncio.sleep(_LOOK_EVERY_S)


async def measure_strangers(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure a payer quiet and under each attack, and the server's memory. Raises `BenchError`."""
    seconds = _TIMES * options.duration_s
    served = Grid(title=f"A payer at {_PER_S} requests/s beside strangers", columns=_SERVED)
    memory = Grid(title="Memory of the server in MB, beside strangers", columns=_MEMORY)
    for name in options.attacks or ATTACKS:
        if name not in ATTACKS:
            raise BenchError(f"there is no attack {name}: there are {', '.join(ATTACKS)}")
        # Each has a server of its own: what one leaves behind would be the next one's beginning.
        async with servers.served(directory / name, SATMETER_RATE_LIMITS="on") as child, store_of(child) as store:
            await _measure(served, memory, child, Memory(child, store), name, seconds, options.after_s)
    served.note = (
        f"Each attack lasts {seconds:.0f} s, from up to 100 addresses, with what CPU the server leaves over. p99 may "
        f"be {_FACTOR:g} times quiet + {_SPARE_MS:.0f} ms."
    )
    memory.note = f"Before an attack, the most during it, and {options.after_s:.0f} s after it."
    return [served, memory]


async def _measure(
    served: Grid, memory: Grid, child: Child, watched: Memory, name: str, seconds: float, after_s: float
) -> None:
    connection = connect(child.port)
    holder = await open_session(connection, _DEPOSIT_SATS)
    await until_active(connection, holder)
    connection.close()
    payer = Payer(child.port, holder)
    await payer.ask_for(_WARM_S)
    payer.take()
    await payer.ask_for(seconds)
    quiet, before_mb = payer.take(), await watched.now_mb()
    async with _watched(watched), _attacked(name, child.port, seconds + _WARM_S) as answers:
        # The attack begins first.
        await asyncio.sleep(_WARM_S)
        await payer.ask_for(seconds)
    under, most_mb = payer.take(), watched.most_mb
    await asyncio.sleep(after_s)
    after_mb = await watched.now_mb()
    quiet_p99 = percentile(quiet, 99) or 0.0
    told = ", ".join(f"{status}: {count:,}" for status, count in sorted(answers.items()))
    failure = f"; failed first: {payer.failures[0]}" if payer.failures else ""
    allowed = _FACTOR * quiet_p99 + _SPARE_MS
    p50, p99 = percentile(under, 50), percentile(under, 99)
    served.add(name, quiet_p99, p50, p99, allowed, len(under), len(payer.failures), f"{told}{failure}")
    memory.add(name, *(mb[part] for part in (*_PARTS, _STORE) for mb in (before_mb, most_mb, after_mb)))


@asynccontextmanager
async def _watched(memory: Memory) -> AsyncIterator[None]:
    task = asyncio.create_task(memory.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _attacked(name: str, port: int, seconds: float) -> AsyncIterator[dict[str, int]]:
    """Attack meanwhile; the answers are there when it is over. Raises `BenchError` for an attack that failed."""
    module = f"{__package__}.attacks"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, name, str(port), str(seconds), stdout=asyncio.subprocess.PIPE
    )
    answers: dict[str, int] = {}
    try:
        yield answers
        assert process.stdout is not None
        told = await process.stdout.read()
        if await process.wait():
            raise BenchError(f"the attack {name} ended with {process.returncode}")
        answers.update(msgspec.json.decode(told))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
