"""State of a model provider in memory, with a clock that a test moves; and a provider that is asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.model_health.outage import ModelOutage, ModelWait, ModelWord, Stage
from satmeter.actors.ports import ModelError, TransientError

START_MS = 1_790_000_000_000


def outage(
    stage: Stage = Stage.DOWN,
    fault: ModelFault | None = ModelFault.UNREACHABLE,
    until_ms: int = START_MS + 5_000,
    tries: int = 0,
    since_ms: int = START_MS,
) -> ModelOutage:
    """An outage that began at the start."""
    return ModelOutage(stage, fault, since_ms, until_ms, tries)


@dataclass
class FakeBoard:
    """Implements `ModelBoard`. While it is `away`, every call fails."""

    outage: ModelOutage | None = None
    failures: int = 0
    waits: dict[str, ModelWait] = field(default_factory=dict)
    away: bool = False
    reads: int = 0

    async def read(self) -> ModelWord:
        self.reads += 1
        self._called()
        return ModelWord(self.outage, self.failures, dict(self.waits))

    async def swap(self, known: ModelOutage | None, new: ModelOutage | None) -> bool:
        self._called()
        if self.outage != known:
            return False
        self.outage = new
        if new is None:
            self.failures = 0
        return True

    async def count_failure(self) -> int:
        self._called()
        self.failures += 1
        return self.failures

    async def forget_failures(self) -> None:
        self._called()
        self.failures = 0

    async def tell_wait(self, model: str, wait: ModelWait) -> None:
        self._called()
        self.waits[model] = wait

    def _called(self) -> None:
        if self.away:
            raise TransientError("the store is away")


@dataclass
class Clock:
    """Wall clock and monotonic clock at once."""

    now_s: float = 0.0

    def now_ms(self) -> int:
        return START_MS + int(self.now_s * 1_000)

    def monotonic_s(self) -> float:
        return self.now_s


@dataclass
class FakeProbe:
    """Implements `ModelProbe`: fails while there is a fault, and else answers as it should, if it is `understood`."""

    fault: ModelFault | None = None
    understood: bool = True
    asked: int = 0
    closed: int = 0

    async def ask(self) -> bool:
        self.asked += 1
        if self.fault is not None:
            raise ModelError(f"played: {self.fault}", self.fault)
        return self.understood

    async def close(self) -> None:
        self.closed += 1
