"""Garbage collection: settings of Python's collector of reference cycles in the processes that serve."""

from __future__ import annotations

import gc
from typing import Final

from .memory_return import return_memory_regularly

# With Python's default of 700, a busy host would scan its young objects at every other request, though nearly all of
# them are freed without a scan. Every few seconds it would scan all actors in memory.
_YOUNG_MAX: Final = 10_000
# What survives is looked at once more, in portions of so many young scans, and all else waits for that. With ten,
# calls that come to wait for a model would stop a process for a tenth of a second, every other second.
_MIDDLE_MAX: Final = 3
# Everything is looked at after this many portions: as seldom as before, as it takes longest.
_OLD_MAX: Final = 33


def settle_in() -> None:
    """Freeze the objects of a started process, so that the collector does not scan them, and raise its threshold.

    Memory that is freed later goes back to the system now and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, _MIDDLE_MAX, _OLD_MAX)
    return_memory_regularly()
