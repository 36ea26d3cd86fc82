"""Return of freed memory to the system. The C library keeps what a flood of requests has needed, for the next one."""

from __future__ import annotations

import ctypes
import resource
import threading
from pathlib import Path
from typing import Any, Final

_EVERY_S: Final = 60.0
# Looking through the heap takes a millisecond or two, in which nothing is allocated: only a process that has grown
# does so.
_GROWN: Final = 1.05
_STATM: Final = Path("/proc/self/statm")


def return_memory_regularly(every_s: float = _EVERY_S) -> threading.Thread | None:
    """Start the thread that does so; return None where the C library can't."""
    trim = _trim()
    if trim is None or not _STATM.exists():
        return None
    thread = threading.Thread(
        target=_keep_returning, args=(trim, every_s, resident_bytes()), name="memory-return", daemon=True
    )
    thread.start()
    return thread


def _keep_returning(trim: Any, every_s: float, least_bytes: int) -> None:
    pause = threading.Event()
    while not pause.wait(every_s):
        if resident_bytes() > _GROWN * least_bytes:
            # The call leaves the interpreter to the other threads.
            trim(0)
        least_bytes = min(least_bytes, resident_bytes())


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
