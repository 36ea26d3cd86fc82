"""Directory in memory for the stores of tests."""

from __future__ import annotations

import os
import shutil
from typing import Final

_MEMORY_DISK: Final = "/dev/shm"
_ROOM_BYTES: Final = (
    1024**3
)  # Each process of a run may have a store of 100 MB, as it appends all that was ever written.


def quick_disk() -> str | None:
    """Return a directory in memory for stores that no machine's fall is to survive; None: where others lie, too.

    A store has each write on its disk before it answers. Most tests would only wait for that.
    """
    try:
        free_bytes = shutil.disk_usage(_MEMORY_DISK).free
    except OSError:
        return None
    return _MEMORY_DISK if free_bytes >= _ROOM_BYTES and os.access(_MEMORY_DISK, os.W_OK | os.X_OK) else None
