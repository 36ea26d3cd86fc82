"""Thousands of sessions at once that each wait for the model, in an open loop (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import resource
import secrets
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from ..http_client import Origin, Pool
from ..load.api import Server
from ..load.opening import Opening
from ..load.options import LoadError, Options
from ..load.runner import Load
from ..load.stats import Recorder
from ..load.wallets import StubPayer
from . import servers
from .grid import Column, Grid, percentile
from .options import BenchOptions
from .servers import BenchError

_MODEL_S: Final = 1.0
_DEPOSIT_SATS: Final = 10_000
_TIMEOUT_S: Final = 60.0
# By then the ramp has settled: connections are made, and as many sessions wait as will.
_RAMP_S: Final = 3.0
_LOOK_EVERY_S: Final = 0.1
# There may be more requests than sessions: those that have fallen behind may still be sent, and show as latency.
_IN_FLIGHT_SPARE: Final = 2
# Files beside the connections: the event loop's own, those of front and store.
_OTHER_FILES: Final = 256
_KEPT_UP: Final = 0.98
_LONG_RATE_MAX: Final = 1_000
_COLUMNS: Final = (
    Column("model_s", "model s", 1),
    Column("rate_per_s", "due per s"),
    Column("answered_per_s", "answered per s"),
    Column("in_flight", "in flight, mean"),
    Column("in_flight_max", "max"),
    Column("added_p50_ms", "added p50 ms", 1),
    Column("added_p99_ms", "added p99 ms", 1),
    Column("failed", "failed"),
    Column("late", "sent late"),
    Column("sustained", "sustained"),
)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Figures at one rate.

    Latencies count from when requests were due, and those of the ramp are left out.
    """

    model_s: float
    rate_per_s: float
    answered_per_s: float
    in_flight: float
    in_flight_max: int
    added_p50_ms: float | None
    added_p99_ms: float | None
    failed: int
    late: int

    @property
    def sustained(self) -> bool:
        """Verdict that the server kept up with what was due."""
        return self.failed == 0 and self.answered_per_s >= _KEPT_UP * self.rate_per_s


async def measure_waiting(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure rates at a model of a second, then a slower one that all sessions await at once.

    Raises `BenchError`.
    """
    # The limit is raised before the servers start, which inherit it.
    allow_files(options.waiting * _IN_FLIGHT_SPARE)
    grid = Grid(
        title=f"{options.waiting:,} sessions that wait for the model",
        columns=_COLUMNS,
        note="An open loop: latency counts from when a request was due. Added: beyond the model's own time. Load "
        "generator and server share this machine's processors.",
    )
    stages = []
    async with _crowd(directory / "second", _MODEL_S, options.waiting) as crowd:
        for rate in options.rates_per_s:
            stages.append(await crowd.stage(rate, 2 * options.duration_s))
            await asyncio.sleep(options.pause_s)
    rate_per_s = long_rate(stages, options.rates_per_s[0])
    model_s = options.waiting / rate_per_s
    async with _crowd(directory / "long", model_s, options.waiting) as crowd:
        stages.append(await crowd.stage(rate_per_s, max(2 * options.duration_s, model_s)))
    for stage in stages:
        figures = msgspec.structs.asdict(stage)
        grid.add(*(figures[column.name] for column in _COLUMNS[:-1]), "yes" if stage.sustained else "no")
    return [grid]


def long_rate(stages: Sequence[Stage], least: float) -> float:
    """Return the rate for the slow model: the highest that was sustained, within bounds."""
    return min(max((stage.rate_per_s for stage in stages if stage.sustained), default=least), _LONG_RATE_MAX)


class Crowd:
    """Open sessions of a server whose model takes this long for a request."""

    def __init__(self, pool: Pool, sessions: int, model_s: float) -> None:
        self._server = Server(pool)
        self._sessions = sessions
        self._model_s = model_s
        self._opening = Opening(self._server, StubPayer(self._server), None, asyncio.Event())

    async def open(self) -> None:
        """Open the sessions and pay for them. Raises `BenchError`."""
        try:
            await self._opening.run(self._sessions, _DEPOSIT_SATS, secrets.token_hex(6))
        except LoadError as error:
            raise BenchError(str(error)) from None

    async def stage(self, rate_per_s: float, duration_s: float) -> Stage:
        """Measure one rate, for this long after the ramp."""
        ramp_s = self._model_s + _RAMP_S
        options = Options(
            url="",
            rate_per_s=rate_per_s,
            duration_s=ramp_s + duration_s,
            in_flight_max=self._sessions * _IN_FLIGHT_SPARE,
            timeout_s=_TIMEOUT_S,
        )
        load = Load(self._server, self._opening.holders, options, secrets.token_hex(6))
        load.recorder = recorder = SteadyRecorder(ramp_s, options.duration_s)
        looking = asyncio.create_task(_in_flight(load, ramp_s))
        try:
            await load.run()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        assert load.schedule is not None
        in_flight = recorder.in_flight
        added_ms = [(latency_s - self._model_s) * 1_000 for latency_s in recorder.latencies_s]
        return Stage(
            model_s=self._model_s,
            rate_per_s=rate_per_s,
            answered_per_s=recorder.answered_in_time / duration_s,
            in_flight=statistics.fmean(in_flight) if in_flight else 0.0,
            in_flight_max=max(in_flight, default=0),
            added_p50_ms=percentile(added_ms, 50),
            added_p99_ms=percentile(added_ms, 99),
            failed=recorder.failed + load.schedule.not_sent(options.duration_s),
            late=load.schedule.late_generator + load.schedule.late_in_flight,
        )


class SteadyRecorder(Recorder):
    """Recorder of each exact latency after the ramp: of seconds, a bucket of 1 % is more than what is added.

    `answered_in_time`: answers that came between the ramp and the end. `in_flight`: requests in flight at each look.
    """

    def __init__(self, ramp_s: float, duration_s: float) -> None:
        super().__init__(duration_s)
        self._ramp_s = ramp_s
        self._duration_s = duration_s
        self.latencies_s: list[float] = []
        self.answered_in_time = 0
        self.in_flight: list[int] = []

    def answer(self, due_s: float, ended_s: float, first_token_s: float | None) -> None:
        """Count an answered request."""
        super().answer(due_s, ended_s, first_token_s)
        if due_s >= self._ramp_s:
            self.latencies_s.append(ended_s - due_s)
        self.answered_in_time += self._ramp_s <= ended_s < self._duration_s


async def _in_flight(load: Load, ramp_s: float) -> None:
    assert isinstance(load.recorder, SteadyRecorder)
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        if ramp_s <= load.now_s and not (load.schedule is not None and load.schedule.over(load.now_s)):
            load.recorder.in_flight.append(load.in_flight)


@asynccontextmanager
async def _crowd(directory: Path, model_s: float, sessions: int) -> AsyncIterator[Crowd]:
    settings = {
        "SATMETER_STUB_MODEL_LATENCY_S": model_s / 2,  # A request has the model called twice.
        "SATMETER_PASSIVATE_AFTER_S": 3_600,
    }
    async with servers.served(directory, **settings) as child:
        pool = Pool(Origin("127.0.0.1", child.port), sessions * _IN_FLIGHT_SPARE, _TIMEOUT_S)
        try:
            crowd = Crowd(pool, sessions, model_s)
            await crowd.open()
            yield crowd
        finally:
            pool.close()


def allow_files(connections: int) -> None:
    """Let this process and those that it starts have this many connections.

    Raises `BenchError` when it may not.
    """
    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"this part needs {needed} open files, and may have {hard}: raise the limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
