"""Disk space of the embedded store.

With `appendfsync always` the server ends at the first write that does not fit, so that it acknowledges nothing that is
not on disk. Started again on a full disk it would load everything only to end at the next write.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

# A write is some kilobytes. With less room, one of the next writes would end the store again.
ROOM_MIN_BYTES: Final = 1_048_576
_LOOK_EVERY_S: Final = 0.5
_log = structlog.get_logger(__name__)


def lacks_room(directory: Path) -> bool:
    """Return True if the directory's disk is full."""
    try:
        return shutil.disk_usage(directory).free < ROOM_MIN_BYTES
    except OSError:
        return False


async def until_room(directory: Path, needless: Callable[[], bool], look_every_s: float = _LOOK_EVERY_S) -> None:
    """Wait until the disk has room, or `needless` is true. Logs once that it is full, and that it has room again."""
    if not lacks_room(directory):
        return
    _log.error(
        "disk_full",
        hint="make room, and the store goes on by itself",
        directory=str(directory),
        needed_bytes=ROOM_MIN_BYTES,
    )
    while lacks_room(directory):
        if needless():
            return
        await asyncio.sleep(look_every_s)
    _log.warning("disk_has_room_again", directory=str(directory))
