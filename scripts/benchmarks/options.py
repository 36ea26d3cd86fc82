"""Options of `scripts/bench`, and how much of each thing they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_QUICK_S: Final = 1.0
_FULL_S: Final = 5.0
_AFTER_S: Final = 60.0
_QUICK_AFTER_S: Final = 5.0
# The last rate is the one that was aimed at: an event each 20 ms. Two processors don't carry it.
_STREAMS: Final = ((100, (5_000,)), (1_000, (5_000, 10_000, 15_000, 20_000, 50_000)))


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of a run. `duration_s`: of each figure that is measured over time. `rounds`: of which the median counts.

    `passivated`: sessions in the store whose memory is measured. `cold`: sessions that are activated one at a time.
    `kills`: hosts that are killed. `waiting`: sessions that wait for the model at once. `rates_per_s`: of the open
    loop. `streams`: so many at once are relayed, with these rates of events, all together. `beside`: the `satmeter` of
    another version. `litellm`: the command of LiteLLM's proxy. Both are measured in turn with this version where calls
    are relayed.
    """

    duration_s: float = _FULL_S
    rounds: int = 3
    passivated: int = 100_000
    cold: int = 2_000
    kills: int = 7
    waiting: int = 5_000
    rates_per_s: tuple[int, ...] = (500, 1_000, 1_500, 2_000)
    pause_s: float = 0.3
    streams: tuple[tuple[int, tuple[int, ...]], ...] = _STREAMS
    beside: Path | None = None
    litellm: Path | None = None
    after_s: float = _AFTER_S
    attacks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        quick: bool,
        duration_s: float | None,
        rounds: int | None,
        beside: Path | None = None,
        litellm: Path | None = None,
        after_s: float | None = None,
        attacks: tuple[str, ...] = (),
    ) -> BenchOptions:
        """Return the options that the flags mean; a quick run does everything with less."""
        if not quick:
            return cls(
                duration_s=duration_s or _FULL_S,
                rounds=rounds or 3,
                beside=beside,
                litellm=litellm,
                after_s=_AFTER_S if after_s is None else after_s,
                attacks=attacks,
            )
        return cls(
            duration_s=duration_s or _QUICK_S,
            rounds=rounds or 1,
            passivated=5_000,
            cold=200,
            kills=2,
            waiting=500,
            rates_per_s=(100, 200),
            streams=((20, (1_000,)),),
            beside=beside,
            litellm=litellm,
            after_s=_QUICK_AFTER_S if after_s is None else after_s,
            attacks=attacks,
        )
