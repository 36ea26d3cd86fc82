"""World that all parts of a run share: its clock, its chance, its kinds of faults, and what has happened so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from .loop import Chance, Process, SimulatedLoop, outside
from .patching import START_MS

T = TypeVar("T")
_HISTORY_MAX: Final = 200_000
# The node or an upstream causes these errors: the program logs them and goes on, as it must.
_FOR_THE_OPERATOR: Final = frozenset({"payout_refused", "model_provider_down"})
_STOPS_S: Final = ((0.2, 10.0), (2.0, 40.0), (40.0, 120.0), (120.0, 420.0))
_MINUTES_S: Final = 310.0, 420.0
_SUSPENDED_PART: Final = 0.6
_OTHERS_S: Final = 15.0


class Fault(StrEnum):
    """Kinds of trouble. Each seed has some of them; a failing one is tried with fewer."""

    HOST_DEATH = "host_death"
    HOST_STOP = "host_stop"
    HOST_END = "host_end"
    MOVE = "move"
    FRONT_DEATH = "front_death"
    TREASURY_DEATH = "treasury_death"
    CLOCK = "clock"
    STORE_AWAY = "store_away"
    STORE_LOSS = "store_loss"
    STORE_LATE = "store_late"
    STORE_SLOW = "store_slow"
    LINK_LOSS = "link_loss"
    LINK_DOUBLE = "link_double"
    LINK_SLOW = "link_slow"
    NODE_AWAY = "node_away"
    NODE_LOSS = "node_loss"
    NODE_LATE = "node_late"
    NODE_WRONG = "node_wrong"
    PAYOUT_FAILS = "payout_fails"
    HINTS = "hints"
    MODEL_FAILS = "model_fails"
    MODEL_SLOW = "model_slow"
    WALLETS = "wallets"
    LEAVING = "leaving"
    DEDICATED_DEATH = "dedicated_death"
    DEDICATED_STOP = "dedicated_stop"
    START_FAILS = "start_fails"
    SERVER_DEATH = "server_death"
    SERVER_STOP = "server_stop"
    MACHINE_DEATH = "machine_death"
    RECEIVER_AWAY = "receiver_away"
    RECEIVER_FAILS = "receiver_fails"
    RECEIVER_LATE = "receiver_late"
    RECEIVER_TIRED = "receiver_tired"
    STALL = "stall"
    MODEL_AWAY = "model_away"
    ARCHIVE_CUT = "archive_cut"
    UPSTREAM_AWAY = "upstream_away"
    UPSTREAM_REFUSES = "upstream_refuses"
    UPSTREAM_BREAKS = "upstream_breaks"
    DESTINATION_FAILS = "destination_fails"
    DESTINATION_REFUSES = "destination_refuses"
    DESTINATION_LATE = "destination_late"
    DESTINATION_WRONG = "destination_wrong"


class ViolationError(Exception):
    """A broken promise; the text says which, and by what."""


@dataclass(eq=False)
class World:
    """World of one run. `calm`: no more faults happen. `pieces_max`: pieces of a streamed answer, at most.

    `model_back_s`: the time of the loop until which no process reaches the model.
    """

    loop: SimulatedLoop
    chance: Chance
    faults: frozenset[Fault]
    pieces_max: int = 6
    calm: bool = False
    violation: str | None = None
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    history: list[str] = field(default_factory=list)
    fault_count: int = 0
    model_back_s: float = 0.0
    clocks_ahead_s: float = 0.0
    """Lead of the fastest clock that a host has ever had."""
    still_until_s: float = 0.0
    """Time at which the last process goes on that was made to stand still."""
    excuses: Callable[[str, dict[str, Any]], bool] = lambda event, fields: False
    """Test whether an error that the program logs is expected, by the books of the run."""
    suspended: bool = False
    """Set once all hosts have stood still at once."""

    def now_ms(self) -> int:
        """Return the true time."""
        return START_MS + int(self.loop.time() * 1_000)

    def clock(self, process: Process) -> Callable[[], int]:
        """Return the wall clock of a process."""
        return lambda: self.now_ms() + process.clock_error_ms

    def tell(self, text: str) -> None:
        """Write a line into the history."""
        if len(self.history) < _HISTORY_MAX:
            self.history.append(f"{self.loop.time():10.4f}  {text}")

    def log(self, level: str, event: str, fields: dict[str, Any], defect: bool) -> None:
        """Take an entry of the program's log.

        The program logs errors only when it is broken itself, or its operator must act.
        """
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        self.tell(f"    log {level}: {event} {said}")
        if defect and event not in _FOR_THE_OPERATOR and not self.calm_down and not self.excuses(event, fields):
            self.violate(f"the program found itself broken: {event} {said}")

    def violate(self, text: str) -> None:
        """Record a broken promise. The first one counts."""
        if self.violation is None:
            self.violation = text
            self.tell(f"VIOLATION: {text}")
            self.broken.set()

    calm_down: bool = False
    """Set when the run is over and everything in it has only to end."""

    def strikes(self, fault: Fault, probability: float) -> bool:
        """Return whether trouble of this kind comes now."""
        if self.calm or fault not in self.faults or not self.chance.happens(probability):
            return False
        self.fault_count += 1
        return True

    def later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back after this time, in no process."""
        self.loop.call_later(delay_s, callback, *args, context=outside())

    def stand_still(self, process: Process, away_s: float) -> None:
        """Stop a process for this long, or for less while others stand still.

        A run in which all processes stand still shows little.
        """
        if any(other.stopped and other.alive and other is not process for other in self.loop.processes):
            away_s = min(away_s, _OTHERS_S)
        self._stop(process, away_s)

    def _stop(self, process: Process, away_s: float) -> None:
        process.stop()
        self.tell(f"{process.name} stands still")
        process.still_until_s = max(process.still_until_s, self.loop.time() + away_s)
        self.still_until_s = max(self.still_until_s, process.still_until_s)

        def go_on() -> None:
            if self.loop.time() >= process.still_until_s:
                process.go_on()
                self.tell(f"{process.name} goes on")

        self.later(away_s, go_on)

    def lose_sight_of(self, process: Process) -> None:
        """Stop a process for longer than any caller has patience, as when its machine is cut off."""
        self.stand_still(process, self.chance.uniform(*_MINUTES_S))

    def stall(
        self, process: Process | None, probability: float, *, minutes: bool = False, everywhere: bool = False
    ) -> None:
        """Stop a host or an actor's process by chance, at the very moment when something of it was carried out.

        `minutes`: for longer than any caller has patience. `everywhere`: perhaps all of them, as when a machine is
        suspended.
        """
        if process is None or not (process.hosts and process.alive and self.strikes(Fault.STALL, probability)):
            return
        away_s = self.chance.uniform(*_MINUTES_S) if minutes else stop_s(self.chance)
        if not everywhere or self.suspended or not self.chance.happens(_SUSPENDED_PART):
            self.stand_still(process, away_s)
            return
        self.suspended = True
        for stopped in self.loop.processes:
            # The front goes on: clients that wait for it would hear nothing from a suspended one.
            if stopped.alive and stopped.name != "front":
                self._stop(stopped, away_s)

    async def pause(self, delay_s: float) -> None:
        """Wait, in the process that runs this."""
        await asyncio.sleep(delay_s)


def stop_s(chance: Chance) -> float:
    """Return how long a process stands still: seconds, minutes, or longer than any caller has patience."""
    return chance.uniform(*chance.choice(_STOPS_S))


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Answer with an error, unless the future is done."""
    if not future.done():
        future.set_exception(error)


def settle(future: asyncio.Future[T], operation: Callable[[], T]) -> None:
    """Answer with the operation's result or error, unless the future is done."""
    try:
        result = operation()
    except Exception as error:
        fail(future, error)
    else:
        if not future.done():
            future.set_result(result)
