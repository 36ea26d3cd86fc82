"""Patches that make the program read time and chance from the run: the only place where the simulator reaches in."""

from __future__ import annotations

import gc
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import structlog

from ...actors import partitioning
from ...actors.host import activation, handover
from .loop import Chance, SimulatedLoop

START_MS: Final = 1_800_000_000_000
_NS_PER_MS: Final = 1_000_000
_DEFECT_LEVELS: Final = frozenset({"error", "exception", "critical"})


@lru_cache
def owned_by(host_id: str, host_ids: tuple[str, ...]) -> frozenset[int]:
    """Return the partitions of a host (see `partitioning.owned_by`) from a cache.

    They follow from the arguments alone, and would take a tenth of each run.
    """
    return frozenset(partitioning.owned_by(host_id, host_ids))


@contextmanager
def simulated(loop: SimulatedLoop, chance: Chance, log: Any, snapshot_every: int) -> Iterator[None]:
    """Make time and chance the run's until the block ends.

    Each actor gets a snapshot after `snapshot_every` events. What the program logs goes to `log(level, event, fields,
    defect)`.

    The garbage collector rests: when it would close what was left unclosed depends on more than the seed.
    """

    def time_ns() -> int:
        return (START_MS + int(loop.time() * 1_000)) * _NS_PER_MS

    def token_hex(nbytes: int = 16) -> str:
        return chance.randbytes(nbytes).hex()

    def write(_logger: Any, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        log(level, str(event.pop("event", "")), event, level in _DEFECT_LEVELS)
        raise structlog.DropEvent

    replaced: list[tuple[Any, str, Any]] = [
        (time, "monotonic", loop.time),
        (time, "time_ns", time_ns),
        (secrets, "token_hex", token_hex),
        # By the program's own number of events, no actor of a run would live to get a snapshot.
        (activation, "_SNAPSHOT_EVERY", snapshot_every),
        (handover, "owned_by", owned_by),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    logging = structlog.get_config()
    collecting = gc.isenabled()
    gc.disable()
    structlog.configure(processors=[write], wrapper_class=structlog.BoundLogger)
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
        structlog.configure(**logging)
        if collecting:
            gc.enable()
