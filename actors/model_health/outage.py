"""Outages of the model provider, as all processes know of them through the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from ..domain.backoff import pause_after
from ..domain.provider_faults import ModelFault
from ..port_errors import PortError

ANTHROPIC: Final = "anthropic"
"""Name of the only upstream where there is no models file."""
MODEL: Final = "model"
"""Name of the provider among the parts that readiness names."""
FAILURES_MAX: Final = 3
"""Failed calls in a row, of all processes together, after which the provider is taken for away."""
_BACKOFF_FIRST_MS: Final = 1_000
_BACKOFF_MAX_MS: Final = 15_000
_JITTER: Final = 0.2
TRIAL_MS: Final = 10_000
"""Time for the first paid call, which shows whether the provider works. Without a call in it, the trial is over."""
# Clocks of two machines differ by less. What lies further ahead was noted before a clock was set back.
_SKEW_MS: Final = 60_000
# After this time the watch itself must be down. That says nothing about the provider, and must not keep a shop closed.
_FORGOTTEN_AFTER_MS: Final = 600_000
ASK_AGAIN_S: Final = 1.0
"""Age up to which what is known of the provider counts."""
ASK_BEFORE_SALES_S: Final = 0.1
"""Age up to which it counts where something is sold: what is sold after the provider went down has to be paid back."""


class Stage(StrEnum):
    """Stage of an outage.

    DOWN: the provider is not called, but asked now and then whether it is there. TRIAL: it is there, and calls of
    sessions and jobs that were paid for show whether it works: the first of them decides.
    """

    DOWN = "down"
    TRIAL = "trial"


class ModelOutage(msgspec.Struct, frozen=True):
    """Outage of the provider since `since_ms`. Times are milliseconds since the epoch.

    fault: its cause; None at the start, before the provider was asked for the first time. tries: how often in a row it
    was tried again in vain. until_ms: the time at which a DOWN provider is tried again, or a TRIAL without a call is
    over.
    """

    stage: Stage
    fault: ModelFault | None
    since_ms: int
    until_ms: int
    tries: int = 0

    def left_ms(self, now_ms: int) -> int:
        """Return the time until `until_ms`, 0 once it has come.

        It has come, too, if it lies further ahead than any outage sets it: then a clock was set back since, and the
        provider would count as away for as long as that.
        """
        return _left_ms(self.until_ms, now_ms, _BACKOFF_MAX_MS)


class ModelWait(msgspec.Struct, frozen=True):
    """Wait until `until_ms` that the provider has asked for before calls to a model, because of this fault.

    `told_ms`: the time at which it asked; 0 where an earlier version noted it.
    """

    fault: ModelFault
    until_ms: int
    told_ms: int = 0

    def left_ms(self, now_ms: int) -> int:
        """Return the time until `until_ms`, 0 once it has come, or where a clock was set back since it was told."""
        return _left_ms(self.until_ms, now_ms, self.until_ms - self.told_ms)


def _left_ms(until_ms: int, now_ms: int, longest_ms: int) -> int:
    left_ms = max(0, until_ms - now_ms)
    return left_ms if left_ms <= longest_ms + _SKEW_MS else 0


class ModelWord(msgspec.Struct, frozen=True):
    """Knowledge of the provider. `failures`: calls that failed in a row; `waits`: by the name of the model."""

    outage: ModelOutage | None = None
    failures: int = 0
    waits: Mapping[str, ModelWait] = {}

    def outage_at(self, now_ms: int) -> ModelOutage | None:
        """Return the outage, unless no watch has looked after it for long."""
        outage = self.outage
        return None if outage is None or now_ms - outage.until_ms > _FORGOTTEN_AFTER_MS else outage

    def down(self, now_ms: int) -> ModelOutage | None:
        """Return the outage in which the provider is not called at all."""
        outage = self.outage_at(now_ms)
        return outage if outage is not None and outage.stage is Stage.DOWN else None

    def closed(self, now_ms: int) -> ModelOutage | None:
        """Return the outage in which nothing is sold: the last call failed, and there was no other since."""
        outage = self.outage_at(now_ms)
        over = outage is not None and outage.stage is Stage.TRIAL and not outage.left_ms(now_ms)
        return None if over else outage

    def wait(self, model: str, now_ms: int) -> ModelWait | None:
        """Return the wait that the provider has asked for, while it lasts."""
        wait = self.waits.get(model)
        return wait if wait is not None and wait.left_ms(now_ms) else None


class ModelBoard(Protocol):
    """Store's part in the model's health. All raise `TransientError`."""

    async def read(self) -> ModelWord:
        """Return the stored knowledge of the provider."""
        ...

    async def swap(self, known: ModelOutage | None, new: ModelOutage | None) -> bool:
        """Put the new outage in the place of the known one, if that still stands there; return whether it did.

        None as the new outage: the known one is over, and so are the failures that led to it.
        """
        ...

    async def count_failure(self) -> int:
        """Count one more failed call; return how many have failed in a row."""
        ...

    async def forget_failures(self) -> None:
        """Forget the failed calls after a successful one."""
        ...

    async def tell_wait(self, model: str, wait: ModelWait) -> None:
        """Store a wait that the provider has asked for."""
        ...


class ModelUp:
    """Knowledge of a model that is always there: the stub."""

    async def current(self, longest_s: float = ASK_AGAIN_S, model: str | None = None) -> ModelWord:
        """Return a state without an outage."""
        return ModelWord()

    async def upstreams(self) -> Mapping[str, ModelWord]:
        """Return nothing: there are no upstreams."""
        return {}


class ModelCache:
    """Cache of the stored knowledge in the memory of a process, read at most once a second, more often for sales.

    Without knowledge the provider counts as there: a store that is down says nothing about it.
    """

    def __init__(self, board: ModelBoard, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._clock = clock
        self._read_s: float | None = None
        self.known = ModelWord()

    async def current(self, longest_s: float = ASK_AGAIN_S) -> ModelWord:
        """Return the last known state, which is at most `longest_s` old. Never raises."""
        now_s = self._clock()
        if self._read_s is None or now_s - self._read_s > longest_s:
            self._read_s = now_s
            try:
                self.known = await self._board.read()
            except PortError:
                self.known = ModelWord()
        return self.known

    def outdate(self) -> None:
        """Have the state read again at once, as this process has just changed it."""
        self._read_s = None


def backoff_ms(tries: int, chance: Callable[[], float]) -> int:
    """Return how long until the provider is tried again; `chance` gives a number from 0 to 1."""
    longest_ms = pause_after(tries, _BACKOFF_FIRST_MS, _BACKOFF_MAX_MS)
    return int(longest_ms * (1 - _JITTER * chance()))


Sleep = Callable[[float], Awaitable[None]]
